"""Learners with sessions, the workers of their exports, and the folder where files lie."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from carnivore_db import Database, identity
from carnivore_db.kit.storage import OWNER
from carnivore_db.vocabulary import exports
from carnivore_db.vocabulary.exports.files import COLUMNS
from carnivore_db.vocabulary.exports.worker import Expired, Outcome, Storage, expire, work
from carnivore_db.vocabulary.models import Export, ExportType
from carnivore_db.vocabulary.payloads import Filters
from tests.support.callers import Caller
from tests.support.databases import TestDatabase
from tests.support.factories import put

SERVICE = identity.service()
TYPES = get_args(ExportType)
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
LEASE = timedelta(hours=1)
Row = dict[str, Any]

# Each client of S3 takes a while to begin.
SLOWLY_IN_S3 = pytest.mark.parametrize(
    "place", ["folder", pytest.param("bucket", marks=pytest.mark.slow)], indirect=True
)


def slowly_but(*quick: ExportType) -> list[object]:
    """All types of export, most of them marked as slow."""
    return [kind if kind in quick else pytest.param(kind, marks=pytest.mark.slow) for kind in TYPES]


@dataclass(frozen=True)
class Exporting:
    """One database, seen by the package and, as it really is, by the superuser."""

    database: TestDatabase
    db: Database
    owner: psycopg.Connection[Row]

    @contextmanager
    def far_east(self) -> Iterator["Exporting"]:
        """The same, on connections that live in another time zone."""
        db = Database(self.database.app_url.update_query_dict({"options": "-c timezone=Pacific/Kiritimati"}))
        yield replace(self, db=db)
        db.close()

    def learner(self) -> UUID:
        return put(self.owner, "vocabulary.users", email=f"{uuid4()}@example.com")["id"]

    def learn(self, learner: UUID | None, number: int = 1, **columns: Any) -> None:
        """Sessions of a learner or of a guest, one a minute."""
        given = {"session_type": "qa", "started_at": NOON, "session_data": {}, **columns}
        given["session_data"] = Jsonb(given["session_data"])
        values = [f"%({column})s" for column in given]
        values[list(given).index("started_at")] += "::timestamptz + number * interval '1 minute'"
        self.owner.execute(
            f"INSERT INTO vocabulary.sessions (user_id, {', '.join(given)})"
            f" SELECT %(learner)s, {', '.join(values)} FROM generate_series(1, %(number)s) AS number",
            {**given, "learner": learner, "number": number},
        )

    def sessions(self, learner: UUID, where: str = "true") -> list[Row]:
        """What an export must hold."""
        query = f"SELECT {', '.join(COLUMNS)} FROM vocabulary.sessions WHERE user_id = %s AND {where}"
        return self.owner.execute(f"{query} ORDER BY started_at, id", [learner]).fetchall()

    def ask(self, learner: UUID, export_type: ExportType = "csv", **filters: Any) -> UUID:
        with self.db.transaction(SERVICE) as tx:
            return exports.request(tx, learner, export_type, Filters(**filters)).id

    def retry(self, export_id: UUID) -> None:
        with self.db.transaction(SERVICE) as tx:
            exports.retry(tx, export_id)

    def work(self, location: str, **options: Any) -> list[Outcome]:
        """Let a worker make all that waits."""
        return list(work(self.db, Storage(location), **options))

    def expire(self) -> Expired:
        return expire(self.db)

    def make(self, location: str, learner: UUID, export_type: ExportType = "csv", **filters: Any) -> Export:
        """An export, asked for and made."""
        self.ask(learner, export_type, **filters)
        (outcome,) = self.work(location)
        assert (outcome.status, outcome.export.error_message) == ("completed", None)
        return outcome.export

    def get(self, export_id: UUID, learner: UUID | None = None) -> Export:
        """The export as the service sees it, or as its learner does."""
        with self.db.transaction(identity.user(learner, "") if learner else SERVICE) as tx:
            return exports.get(tx, export_id)

    def row(self, export_id: UUID) -> Row:
        return self._one("SELECT * FROM vocabulary.export_history WHERE id = %s", [export_id])

    def tamper(self, export_id: UUID, **values: Any) -> None:
        """Rewrite an export's row, which no rule allows: the past, another learner, a foolish filter."""
        changes = ", ".join(f"{column} = %({column})s" for column in values)
        with self.owner.transaction():
            self.owner.execute("SET LOCAL session_replication_role = replica")
            self.owner.execute(
                f"UPDATE vocabulary.export_history SET {changes} WHERE id = %(id)s",
                {**values, "id": export_id},
            )

    def silence(self, export_id: UUID, ago: timedelta = 2 * LEASE) -> None:
        """Let the worker's last sign of life be so long ago."""
        (now,) = self._one("SELECT now()", []).values()
        self.tamper(export_id, updated_at=now - ago)

    def lose(self, export_id: UUID, times: int = 1) -> None:
        """Let so many workers of an export have fallen silent; the last one's loss is not noticed yet."""
        data = Jsonb({"lost": times - 1} if times > 1 else {})
        self.tamper(export_id, status="processing", retry_count=times - 1, data=data)
        self.silence(export_id)

    def erase(self, learner: UUID) -> None:
        self.owner.execute("DELETE FROM vocabulary.users WHERE id = %s", [learner])

    def end_time(self, export_id: UUID) -> None:
        """Let the file's time have come."""
        (now,) = self._one("SELECT now()", []).values()
        self.tamper(export_id, expires_at=now - timedelta(seconds=1))

    def backends(self) -> list[int]:
        """The connections that the package has opened to this database."""
        query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = %s"
        return [row["pid"] for row in self.owner.execute(query, [self.database.shape.login])]

    def cut_off(self) -> None:
        """End all connections of the package."""
        for pid in self.backends():
            assert self._one("SELECT pg_terminate_backend(%s, 60000) AS gone", [pid])["gone"]

    def _one(self, query: str, values: list[Any]) -> Row:
        row = self.owner.execute(query, values).fetchone()
        assert row is not None
        return row


