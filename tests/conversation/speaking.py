"""Sessions in which people talk, and how a test waits for somebody else's connection."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from carnivore_db import Identity
from carnivore_db.conversation import messages, sessions
from carnivore_db.conversation.models import ChatType, Message, Role
from tests.conversation.samples import SERVICE, Person
from tests.support.callers import Caller
from tests.support.databases import one
from tests.support.factories import put

OLD = datetime(2024, 5, 1, 12, tzinfo=UTC)  # of interest to the archive
# Who may speak in which chat.
VOICES: tuple[tuple[Role, ChatType], ...] = (
    ("user", "main"),
    ("main_assistant", "main"),
    ("user", "helper"),
    ("helper_assistant", "helper"),
)
COUNTS = "SELECT message_count_main, message_count_helper FROM conversation.sessions WHERE id = %s"


def started(caller: Caller, person: Person, scenario: str = "marketplace") -> UUID:
    """An open session of somebody."""
    return caller.call(person.identity, sessions.start, person.id, scenario).id


def say(
    caller: Caller, session_id: UUID, content: str = "Hallo", *, who: Identity = SERVICE, **given: Any
) -> Message:
    """A message, the partner's when the service sends it and nothing else is said."""
    given = ({"role": "main_assistant"} if who == SERVICE else {}) | given
    return caller.call(who, messages.send, session_id, content, **given)


def opened(owner: psycopg.Connection, person: Person, when: datetime = OLD) -> UUID:
    """A session that was opened then, and is open still."""
    given = {"user_id": person.id, "scenario_id": 1, "started_at": when, "last_activity_at": when}
    made: UUID = put(owner, "conversation.sessions", **given)["id"]
    return made


def speak(owner: psycopg.Connection, session_id: UUID, when: datetime = OLD, said: int = 4) -> None:
    """Messages a minute apart, of all voices in turn."""
    for number in range(said):
        role, chat = VOICES[number % len(VOICES)]
        said_at = {"content": f"Satz {number}", "sent_at": when + timedelta(minutes=number)}
        put(owner, "conversation.messages", session_id=session_id, role=role, chat_type=chat, **said_at)


def spoken(owner: psycopg.Connection, person: Person, when: datetime = OLD, said: int = 4) -> UUID:
    """A session of so many messages, completed a day later."""
    session = opened(owner, person, when)
    speak(owner, session, when, said)
    owner.execute(
        "UPDATE conversation.sessions SET is_completed = true, completed_at = %s WHERE id = %s",
        [when + timedelta(days=1), session],
    )
    return session


def archive(owner: psycopg.Connection, number: int) -> None:
    """Move so many messages to the archive."""
    assert one(owner, "SELECT conversation.archive_messages(%s)", number) == number


def holding(owner: psycopg.Connection, secret: str) -> list[str]:
    """The tables of the schema in which any row holds this text."""
    tables = owner.execute(
        "SELECT oid::regclass::text AS name FROM pg_class WHERE relnamespace = 'conversation'::regnamespace"
        " AND relkind = 'r' ORDER BY 1"
    ).fetchall()
    return [
        row["name"]
        for row in tables
        if one(
            owner, f"SELECT count(*) FROM {row['name']} AS t WHERE strpos(to_jsonb(t)::text, %s) > 0", secret
        )
    ]
