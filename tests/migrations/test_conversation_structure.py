"""What the document changes of the chat's columns, indexes and types: each as it was, and as it is."""

import pytest

from carnivore_db.schema import migrations
from tests.migrations.helpers import fresh
from tests.support.databases import Shape, TestDatabase

DEFINITIONS = """
    SELECT c.relname || '.' || a.attname, concat_ws(' ', format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attnotnull THEN 'NOT NULL' END, 'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid))
    FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'conversation'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT c.relname, regexp_replace(pg_get_indexdef(i.indexrelid), '^.* USING ', '')
        || CASE WHEN i.indisunique THEN ' UNIQUE' ELSE '' END
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE c.relnamespace = 'conversation'::regnamespace AND NOT c.relispartition
    UNION ALL
    SELECT t.typname, string_agg(e.enumlabel::text, ', ' ORDER BY e.enumsortorder)
    FROM pg_type AS t JOIN pg_enum AS e ON e.enumtypid = t.oid
    WHERE t.typnamespace = 'conversation'::regnamespace GROUP BY t.typname
"""


def look(database: TestDatabase) -> dict[str, str]:
    with database.connect() as connection:
        connection.execute("SET search_path = pg_catalog")
        return dict(connection.execute(DEFINITIONS).fetchall())


@pytest.fixture(scope="module")
def baseline(plain_shape: Shape) -> dict[str, str]:
    with fresh(plain_shape) as made:
        migrations.upgrade(made.migrator_url, "conversation_baseline")
        return look(made)


@pytest.fixture(scope="module")
def head(plain_shape: Shape, plain_template: str) -> dict[str, str]:
    with plain_shape.clone(plain_template) as made:
        return look(made)


MOMENT = "timestamp with time zone NOT NULL DEFAULT now()"
# What each was, and what it is; None where there is none. The way back is test_round_trip's.
CHANGED = {
    "sessions.created_at": (MOMENT, None),
    "messages.timestamp": (MOMENT, None),
    "messages.sent_at": (None, "timestamp with time zone NOT NULL DEFAULT clock_timestamp()"),
    "messages.role": ("text NOT NULL", "conversation.message_role NOT NULL"),
    "messages.chat_type": ("text NOT NULL", "conversation.chat_type_enum NOT NULL"),
    "messages.user_id": (None, "uuid NOT NULL"),
    "messages.client_message_id": (None, "uuid"),
    "profiles.email": ("text NOT NULL", "extensions.citext NOT NULL"),
    "scenarios.updated_at": (None, MOMENT),
    "scenarios.sort_order": (None, "smallint NOT NULL DEFAULT 0"),
    "message_role": (None, "user, main_assistant, helper_assistant"),
    "chat_type_enum": (None, "main, helper"),
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
    "idx_profiles_email": ("btree (email)", "btree (email text_ops) UNIQUE"),
}


@pytest.mark.document(5, 7, 13, 17, 18, 19, 20, 21, 23, 36, 38, 41, 42, 46)
@pytest.mark.parametrize("name", CHANGED)
def test_a_definition_is_the_document_s(baseline: dict[str, str], head: dict[str, str], name: str) -> None:
    assert (baseline.get(name), head.get(name)) == CHANGED[name]
