"""Learners' rows: every constraint refuses its counter-examples, even a superuser's, and keeps good rows."""

from datetime import timedelta

from tests.security.personas import Session
from tests.security.registry import promise
from tests.security.rows import NOW, Row, insertion
from tests.security.rules import (
    ADDRESSES,
    CHECK,
    FOREIGN,
    NO_ADDRESSES,
    UNIQUE,
    counter_examples,
    defaults,
    each,
    good_rows,
    json_over,
    nested,
    no_moments,
    objects,
    one_id,
    required,
)
from tests.security.seed import ADA, CIPHERTEXT, NO_ONE

FILES = "vocabulary.abandoned_export_files"
USERS, SESSIONS, KEYS, PROGRESS, EXPORTS = (
    f"vocabulary.{table}"
    for table in ("users", "sessions", "user_api_keys", "user_progress", "export_history")
)
MOST = 100_000
COUNTERS = (
    "images_processed",
    "descriptions_generated",
    "vocabulary_learned",
    "phrases_saved",
)
SHARES = ("engagement_score", "completion_rate")
PROVIDERS = ("openai", "unsplash", "anthropic")
NUMBERS = (
    "total_descriptions total_images total_questions_answered total_questions_correct"
    " total_vocabulary_learned total_phrases_saved total_sessions total_time_spent_minutes"
    " current_streak_days longest_streak_days total_points mastered_words_count learning_words_count"
    " new_words_count"
)
SECRET = "Ab3_-" * 12
PLAINTEXTS = (
    "",
    " ",
    "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJ",
    "sk-ant-REDACTED",
    SECRET,
    f"enc:v2:k:{SECRET}",
    f"ENC:v1:k:{SECRET}",
    f"enc:v1::{SECRET}",
    f"enc:v1:K:{SECRET}",
    f"enc:v1:k:1:{SECRET}",
    f"enc:v1:{'k' * 33}:{SECRET}",
    f"enc:v1:k:{SECRET[:38]}",
    f"enc:v1:k:{SECRET}=",
    f"enc:v1:k:{SECRET} sk-live",
    f"enc:v1:k:{SECRET}\n",
    f" enc:v1:k:{SECRET}",
    f"sk-live\nenc:v1:k:{SECRET}",
    f"enc:v1:k:{'x' * 1992}",
)
COMPLETED: Row = {
    "status": "completed",
    "records_count": 3,
    "file_size_bytes": 1024,
    "file_url": "s3://exports/one.csv",
    "expires_at": NOW,
}
FAILED: Row = {"status": "failed", "error_message": "no space left"}
FORMATS = {"csv": "csv", "json": "json", "anki": "apkg", "pdf": "pdf"}

