"""Sessions of learners and guests (document 001). A session has ended when it has `ended_at`.

What they add up to is kept by the database: see `progress`.
"""

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field
from sqlalchemy import delete, func, insert, select, tuple_, update
from sqlalchemy.orm import Session

from carnivore_db.errors import SessionEnded, SessionNotFound
from carnivore_db.kit.inputs import ClientIP, Limit, Text, UserAgent, validated
from carnivore_db.kit.paging import Page, UuidCursor, page_of
from carnivore_db.kit.rows import FRESH, one
from carnivore_db.vocabulary.models import LearningSession, SessionType
from carnivore_db.vocabulary.payloads import Count, SessionDataInput, Work


@validated
def start(
    tx: Session,
    session_type: SessionType,
    *,
    user_id: UUID | None = None,
    session_id: UUID | None = None,
    started_at: AwareDatetime | None = None,
    user_agent: UserAgent = None,
    ip_address: ClientIP = None,
    device_type: Annotated[Text, Field(max_length=50)] | None = None,
) -> LearningSession:
    """A session that begins now, or began at `started_at` (2000 to 2099, with a time zone).

    Without `user_id` it is a guest's. Guests' sessions and `ip_address` are the service's to write; all
    else a learner writes too. Raises UserNotFound, AlreadyExists (`session_id`), PermissionRefused,
    InvalidInput.
    """
    given = {
        "id": session_id,
        "user_id": user_id,
        "session_type": session_type,
        "started_at": started_at,
        "user_agent": user_agent,
        "ip_address": ip_address,
        "device_type": device_type,
    }
    values = {column: value for column, value in given.items() if value is not None}
    return tx.scalars(insert(LearningSession).values(values).returning(LearningSession)).one()


@validated
def get(tx: Session, session_id: UUID) -> LearningSession:
    """The session of this id. Raises SessionNotFound, also for a row that the caller may not see."""
    return one(tx, select(LearningSession).where(LearningSession.id == session_id), SessionNotFound)


@validated
def list_by_user(
    tx: Session,
    user_id: UUID,
    *,
    limit: Limit = 50,
    after: UuidCursor | None = None,
) -> Page[LearningSession]:
    """A learner's sessions, newest first. Pass the last page's `next` as `after`."""
    newest = select(LearningSession).where(LearningSession.user_id == user_id)
    if after is not None:
        newest = newest.where(tuple_(LearningSession.started_at, LearningSession.id) < tuple_(*after))
    newest = newest.order_by(LearningSession.started_at.desc(), LearningSession.id.desc()).limit(limit + 1)
    found = tx.scalars(newest, execution_options=FRESH).all()
    return page_of(found, limit, lambda session: (session.started_at, session.id))


@validated
def save(
    tx: Session, session_id: UUID, work: Work | None = None, *, session_data: SessionDataInput | None = None
) -> LearningSession:
    """Save a session's numbers, and the keys of `session_data` over those that are there (64 KiB in all).

    An ended session is corrected, and its learner's progress with it. Raises SessionNotFound, InvalidInput.
    """
    values = dict[str, object](work.values() if work else {})
    if session_data is not None:
        values["session_data"] = LearningSession.session_data.op("||")(session_data)
    return _change(tx, session_id, **values)


@validated
def end(
    tx: Session,
    session_id: UUID,
    work: Work | None = None,
    *,
    ended_at: AwareDatetime | None = None,
    duration_minutes: Count | None = None,
) -> LearningSession:
    """End a session now or at `ended_at`, with its last numbers; progress counts it in the same transaction.

    `duration_minutes` is derived when not given. Raises SessionNotFound, SessionEnded (it had ended before:
    nothing changes, and `correct` would change it), InvalidInput.
    """
    values = dict[str, object](work.values() if work else {})
    values["ended_at"] = ended_at or func.greatest(func.now(), LearningSession.started_at)
    if duration_minutes is not None:
        values["duration_minutes"] = duration_minutes
    still_open = (LearningSession.id == session_id, LearningSession.ended_at.is_(None))
    change = update(LearningSession).where(*still_open).values(**values).returning(LearningSession)
    ended = tx.scalars(change, execution_options=FRESH).one_or_none()
    if ended is None:
        raise SessionEnded(get(tx, session_id).ended_at)
    return ended


@validated
def correct(
    tx: Session,
    session_id: UUID,
    *,
    started_at: AwareDatetime | None = None,
    ended_at: AwareDatetime | None = None,
    duration_minutes: Count | None = None,
    session_type: SessionType | None = None,
) -> LearningSession:
    """Correct when a session was, how long it took or what it was for; None leaves a value as it is.

    A derived duration follows the moments. Raises SessionNotFound, InvalidInput.
    """
    given = {"started_at": started_at, "ended_at": ended_at, "session_type": session_type}
    values = {column: value for column, value in given.items() if value is not None}
    session = _change(tx, session_id, **values)
    if duration_minutes is None:
        return session
    # By itself: beside new moments, the database takes the number that it derived before for its own.
    return _change(tx, session_id, duration_minutes=duration_minutes)


@validated
def reopen(tx: Session, session_id: UUID) -> LearningSession:
    """Let an ended session go on, uncounted and without a duration. Raises SessionNotFound."""
    return _change(tx, session_id, ended_at=None, duration_minutes=None)


@validated
def assign(tx: Session, session_id: UUID, user_id: UUID) -> LearningSession:
    """Give a session to a learner, as the service: a guest's whose visitor signed up.

    Raises SessionNotFound, UserNotFound.
    """
    return _change(tx, session_id, user_id=user_id)


def _change(tx: Session, session_id: UUID, **values: object) -> LearningSession:
    if not values:
        return get(tx, session_id)
    change = update(LearningSession).where(LearningSession.id == session_id).values(**values)
    return one(tx, change.returning(LearningSession), SessionNotFound)


@validated
def remove(tx: Session, session_id: UUID) -> None:
    """Delete a session; progress no longer counts it. Raises SessionNotFound."""
    gone = delete(LearningSession).where(LearningSession.id == session_id).returning(LearningSession.id)
    one(tx, gone, SessionNotFound)
