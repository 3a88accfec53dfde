"""Cold storage: a month's rows go to a Parquet file, are read back, and only then leave the database.

A month goes through these steps; whoever is stopped at any of them is continued by the next run:

1. its row in the ledger says that it is begun;
2. its rows are streamed to a file in one snapshot, and a manifest is written beside it;
3. the file is read back and compared, byte by byte and row by row;
4. the partition leaves its table for the schema carnivore, in a short transaction;
5. the table, which nobody but a foreign key's action changes any more, is compared with the file again; rows
   that came or went since the snapshot have the file written anew;
6. the table is dropped.

Counters are untouched: access_count counts what is in the table and in the archive.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from carnivore_db import storage
from carnivore_db.errors import ArchiveDamaged, Busy, CarnivoreError, StorageError, Unavailable
from carnivore_db.partitions import parquet
from carnivore_db.partitions.locks import locked, turn
from carnivore_db.storage import Storage

ACCESS_LOG = "public.report_access_log"
LOGS = "conversation.logs"
# A day before conversation.delete_old_logs would drop them.
_LOGS_AFTER = timedelta(days=29)
_ATTEMPTS = 5

# Months with a partition of their own, oldest first, and how far their newest file has come.
_MONTHS = text("""
    SELECT format('%s_%s', parent.name, to_char(bound.lower, 'YYYY_MM')) AS name, parent.address AS parent,
        CAST(bound.lower AS date) AS month, format('%I.%I', n.nspname, c.relname) AS partition,
        pg_total_relation_size(c.oid) AS bytes, c.oid AS oid,
        (SELECT max(l.keep_until) FROM carnivore.archived_partitions AS l
            WHERE l.parent = parent.address AND l.month = CAST(bound.lower AS date) AND l.restored_as = c.oid)
            AS keep_until
    FROM (VALUES ('public.report_access_log', 'report_access_log'), ('conversation.logs', 'logs'))
        AS parent (address, name)
    JOIN pg_inherits ON inhparent = CAST(parent.address AS regclass) AND NOT inhdetachpending
    JOIN pg_class AS c ON c.oid = inhrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace,
    LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \\(''([^'']+)''\\) TO \\(''([^'']+)''\\)')
        AS found,
    LATERAL (SELECT CAST(found[1] AS timestamptz) AT TIME ZONE 'UTC' AS lower,
        CAST(found[2] AS timestamptz) AT TIME ZONE 'UTC' AS upper) AS bound
    WHERE bound.lower = date_trunc('month', bound.lower) AND bound.upper = bound.lower + interval '1 month'
    ORDER BY bound.lower, parent.address
""")
# What a run before left between two steps: its partition is detached, and not yet dropped.
_UNFINISHED = text("""
    SELECT format('%s_%s', split_part(parent, '.', 2), to_char(month, 'YYYY_MM')) AS name, parent, month
    FROM carnivore.archived_partitions WHERE detached_at IS NOT NULL AND dropped_at IS NULL
    ORDER BY month, parent
""")
_OPEN = text("""
    SELECT part, file_url, detached_at FROM carnivore.archived_partitions
    WHERE parent = :parent AND month = :month AND dropped_at IS NULL
""")
_NEXT_PART = text("""
    SELECT coalesce(max(part), 0) + 1 FROM carnivore.archived_partitions
    WHERE parent = :parent AND month = :month
""")
_BEGIN = text("""
    INSERT INTO carnivore.archived_partitions (parent, month, part, file_url)
    VALUES (:parent, :month, :part, :file_url)
    ON CONFLICT (parent, month, part) DO UPDATE SET file_url = excluded.file_url
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
class Due:
    """A month that is old enough, `name` as its partition is called, with the bytes that it takes."""

    name: str
    parent: str
    month: date
    bytes: int


@dataclass
class Outcome:
    """What a run did. `busy`: another one is at work, and nothing was done. `waiting`: months that are old
    enough and stay, for want of a location. `failed`: months that stay, and why; the next run tries again."""

    done: list[Archived] = field(default_factory=list)
    failed: dict[str, CarnivoreError] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    busy: bool = False
    logs_may_go: bool = True
    """Whether conversation.delete_old_logs may run: no month of logs that should be in the archive is not."""


@dataclass(frozen=True)
class Step:
    """Where a run is: the month, what is being done, rows done and rows there are (0 and 0 between rows)."""

    name: str
    what: str
    done: int = 0
    total: int = 0


OnStep = Callable[[Step], Any]


def due(
    connection: Connection, *, now: datetime, access_log_after_days: int = 365, logs: bool = False
) -> list[Due]:
    """The months that are old enough, oldest first: of accesses when they ended so many days ago, of logs
    (if `logs`) when they ended 29 days ago. A restored month is left alone until its time is over."""
    after = {ACCESS_LOG: timedelta(days=access_log_after_days)} | ({LOGS: _LOGS_AFTER} if logs else {})
    return [
        Due(found.name, found.parent, found.month, found.bytes)
        for found in connection.execute(_MONTHS)
        if found.parent in after
        and _upper(found.month) + after[found.parent] <= now
        and (found.keep_until is None or found.keep_until <= now)
    ]