counter_examples(
    {
        (USERS, "users_email_key", UNIQUE): each("email", ("ada@example.com", "Ada@Example.COM")),
        (USERS, "users_username_key", UNIQUE): [{"username": "ada"}],
        (USERS, "last_login_in_range", CHECK): no_moments("last_login"),
        (USERS, "email_format", CHECK): each("email", NO_ADDRESSES),
        (USERS, "username_valid", CHECK): each(
            "username", ("", "ab", "a b c", "a-b-c", "a.b.c", "ada\n", "añada", "<b>bob</b>")
        ),
        (USERS, "full_name_length", CHECK): each("full_name", ("", "A", " ", " A ")),
        (USERS, "avatar_url_valid", CHECK): each(
            "avatar_url",
            (
                "",
                "ftp://x",
                "javascript:x",
                "https://",
                "https://x y",
                "https://x\n",
                " https://x",
                f"https://{'x' * 2041}",
            ),
        ),
        (USERS, "target_words_per_day_in_range", CHECK): each("target_words_per_day", (0, -1, 101)),
        (SESSIONS, "sessions_user_id_fkey", FOREIGN): [{"user_id": NO_ONE}],
        (SESSIONS, "started_at_in_range", CHECK): [
            {"started_at": moment, "ended_at": None, "duration_minutes": None}
            for moment in ("1999-12-31 23:59:59+00", "2100-01-01 00:00:00+00", "infinity", "-infinity")
        ]
        + [{"started_at": "-infinity", "duration_minutes": None}],
        (SESSIONS, "ended_at_in_range", CHECK): [
            {"ended_at": NOW - timedelta(minutes=21)},
            {"ended_at": NOW - timedelta(minutes=21), "duration_minutes": None},
            *({"ended_at": moment, "duration_minutes": None} for moment in ("infinity", "-infinity")),
            {"started_at": "2099-12-31 23:00:00+00", "ended_at": "2100-01-01 00:00:00+00"},
        ],
        (SESSIONS, "duration_minutes_in_range", CHECK): each("duration_minutes", (-1, MOST + 1)),
        **{(SESSIONS, f"{column}_in_range", CHECK): each(column, (-1, MOST + 1)) for column in COUNTERS},
        (SESSIONS, "qa_attempts_in_range", CHECK): [
            {"qa_attempts": -1, "qa_correct": -1},
            {"qa_attempts": MOST + 1},
        ],
        (SESSIONS, "qa_correct_in_range", CHECK): each("qa_correct", (-1, 11)),
        (SESSIONS, "session_data_valid", CHECK): objects("session_data", 65536),
        (SESSIONS, "user_agent_length", CHECK): [{"user_agent": "x" * 1001}],
        **{(SESSIONS, f"{column}_in_range", CHECK): each(column, (-0.01, 1.01, "NaN")) for column in SHARES},
        (KEYS, "last_validated_at_in_range", CHECK): no_moments("last_validated_at"),
        (KEYS, "unique_user_api_keys", UNIQUE): [{"user_id": ADA}],
        (KEYS, "user_api_keys_user_id_fkey", FOREIGN): [{"user_id": NO_ONE}],
        **{
            (KEYS, f"{provider}_api_key_valid", CHECK): each(f"{provider}_api_key", PLAINTEXTS)
            for provider in PROVIDERS
        },
        (PROGRESS, "unique_user_progress", UNIQUE): [{"user_id": ADA}],
        (PROGRESS, "user_progress_user_id_fkey", FOREIGN): [{"user_id": NO_ONE}],
        **{(PROGRESS, f"{column}_not_negative", CHECK): [{column: -1}] for column in NUMBERS.split()},
        (EXPORTS, "export_history_user_id_fkey", FOREIGN): [{"user_id": NO_ONE}],
        (EXPORTS, "export_format_valid", CHECK): [
            {"export_type": one, "export_format": other}
            for one in (*FORMATS, "CSV")
            for other in (*FORMATS.values(), "CSV", "")
            if FORMATS.get(one) != other
        ],
        (EXPORTS, "expires_at_in_range", CHECK): no_moments("expires_at"),
        (EXPORTS, "status_valid", CHECK): each("status", ("", "done", "PENDING")),
        (EXPORTS, "records_count_not_negative", CHECK): [{"records_count": -1}],
        (EXPORTS, "file_size_bytes_not_negative", CHECK): [{"file_size_bytes": -1}],
        (EXPORTS, "retry_count_not_negative", CHECK): [{"retry_count": -1}],
        (EXPORTS, "file_url_length", CHECK): [{**COMPLETED, "file_url": "x" * 2049}],
        (EXPORTS, "error_message_length", CHECK): [{**FAILED, "error_message": "x" * 501}],
        (EXPORTS, "filters_valid", CHECK): objects("filters", 4096),
        (EXPORTS, "data_valid", CHECK): objects("data", 4096),
        (EXPORTS, "file_with_completed", CHECK): [
            {**COMPLETED, column: None} for column in COMPLETED if column != "status"
        ],
        (EXPORTS, "file_url_with_completed", CHECK): [
            {**FAILED, "status": status, "file_url": "s3://exports/one.csv"}
            for status in ("pending", "processing", "failed", "expired")
        ],
        (EXPORTS, "error_message_with_failed", CHECK): [{"status": "failed"}],
        (FILES, "abandoned_export_files_pkey", UNIQUE): [{"file_url": "s3://exports/gone.csv"}],
    }
)
good_rows(
    {
        USERS: [
            *each("email", ADDRESSES),
            *each("username", (None, "Bob", "x" * 50, "_1_")),
            *each("full_name", (None, "Al", " Al ")),
            *each("avatar_url", (None, "http://x", "https://" + "x" * 2040)),
            *each("spanish_level", ("beginner", "intermediate", "advanced")),
            *each("theme", ("light", "dark", "auto")),
            *each("language", ("en", "es")),
            *each("preferred_difficulty", ("beginner", "intermediate", "advanced")),
            *each("target_words_per_day", (1, 100)),
            {"last_login": None},
        ],
        SESSIONS: [
            {"user_id": None},
            *each("session_type", ("description", "qa", "vocabulary", "mixed")),
            {"started_at": "2000-01-01 00:00:00+00", "ended_at": "2000-01-01 00:00:00+00"},
            {"started_at": "2099-12-31 23:59:59+00", "ended_at": "2099-12-31 23:59:59+00"},
            *each("duration_minutes", (0, MOST, None)),
            *({column: value} for column in COUNTERS for value in (0, MOST)),
            {"qa_attempts": MOST, "qa_correct": MOST},
            {"qa_attempts": 0, "qa_correct": 0},
            {"session_data": json_over(65500)},
            {"session_data": nested(60)},
            *({column: value} for column in SHARES for value in (0, 1)),
            {"user_agent": "x" * 1000, "device_type": "x" * 50},
            {"user_agent": None, "device_type": None, "ip_address": "2001:db8::1"},
        ],
        KEYS: [
            *each("openai_api_key", (None, f"enc:v1:{'k' * 32}:{SECRET[:39]}", f"enc:v1:_:{'x' * 1991}")),
            {"unsplash_api_key": CIPHERTEXT, "anthropic_api_key": CIPHERTEXT, "is_active": False},
        ],
        PROGRESS: [dict.fromkeys(NUMBERS.split(), 2000000)],
        EXPORTS: [
            *({"export_type": one, "export_format": other} for one, other in FORMATS.items()),
            {"filters": json_over(4080)},
            {"filters": nested(60), "data": nested(60)},
            {**COMPLETED, "file_url": "x" * 2048, "records_count": 0, "file_size_bytes": 0},
            {**FAILED, "error_message": "x" * 500},
            {"status": "processing", "records_count": 7},
            {**COMPLETED, "status": "expired", "file_url": None},
        ],
    }
)
required(
    {
        USERS: "email spanish_level is_authenticated profile_completed theme language"
        " default_description_style target_words_per_day preferred_difficulty enable_notifications"
        " created_at updated_at",
        SESSIONS: "session_type started_at images_processed descriptions_generated qa_attempts qa_correct"
        " vocabulary_learned phrases_saved session_data engagement_score completion_rate created_at",
        KEYS: "user_id is_active created_at updated_at",
        PROGRESS: f"user_id {NUMBERS} created_at updated_at",
        EXPORTS: "user_id export_type export_format status filters data retry_count created_at updated_at",
        FILES: "abandoned_at",
    }
)
defaults(
    {
        USERS: (
            ("email",),
            (
                "id IS NOT NULL AND spanish_level = 'beginner' AND NOT is_authenticated"
                " AND NOT profile_completed AND theme = 'light' AND language = 'en'"
                " AND default_description_style = 'conversacional' AND target_words_per_day = 10"
                " AND preferred_difficulty = 'beginner' AND enable_notifications"
                " AND created_at = now() AND updated_at = now() AND last_login IS NULL"
            ),
        ),
        SESSIONS: (
            ("session_type",),
            (
                "id IS NOT NULL AND user_id IS NULL AND started_at = now() AND ended_at IS NULL"
                " AND duration_minutes IS NULL AND (images_processed, descriptions_generated, qa_attempts,"
                " qa_correct, vocabulary_learned, phrases_saved) = (0, 0, 0, 0, 0, 0)"
                " AND session_data = '{}' AND engagement_score = 0 AND completion_rate = 0"
                " AND created_at = now()"
            ),
        ),
        KEYS: (("user_id",), "id IS NOT NULL AND is_active AND created_at = now() AND updated_at = now()"),
        PROGRESS: (
            ("user_id",),
            (
                f"id IS NOT NULL AND {' + '.join(NUMBERS.split())} = 0 AND average_accuracy = 0"
                " AND average_completion_time_seconds = 0 AND created_at = now() AND updated_at = now()"
            ),
        ),
        FILES: (("file_url",), "abandoned_at = now()"),
        EXPORTS: (
            ("user_id", "export_type", "export_format"),
            (
                "id IS NOT NULL AND status = 'pending' AND filters = '{}' AND data = '{}' AND retry_count = 0"
                " AND created_at = now() AND updated_at = now() AND started_at IS NULL"
            ),
        ),
    }
)
one_id(USERS, SESSIONS, KEYS, PROGRESS, EXPORTS)


@promise(f"{EXPORTS} export_type_valid")
def an_unknown_kind_of_export_is_refused_whatever_its_format(s: Session) -> None:
    s.superuser.allows(f"ALTER TABLE {EXPORTS} DROP CONSTRAINT IF EXISTS export_format_valid")
    for kind in ("", "CSV", "xlsx"):
        statement = insertion(EXPORTS, export_type=kind)
        s.superuser.refused(*statement, sqlstate=CHECK, constraint="export_type_valid")
