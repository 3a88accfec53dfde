"""Hot rows: a message counts in its session's row and moves it in no index."""

from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.conversation.samples import sign_up
from tests.conversation.speaking import COUNTS, opened, speak
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.document(22)

SAID = 100
UPDATES = """
    SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables
    WHERE schemaname = 'conversation' AND relname = 'sessions'
"""
# Columns that an index of the table holds, in its key, its predicate or beside it.
INDEXED = """
    SELECT DISTINCT a.attname FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid
    JOIN pg_depend AS d ON d.objid = i.indexrelid AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum
    WHERE i.indrelid = 'conversation.sessions'::regclass
    UNION
    SELECT a.attname FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid
    WHERE i.indrelid = 'conversation.sessions'::regclass AND a.attnum = ANY (i.indkey)
"""


@pytest.fixture
def owner(plain_database: TestDatabase) -> Iterator[psycopg.Connection]:
    """Each statement is a transaction of its own, as each message is."""
    with plain_database.connect(autocommit=True) as connection:
        connection.row_factory = dict_row
        # Whoever reads the table meanwhile keeps the old versions of its rows in their pages.
        connection.execute("ALTER TABLE conversation.sessions SET (autovacuum_enabled = false)")
        yield connection


def updates(owner: psycopg.Connection) -> tuple[int, int]:
    """Updates of sessions so far, and how many of them were in place."""
    owner.execute("SELECT pg_stat_force_next_flush()")
    row = owner.execute(UPDATES).fetchone()
    assert isinstance(row, dict)
    return row["n_tup_upd"], row["n_tup_hot_upd"]


def talk(owner: psycopg.Connection) -> tuple[UUID, int, int]:
    """A session with many messages: it, its row's updates, and those that were in place."""
    session = opened(owner, sign_up(owner))
    before = updates(owner)
    speak(owner, session, said=SAID)
    after = updates(owner)
    return session, after[0] - before[0], after[1] - before[1]


def test_every_message_changes_its_session_in_place(owner: psycopg.Connection) -> None:
    session, updated, in_place = talk(owner)
    assert (updated, in_place) == (SAID, SAID)
    assert owner.execute(COUNTS, [session]).fetchone() == {
        "message_count_main": SAID // 2,
        "message_count_helper": SAID // 2,
    }


def test_in_place_among_many_sessions_too(owner: psycopg.Connection) -> None:
    """Pages were filled by others, as far as their fill factor lets them."""
    owner.execute(
        "INSERT INTO auth.users (id, email)"
        " SELECT md5(n::text)::uuid, n || '@example.com' FROM generate_series(1, 500) AS n"
    )
    owner.execute(
        "INSERT INTO conversation.sessions (user_id, scenario_id) SELECT id, 1 FROM conversation.profiles"
    )
    before = updates(owner)
    for _ in range(3):
        for row in owner.execute("SELECT id FROM conversation.sessions ORDER BY id LIMIT 100").fetchall():
            speak(owner, row["id"], said=1)
    updated, in_place = (now - then for now, then in zip(updates(owner), before, strict=True))
    assert (updated, in_place) == (300, 300)


@pytest.mark.parametrize("column", ["last_activity_at", "message_count_main", "updated_at"])
def test_an_index_on_what_a_message_changes_would_end_that(owner: psycopg.Connection, column: str) -> None:
    owner.execute(f"CREATE INDEX hot ON conversation.sessions ({column})")
    _, updated, in_place = talk(owner)
    assert updated == SAID
    assert in_place <= SAID // 2


def test_no_index_holds_what_a_message_changes(owner: psycopg.Connection) -> None:
    session = opened(owner, sign_up(owner))
    row = "SELECT * FROM conversation.sessions WHERE id = %s"
    before = owner.execute(row, [session]).fetchone()
    speak(owner, session, said=4)
    after = owner.execute(row, [session]).fetchone()
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"message_count_main", "message_count_helper", "last_activity_at", "updated_at"}
    indexed = {row["attname"] for row in owner.execute(INDEXED).fetchall()}
    assert {"user_id", "is_completed", "started_at", "completed_at", "scenario_id", "id"} <= indexed
    assert not changed & indexed
