"""What a database of the chat holds, in either shape, and what its refinement must make of it.

Written anew from the document, without the package's functions: the migration is judged by somebody else.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from tests.support.databases import TestDatabase

Row = dict[str, Any]
Rows = dict[Any, Row]

HAS = """
    SELECT EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s AND NOT attisdropped)
"""
# A session's messages in order, archived ones among them, with the roles' first names.
MESSAGES = """
    SELECT session_id, count(*) AS messages, count(*) FILTER (WHERE chat_type::text = 'main') AS main,
        md5(string_agg(concat_ws('|', id, CASE role::text WHEN 'main_assistant' THEN 'scenario'
            WHEN 'helper_assistant' THEN 'helper' ELSE role::text END, chat_type, to_json(content), {moment},
            created_at), E'\\n' ORDER BY {moment}, id)) AS digest
    FROM conversation.{table} GROUP BY session_id
"""
LOGS = """
    SELECT event_type, level, count(*) AS events,
        md5(string_agg(facts::text, E'\\n' ORDER BY id)) AS digest
    FROM conversation.logs,
        LATERAL jsonb_build_array(id, user_id, session_id, metadata, created_at) AS facts
    GROUP BY event_type, level
"""


@dataclass(frozen=True)
class Chat:
    """All rows; of messages and logs a digest for each session, and each type and level."""

    profiles: Rows
    scenarios: Rows
    sessions: Rows
    messages: Rows
    logs: Rows

    @property
    def size(self) -> tuple[int, ...]:
        """How many profiles, sessions, messages and logs."""
        messages = sum(row["messages"] for row in self.messages.values())
        return (
            len(self.profiles),
            len(self.sessions),
            messages,
            sum(row["events"] for row in self.logs.values()),
        )


def read(database: TestDatabase) -> Chat:
    """What the database holds at any revision since the baseline."""
    with database.connect() as connection:
        connection.execute("SET LOCAL TimeZone = 'UTC'")
        connection.row_factory = dict_row
        moment = "sent_at" if _has(connection, "conversation.messages", "sent_at") else '"timestamp"'
        archive = _has(connection, "conversation.message_history", "id")
        messages = MESSAGES.format(moment=moment, table="message_history" if archive else "messages")
        return Chat(
            **{
                table: _keyed(connection, f"SELECT * FROM conversation.{table}", "id")
                for table in ("profiles", "scenarios", "sessions")
            },
            messages=_keyed(connection, messages, "session_id"),
            logs=_keyed(connection, LOGS, "event_type", "level"),
        )


def _has(connection: psycopg.Connection[Row], relation: str, column: str) -> bool:
    (found,) = (connection.execute(HAS, [relation, column]).fetchone() or {}).values()
    return bool(found)


def _keyed(connection: psycopg.Connection[Row], query: str, *key: str) -> Rows:
    found = connection.execute(query).fetchall()
    return {tuple(row[name] for name in key) if len(key) > 1 else row[key[0]]: row for row in found}


def monday(moment: datetime) -> datetime:
    """When the week of this moment began."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())


def repaired_session(row: Row, messages: Row | None) -> Row:
    """What the document asks of a session, whatever it was; without updated_at."""
    completed_at = None
    if row["is_completed"]:
        completed_at = row["completed_at"]
        if completed_at is None or completed_at < row["started_at"]:
            completed_at = max(row["started_at"], row["last_activity_at"])
    main, both = (messages["main"], messages["messages"]) if messages else (0, 0)
    return row | {
        "completed_at": completed_at,
        "duration_seconds": completed_at and (completed_at - row["started_at"]) // timedelta(seconds=1),
        "message_count_main": main,
        "message_count_helper": both - main,
    }


def repaired_profile(row: Row, total: int, this_week: int, now: datetime) -> Row:
    return row | {
        "completed_scenario_count": total,
        "current_week_completion_count": this_week,
        "week_reset_date": monday(now) + timedelta(days=7),
    }


def repaired(chat: Chat, now: datetime) -> tuple[Rows, Rows]:
    """All sessions and profiles as the document wants them."""
    sessions = {id_: repaired_session(row, chat.messages.get(id_)) for id_, row in chat.sessions.items()}
    total = Counter(row["user_id"] for row in sessions.values() if row["is_completed"])
    this_week = Counter(
        row["user_id"]
        for row in sessions.values()
        if row["completed_at"] is not None and row["completed_at"] >= monday(now)
    )
    profiles = {
        id_: repaired_profile(row, total[id_], this_week[id_], now) for id_, row in chat.profiles.items()
    }
    return sessions, profiles


def assert_lawful(chat: Chat, now: datetime) -> None:
    """No row has anything to repair."""
    assert (chat.sessions, chat.profiles) == repaired(chat, now)


def assert_refined(before: Chat, after: Chat, now: datetime) -> None:
    """`after` is `before` with its flaws repaired, and nothing else changed."""
    assert after.messages == before.messages
    assert after.logs == before.logs
    sessions, profiles = repaired(before, now)
    assert_rows(before.sessions, sessions, after.sessions)
    assert_rows(before.profiles, profiles, after.profiles)
    assert without(before.scenarios) == without(after.scenarios, "updated_at", "sort_order", "code")


def assert_rows(before: Rows, expected: Rows, after: Rows) -> None:
    """Each row is as expected; updated_at tells that one that was right already has not been touched."""
    assert after.keys() == before.keys()
    for id_, row in after.items():
        assert expected[id_].keys() - row.keys() <= {"created_at"}
        known = {column: value for column, value in expected[id_].items() if column in row}
        assert {column: row[column] for column in known} == known | {"updated_at": row["updated_at"]}, id_
        was_right = expected[id_] == before[id_]
        assert (row["updated_at"] == before[id_]["updated_at"]) == was_right, id_


def without(rows: Rows, *columns: str) -> Rows:
    return {id_: {name: row[name] for name in row if name not in columns} for id_, row in rows.items()}


def flaws(chat: Chat, now: datetime) -> Iterator[tuple[str, int]]:
    """How many rows have each of the flaws that the refinement repairs: without them a test shows nothing."""
    kinds: Counter[str] = Counter()
    completed: Counter[UUID] = Counter()
    for id_, row in chat.sessions.items():
        completed[row["user_id"]] += row["is_completed"]
        good = repaired_session(row, chat.messages.get(id_))
        kinds["completed without a time"] += row["is_completed"] and row["completed_at"] is None
        kinds["open with a time"] += not row["is_completed"] and row["completed_at"] is not None
        kinds["completed before it began"] += (row["completed_at"] or row["started_at"]) < row["started_at"]
        for column in ("duration_seconds", "message_count_main", "message_count_helper"):
            kinds[f"wrong {column}"] += row[column] != good[column]
        kinds["right session"] += row == good
    for id_, row in chat.profiles.items():
        kinds["wrong total"] += row["completed_scenario_count"] != completed[id_]
        kinds["week in the past"] += row["week_reset_date"] <= now
        kinds["week that ends on no Monday"] += row["week_reset_date"] != monday(row["week_reset_date"])
    yield from kinds.items()
