"""The way back from a chat in full use: every row survives, as the revisions say, and the way up again."""

from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from carnivore_db.schema import migrations
from tests.migrations.chat_rows import Chat, Rows, read
from tests.support import conversation_baseline
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.slow
REVISIONS = migrations.of_area("conversation")
BASELINE = REVISIONS[0]
# A scene and a type of event that came later; somebody who left, and somebody who was erased; messages in the
# archive, and with their sender's own identity; logs in months with a partition and without one.
USE = """
    INSERT INTO conversation.scenarios
        (code, title, emoji, initial_message_main, initial_message_helper, sort_order)
    VALUES ('lake', 'At the lake', '🏊', 'Servus!', 'You are swimming.', 7);
    INSERT INTO conversation.sessions (user_id, scenario_id, is_completed, started_at, completed_at)
    SELECT p.id, s.id, true, '2026-05-01 10:00+00', '2026-05-01 11:00+00'
    FROM conversation.profiles AS p, conversation.scenarios AS s WHERE s.code = 'lake';
    INSERT INTO conversation.sessions (user_id, scenario_id)
    SELECT p.id, 2 FROM conversation.profiles AS p WHERE p.current_week_completion_count < 3
        AND NOT EXISTS (SELECT FROM conversation.sessions AS s WHERE s.user_id = p.id AND NOT s.is_completed);
    INSERT INTO conversation.messages (session_id, role, chat_type, content, client_message_id)
    SELECT s.id, said.role::conversation.message_role, said.chat::conversation.chat_type_enum, 'Grüß Gott!',
        gen_random_uuid()
    FROM conversation.sessions AS s, (VALUES ('user', 'main'), ('main_assistant', 'main'), ('user', 'helper'),
        ('helper_assistant', 'helper')) AS said (role, chat)
    WHERE NOT s.is_completed;
    SELECT conversation.archive_messages(500, older_than => '200 days');
    UPDATE conversation.profiles SET deleted_at = now() WHERE id = (
        SELECT user_id FROM conversation.sessions GROUP BY user_id ORDER BY count(*), user_id LIMIT 1);
    SELECT conversation.erase_profile((
        SELECT user_id FROM conversation.messages_archive GROUP BY user_id ORDER BY count(*) DESC LIMIT 1));
    INSERT INTO conversation.event_types (code, description) VALUES ('coffee_made', 'Somebody made coffee.');
    INSERT INTO conversation.logs (level, event_type, metadata, created_at) VALUES
        ('info', 'coffee_made', '{"cups": 2}', now()),
        ('info', 'coffee_made', '["cups", 2]', now()),
        ('info', 'coffee_made', '{"event_type": "espresso"}', now()),
        ('info', 'coffee_made', NULL, '2001-02-03 04:05+00'),
        ('info', 'coffee_made', 'null', '2077-02-03 04:05+00'),
        ('error', 'database_error', '{"event_type": "its own"}', now());
"""
LOGS = "SELECT id, level, event_type::text, user_id, session_id, metadata, created_at FROM conversation.logs"
USED = """
    SELECT (SELECT count(*) > 50 FROM conversation.messages_archive),
        (SELECT count(*) > 0 FROM conversation.messages_archive WHERE content = '[erased]'),
        (SELECT count(*) > 0 FROM conversation.messages WHERE client_message_id IS NOT NULL),
        (SELECT count(DISTINCT tableoid) > 10 FROM conversation.logs),
        (SELECT count(*) > 2 FROM conversation.logs_default),
        (SELECT array_agg(deleted_at IS NULL ORDER BY erased_at) FROM conversation.profiles
            WHERE deleted_at IS NOT NULL OR erased_at IS NOT NULL)
"""


def in_use(database: TestDatabase) -> None:
    """The living chat of the baseline, refined, and then everything that head has to offer."""
    migrations.upgrade(database.migrator_url, BASELINE)
    with database.connect() as connection:
        conversation_baseline.fill(connection, profiles=30, sessions=300, messages=3_000, logs=500)
    migrations.upgrade(database.migrator_url, REVISIONS[-1])
    with database.connect() as connection:
        connection.execute(USE)
        assert connection.execute(USED).fetchone() == (True, True, True, True, True, [False, False])


def logs(database: TestDatabase) -> Rows:
    with database.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return {row["id"]: row for row in cursor.execute(LOGS)}


def old_log(row: dict[str, Any]) -> dict[str, Any]:
    """An event as a database knows it whose types are the document's."""
    if row["event_type"] in conversation_baseline.EVENT_TYPES:
        return row
    told = {"event_type": row["event_type"]}
    kept = row["metadata"]
    # It may have a key of that very name.
    beside = isinstance(kept, dict) and not kept.keys() & told.keys()
    return row | {
        "event_type": "unknown_error",
        "metadata": kept | told if beside else told | {"metadata": kept},
    }


