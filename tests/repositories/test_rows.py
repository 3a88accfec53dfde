"""Rows that break a rule of the database itself, past all input types: our errors, and no row in them."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import CheckConstraint, text
from sqlalchemy.orm import Session

from carnivore_db import Identity, errors
from carnivore_db.errors import InvalidInput
from carnivore_db.schema.base import Base
from carnivore_db.vocabulary.models import NUMBERS, PROVIDERS
from tests.support.bad_input import insert
from tests.support.callers import Caller
from tests.support.hostile import MARK, attempt

NOBODY = 2**40  # an id that no row has
TOKEN = (MARK * 6)[:64]
SHORT_TOKEN = (MARK * 3)[:32]
SEALED = "enc:v1:k1:" + "A" * 50
EMAIL = f"{MARK}@example.com"
JSON = f'{{"{MARK}": 1}}'
NEW_YEAR, NEXT_DAY = "2026-01-01 00:00:00+00", "2026-01-02 00:00:00+00"
EARLIER = "2025-12-31 00:00:00+00"
COUNTERS = (
    "duration_minutes",
    "images_processed",
    "descriptions_generated",
    "qa_attempts",
    "vocabulary_learned",
    "phrases_saved",
)
GOOD: dict[str, dict[str, Any]] = {
    "user_sessions": {
        "email": EMAIL,
        "path_choice": "keto",
        "macro_data": JSON,
        "payment_status": "pending",
        "stripe_payment_id": f"pi_{MARK}",
    },
    "generated_reports": {
        "session_id": 1,
        "email": EMAIL,
        "access_token": TOKEN,
        "report_html": f"<p>{MARK}</p>",
        "questionnaire_data": JSON,
        "created_at": NEW_YEAR,
        "expires_at": NEXT_DAY,
        "access_count": 0,
        "last_accessed_at": None,
    },
    "report_access_log": {
        "report_id": 1,
        "accessed_at": NEW_YEAR,
        "ip_address": "2001:db8::5ec2:e7c0",
        "user_agent": MARK,
    },
    "report_access_pending": {
        "report_id": 1,
        "access_count": 1,
        "last_accessed_at": NEW_YEAR,
    },
    "report_expiry_changes": {
        "report_id": 1,
        "changed_by": MARK,
        "reason": MARK,
        "old_expires_at": NEW_YEAR,
        "new_expires_at": NEW_YEAR,
    },
    "pricing_tiers": {"code": "x"},
    "calculator2_sessions": {
        "session_token": SHORT_TOKEN,
        "form_state": JSON,
        "pricing_tier": "bundle",
        "amount_paid": 1,
        "payment_status": "pending",
        "report_token": None,
        "created_at": NEW_YEAR,
        "last_active_at": NEW_YEAR,
        "expires_at": "2026-01-03 00:00:00+00",
    },
    "cw_assessment_sessions": {
        "email": EMAIL,
        "first_name": MARK,
        "form_data": JSON,
        "payment_status": "pending",
        "stripe_session_id": f"cs_{MARK}",
    },
    "stripe_events": {
        "id": f"evt_{MARK}",
        "type": "x",
        "livemode": True,
        "payload": JSON,
        "attempts": 1,
        "outcome": "applied",
        "error": None,
        "session_table": None,
        "session_key": None,
        "refunded_amount": 0,
    },
    "vocabulary.users": {
        "id": UUID(int=1),
        "email": EMAIL,
        "username": MARK,
        "full_name": MARK,
        "avatar_url": f"https://example.com/{MARK}",
        "target_words_per_day": 10,
    },
    "vocabulary.sessions": {
        "user_id": None,
        "session_type": "qa",
        "started_at": "2026-05-01 12:00:00+00",
        "ended_at": "2026-05-01 12:20:00+00",
        "duration_minutes": 20,
        "images_processed": 1,
        "descriptions_generated": 1,
        "qa_attempts": 10,
        "qa_correct": 7,
        "vocabulary_learned": 1,
        "phrases_saved": 1,
        "session_data": JSON,
        "user_agent": MARK,
        "ip_address": "2001:db8::5ec2:e7c0",
        "device_type": "phone",
        "engagement_score": 0.5,
        "completion_rate": 0.5,
    },
    "vocabulary.user_api_keys": {
        "user_id": UUID(int=1),
        **{f"{provider}_api_key": SEALED for provider in PROVIDERS},
        "is_active": True,
    },
    "vocabulary.user_progress": {"user_id": UUID(int=1), **dict.fromkeys(NUMBERS, 0)},
    "vocabulary.export_history": {
        "user_id": UUID(int=1),
        "export_type": "csv",
        "export_format": "csv",
        "status": "completed",
        "records_count": 1,
        "file_size_bytes": 1,
        "retry_count": 0,
        "file_url": f"file:///{MARK}",
        "filters": JSON,
        "data": JSON,
        "error_message": MARK,
        "expires_at": "2026-05-08 12:00:00+00",
    },
}
NO_EMAILS = (
    *(MARK, f"{MARK}@x", f"{MARK}@x.c|d", f"{MARK} @x.com", f"{MARK}@@x.com", "@x.com"),
    f"{MARK}@x.com\n",
)
NO_OBJECTS = (f'["{MARK}"]', f'"{MARK}"', "null", "5")
NO_JSON = (*NO_OBJECTS, f'{{"a": {"[" * 66}{"]" * 66}}}', '{"a": 1e309}')
NO_KEYS = (
    *("", MARK, f"sk-{MARK}", SEALED[:-12], SEALED + "=", SEALED + "\n", "\n" + SEALED, SEALED + " "),
    *(SEALED.replace("k1", key_id) for key_id in ("", "K1", "k:1", "k" * 33)),
    *("enc:v2:k1:" + "A" * 50, "enc:v1:k1:" + "A" * 1991),
)
MANY_KEYS = "{" + ", ".join(f'"{MARK}{n}": {n}' for n in range(20_000)) + "}"


def large(size: int) -> str:
    return f'{{"{MARK}": "{"x" * size}"}}'


def each(field: str, *values: object) -> list[dict[str, Any]]:
    return [{field: value} for value in values]


# By table and check, values that break it.
BROKEN: dict[str, dict[str, list[dict[str, Any]]]] = {
    "user_sessions": {
        "email_valid": each("email", *NO_EMAILS),
        "path_choice_valid": each("path_choice", MARK, "Keto"),
        "macro_data_valid": each("macro_data", *NO_OBJECTS, large(65_536)),
        "payment_status_valid": each("payment_status", MARK),
        "payment_id_with_completed": [
            {"payment_status": state, "stripe_payment_id": None} for state in ("completed", "refunded")
        ],
        "payment_id_not_empty": each("stripe_payment_id", "", " \t"),
    },
    "generated_reports": {
        "email_valid": each("email", *NO_EMAILS),
        "access_token_valid": each("access_token", MARK, *(TOKEN[:-1] + end for end in "gA\n")),
        "report_html_not_empty": each("report_html", "", MARK * 450_000),
        "questionnaire_not_empty": each("questionnaire_data", *NO_OBJECTS, MANY_KEYS),
        "expiry_in_future": each("expires_at", NEW_YEAR, EARLIER),
        "expiry_within_ten_years": each("expires_at", "2036-01-03 00:00:00+00"),
        "access_count_not_negative": each("access_count", -1),
        "last_access_after_creation": each("last_accessed_at", EARLIER),
    },
    "report_access_log": {
        "user_agent_not_empty": each("user_agent", "", " \n"),
        "user_agent_length": each("user_agent", (MARK * 100)[:1001]),
        "accessed_at_in_range": each(
            "accessed_at", "1999-12-31 23:59:59+00", "2100-01-01 00:00:00+00", "infinity"
        ),
    },
    "report_access_pending": {"access_count_positive": each("access_count", 0)},
    "report_expiry_changes": {"reason_length": each("reason", (MARK * 20)[:201])},
    "pricing_tiers": {"code_valid": each("code", "", MARK, "a b", "a\n")},
    "calculator2_sessions": {
        "session_token_valid": each("session_token", MARK, (MARK * 3)[:33], SHORT_TOKEN[:-1] + "+"),
        "form_state_valid": each("form_state", *NO_OBJECTS, large(65_536)),
        "amount_paid_not_negative": each("amount_paid", -0.01),
        "payment_status_valid": each("payment_status", MARK),
        "expiry_after_creation": each("expires_at", NEW_YEAR),
        "last_active_after_creation": each("last_active_at", EARLIER),
    },
    "cw_assessment_sessions": {
        "form_data_is_object": each("form_data", *NO_OBJECTS, large(262_144)),
        "email_format": each("email", *NO_EMAILS),
        "first_name_not_empty": each("first_name", "", " \n"),
        "payment_status_valid": each("payment_status", MARK),
    },
    "stripe_events": {
        "event_id_valid": each("id", "", f"{MARK}-", f"{MARK}\n"),
        "payload_valid": each("payload", *NO_OBJECTS, large(1_048_576)),
        "attempts_positive": each("attempts", 0),
        "outcome_valid": each("outcome", MARK),
        "error_length": each("error", (MARK * 20)[:201]),
        "refunded_amount_not_negative": each("refunded_amount", -1),
        "session_table_with_key": [{"session_table": MARK}, {"session_key": MARK}],
    },
    "vocabulary.users": {
        "email_format": each("email", *NO_EMAILS),
        "username_valid": each("username", "", "ab", f"{MARK}!", f"{MARK}\n", f"{MARK}\u00e4"),
        "full_name_length": each("full_name", "", "x", "   x "),
        "avatar_url_valid": each(
            "avatar_url", MARK, f"ftp://{MARK}", *(f"https://{MARK}{end}" for end in (" ", "\n", MARK * 199))
        ),
        "target_words_per_day_in_range": each("target_words_per_day", 0, 101),
    },
    "vocabulary.sessions": {
        "started_at_in_range": [
            {"started_at": moment, "ended_at": None}
            for moment in ("1999-12-31 23:59:59+00", "2100-01-01 00:00:00+00", "infinity", "-infinity")
        ],
        "ended_at_in_range": each("ended_at", "2026-05-01 11:59:59+00", "2100-01-01 00:00:00+00", "infinity"),
        **{f"{name}_in_range": each(name, -1, 100_001) for name in COUNTERS},
        "qa_correct_in_range": each("qa_correct", -1, 11),
        "session_data_valid": each("session_data", *NO_JSON, large(65_536)),
        "user_agent_length": each("user_agent", (MARK * 100)[:1001]),
        "engagement_score_in_range": each("engagement_score", -0.01, 1.01, "NaN"),
        "completion_rate_in_range": each("completion_rate", -0.01, 1.01, "NaN"),
    },
    "vocabulary.user_api_keys": {
        f"{provider}_api_key_valid": each(f"{provider}_api_key", *NO_KEYS) for provider in PROVIDERS
    },
    "vocabulary.user_progress": {f"{number}_not_negative": each(number, -1) for number in NUMBERS},
    "vocabulary.export_history": {
        "export_format_valid": [
            *each("export_format", MARK, "", "pdf"),
            *each("export_type", MARK, "", "CSV"),
        ],
        "status_valid": [{"status": MARK, "file_url": None}],
        "records_count_not_negative": each("records_count", -1),
        "file_size_bytes_not_negative": each("file_size_bytes", -1),
        "retry_count_not_negative": each("retry_count", -1),
        "file_url_length": each("file_url", (MARK * 200)[:2049]),
        "error_message_length": each("error_message", (MARK * 50)[:501]),
        "filters_valid": each("filters", *NO_JSON, large(4096)),
        "data_valid": each("data", *NO_JSON, large(4096)),
        "file_with_completed": [
            {name: None} for name in ("records_count", "file_size_bytes", "file_url", "expires_at")
        ],
        "file_url_with_completed": each("status", "pending", "processing", "failed", "expired"),
        "error_message_with_failed": [{"status": "failed", "file_url": None, "error_message": None}],
    },
}
UNBREAKABLE = {
    ("cw_assessment_sessions", "completed_at_with_completed"),  # a trigger sets completed_at
    ("vocabulary.export_history", "export_type_valid"),  # the pair of type and format is looked at first
}
# Filled by a trigger when it is missing.
FILLED = ("generated_reports", "email")
# No check stands there, but a key, a type or a parser.
OTHERWISE: list[tuple[str, dict[str, Any], type[Exception]]] = [
    ("generated_reports", {"session_id": NOBODY}, errors.SessionNotFound),
    ("report_access_log", {"report_id": NOBODY}, errors.ReportNotFound),
    ("calculator2_sessions", {"report_token": TOKEN}, errors.ReportNotFound),
    ("calculator2_sessions", {"pricing_tier": MARK}, InvalidInput),
    ("pricing_tiers", {"code": "bundle"}, errors.AlreadyExists),
    ("user_sessions", {"email": f"{MARK}@{'x' * 300}.com"}, InvalidInput),
    ("cw_assessment_sessions", {"first_name": MARK * 10}, InvalidInput),
    ("calculator2_sessions", {"amount_paid": 10**9}, InvalidInput),
    ("user_sessions", {"macro_data": f'{{"{MARK}": '}, InvalidInput),
    ("user_sessions", {"macro_data": f'{{"{MARK}": "\\u0000"}}'}, InvalidInput),
    ("user_sessions", {"macro_data": "[" * 100_000}, InvalidInput),
    ("user_sessions", {"stripe_payment_id": MARK + "\0"}, InvalidInput),
    ("user_sessions", {"stripe_payment_id": MARK + "\ud800"}, InvalidInput),
    ("report_access_log", {"ip_address": f"{MARK}"}, InvalidInput),
    ("generated_reports", {"expires_at": f"{MARK}"}, InvalidInput),
    ("generated_reports", {"session_id": 2**63}, InvalidInput),
    ("report_expiry_changes", {"nothing": MARK}, errors.SchemaMismatch),
    ("vocabulary.sessions", {"user_id": UUID(int=5)}, errors.UserNotFound),
    ("vocabulary.user_api_keys", {"user_id": UUID(int=5)}, errors.UserNotFound),
    ("vocabulary.user_progress", {"user_id": UUID(int=5)}, errors.UserNotFound),
    ("vocabulary.export_history", {"user_id": UUID(int=5)}, errors.UserNotFound),
    ("vocabulary.users", {"id": MARK}, InvalidInput),
    ("vocabulary.users", {"username": MARK * 10}, InvalidInput),
    ("vocabulary.users", {"full_name": MARK + "\0"}, InvalidInput),
    ("vocabulary.users", {"full_name": MARK + "\ud800"}, InvalidInput),
    ("vocabulary.sessions", {"session_type": MARK}, InvalidInput),
    ("vocabulary.sessions", {"session_data": f'{{"{MARK}": '}, InvalidInput),
    ("vocabulary.sessions", {"session_data": f'{{"{MARK}": "\\u0000"}}'}, InvalidInput),
    ("vocabulary.sessions", {"ip_address": MARK}, InvalidInput),
    ("vocabulary.sessions", {"started_at": MARK}, InvalidInput),
    ("vocabulary.sessions", {"qa_attempts": 2**31}, InvalidInput),
    ("vocabulary.sessions", {"engagement_score": 100}, InvalidInput),
    ("vocabulary.export_history", {"file_size_bytes": 2**63}, InvalidInput),
    ("vocabulary.user_progress", {"nothing": MARK}, errors.SchemaMismatch),
]


def put(tx: Session, table: str, row: dict[str, Any]) -> None:
    """In the schema vocabulary no trigger mends the row."""
    if table.startswith("vocabulary."):
        tx.execute(text("SET LOCAL session_replication_role = replica"))
    insert(tx, table, row)


def test_the_rows_are_good_before_they_are_broken(owning_caller: Caller, owner_identity: Identity) -> None:
    def body(tx: Session) -> None:
        tx.execute(text("SET LOCAL session_replication_role = replica"))  # parents are taken for granted
        for table, row in GOOD.items():
            insert(tx, table, row)
        raise LookupError

    with pytest.raises(LookupError):
        owning_caller.run(owner_identity, body)


def test_every_check_has_its_breakers() -> None:
    checks = {
        (str(table), str(constraint.name))
        for table in Base.metadata.sorted_tables
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint) and (str(table) in GOOD or table.schema == "vocabulary")
    }
    assert checks == {(table, rule) for table, rules in BROKEN.items() for rule in rules} | UNBREAKABLE


@pytest.mark.parametrize("table", GOOD)
def test_a_broken_check_is_named_and_no_row_is_quoted(
    owning_caller: Caller, owner_identity: Identity, table: str
) -> None:
    for rule, changes in BROKEN[table].items():
        for change in changes:
            row = {**GOOD[table], **change}
            error = attempt(lambda row=row: owning_caller.call(owner_identity, put, table, row))
            assert isinstance(error, InvalidInput), (rule, change)
            assert error.rule == rule, change


@pytest.mark.parametrize("table", GOOD)
def test_a_missing_value_is_named_and_no_row_is_quoted(
    owning_caller: Caller, owner_identity: Identity, table: str
) -> None:
    required = [
        column.name
        for column in Base.metadata.tables[table].columns
        if column.name in GOOD[table] and not column.nullable and (table, column.name) != FILLED
    ]
    assert required
    for column in required:
        row = {**GOOD[table], column: None}
        error = attempt(lambda row=row: owning_caller.call(owner_identity, put, table, row))
        assert isinstance(error, InvalidInput)
        assert (error.field, error.rule) == (column, "required")


@pytest.mark.parametrize(("table", "change", "expected"), OTHERWISE)
def test_what_the_database_refuses_in_other_ways(
    owning_caller: Caller,
    owner_identity: Identity,
    table: str,
    change: dict[str, Any],
    expected: type[Exception],
) -> None:
    row = {**GOOD[table], **change}
    assert type(attempt(lambda: owning_caller.call(owner_identity, insert, table, row))) is expected


@pytest.mark.parametrize(
    "table",
    [
        *("user_sessions", "pricing_tiers", "cw_assessment_sessions", "stripe_events"),
        *("vocabulary.users", "vocabulary.user_api_keys", "vocabulary.user_progress"),
    ],
)
def test_a_value_that_is_there_already_is_not_quoted(
    owning_caller: Caller, owner_identity: Identity, table: str
) -> None:
    def body(tx: Session) -> None:
        put(tx, table, GOOD[table])
        put(tx, table, GOOD[table])

    assert isinstance(attempt(lambda: owning_caller.run(owner_identity, body)), errors.AlreadyExists)


@pytest.mark.parametrize("ended", ["2026-05-01 11:00:00+00", "infinity", "-infinity", "2099-01-01 00:00+00"])
def test_no_trigger_stands_before_a_check(
    owning_caller: Caller, owner_identity: Identity, ended: str
) -> None:
    """The duration is derived of these moments before the checks look at them."""
    row = {**GOOD["vocabulary.sessions"], "ended_at": ended, "duration_minutes": None}
    error = attempt(lambda: owning_caller.call(owner_identity, insert, "vocabulary.sessions", row))
    if ended.startswith("2099"):
        assert error is None
    else:
        assert isinstance(error, InvalidInput)
        assert error.rule == "ended_at_in_range"
