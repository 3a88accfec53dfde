"""What partitions lack, as a list of actions with their reasons; `carnivore.partition_plan` decides."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal, Self

from sqlalchemy import Connection, text

from carnivore_db.settings import Settings

# create: an empty month. drain: a month for rows of the DEFAULT partition, with them. conflict: a month that
# cannot be made, for a person to settle. left: rows that stay in the DEFAULT partition.
Kind = Literal["create", "drain", "conflict", "left"]

_PLAN = text("""
    SELECT parent, month, kind, reason, rows FROM carnivore.partition_plan(
        :months_ahead, :keep_old, coalesce(CAST(:at AS timestamptz), now()))
    ORDER BY rank, month NULLS LAST, parent
""")


@dataclass(frozen=True, slots=True)
class Policy:
    """What is wanted. `months_ahead`: months beyond this one, 0 or more, that have a partition.

    `keep_old`: months whose rows are about to be deleted get a partition too: the archive takes partitions.
    """

    months_ahead: int
    keep_old: bool = False

    @classmethod
    def of(cls, settings: Settings, months_ahead: int | None = None) -> Self:
        """What the settings want; `months_ahead` when given."""
        return cls(months_ahead or settings.partition_months_ahead, keep_old=settings.archive_logs)


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do or to report: `month` is its first day (UTC), None for rows of no month."""

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


def plan(connection: Connection, policy: Policy, at: datetime | None = None) -> list[Action]:
    """The months to make, in the order in which to make them, and what only a person can settle.

    First months with rows in the DEFAULT partition, oldest first: each hour adds rows to move. Then this
    month and those ahead, then gaps after a table's first month, then what is only reported. Rows that are
    about to be deleted by age are left where they are, unless `policy.keep_old`. Reads each DEFAULT partition
    whole.

    `connection` is the migrating role's; `at` has a time zone, and is now when not given. Raises ValueError
    for one without.
    """
    if at is not None and at.tzinfo is None:
        raise ValueError("at needs a time zone")
    wanted = {"months_ahead": policy.months_ahead, "keep_old": policy.keep_old, "at": at}
    return [Action(*row) for row in connection.execute(_PLAN, wanted)]