# What a downgrade takes along, and the way up cannot know again.
FORGOTTEN = {"code", "sort_order", "deleted_at", "erased_at"}


def assert_kept(before: Chat, after: Chat) -> None:
    """Every row is there still, and what both know of it is the same."""
    assert after.messages == before.messages
    assert_same_rows(before.sessions, after.sessions, FORGOTTEN)
    assert_same_rows(before.profiles, after.profiles, FORGOTTEN)
    assert_same_rows(before.scenarios, after.scenarios, FORGOTTEN | {"updated_at"})


def assert_same_rows(old: Rows, new: Rows, forgotten: set[str]) -> None:
    assert new.keys() == old.keys()
    for id_, row in new.items():
        known = row.keys() & old[id_].keys() - forgotten
        assert {name: row[name] for name in known} == {name: old[id_][name] for name in known}


@pytest.mark.document(5, 7, 13, 29, 30, 33, 34, 35, 36, 46)
def test_a_chat_in_full_use_goes_down_step_by_step_and_up_again(empty: TestDatabase) -> None:
    in_use(empty)
    before, told = read(empty), logs(empty)
    for revision in reversed(REVISIONS[:-1]):
        migrations.downgrade(empty.migrator_url, revision)
        assert_kept(before, read(empty))
        if REVISIONS.index(revision) < REVISIONS.index("deferred_logs"):
            assert logs(empty) == {id_: old_log(row) for id_, row in told.items()}
        else:
            assert logs(empty) == told

    back, told = read(empty), logs(empty)
    assert all(row["created_at"] == row["started_at"] for row in back.sessions.values())
    for revision in REVISIONS[1:]:
        migrations.upgrade(empty.migrator_url, revision)
        assert_kept(before, read(empty))
        assert logs(empty) == told
    again = read(empty)
    assert {row["code"] for row in again.scenarios.values()} == {
        "marketplace",
        "party",
        "kebab",
        "scenario_4",
    }
    assert not [row for row in again.profiles.values() if row["deleted_at"] or row["erased_at"]]


# What somebody may do to a message that was archived, and what would stand in the way of its coming back.
IN_THE_WAY = {
    "its id once more": """
        INSERT INTO conversation.messages (id, session_id, role, chat_type, content)
        SELECT a.id, s.id, 'user', 'main', 'once more'
        FROM conversation.messages_archive AS a JOIN conversation.sessions AS s ON s.user_id = a.user_id
        WHERE NOT s.is_completed LIMIT 1
    """,
    "sent again, into the session that goes on": """
        UPDATE conversation.sessions SET is_completed = false
        WHERE id = (SELECT session_id FROM conversation.messages_archive WHERE client_message_id IS NOT NULL);
        INSERT INTO conversation.messages (session_id, role, chat_type, content, client_message_id)
        SELECT session_id, role, chat_type, content, client_message_id
        FROM conversation.messages_archive WHERE client_message_id IS NOT NULL
    """,
}
ARCHIVED = """
    INSERT INTO auth.users (id, email) VALUES ('00000000-0000-4000-8000-000000000001', 'ada@example.com');
    INSERT INTO conversation.sessions (id, user_id, scenario_id, started_at)
    VALUES ('00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-000000000001', 1, '2024-05-01');
    INSERT INTO conversation.messages (session_id, role, chat_type, content, sent_at, client_message_id)
    VALUES ('00000000-0000-4000-8000-000000000002', 'user', 'main', 'Hallo', '2024-05-01', gen_random_uuid());
    UPDATE conversation.sessions SET is_completed = true, completed_at = '2024-05-02';
    SELECT conversation.archive_messages();
"""
OPEN = """
    INSERT INTO conversation.sessions (user_id, scenario_id)
    VALUES ('00000000-0000-4000-8000-000000000001', 1)
"""


@pytest.mark.document(33, 46)
@pytest.mark.parametrize("attempt", IN_THE_WAY)
def test_nothing_stands_in_the_way_of_an_archived_message(plain_database: TestDatabase, attempt: str) -> None:
    """Whether the attempt is refused or not, the message comes back, and nothing else is lost."""
    with plain_database.connect() as connection:
        connection.execute(ARCHIVED)
        if attempt == "its id once more":
            connection.execute(OPEN)
    with suppress(psycopg.IntegrityError), plain_database.connect() as connection:
        connection.execute(IN_THE_WAY[attempt])
    before = read(plain_database)
    migrations.downgrade(plain_database.migrator_url, BASELINE)
    assert read(plain_database).messages == before.messages
