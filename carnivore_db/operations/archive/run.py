"""Cold storage: a month's rows go to a Parquet file, are read back, and only then leave the database.

How a month goes, says `steps`. Counters are untouched: access_count counts what is in the table and in the
archive.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from carnivore_db.errors import ArchiveDamaged, Busy, CarnivoreError, StorageError, Unavailable
from carnivore_db.kit import months
from carnivore_db.kit.storage import Storage, database_of
from carnivore_db.operations.archive import parquet
from carnivore_db.operations.archive.steps import ACCESS_LOG, Archived, OnStep, Run, clear, shown
from carnivore_db.operations.locks import ARCHIVE, turn
from carnivore_db.settings import DEFAULTS

LOGS = "conversation.logs"
# A day before conversation.delete_old_logs would drop them.
_LOGS_AFTER = timedelta(days=29)

# Months with a partition of their own, oldest first, and until when a restored one stays.
_MONTHS = text("""
    SELECT format('%s_%s', parent.name, to_char(bound.lower, 'YYYY_MM')) AS name, parent.address AS parent,
        CAST(bound.lower AS date) AS month, pg_total_relation_size(c.oid) AS bytes,
        (SELECT max(l.keep_until) FROM carnivore.archived_partitions AS l
            WHERE l.parent = parent.address AND l.month = CAST(bound.lower AS date) AND l.restored_as = c.oid)
            AS keep_until
    FROM (SELECT known.parent AS address, split_part(known.parent, '.', 2) AS name
        FROM carnivore.partitioned_tables AS known) AS parent
    JOIN pg_inherits ON inhparent = CAST(parent.address AS regclass) AND NOT inhdetachpending
    JOIN pg_class AS c ON c.oid = inhrelid,
    LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \\(''([^'']+)''\\) TO \\(''([^'']+)''\\)')
        AS found,
    LATERAL (SELECT CAST(found[1] AS timestamptz) AT TIME ZONE 'UTC' AS lower,
        CAST(found[2] AS timestamptz) AT TIME ZONE 'UTC' AS upper) AS bound
    WHERE bound.lower = date_trunc('month', bound.lower) AND bound.upper = bound.lower + interval '1 month'
        AND c.oid = to_regclass(parent.address || to_char(bound.lower, '_YYYY_MM'))
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
_DONE = text("""
    SELECT parent, month, part, file_url, sha256, rows FROM carnivore.archived_partitions
    WHERE dropped_at IS NOT NULL ORDER BY parent, month, part
""")


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


def due(
    connection: Connection,
    *,
    now: datetime,
    access_log_after_days: int = DEFAULTS.archive_access_log_after_days,
    logs: bool = False,
) -> list[Due]:
    """The months that are old enough, oldest first: of accesses when they ended so many days ago, of logs
    (if `logs`) when they ended 29 days ago. A restored month is left alone until its time is over."""
    after = {ACCESS_LOG: timedelta(days=access_log_after_days)} | ({LOGS: _LOGS_AFTER} if logs else {})
    return [
        Due(found.name, found.parent, found.month, found.bytes)
        for found in connection.execute(_MONTHS)
        if found.parent in after
        and months.end(found.month) + after[found.parent] <= now
        and (found.keep_until is None or found.keep_until <= now)
    ]


def archive_due(
    engine: Engine,
    location: str | None,
    *,
    now: datetime,
    access_log_after_days: int = DEFAULTS.archive_access_log_after_days,
    logs: bool = False,
    lock_timeout_ms: int = DEFAULTS.partition_lock_timeout_ms,
    on_step: OnStep = lambda step: None,
) -> Outcome:
    """Bring the months that are old enough to `location` (a folder or fsspec URL; None: they stay where they
    are), and finish what an earlier run began. `engine` is a Database's, of the migrating role.

    Writers never wait longer than twice `lock_timeout_ms`. Raises ConfigurationError for a location that
    fsspec does not know or that holds a password, Unavailable when the database is lost; what befalls one
    month is in the outcome, and the others go on.
    """
    outcome = Outcome()
    with turn(engine, ARCHIVE) as connection:
        if connection is None:
            return Outcome(busy=True)
        try:
            clear(connection, lock_timeout_ms)
        except Busy as error:
            outcome.failed["a restore that was stopped"] = error
        with connection.begin():
            unfinished = connection.execute(_UNFINISHED).all()
            database = database_of(connection)
            old = due(connection, now=now, access_log_after_days=access_log_after_days, logs=logs)
        broken: CarnivoreError | None = None
        if old and location is not None:
            place = Storage(location)
            try:
                place.check()  # once, not at every month's end
                place.claim(database)
            except StorageError as error:
                broken = error
        begun = {(found.parent, found.month) for found in unfinished}
        work: list[Any] = [*unfinished, *(one for one in old if (one.parent, one.month) not in begun)]
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
                run = Run(connection, month, part, database, lock_timeout_ms, on_step)
                outcome.done.append(run.finish())
            except Unavailable:
                raise
            except CarnivoreError as error:
                outcome.failed[month.name] = error
    return outcome


def verify(
    engine: Engine, on_step: OnStep = lambda step: None
) -> Iterator[tuple[Any, CarnivoreError | None]]:
    """Read every file of the archive and compare it with its manifest and the ledger. Yields each row of the
    ledger (parent, month, part, file_url, rows) with what is wrong with its file, or None."""
    with engine.connect() as connection, connection.begin():
        parts = connection.execute(_DONE).all()
    for part in parts:
        name = f"{part.parent.partition('.')[2]}_{part.month:%Y_%m}"
        try:
            manifest = parquet.check(
                part.file_url, sha256=part.sha256, on_rows=shown(name, "verify", on_step)
            )
            if manifest.rows != part.rows or manifest.month != f"{part.month:%Y-%m}":
                raise ArchiveDamaged("manifest")
        except CarnivoreError as error:
            yield part, error
        else:
            yield part, None


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
