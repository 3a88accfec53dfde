"""Back from cold storage: a month's files are checked, loaded beside their table and attached.

The table that is loaded stands in the schema carnivore with its foreign keys: a report that is deleted
meanwhile takes its rows along. A load that was stopped is begun anew; the files stay until the month is
archived again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, TextClause, text

from carnivore_db.errors import AlreadyExists, ArchiveDamaged, Busy, ConfigurationError, NotArchived, NotFound
from carnivore_db.kit import months
from carnivore_db.operations.archive import parquet
from carnivore_db.operations.archive.steps import MARK, OnStep, Step, clear, shown
from carnivore_db.operations.locks import ARCHIVE, locked, turn
from carnivore_db.settings import DEFAULTS

KEEP = timedelta(days=DEFAULTS.archive_restore_days)
_HOLDS = text("SELECT holds FROM carnivore.partitioned_tables WHERE parent = :parent")
_ATTEMPTS = 20
_PARTS = text("""
    SELECT part, file_url, sha256, rows FROM carnivore.archived_partitions
    WHERE parent = :parent AND month = :month AND dropped_at IS NOT NULL
        AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = restored_as)
    ORDER BY part
""")
_UNFINISHED = text("""
    SELECT EXISTS (SELECT FROM carnivore.archived_partitions
        WHERE parent = :parent AND month = :month AND detached_at IS NOT NULL AND dropped_at IS NULL)
