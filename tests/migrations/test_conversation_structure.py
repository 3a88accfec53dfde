"""The chat's definitions beside each other: at the baseline, refined, and taken back again."""

from collections.abc import Iterator
from typing import Any

import pytest

from carnivore_db.schema import migrations
from tests.migrations.helpers import fresh
from tests.support.databases import Shape, TestDatabase

BASELINE = "conversation_baseline"
COLUMNS = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull,
        pg_get_expr(d.adbin, d.adrelid) AS given
    FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'conversation'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND a.attnum > 0 AND NOT a.attisdropped
"""
ENUMS = """
    SELECT t.typname, array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
    FROM pg_type AS t JOIN pg_enum AS e ON e.enumtypid = t.oid
    WHERE t.typnamespace = 'conversation'::regnamespace GROUP BY t.typname
"""
INDEXES = """
    SELECT c.relname, regexp_replace(pg_get_indexdef(i.indexrelid), '^.* USING ', '')
        || CASE WHEN i.indisunique THEN ' UNIQUE' ELSE '' END
        || CASE WHEN i.indisvalid AND i.indisready THEN '' ELSE ' NOT WHOLE' END
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE c.relnamespace = 'conversation'::regnamespace AND NOT c.relispartition
"""
KEYS = """
    SELECT conrelid::regclass::text || '.' || conname, confupdtype::text || confdeltype::text
        || CASE WHEN convalidated THEN '' ELSE ' NOT CHECKED' END
    FROM pg_constraint
    WHERE connamespace = 'conversation'::regnamespace AND contype = 'f' AND conparentid = 0
"""
DEFINERS = """
    SELECT oid::regproc::text, array_to_string(proconfig, ' ') FROM pg_proc
    WHERE pronamespace = 'conversation'::regnamespace AND prosecdef
