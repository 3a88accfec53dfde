"""Rows: every constraint refuses its counter-examples, even a superuser's, and keeps good rows."""

from datetime import timedelta
from functools import partial
from typing import Any

from psycopg.types.json import Jsonb

from tests.security.personas import Session
from tests.security.registry import add, promise
from tests.security.rows import GOOD, NOW, Row, insertion
from tests.security.seed import ASSESSMENT, CALCULATOR_A, OUTSIDE_ALL_MONTHS, REPORT_A

CHECK, UNIQUE, FOREIGN = "23514", "23505", "23503"


def _nested(levels: int) -> Jsonb:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"k": found}
    return Jsonb(found)


NO_ADDRESSES = (
    "",
    "eve",
    "eve@example",
    "eve@example.c",
    "eve@example.c|d",
    "eve@example.c0m",
    "eve@@example.com",
    "eve@-example.com",
    "eve@example..com",
    "e ve@example.com",
    "eve@example.com\n",
    "eve@example.com,mallory@example.com",
    "<eve@example.com>",
)
ADDRESSES = ("o'brien@example.com", "eve+test@mail.example.co", "e.v_e-1%@1.de")
NO_STATES = ("paid", "", "COMPLETED")
NO_OBJECTS = (Jsonb([]), Jsonb("x"), Jsonb(1), Jsonb(None))
# Deeper than 64 levels, or a number that no double holds: no other language could read it back.
NO_JSON = (*NO_OBJECTS, _nested(70), Jsonb({"n": 10**309}), Jsonb({"n": {"m": [-(10**309)]}}))
TWO_PAYMENTS = ("completed", "refunded")


def _json_over(limit: int) -> Jsonb:
    return Jsonb({"k": "x" * limit})


def _each(column: str, values: tuple[Any, ...]) -> list[Row]:
    return [{column: value} for value in values]


def _objects(column: str, limit: int) -> list[Row]:
    return _each(column, (*NO_JSON, _json_over(limit)))


