"""The steps by which a month's rows go to cold storage, one after the other, from wherever they were stopped.

1. its row in the ledger says that it is begun;
2. its rows are streamed to a file in one snapshot, and a manifest is written beside it;
3. the file is read back and compared, byte by byte and row by row;
4. the partition leaves its table for the schema carnivore, in a short transaction;
5. the table, which nobody but a foreign key's action changes any more, is compared with the file again; rows
   that came or went since the snapshot have the file written anew;
6. accesses are counted for the dashboards for the last time: some may have come since that was done;
7. the table is dropped.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from carnivore_db.errors import ArchiveDamaged, FilesOfAnother, StorageError
from carnivore_db.kit import months, storage
from carnivore_db.operations import analytics
from carnivore_db.operations.archive import parquet
from carnivore_db.operations.locks import drop_aside, locked

ACCESS_LOG = "public.report_access_log"
_BELOW = 3  # a file's table, its month, its name
# What a restore calls the table that it loads.
MARK = "Being restored from the archive."
_LEFT = text("""
    SELECT parent.address AS parent, format('%I.%I', nspname, c.relname) AS aside
    FROM (SELECT known.parent AS address, split_part(known.parent, '.', 2) AS name
        FROM carnivore.partitioned_tables AS known) AS parent
    JOIN pg_class AS c ON c.relname ~ concat('^', parent.name, '_[0-9]{4}_[0-9]{2}$') AND c.relkind = 'r'
    JOIN pg_namespace AS n ON n.oid = c.relnamespace AND nspname = 'carnivore'
    WHERE obj_description(c.oid, 'pg_class') = :mark
""")
_SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
_DETACHED = text("""
    UPDATE carnivore.archived_partitions
    SET detached_at = now(), bytes_before = pg_total_relation_size(CAST(:detached AS regclass))
    WHERE parent = :parent AND month = :month AND part = :part
""")
# Files of which the table that is dropped was made: it holds their rows.
_COPIES = text("""
    SELECT part, file_url FROM carnivore.archived_partitions
    WHERE parent = :parent AND month = :month AND restored_as = CAST(:detached AS regclass)
""")
_FORGET = text("""
    DELETE FROM carnivore.archived_partitions
    WHERE parent = :parent AND month = :month AND restored_as = CAST(:detached AS regclass)
""")
_DROPPED = text("""
    UPDATE carnivore.archived_partitions
    SET dropped_at = now(), rows = :rows, sha256 = :sha256, bytes_after = :bytes
    WHERE parent = :parent AND month = :month AND part = :part
    RETURNING bytes_before
