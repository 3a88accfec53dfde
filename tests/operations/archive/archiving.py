"""Months to archive, what lies in the archive, and the law: no row is lost, and none is there twice."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
from sqlalchemy import Engine, text

from carnivore_db.operations.archive import parquet
from carnivore_db.operations.archive.restore import Restored, restore
from carnivore_db.operations.archive.run import Outcome, archive_due
from tests.support import reports
from tests.support.databases import TestDatabase

ACCESSES, LOGS = "public.report_access_log", "conversation.logs"
MONTH = date(2024, 2, 1)
BEGIN, END = datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)
LAST = END - timedelta(microseconds=1)
NAME = "report_access_log_2024_02"
LOGS_NAME = "logs_2024_02"
NOW = datetime.now(UTC)
Row = tuple[Any, ...]

# As PostgreSQL prints them: no difference is hidden by a driver.
ROWS = {
    ACCESSES: "id, report_id, accessed_at, ip_address, user_agent",
    LOGS: "id, level, event_type, user_id, session_id, metadata, created_at",
}
TABLES = """
    SELECT c.oid::regclass::text FROM pg_class AS c
    WHERE c.oid = %(parent)s::text::regclass OR c.relnamespace = 'carnivore'::regnamespace
        AND c.relname ~ ('^' || split_part(%(parent)s::text, '.', 2) || '_[0-9]{4}_[0-9]{2}$')
        AND coalesce(obj_description(c.oid), '') <> 'Being restored from the archive.' AND c.relkind = 'r'
"""
# Whose files count: what was dropped, and is not back in a partition.
COUNTED = """
    SELECT file_url FROM carnivore.archived_partitions AS a
    WHERE parent = %s AND dropped_at IS NOT NULL
        AND NOT EXISTS (SELECT FROM pg_class WHERE oid = a.restored_as)
