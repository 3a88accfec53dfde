"""Learners: their row, their preferences, their going (document 001)."""

from uuid import UUID

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from carnivore_db.errors import UserNotFound
from carnivore_db.kit.inputs import Email, validated
from carnivore_db.kit.rows import first, one
from carnivore_db.vocabulary.models import User
from carnivore_db.vocabulary.payloads import Profile


@validated
def register(tx: Session, user_id: UUID, email: Email, profile: Profile | None = None) -> User:
    """A new learner: as the service, or as the person, under the id and address they logged in with.

    A row of progress is made with it. Raises AlreadyExists (the id, the address or the username),
    PermissionRefused (somebody else's id or address), InvalidInput.
    """
    values = {"id": user_id, "email": email, **(profile.values() if profile else {})}
    return tx.scalars(insert(User).values(values).returning(User)).one()


@validated
def get(tx: Session, user_id: UUID) -> User:
    """The learner of this id. Raises UserNotFound, also for a row that the caller may not see."""
    return one(tx, select(User).where(User.id == user_id), UserNotFound)


@validated
def find_by_email(tx: Session, email: Email) -> User | None:
    """The learner of this address, upper or lower case, or None."""
    return first(tx, select(User).where(User.email == email))


@validated
def save_profile(tx: Session, user_id: UUID, profile: Profile) -> User:
    """Save what `profile` was given, and leave the rest. Raises UserNotFound, AlreadyExists, InvalidInput."""
    return _change(tx, user_id, **profile.values())


@validated
def change_email(tx: Session, user_id: UUID, email: Email) -> User:
    """Follow a change of the login's address, as the service. Raises UserNotFound, AlreadyExists."""
    return _change(tx, user_id, email=email)


@validated
def record_login(tx: Session, user_id: UUID) -> User:
    """Note a verified login now, as the service. Raises UserNotFound."""
    return _change(tx, user_id, is_authenticated=True, last_login=func.now())


def _change(tx: Session, user_id: UUID, **values: object) -> User:
    if not values:
        return get(tx, user_id)
    change = update(User).where(User.id == user_id).values(**values)
    return one(tx, change.returning(User), UserNotFound)


@validated
def erase(tx: Session, user_id: UUID) -> None:
    """Delete a learner with all that is theirs, as the service; their exports' files go with the next
    `carnivore-db exports expire`. Raises UserNotFound."""
    one(tx, delete(User).where(User.id == user_id).returning(User.id), UserNotFound)
