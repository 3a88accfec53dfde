"""Rows that break a rule of the database itself, past all input types: our errors, and no row in them."""

from typing import Any

import pytest
from sqlalchemy import CheckConstraint, text
from sqlalchemy.orm import Session

from carnivore_db import Identity, errors
from carnivore_db.errors import InvalidInput
from carnivore_db.schema.base import Base
from tests.support.bad_input import insert
from tests.support.callers import Caller
from tests.support.hostile import MARK, attempt
from tests.weekly.samples import NOBODY

TOKEN = (MARK * 6)[:64]
GOOD: dict[str, dict[str, Any]] = {
    "user_sessions": {
        "email": f"{MARK}@example.com",
        "path_choice": "keto",
        "macro_data": f'{{"{MARK}": 1}}',
        "payment_status": "pending",
        "stripe_payment_id": f"pi_{MARK}",
    },
    "generated_reports": {
        "session_id": 1,
        "email": f"{MARK}@example.com",
        "access_token": TOKEN,
        "report_html": f"<p>{MARK}</p>",
        "questionnaire_data": f'{{"{MARK}": 1}}',
        "created_at": "2026-01-01 00:00:00+00",
        "expires_at": "2026-01-02 00:00:00+00",
        "access_count": 0,
        "last_accessed_at": None,
    },
    "report_access_log": {
        "report_id": 1,
        "accessed_at": "2026-01-01 00:00:00+00",
        "ip_address": "2001:db8::5ec2:e7c0",
        "user_agent": MARK,
    },
    "report_access_pending": {
        "report_id": 1,
        "access_count": 1,
        "last_accessed_at": "2026-01-01 00:00:00+00",
    },
    "report_expiry_changes": {
        "report_id": 1,
        "changed_by": MARK,
        "reason": MARK,
        "old_expires_at": "2026-01-01 00:00:00+00",
        "new_expires_at": "2026-01-01 00:00:00+00",
    },
    "pricing_tiers": {"code": "x"},
    "calculator2_sessions": {
        "session_token": (MARK * 3)[:32],
        "form_state": f'{{"{MARK}": 1}}',
        "pricing_tier": "bundle",
        "amount_paid": 1,
        "payment_status": "pending",
        "report_token": None,
        "created_at": "2026-01-01 00:00:00+00",
        "last_active_at": "2026-01-01 00:00:00+00",
        "expires_at": "2026-01-03 00:00:00+00",
    },
    "cw_assessment_sessions": {
        "email": f"{MARK}@example.com",
        "first_name": MARK,
        "form_data": f'{{"{MARK}": 1}}',
        "payment_status": "pending",
        "stripe_session_id": f"cs_{MARK}",
    },
    "stripe_events": {
        "id": f"evt_{MARK}",
        "type": "x",
        "livemode": True,
        "payload": f'{{"{MARK}": 1}}',
        "attempts": 1,
        "outcome": "applied",
        "error": None,
        "session_table": None,
        "session_key": None,
        "refunded_amount": 0,
    },
}

# By table and check, values that break it.
EMAILS = [
    f"{MARK}@x.c|d",
    f"{MARK}",
    f"{MARK}@x",
    f"{MARK} @x.com",
    f"{MARK}@x.com\n",
    f"{MARK}@@x.com",
    "@x.com",
]
NO_OBJECTS = [f'["{MARK}"]', f'"{MARK}"', "null", "5"]


def large(size: int) -> str:
    return f'{{"{MARK}": "{"x" * size}"}}'