class Folder:
    """A local place. A file lies beside its target, as `.part`, until it is whole."""

    def __init__(self, root: Path) -> None:
        self.root = root / "exports"
        self.temporary = root / "temporary"
        self.temporary.mkdir()
        self.location = str(self.root)

    def files(self) -> dict[str, bytes]:
        """The whole files that lie there, by their path below the location, but whose they are."""
        found = (path for path in self.root.rglob("*") if path.is_file() and path.suffix != ".part")
        whole = {str(path.relative_to(self.root)): path.read_bytes() for path in found}
        return {name: content for name, content in whole.items() if name != OWNER}

    def put(self, name: str, content: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def remove(self, name: str) -> None:
        (self.root / name).unlink()

    def unfinished(self) -> list[str]:
        """What is not whole, and temporary files."""
        return [path.name for path in (*self.root.rglob("*.part"), *self.temporary.iterdir())]


def name_of(export: Export) -> str:
    """The path of an export's file below the location."""
    return f"{export.user_id}/{export.id}-{export.retry_count}.{export.export_format}"


def read_csv(content: bytes) -> list[Row]:
    """The sessions of a CSV file, as the database has them."""
    return [_typed(row) for row in csv.DictReader(io.StringIO(content.decode(), newline=""))]


def read_json(content: bytes) -> list[Row]:
    """The sessions of a JSON file, as the database has them."""
    return [_typed(row) for row in json.loads(content)["sessions"]]


def _typed(row: Row) -> Row:
    data = row["session_data"]
    made = {column: _number(value) for column, value in row.items() if column not in {*_READ, "session_data"}}
    texts = {column: read(row[column]) if row[column] else None for column, read in _READ.items()}
    return {**made, **texts, "session_data": json.loads(data) if isinstance(data, str) else data}


def _number(value: Any) -> Decimal | None:
    return None if value in {"", None} else Decimal(str(value))


_READ: dict[str, Callable[[str], Any]] = {
    "id": UUID,
    "session_type": str,
    "device_type": str,
    "started_at": datetime.fromisoformat,
    "ended_at": datetime.fromisoformat,
}


def counted(export: Export) -> dict[str, int]:
    """How far its worker says that an export is."""
    return {name: export.data[name] for name in ("done", "total")}


def take(caller: Caller, **options: object) -> Export | None:
    return caller.call(SERVICE, exports.take, lease=LEASE, **options)  # type: ignore[arg-type]


def taken(caller: Caller, **options: object) -> Export:
    found = take(caller, **options)
    assert found is not None
    return found