UNPAID: Row = {"payment_status": "pending"}
# Table, constraint, SQLSTATE: changes that make a good row bad.
BAD: dict[tuple[str, str, str], list[Row]] = {
    ("user_sessions", "user_sessions_pkey", UNIQUE): [{"id": 9001}],
    ("user_sessions", "email_valid", CHECK): _each("email", NO_ADDRESSES),
    ("user_sessions", "path_choice_valid", CHECK): _each("path_choice", ("vegan", "", "KETO")),
    ("user_sessions", "macro_data_valid", CHECK): _objects("macro_data", 65536),
    ("user_sessions", "payment_status_valid", CHECK): _each("payment_status", NO_STATES),
    ("user_sessions", "payment_id_with_completed", CHECK): [
        {"payment_status": state, "stripe_payment_id": None} for state in TWO_PAYMENTS
    ],
    ("user_sessions", "payment_id_not_empty", CHECK): _each("stripe_payment_id", ("", " \t")),
    ("user_sessions", "idx_user_sessions_stripe_payment_id", UNIQUE): [{"stripe_payment_id": "pi_ada"}],
    ("generated_reports", "generated_reports_pkey", UNIQUE): [{"id": 9001}],
    ("generated_reports", "email_valid", CHECK): _each("email", NO_ADDRESSES),
    ("generated_reports", "access_token_valid", CHECK): _each(
        "access_token", ("", "c3" * 31, "c3" * 31 + "c", "C3" * 32, "g3" * 32, "c3" * 31 + "c\n")
    ),
    ("generated_reports", "report_html_not_empty", CHECK): _each("report_html", ("", "x" * 5_242_881)),
    ("generated_reports", "questionnaire_not_empty", CHECK): _each(
        "questionnaire_data", (*NO_OBJECTS, _json_over(262144))
    ),
    ("generated_reports", "expiry_in_future", CHECK): [
        {"created_at": NOW, "expires_at": NOW},
        {"created_at": NOW, "expires_at": NOW - timedelta(days=1)},
    ],
    ("generated_reports", "expiry_within_ten_years", CHECK): [
        {"created_at": NOW, "expires_at": NOW + timedelta(days=3654)}
    ],
    ("generated_reports", "access_count_not_negative", CHECK): [{"access_count": -1}],
    ("generated_reports", "last_access_after_creation", CHECK): [
        {"created_at": NOW, "last_accessed_at": NOW - timedelta(seconds=1)}
    ],
    ("generated_reports", "generated_reports_session_id_fkey", FOREIGN): [{"session_id": 404}],
    ("generated_reports", "idx_generated_reports_access_token", UNIQUE): [{"access_token": REPORT_A}],
    ("report_expiry_changes", "report_expiry_changes_pkey", UNIQUE): [{"id": 1}],
    ("report_expiry_changes", "reason_length", CHECK): [{"reason": "x" * 201}],
    ("report_expiry_changes", "report_expiry_changes_report_id_fkey", FOREIGN): [{"report_id": 404}],
    # The partition's own index refuses it.
    ("report_access_log", "report_access_log_default_pkey", UNIQUE): [
        {"id": 9001, "accessed_at": OUTSIDE_ALL_MONTHS}
    ],
    ("report_access_log", "user_agent_not_empty", CHECK): _each("user_agent", ("", " \t\n")),
    ("report_access_log", "user_agent_length", CHECK): [{"user_agent": "x" * 1001}],
    ("report_access_log", "accessed_at_in_range", CHECK): _each(
        "accessed_at", ("1999-12-31 23:59:59+00", "2100-01-01 00:00:00+00", "infinity", "-infinity")
    ),
    ("report_access_log", "report_access_log_report_id_fkey", FOREIGN): [{"report_id": 404}],
    ("report_access_pending", "report_access_pending_pkey", UNIQUE): [{"id": 1}],
    ("report_access_pending", "access_count_positive", CHECK): _each("access_count", (0, -1)),
    ("report_access_pending", "report_access_pending_report_id_fkey", FOREIGN): [{"report_id": 404}],
    ("pricing_tiers", "pricing_tiers_pkey", UNIQUE): [{"code": "bundle"}],
    ("pricing_tiers", "code_valid", CHECK): _each("code", ("", "1st", "a b", "a-b", "a\n", "_a")),
    ("calculator2_sessions", "calculator2_sessions_pkey", UNIQUE): [{"id": 9001}],
    ("calculator2_sessions", "session_token_valid", CHECK): _each(
        "session_token", ("", "x" * 31, "x" * 33, "x" * 31 + "+", "x" * 31 + "\n")
    ),
    ("calculator2_sessions", "form_state_valid", CHECK): _objects("form_state", 65536),
    ("calculator2_sessions", "amount_paid_not_negative", CHECK): [{"amount_paid": -0.01}],
    ("calculator2_sessions", "payment_status_valid", CHECK): _each(
        "payment_status", ("paid", "", "COMPLETED")
    ),
    ("calculator2_sessions", "expiry_after_creation", CHECK): [
        {"created_at": NOW, "last_active_at": NOW, "expires_at": NOW}
    ],
    ("calculator2_sessions", "last_active_after_creation", CHECK): [
        {"created_at": NOW, "last_active_at": NOW - timedelta(seconds=1)}
    ],
    ("calculator2_sessions", "calculator2_sessions_pricing_tier_fkey", FOREIGN): _each(
        "pricing_tier", ("free", "", "BUNDLE")
    ),
    ("calculator2_sessions", "calculator2_sessions_report_token_fkey", FOREIGN): [{"report_token": "0" * 64}],
    ("calculator2_sessions", "idx_calculator2_sessions_token", UNIQUE): [{"session_token": CALCULATOR_A}],
    ("cw_assessment_sessions", "cw_assessment_sessions_pkey", UNIQUE): [{"id": ASSESSMENT}],
    ("cw_assessment_sessions", "form_data_is_object", CHECK): _objects("form_data", 262144),
    ("cw_assessment_sessions", "email_format", CHECK): _each("email", NO_ADDRESSES),
    ("cw_assessment_sessions", "first_name_not_empty", CHECK): _each("first_name", ("", " \t\n")),
    ("cw_assessment_sessions", "payment_status_valid", CHECK): _each(
        "payment_status", ("paid", "", "FAILED")
    ),
    ("cw_assessment_sessions", "idx_cw_assessment_sessions_stripe_session_id", UNIQUE): [
        {"stripe_session_id": "cs_ada"}
    ],
    ("cw_assessment_sessions", "idx_cw_assessment_sessions_stripe_payment_intent_id", UNIQUE): [
        {"stripe_payment_intent_id": "pi_assessment"}
    ],
    ("stripe_events", "stripe_events_pkey", UNIQUE): [{"id": "evt_seed"}],
    ("stripe_events", "event_id_valid", CHECK): _each("id", ("", "evt new", "evt-1", "evt\n")),
    ("stripe_events", "payload_valid", CHECK): _objects("payload", 1_048_576),
    ("stripe_events", "attempts_positive", CHECK): _each("attempts", (0, -1)),
    ("stripe_events", "outcome_valid", CHECK): _each("outcome", ("", "done")),
    ("stripe_events", "error_length", CHECK): [{"error": "x" * 201}],
    ("stripe_events", "refunded_amount_not_negative", CHECK): [{"refunded_amount": -0.01}],
    ("stripe_events", "session_table_with_key", CHECK): [{"session_table": None}, {"session_key": None}],
}
# Changes that leave a good row good: the other side of each limit.
ALSO_GOOD: dict[str, list[Row]] = {
    "user_sessions": [
        *_each("email", ADDRESSES),
        *_each("path_choice", ("carnivore", "keto", "paleo", "custom")),
        *_each("payment_status", ("pending", "completed", "failed", "refunded")),
        {"macro_data": _json_over(65500)},
        {**UNPAID, "stripe_payment_id": None},
    ],
    "generated_reports": [
        *_each("email", ADDRESSES),
        {"report_html": "x" * 5_242_880},
        {"questionnaire_data": _json_over(262000)},
        {"created_at": NOW, "expires_at": NOW + timedelta(microseconds=1)},
        {"created_at": NOW, "expires_at": NOW + timedelta(days=3653)},
        {"created_at": NOW, "last_accessed_at": NOW},
    ],
    "report_expiry_changes": [{"reason": "x" * 200}, {"reason": None}],
    "report_access_log": [
        {"user_agent": "x" * 1000},
        {"user_agent": None, "ip_address": None},
        {"ip_address": "2001:db8::1"},
        *_each("accessed_at", ("2000-01-01 00:00:00+00", "2099-12-31 23:59:59+00")),
    ],
    "report_access_pending": [{"access_count": 1}],
    "pricing_tiers": [{"code": "x" * 50}],
    "calculator2_sessions": [
        *_each("pricing_tier", ("bundle", "mealPlan", "shopping", "doctor", None)),
        *_each("payment_status", ("pending", "completed", "failed", "refunded")),
        {"form_state": None, "amount_paid": None, "report_token": None},
        {"form_state": _json_over(65500), "amount_paid": 0},
        {"session_token": "Az09_-" * 5 + "xx"},
    ],
    "cw_assessment_sessions": [
        *_each("email", ADDRESSES),
        *_each("payment_status", ("pending", "completed", "failed", "refunded")),
        {"form_data": _json_over(262000), "first_name": "Zoë"},
        {"stripe_session_id": None, "stripe_payment_intent_id": None},
    ],
    "stripe_events": [
        {"payload": _nested(60)},
        *_each("outcome", ("applied", "unchanged", "waiting", "ignored", "failed")),
        {"session_table": None, "session_key": None, "error": None, "refunded_amount": None},
        {"payload": _json_over(1_048_000), "error": "x" * 200, "processed_at": None, "payment_intent": None},
    ],
}
# Columns that take no NULL, beside those that a primary key holds.
REQUIRED = {
    "user_sessions": "email path_choice macro_data payment_status created_at updated_at is_test",
    "generated_reports": "session_id email access_token report_html questionnaire_data created_at expires_at"
    " access_count",
    "report_expiry_changes": "report_id changed_at changed_by old_expires_at new_expires_at",
    "report_access_log": "report_id",
    "report_access_pending": "report_id access_count last_accessed_at",
    "calculator2_sessions": "session_token payment_status created_at last_active_at expires_at",
    "cw_assessment_sessions": "email first_name form_data payment_status created_at updated_at is_test",
    "stripe_events": "type livemode payload received_at attempts outcome",
}
# What a row gets that names none of these columns, as a condition that must be true.
DEFAULTS = {
    "user_sessions": "payment_status = 'pending' AND NOT is_test AND created_at = now()"
    " AND updated_at = now()",
    "generated_reports": "created_at = now() AND access_count = 0 AND last_accessed_at IS NULL",
    "report_expiry_changes": "changed_at BETWEEN now() AND clock_timestamp()",
    "report_access_log": "accessed_at = now()",
    "calculator2_sessions": "payment_status = 'pending' AND created_at = now() AND last_active_at = now()"
    " AND expires_at = now() + interval '48 hours'",
    "cw_assessment_sessions": "payment_status = 'pending' AND NOT is_test AND created_at = now()"
    " AND updated_at = now() AND completed_at IS NULL AND id IS NOT NULL",
    "stripe_events": "received_at = now() AND attempts = 1",
}
GIVEN = {
    "user_sessions": ("email", "path_choice", "macro_data"),
    "generated_reports": ("session_id", "access_token", "report_html", "questionnaire_data", "expires_at"),
    "report_expiry_changes": ("report_id", "changed_by", "old_expires_at", "new_expires_at"),
    "report_access_log": ("report_id",),
    "calculator2_sessions": ("session_token",),
    "cw_assessment_sessions": ("email", "first_name", "form_data"),
    "stripe_events": ("id", "type", "livemode", "payload", "outcome"),
}


