"""The law of message counts: a session's counts equal its messages, archived ones too, at every step."""

import random
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest
from psycopg import errors

from tests.conversation.speaking import VOICES
from tests.support import laws
from tests.support.databases import Shape

PEOPLE = 3
BROKEN = """
    SELECT s.id, s.message_count_main, s.message_count_helper, counted.main, counted.helper
    FROM conversation.sessions AS s, LATERAL (
        SELECT count(*) FILTER (WHERE h.chat_type = 'main') AS main,
            count(*) FILTER (WHERE h.chat_type = 'helper') AS helper
        FROM conversation.message_history AS h WHERE h.session_id = s.id
    ) AS counted
    WHERE (s.message_count_main, s.message_count_helper) <> (counted.main, counted.helper)
"""
OPEN = """
    (SELECT one.* FROM conversation.sessions AS one JOIN conversation.profiles AS p ON p.id = one.user_id
    WHERE NOT one.is_completed AND p.deleted_at IS NULL)
"""


def begin(tx: psycopg.Connection, choose: random.Random) -> None:
    tx.execute(
        "INSERT INTO conversation.sessions (user_id, scenario_id, started_at, last_activity_at)"
        " SELECT id, 1, now() - %s * interval '1 day', now() - %s * interval '1 day'"
        " FROM conversation.profiles WHERE deleted_at IS NULL ORDER BY id OFFSET %s LIMIT 1"
        " ON CONFLICT DO NOTHING",
        [days := choose.choice([0, 9, 400, 400]), days, choose.randrange(PEOPLE)],
    )


def say(tx: psycopg.Connection, choose: random.Random) -> None:
    """One statement, with messages of several sessions and chats; some are retries, maybe of each other."""
    tx.execute(
        "INSERT INTO conversation.messages (session_id, role, chat_type, content, sent_at, client_message_id)"
        " SELECT s.id, %s::conversation.message_role, %s::conversation.chat_type_enum, n::text,"
        " s.started_at + n * interval '1 minute', md5((n / 2)::text)::uuid"
        f" FROM {OPEN} AS s, generate_series(1, %s) AS n"
        " ON CONFLICT DO NOTHING",
        [*choose.choice(VOICES), choose.randrange(6)],
    )


def say_too_much(tx: psycopg.Connection, choose: random.Random) -> None:
    """A statement whose last message is refused."""
    with suppress(errors.CheckViolation), tx.transaction():
        tx.execute(
            "INSERT INTO conversation.messages (session_id, role, chat_type, content)"
            f" SELECT s.id, 'main_assistant', 'main', repeat('a', n) FROM {OPEN} AS s,"
            " unnest(ARRAY[%s, 8001]) AS n",
            [choose.randrange(9)],
        )


def complete(tx: psycopg.Connection, choose: random.Random) -> None:
    tx.execute(
        "UPDATE conversation.sessions SET is_completed = true, completed_at = started_at + interval '1 day'"
        " WHERE NOT is_completed AND user_id IN (SELECT id FROM conversation.profiles ORDER BY id LIMIT %s)",
        [choose.randint(1, PEOPLE)],
    )


def play(tx: psycopg.Connection, choose: random.Random) -> None:
    """A session as most are."""
    for step in (begin, say, say, complete):
        step(tx, choose)


def archive(tx: psycopg.Connection, choose: random.Random) -> None:
    tx.execute("SELECT conversation.archive_messages(%s)", [choose.randint(1, 5)])


def expire(tx: psycopg.Connection, choose: random.Random) -> None:
    tx.execute("SELECT conversation.delete_expired_sessions(%s)", [choose.randint(1, 2)])


def reopen(tx: psycopg.Connection, choose: random.Random) -> None:
    tx.execute(
        "UPDATE conversation.sessions SET is_completed = false WHERE id IN (SELECT s.id"
        " FROM conversation.sessions AS s WHERE NOT EXISTS (SELECT FROM conversation.sessions AS open"
        " WHERE open.user_id = s.user_id AND NOT open.is_completed)"
        " ORDER BY s.user_id, s.started_at OFFSET %s LIMIT 1)",
        [choose.randrange(3)],
    )


