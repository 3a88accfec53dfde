"""People of the chat: their row, their week, their going (document 20251110150000).

A profile is made by the database when somebody signs up; counts and week are the database's too.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Text, cast, func, select, text, update
from sqlalchemy.orm import Session

from carnivore_db.conversation.models import Profile
from carnivore_db.errors import ProfileNotFound
from carnivore_db.kit.inputs import Email, validated
from carnivore_db.kit.rows import first, one

# A week that is over has no completion after it: whoever completes a session begins the new week.
_ALLOWANCE = text("""
    SELECT rule.allowed, CASE WHEN week.goes_on THEN person.current_week_completion_count ELSE 0 END AS used,
        CASE WHEN week.goes_on THEN person.week_reset_date
            ELSE (date_trunc('week', now() AT TIME ZONE 'UTC') + interval '7 days') AT TIME ZONE 'UTC'
        END AS resets_at
    FROM conversation.profiles AS person
    CROSS JOIN LATERAL (SELECT person.week_reset_date > now() AS goes_on) AS week
    LEFT JOIN conversation.rate_limits AS rule ON rule.code = 'completed_scenarios' AND rule.enforced
    WHERE person.id = CAST(:user_id AS uuid)
""")
_LEAVE = text("SELECT conversation.delete_own_profile()")
_ERASE = text("SELECT conversation.erase_profile(CAST(:user_id AS uuid))")


@dataclass(frozen=True)
class Allowance:
    """Scenes a person may complete this week: `allowed` is None where the limit is not enforced.

    `resets_at` is the Monday, 00:00 UTC, when the next week begins.
    """

    allowed: int | None
    used: int
    resets_at: datetime

    @property
    def remaining(self) -> int | None:
        """How many are left, never less than 0."""
        return None if self.allowed is None else max(self.allowed - self.used, 0)


@validated
def get(tx: Session, user_id: UUID) -> Profile:
    """The profile of this id, for the service also of a person who has left.

    Raises ProfileNotFound, also for a row that the caller may not see.
    """
    return one(tx, select(Profile).where(Profile.id == user_id), ProfileNotFound)


@validated
def find_by_email(tx: Session, email: Email) -> Profile | None:
    """The profile of this address, in whatever case, or None."""
    return first(tx, select(Profile).where(cast(Profile.email, Text) == email))


@validated
def allowance(tx: Session, user_id: UUID) -> Allowance:
    """How many scenes the person may still complete this week (UTC), whether or not the weekly reset ran.

    Raises ProfileNotFound.
    """
    found = tx.execute(_ALLOWANCE, {"user_id": user_id}).one_or_none()
    if found is None:
        raise ProfileNotFound
    return Allowance(*found)


@validated
def change_email(tx: Session, user_id: UUID, email: Email) -> Profile:
    """Follow a change of the login's address, as the service.

    Raises ProfileNotFound, AlreadyExists, InvalidInput for somebody who was erased.
    """
    return _change(tx, user_id, email=email)


def leave(tx: Session) -> datetime:
    """The person of this transaction leaves: soft deletion, as they themselves. Returns when.

    They see and write nothing any more. Raises ProfileNotFound for somebody who has left before.
    """
    left: datetime = tx.execute(_LEAVE).scalar_one()
    return left


@validated
def deactivate(tx: Session, user_id: UUID) -> Profile:
    """Hide a person and everything of theirs until `restore`, as the service; twice changes nothing.

    Raises ProfileNotFound.
    """
    return _change(tx, user_id, deleted_at=func.coalesce(Profile.deleted_at, func.now()))


@validated
def restore(tx: Session, user_id: UUID) -> Profile:
    """Let a person who left come back, as the service.

    Raises ProfileNotFound, InvalidInput for one who was erased.
    """
    return _change(tx, user_id, deleted_at=None)


def _change(tx: Session, user_id: UUID, **values: object) -> Profile:
    change = update(Profile).where(Profile.id == user_id).values(**values)
    return one(tx, change.returning(Profile), ProfileNotFound)


@validated
def erase(tx: Session, user_id: UUID) -> int:
    """Erase for good what a person said, their address and what was logged of them (GDPR), as the service.

    Counts stay, and the erasure is logged. Their login is not this package's to delete. Returns how many
    messages were redacted: none the second time. Raises ProfileNotFound.
    """
    redacted: int = tx.execute(_ERASE, {"user_id": user_id}).scalar_one()
    tx.expire_all()
    return redacted
