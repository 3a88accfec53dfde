"""`carnivore.partition_plan`: its words case by case, and its laws over months and rows nobody thought of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, pool
from sqlalchemy.exc import IntegrityError

from carnivore_db.kit import months
from carnivore_db.operations.partitions.plan import Action, Policy, plan
from tests.operations.partitions.months import LOG, LOGS, inside
from tests.support import reports
from tests.support.databases import Shape

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
NEVER = datetime.max.replace(tzinfo=UTC)
BACK = 12
THREE = Policy(3)
KEPT = {LOG: None, LOGS: timedelta(30)}
SESSIONS = [
    ("Pacific/Kiritimati", "SQL, DMY"),
    ("Pacific/Pago_Pago", "Postgres, MDY"),
    ("America/St_Johns", "German"),
    ("Asia/Kathmandu", "ISO, YMD"),
]
PARTITIONS = """
    SELECT inhrelid::regclass::text FROM pg_inherits
    WHERE inhparent = %s::text::regclass AND inhrelid::regclass::text !~ 'default$'
"""
Range = tuple[datetime, datetime]


@dataclass
class World:
    """A table's partitions by month or by moments, the rows of its DEFAULT partition by month or moment, and
    its months in cold storage; all in UTC."""

    ranges: Sequence[Range | tuple[str, str]] = ()
    waiting: dict[date | str, int] = field(default_factory=dict)
    archived: Sequence[date] = ()

    def plant(self, connection: Connection, table: str) -> None:
        key, columns, values = "created_at", "level, event_type", "'info', 'user_logout'"
        if table == LOG:
            key, columns, values = "accessed_at", "report_id", "(SELECT id FROM public.generated_reports)"
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")  # nothing is counted
        for number, (lower, upper) in enumerate(self.ranges):
            connection.exec_driver_sql(
                f"CREATE TABLE {table}_{number} PARTITION OF {table}"
                f" FOR VALUES FROM ({_edge(lower)}) TO ({_edge(upper)})"
            )
        for moment, rows in self.waiting.items():
            connection.exec_driver_sql(
                f"INSERT INTO {table} ({columns}, {key}) SELECT {values}, %s::text::timestamptz"
                " FROM generate_series(1, %s)",
                (str(inside(moment)) if isinstance(moment, date) else moment, rows),
            )
        for month in self.archived:
            connection.exec_driver_sql(
                "INSERT INTO carnivore.archived_partitions (parent, month, part, file_url)"
                " VALUES (%s, %s, 1, 'memory://x')",
                (table, month),
            )
        connection.exec_driver_sql("SET LOCAL session_replication_role = origin")


def _edge(edge: datetime | str) -> str:
    return edge if edge in {"MINVALUE", "MAXVALUE"} else f"'{edge}'"


def span(first: date, number: int = 1) -> Range:
    """So many months as a range."""
    return months.start(months.number(inside(first))), later(first, number)


def later(first: date, number: int) -> datetime:
    """The beginning of a month so many after another."""
    return months.start(months.number(inside(first)) + number)


@pytest.fixture(scope="module")
def monthless(plain_shape: Shape, plain_template: str) -> Iterator[Connection]:
    """A database whose partitioned tables have a DEFAULT partition alone."""
    with plain_shape.clone(plain_template) as database:
        with database.connect() as owner:
            reports.make(owner, 1)
            for table in (LOG, LOGS):
                names = [name for (name,) in owner.execute(PARTITIONS, [table])]
                owner.execute(f"DROP TABLE {', '.join(names)}")
        engine = create_engine(database.migrator_url, poolclass=pool.NullPool)
        with engine.connect() as connection:
            yield connection


@pytest.fixture
def connection(monthless: Connection) -> Iterator[Connection]:
    """To that database; what a test plants is taken back."""
    yield monthless
    monthless.rollback()


def planned(
    connection: Connection, table: str = LOG, policy: Policy = THREE, at: datetime = NOW
) -> list[Action]:
    return [action for action in plan(connection, policy, at) if action.table == table]


def words(actions: Sequence[Action]) -> list[str]:
    return [f"{a.kind} {a.month:%Y-%m}: {a.reason}" if a.month else f"{a.kind}: {a.reason}" for a in actions]


def m(year: int, month: int) -> date:
    return date(year, month, 1)


AHEAD = [
    "create 2026-11: this month",
    "create 2026-12: next month",
    "create 2027-01: 2 months ahead",
    "create 2027-02: 3 months ahead",
]
THERE = span(m(2026, 11), 4)
DECEMBER = later(m(2026, 12), 0)
HALF = (DECEMBER + timedelta(9), DECEMBER + timedelta(19, hours=6))
REST = (span(m(2026, 11)), span(m(2027, 1), 2))
PART = "a partition from 2026-12-10 to 2026-12-20 06:00 has a part of it"
ARCHIVED = [m(2026, 8), m(2026, 9)]
AROUND = [span(m(2026, 7)), span(m(2026, 10), 5)]
OLD_LOGS = World([span(m(2026, 6)), THERE], {m(2026, 9): 7, m(2026, 10): 8})
# The table, what it has, and the whole plan; at the end whether old rows are kept.
CASES: dict[str, tuple[str, World, list[str]]] = {
    "nothing": (LOG, World(), AHEAD),
    "nothing, of another table": (LOGS, World(), AHEAD),
    "all": (LOGS, World([THERE]), []),
    # Rows come first, then the future, then gaps: of twelve months and no more.
    "rows and gaps": (
        LOG,
        World([span(m(2026, 7)), span(m(2026, 11), 3)], {m(2031, 5): 1, m(2026, 8): 1234, m(2001, 1): 2}),
        [
            "drain 2001-01: 2 rows in the DEFAULT partition",
            "drain 2026-08: 1,234 rows in the DEFAULT partition",
            "drain 2031-05: 1 row in the DEFAULT partition",
            AHEAD[3],
            "create 2025-11: gap between 2001-01 and 2026-07",
            "create 2025-12: gap between 2001-01 and 2026-07",
            *(f"create 2026-0{number}: gap between 2001-01 and 2026-07" for number in range(1, 7)),
            "create 2026-09: gap between 2026-08 and 2026-11",
            "create 2026-10: gap between 2026-08 and 2026-11",
        ],
    ),
    "a beginning without months": (LOG, World([("MINVALUE", "2026-08-01Z"), AROUND[1]]), []),
    "archived months": (LOG, World(AROUND, archived=ARCHIVED), []),
    "an archived month with rows": (
        LOG,
        World(AROUND, {ARCHIVED[1]: 1}, ARCHIVED),
        ["drain 2026-09: 1 row in the DEFAULT partition"],
    ),
    "a quarter": (LOG, World([span(m(2026, 10), 3), REST[1]]), []),
    "a part of a month": (LOG, World([HALF, *REST]), [f"conflict 2026-12: next month; {PART}"]),
    "a part of a month with rows": (
        LOGS,
        World([HALF, *REST], {"2026-12-03Z": 3}),
        [f"conflict 2026-12: 3 rows in the DEFAULT partition; {PART}"],
    ),
    "parts that make a month": (
        LOG,
        World([(DECEMBER, HALF[0]), HALF, (HALF[1], later(m(2026, 12), 1)), *REST]),
        [],
    ),
    # A month is deleted 30 days after its end: September is, on the 28th of November; October is not.
    "old logs": (
        LOGS,
        OLD_LOGS,
        [
            "drain 2026-10: 8 rows in the DEFAULT partition",
            "left 2026-09: 7 rows older than the table's are kept: deleted where they are",
        ],
    ),
    "old logs that are kept": (
        LOGS,
        OLD_LOGS,
        [f"drain 2026-{month}: {rows} rows in the DEFAULT partition" for month, rows in (("09", 7), (10, 8))],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_missing_and_why(connection: Connection, case: str) -> None:
    table, world, expected = CASES[case]
    world.plant(connection, table)
    policy = Policy(3, keep_old=case.endswith("kept"))
    assert words(planned(connection, table, policy)) == expected
    fewer = planned(connection, table, Policy(0, policy.keep_old))
    assert words(fewer) == [line for line in expected if " ahead" not in line and "next month" not in line]


@pytest.mark.parametrize(
    ("moment", "month"),
    [
        (datetime(2026, 12, 31, 23, 59, 59, 999999, UTC), date(2026, 12, 1)),
        (datetime(2027, 1, 1, tzinfo=UTC), date(2027, 1, 1)),
        (datetime(2027, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))), date(2026, 12, 1)),
        (datetime(2026, 12, 31, 23, 30, tzinfo=timezone(timedelta(hours=-1))), date(2027, 1, 1)),
    ],
)
def test_the_month_is_utcs_at_the_years_end(connection: Connection, moment: datetime, month: date) -> None:
    assert planned(connection, at=moment)[0].month == month


def test_a_moment_without_zone_and_a_negative_number_are_refused(connection: Connection) -> None:
    with pytest.raises(ValueError, match="time zone"):
        plan(connection, THREE, NOW.replace(tzinfo=None))
    with pytest.raises(IntegrityError, match="this month has a partition at least"):
        plan(connection, Policy(-1), NOW)


def covered(ranges: Sequence[Range], month: date) -> bool:
    """Every moment of the month is some partition's, told by its edges and not in the plan's way."""
    start, end = span(month)
    edges = {start, *(edge for r in ranges for edge in r if start < edge < end)}
    return all(any(lower <= edge < upper for lower, upper in ranges) for edge in edges)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[datetime, str, World]:
    """A table that can exist: no two partitions overlap, no row of DEFAULT lies where one is."""
    seconds = draw(st.integers(-90_000, 90_000) | st.integers(0, 30 * 86_400))
    now = later(date(2026, draw(st.integers(1, 12)), 1), 0) + timedelta(seconds=seconds)
    near = st.integers(-18, 12).map(lambda number: later(now.date(), number).date())
    # Months, quarters, and those that begin or end in the middle of one; in order, so that none overlaps.
    edges = st.sampled_from((timedelta(0), timedelta(0), timedelta(days=14), timedelta(hours=-5)))
    ranges: list[Range] = []
    for first in sorted(draw(st.lists(near, max_size=6))):
        lower, upper = span(first, draw(st.sampled_from((1, 1, 1, 3))))
        lower, upper = lower + draw(edges), upper + draw(edges)
        if lower < upper and (not ranges or lower >= ranges[-1][1]):
            ranges.append((lower, upper))
    far = st.dates(date(2001, 1, 1), date(2098, 12, 31)).map(lambda day: day.replace(day=1))
    free = (near | far).filter(
        lambda month: not any(lower <= inside(month) < upper for lower, upper in ranges)
    )
    waiting: dict[date | str, int] = dict(draw(st.dictionaries(free, st.integers(1, 9), max_size=3)))
    table = draw(st.sampled_from((LOG, LOGS)))
    return now, table, World(ranges, waiting, draw(st.lists(near, unique=True)))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(worlds(), st.builds(Policy, st.integers(0, 5), st.booleans()), st.sampled_from(SESSIONS))
@example((NOW, LOG, World([span(date(2026, 1, 1), 3)])), THREE, SESSIONS[0])
@example((NOW, LOGS, World([], {date(2001, 1, 1): 1, date(2026, 1, 1): 1})), THREE, SESSIONS[1])
def test_the_laws(
    connection: Connection, world: tuple[datetime, str, World], policy: Policy, session: tuple[str, str]
) -> None:
    connection.rollback()
    now, table, planted = world
    planted.plant(connection, table)
    actions = planned(connection, table, policy, now)
    _assert_wanted(actions, now, table, planted, policy)

    # A session's time zone and way to write dates change nothing.
    for name, value in zip(("TimeZone", "DateStyle"), session, strict=True):
        connection.exec_driver_sql("SELECT set_config(%s, %s, true)", (name, value))
    assert planned(connection, table, policy, now) == actions

    # What is done is done: what a person was told is told again, and nothing else.
    for action in (action for action in actions if action.doable):
        made = "SELECT carnivore.create_partition(%s::text::regclass, %s)"
        assert connection.exec_driver_sql(made, (table, action.month)).scalar_one() is True
    again = [(a.partition, a.kind) for a in planned(connection, table, policy, now)]
    assert again == [(a.partition, a.kind) for a in actions if not a.doable]
    after = [*planted.ranges, *(span(a.month) for a in actions if a.doable and a.month)]
    stuck = {a.month for a in actions if a.kind == "conflict"}
    for ahead in range(policy.months_ahead + 1):
        month = later(now.date(), ahead).date()
        assert month in stuck or covered(after, month)  # type: ignore[arg-type]


def _assert_wanted(
    actions: Sequence[Action], now: datetime, table: str, planted: World, policy: Policy
) -> None:
    """Each month once, for its reason and in its place; and none but those."""
    this, kept = later(now.date(), 0), KEPT[table]
    rows = planted.waiting
    known = [lower.date().replace(day=1) for lower, _ in planted.ranges]  # type: ignore[union-attr]
    places: list[tuple[int, bool, date]] = []
    for action in actions:
        month = action.month or date.max
        start, end = span(month) if action.month else (NEVER, NEVER)
        aged = kept is not None and end <= now - kept
        past = not action.rows and start < this
        gap = past and action.kind == "create"
        places.append((("drain", "create", "conflict", "left").index(action.kind), gap, month))
        assert action.rows == rows.get(month, 0)
        assert action.kind != "left" or (action.rows and not action.month) or (aged and not policy.keep_old)
        assert (action.kind == "drain") <= (action.rows > 0)
        assert (action.kind == "create") <= (action.rows == 0)
        if action.kind == "conflict":
            assert any(lower < end and upper > start for lower, upper in planted.ranges)  # type: ignore[operator]
        if not action.rows:
            assert later(now.date(), -BACK) <= start <= later(now.date(), policy.months_ahead)
        if past:
            assert min((*known, *rows)) <= month  # type: ignore[type-var]
            assert not aged
            assert month not in planted.archived
    # Rows first, the oldest before all; then this month and those ahead; then the past; then what is told.
    assert places == sorted(set(places))
