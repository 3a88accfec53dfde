"""The law of user_progress: what the sessions add up to, computed in Python, beside what is stored."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

SUMS = {
    "total_descriptions": "descriptions_generated",
    "total_images": "images_processed",
    "total_questions_answered": "qa_attempts",
    "total_questions_correct": "qa_correct",
    "total_vocabulary_learned": "vocabulary_learned",
    "total_phrases_saved": "phrases_saved",
    "total_time_spent_minutes": "duration_minutes",
}
# A session moves the moment when it is of this type, or when it has counted anything of this kind.
LATEST = {
    "last_description_at": ("description", "descriptions_generated"),
    "last_qa_session_at": ("qa", "qa_attempts"),
    "last_vocabulary_practice_at": ("vocabulary", "vocabulary_learned"),
}
COUNTED = (
    *SUMS,
    "total_sessions",
    "last_activity_at",
    *LATEST,
    "current_streak_days",
    "longest_streak_days",
    "last_streak_date",
)
GENERATED = ("average_accuracy", "average_completion_time_seconds")
STORED = (*COUNTED, *GENERATED)
READ = ("session_type", "ended_at", *SUMS.values())

# One statement, hence one snapshot: every learner, the stored row if any, each ended session if any.
BOTH = f"""
    SELECT learner.id, progress.id IS NOT NULL, session.id IS NOT NULL,
        {", ".join(f"progress.{name}" for name in STORED)}, {", ".join(f"session.{name}" for name in READ)}
    FROM vocabulary.users AS learner
    LEFT JOIN vocabulary.user_progress AS progress ON progress.user_id = learner.id
    LEFT JOIN vocabulary.sessions AS session ON session.user_id = learner.id AND session.ended_at IS NOT NULL
"""
FOUND = """
    SELECT learner.id, found.name, found.stored, found.counted
    FROM vocabulary.users AS learner, vocabulary.recompute_user_progress(learner.id) AS found
"""

Row = dict[str, Any]


class Seen(NamedTuple):
    """A learner's stored row, None when there is none, and the ended sessions."""

    stored: Row | None
    sessions: list[Row]


def see(connection: psycopg.Connection) -> dict[UUID, Seen]:
    """Every learner, in one snapshot. Moments are UTC's, whatever the connection's TimeZone."""
    seen: dict[UUID, Seen] = {}
    for learner, has_row, has_session, *values in connection.execute(BOTH):
        cut = len(STORED)
        if learner not in seen:
            seen[learner] = Seen(_row(STORED, values[:cut]) if has_row else None, [])
        if has_session:
            seen[learner].sessions.append(_row(READ, values[cut:]))
    return seen


def _row(names: Iterable[str], values: Iterable[Any]) -> Row:
    utc = (value.astimezone(UTC) if isinstance(value, datetime) else value for value in values)
    return dict(zip(names, utc, strict=True))


def expected(sessions: list[Row]) -> Row:
    """What the row must hold for these ended sessions."""
    found: Row = {total: sum(session[name] or 0 for session in sessions) for total, name in SUMS.items()}
    found["total_sessions"] = len(sessions)
    found["last_activity_at"] = max((session["ended_at"] for session in sessions), default=None)
    for moment, (kind, counter) in LATEST.items():
        of_kind = [s["ended_at"] for s in sessions if s["session_type"] == kind or s[counter] > 0]
        found[moment] = max(of_kind, default=None)
    days = {session["ended_at"].date() for session in sessions}
    latest = max(days, default=None)
    found["last_streak_date"] = latest
    found["current_streak_days"] = 0 if latest is None else _days_in_a_row(days, latest)
    found["longest_streak_days"] = max((_days_in_a_row(days, day) for day in days), default=0)
    found["average_accuracy"] = _rounded(
        Fraction(100 * found["total_questions_correct"], max(found["total_questions_answered"], 1)), "0.01"
    )
    found["average_completion_time_seconds"] = int(
        _rounded(Fraction(60 * found["total_time_spent_minutes"], max(len(sessions), 1)), "1")
    )
    return found


def _days_in_a_row(days: set[date], last: date) -> int:
    """How many days, `last` and those right before it, are among `days`."""
    number = 0
    while last - timedelta(days=number) in days:
        number += 1
    return number


def _rounded(exact: Fraction, unit: str) -> Decimal:
    return (Decimal(exact.numerator) / exact.denominator).quantize(Decimal(unit), ROUND_HALF_UP)


def broken(connection: psycopg.Connection) -> list[str]:
    """Where the law does not hold, a line for each difference; nothing where it holds for every learner."""
    found = []
    for learner, (stored, sessions) in see(connection).items():
        if stored is None:
            found.append(f"{learner} has no row")
            continue
        for name, right in expected(sessions).items():
            if stored[name] != right:
                found.append(f"{learner}: {name} is {stored[name]}, must be {right}")
    return found


def recomputed(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    """What vocabulary.recompute_user_progress finds, and repairs, for all learners; the service asks."""
    connection.execute("SET LOCAL ROLE service_role")
    found = connection.execute(FOUND).fetchall()
    connection.execute("SET LOCAL ROLE NONE")
    return found


def assert_holds(connection: psycopg.Connection) -> None:
    """The stored rows are right by this module's own computation and by the database's."""
    with connection.transaction():
        assert broken(connection) == []
        assert recomputed(connection) == []