""")
_THERE = text("SELECT to_regclass(:partition) IS NOT NULL")
# The column that it is partitioned by, its DEFAULT partition, all its columns.
_PARENT = text("""
    SELECT format('%I', k.attname) AS key, CAST(CAST(partdefid AS regclass) AS text) AS spare,
        (SELECT string_agg(format('%I', a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute AS a
            WHERE a.attrelid = partrelid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
    FROM pg_partitioned_table JOIN pg_attribute AS k ON k.attrelid = partrelid AND k.attnum = partattrs[0]
    WHERE partrelid = CAST(:parent AS regclass)
""")
# Single-column keys all: the column, what it refers to, and what happens when that goes.
_FOREIGN = text("""
    SELECT format('%I', conname) AS name, pg_get_constraintdef(oid) AS definition,
        CAST(CAST(confrelid AS regclass) AS text) AS target, CAST(confdeltype AS text) AS action,
        (SELECT format('%I', attname) FROM pg_attribute WHERE attrelid = conrelid AND attnum = conkey[1])
            AS column,
        (SELECT format('%I', attname) FROM pg_attribute WHERE attrelid = confrelid AND attnum = confkey[1])
            AS referred
    FROM pg_constraint WHERE conrelid = CAST(:parent AS regclass) AND contype = 'f' ORDER BY conname
""")
_RESTORED = text("""
    UPDATE carnivore.archived_partitions
    SET restored_as = CAST(:partition AS regclass), keep_until = :keep_until
    WHERE parent = :parent AND month = :month AND dropped_at IS NOT NULL
""")


@dataclass(frozen=True)
class Restored:
    """What came back: the partition, its rows of the archive, rows left out because what they belong to is
    gone, and rows that had come late and lay in the DEFAULT partition."""

    name: str
    rows: int
    left_out: int
    came_late: int
    keep_until: datetime


def restore(
    engine: Engine,
    parent: str,
    month: date,
    *,
    now: datetime,
    keep: timedelta = KEEP,
    lock_timeout_ms: int = DEFAULTS.partition_lock_timeout_ms,
    on_step: OnStep = lambda step: None,
) -> Restored:
    """Bring a month of `parent` (public.report_access_log or conversation.logs) back as a partition, the same
    as it was; the archive leaves it alone for `keep` from `now`.

    Accesses whose report is gone are left out; logs whose person or session is gone have NULL there, as they
    would have by now. Counters stay as they are. Raises NotArchived; AlreadyExists when the month has a
    partition (of rows that came late: archive it first); ArchiveDamaged, and nothing has changed; Busy;
    StorageError; ConfigurationError for another table.
    """
    with turn(engine, ARCHIVE) as connection:
        if connection is None:
            raise Busy("another archive or restore is at work")
        with connection.begin():
            if connection.scalar(_HOLDS, {"parent": parent}) is None:
                raise ConfigurationError(f"{parent} is no partitioned table of an installed area")
        return _Load(connection, parent, month.replace(day=1), lock_timeout_ms, on_step).run(now + keep)


class _Load:
    """One month on its way back."""

    def __init__(
        self, connection: Connection, parent: str, month: date, lock_timeout_ms: int, on_step: OnStep
    ) -> None:
        self._connection, self._parent, self._month = connection, parent, month
        self._lock_timeout_ms, self._on_step = lock_timeout_ms, on_step
        schema, _, table = parent.partition(".")
        self._name = f"{table}_{month:%Y_%m}"
        self._schema, self._partition, self._aside = (
            schema,
            f"{schema}.{self._name}",
            f"carnivore.{self._name}",
        )
        self._key = {"parent": parent, "month": month}
        self._lower, self._upper = f"{month} 00:00:00+00", f"{months.end(month):%Y-%m-%d} 00:00:00+00"

    def run(self, keep_until: datetime) -> Restored:
        parts = self._parts()
        manifests = [
            parquet.check(
                part.file_url, sha256=part.sha256, on_rows=shown(self._name, "verify", self._on_step)
            )
            for part in parts
        ]
        clear(self._connection, self._lock_timeout_ms)
        self._make()
        for part, manifest in zip(parts, manifests, strict=True):
            self._load(part, manifest)
        rows, late = self._attach(keep_until)
        self._on_step(Step(self._name, "done"))
        return Restored(self._name, rows, sum(part.rows for part in parts) - rows, late, keep_until)

    def _parts(self) -> list[Row[Any]]:
        with self._connection.begin():
            if self._connection.scalar(_UNFINISHED, self._key):
                raise Busy("the month is on its way into the archive: finish that by an archive run")
            parts = list(self._connection.execute(_PARTS, self._key).all())
            if not parts:
                raise NotArchived
            if self._connection.scalar(_THERE, {"partition": self._partition}):
                raise AlreadyExists(self._name)
        return parts

    def _locked(self, act: Callable[[], None], *, dropping: bool) -> None:
        locked(self._connection, self._parent, self._lock_timeout_ms, act, dropping=dropping)

    def _do(self, *statements: str) -> None:
        for statement in statements:
            self._connection.exec_driver_sql(statement)

    def _make(self) -> None:
        """An empty table, closed to everybody, with all that a partition has but its triggers."""

        def act() -> None:
            key = self._connection.execute(_PARENT, {"parent": self._parent}).one().key
            within = f"{key} >= '{self._lower}' AND {key} < '{self._upper}'"
            self._do(
                f"CREATE TABLE {self._aside} (LIKE {self._parent} INCLUDING CONSTRAINTS INCLUDING DEFAULTS"
                " INCLUDING INDEXES INCLUDING STORAGE INCLUDING COMPRESSION,"
                f" CONSTRAINT prepared CHECK ({within}))",
                f"COMMENT ON TABLE {self._aside} IS '{MARK}'",
                f"ALTER TABLE {self._aside} ENABLE ROW LEVEL SECURITY",
                f"REVOKE ALL ON {self._aside} FROM PUBLIC, anon, authenticated, service_role",
            )
            for foreign in self._foreign():
                self._do(f"ALTER TABLE {self._aside} ADD CONSTRAINT {foreign.name} {foreign.definition}")

        self._on_step(Step(self._name, "prepare"))
        self._locked(act, dropping=False)

    def _foreign(self) -> list[Row[Any]]:
        return list(self._connection.execute(_FOREIGN, {"parent": self._parent}).all())

    def _load(self, part: Row[Any], manifest: parquet.Manifest) -> None:
        on_rows = shown(self._name, "load", self._on_step)
        with self._connection.begin():
            insert = self._insertion(manifest)
        done = 0
        for batch in parquet.read(part.file_url, manifest):
            given = {f"c{place}": column.to_pylist() for place, column in enumerate(batch.columns)}
            self._insert(insert, given)
            done += batch.num_rows
            on_rows(done, manifest.rows)

    def _insert(self, insert: TextClause, given: dict[str, Any]) -> None:
        """Put rows in. Where what they refer to goes at that moment, fewer at a time, and once more."""
        for _ in range(_ATTEMPTS):
            try:
                with self._connection.begin():
                    # Before anybody looks for a deadlock: whoever deletes many must not be its victim.
                    self._connection.execute(text("SET LOCAL lock_timeout = '500ms'"))
                    self._connection.execute(insert, given)
            except (NotFound, Busy):
                half = len(given["c0"]) // 2
                if half:
                    for piece in (slice(half), slice(half, None)):
                        self._insert(insert, {name: column[piece] for name, column in given.items()})
                    return
            else:
                return
        raise Busy("what the rows refer to is locked, or changes as fast as they are loaded")

    def _insertion(self, manifest: parquet.Manifest) -> TextClause:
        """The statement that takes a batch, column by column, and does what foreign keys would have done.

        Types are the table's own: a manifest is not trusted with SQL.
        """
        known = {
            found.attname: found
            for found in self._connection.execute(parquet.COLUMNS, {"relation": self._aside})
        }
        names = [name for name, _ in manifest.columns]
        if not known.keys() >= set(names):
            raise ArchiveDamaged("columns")
        values = {
            known[name].quoted: f"CAST(given.c{place} AS {known[name].kind})"
            for place, name in enumerate(names)
        }
        wanted = ["true"]
        for key in self._foreign():
            there = f"EXISTS (SELECT FROM {key.target} AS t WHERE t.{key.referred} = {values[key.column]})"
            if key.action == "c":
                wanted.append(f"({values[key.column]} IS NULL OR {there})")
            elif key.action == "n":
                values[key.column] = f"CASE WHEN {there} THEN {values[key.column]} END"
        arrays = ", ".join(
            f"CAST(:c{place} AS {kind if kind in parquet.TYPED else 'text'}[])"
            for place, (_, kind) in enumerate(manifest.columns)
        )
        columns = ", ".join(f"c{place}" for place in range(len(names)))
        return text(
            f"INSERT INTO {self._aside} ({', '.join(values)}) SELECT {', '.join(values.values())}"
            f" FROM unnest({arrays}) AS given ({columns}) WHERE {' AND '.join(wanted)}"
        )

    def _attach(self, keep_until: datetime) -> tuple[int, int]:
        """Returns how many rows came back, and how many the DEFAULT partition had."""
        found: list[tuple[int, int]] = []

        def act() -> None:
            if self._connection.scalar(_THERE, {"partition": self._partition}):
                raise AlreadyExists(self._name)
            facts = self._connection.execute(_PARENT, {"parent": self._parent}).one()
            holds = self._connection.scalar(_HOLDS, {"parent": self._parent})
            within = f"{facts.key} >= '{self._lower}' AND {facts.key} < '{self._upper}'"
            rows = self._connection.scalar(text(f"SELECT count(*) FROM {self._aside}")) or 0
            # The guard lets them go: nothing is rewritten. Their ids are nobody else's.
            self._do(f"ALTER TABLE {facts.spare} DISABLE TRIGGER USER")
            late = self._connection.exec_driver_sql(
                f"WITH late AS (DELETE FROM {facts.spare} WHERE {within} RETURNING {facts.columns})"
                f" INSERT INTO {self._aside} ({facts.columns}) SELECT {facts.columns} FROM late"
            ).rowcount
            self._do(
                f"ALTER TABLE {facts.spare} ENABLE TRIGGER USER",
                f"ALTER TABLE {self._aside} SET SCHEMA {self._schema}",
                f"COMMENT ON TABLE {self._partition} IS '{holds} of {self._month:%Y-%m} (UTC).'",
                f"SELECT carnivore.close_partition('{self._partition}', '{self._parent}')",
                f"ALTER TABLE {self._parent} ATTACH PARTITION {self._partition}"
                f" FOR VALUES FROM ('{self._lower}') TO ('{self._upper}')",
                f"ALTER TABLE {self._partition} DROP CONSTRAINT prepared",
            )
            self._connection.execute(
                _RESTORED, {**self._key, "partition": self._partition, "keep_until": keep_until}
            )
            found.append((rows, late))

        self._on_step(Step(self._name, "attach"))
        # The parent's foreign keys take the place of the table's own, whose triggers are dropped.
        self._locked(act, dropping=True)
        return found[-1]
