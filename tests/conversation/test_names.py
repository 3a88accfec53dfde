"""Names of times: a column that holds a moment says so."""

import psycopg
import pytest

# The document's own name.
EXCEPTIONS = {("profiles", "week_reset_date")}
TIMES = """
    SELECT relname AS table, attname AS column, format_type(atttypid, atttypmod) AS type
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'conversation'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
        AND NOT relispartition AND attnum > 0 AND NOT attisdropped
        AND (format_type(atttypid, atttypmod) ~ '^(date|time)' OR attname ~ '(_at|_date|time|stamp)$')
    ORDER BY 1, 2
"""


def times(owner: psycopg.Connection) -> dict[tuple[str, str], str]:
    return {(row["table"], row["column"]): row["type"] for row in owner.execute(TIMES)}


@pytest.mark.document(39)
def test_every_moment_has_a_time_zone_and_a_name_that_ends_in_at(owner: psycopg.Connection) -> None:
    found = times(owner)
    assert len(found) > 15
    assert set(found.values()) == {"timestamp with time zone"}
    assert {name for name in found if not name[1].endswith("_at")} == EXCEPTIONS


@pytest.mark.document(5, 7, 39)
def test_sessions_and_messages_have_one_name_for_each_moment(owner: psycopg.Connection) -> None:
    found = times(owner)
    of_sessions = {column for table, column in found if table == "sessions"}
    assert of_sessions == {"started_at", "last_activity_at", "completed_at", "updated_at"}
    assert {column for table, column in found if table == "messages"} == {"sent_at", "created_at"}


@pytest.mark.document(39)
@pytest.mark.parametrize(
    "column", ['"timestamp" timestamptz', "sent timestamptz", "seen_at timestamp", "day date"]
)
def test_another_name_would_be_noticed(owner: psycopg.Connection, column: str) -> None:
    owner.execute("BEGIN")
    try:
        owner.execute(f"ALTER TABLE conversation.messages ADD COLUMN {column}")
        found = times(owner)
    finally:
        owner.execute("ROLLBACK")
    odd = {name for name in found if not name[1].endswith("_at")} - EXCEPTIONS
    assert odd or set(found.values()) != {"timestamp with time zone"}