BROKEN: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("user_sessions", "email_valid"): [{"email": email} for email in EMAILS],
    ("user_sessions", "path_choice_valid"): [{"path_choice": MARK}, {"path_choice": "Keto"}],
    ("user_sessions", "macro_data_valid"): [{"macro_data": v} for v in (*NO_OBJECTS, large(65_536))],
    ("user_sessions", "payment_status_valid"): [{"payment_status": MARK}],
    ("user_sessions", "payment_id_with_completed"): [
        {"payment_status": state, "stripe_payment_id": None} for state in ("completed", "refunded")
    ],
    ("user_sessions", "payment_id_not_empty"): [{"stripe_payment_id": ""}, {"stripe_payment_id": " \t"}],
    ("generated_reports", "email_valid"): [{"email": email} for email in EMAILS],
    ("generated_reports", "access_token_valid"): [
        {"access_token": token} for token in (MARK, TOKEN[:-1] + "g", TOKEN[:-1] + "A", TOKEN[:-1] + "\n")
    ],
    ("generated_reports", "report_html_not_empty"): [{"report_html": ""}, {"report_html": MARK * 450_000}],
    ("generated_reports", "questionnaire_not_empty"): [
        {"questionnaire_data": v}
        for v in (*NO_OBJECTS, "{" + ", ".join(f'"{MARK}{n}": {n}' for n in range(20_000)) + "}")
    ],
    ("generated_reports", "expiry_in_future"): [
        {"expires_at": "2026-01-01 00:00:00+00"},
        {"expires_at": "2025-01-01 00:00:00+00"},
    ],
    ("generated_reports", "expiry_within_ten_years"): [{"expires_at": "2036-01-03 00:00:00+00"}],
    ("generated_reports", "access_count_not_negative"): [{"access_count": -1}],
    ("generated_reports", "last_access_after_creation"): [{"last_accessed_at": "2025-12-31 00:00:00+00"}],
    ("report_access_log", "user_agent_not_empty"): [{"user_agent": ""}, {"user_agent": " \n"}],
    ("report_access_log", "user_agent_length"): [{"user_agent": (MARK * 100)[:1001]}],
    ("report_access_log", "accessed_at_in_range"): [
        {"accessed_at": "1999-12-31 23:59:59+00"},
        {"accessed_at": "2100-01-01 00:00:00+00"},
        {"accessed_at": "infinity"},
    ],
    ("report_access_pending", "access_count_positive"): [{"access_count": 0}],
    ("report_expiry_changes", "reason_length"): [{"reason": (MARK * 20)[:201]}],
    ("pricing_tiers", "code_valid"): [{"code": ""}, {"code": MARK}, {"code": "a b"}, {"code": "a\n"}],
    ("calculator2_sessions", "session_token_valid"): [
        {"session_token": token} for token in (MARK, (MARK * 3)[:33], (MARK * 3)[:31] + "+")
    ],
    ("calculator2_sessions", "form_state_valid"): [{"form_state": v} for v in (*NO_OBJECTS, large(65_536))],
    ("calculator2_sessions", "amount_paid_not_negative"): [{"amount_paid": -0.01}],
    ("calculator2_sessions", "payment_status_valid"): [{"payment_status": MARK}],
    ("calculator2_sessions", "expiry_after_creation"): [{"expires_at": "2026-01-01 00:00:00+00"}],
    ("calculator2_sessions", "last_active_after_creation"): [{"last_active_at": "2025-12-31 00:00:00+00"}],
    ("cw_assessment_sessions", "form_data_is_object"): [
        {"form_data": v} for v in (*NO_OBJECTS, large(262_144))
    ],
    ("cw_assessment_sessions", "email_format"): [{"email": email} for email in EMAILS],
    ("cw_assessment_sessions", "first_name_not_empty"): [{"first_name": ""}, {"first_name": " \n"}],
    ("cw_assessment_sessions", "payment_status_valid"): [{"payment_status": MARK}],
    ("stripe_events", "event_id_valid"): [{"id": ""}, {"id": f"{MARK}-"}, {"id": f"{MARK}\n"}],
    ("stripe_events", "payload_valid"): [{"payload": v} for v in (*NO_OBJECTS, large(1_048_576))],
    ("stripe_events", "attempts_positive"): [{"attempts": 0}],
    ("stripe_events", "outcome_valid"): [{"outcome": MARK}],
    ("stripe_events", "error_length"): [{"error": (MARK * 20)[:201]}],
    ("stripe_events", "refunded_amount_not_negative"): [{"refunded_amount": -1}],
    ("stripe_events", "session_table_with_key"): [{"session_table": MARK}, {"session_key": MARK}],
}
# A trigger sets completed_at, so that no statement can break this check.
UNBREAKABLE = {("cw_assessment_sessions", "completed_at_with_completed")}


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
        (table.name, str(constraint.name))
        for table in Base.metadata.sorted_tables
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint) and table.name in GOOD
    }
    assert checks == set(BROKEN) | UNBREAKABLE


@pytest.mark.parametrize(("table", "rule"), BROKEN)
def test_a_broken_check_is_named_and_no_row_is_quoted(
    owning_caller: Caller, owner_identity: Identity, table: str, rule: str
) -> None:
    for change in BROKEN[table, rule]:
        row = {**GOOD[table], **change}
        error = attempt(lambda row=row: owning_caller.call(owner_identity, insert, table, row))
        assert isinstance(error, InvalidInput)
        assert error.rule == rule


FILLED = ("generated_reports", "email")  # copied from the session when it is missing


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
        error = attempt(lambda row=row: owning_caller.call(owner_identity, insert, table, row))
        assert isinstance(error, InvalidInput)
        assert (error.field, error.rule) == (column, "required")


@pytest.mark.parametrize(
    ("table", "change", "expected"),
    [
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
    assert type(attempt(lambda: owning_caller.call(owner_identity, insert, table, row))) is expected


@pytest.mark.parametrize(
    "table", ["user_sessions", "pricing_tiers", "cw_assessment_sessions", "stripe_events"]
)
def test_a_value_that_is_there_already_is_not_quoted(
    owning_caller: Caller, owner_identity: Identity, table: str
) -> None:
    def body(tx: Session) -> None:
        insert(tx, table, GOOD[table])
        insert(tx, table, GOOD[table])

    assert isinstance(attempt(lambda: owning_caller.run(owner_identity, body)), errors.AlreadyExists)
