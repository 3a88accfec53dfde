"""Rows: every constraint refuses its counter-examples, even a superuser's, and keeps good rows."""

from datetime import timedelta

from psycopg.types.json import Jsonb

from tests.security.personas import Session
from tests.security.registry import promise
from tests.security.rows import NOW, Row
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
    required,
)
from tests.security.seed import ASSESSMENT, CALCULATOR_A, OUTSIDE_ALL_MONTHS, REPORT_A

NO_STATES = ("paid", "", "COMPLETED")
TWO_PAYMENTS = ("completed", "refunded")


UNPAID: Row = {"payment_status": "pending"}
BAD: dict[tuple[str, str, str], list[Row]] = {
    ("public.user_sessions", "user_sessions_pkey", UNIQUE): [{"id": 9001}],
    ("public.user_sessions", "email_valid", CHECK): each("email", NO_ADDRESSES),
    ("public.user_sessions", "path_choice_valid", CHECK): each("path_choice", ("vegan", "", "KETO")),
    ("public.user_sessions", "macro_data_valid", CHECK): objects("macro_data", 65536),
    ("public.user_sessions", "payment_status_valid", CHECK): each("payment_status", NO_STATES),
    ("public.user_sessions", "payment_id_with_completed", CHECK): [
        {"payment_status": state, "stripe_payment_id": None} for state in TWO_PAYMENTS
    ],
    ("public.user_sessions", "payment_id_not_empty", CHECK): each("stripe_payment_id", ("", " \t")),
    ("public.user_sessions", "idx_user_sessions_stripe_payment_id", UNIQUE): [
        {"stripe_payment_id": "pi_ada"}
    ],
    ("public.generated_reports", "generated_reports_pkey", UNIQUE): [{"id": 9001}],
    ("public.generated_reports", "email_valid", CHECK): each("email", NO_ADDRESSES),
    ("public.generated_reports", "access_token_valid", CHECK): each(
        "access_token", ("", "c3" * 31, "c3" * 31 + "c", "C3" * 32, "g3" * 32, "c3" * 31 + "c\n")
    ),
    ("public.generated_reports", "report_html_not_empty", CHECK): each("report_html", ("", "x" * 5_242_881)),
    ("public.generated_reports", "questionnaire_not_empty", CHECK): [
        *objects("questionnaire_data", 262144),
        *each("questionnaire_data", (Jsonb({f"k{n}": n for n in range(20_000)}), Jsonb({"k": "x" * 262136}))),
    ],
    ("public.generated_reports", "expiry_in_future", CHECK): [
        {"created_at": NOW, "expires_at": NOW},
        {"created_at": NOW, "expires_at": NOW - timedelta(days=1)},
    ],
    ("public.generated_reports", "expiry_within_ten_years", CHECK): [
        {"created_at": NOW, "expires_at": NOW + timedelta(days=3654)}
    ],
    ("public.generated_reports", "access_count_not_negative", CHECK): [{"access_count": -1}],
    ("public.generated_reports", "last_access_after_creation", CHECK): [
        {"created_at": NOW, "last_accessed_at": NOW - timedelta(seconds=1)}
    ],
    ("public.generated_reports", "generated_reports_session_id_fkey", FOREIGN): [{"session_id": 404}],
    ("public.generated_reports", "idx_generated_reports_access_token", UNIQUE): [{"access_token": REPORT_A}],
    ("public.report_expiry_changes", "report_expiry_changes_pkey", UNIQUE): [{"id": 1}],
    ("public.report_expiry_changes", "reason_length", CHECK): [{"reason": "x" * 201}],
    ("public.report_expiry_changes", "report_expiry_changes_report_id_fkey", FOREIGN): [{"report_id": 404}],
    # The partition's own index refuses it.
    ("public.report_access_log", "report_access_log_default_pkey", UNIQUE): [
        {"id": 9001, "accessed_at": OUTSIDE_ALL_MONTHS}
    ],
    ("public.report_access_log", "user_agent_not_empty", CHECK): each("user_agent", ("", " \t\n")),
    ("public.report_access_log", "user_agent_length", CHECK): [{"user_agent": "x" * 1001}],
    ("public.report_access_log", "accessed_at_in_range", CHECK): no_moments("accessed_at"),
    ("public.report_access_log", "report_access_log_report_id_fkey", FOREIGN): [{"report_id": 404}],
    ("public.report_access_pending", "report_access_pending_pkey", UNIQUE): [{"report_id": 9002, "id": 1}],
    ("public.report_access_pending", "access_count_positive", CHECK): each("access_count", (0, -1)),
    ("public.pricing_tiers", "pricing_tiers_pkey", UNIQUE): [{"code": "bundle"}],
    ("public.pricing_tiers", "code_valid", CHECK): each("code", ("", "1st", "a b", "a-b", "a\n", "_a")),
    ("public.calculator2_sessions", "calculator2_sessions_pkey", UNIQUE): [{"id": 9001}],
    ("public.calculator2_sessions", "session_token_valid", CHECK): each(
        "session_token", ("", "x" * 31, "x" * 33, "x" * 31 + "+", "x" * 31 + "\n")
    ),
    ("public.calculator2_sessions", "form_state_valid", CHECK): objects("form_state", 65536),
    ("public.calculator2_sessions", "amount_paid_not_negative", CHECK): [{"amount_paid": -0.01}],
    ("public.calculator2_sessions", "payment_status_valid", CHECK): each(
        "payment_status", ("paid", "", "COMPLETED")
    ),
    ("public.calculator2_sessions", "expiry_after_creation", CHECK): [
        {"created_at": NOW, "last_active_at": NOW, "expires_at": NOW}
    ],
    ("public.calculator2_sessions", "last_active_after_creation", CHECK): [
        {"created_at": NOW, "last_active_at": NOW - timedelta(seconds=1)}
    ],
    ("public.calculator2_sessions", "calculator2_sessions_pricing_tier_fkey", FOREIGN): each(
        "pricing_tier", ("free", "", "BUNDLE")
    ),
    ("public.calculator2_sessions", "calculator2_sessions_report_token_fkey", FOREIGN): [
        {"report_token": "0" * 64}
    ],
    ("public.calculator2_sessions", "idx_calculator2_sessions_token", UNIQUE): [
        {"session_token": CALCULATOR_A}
    ],
    ("public.cw_assessment_sessions", "cw_assessment_sessions_pkey", UNIQUE): [{"id": ASSESSMENT}],
    ("public.cw_assessment_sessions", "form_data_is_object", CHECK): objects("form_data", 262144),
    ("public.cw_assessment_sessions", "email_format", CHECK): each("email", NO_ADDRESSES),
    ("public.cw_assessment_sessions", "first_name_not_empty", CHECK): each("first_name", ("", " \t\n")),
    ("public.cw_assessment_sessions", "payment_status_valid", CHECK): each(
        "payment_status", ("paid", "", "FAILED")
    ),
    ("public.cw_assessment_sessions", "idx_cw_assessment_sessions_stripe_session_id", UNIQUE): [
        {"stripe_session_id": "cs_ada"}
    ],
    ("public.cw_assessment_sessions", "idx_cw_assessment_sessions_stripe_payment_intent_id", UNIQUE): [
        {"stripe_payment_intent_id": "pi_assessment"}
    ],
    ("public.stripe_events", "stripe_events_pkey", UNIQUE): [{"id": "evt_seed"}],
    ("public.stripe_events", "event_id_valid", CHECK): each("id", ("", "evt new", "evt-1", "evt\n")),
    ("public.stripe_events", "payload_valid", CHECK): objects("payload", 1_048_576),
    ("public.stripe_events", "processed_at_in_range", CHECK): no_moments("processed_at"),
    ("public.stripe_events", "attempts_positive", CHECK): each("attempts", (0, -1)),
    ("public.stripe_events", "outcome_valid", CHECK): each("outcome", ("", "done")),
    ("public.stripe_events", "error_length", CHECK): [{"error": "x" * 201}],
    ("public.stripe_events", "refunded_amount_not_negative", CHECK): [{"refunded_amount": -0.01}],
    ("public.stripe_events", "session_table_with_key", CHECK): [
        {"session_table": None},
        {"session_key": None},
    ],
    ("public.begun_checkouts", "amount_in_range", CHECK): each("amount", (-1, 10**12)),
    ("public.begun_checkouts", "currency_valid", CHECK): each("currency", ("", "us", "USD", "u1d")),
    ("public.begun_checkouts", "session_table_valid", CHECK): each("session_table", ("", "stripe_events")),
    ("public.begun_checkouts", "begun_checkouts_tier_fkey", FOREIGN): [{"tier": "free"}],
}
ALSO_GOOD: dict[str, list[Row]] = {
    "public.user_sessions": [
        *each("email", ADDRESSES),
        *each("path_choice", ("carnivore", "keto", "paleo", "custom")),
        *each("payment_status", ("pending", "completed", "failed", "refunded")),
        {"macro_data": json_over(65500)},
        {**UNPAID, "stripe_payment_id": None},
    ],
    "public.generated_reports": [
        *each("email", ADDRESSES),
        {"report_html": "x" * 5_242_880},
        {"questionnaire_data": Jsonb({"k": "x" * (262144 - 9)})},
        {"created_at": NOW, "expires_at": NOW + timedelta(microseconds=1)},
        {"created_at": NOW, "expires_at": NOW + timedelta(days=3653)},
        {"created_at": NOW, "last_accessed_at": NOW},
    ],
    "public.report_expiry_changes": [{"reason": "x" * 200}, {"reason": None}],
    "public.report_access_log": [
        {"user_agent": "x" * 1000},
        {"user_agent": None, "ip_address": None},
        {"ip_address": "2001:db8::1"},
        *each("accessed_at", ("2000-01-01 00:00:00+00", "2099-12-31 23:59:59+00")),
    ],
    "public.report_access_pending": [{"access_count": 1}],
    "public.pricing_tiers": [{"code": "x" * 50}],
    "public.calculator2_sessions": [
        *each("pricing_tier", ("bundle", "mealPlan", "shopping", "doctor", None)),
        *each("payment_status", ("pending", "completed", "failed", "refunded")),
        {"form_state": None, "amount_paid": None, "report_token": None},
        {"form_state": json_over(65500), "amount_paid": 0},
        {"session_token": "Az09_-" * 5 + "xx"},
    ],
    "public.cw_assessment_sessions": [
        *each("email", ADDRESSES),
        *each("payment_status", ("pending", "completed", "failed", "refunded")),
        {"form_data": json_over(262000), "first_name": "Zoë"},
        {"stripe_session_id": None, "stripe_payment_intent_id": None},
    ],
    "public.stripe_events": [
        {"payload": nested(60)},
        *each("outcome", ("applied", "unchanged", "waiting", "ignored", "failed")),
        {"session_table": None, "session_key": None, "error": None, "refunded_amount": None},
        {"payload": json_over(1_048_000), "error": "x" * 200, "processed_at": None, "payment_intent": None},
    ],
}
REQUIRED = {
    "public.user_sessions": "email path_choice macro_data payment_status created_at updated_at is_test",
    "public.generated_reports": "session_id email access_token report_html questionnaire_data created_at"
    " expires_at access_count",
    "public.report_expiry_changes": "report_id changed_at changed_by old_expires_at new_expires_at",
    "public.report_access_log": "report_id",
    "public.report_access_pending": "report_id access_count last_accessed_at",
    "public.calculator2_sessions": "session_token payment_status created_at last_active_at expires_at",
    "public.cw_assessment_sessions": "email first_name form_data payment_status created_at updated_at"
    " is_test",
    "public.stripe_events": "type livemode payload received_at attempts outcome",
    "public.begun_checkouts": "session_table session_key amount currency begun_at",
}
# What a row gets that names these columns alone.
DEFAULTS = {
    "public.user_sessions": (
        ("email", "path_choice", "macro_data"),
        "payment_status = 'pending' AND NOT is_test AND created_at = now() AND updated_at = now()",
    ),
    "public.generated_reports": (
        ("session_id", "access_token", "report_html", "questionnaire_data", "expires_at"),
        "created_at = now() AND access_count = 0 AND last_accessed_at IS NULL",
    ),
    "public.report_expiry_changes": (
        ("report_id", "changed_by", "old_expires_at", "new_expires_at"),
        "changed_at BETWEEN now() AND clock_timestamp()",
    ),
    "public.report_access_log": (
        ("report_id",),
        "accessed_at = now()",
    ),
    "public.calculator2_sessions": (
        ("session_token",),
        (
            "payment_status = 'pending' AND created_at = now() AND last_active_at = now()"
            " AND expires_at = now() + interval '48 hours'"
        ),
    ),
    "public.cw_assessment_sessions": (
        ("email", "first_name", "form_data"),
        (
            "payment_status = 'pending' AND NOT is_test AND created_at = now()"
            " AND updated_at = now() AND completed_at IS NULL AND id IS NOT NULL"
        ),
    ),
    "public.begun_checkouts": (("session_table", "session_key", "amount", "currency"), "begun_at = now()"),
    "public.stripe_events": (
        ("id", "type", "livemode", "payload", "outcome"),
        "received_at = now() AND attempts = 1",
    ),
}


@promise("alembic_version alembic_version_pkc")
def the_version_table_holds_a_revision_once(s: Session) -> None:
    again = "INSERT INTO carnivore.alembic_version SELECT version_num FROM carnivore.alembic_version"
    s.superuser.refused(again, sqlstate=UNIQUE, constraint="alembic_version_pkc")


counter_examples(BAD)
good_rows(ALSO_GOOD)
required(REQUIRED)
defaults(DEFAULTS)
