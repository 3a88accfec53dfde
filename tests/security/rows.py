"""A good row of each table, naming every column that the service may write."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from tests.security.personas import Asker
from tests.security.seed import ADA, CIPHERTEXT, EVE, MALLORY, REPORT_A, SCENE_A, SCENE_OPEN

NOW = datetime.now(UTC)
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
Row = dict[str, Any]

GOOD: dict[str, Row] = {
    "public.user_sessions": {
        "email": "eve@example.com",
        "path_choice": "keto",
        "macro_data": Jsonb({"protein": 120}),
        "payment_status": "completed",
        "stripe_payment_id": "pi_eve",
        "is_test": False,
    },
    "public.generated_reports": {
        "session_id": 9001,
        "email": "ada@example.com",
        "access_token": "c3" * 32,
        "report_html": "<p>new</p>",
        "questionnaire_data": Jsonb({"age": 42}),
        "expires_at": NOW + timedelta(days=90),
    },
    "public.report_access_log": {
        "report_id": 9001,
        "accessed_at": NOW,
        "ip_address": "203.0.113.9",
        "user_agent": "Browser/1.0",
    },
    "public.pricing_tiers": {"code": "family"},
    "public.calculator2_sessions": {
        "session_token": "calculatorTokenN_0123456789-abcd",
        "form_state": Jsonb({"age": 30}),
        "pricing_tier": "bundle",
        "amount_paid": 49,
        "payment_status": "completed",
        "report_token": REPORT_A,
    },
    "public.cw_assessment_sessions": {
        "id": "00000000-0000-4000-8000-000000000002",
        "email": "eve@example.com",
        "first_name": "Eve",
        "form_data": Jsonb({"goal": "sleep"}),
        "payment_status": "completed",
        "stripe_session_id": "cs_eve",
        "stripe_payment_intent_id": "pi_eve_assessment",
        "is_test": False,
    },
    "public.stripe_events": {
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
    "public.begun_checkouts": {
        "session_table": "calculator2_sessions",
        "session_key": "9001",
        "amount": 4900,
        "currency": "usd",
        "tier": "bundle",
    },
    "carnivore.partition_sizes": {
        "day": "2026-03-02",
        "relation": "public.stripe_events",
        "bytes": 8192,
        "rows": 10,
    },
    # These are written by triggers alone.
    "vocabulary.abandoned_export_files": {"file_url": "s3://exports/two.csv"},
    "public.report_access_pending": {"report_id": 9001, "access_count": 1, "last_accessed_at": NOW},
    "public.report_expiry_changes": {
        "report_id": 9001,
        "changed_by": "service_role",
        "reason": "refund",
        "old_expires_at": NOW,
        "new_expires_at": NOW,
    },
    "analytics.access_days": {"day": date(2026, 3, 2), "accesses": 3, "reports": 2, "counted_at": NOW},
    "vocabulary.users": {
        "id": MALLORY,
        "email": "mallory@example.com",
        "username": "mallory_1",
        "full_name": "Mallory M",
        "avatar_url": "https://example.com/m.png",
        "spanish_level": "advanced",
        "profile_completed": True,
        "theme": "auto",
        "language": "es",
        "default_description_style": "poetico",
        "target_words_per_day": 20,
        "preferred_difficulty": "intermediate",
        "enable_notifications": False,
        "is_authenticated": True,
        "last_login": NOW,
    },
    "vocabulary.sessions": {
        "id": "00000000-0000-4000-8000-0000000000e2",
        "user_id": EVE,
        "session_type": "qa",
        "started_at": NOW - timedelta(minutes=20),
        "ended_at": NOW,
        "duration_minutes": 15,
        "images_processed": 1,
        "descriptions_generated": 2,
        "qa_attempts": 10,
        "qa_correct": 7,
        "vocabulary_learned": 3,
        "phrases_saved": 4,
        "session_data": Jsonb({"words": ["gato"]}),
        "user_agent": "App/1.0",
        "device_type": "phone",
        "engagement_score": 0.5,
        "completion_rate": 1,
        "ip_address": "203.0.113.9",
    },
    "vocabulary.user_api_keys": {
        "user_id": EVE,
        "openai_api_key": CIPHERTEXT,
        "unsplash_api_key": None,
        "anthropic_api_key": None,
        "is_active": True,
    },
    # Every learner has one already.
    "vocabulary.user_progress": {
        "user_id": MALLORY,
        "mastered_words_count": 1,
        "learning_words_count": 2,
        "new_words_count": 3,
    },
    "vocabulary.export_history": {
        "user_id": EVE,
        "export_type": "csv",
        "export_format": "csv",
        "filters": Jsonb({"type": "vocabulary"}),
    },
    # The owner's alone.
    "carnivore.areas": {"area": "new_area", "schemas": ["public"]},
    "carnivore.partitioned_tables": {
        "parent": "public.new_log",
        "area": "weekly",
        "holds": "Entries",
        "kept": "1 year",
    },
    "carnivore.jobs": {
        "job": "new_job",
        "area": "weekly",
        "position": 1,
        "description": "something new",
        "call": "SELECT 0",
        "batch": 5,
        "options": Jsonb({"months_ahead": 3}),
        "archives": True,
        "due": "SELECT 0",
        "on_failure": "SELECT 0",
        "every": "1 day",
        "last_started_at": NOW,
        "last_finished_at": NOW,
        "last_succeeded_at": NOW,
        "last_error": "55P03",
        "last_result": Jsonb({"rows": 1}),
    },
    # A login brings its profile; this one's was deleted.
    "conversation.profiles": {"id": MALLORY, "email": "mallory@example.com", "week_reset_date": MONDAY},
    "conversation.scenarios": {
        "code": "bakery",
        "title": "At the bakery",
        "emoji": "🥨",
        "initial_message_main": "Bitte schön?",
        "initial_message_helper": "You are hungry.",
        "is_active": True,
        "sort_order": 4,
    },
    "conversation.sessions": {
        "id": "00000000-0000-4000-8000-0000000000e3",
        "user_id": EVE,
        "scenario_id": 1,
        "is_completed": False,
        "started_at": NOW - timedelta(minutes=20),
        "last_activity_at": NOW,
        "completed_at": None,
    },
    # Whose it is the session says.
    "conversation.messages": {
        "id": "00000000-0000-4000-8000-0000000000e4",
        "session_id": SCENE_OPEN,
        "role": "user",
        "chat_type": "main",
        "content": "Wie heißen Sie?",
        "client_message_id": "00000000-0000-4000-8000-0000000000e5",
        "sent_at": NOW,
    },
    "conversation.messages_archive": {
        "id": "00000000-0000-4000-8000-0000000000e4",
        "session_id": SCENE_A,
        "user_id": ADA,
        "role": "user",
        "chat_type": "main",
        "content": "Auf Wiedersehen!",
        "sent_at": NOW,
        "created_at": NOW,
    },
    # The owner's alone.
    "carnivore.archived_partitions": {
        "parent": "public.report_access_log",
        "month": date(2020, 1, 1),
        "part": 1,
        "file_url": "s3://cold/part-0001.parquet",
        "rows": 3,
        "sha256": "ab" * 32,
        "bytes_before": 65_536,
        "bytes_after": 1_234,
        "begun_at": NOW,
        "detached_at": NOW,
        "dropped_at": NOW,
        "restored_as": None,
        "keep_until": None,
    },
    "conversation.event_types": {"code": "voice_started", "description": "Somebody speaks."},
    "conversation.logs": {
        "level": "info",
        "event_type": "session_created",
        "user_id": ADA,
        "session_id": SCENE_A,
        "metadata": Jsonb({"scene": 1}),
        "created_at": NOW,
    },
}
# Their triggers fill in what is given otherwise: the rules alone are tried.
FILLED_IN = {"vocabulary.user_progress", "conversation.profiles", "conversation.sessions"}


def owner(table: str) -> str:
    """The column of a person's table that says whose row it is."""
    return "id" if table in {"vocabulary.users", "conversation.profiles"} else "user_id"


def of_ada(table: str) -> str:
    return f"{owner(table)} = '{ADA}'"


def triggers(table: str) -> str:
    """Whether triggers are on when a row is put in."""
    return "replica" if table in FILLED_IN else "origin"


def insertion(table: str, *, only: Iterable[str] | None = None, **changes: Any) -> tuple[str, list[Any]]:
    """INSERT of a good row, or of these columns of it, with these changes, and its parameters."""
    row = {column: GOOD[table][column] for column in only or GOOD[table]} | changes
    places = ", ".join(["%s"] * len(row))
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", list(row.values())


def insert(asker: Asker, table: str, returning: str, **changes: Any) -> Any:
    """Put in a good row with these changes; returns what `returning` says of it."""
    statement, params = insertion(table, **changes)
    return asker.value(f"{statement} RETURNING {returning}", params)