"""
PATH = "search_path=pg_catalog, pg_temp"


def look(database: TestDatabase, query: str) -> dict[Any, Any]:
    with database.connect() as connection:
        connection.execute("SET search_path = pg_catalog")
        rows = connection.execute(query).fetchall()
    return {(row[0] if len(row) == 2 else row[:2]): (row[1] if len(row) == 2 else row[2:]) for row in rows}


@pytest.fixture(scope="module")
def baseline(plain_shape: Shape) -> Iterator[TestDatabase]:
    with fresh(plain_shape) as made:
        migrations.upgrade(made.migrator_url, BASELINE)
        yield made


@pytest.fixture(scope="module")
def head(plain_shape: Shape, plain_template: str) -> Iterator[TestDatabase]:
    with plain_shape.clone(plain_template) as made:
        yield made


@pytest.fixture(scope="module")
def back(plain_shape: Shape, plain_template: str) -> Iterator[TestDatabase]:
    with plain_shape.clone(plain_template) as made:
        migrations.downgrade(made.migrator_url, BASELINE)
        yield made


MOMENT = ("timestamp with time zone", True, "now()")
# What the document changes: what a column was, and what it is; None where there is none.
CHANGED = {
    ("sessions", "created_at"): (MOMENT, None),
    ("messages", "timestamp"): (MOMENT, None),
    ("messages", "sent_at"): (None, ("timestamp with time zone", True, "clock_timestamp()")),
    ("messages", "role"): (("text", True, None), ("conversation.message_role", True, None)),
    ("messages", "chat_type"): (("text", True, None), ("conversation.chat_type_enum", True, None)),
    ("messages", "user_id"): (None, ("uuid", True, None)),
    ("messages", "client_message_id"): (None, ("uuid", False, None)),
    ("profiles", "email"): (("text", True, None), ("extensions.citext", True, None)),
    ("scenarios", "updated_at"): (None, MOMENT),
    ("scenarios", "sort_order"): (None, ("smallint", True, "0")),
}


@pytest.mark.document(5, 7, 13, 18, 38, 42, 46)
@pytest.mark.parametrize("column", CHANGED, ids=".".join)
def test_a_column_is_the_document_s_and_goes_back(
    baseline: TestDatabase, head: TestDatabase, back: TestDatabase, column: tuple[str, str]
) -> None:
    found = [look(database, COLUMNS).get(column) for database in (baseline, head, back)]
    before, after = CHANGED[column]
    assert found == [before, after, before]


@pytest.mark.document(5, 7, 13)
def test_all_columns_are_those_of_the_baseline_again(baseline: TestDatabase, back: TestDatabase) -> None:
    assert look(back, COLUMNS) == look(baseline, COLUMNS)


@pytest.mark.document(13, 36)
def test_the_two_enums_have_their_values(
    baseline: TestDatabase, head: TestDatabase, back: TestDatabase
) -> None:
    assert look(baseline, ENUMS) == look(back, ENUMS) == {}
    assert look(head, ENUMS) == {
        "message_role": ["user", "main_assistant", "helper_assistant"],
        "chat_type_enum": ["main", "helper"],
    }


# The indexes that the document names: what each was, and what it is.
NAMED = {
    "idx_logs_session": (None, "btree (session_id, created_at DESC)"),
    "idx_logs_metadata": (None, "gin (metadata)"),
    "idx_sessions_scenario": (None, "btree (scenario_id, is_completed)"),
    "idx_sessions_scenario_history": (
        None,
        "btree (user_id, scenario_id, completed_at DESC) WHERE is_completed",
    ),
    "idx_sessions_user_scenario": (None, "btree (user_id, scenario_id)"),
    "idx_messages_session_time_id": (None, "btree (session_id, sent_at, id)"),
    "idx_messages_session_chronological": ('btree (session_id, "timestamp")', None),
    "idx_messages_chat_type": (
        'btree (session_id, chat_type, "timestamp")',
        "btree (session_id, chat_type, sent_at, id)",
    ),
    "idx_messages_client_message_id": (
        None,
        "btree (session_id, client_message_id) WHERE (client_message_id IS NOT NULL) UNIQUE",
    ),
    "scenarios_title_key": (None, "btree (title) UNIQUE"),
    "profiles_email_key": (None, "btree (email) UNIQUE"),
    "idx_profiles_email": ("btree (email)", "btree (email text_ops)"),
}


@pytest.mark.document(17, 19, 20, 21, 23, 41, 42, 46)
@pytest.mark.parametrize("index", NAMED)
def test_an_index_is_the_document_s_and_goes_back(
    baseline: TestDatabase, head: TestDatabase, back: TestDatabase, index: str
) -> None:
    found = [look(database, INDEXES).get(index) for database in (baseline, head, back)]
    before, after = NAMED[index]
    assert found == [before, after, before]


# ON UPDATE and ON DELETE: c is CASCADE, n SET NULL, r RESTRICT, a nothing.
OLD_KEYS = {
    "conversation.profiles.profiles_id_fkey": "ac",
    "conversation.sessions.sessions_user_id_fkey": "ac",
    "conversation.sessions.sessions_scenario_id_fkey": "ar",
    "conversation.messages.messages_session_id_fkey": "ac",
    "conversation.logs.logs_user_id_fkey": "an",
    "conversation.logs.logs_session_id_fkey": "an",
}
NEW_KEYS = {
    "conversation.profiles.profiles_id_fkey": "cc",
    "conversation.sessions.sessions_user_id_fkey": "cc",
    "conversation.sessions.sessions_scenario_id_fkey": "cr",
    "conversation.messages.messages_session_id_fkey": "cc",
    "conversation.messages.messages_user_id_fkey": "cc",
    "conversation.messages_archive.messages_archive_session_id_fkey": "cc",
    "conversation.messages_archive.messages_archive_user_id_fkey": "cc",
    "conversation.logs.logs_user_id_fkey": "cn",
    "conversation.logs.logs_session_id_fkey": "cn",
    "conversation.logs.logs_event_type_fkey": "ca",
}


@pytest.mark.document(40)
def test_every_foreign_key_says_what_follows(
    baseline: TestDatabase, head: TestDatabase, back: TestDatabase
) -> None:
    assert look(baseline, KEYS) == look(back, KEYS) == OLD_KEYS
    assert look(head, KEYS) == NEW_KEYS


@pytest.mark.document(26)
def test_every_function_with_its_owner_s_rights_locks_its_search_path(
    baseline: TestDatabase, head: TestDatabase, back: TestDatabase
) -> None:
    old = look(baseline, DEFINERS)
    document_s = {"create_profile_for_new_user", "reset_weekly_limits", "delete_expired_sessions"}
    assert {f"conversation.{name}" for name in document_s | {"delete_old_logs"}} < old.keys()
    assert set(old.values()) == {None}
    assert look(back, DEFINERS) == old
    new = look(head, DEFINERS)
    assert old.keys() < new.keys()
    assert [name for name, settings in new.items() if PATH not in (settings or "")] == []
