"""People, sessions and messages that tests of the chat begin with."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg

from carnivore_db import Identity, identity
from tests.support.databases import TestDatabase, empty
from tests.support.factories import put

SERVICE = identity.service()
VISITOR = identity.anonymous()
NOBODY = UUID(int=5)  # an id that no row has
LONG_AGO = datetime(2026, 1, 5, 12, tzinfo=UTC)  # a Monday


# What the revisions put there stays, as they put it.
RESTORE = """
    DELETE FROM auth.users;
    DELETE FROM conversation.scenarios WHERE id > 3;
    UPDATE conversation.scenarios SET is_active = true;
    DELETE FROM conversation.rate_limits;
    INSERT INTO conversation.rate_limits (code, allowed, per)
    VALUES ('messages', 30, '1 minute'), ('completed_scenarios', 3, '7 days');
"""


def tidy(database: TestDatabase) -> None:
    """Leave of the chat what the revisions made."""
    empty(database, "conversation", but={"event_types", "rate_limits", "scenarios"})
    with database.connect() as connection:
        connection.execute(RESTORE)


@dataclass(frozen=True)
class Person:
    """Somebody who has signed up, and how they are known when they log in."""

    id: UUID
    email: str

    @property
    def identity(self) -> Identity:
        return identity.user(self.id, self.email)


def sign_up(owner: psycopg.Connection, email: str | None = None) -> Person:
    """A new login, as the auth service makes it; the database makes the profile."""
    made = uuid4()
    person = Person(made, email or f"{made}@example.com")
    put(owner, "auth.users", id=person.id, email=person.email)
    return person


def completed(owner: psycopg.Connection, person: Person, when: datetime, **given: Any) -> UUID:
    """A session that was completed then; by the owner, whom no limit concerns when it was another week."""
    row = {"user_id": person.id, "scenario_id": 1, "is_completed": True, "started_at": when, **given}
    made: UUID = put(
        owner, "conversation.sessions", **{"completed_at": when, "last_activity_at": when, **row}
    )["id"]
    return made
