"""The chat's rows: every constraint refuses its counter-examples, even a superuser's, and keeps good rows."""

from datetime import UTC, datetime, timedelta

from tests.security.objects import partitions
from tests.security.personas import Session
from tests.security.registry import promise
from tests.security.rows import GOOD, MONDAY, NOW, Row, insertion
from tests.security.rules import (
    AFTER,
    BEFORE,
    CHECK,
    FOREIGN,
    UNIQUE,
    counter_examples,
    defaults,
    each,
    good_rows,
    no_moments,
    one_id,
    required,
)
from tests.security.seed import ADA, CLIENT_A, NO_ONE, OUTSIDE_ALL_MONTHS

PROFILES, SCENARIOS, SESSIONS, MESSAGES, ARCHIVE, LOGS, TYPES, LIMITS = (
    f"conversation.{table}"
    for table in (
        "profiles",
        "scenarios",
        "sessions",
        "messages",
        "messages_archive",
        "logs",
        "event_types",
        "rate_limits",
    )
)
COMPLETED: Row = {"is_completed": True, "completed_at": NOW}
NO_CODES = ("", "1st", "a b", "a-b", "a\n", "_a", "A")
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

counter_examples(
    {
        (PROFILES, "profiles_pkey", UNIQUE): [{"id": ADA}],
        (PROFILES, "profiles_email_key", UNIQUE): each("email", ("ada@example.com", "ADA@Example.COM")),
        (PROFILES, "profiles_id_fkey", FOREIGN): [{"id": NO_ONE}],
        (PROFILES, "email_not_empty", CHECK): each("email", ("", " ")),
        (PROFILES, "email_length", CHECK): [{"email": "x" * 256}],
        (PROFILES, "email_printable", CHECK): each(
            "email", ("mallory @example.com", "m\u00fcller@example.com", "mallory@example.com\n", "m\x7f")
        ),
        (PROFILES, "email_with_erased", CHECK): [
            {"deleted_at": NOW, "erased_at": NOW, "email": email}
            for email in ("mallory@example.com", "erased-1@erased.invalid.com", "x-erased-1@erased.invalid")
        ],
        (PROFILES, "week_reset_date_valid", CHECK): each(
            "week_reset_date",
            (
                MONDAY + timedelta(days=1),
                MONDAY + timedelta(hours=1),
                MONDAY - timedelta(microseconds=1),
                # A Monday's midnight, and not in UTC.
                "2026-03-02 00:00:00+01",
            ),
        ),
        (PROFILES, "completed_scenario_count_not_negative", CHECK): [{"completed_scenario_count": -1}],
        (PROFILES, "current_week_completion_count_not_negative", CHECK): [
            {"current_week_completion_count": -1}
        ],
        (PROFILES, "deleted_at_in_range", CHECK): no_moments("deleted_at"),
        (PROFILES, "deleted_at_with_erased", CHECK): [{"erased_at": NOW}],
        (SCENARIOS, "scenarios_pkey", UNIQUE): [{"id": 1}],
        (SCENARIOS, "scenarios_code_key", UNIQUE): [{"code": "party"}],
        (SCENARIOS, "scenarios_title_key", UNIQUE): [{"title": "At a party"}],
        (SCENARIOS, "code_valid", CHECK): each("code", NO_CODES),
        (SCENARIOS, "emoji_length", CHECK): each("emoji", ("x" * 17, "🥨" * 5)),
        (SESSIONS, "sessions_user_id_fkey", FOREIGN): [{"user_id": NO_ONE}],
        (SESSIONS, "sessions_scenario_id_fkey", FOREIGN): [{**COMPLETED, "scenario_id": 404}],
        (SESSIONS, "idx_sessions_active_per_user", UNIQUE): [{"user_id": ADA}],
        (SESSIONS, "completed_at_with_completed", CHECK): [{"is_completed": True}, {"completed_at": NOW}],
        (SESSIONS, "completed_at_in_range", CHECK): [
            {**COMPLETED, "completed_at": moment}
            for moment in (NOW - timedelta(minutes=20, microseconds=1), *AFTER)
        ],
        (SESSIONS, "started_at_in_range", CHECK): no_moments("started_at"),
        (SESSIONS, "last_activity_at_in_range", CHECK): no_moments("last_activity_at"),
        (SESSIONS, "duration_seconds_not_negative", CHECK): [{**COMPLETED, "duration_seconds": -1}],
        (SESSIONS, "message_counts_not_negative", CHECK): [
            {"message_count_main": -1},
            {"message_count_helper": -1},
        ],
        (MESSAGES, "content_length", CHECK): [{"content": "ß" * 8001}],
        # What lies in the future is said now, by a trigger.
        (MESSAGES, "sent_at_in_range", CHECK): each("sent_at", BEFORE),
        (MESSAGES, "messages_role_chat_type_valid", CHECK): [
            {"role": "main_assistant", "chat_type": "helper"},
            {"role": "helper_assistant", "chat_type": "main"},
        ],
        (MESSAGES, "idx_messages_client_message_id", UNIQUE): [{"client_message_id": CLIENT_A}],
        (ARCHIVE, "messages_archive_session_id_fkey", FOREIGN): [{"session_id": NO_ONE}],
        (ARCHIVE, "messages_archive_user_id_fkey", FOREIGN): [{"user_id": NO_ONE}],
        (LOGS, "created_at_in_range", CHECK): no_moments("created_at"),
        (LOGS, "level_valid", CHECK): each("level", ("", "INFO", "fatal")),
        (LOGS, "logs_event_type_fkey", FOREIGN): each("event_type", ("", "SESSION_CREATED", "session")),
        (LOGS, "logs_user_id_fkey", FOREIGN): [{"user_id": NO_ONE}],
        (LOGS, "logs_session_id_fkey", FOREIGN): [{"session_id": NO_ONE}],
        (TYPES, "event_types_pkey", UNIQUE): [{"code": "session_created"}],
        (TYPES, "code_valid", CHECK): each("code", NO_CODES),
        (TYPES, "description_not_empty", CHECK): each("description", ("", " ")),
    }
)
good_rows(
    {
        PROFILES: [
            {"email": "x" * 255},
            {"email": "Mallory@Example.COM"},
            {"completed_scenario_count": 9, "current_week_completion_count": 9},
            {"week_reset_date": "2026-03-02 01:00:00+01"},
            {"deleted_at": NOW},
            {"deleted_at": NOW, "erased_at": NOW, "email": "erased-1@erased.invalid"},
        ],
        SCENARIOS: [
            {"emoji": "x" * 16},
            {"emoji": "🥨" * 4},
            {"code": "b_2"},
            {"title": "at a party", "is_active": False},
        ],
        SESSIONS: [
            COMPLETED,
            {**COMPLETED, "user_id": ADA},
            {**COMPLETED, "completed_at": NOW - timedelta(minutes=20), "duration_seconds": 0},
            {"message_count_main": 3, "message_count_helper": 4},
        ],
        MESSAGES: [
            {"content": "ß" * 8000, "client_message_id": None},
            *each("content", ("", "😀" * 8000)),
            {"role": "main_assistant"},
            {"role": "helper_assistant", "chat_type": "helper"},
            {"chat_type": "helper"},
        ],
        ARCHIVE: [{"client_message_id": CLIENT_A}, {"sent_at": LONG_AGO}],
        LOGS: [
            *each("level", ("error", "warn", "info", "debug")),
            {"user_id": None, "session_id": None, "metadata": None},
            *each("created_at", (LONG_AGO, "2077-07-01 00:00:00+00", OUTSIDE_ALL_MONTHS)),
        ],
        TYPES: [{"code": "x" * 50, "description": "x" * 200}],
    }
)
required(
    {
        PROFILES: "email completed_scenario_count current_week_completion_count week_reset_date created_at"
        " updated_at",
        SCENARIOS: "code title emoji initial_message_main initial_message_helper is_active sort_order"
        " created_at updated_at",
        SESSIONS: "user_id scenario_id is_completed started_at last_activity_at message_count_main"
        " message_count_helper updated_at",
        MESSAGES: "session_id role chat_type content sent_at created_at user_id",
        ARCHIVE: "session_id user_id role chat_type content sent_at created_at archived_at",
        LOGS: "level event_type",
        TYPES: "description",
    }
)
defaults(
    {
        PROFILES: (
            ("id", "email", "week_reset_date"),
            (
                "(completed_scenario_count, current_week_completion_count) = (0, 0) AND created_at = now()"
                " AND updated_at = now() AND deleted_at IS NULL AND erased_at IS NULL"
            ),
        ),
        SCENARIOS: (
            ("code", "title", "emoji", "initial_message_main", "initial_message_helper"),
            "id > 4 AND is_active AND sort_order = 0 AND created_at = now() AND updated_at = now()",
        ),
        SESSIONS: (
            ("user_id", "scenario_id"),
            (
                "id IS NOT NULL AND NOT is_completed AND started_at = now() AND last_activity_at = now()"
                " AND completed_at IS NULL AND (message_count_main, message_count_helper) = (0, 0)"
                " AND duration_seconds IS NULL AND updated_at = now()"
            ),
        ),
        MESSAGES: (
            ("session_id", "role", "chat_type", "content"),
            (
                f"id IS NOT NULL AND user_id = '{ADA}' AND created_at = now()"
                " AND sent_at BETWEEN now() AND clock_timestamp()"
                " AND client_message_id IS NULL"
            ),
        ),
        ARCHIVE: (
            tuple(GOOD[ARCHIVE]),
            "archived_at = now() AND client_message_id IS NULL",
        ),
        LOGS: (
            ("level", "event_type"),
            "id IS NOT NULL AND created_at = now() AND user_id IS NULL AND metadata IS NULL",
        ),
    }
)
one_id(SESSIONS, MESSAGES, ARCHIVE)


