"""The law of the counts: what a person's completed sessions add up to, beside what is stored."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg

WEEK = timedelta(days=7)
INSTANT = timedelta(microseconds=1)

# One statement, hence one snapshot: every person, and each completed session if any.
BOTH = """
    SELECT person.id, completed_scenario_count, current_week_completion_count, week_reset_date, completed_at
    FROM conversation.profiles AS person
    LEFT JOIN conversation.sessions AS session ON session.user_id = person.id AND session.is_completed
    ORDER BY person.id
"""


def broken(connection: psycopg.Connection) -> list[str]:
    """Where the law does not hold, a line for each difference; nothing where it holds for everybody."""
    seen: dict[tuple[UUID, int, int, datetime], list[datetime]] = {}
    for *person, completed_at in connection.execute(BOTH):
        seen.setdefault(tuple(person), []).extend([completed_at] if completed_at else [])
    found = []
    for (who, total, week, local_reset), moments in seen.items():
        reset = local_reset.astimezone(UTC)  # elsewhere a week may have an hour more or less
        if total != len(moments):
            found.append(f"{who}: total is {total}, must be {len(moments)}")
        since = sum(moment >= reset - WEEK for moment in moments)
        if week != since:
            found.append(f"{who}: the week's count is {week}, must be {since}")
        if reset != monday_of(reset):
            found.append(f"{who}: the week ends at {reset}")
    return found


def monday_of(moment: datetime) -> datetime:
    """When the week began that a moment lies in: Monday 00:00 UTC."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())