def _refuses(s: Session, *, table: str, rule: str, sqlstate: str, changes: list[Row]) -> None:
    for change in changes:
        s.superuser.refused(*insertion(table, **change), sqlstate=sqlstate, constraint=rule)


def _keeps(s: Session, *, table: str) -> None:
    for change in ({}, *ALSO_GOOD[table]):
        with s.undone():
            s.superuser.allows(*insertion(table, **change), rows=1)


def _requires(s: Session, *, table: str, column: str) -> None:
    """With every trigger off, so that none can fill it in."""
    asker = s.as_("superuser", triggers="replica")
    error = asker.refused(*insertion(table, **{column: None}), sqlstate="23502")
    assert error.diag.column_name == column


def _fills_in(s: Session, *, table: str) -> None:
    row = {column: GOOD[table][column] for column in GIVEN[table]}
    places = ", ".join(["%s"] * len(row))
    statement = f"INSERT INTO public.{table} ({', '.join(row)}) VALUES ({places})"
    assert s.superuser.value(f"{statement} RETURNING {DEFAULTS[table]}", list(row.values())) is True


@promise("alembic_version alembic_version_pkc")
def the_version_table_holds_a_revision_once(s: Session) -> None:
    again = "INSERT INTO carnivore.alembic_version SELECT version_num FROM carnivore.alembic_version"
    s.superuser.refused(again, sqlstate=UNIQUE, constraint="alembic_version_pkc")


for (_table, _rule, _sqlstate), _changes in BAD.items():
    _check = partial(_refuses, table=_table, rule=_rule, sqlstate=_sqlstate, changes=_changes)
    add(f"{_rule} of {_table} refuses its counter-examples", _check, f"{_table} {_rule} rule")
for _table in ALSO_GOOD:
    add(f"{_table} keeps good rows", partial(_keeps, table=_table), f"{_table} good")
for _table, _columns in REQUIRED.items():
    for _column in _columns.split():
        _check = partial(_requires, table=_table, column=_column)
        add(f"{_table} requires {_column}", _check, f"{_table} {_column} required")
for _table in DEFAULTS:
    add(f"{_table} fills in its defaults", partial(_fills_in, table=_table), f"{_table} default")
