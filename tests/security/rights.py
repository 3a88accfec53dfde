"""Who may do what: everything the roles are promised. What is not written here is refused."""

from tests.security.personas import Session

# Columns that a role reads, table by table. The service reads all of every table that it reads.
BY_TOKEN = {
    "generated_reports": {"id", "report_html", "created_at", "expires_at"},
    "calculator2_sessions": {
        "form_state",
        "pricing_tier",
        "payment_status",
        "created_at",
        "last_active_at",
        "expires_at",
    },
}
OWN_SESSIONS = {"id", "email", "path_choice", "macro_data", "payment_status", "created_at", "updated_at"}
READS = {"anon": BY_TOKEN, "authenticated": {**BY_TOKEN, "user_sessions": OWN_SESSIONS}}
SERVICE_READS = {
    "user_sessions",
    "generated_reports",
    "report_expiry_changes",
    "report_access_log",
    "report_access_pending",
    "report_access_counts",
    "pricing_tiers",
    "calculator2_sessions",
    "cw_assessment_sessions",
    "stripe_events",
}
SERVICE_INSERTS = {
    "user_sessions": {"email", "path_choice", "macro_data", "payment_status", "stripe_payment_id", "is_test"},
    "generated_reports": {
        "session_id",
        "email",
        "access_token",
        "report_html",
        "questionnaire_data",
        "expires_at",
    },
    "report_access_log": {"report_id", "accessed_at", "ip_address", "user_agent"},
    "pricing_tiers": {"code"},
    "calculator2_sessions": {
        "session_token",
        "form_state",
        "pricing_tier",
        "amount_paid",
        "payment_status",
        "report_token",
    },
    "cw_assessment_sessions": {
        "id",
        "email",
        "first_name",
        "form_data",
        "payment_status",
        "stripe_session_id",
        "stripe_payment_intent_id",
        "is_test",
    },
    "stripe_events": {
        "id",
        "type",
        "livemode",
        "payment_intent",
        "payload",
        "processed_at",
        "attempts",
        "outcome",
        "error",
        "session_table",
        "session_key",
        "refunded_amount",
    },
}
SERVICE_UPDATES = {
    "user_sessions": SERVICE_INSERTS["user_sessions"],
    "generated_reports": {"expires_at"},
    "calculator2_sessions": SERVICE_INSERTS["calculator2_sessions"] - {"session_token"},
    "cw_assessment_sessions": SERVICE_INSERTS["cw_assessment_sessions"] - {"id"},
    "stripe_events": {
        "processed_at",
        "attempts",
        "outcome",
        "error",
        "session_table",
        "session_key",
        "refunded_amount",
    },
}
SERVICE_DELETES = {"generated_reports", "calculator2_sessions"}

CALLS_BY_TOKEN = {"check_report", "open_report", "resume_calculator", "save_calculator"}
PRESENTED = {"presented_report_token", "presented_calculator_token"}
CALLS = {
    "anon": CALLS_BY_TOKEN | PRESENTED,
    "authenticated": CALLS_BY_TOKEN | PRESENTED,
    "service_role": CALLS_BY_TOKEN | {"fold_report_access"},
}

# What the package made, found in the catalog so that nothing new is forgotten.
RELATIONS = """
SELECT relation.oid::regclass::text, relation.relname, relation.relkind = 'v',
    array_agg(attname::text ORDER BY attnum)
FROM pg_class AS relation JOIN pg_attribute ON attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
WHERE relnamespace IN ('public'::regnamespace, 'carnivore'::regnamespace) AND relkind IN ('r', 'p', 'v')
GROUP BY relation.oid ORDER BY 1
"""
SEQUENCES = """
SELECT oid::regclass::text FROM pg_class
WHERE relkind = 'S' AND relnamespace IN ('public'::regnamespace, 'carnivore'::regnamespace) ORDER BY 1
"""
FUNCTIONS = """
SELECT oid::regproc::text, proname, prorettype = 'trigger'::regtype,
    ARRAY(SELECT format_type(kind, NULL) FROM unnest(proargtypes) AS kind)
FROM pg_proc
WHERE pronamespace IN ('public'::regnamespace, 'carnivore'::regnamespace) ORDER BY 1
"""
PARTITIONS = """
SELECT inhrelid::regclass::text FROM pg_inherits
WHERE inhparent = 'public.report_access_log'::regclass ORDER BY 1
"""


def relations(s: Session) -> list[tuple[str, str, bool, list[str]]]:
    """Tables, partitions and views: qualified name, name, whether it is a view, columns."""
    return s.as_("superuser", search_path="pg_catalog").rows(RELATIONS)


def sequences(s: Session) -> list[str]:
    return [name for (name,) in s.as_("superuser", search_path="pg_catalog").rows(SEQUENCES)]


def functions(s: Session) -> list[tuple[str, str, bool, str]]:
    """Signature, name, whether it is a trigger's, and a call of it with NULLs."""
    found = s.as_("superuser", search_path="pg_catalog").rows(FUNCTIONS)
    return [
        (
            f"{name}({', '.join(kinds)})",
            short,
            trigger,
            f"{name}({', '.join(f'NULL::{kind}' for kind in kinds)})",
        )
        for name, short, trigger, kinds in found
    ]


def partitions(s: Session) -> list[str]:
    return [name for (name,) in s.as_("superuser", search_path="pg_catalog").rows(PARTITIONS)]
