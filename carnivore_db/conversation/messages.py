"""Messages of a session (document 20251110150000): sent once, never changed, read page by page."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from pydantic import AwareDatetime
from sqlalchemy import ColumnElement, DateTime, Select, cast, null, select, tuple_, union_all
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from carnivore_db.conversation.models import ArchivedMessage, ChatType, Message, Role
from carnivore_db.conversation.payloads import Content
from carnivore_db.errors import AlreadyExists
from carnivore_db.kit.inputs import Limit, validated
from carnivore_db.kit.paging import Cursor, Page, UuidCursor, page_of
from carnivore_db.kit.rows import FRESH

_SENT_TWICE = "idx_messages_client_message_id"
Sent = TypeVar("Sent", Message, ArchivedMessage)


@dataclass(frozen=True)
class StoredMessage:
    """A message as a page shows it; `archived_at` is None while it is not in the archive."""

    id: UUID
    session_id: UUID
    role: Role
    chat_type: ChatType
    content: str = field(repr=False)
    sent_at: datetime
    archived_at: datetime | None


@validated
def send(
    tx: Session,
    session_id: UUID,
    content: Content,
    *,
    role: Role = "user",
    chat_type: ChatType = "main",
    client_message_id: UUID | None = None,
    sent_at: AwareDatetime | None = None,
) -> Message | ArchivedMessage:
    """Store a message of at most 8,000 characters; it never changes.

    With `client_message_id`, the sender's own, a message that is sent twice is stored once and both calls
    return it, also when its session was completed or it was archived in between. `sent_at`, in the past, is
    the service's to give; otherwise messages of a session have the order of their commits. Raises
    SessionNotFound, SessionCompleted, RateLimited, ProfileDeleted, InvalidInput (`role` and `chat_type` do
    not go together), AlreadyExists (another message has this `client_message_id`).
    """
    given = {
        "session_id": session_id,
        "content": content,
        "role": role,
        "chat_type": chat_type,
        "client_message_id": client_message_id,
        "sent_at": sent_at,
    }
    values = {name: value for name, value in given.items() if value is not None}
    once = insert(Message).values(values)
    if client_message_id is None:
        return tx.scalars(once.returning(Message)).one()
    stored: Message | ArchivedMessage | None = _find(tx, Message, session_id, client_message_id)
    if stored is None:
        once = once.on_conflict_do_nothing(
            index_elements=[Message.session_id, Message.client_message_id],
            index_where=Message.client_message_id.is_not(None),
        )
        stored = (
            tx.scalars(once.returning(Message)).one_or_none()
            or _find(tx, Message, session_id, client_message_id)
            or _find(tx, ArchivedMessage, session_id, client_message_id)
        )
    if stored is None or (stored.role, stored.chat_type, stored.content) != (role, chat_type, content):
        raise AlreadyExists(_SENT_TWICE)
    return stored


def _find(tx: Session, kind: type[Sent], session_id: UUID, client_message_id: UUID) -> Sent | None:
    same = (kind.session_id == session_id, kind.client_message_id == client_message_id)
    return tx.scalars(select(kind).where(*same), execution_options=FRESH).one_or_none()


@validated
def page(
    tx: Session,
    session_id: UUID,
    *,
    chat_type: ChatType | None = None,
    limit: Limit = 50,
    after: UuidCursor | None = None,
    newest_first: bool = False,
) -> Page[StoredMessage]:
    """A session's messages in order, archived ones among them; of both chats, or of one.

    Pass the last page's `next` as `after`, with the same `newest_first`: messages that were sent at the same
    moment are neither skipped nor repeated. A session that the caller may not see has none.
    """
    # Each is limited by itself: the planner then reads a page by its index, however long the session is.
    wanted = (session_id, chat_type, limit + 1, after, newest_first)
    halves = [_part(Message, *wanted).subquery(), _part(ArchivedMessage, *wanted).subquery()]
    both = union_all(*(select(*half.c) for half in halves)).subquery()
    rows = select(*both.c).order_by(*_order(both.c, newest_first)).limit(limit + 1)
    found = [StoredMessage(**row._mapping) for row in tx.execute(rows)]
    return page_of(found, limit, lambda message: (message.sent_at, message.id))


def _part(
    kind: type[Sent],
    session_id: UUID,
    chat_type: ChatType | None,
    limit: int,
    after: Cursor | None,
    newest_first: bool,
) -> Select[*tuple[Any, ...]]:
    """The page as it would be if there were this table alone."""
    archived_at = getattr(kind, "archived_at", null())
    columns = (kind.id, kind.session_id, kind.role, kind.chat_type, kind.content, kind.sent_at)
    rows = select(*columns, cast(archived_at, DateTime(timezone=True)).label("archived_at"))
    rows = rows.where(kind.session_id == session_id)
    place = tuple_(kind.sent_at, kind.id)
    if chat_type is not None:
        rows = rows.where(kind.chat_type == chat_type)
    if after is not None:
        rows = rows.where(place < tuple_(*after) if newest_first else place > tuple_(*after))
    return rows.order_by(*_order(kind, newest_first)).limit(limit)


def _order(rows: Any, newest_first: bool) -> tuple[ColumnElement[Any], ...]:
    return (rows.sent_at.desc(), rows.id.desc()) if newest_first else (rows.sent_at, rows.id)
