"""Who may do what: everything the roles are promised. What is not written here is refused.

Role by role, table by table; columns are written as one text.
"""

ROLES = {"anon": "anon", "stranger": "authenticated", "service": "service_role"}
USAGE = {
    "anon": {"public"},
    "authenticated": {"public", "vocabulary"},
    "service_role": {"public", "vocabulary"},
}

# What the holder of a token reads, and the person whose address a session has.
BY_TOKEN = {
    "public.generated_reports": "id report_html created_at expires_at",
    "public.calculator2_sessions": "form_state pricing_tier payment_status created_at last_active_at"
    " expires_at",
}
OWN_SESSIONS = "id email path_choice macro_data payment_status created_at updated_at"
READS = {
    "anon": BY_TOKEN,
    "authenticated": {**BY_TOKEN, "public.user_sessions": OWN_SESSIONS},
    "service_role": {},
}
# Tables that a role reads with all their columns. A learner's rows are all theirs.
LEARNERS = {
    "vocabulary.users",
    "vocabulary.sessions",
    "vocabulary.user_api_keys",
    "vocabulary.user_progress",
    "vocabulary.export_history",
}
READS_WHOLE: dict[str, set[str]] = {
    "anon": set(),
    "authenticated": LEARNERS,
    "service_role": LEARNERS
    | {
        "vocabulary.abandoned_export_files",
        "public.user_sessions",
        "public.generated_reports",
        "public.report_expiry_changes",
        "public.report_access_log",
        "public.report_access_pending",
        "public.report_access_counts",
        "public.pricing_tiers",
        "public.calculator2_sessions",
        "public.cw_assessment_sessions",
        "public.stripe_events",
    },
}

PROFILE = (
    "username full_name avatar_url spanish_level profile_completed theme language default_description_style"
    " target_words_per_day preferred_difficulty enable_notifications"
)
SITTING = (
    "session_type started_at ended_at duration_minutes images_processed descriptions_generated qa_attempts"
    " qa_correct vocabulary_learned phrases_saved session_data user_agent device_type engagement_score"
    " completion_rate"
)
KEYS = "openai_api_key unsplash_api_key anthropic_api_key is_active"
WORDS = "mastered_words_count learning_words_count new_words_count"
BY_LEARNERS = {
    "vocabulary.users": f"id email {PROFILE}",
    "vocabulary.sessions": f"id user_id {SITTING}",
    "vocabulary.user_api_keys": f"user_id {KEYS}",
    "vocabulary.user_progress": f"user_id {WORDS}",
    "vocabulary.export_history": "user_id export_type export_format filters",
}
USER_SESSION = "email path_choice macro_data payment_status stripe_payment_id is_test"
CALCULATOR = "form_state pricing_tier amount_paid payment_status report_token"
ASSESSMENT = "email first_name form_data payment_status stripe_session_id stripe_payment_intent_id is_test"
HANDLED = "processed_at attempts outcome error session_table session_key refunded_amount"
INSERTS: dict[str, dict[str, str]] = {
    "anon": {},
    "authenticated": BY_LEARNERS,
    "service_role": {
        **BY_LEARNERS,
        "vocabulary.users": f"{BY_LEARNERS['vocabulary.users']} is_authenticated last_login",
        "vocabulary.sessions": f"{BY_LEARNERS['vocabulary.sessions']} ip_address",
        "public.user_sessions": USER_SESSION,
        "public.generated_reports": "session_id email access_token report_html questionnaire_data expires_at",
        "public.report_access_log": "report_id accessed_at ip_address user_agent",
        "public.pricing_tiers": "code",
        "public.calculator2_sessions": f"session_token {CALCULATOR}",
        "public.cw_assessment_sessions": f"id {ASSESSMENT}",
        "public.stripe_events": f"id type livemode payment_intent payload {HANDLED}",
    },
}
UPDATES: dict[str, dict[str, str]] = {
    "anon": {},
    "authenticated": {
        "vocabulary.users": PROFILE,
        "vocabulary.sessions": SITTING,
        "vocabulary.user_api_keys": KEYS,
        "vocabulary.user_progress": WORDS,
        "vocabulary.export_history": "status",
    },
    "service_role": {
        "vocabulary.users": f"email {PROFILE} is_authenticated last_login",
        "vocabulary.sessions": f"user_id {SITTING} ip_address",
        "vocabulary.user_api_keys": f"{KEYS} last_validated_at",
        "vocabulary.user_progress": f"{WORDS} total_points",
        "vocabulary.export_history": "status records_count file_size_bytes file_url data error_message"
        " expires_at",
        "public.user_sessions": USER_SESSION,
        "public.generated_reports": "expires_at",
        "public.calculator2_sessions": CALCULATOR,
        "public.cw_assessment_sessions": ASSESSMENT,
        "public.stripe_events": HANDLED,
    },
}
DELETES: dict[str, set[str]] = {
    "anon": set(),
    "authenticated": {"vocabulary.sessions", "vocabulary.user_api_keys"},
    "service_role": {
        "vocabulary.users",
        "vocabulary.sessions",
        "vocabulary.user_api_keys",
        "vocabulary.abandoned_export_files",
        "public.generated_reports",
        "public.calculator2_sessions",
    },
}

BY_ANYBODY = {
    "public.check_report",
    "public.open_report",
    "public.resume_calculator",
    "public.save_calculator",
}
PRESENTED = {"carnivore.presented_report_token", "carnivore.presented_calculator_token"}
CALLS = {
    "anon": BY_ANYBODY | PRESENTED,
    "authenticated": BY_ANYBODY | PRESENTED,
    "service_role": BY_ANYBODY | {"public.fold_report_access", "vocabulary.recompute_user_progress"},
}


def columns(rights: dict[str, dict[str, str]], role: str, table: str) -> list[str]:
    """The columns of the table that these rights give to the role."""
    return rights[role].get(table, "").split()
