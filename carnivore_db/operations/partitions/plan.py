"""What partitions lack, as a list of actions with their reasons: no clock and no database here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, Self

from carnivore_db.kit import months
from carnivore_db.settings import Settings

# create: an empty month. drain: a month for rows of the DEFAULT partition, with them. conflict: a month that
# cannot be made, for a person to settle. left: rows that stay in the DEFAULT partition.
Kind = Literal["create", "drain", "conflict", "left"]

# Moments outside belong to no month: a row may say 1970 or infinity, and no partition waits for those.
FIRST, END = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Table:
    """A partitioned table as it is now. All moments have a time zone, all months are UTC's first days."""

    name: str  # with its schema
    ranges: Sequence[tuple[datetime, datetime]]  # [lower, upper) of each partition but DEFAULT
    waiting: Mapping[date, int] = field(default_factory=dict)  # rows of the DEFAULT partition by month
    outside: int = 0  # its rows of no month from 2000 to 2099
    archived: frozenset[date] = frozenset()  # months that are in cold storage: no gaps
    kept: timedelta | None = None  # a month that ended so long ago is deleted; None: never


@dataclass(frozen=True, slots=True)
class Policy:
    """What is wanted. `months_ahead`: months beyond this one, 0 or more, that have a partition.

    `months_back`: how far back gaps are filled; without an end one row dated 2001 would bring 300 partitions.
    `keep_old`: months whose rows are about to be deleted get a partition too: the archive takes partitions.
    """

    months_ahead: int = 3
    months_back: int = 12
    keep_old: bool = False

    @classmethod
    def of(cls, settings: Settings, months_ahead: int | None = None) -> Self:
        """What the settings want; `months_ahead` when given."""
        return cls(months_ahead or settings.partition_months_ahead, keep_old=settings.archive_logs)


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do or to tell: `month` is its first day (UTC), None for rows of no month."""

    table: str
    month: date | None
    kind: Kind
    reason: str
    rows: int = 0

    @property
    def doable(self) -> bool:
        """Whether there is something to do; else it is for a person to read."""
        return self.kind in {"create", "drain"}

    @property
    def partition(self) -> str:
        """The month's partition, with its schema; the table's DEFAULT partition when there is no month."""
        return f"{self.table}_default" if self.month is None else f"{self.table}_{self.month:%Y_%m}"

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`; the month as 2026-11."""
        month = self.month and f"{self.month:%Y-%m}"
        return {
            "table": self.table, "month": month, "kind": self.kind, "reason": self.reason, "rows": self.rows,
        }  # fmt: skip


def plan(tables: Iterable[Table], now: datetime, policy: Policy) -> list[Action]:
    """The months to make, in the order in which to make them, and what only a person can settle.

    First months with rows in the DEFAULT partition, oldest first: each hour adds rows to move. Then this
    month and those ahead, then gaps after a table's first month, then what is only told. Rows that are about
    to be deleted by age are left where they are, unless `policy.keep_old`.

    Raises ValueError for a `now` without time zone, because its month would be a guess, and for a negative
    `months_ahead`.
    """
    if now.tzinfo is None:
        raise ValueError("now needs a time zone")
    if policy.months_ahead < 0:
        raise ValueError("months_ahead must be 0 or more")
    found = [ranked for table in tables for ranked in _of(table, now.astimezone(UTC), policy)]
    return [
        action
        for _, action in sorted(found, key=lambda one: (one[0], one[1].month or date.max, one[1].table))
    ]


def _of(table: Table, now: datetime, policy: Policy) -> Iterable[tuple[int, Action]]:
    """One table's actions, each with the rank of its kind."""
    this = months.number(now)
    for month, reason, rank in _wanted(table, now, policy, this):
        rows = table.waiting.get(month, 0)
        number = months.number(month)
        if rows and _gone(table, number, now, policy):
            told = f"{_rows(rows)} older than the table's are kept: deleted where they are"
            yield 4, Action(table.name, month, "left", told, rows)
            continue
        start, end = months.start(number), months.start(number + 1)
        overlapping = sorted(r for r in table.ranges if r[0] < end and r[1] > start)
        if months.covered(overlapping, number):
            continue
        if overlapping:
            lower, upper = overlapping[0]
            told = f"{reason}; a partition from {_moment(lower)} to {_moment(upper)} has a part of it"
            yield 3, Action(table.name, month, "conflict", told, rows)
        else:
            yield rank, Action(table.name, month, "drain" if rows else "create", reason, rows)
    if table.outside:
        told = f"{_rows(table.outside)} of no month from 2000 to 2099"
        yield 5, Action(table.name, None, "left", told, table.outside)


def _wanted(table: Table, now: datetime, policy: Policy, this: int) -> Iterable[tuple[date, str, int]]:
    """Each month that should have a partition once, why, and the rank of that reason."""
    for month, rows in table.waiting.items():
        if rows:
            yield month, f"{_rows(rows)} in the DEFAULT partition", 0
    for ahead in range(policy.months_ahead + 1):
        if not table.waiting.get(month := months.start(this + ahead).date()):
            yield month, ("this month", "next month", f"{ahead} months ahead")[min(ahead, 2)], 1
    # The months that are drained count as there, or the next plan would find gaps that this one made.
    drained = [months.number(month) for month, rows in table.waiting.items() if rows]
    there = [(months.number(lower), _last(upper)) for lower, upper in table.ranges if lower >= FIRST]
    there += [(number, number) for number in drained if not _gone(table, number, now, policy)]
    oldest = min((first for first, _ in there), default=this)
    for number in range(max(oldest, this - policy.months_back), this):
        month = months.start(number).date()
        # Without rows nobody archives it either.
        if not (number in drained or month in table.archived or _aged(table, number, now)):
            yield month, _gap(there, number, this), 2


def _gone(table: Table, number: int, now: datetime, policy: Policy) -> bool:
    """Whether the month's rows are about to be deleted."""
    return not policy.keep_old and _aged(table, number, now)


def _aged(table: Table, number: int, now: datetime) -> bool:
    return table.kept is not None and months.start(number + 1) <= now - table.kept


def _gap(there: Sequence[tuple[int, int]], number: int, this: int) -> str:
    """Between which months it lies, of those that are there: the last before it and the first after."""
    before = max((last for _, last in there if last < number), default=None)
    after = min((first for first, _ in there if first > number), default=this)
    return (
        f"gap before {_name(after)}" if before is None else f"gap between {_name(before)} and {_name(after)}"
    )


def _rows(number: int) -> str:
    return f"{number:,} row" + ("" if number == 1 else "s")


def _name(number: int) -> str:
    return f"{months.start(number):%Y-%m}"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}".removesuffix(" 00:00")


def _last(upper: datetime) -> int:
    """The month of the last moment before."""
    return months.number(upper - timedelta(microseconds=1))
