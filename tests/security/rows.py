"""A good row of each table, naming every column that the service may write."""

from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from tests.security.personas import Asker
from tests.security.seed import REPORT_A

NOW = datetime.now(UTC)
Row = dict[str, Any]

GOOD: dict[str, Row] = {
    "user_sessions": {
        "email": "eve@example.com",
        "path_choice": "keto",
        "macro_data": Jsonb({"protein": 120}),
        "payment_status": "completed",
        "stripe_payment_id": "pi_eve",
        "is_test": False,
    },
    "generated_reports": {
        "session_id": 9001,
        "email": "ada@example.com",
        "access_token": "c3" * 32,
        "report_html": "<p>new</p>",
        "questionnaire_data": Jsonb({"age": 42}),
        "expires_at": NOW + timedelta(days=90),
    },
    "report_access_log": {
        "report_id": 9001,
        "accessed_at": NOW,
        "ip_address": "203.0.113.9",
        "user_agent": "Browser/1.0",
    },
    "pricing_tiers": {"code": "family"},
    "calculator2_sessions": {
        "session_token": "calculatorTokenN_0123456789-abcd",
        "form_state": Jsonb({"age": 30}),
        "pricing_tier": "bundle",
        "amount_paid": 49,
        "payment_status": "completed",
        "report_token": REPORT_A,
    },
    "cw_assessment_sessions": {
        "id": "00000000-0000-4000-8000-000000000002",
        "email": "eve@example.com",
        "first_name": "Eve",
        "form_data": Jsonb({"goal": "sleep"}),
        "payment_status": "completed",
        "stripe_session_id": "cs_eve",
        "stripe_payment_intent_id": "pi_eve_assessment",
        "is_test": False,
    },
    "stripe_events": {
        "id": "evt_new",
        "type": "charge.refunded",
        "livemode": True,
        "payment_intent": "pi_eve",
        "payload": Jsonb({"id": "evt_new"}),
        "processed_at": NOW,
        "attempts": 1,
        "outcome": "applied",
        "error": "some_rule",
        "session_table": "user_sessions",
        "session_key": "9001",
        "refunded_amount": 10,
    },
    # These two are written by triggers alone.
    "report_access_pending": {"report_id": 9001, "access_count": 1, "last_accessed_at": NOW},
    "report_expiry_changes": {
        "report_id": 9001,
        "changed_by": "service_role",
        "reason": "refund",
        "old_expires_at": NOW,
        "new_expires_at": NOW,
    },
}


def insertion(table: str, **changes: Any) -> tuple[str, list[Any]]:
    """INSERT of a good row with these changes, and its parameters."""
    row = {**GOOD[table], **changes}
    places = ", ".join(["%s"] * len(row))
    return f"INSERT INTO public.{table} ({', '.join(row)}) VALUES ({places})", list(row.values())


def insert(asker: Asker, table: str, returning: str, **changes: Any) -> Any:
    """Put in a good row with these changes; returns what `returning` says of it."""
    statement, params = insertion(table, **changes)
    return asker.value(f"{statement} RETURNING {returning}", params)