def archive_due(
    engine: Engine,
    location: str | None,
    *,
    now: datetime,
    access_log_after_days: int = 365,
    logs: bool = False,
    lock_timeout_ms: int = 2000,
    on_step: OnStep = lambda step: None,
) -> Outcome:
    """Bring the months that are old enough to `location` (a folder or fsspec URL; None: they stay where they
    are), and finish what an earlier run began. `engine` is a Database's, of the migrating role.

    Writers never wait longer than twice `lock_timeout_ms`. Raises LookupError for a location that fsspec does
    not know or that holds a password, Unavailable when the database is lost; what befalls one month is in the
    outcome, and the others go on.
    """
    outcome = Outcome()
    with turn(engine) as connection:
        if connection is None:
            return Outcome(busy=True, logs_may_go=not logs)
        with connection.begin():
            unfinished = connection.execute(_UNFINISHED).all()
            months = due(connection, now=now, access_log_after_days=access_log_after_days, logs=logs)
        broken: CarnivoreError | None = None
        if months and location is not None:
            place = Storage(location)
            try:
                place.check()  # once, not at every month's end
            except StorageError as error:
                broken = error
        begun = {(found.parent, found.month) for found in unfinished}
        work: list[Any] = [*unfinished, *(one for one in months if (one.parent, one.month) not in begun)]
        for month in work:
            try:
                part = _open(connection, month)
                if part is None or part.detached_at is None:
                    if location is None:
                        outcome.waiting.append(month.name)
                        continue
                    if broken is not None:
                        raise broken
                    part = _begin(connection, month, part, place)
                run = _Run(connection, month, part, lock_timeout_ms, on_step)
                outcome.done.append(run.finish())
            except Unavailable:
                raise
            except CarnivoreError as error:
                outcome.failed[month.name] = error
        left = {*outcome.failed, *outcome.waiting}
        outcome.logs_may_go = not any(found.parent == LOGS and found.name in left for found in months)
    return outcome


def _upper(month: date) -> datetime:
    return datetime(month.year + month.month // 12, month.month % 12 + 1, 1, tzinfo=UTC)


def _open(connection: Connection, month: Any) -> Row[Any] | None:
    with connection.begin():
        return connection.execute(_OPEN, {"parent": month.parent, "month": month.month}).one_or_none()


def _begin(connection: Connection, month: Any, part: Row[Any] | None, place: Storage) -> Row[Any]:
    """Note where the file will lie, before anything does."""
    key = {"parent": month.parent, "month": month.month}
    with connection.begin():
        number = part.part if part is not None else connection.scalar(_NEXT_PART, key)
        path = f"{month.parent}/{month.month:%Y_%m}/part-{number:04}.parquet"
        known = part is not None and part.file_url == place.url(path)
        # Two databases at one location would write over each other's months.
        if not known and place.exists(path):
            raise StorageError("a file is there that this database's ledger does not know")
        connection.execute(_BEGIN, {**key, "part": number, "file_url": place.url(path)})
        return connection.execute(_OPEN, key).one()


class _Run:
    """One month on its way, from wherever it is."""

    def __init__(
        self, connection: Connection, month: Any, part: Row[Any], lock_timeout_ms: int, on_step: OnStep
    ) -> None:
        self._connection = connection
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
        for _ in range(_ATTEMPTS):
            manifest = self._same()
            if manifest is not None:
                self._forget_copies()
                return self._drop(manifest)
            self._write(self._aside)
        raise Busy("the month's rows change as fast as they are archived")

    def _say(self, what: str) -> parquet.OnRows:
        self._on_step(Step(self._name, what))
        return lambda done, total: self._on_step(Step(self._name, what, done, total))

    def _write(self, relation: str) -> None:
        on_rows = self._say("write")
        facts = {
            "table": self._parent,
            "month": f"{self._month:%Y-%m}",
            "lower": _iso(datetime(self._month.year, self._month.month, 1, tzinfo=UTC)),
            "upper": _iso(_upper(self._month)),
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

    def _forget_copies(self) -> None:
        """Delete the files from which the table was restored: the new one has their rows."""
        with self._connection.begin():
            copies = self._connection.execute(_COPIES, {**self._key, "detached": self._aside}).all()
        for copy in copies:
            storage.delete(copy.file_url)
            storage.delete(parquet.manifest_url(copy.file_url))

    def _drop(self, manifest: parquet.Manifest) -> Archived:
        self._say("drop")
        facts = {"rows": manifest.rows, "sha256": manifest.sha256, "bytes": manifest.bytes}
        before: list[int] = []

        def act() -> None:
            self._connection.execute(text(f"LOCK TABLE {self._aside} IN ACCESS EXCLUSIVE MODE NOWAIT"))
            self._connection.execute(_FORGET, {**self._key, "detached": self._aside})
            self._connection.execute(text(f"DROP TABLE {self._aside}"))
            before.append(self._connection.execute(_DROPPED, {**self._key, **facts}).scalar_one())

        locked(self._connection, self._parent, self._lock_timeout_ms, act, dropping=True)
        self._on_step(Step(self._name, "done"))
        return Archived(self._name, self._url, manifest.rows, before[-1], manifest.bytes)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
