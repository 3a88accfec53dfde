"""Read sizes, growth, partitions, jobs and unusual accesses in one read-only transaction, without counts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from carnivore_db.errors import NotReadable
from carnivore_db.kit import months
from carnivore_db.operations.partitions.findings import partition_findings
from carnivore_db.operations.verify import probes
from carnivore_db.schema.areas import installed
from carnivore_db.schema.files import expected
from carnivore_db.schema.session import PLAIN_SETTINGS, set_local, undone
from carnivore_db.schema.snapshot import INSTANCES, PARTITIONS, Snapshot
from carnivore_db.settings import Settings

# Growth is measured since the sample that is nearest to so many days old.
GROWTH_DAYS = 30
# Nobody looks further: a partition without an end would have no last month.
HORIZON = 120

_SAFELY = {"transaction_read_only": "on", "statement_timeout": "30s", "lock_timeout": "2s"}
_PARTITIONS = text("""
    SELECT format('%s.%s', parent_space.nspname, parent.relname) AS table,
        format('%s.%s', space.nspname, part.relname) AS name,
        pg_get_expr(part.relpartbound, part.oid) AS bounds,
        pg_total_relation_size(part.oid) AS bytes,
        CASE WHEN part.reltuples >= 0 THEN part.reltuples::bigint END AS rows_estimated
    FROM pg_inherits
    JOIN pg_class AS part ON part.oid = inhrelid JOIN pg_namespace AS space ON space.oid = part.relnamespace
    JOIN pg_class AS parent ON parent.oid = inhparent
    JOIN pg_namespace AS parent_space ON parent_space.oid = parent.relnamespace
    WHERE format('%s.%s', parent_space.nspname, parent.relname) = ANY(:tables)
    ORDER BY 1, pg_get_expr(part.relpartbound, part.oid) = 'DEFAULT', 2
""")
_SAMPLES = text("""
    SELECT relation, day, bytes FROM carnivore.partition_sizes
    WHERE relation = ANY(:tables) ORDER BY relation, day
""")
_UNUSUAL = text("""
    SELECT count(*) FILTER (WHERE addresses >= :addresses) AS addresses,
        count(*) FILTER (WHERE burst >= :burst) AS burst,
        count(*) FILTER (WHERE after_end >= :after_end) AS after_end
    FROM analytics.unusual_access(:since, :addresses, :burst, :after_end)
""")


@dataclass(frozen=True, slots=True)
class Growth:
    """How many bytes were added since a day's sample; fewer than none when partitions went."""

    since: date
    days: int
    bytes: int

    @property
    def bytes_per_day(self) -> float:
        """On the average of these days."""
        return self.bytes / self.days


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its indexes and partitions. No estimate: never analysed. No growth: no sample yet."""

    name: str
    rows_estimated: int | None
    bytes: int
    growth: Growth | None
    samples: list[tuple[date, int]]


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition; `rows` are those of a DEFAULT partition, counted up to one more than COUNT_LIMIT."""

    table: str
    name: str
    label: str
    bytes: int
    rows_estimated: int | None
    rows: int | None


@dataclass(frozen=True, slots=True)
class Months:
    """How many months beyond this one (UTC) have a partition each, up to HORIZON; -1: not even this one.

    `missing` are the first days of those that should have one, and have none.
    """

    table: str
    ahead: int
    missing: list[date]


@dataclass(frozen=True, slots=True)
class Job:
    """The last run of a job. `overdue`: it went longer than `every` without success. `last_error`: SQLSTATE
    and rule, or the kind of error, when the last run failed."""

    name: str
    every: str
    last_finished_at: datetime | None
    last_succeeded_at: datetime | None
    last_error: str | None
    overdue: bool


@dataclass(frozen=True, slots=True)
class Stats:
    """What was seen. `pending` deltas are counted up to one more than COUNT_LIMIT (None where no table has
    any); `unusual` are reports of the last `unusual_days` by what makes them so."""

    taken_at: datetime
    database: str
    tables: list[Table]
    partitions: list[Partition]
    months: list[Months]
    pending: int | None
    jobs: list[Job]
    unusual: dict[str, int]
    unusual_days: int


