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
from tests.vocabulary.samples import NOBODY

SEALED = "enc:v1:k1:" + "A" * 50
COUNTERS = (
    "duration_minutes",
    "images_processed",
    "descriptions_generated",
    "qa_attempts",
    "vocabulary_learned",
    "phrases_saved",
)
GOOD: dict[str, dict[str, Any]] = {
    "users": {
        "id": UUID(int=1),
        "email": f"{MARK}@example.com",
        "username": MARK,
        "full_name": MARK,
        "avatar_url": f"https://example.com/{MARK}",
        "target_words_per_day": 10,
    },
    "sessions": {
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
        "session_data": f'{{"{MARK}": 1}}',
        "user_agent": MARK,
        "ip_address": "2001:db8::5ec2:e7c0",
        "device_type": "phone",
        "engagement_score": 0.5,
        "completion_rate": 0.5,
    },
    "user_api_keys": {
        "user_id": UUID(int=1),
        **{f"{provider}_api_key": SEALED for provider in PROVIDERS},
        "is_active": True,
    },
    "user_progress": {"user_id": UUID(int=1), **dict.fromkeys(NUMBERS, 0)},
    "export_history": {
        "user_id": UUID(int=1),
        "export_type": "csv",
        "export_format": "csv",
        "status": "completed",
        "records_count": 1,
        "file_size_bytes": 1,
        "retry_count": 0,
        "file_url": f"file:///{MARK}",
        "filters": f'{{"{MARK}": 1}}',
        "data": f'{{"{MARK}": 1}}',
        "error_message": MARK,
        "expires_at": "2026-05-08 12:00:00+00",
    },
}
NO_EMAILS = (
    MARK,
    f"{MARK}@x",
    f"{MARK}@x.c|d",
    f"{MARK} @x.com",
    f"{MARK}@@x.com",
    "@x.com",
    f"{MARK}@x.com\n",
)
DEEP = f'{{"a": {"[" * 66}{"]" * 66}}}'
NO_JSON = (f'["{MARK}"]', f'"{MARK}"', "null", "5", DEEP, '{"a": 1e309}')
NO_KEYS = (
    *("", MARK, f"sk-{MARK}", SEALED[:-12], SEALED + "=", SEALED + "\n", "\n" + SEALED, SEALED + " "),
    *(SEALED.replace("k1", key_id) for key_id in ("", "K1", "k:1", "k" * 33)),
    *("enc:v2:k1:" + "A" * 50, "enc:v1:k1:" + "A" * 1991),
)


def large(size: int) -> str:
    return f'{{"{MARK}": "{"x" * size}"}}'


def each(field: str, *values: object) -> list[dict[str, Any]]:
    return [{field: value} for value in values]


# By table and check, values that break it.
BROKEN: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("users", "email_format"): each("email", *NO_EMAILS),
    ("users", "username_valid"): each("username", "", "ab", f"{MARK}!", f"{MARK}\n", f"{MARK}\u00e4"),
    ("users", "full_name_length"): each("full_name", "", "x", "   x "),
    ("users", "avatar_url_valid"): each(
        "avatar_url", MARK, f"ftp://{MARK}", f"https://{MARK} ", f"https://{MARK}\n", "https://" + MARK * 200
    ),
    ("users", "target_words_per_day_in_range"): each("target_words_per_day", 0, 101),
    ("sessions", "started_at_in_range"): [
        {"started_at": moment, "ended_at": None}
        for moment in ("1999-12-31 23:59:59+00", "2100-01-01 00:00:00+00", "infinity", "-infinity")
    ],
    ("sessions", "ended_at_in_range"): each(
        "ended_at", "2026-05-01 11:59:59+00", "2100-01-01 00:00:00+00", "infinity"
    ),
    **{("sessions", f"{name}_in_range"): each(name, -1, 100_001) for name in COUNTERS},
    ("sessions", "qa_correct_in_range"): each("qa_correct", -1, 11),
    ("sessions", "session_data_valid"): each("session_data", *NO_JSON, large(65_536)),
    ("sessions", "user_agent_length"): each("user_agent", (MARK * 100)[:1001]),
    ("sessions", "engagement_score_in_range"): each("engagement_score", -0.01, 1.01, "NaN"),
    ("sessions", "completion_rate_in_range"): each("completion_rate", -0.01, 1.01, "NaN"),
    **{
        ("user_api_keys", f"{provider}_api_key_valid"): each(f"{provider}_api_key", *NO_KEYS)
        for provider in PROVIDERS
    },
    **{("user_progress", f"{number}_not_negative"): each(number, -1) for number in NUMBERS},
    ("export_history", "export_format_valid"): [
        *each("export_format", MARK, "", "pdf"),
        *each("export_type", MARK, "", "CSV"),
    ],
    ("export_history", "status_valid"): [{"status": MARK, "file_url": None}],
    ("export_history", "records_count_not_negative"): each("records_count", -1),
    ("export_history", "file_size_bytes_not_negative"): each("file_size_bytes", -1),
    ("export_history", "retry_count_not_negative"): each("retry_count", -1),
    ("export_history", "file_url_length"): each("file_url", (MARK * 200)[:2049]),
    ("export_history", "error_message_length"): each("error_message", (MARK * 50)[:501]),
    ("export_history", "filters_valid"): each("filters", *NO_JSON, large(4096)),
    ("export_history", "data_valid"): each("data", *NO_JSON, large(4096)),
    ("export_history", "file_with_completed"): [
        {name: None} for name in ("records_count", "file_size_bytes", "file_url", "expires_at")
    ],
    ("export_history", "file_url_with_completed"): each(
        "status", "pending", "processing", "failed", "expired"
    ),
    ("export_history", "error_message_with_failed"): [
        {"status": "failed", "file_url": None, "error_message": None}
    ],
}
# The pair of type and format is looked at first.
UNBREAKABLE = {("export_history", "export_type_valid")}


