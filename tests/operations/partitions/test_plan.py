"""The planner's laws, over bounds, rows and moments that nobody thought of; and its words, one by one."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from carnivore_db.operations.partitions.plan import END, FIRST, Action, Policy, Table, plan

LOG, LOGS = "public.report_access_log", "conversation.logs"
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ZONES = ("Pacific/Kiritimati", "Pacific/Pago_Pago", "America/St_Johns", "Asia/Kathmandu", "Europe/Berlin")


def begins(month: date) -> datetime:
    return datetime(month.year, month.month, 1, tzinfo=UTC)


def later(month: date, number: int) -> date:
    """The first of a month so many after another."""
    index = month.year * 12 + month.month - 1 + number
    return date(index // 12, index % 12 + 1, 1)


def span(first: date, months: int = 1) -> tuple[datetime, datetime]:
    """From the first of a month to that of another."""
    return begins(first), begins(later(first, months))


def covered(table: Table, month: date) -> bool:
    """Every moment of the month is some partition's, told by its days and not by the planner's way."""
    start, end = span(month)
    edges = sorted({start, *(edge for r in table.ranges for edge in r if start < edge < end)})
    return all(any(lower <= edge < upper for lower, upper in table.ranges) for edge in edges)


def applied(table: Table, actions: Iterable[Action]) -> Table:
    """The table when what can be done is done."""
    ours = [a for a in actions if a.table == table.name and a.doable]
    made = [span(a.month) for a in ours if a.month]
    waiting = {month: rows for month, rows in table.waiting.items() if month not in {a.month for a in ours}}
    return replace(table, ranges=[*table.ranges, *made], waiting=waiting)


def overlaps(ranges: Iterable[tuple[datetime, datetime]]) -> bool:
    found = sorted(ranges)
    return any(one[1] > other[0] for one, other in pairwise(found))


# What is drawn around them lies in the century that has months.
months = st.dates(date(2004, 1, 1), date(2094, 12, 31)).map(lambda day: day.replace(day=1))
# Around the ends of months and years; and anywhere.
moments = st.one_of(
    st.integers(4 * 366 * 86_400, 94 * 365 * 86_400).map(lambda seconds: FIRST + timedelta(seconds=seconds)),
    st.builds(
        lambda month, seconds: begins(month) + timedelta(seconds=seconds),
        st.one_of(months, st.integers(2004, 2094).map(lambda year: date(year, 1, 1))),
        st.integers(-90_000, 90_000),
    ),
)
policies = st.builds(Policy, st.integers(0, 24), st.integers(0, 24), st.booleans())


@st.composite
def tables(draw: st.DrawFn, now: datetime) -> Table:
    """A table that can exist: no two partitions overlap, no row of DEFAULT lies where one is."""
    this = now.date().replace(day=1)
    near = st.integers(-30, 30).map(lambda number: later(this, number))
    # Months, quarters, and those that begin or end in the middle of one; in order, so that none overlaps.
    lengths = st.sampled_from((1, 1, 1, 3))
    edges = st.sampled_from((timedelta(0), timedelta(0), timedelta(days=14), timedelta(hours=-5)))
    ranges: list[tuple[datetime, datetime]] = []
    for first in sorted(draw(st.lists(near, max_size=12))):
        lower, upper = span(first, draw(lengths))
        lower, upper = lower + draw(edges), upper + draw(edges)
        if lower < upper and (not ranges or lower >= ranges[-1][1]):
            ranges.append((lower, upper))
    if draw(st.integers(0, 9)) == 0:
        lower = min((lower for lower, _ in ranges), default=begins(this))
        ranges.insert(0, (datetime.min.replace(tzinfo=UTC), min(lower, FIRST)))
    table = Table(
        draw(st.sampled_from((LOG, LOGS))), ranges, kept=draw(st.sampled_from((None, timedelta(30))))
    )
    free = st.one_of(near, months).filter(lambda month: not covered(table, month))
    waiting = draw(st.dictionaries(free, st.integers(1, 5000), max_size=5))
    archived = draw(st.frozensets(st.integers(-30, -1).map(lambda number: later(this, number))))
    return replace(table, waiting=waiting, archived=archived, outside=draw(st.integers(0, 2)))


worlds = moments.flatmap(lambda now: st.tuples(st.just(now), tables(now)))


@given(worlds, policies)
@example((NOW, Table(LOG, [span(date(2026, 1, 1), 3)])), Policy())
@example((NOW, Table(LOG, [], {date(2001, 1, 1): 1, date(2026, 1, 1): 1})), Policy())
def test_what_is_done_is_done(world: tuple[datetime, Table], policy: Policy) -> None:
    now, table = world
    actions = plan([table], now, policy)
    assert len({a.partition for a in actions}) == len(actions)
    after = applied(table, actions)
    again = plan([after], now, policy)
    assert [a for a in again if a.doable] == []
    # What a person was told is told again, and nothing else.
    assert {a.partition for a in again} == {a.partition for a in actions if not a.doable}
    assert not overlaps(after.ranges)
    stuck = {a.month for a in actions if a.kind == "conflict"}
    this = now.date().replace(day=1)
    for ahead in range(policy.months_ahead + 1):
        month = later(this, ahead)
        assert covered(after, month) or month in stuck
    # Rows are stranded in conflicts alone, or are about to be deleted.
    left = {a.month for a in actions if a.kind == "left"}
    assert after.waiting.keys() <= stuck | left
    for month in left - {None}:
        assert month is not None
        assert table.kept is not None
        assert not policy.keep_old
        assert span(month)[1] <= now - table.kept


@given(worlds, policies)
def test_only_what_is_wanted_is_made(world: tuple[datetime, Table], policy: Policy) -> None:
    now, table = world
    this = now.date().replace(day=1)
    known = [lower.date().replace(day=1) for lower, _ in table.ranges if lower >= FIRST]
    for action in plan([table], now, policy):
        month = action.month
        if month is None:
            assert (action.kind, action.rows) == ("left", table.outside)
            continue
        assert action.rows == table.waiting.get(month, 0)
        assert (action.kind == "drain") <= (action.rows > 0)
        if action.kind == "create":
            assert not action.rows
        if action.rows == 0:
            assert later(this, -policy.months_back) <= month <= later(this, policy.months_ahead)
            if month < this:
                assert min((*known, *table.waiting)) <= month
                assert month not in table.archived
        if action.kind == "conflict":
            start, end = span(month)
            assert any(lower < end and upper > start for lower, upper in table.ranges)


@given(worlds, policies)
def test_the_order(world: tuple[datetime, Table], policy: Policy) -> None:
    """Rows first, the oldest before all; then this month and those ahead; then the past."""
    now, table = world
    this = now.date().replace(day=1)

    def place(action: Action) -> tuple[int, date]:
        month = action.month or date.max
        if not action.doable:
            return 3, date.min
        return (0 if action.rows else 1 if month >= this else 2), month

    places = [place(action) for action in plan([table], now, policy)]
    assert places == sorted(places)


@given(worlds, policies, st.sampled_from(ZONES))
def test_a_moment_is_one_in_every_zone(world: tuple[datetime, Table], policy: Policy, zone: str) -> None:
    now, table = world
    assert plan([table], now.astimezone(ZoneInfo(zone)), policy) == plan([table], now, policy)


def words(table: Table, now: datetime = NOW, policy: Policy | None = None) -> list[tuple[str, str, str]]:
    actions = plan([table], now, policy or Policy())
    return [(a.partition.rpartition("_log")[2], a.kind, a.reason) for a in actions]


def test_an_empty_table_gets_this_month_and_those_ahead() -> None:
    assert words(Table(LOG, [])) == [
        ("_2026_11", "create", "this month"),
        ("_2026_12", "create", "next month"),
        ("_2027_01", "create", "2 months ahead"),
        ("_2027_02", "create", "3 months ahead"),
    ]


@pytest.mark.parametrize(
    ("moment", "month"),
    [
        (datetime(2026, 12, 31, 23, 59, 59, 999999, UTC), "_2026_12"),
        (datetime(2027, 1, 1, tzinfo=UTC), "_2027_01"),
        (datetime(2027, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))), "_2026_12"),
        (datetime(2026, 12, 31, 23, 30, tzinfo=timezone(timedelta(hours=-1))), "_2027_01"),
    ],
)
def test_the_month_is_utcs_at_the_years_end(moment: datetime, month: str) -> None:
    assert words(Table(LOG, []), moment)[0][:2] == (month, "create")


def test_rows_come_first_then_the_future_then_gaps() -> None:
    ranges = [span(date(2026, 7, 1)), span(date(2026, 11, 1), 4)]
    waiting = {date(2031, 5, 1): 1, date(2026, 8, 1): 1234, date(2001, 1, 1): 2}
    assert words(Table(LOG, ranges, waiting)) == [
        ("_2001_01", "drain", "2 rows in the DEFAULT partition"),
        ("_2026_08", "drain", "1,234 rows in the DEFAULT partition"),
        ("_2031_05", "drain", "1 row in the DEFAULT partition"),
        ("_2025_11", "create", "gap between 2001-01 and 2026-07"),
        *[
            (f"_{year}_{month:02}", "create", "gap between 2001-01 and 2026-07")
            for year, month in ((2025, 12), *((2026, month) for month in range(1, 7)))
        ],
        ("_2026_09", "create", "gap between 2026-08 and 2026-11"),
        ("_2026_10", "create", "gap between 2026-08 and 2026-11"),
    ]


def test_archived_months_are_no_gaps_unless_rows_wait() -> None:
    ranges = [span(date(2026, 7, 1)), span(date(2026, 10, 1), 5)]
    archived = frozenset({date(2026, 8, 1), date(2026, 9, 1)})
    assert words(Table(LOG, ranges, archived=archived)) == []
    late = Table(LOG, ranges, {date(2026, 9, 1): 1}, archived=archived)
    assert words(late) == [("_2026_09", "drain", "1 row in the DEFAULT partition")]


def test_a_quarter_covers_its_months_and_a_half_month_is_a_conflict() -> None:
    assert words(Table(LOG, [span(date(2026, 10, 1), 3), span(date(2027, 1, 1), 2)])) == []
    half = (datetime(2026, 12, 10, tzinfo=UTC), datetime(2026, 12, 20, 6, tzinfo=UTC))
    rest = [span(date(2026, 11, 1)), span(date(2027, 1, 1), 2)]
    part = "a partition from 2026-12-10 to 2026-12-20 06:00 has a part of it"
    assert words(Table(LOG, [half, *rest])) == [("_2026_12", "conflict", f"next month; {part}")]
    with_rows = Table(LOG, [half, *rest], {date(2026, 12, 1): 3})
    assert words(with_rows) == [("_2026_12", "conflict", f"3 rows in the DEFAULT partition; {part}")]
    # Two that make the month together are as good as one.
    halves = [(begins(date(2026, 12, 1)), half[0]), half, (half[1], begins(date(2027, 1, 1)))]
    assert words(Table(LOG, [*halves, *rest])) == []


def test_logs_that_are_about_to_be_deleted_get_no_month_but_for_the_archive() -> None:
    """A month is deleted 30 days after its end: September is, on the 28th of November; October is not."""
    ranges = [span(date(2026, 6, 1)), span(date(2026, 11, 1), 4)]
    waiting = {date(2026, 9, 1): 7, date(2026, 10, 1): 8}
    logs = Table(LOGS, ranges, waiting, kept=timedelta(days=30))
    told = "7 rows older than the table's are kept: deleted where they are"
    assert plan([logs], NOW, Policy()) == [
        Action(LOGS, date(2026, 10, 1), "drain", "8 rows in the DEFAULT partition", 8),
        Action(LOGS, date(2026, 9, 1), "left", told, 7),
    ]
    kept = plan([logs], NOW, Policy(keep_old=True))
    assert [(a.month, a.kind) for a in kept] == [
        (date(2026, 9, 1), "drain"),
        (date(2026, 10, 1), "drain"),
    ]


def test_rows_of_no_month_stay_and_are_told() -> None:
    (action,) = plan([Table(LOGS, [span(date(2026, 11, 1), 4)], outside=2)], NOW, Policy())
    assert (action.kind, action.month, action.rows) == ("left", None, 2)
    assert action.reason == "2 rows of no month from 2000 to 2099"
    assert action.partition == "conversation.logs_default"
    assert (FIRST.year, END.year) == (2000, 2100)


def test_a_moment_without_zone_and_a_negative_number_are_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        plan([], NOW.replace(tzinfo=None), Policy())
    with pytest.raises(ValueError, match="months_ahead"):
        plan([], NOW, Policy(-1))