def read(connection: Connection, settings: Settings, *, now: datetime) -> Stats:
    """Look at a database, as the migrating role.

    In: `now` with a time zone. Safe on production: one read-only transaction, rolled back; no statement
    over 30 seconds, no wait for a lock over 2; rows are estimated, or counted up to COUNT_LIMIT.

    Raises ValueError for a `now` without time zone, NotReadable when a table may not be read,
    sqlalchemy.exc.DBAPIError when the database is not at this package's revision or hits a limit.
    """
    with undone(connection, one_view=True):
        set_local(connection, {**PLAIN_SETTINGS, **_SAFELY})
        areas = installed(connection)
        model = expected(*areas)
        partitioned = sorted(name for name, kind in model.get(PARTITIONS, {}).items() if kind["by_time"])
        found = connection.execute(_PARTITIONS, {"tables": partitioned}).mappings().all()
        ours: Snapshot = {
            PARTITIONS: {table: {"by_time": True} for table in partitioned},
            INSTANCES: {row["name"]: {"parent": row["table"], "bounds": row["bounds"]} for row in found},
        }
        defaults = _counted(probes.default_partition_rows(connection, ours))
        pending = _counted(probes.pending_deltas(connection, model))
        return Stats(
            taken_at=now,
            database=probes.server(connection)["database"],
            tables=_tables(connection, model["tables"], now.astimezone(UTC).date()),
            # A partition that was dropped a moment ago has no size any more.
            partitions=[_partition(row, defaults) for row in found if row["bytes"] is not None],
            months=_months(ours, now, settings.partition_months_ahead),
            pending=sum(pending.values()) if pending else None,
            jobs=_jobs(connection),
            unusual=_unusual(connection, settings, now) if "weekly" in areas else {},
            unusual_days=settings.unusual_days,
        )


def growth(samples: Iterable[tuple[date, int]], today: date, size: int) -> Growth | None:
    """From the sample nearest to GROWTH_DAYS ago, the older of two; None without one of an earlier day."""
    earlier = [sample for sample in samples if sample[0] < today]
    if not earlier:
        return None
    since, before = min(earlier, key=lambda sample: (abs((today - sample[0]).days - GROWTH_DAYS), sample[0]))
    return Growth(since, (today - since).days, size - before)


def _counted(counts: Mapping[str, int | probes.Refused]) -> dict[str, int]:
    found = {}
    for table, rows in counts.items():
        if isinstance(rows, probes.Refused):
            raise NotReadable(f"{table} could not be counted: {rows.reason}")
        found[table] = rows
    return found


def _tables(connection: Connection, known: Iterable[str], today: date) -> list[Table]:
    sizes = probes.statistics(connection, known)
    if isinstance(sizes, probes.Refused):
        raise NotReadable(f"the sizes could not be read: {sizes.reason}")
    samples: dict[str, list[tuple[date, int]]] = {row["table"]: [] for row in sizes}
    for relation, day, size in connection.execute(_SAMPLES, {"tables": list(samples)}):
        samples[relation].append((day, size))
    return [
        Table(
            name=row["table"],
            rows_estimated=row["rows_estimated"],
            bytes=row["bytes"],
            growth=growth(samples[row["table"]], today, row["bytes"]),
            samples=samples[row["table"]],
        )
        for row in sorted(sizes, key=lambda row: (-row["bytes"], row["table"]))
    ]


def _partition(row: Mapping[Any, Any], defaults: Mapping[str, int]) -> Partition:
    table, name = row["table"], row["name"]
    return Partition(
        table=table,
        name=name,
        label=name.removeprefix(f"{table}_").replace("_", "-"),
        bytes=row["bytes"],
        rows_estimated=row["rows_estimated"],
        rows=defaults.get(name),
    )


def _months(ours: Snapshot, now: datetime, wanted: int) -> list[Months]:
    this = months.number(now)
    found: dict[str, list[date]] = {table: [] for table in ours[PARTITIONS]}
    for finding in partition_findings(ours, now, HORIZON):
        if not finding.past:
            found[finding.table].append(finding.month)

    def ahead(month: date) -> int:
        return months.number(month) - this

    return [
        Months(
            table=table,
            ahead=ahead(gaps[0]) - 1 if gaps else HORIZON,
            missing=[month for month in gaps if ahead(month) <= wanted],
        )
        for table, gaps in found.items()
    ]


def _jobs(connection: Connection) -> list[Job]:
    found = probes.jobs(connection)
    if isinstance(found, probes.Refused):
        raise NotReadable(f"the jobs could not be read: {found.reason}")
    return [Job(name=row.pop("job"), **row) for row in found]


def _unusual(connection: Connection, settings: Settings, now: datetime) -> dict[str, int]:
    wanted = {
        "since": now - timedelta(days=settings.unusual_days),
        "addresses": settings.unusual_addresses,
        "burst": settings.unusual_burst,
        "after_end": settings.unusual_after_end,
    }
    return dict(connection.execute(_UNUSUAL, wanted).mappings().one())