def broken(tx: Session, table: str, row: dict[str, Any]) -> None:
    """Parents are taken for granted, and no trigger mends the row."""
    tx.execute(text("SET LOCAL session_replication_role = replica"))
    insert(tx, f"vocabulary.{table}", row)


def test_the_rows_are_good_before_they_are_broken(owning_caller: Caller, owner_identity: Identity) -> None:
    def body(tx: Session) -> None:
        for table, row in GOOD.items():
            broken(tx, table, row)
        raise LookupError

    with pytest.raises(LookupError):
        owning_caller.run(owner_identity, body)


def test_every_check_has_its_breakers() -> None:
    checks = {
        (table.name, str(constraint.name))
        for table in Base.metadata.sorted_tables
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint) and table.schema == "vocabulary"
    }
    assert checks == set(BROKEN) | UNBREAKABLE


@pytest.mark.parametrize("table", GOOD)
def test_a_broken_check_is_named_and_no_row_is_quoted(
    owning_caller: Caller, owner_identity: Identity, table: str
) -> None:
    for (broken_table, rule), changes in BROKEN.items():
        for change in changes if broken_table == table else []:
            row = {**GOOD[table], **change}
            error = attempt(lambda row=row: owning_caller.call(owner_identity, broken, table, row))
            assert isinstance(error, InvalidInput), (rule, change)
            assert error.rule == rule, change


@pytest.mark.parametrize("table", GOOD)
def test_a_missing_value_is_named_and_no_row_is_quoted(
    owning_caller: Caller, owner_identity: Identity, table: str
) -> None:
    columns = Base.metadata.tables[f"vocabulary.{table}"].columns
    required = [column.name for column in columns if column.name in GOOD[table] and not column.nullable]
    assert required
    for column in required:
        row = {**GOOD[table], column: None}
        error = attempt(lambda row=row: owning_caller.call(owner_identity, broken, table, row))
        assert isinstance(error, InvalidInput)
        assert (error.field, error.rule) == (column, "required")


@pytest.mark.parametrize(
    ("table", "change", "expected"),
    [
        ("sessions", {"user_id": NOBODY}, errors.UserNotFound),
        ("user_api_keys", {"user_id": NOBODY}, errors.UserNotFound),
        ("user_progress", {"user_id": NOBODY}, errors.UserNotFound),
        ("export_history", {"user_id": NOBODY}, errors.UserNotFound),
        ("users", {"id": MARK}, InvalidInput),
        ("users", {"username": MARK * 10}, InvalidInput),
        ("users", {"full_name": MARK + "\0"}, InvalidInput),
        ("users", {"full_name": MARK + "\ud800"}, InvalidInput),
        ("sessions", {"session_type": MARK}, InvalidInput),
        ("sessions", {"session_data": f'{{"{MARK}": '}, InvalidInput),
        ("sessions", {"session_data": f'{{"{MARK}": "\\u0000"}}'}, InvalidInput),
        ("sessions", {"ip_address": MARK}, InvalidInput),
        ("sessions", {"started_at": MARK}, InvalidInput),
        ("sessions", {"qa_attempts": 2**31}, InvalidInput),
        ("sessions", {"engagement_score": 100}, InvalidInput),
        ("export_history", {"file_size_bytes": 2**63}, InvalidInput),
        ("user_progress", {"nothing": MARK}, errors.SchemaMismatch),
    ],
)
def test_what_the_database_refuses_in_other_ways(
    owning_caller: Caller,
    owner_identity: Identity,
    table: str,
    change: dict[str, Any],
    expected: type[Exception],
) -> None:
    row = {**GOOD[table], **change}
    error = attempt(lambda: owning_caller.call(owner_identity, insert, f"vocabulary.{table}", row))
    assert type(error) is expected


@pytest.mark.parametrize("table", ["users", "user_api_keys", "user_progress"])
def test_a_value_that_is_there_already_is_not_quoted(
    owning_caller: Caller, owner_identity: Identity, table: str
) -> None:
    def body(tx: Session) -> None:
        broken(tx, table, GOOD[table])
        broken(tx, table, GOOD[table])

    assert isinstance(attempt(lambda: owning_caller.run(owner_identity, body)), errors.AlreadyExists)


@pytest.mark.parametrize("ended", ["2026-05-01 11:00:00+00", "infinity", "-infinity", "2099-01-01 00:00+00"])
def test_no_trigger_stands_before_a_check(
    owning_caller: Caller, owner_identity: Identity, ended: str
) -> None:
    """The duration is derived of these moments before the checks look at them."""
    row = {**GOOD["sessions"], "ended_at": ended, "duration_minutes": None}
    error = attempt(lambda: owning_caller.call(owner_identity, insert, "vocabulary.sessions", row))
    if ended.startswith("2099"):
        assert error is None
    else:
        assert isinstance(error, InvalidInput)
        assert error.rule == "ended_at_in_range"
