"""Who may do what: everything the roles are promised. What is not written here is refused.

Role by role, table by table; columns are written as one text.
"""

from tests.security.rows import GOOD

ROLES = {
    "anon": "anon",
    "stranger": "authenticated",
    "service": "service_role",
    "reporting": "reporting",
}
USAGE = {
    "anon": {"public", "conversation"},
    "authenticated": {"public", "conversation", "vocabulary"},
    "service_role": {"public", "conversation", "vocabulary", "analytics"},
    "reporting": {"public", "analytics"},
}

# What the holder of a token reads, and the person whose address a session has.
BY_TOKEN = {
    "public.generated_reports": "id report_html created_at expires_at",
    "public.calculator2_sessions": "form_state pricing_tier payment_status created_at last_active_at"
    " expires_at",
}
OWN_SESSIONS = "id email path_choice macro_data payment_status created_at updated_at"
READS = {
    "anon": {**BY_TOKEN, "conversation.scenarios": "id title emoji sort_order is_active"},
    "authenticated": {**BY_TOKEN, "public.user_sessions": OWN_SESSIONS},
    "service_role": {},
    "reporting": {},
}
# Tables that a role reads with all their columns. A learner's rows are all theirs.
LEARNERS = {
    "vocabulary.users",
    "vocabulary.sessions",
    "vocabulary.user_api_keys",
    "vocabulary.user_progress",
    "vocabulary.export_history",
}
# The same of the chat, the view over messages old and new among them.
SPEAKERS = {
    "conversation.profiles",
    "conversation.sessions",
    "conversation.messages",
    "conversation.messages_archive",
    "conversation.message_history",
    "conversation.logs",
}
# What a dashboard reads: with their owner's rights, which the role has not.
VIEWED = {
    "analytics.accesses_per_day",
    "analytics.accesses_per_week",
    "analytics.accesses_per_report",
    "analytics.paths",
    "analytics.conversion",
    "analytics.calculator_funnel",
    "analytics.assessments",
}
# What is everybody's, and which rows of it.
OFFERED: dict[str, dict[str, str]] = {
    "anon": {"conversation.scenarios": "is_active", "conversation.public_scenarios": "is_active"},
    "authenticated": {
        "conversation.scenarios": "is_active",
        "conversation.public_scenarios": "is_active",
        "conversation.rate_limits": "enforced",
    },
}
READS_WHOLE: dict[str, set[str]] = {
    "anon": {"conversation.public_scenarios"},
    "authenticated": LEARNERS | SPEAKERS | set(OFFERED["authenticated"]),
    "service_role": LEARNERS
    | SPEAKERS
    | set(OFFERED["authenticated"])
    | {
        "conversation.event_types",
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
        "public.begun_checkouts",
    },
    "reporting": VIEWED,
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
SCENE = "id user_id scenario_id"
SPOKEN = "id session_id role chat_type content client_message_id"
SHOWN = "title emoji initial_message_main initial_message_helper is_active sort_order"
MOMENTS = "is_completed started_at last_activity_at completed_at"
BY_SPEAKERS = {"conversation.sessions": SCENE, "conversation.messages": SPOKEN}
CALCULATOR = "form_state pricing_tier amount_paid payment_status report_token"
ASSESSMENT = "email first_name form_data payment_status stripe_session_id stripe_payment_intent_id is_test"
HANDLED = "processed_at attempts outcome error session_table session_key refunded_amount"
ADDED = (
    *BY_LEARNERS,
    *BY_SPEAKERS,
    "conversation.scenarios",
    "conversation.event_types",
    "conversation.logs",
    "public.user_sessions",
    "public.generated_reports",
    "public.report_access_log",
    "public.pricing_tiers",
    "public.calculator2_sessions",
    "public.cw_assessment_sessions",
    "public.stripe_events",
    "public.begun_checkouts",
)
INSERTS: dict[str, dict[str, str]] = {
    "anon": {},
    "authenticated": {**BY_LEARNERS, **BY_SPEAKERS},
    # A good row names every column that the service may write.
    "service_role": {table: " ".join(GOOD[table]) for table in ADDED},
    "reporting": {},
}
UPDATES: dict[str, dict[str, str]] = {
    "anon": {},
    "authenticated": {
        "vocabulary.users": PROFILE,
        "vocabulary.sessions": SITTING,
        "vocabulary.user_api_keys": KEYS,
        "vocabulary.user_progress": WORDS,
        "vocabulary.export_history": "status",
        "conversation.sessions": "is_completed",
    },
    "service_role": {
        "vocabulary.users": f"email {PROFILE} is_authenticated last_login",
        "vocabulary.sessions": f"user_id {SITTING} ip_address",
        "vocabulary.user_api_keys": f"{KEYS} last_validated_at",
        "vocabulary.user_progress": f"{WORDS} total_points",
        "vocabulary.export_history": "status records_count file_size_bytes file_url data error_message"
        " expires_at",
        "conversation.profiles": "email deleted_at",
        "conversation.sessions": MOMENTS,
        "conversation.scenarios": SHOWN,
        "conversation.rate_limits": "allowed per enforced",
        "public.user_sessions": " ".join(GOOD["public.user_sessions"]),
        "public.generated_reports": "expires_at",
        "public.calculator2_sessions": CALCULATOR,
        "public.cw_assessment_sessions": ASSESSMENT,
        "public.stripe_events": HANDLED,
    },
    "reporting": {},
}
DELETES: dict[str, set[str]] = {
    "anon": set(),
    "authenticated": {"vocabulary.sessions", "vocabulary.user_api_keys", "conversation.sessions"},
    "service_role": {
        "conversation.sessions",
        "vocabulary.users",
        "vocabulary.sessions",
        "vocabulary.user_api_keys",
        "vocabulary.abandoned_export_files",
        "public.generated_reports",
        "public.calculator2_sessions",
    },
    "reporting": set(),
}

BY_EVERYBODY = {"public.check_report", "public.open_report"}
BY_ANYBODY = BY_EVERYBODY | {
    "public.resume_calculator",
    "public.save_calculator",
}
PRESENTED = {"carnivore.presented_report_token", "carnivore.presented_calculator_token"}
JOBS = {
    "conversation.run_job",
    "conversation.reset_weekly_limits",
    "conversation.delete_expired_sessions",
    "conversation.delete_old_logs",
    "conversation.archive_messages",
}
CALLS = {
    "anon": BY_ANYBODY | PRESENTED,
    "authenticated": BY_ANYBODY | PRESENTED | {"carnivore.active_user", "conversation.delete_own_profile"},
    "service_role": BY_ANYBODY
    | JOBS
    | {
        "public.fold_report_access",
        "public.delete_expired_calculator_sessions",
        "public.delete_expired_reports",
        "public.delete_report_pages",
        "vocabulary.recompute_user_progress",
        "conversation.erase_profile",
        "conversation.log_failed_job",
        "analytics.unusual_access",
    },
    "reporting": BY_EVERYBODY | {"analytics.unusual_access"},
}


def columns(rights: dict[str, dict[str, str]], role: str, table: str) -> list[str]:
    """The columns of the table that these rights give to the role."""
    return rights[role].get(table, "").split()
