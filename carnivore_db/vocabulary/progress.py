"""A learner's progress (document 001): what the ended sessions add up to, kept by the database.

The totals are nobody's to write. Days are UTC's.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated
from uuid import UUID

from pydantic import Field
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from carnivore_db.errors import UserNotFound
from carnivore_db.kit.inputs import Limit, validated
from carnivore_db.kit.rows import FRESH, one
from carnivore_db.vocabulary.models import UserProgress

_RECOMPUTE = text(
    "SELECT name, stored, counted FROM vocabulary.recompute_user_progress(CAST(:user_id AS uuid))"
)
Number = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]


@dataclass(frozen=True)
class Difference:
    """A total that was not what the sessions add up to, as text."""

    name: str
    stored: str | None
    counted: str | None


@validated
def get(tx: Session, user_id: UUID) -> UserProgress:
    """The learner's progress. Raises UserNotFound, also for a row that the caller may not see."""
    return one(tx, select(UserProgress).where(UserProgress.user_id == user_id), UserNotFound)


def streak_on(progress: UserProgress, day: date) -> int:
    """The current streak as seen on `day` (UTC), the last one or later: 0 once a whole day had no session."""
    last = progress.last_streak_date
    runs = last is not None and timedelta(0) <= day - last <= timedelta(days=1)
    return progress.current_streak_days if runs else 0


@validated
def recently_active(tx: Session, *, limit: Limit = 10) -> list[UserProgress]:
    """Progress of the learners who were last active, latest first, as the service."""
    latest = UserProgress.last_activity_at
    # `DESC` puts NULL first, and the index with it; those who never were active are not asked for.
    active = select(UserProgress).where(latest.is_not(None)).order_by(latest.desc()).limit(limit)
    return list(tx.scalars(active, execution_options=FRESH))


@validated
def save_words(
    tx: Session, user_id: UUID, *, mastered: Number, learning: Number, new: Number
) -> UserProgress:
    """Save how many words the app holds for mastered, being learned and new. Raises UserNotFound."""
    return _change(
        tx, user_id, mastered_words_count=mastered, learning_words_count=learning, new_words_count=new
    )


@validated
def award_points(tx: Session, user_id: UUID, points: Number) -> UserProgress:
    """Add points, as the service. Raises UserNotFound, InvalidInput (the total would not fit)."""
    return _change(tx, user_id, total_points=UserProgress.total_points + points)


def _change(tx: Session, user_id: UUID, **values: object) -> UserProgress:
    change = update(UserProgress).where(UserProgress.user_id == user_id).values(**values)
    return one(tx, change.returning(UserProgress), UserNotFound)


@validated
def recompute(tx: Session, user_id: UUID) -> list[Difference]:
    """Count a learner's sessions anew, as the service: says what differed and repairs it.

    An empty list proves that the progress was right. Raises UserNotFound.
    """
    return [Difference(*row) for row in tx.execute(_RECOMPUTE, {"user_id": user_id})]
