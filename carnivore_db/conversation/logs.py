"""The log of events (document 20251110150000): the service appends and searches, a person reads their own."""

from uuid import UUID

from pydantic import AwareDatetime
from sqlalchemy import insert, select, tuple_
from sqlalchemy.orm import Session

from carnivore_db.conversation.models import EventType, Level, Log
from carnivore_db.conversation.payloads import Code, Description, FactsInput
from carnivore_db.kit.inputs import Limit, validated
from carnivore_db.kit.paging import Page, UuidCursor, page_of
from carnivore_db.kit.rows import FRESH


@validated
def write(
    tx: Session,
    level: Level,
    event_type: Code,
    *,
    user_id: UUID | None = None,
    session_id: UUID | None = None,
    metadata: FactsInput | None = None,
    created_at: AwareDatetime | None = None,
) -> UUID:
    """Log an event, as the service; now, when `created_at` is not given. Returns its id.

    `metadata` takes at most 64 KiB. What is written in a transaction that fails is gone with it: log a
    failure in a transaction of its own. Raises InvalidInput (an unknown `event_type`), ProfileNotFound,
    SessionNotFound.
    """
    given = {
        "level": level,
        "event_type": event_type,
        "user_id": user_id,
        "session_id": session_id,
        "facts": metadata,
        "created_at": created_at,
    }
    values = {name: value for name, value in given.items() if value is not None}
    return tx.scalars(insert(Log).values(values).returning(Log.id)).one()


@validated
def search(
    tx: Session,
    *,
    metadata: FactsInput | None = None,
    session_id: UUID | None = None,
    user_id: UUID | None = None,
    level: Level | None = None,
    event_type: Code | None = None,
    since: AwareDatetime | None = None,
    limit: Limit = 100,
    after: UuidCursor | None = None,
) -> Page[Log]:
    """Events newest first that fit everything given; `metadata` is what theirs must contain.

    `since` (with a time zone) leaves whole months out. Pass the last page's `next` as `after`.
    """
    wanted = {Log.session_id: session_id, Log.user_id: user_id, Log.level: level, Log.event_type: event_type}
    rows = select(Log).where(*(column == value for column, value in wanted.items() if value is not None))
    if metadata is not None:
        rows = rows.where(Log.facts.contains(metadata))
    if since is not None:
        rows = rows.where(Log.created_at >= since)
    if after is not None:
        rows = rows.where(tuple_(Log.created_at, Log.id) < tuple_(*after))
    rows = rows.order_by(Log.created_at.desc(), Log.id.desc()).limit(limit + 1)
    found = list(tx.scalars(rows, execution_options=FRESH))
    return page_of(found, limit, lambda event: (event.created_at, event.id))


@validated
def add_event_type(tx: Session, code: Code, description: Description) -> None:
    """A new type of event, as the service. Raises AlreadyExists."""
    tx.execute(insert(EventType).values(code=code, description=description))
