"""Keys of the chat follow what they refer to, and rows go or stay with it, as the document says."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.databases import TestDatabase

pytestmark = pytest.mark.document(40)
PERSON, SESSION, NEW = (f"00000000-0000-4000-8000-00000000000{number}" for number in (1, 2, 3))
# A message in the archive and one that is not, both of a completed session; and what was logged of it.
ROWS = f"""
    INSERT INTO auth.users (id, email) VALUES ('{PERSON}', 'ada@example.com');
    INSERT INTO conversation.scenarios
        (id, code, title, emoji, initial_message_main, initial_message_helper)
    VALUES (90, 'lake', 'At the lake', '🏊', 'Servus!', 'You are swimming.');
    INSERT INTO conversation.sessions (id, user_id, scenario_id, started_at)
    VALUES ('{SESSION}', '{PERSON}', 90, '2024-05-01 10:00+00');
    INSERT INTO conversation.messages (session_id, role, chat_type, content, sent_at) VALUES
        ('{SESSION}', 'user', 'main', 'Hallo', '2024-05-01 10:01+00'),
        ('{SESSION}', 'user', 'main', 'Servus', '2024-05-01 10:02+00');
    UPDATE conversation.sessions SET is_completed = true, completed_at = '2024-05-02 10:00+00';
    INSERT INTO conversation.logs (level, event_type, user_id, session_id)
    VALUES ('info', 'user_logout', '{PERSON}', '{SESSION}');
"""
LOGIN = f"UPDATE auth.users SET id = '{NEW}' WHERE id = '{PERSON}'"
OWN = f"UPDATE conversation.sessions SET id = '{NEW}' WHERE id = '{SESSION}'"
SCENE = "UPDATE conversation.scenarios SET id = 91 WHERE id = 90"
TYPE = "UPDATE conversation.event_types SET code = 'logout' WHERE code = 'user_logout'"
PEOPLE = ("profiles.id", "sessions.user_id", "messages.user_id", "messages_archive.user_id", "logs.user_id")
SESSIONS = ("messages.session_id", "messages_archive.session_id", "logs.session_id")
CHANGES = {
    "a login's id": (LOGIN, PERSON, NEW, PEOPLE),
    "a session's id": (OWN, SESSION, NEW, SESSIONS),
    "a scene's id": (SCENE, "90", "91", ("sessions.scenario_id",)),
    "an event type's code": (TYPE, "user_logout", "logout", ("logs.event_type",)),
}


@pytest.fixture
def head(plain_database: TestDatabase) -> Iterator[psycopg.Connection]:
    with plain_database.connect(autocommit=True) as connection:
        connection.execute(ROWS)
        connection.execute("SELECT conversation.archive_messages(1)")
        yield connection


def having(connection: psycopg.Connection, reference: str, value: str) -> int:
    """How many rows refer to it."""
    table, column = reference.split(".")
    query = f"SELECT count(*) FROM conversation.{table} WHERE {column}::text = %s"
    (found,) = connection.execute(query, [value]).fetchone() or (0,)
    return int(found)


@pytest.mark.parametrize("change", CHANGES)
def test_a_key_follows(head: psycopg.Connection, change: str) -> None:
    statement, old, new, references = CHANGES[change]
    before = {reference: having(head, reference, old) for reference in references}
    assert all(before.values())
    head.execute(statement)
    assert {reference: having(head, reference, new) for reference in references} == before
    assert not any(having(head, reference, old) for reference in references)


def test_messages_go_with_their_session_and_what_was_logged_stays(head: psycopg.Connection) -> None:
    head.execute("DELETE FROM conversation.sessions")
    assert not any(having(head, reference, SESSION) for reference in SESSIONS)
    assert having(head, "logs.user_id", PERSON) == 1


def test_everything_goes_with_its_login_and_what_was_logged_stays(head: psycopg.Connection) -> None:
    head.execute("DELETE FROM auth.users")
    assert not any(having(head, reference, PERSON) for reference in PEOPLE)
    assert not any(having(head, reference, SESSION) for reference in SESSIONS)
    assert having(head, "logs.event_type", "user_logout") == 1


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM conversation.scenarios WHERE id = 90", "DELETE FROM conversation.event_types"],
    ids=["a scene", "an event type"],
)
def test_nothing_that_is_referred_to_goes(head: psycopg.Connection, statement: str) -> None:
    with pytest.raises((psycopg.errors.ForeignKeyViolation, psycopg.errors.RestrictViolation)):
        head.execute(statement)