@promise(f"{LOGS} logs_pkey")
def no_two_events_of_a_moment_have_one_id(s: Session) -> None:
    for partition in partitions(s, LOGS):
        key, moment = s.superuser.rows(f"SELECT id, created_at FROM {partition} LIMIT 1")[0]
        again = insertion(LOGS, id=key, created_at=moment)
        rule = f"{partition.split('.')[1]}_pkey"
        s.superuser.refused(*again, sqlstate=UNIQUE, constraint=rule)
        later = insertion(LOGS, id=key, created_at=moment + timedelta(microseconds=1))
        s.superuser.allows(*later, rows=1)


@promise(f"{MESSAGES} messages_session_id_fkey messages_user_id_fkey rule")
def a_message_has_a_session_and_a_person_even_where_no_trigger_looks(s: Session) -> None:
    s.superuser.allows(f"ALTER TABLE {MESSAGES} DISABLE TRIGGER USER")
    for column in ("session_id", "user_id"):
        statement = insertion(MESSAGES, **{"user_id": ADA, column: NO_ONE})
        s.superuser.refused(*statement, sqlstate=FOREIGN, constraint=f"messages_{column}_fkey")


@promise(f"{MESSAGES} {ARCHIVE}")
def nobody_speaks_in_a_role_or_chat_that_there_is_not(s: Session) -> None:
    for table in (MESSAGES, ARCHIVE):
        for column, values in {
            "role": ("", "USER", "scenario", "helper", "system"),
            "chat_type": ("", "Main", "user", "main_assistant"),
        }.items():
            for value in values:
                s.superuser.refused(*insertion(table, **{column: value}), sqlstate="22P02")