""")


@dataclass(frozen=True)
class Archived:
    """A month that is in cold storage now. Bytes: the partition with its indexes, and its file."""

    name: str
    file_url: str
    rows: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True)
class Step:
    """Where a run is: the month, what is being done, rows done and rows there are (0 and 0 between rows)."""

    name: str
    what: str
    done: int = 0
    total: int = 0


OnStep = Callable[[Step], Any]


def shown(name: str, what: str, on_step: OnStep) -> parquet.OnRows:
    """Rows of a step, as they are done."""
    return lambda done, total: on_step(Step(name, what, done, total))


def clear(connection: Connection, lock_timeout_ms: int) -> None:
    """Drop what restores that were stopped have left; the archive has its rows. Raises Busy."""
    with connection.begin():
        left = connection.execute(_LEFT, {"mark": MARK}).all()
    for table in left:
        drop_aside(connection, table.parent, lock_timeout_ms, table.aside)


class Run:
    """One month on its way, from wherever it is."""

    def __init__(
        self,
        connection: Connection,
        month: Any,
        part: Row[Any],
        database: str,
        lock_timeout_ms: int,
        on_step: OnStep,
    ) -> None:
        self._connection, self._database = connection, database
        self._name, self._parent, self._month = month.name, month.parent, month.month
        self._part, self._url, self._detached = part.part, part.file_url, part.detached_at is not None
        self._lock_timeout_ms, self._on_step = lock_timeout_ms, on_step
        schema, _, table = self._parent.partition(".")
        self._key = {"parent": self._parent, "month": self._month, "part": self._part}
        self._partition = f"{schema}.{table}_{self._month:%Y_%m}"
        self._aside = f"carnivore.{table}_{self._month:%Y_%m}"

    def finish(self) -> Archived:
        """Take the steps that are left. Raises ArchiveDamaged, StorageError, Busy, Unavailable."""
        if not self._detached:
            self._write(self._partition)
            self._check()
            self._detach()
        manifest = self._same()
        if manifest is None:
            # Of a moment since when no row can come. What goes after it, goes as if it were archived already.
            self._write(self._aside)
            manifest = self._check()
        self._count()
        self._forget_copies()
        return self._drop(manifest)

    def _say(self, what: str) -> parquet.OnRows:
        self._on_step(Step(self._name, what))
        return lambda done, total: self._on_step(Step(self._name, what, done, total))

    def _write(self, relation: str) -> None:
        on_rows = self._say("write")
        storage.refuse_others(self._url.rsplit("/", _BELOW)[0], self._database)
        facts = {
            "table": self._parent,
            "month": f"{self._month:%Y-%m}",
            "lower": _iso(months.start(months.number(self._month))),
            "upper": _iso(months.end(self._month)),
            "written_at": _iso(datetime.now(UTC)),
        }
        with self._connection.begin():
            self._connection.execute(_SNAPSHOT)
            self._connection.execute(text("SET LOCAL TimeZone = 'UTC'"))
            parquet.write(self._connection, relation, self._url, facts, on_rows)

    def _check(self) -> parquet.Manifest:
        return parquet.check(self._url, on_rows=self._say("read back"))

    def _detach(self) -> None:
        self._say("detach")

        def act() -> None:
            for statement in (
                # The one lock that is not the rule's; nobody is waited for here either.
                f"LOCK TABLE {self._partition} IN ACCESS EXCLUSIVE MODE NOWAIT",
                f"ALTER TABLE {self._parent} DETACH PARTITION {self._partition}",
                f"ALTER TABLE {self._partition} SET SCHEMA carnivore",
            ):
                self._connection.execute(text(statement))
            self._connection.execute(_DETACHED, {**self._key, "detached": self._aside})

        locked(self._connection, self._parent, self._lock_timeout_ms, act, dropping=True)

    def _same(self) -> parquet.Manifest | None:
        """The manifest, when the file is whole and has the rows of the table that stands aside."""
        try:
            manifest = self._check()
        except (ArchiveDamaged, StorageError):
            return None  # the table has all rows still
        on_rows = self._say("compare")
        with self._connection.begin():
            self._connection.execute(_SNAPSHOT)
            self._connection.execute(text("SET LOCAL TimeZone = 'UTC'"))
            digest = parquet.digest_of(self._connection, self._aside, on_rows)
        return manifest if digest == manifest.digest else None

    def _count(self) -> None:
        if self._parent == ACCESS_LOG:
            self._say("count")
            with self._connection.begin():
                analytics.settle(self._connection, self._month, self._aside)

    def _forget_copies(self) -> None:
        """Delete the files from which the table was restored: the new one has their rows."""
        with self._connection.begin():
            copies = self._connection.execute(_COPIES, {**self._key, "detached": self._aside}).all()
        for copy in copies:
            for url in (copy.file_url, parquet.manifest_url(copy.file_url)):
                with suppress(FilesOfAnother):  # a copy's: it forgets them, and they stay
                    storage.delete_own(url, self._database, below=_BELOW)

    def _drop(self, manifest: parquet.Manifest) -> Archived:
        self._say("drop")
        facts = {"rows": manifest.rows, "sha256": manifest.sha256, "bytes": manifest.bytes}
        before: list[int] = []

        def act() -> None:
            self._connection.execute(_FORGET, {**self._key, "detached": self._aside})
            before.append(self._connection.execute(_DROPPED, {**self._key, **facts}).scalar_one())

        drop_aside(self._connection, self._parent, self._lock_timeout_ms, self._aside, act)
        self._on_step(Step(self._name, "done"))
        return Archived(self._name, self._url, manifest.rows, before[-1], manifest.bytes)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