def delete(tx: psycopg.Connection, choose: random.Random) -> None:
    tx.execute(
        "DELETE FROM conversation.sessions WHERE id IN"
        " (SELECT id FROM conversation.sessions ORDER BY user_id, started_at OFFSET %s LIMIT 1)",
        [choose.randrange(9)],
    )


def delete_a_message(tx: psycopg.Connection, choose: random.Random) -> None:
    """Which nobody may, the owner of the tables neither."""
    table = choose.choice(["messages", "messages_archive"])
    with suppress(errors.IntegrityConstraintViolation), tx.transaction():
        tx.execute(f"DELETE FROM conversation.{table}")


def erase(tx: psycopg.Connection, choose: random.Random) -> None:
    if choose.random() < 0.2:
        tx.execute(
            "SELECT conversation.erase_profile(id)"
            " FROM (SELECT id FROM conversation.profiles ORDER BY id OFFSET %s LIMIT 1) AS one",
            [choose.randrange(PEOPLE)],
        )


CHANGES: list[laws.Change] = [
    begin,
    say,
    say_too_much,
    play,
    play,
    complete,
    archive,
    expire,
    reopen,
    delete,
    delete_a_message,
    erase,
]


@pytest.fixture(scope="module")
def connection(plain_shape: Shape, plain_template: str) -> Iterator[psycopg.Connection]:
    with plain_shape.clone(plain_template) as database, database.connect() as opened:
        opened.execute("UPDATE conversation.rate_limits SET enforced = false")
        opened.commit()
        yield opened


def sign_up(tx: psycopg.Connection) -> None:
    tx.execute(
        "INSERT INTO auth.users (id, email) SELECT md5(n::text)::uuid, n || '@example.com'"
        " FROM generate_series(1, %s) AS n",
        [PEOPLE],
    )


@pytest.fixture
def tx(connection: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A transaction in which some people have signed up, taken back at the end."""
    connection.rollback()
    sign_up(connection)
    yield connection
    connection.rollback()


def test_the_law_holds_after_every_operation(connection: psycopg.Connection) -> None:
    def begin() -> psycopg.Connection:
        sign_up(connection)
        return connection

    def check() -> None:
        assert connection.execute(BROKEN).fetchall() == []

    laws.holds_after_every_change(connection, begin, CHANGES, check, examples=30)


def test_the_operations_do_something(tx: psycopg.Connection) -> None:
    """Else the law would hold of nothing."""
    choose = random.Random(20251110)  # noqa: S311 - a test's choice, repeatable
    counted = archived = 0
    for _ in range(200):
        choose.choice(CHANGES[:-1])(tx, choose)
        (now, old) = tx.execute(
            "SELECT (SELECT count(*) FROM conversation.messages),"
            " (SELECT count(*) FROM conversation.messages_archive)"
        ).fetchone() or (0, 0)
        counted, archived = max(counted, now), max(archived, old)
        assert tx.execute(BROKEN).fetchall() == []
    assert counted > 10
    assert archived > 5


@pytest.mark.parametrize("trigger", ["increment_message_count", "messages_kept"])
def test_without_its_trigger_the_law_is_broken(tx: psycopg.Connection, trigger: str) -> None:
    choose = random.Random(1)  # noqa: S311 - a test's choice, repeatable
    begin(tx, choose)
    say_one = "SELECT id, 'user', 'main', 'Hallo' FROM conversation.sessions"
    tx.execute(f"INSERT INTO conversation.messages (session_id, role, chat_type, content) {say_one}")
    assert tx.execute(BROKEN).fetchall() == []
    tx.execute(f"DROP TRIGGER {trigger} ON conversation.messages")
    tx.execute(f"INSERT INTO conversation.messages (session_id, role, chat_type, content) {say_one}")
    tx.execute("DELETE FROM conversation.messages" if trigger == "messages_kept" else "SELECT")
    assert tx.execute(BROKEN).fetchall() != []