@promise(f"{MESSAGES} messages_role_chat_type_valid rule")
def a_chat_that_comes_later_is_nobodys_until_the_rule_names_it(s: Session) -> None:
    # A value that ALTER TYPE adds cannot be used in the same transaction.
    s.superuser.allows("SET LOCAL allow_system_table_mods = on")
    s.superuser.allows(
        "INSERT INTO pg_enum (oid, enumtypid, enumsortorder, enumlabel)"
        " VALUES (99999, 'conversation.chat_type_enum'::regtype, 3, 'aside')"
    )
    for role in ("user", "main_assistant", "helper_assistant"):
        statement = insertion(MESSAGES, role=role, chat_type="aside")
        s.superuser.refused(*statement, sqlstate=CHECK, constraint="messages_role_chat_type_valid")


WEEKLY, SENT = "completed_scenarios", "messages"
# A limit is changed, not added: constraint, code, change.
NO_LIMITS = (
    ("allowed_in_range", SENT, "allowed = 0"),
    ("allowed_in_range", SENT, "allowed = -1"),
    ("allowed_in_range", SENT, "allowed = 100001"),
    ("per_in_range", SENT, "per = '0.999 seconds'"),
    ("per_in_range", SENT, "per = '-1 hour'"),
    ("per_in_range", SENT, "per = '7 days 1 second'"),
    ("per_is_the_week", WEEKLY, "per = '6 days'"),
    ("code_valid", SENT, "code = 'logins'"),
    ("code_valid", SENT, "code = 'MESSAGES'"),
)
LIMITED = (
    (SENT, "allowed = 1, per = '1 second', enforced = false"),
    (SENT, "allowed = 100000, per = '7 days', enforced = true"),
    (WEEKLY, "allowed = 1"),
)


def _of(code: str, change: str) -> str:
    return f"UPDATE {LIMITS} SET {change} WHERE code = '{code}'"


@promise(f"{LIMITS} allowed_in_range per_in_range per_is_the_week code_valid rule good")
def a_limit_stays_in_its_range(s: Session) -> None:
    for rule, code, change in NO_LIMITS:
        s.superuser.refused(_of(code, change), sqlstate=CHECK, constraint=rule)
    for code, change in LIMITED:
        s.superuser.allows(_of(code, change), rows=1)


@promise(f"{LIMITS} rate_limits_pkey rule")
def a_limit_is_set_once(s: Session) -> None:
    again = f"INSERT INTO {LIMITS} SELECT * FROM {LIMITS}"
    s.superuser.refused(again, sqlstate=UNIQUE, constraint="rate_limits_pkey")


@promise(f"{LIMITS} allowed per enforced required default")
def a_limit_says_how_much_in_how_long_and_counts_unless_it_says_not(s: Session) -> None:
    for column in ("allowed", "per", "enforced"):
        error = s.superuser.refused(_of(SENT, f"{column} = NULL"), sqlstate="23502")
        assert error.diag.column_name == column
    s.superuser.allows(f"DELETE FROM {LIMITS} WHERE code = '{SENT}'", rows=1)
    added = f"INSERT INTO {LIMITS} (code, allowed, per) VALUES ('{SENT}', 1, '1 hour') RETURNING enforced"
    assert s.superuser.value(added) is True


@promise(f"{MESSAGES} sent_at_in_range")
def a_message_of_the_future_is_not_loaded_either(s: Session) -> None:
    """With triggers a moment to come becomes now."""
    for moment in AFTER:
        statement, params = insertion(MESSAGES, sent_at=moment, user_id=ADA)
        asker = s.as_("superuser", triggers="replica")
        asker.refused(statement, params, sqlstate=CHECK, constraint="sent_at_in_range")