"""
# Each value at its limits, moments to the microsecond.
ODD: list[tuple[datetime, str | None, str | None]] = [
    (BEGIN, None, None),
    (LAST, "2001:db8::/48", "ü" * 1000),
    (BEGIN + timedelta(microseconds=1), "2001:db8::1", '\U0001f953 \u202e\u0001\ttab, "quote" and \\N, \''),
    (BEGIN + timedelta(days=28, microseconds=999_999), "192.0.2.1", "NULL"),
    (BEGIN + timedelta(days=3), "10.0.0.0/8", "\nx"),
    (BEGIN + timedelta(days=3), "::ffff:192.0.2.128", "\ufeff\u0085z"),
]


@dataclass
class Archiving:
    """A database with its owner, and a place for files."""

    database: TestDatabase
    owner: psycopg.Connection
    engine: Engine
    location: str

    def month(self, parent: str = ACCESSES, month: date = MONTH) -> None:
        with self.engine.begin() as migrator:  # whose the partition must be
            made = text("SELECT carnivore.create_partition(CAST(CAST(:parent AS text) AS regclass), :month)")
            assert migrator.scalar(made, {"parent": parent, "month": month}) is True

    def reports(self, number: int = 2) -> list[int]:
        return sorted(reports.make(self.owner, number))

    def open(
        self, report: int, moment: datetime, address: str | None = None, agent: str | None = None
    ) -> None:
        self.owner.execute(
            "INSERT INTO public.report_access_log (report_id, accessed_at, ip_address, user_agent)"
            " VALUES (%s, %s, %s, %s)",
            [report, moment, address, agent],
        )

    def odd_month(self, many: int = 0) -> list[int]:
        """A month with odd accesses, and others around it. Returns the reports."""
        made = self.reports()
        self.month()
        for number, (moment, address, agent) in enumerate(ODD):
            self.open(made[number % 2], moment, address, agent)
        self.owner.execute(
            "INSERT INTO public.report_access_log (report_id, accessed_at, user_agent)"
            " SELECT %s, %s + n * interval '1 second', 'Browser ' || n FROM generate_series(1, %s) AS n",
            [made[0], BEGIN, many],
        )
        self.open(made[1], NOW)
        return made

    def one(self, query: str, *values: Any) -> Any:
        row = self.owner.execute(query, values or None).fetchone()
        assert row is not None
        return row[0]

    def archive(self, **options: Any) -> Outcome:
        return archive_due(self.engine, self.location, **{"now": NOW, **options})

    def restore(self, parent: str = ACCESSES, **options: Any) -> Restored:
        return restore(self.engine, parent, MONTH, **{"now": NOW, **options})

    def ledger(
        self, columns: str = "part, rows, detached_at IS NOT NULL, dropped_at IS NOT NULL"
    ) -> list[Row]:
        return self.owner.execute(
            f"SELECT {columns} FROM carnivore.archived_partitions ORDER BY parent, month, part"
        ).fetchall()

    def url(self) -> str:
        (found,) = self.ledger("file_url")
        return str(found[0])

    def files(self) -> list[str]:
        """The names in the folder of the month's accesses."""
        return sorted(path.name for path in (Path(self.location) / ACCESSES / "2024_02").iterdir())

    def attached(self, name: str = f"public.{NAME}") -> bool:
        return bool(
            self.one("SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(%s))", name)
        )

    def exists(self, name: str) -> bool:
        return bool(self.one("SELECT to_regclass(%s) IS NOT NULL", name))

    def table(self, name: str, columns: str = ROWS[ACCESSES]) -> list[Row]:
        """The rows of a table as text, in order."""
        wanted = ", ".join(f"{column.strip()}::text" for column in columns.split(","))
        with self.owner.transaction():
            self.owner.execute("SET LOCAL TimeZone = 'UTC'")
            return sorted(self.owner.execute(f"SELECT {wanted} FROM {name}").fetchall(), key=repr)

    def everything(self, parent: str = ACCESSES) -> Counter[Row]:
        """Every row of table and archive, and how often it is there."""
        found: Counter[Row] = Counter()
        for (name,) in self.owner.execute(TABLES, {"parent": parent}).fetchall():
            found.update(self.table(name, ROWS[parent]))
        for (url,) in self.owner.execute(COUNTED, [parent]).fetchall():
            found.update(self.file(url, parent))
        return found

    def file(self, url: str, parent: str = ACCESSES) -> list[Row]:
        """A file's rows as PostgreSQL prints them."""
        manifest = parquet.read_manifest(url)
        names = [column.strip() for column in ROWS[parent].split(",")]
        return [
            tuple(_text(row[name]) for name in names)
            for batch in parquet.read(url, manifest)
            for row in pa.Table.from_batches([batch]).to_pylist()
        ]

    def rollup(self) -> dict[str, tuple[int, int]]:
        """Of each day of the month: accesses, and different reports, as counted for the dashboards."""
        found = self.owner.execute(
            "SELECT day::text, accesses, reports FROM analytics.access_days WHERE day >= %s AND day < %s",
            [BEGIN.date(), END.date()],
        ).fetchall()
        return {day: (accesses, opened) for day, accesses, opened in found}

    def refresh(self) -> None:
        """Count for the dashboards, as the job does."""
        with self.engine.begin() as migrator:
            migrator.execute(text("SELECT analytics.refresh()"))

    def counts(self) -> dict[int, int]:
        return dict(
            self.owner.execute("SELECT report_id, access_count FROM public.report_access_counts").fetchall()
        )


def days(rows: Iterable[Row]) -> dict[str, tuple[int, int]]:
    """What the rollup must hold of these accesses, which are as text."""
    found: dict[str, list[str]] = {}
    for _, report, moment, *_ in rows:
        found.setdefault(moment[:10], []).append(report)
    return {day: (len(opened), len(set(opened))) for day, opened in found.items()}


def _text(value: Any) -> str | None:
    if isinstance(value, datetime):
        fraction = f".{value.microsecond:06}".rstrip("0") if value.microsecond else ""
        return f"{value:%Y-%m-%d %H:%M:%S}{fraction}+00"
    return None if value is None else str(value)


def stop_at(point: str, act: Callable[[], object] | None = None) -> Callable[[Any], None]:
    """What a run is told at its steps: at one of them it acts, or ends as by Ctrl-C.

    "write": when that step begins; "write:again": the second time; "write:rows": when it has done some.
    """
    what, _, when = point.partition(":")
    left = [1 if when == "again" else 0]

    def told(step: Any) -> None:
        if step.what == what and (step.done > 0 if when == "rows" else step.total == 0):
            left[0] -= 1
            if left[0] == -1:
                if act is None:
                    raise KeyboardInterrupt
                act()

    return told
