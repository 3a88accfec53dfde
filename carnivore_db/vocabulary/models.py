"""The tables of the picture-vocabulary app (document 001) as SQLAlchemy models.

A model states columns, constraints and indexes. Triggers, policies and grants belong to the revisions;
`docs/schema/` shows the two together.
"""

from datetime import date
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Literal, get_args
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import Mapped, mapped_column

from carnivore_db.errors import UserNotFound
from carnivore_db.schema.base import (
    EMAIL_CHECK,
    Base,
    JsonObject,
    Moment,
    Now,
    counter,
    enum,
    in_range,
    json_object,
    one_of,
    uuid_key,
)

SCHEMA = "vocabulary"

Level = Literal["beginner", "intermediate", "advanced"]
Theme = Literal["light", "dark", "auto"]
Language = Literal["en", "es"]
Style = Literal["narrativo", "poetico", "academico", "conversacional", "infantil", "creativo", "tecnico"]
SessionType = Literal["description", "qa", "vocabulary", "mixed"]
Provider = Literal["openai", "unsplash", "anthropic"]
ExportType = Literal["csv", "json", "anki", "pdf"]
ExportStatus = Literal["pending", "processing", "completed", "failed", "expired"]
PROVIDERS: tuple[Provider, ...] = get_args(Provider)

# What one session can count: beyond any real one, and 21,000 such sessions fit into the totals.
MOST = 100_000
# Our own ciphertext and nothing else: format, key's identifier, then nonce, text and tag in base64.
CIPHERTEXT = "^enc:v1:[a-z0-9_-]{1,32}:[A-Za-z0-9_-]{39,}$"


class User(Base):
    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint(EMAIL_CHECK, name="email_format", info={"field": "email"}),
        CheckConstraint("username ~ '^[A-Za-z0-9_]{3,}$'", name="username_valid"),
        CheckConstraint("char_length(btrim(full_name)) >= 2", name="full_name_length"),
        CheckConstraint(
            "avatar_url ~ '^https?://[^[:space:]]+$' AND char_length(avatar_url) <= 2048",
            name="avatar_url_valid",
        ),
        CheckConstraint("target_words_per_day BETWEEN 1 AND 100", name="target_words_per_day_in_range"),
        in_range("last_login"),
        UniqueConstraint("email"),
        UniqueConstraint("username"),
        {"schema": SCHEMA, "comment": "A learner; id is what auth.uid() returns for the person (001)."},
    )

    id: Mapped[UUID] = mapped_column(
        primary_key=True,
        server_default=text("gen_random_uuid()"),
        comment="Identity: auth.uid() of the person.",
    )
    email: Mapped[str] = mapped_column(String(255), comment="The person's address; stored in lower case.")
    username: Mapped[str | None] = mapped_column(
        String(50), comment="Public name: 3 to 50 letters, digits and underscores of ASCII."
    )
    full_name: Mapped[str | None] = mapped_column(
        String(255), comment="The person's name, 2 characters or more."
    )
    avatar_url: Mapped[str | None] = mapped_column(Text, comment="http or https, at most 2,048 characters.")
    spanish_level: Mapped[str] = mapped_column(
        enum("spanish_level", SCHEMA, Level),
        server_default="beginner",
        comment="How well the person speaks Spanish.",
    )
    is_authenticated: Mapped[bool] = mapped_column(
        server_default=false(), comment="The service has seen a verified login."
    )
    profile_completed: Mapped[bool] = mapped_column(
        server_default=false(), comment="The person has filled in the profile."
    )
    theme: Mapped[str] = mapped_column(
        enum("theme", SCHEMA, Theme), server_default="light", comment="Colours of the app."
    )
    language: Mapped[str] = mapped_column(
        enum("language", SCHEMA, Language), server_default="en", comment="Language of the app itself."
    )
    default_description_style: Mapped[str] = mapped_column(
        enum("description_style", SCHEMA, Style),
        server_default="conversacional",
        comment="Style in which pictures are described.",
    )
    target_words_per_day: Mapped[int] = mapped_column(
        Integer, server_default=text("10"), comment="The person's goal, 1 to 100."
    )
    preferred_difficulty: Mapped[str] = mapped_column(
        enum("difficulty", SCHEMA, Level), server_default="beginner", comment="Difficulty of new material."
    )
    enable_notifications: Mapped[bool] = mapped_column(
        server_default=true(), comment="The person wants to be reminded."
    )
    created_at: Mapped[Now] = mapped_column(comment="When the row was made; never changes.")
    updated_at: Mapped[Now] = mapped_column(comment="When the row last changed; a trigger's.")
    last_login: Mapped[Moment | None] = mapped_column(comment="The latest login; the service's.")


class LearningSession(Base):
    __tablename__ = "sessions"
    __table_args__ = (
        in_range("started_at"),
        CheckConstraint(
            "ended_at >= started_at AND ended_at < '2100-01-01 00:00:00+00'::timestamptz",
            name="ended_at_in_range",
        ),
        *(
            CheckConstraint(f"{number} BETWEEN 0 AND {MOST}", name=f"{number}_in_range")
            for number in (
                "duration_minutes",
                "images_processed",
                "descriptions_generated",
                "qa_attempts",
                "vocabulary_learned",
                "phrases_saved",
            )
        ),
        CheckConstraint("qa_correct BETWEEN 0 AND qa_attempts", name="qa_correct_in_range"),
        CheckConstraint(json_object("session_data", 65536), name="session_data_valid"),
        CheckConstraint("char_length(user_agent) <= 1000", name="user_agent_length"),
        CheckConstraint("engagement_score BETWEEN 0 AND 1", name="engagement_score_in_range"),
        CheckConstraint("completion_rate BETWEEN 0 AND 1", name="completion_rate_in_range"),
        Index("idx_sessions_user_id_started_at", "user_id", text("started_at DESC")),
        {
            "schema": SCHEMA,
            "comment": "A sitting of a learner or guest; it has ended when it has ended_at (001).",
        },
    )

    id: Mapped[UUID] = uuid_key()
    user_id: Mapped[UUID | None] = mapped_column(
        ForeignKey(User.id, ondelete="CASCADE", info={"raises": UserNotFound}),
        comment="The learner; NULL for a guest.",
    )
    session_type: Mapped[str] = mapped_column(
        enum("session_type", SCHEMA, SessionType), comment="description, qa, vocabulary or mixed."
    )
    started_at: Mapped[Now] = mapped_column(comment="When it began.")
    ended_at: Mapped[Moment | None] = mapped_column(comment="When it ended; NULL while it goes on.")
    duration_minutes: Mapped[int | None] = mapped_column(
        Integer, comment="How long it took; derived from the two moments when not given."
    )
    images_processed: Mapped[int] = counter("Pictures looked at.")
    descriptions_generated: Mapped[int] = counter("Descriptions written.")
    qa_attempts: Mapped[int] = counter("Questions answered.")
    qa_correct: Mapped[int] = counter("Questions answered correctly.")
    vocabulary_learned: Mapped[int] = counter("Words learned.")
    phrases_saved: Mapped[int] = counter("Phrases saved.")
    session_data: Mapped[JsonObject] = mapped_column(
        server_default=text("'{}'::jsonb"), comment="What was learned, a JSON object of at most 64 KiB."
    )
    user_agent: Mapped[str | None] = mapped_column(
        Text, comment="The client's own name, at most 1,000 characters."
    )
    ip_address: Mapped[IPv4Address | IPv6Address | IPv4Interface | IPv6Interface | None] = mapped_column(
        INET, comment="The client's address; the service's to note."
    )
    device_type: Mapped[str | None] = mapped_column(String(50), comment="phone, tablet, desktop, ...")
    engagement_score: Mapped[Decimal] = mapped_column(
        Numeric(3, 2), server_default=text("0"), comment="0 to 1, the app's own measure."
    )
    completion_rate: Mapped[Decimal] = mapped_column(
        Numeric(3, 2),
        server_default=text("0"),
        comment="Share of the sitting's material that was done, 0 to 1.",
    )
    created_at: Mapped[Now] = mapped_column(comment="When the row was made; never changes.")


def _ciphertext(provider: str) -> Mapped[str | None]:
    return mapped_column(Text, comment=f"Encrypted by the package for this user and {provider} alone.")


class UserApiKeys(Base):
    __tablename__ = "user_api_keys"
    __table_args__ = (
        *(
            CheckConstraint(
                f"{provider}_api_key ~ '{CIPHERTEXT}' AND char_length({provider}_api_key) <= 2000",
                name=f"{provider}_api_key_valid",
            )
            for provider in PROVIDERS
        ),
        in_range("last_validated_at"),
        UniqueConstraint("user_id", name="unique_user_api_keys"),
        {"schema": SCHEMA, "comment": "A learner's keys of other services, encrypted (001)."},
    )

    id: Mapped[UUID] = uuid_key()
    user_id: Mapped[UUID] = mapped_column(
        ForeignKey(User.id, ondelete="CASCADE", info={"raises": UserNotFound}),
        comment="The learner, who has one row.",
    )
    openai_api_key: Mapped[str | None] = _ciphertext("OpenAI")
    unsplash_api_key: Mapped[str | None] = _ciphertext("Unsplash")
    anthropic_api_key: Mapped[str | None] = _ciphertext("Anthropic")
    last_validated_at: Mapped[Moment | None] = mapped_column(
        comment="When the services last took these keys; a changed or removed key empties it."
    )
    is_active: Mapped[bool] = mapped_column(
        server_default=true(), comment="False once a service refused a key or somebody disabled them."
    )
    created_at: Mapped[Now] = mapped_column(comment="When the row was made; never changes.")
    updated_at: Mapped[Now] = mapped_column(comment="When the row last changed; a trigger's.")


NUMBERS = (
    "total_descriptions",
    "total_images",
    "total_questions_answered",
    "total_questions_correct",
    "total_vocabulary_learned",
    "total_phrases_saved",
    "total_sessions",
    "total_time_spent_minutes",
    "current_streak_days",
    "longest_streak_days",
    "total_points",
    "mastered_words_count",
    "learning_words_count",
    "new_words_count",
)


class UserProgress(Base):
    __tablename__ = "user_progress"
    __table_args__ = (
        *(CheckConstraint(f"{number} >= 0", name=f"{number}_not_negative") for number in NUMBERS),
        UniqueConstraint("user_id", name="unique_user_progress"),
        Index("idx_user_progress_last_activity", text("last_activity_at DESC")),
        {
            "schema": SCHEMA,
            "comment": "What a learner's ended sessions add up to; kept by triggers, a row a learner (001).",
        },
    )

    id: Mapped[UUID] = uuid_key()
    user_id: Mapped[UUID] = mapped_column(
        ForeignKey(User.id, ondelete="CASCADE", info={"raises": UserNotFound}), comment="The learner."
    )
    total_descriptions: Mapped[int] = counter("Descriptions written.")
    total_images: Mapped[int] = counter("Pictures looked at.")
    total_questions_answered: Mapped[int] = counter("Questions answered.")
    total_questions_correct: Mapped[int] = counter("Questions answered correctly.")
    total_vocabulary_learned: Mapped[int] = counter("Words learned.")
    total_phrases_saved: Mapped[int] = counter("Phrases saved.")
    total_sessions: Mapped[int] = counter("Ended sessions.")
    total_time_spent_minutes: Mapped[int] = counter("Their duration.")
    current_streak_days: Mapped[int] = counter(
        "Days in a row (UTC) with an ended session, up to last_streak_date."
    )
    longest_streak_days: Mapped[int] = counter("The longest such row there ever was.")
    last_streak_date: Mapped[date | None] = mapped_column(
        comment="The latest day (UTC) with an ended session."
    )
    total_points: Mapped[int] = counter("Points that the service awarded.")
    average_accuracy: Mapped[Decimal] = mapped_column(
        Numeric(5, 2),
        Computed(
            "round(100.0 * total_questions_correct / greatest(total_questions_answered, 1), 2)",
            persisted=True,
        ),
        comment="Per cent of the answers that were correct, 0 without any.",
    )
    average_completion_time_seconds: Mapped[int] = mapped_column(
        Integer,
        Computed("round(60.0 * total_time_spent_minutes / greatest(total_sessions, 1))", persisted=True),
        comment="Mean duration of an ended session, 0 without any.",
    )
    mastered_words_count: Mapped[int] = counter(
        "Words that the app holds for mastered; the learner's to write."
    )
    learning_words_count: Mapped[int] = counter("Words being learned; the learner's to write.")
    new_words_count: Mapped[int] = counter("Words not yet begun; the learner's to write.")
    last_activity_at: Mapped[Moment | None] = mapped_column(comment="End of the latest ended session.")
    last_description_at: Mapped[Moment | None] = mapped_column(
        comment="End of the latest one for describing, or with a description."
    )
    last_qa_session_at: Mapped[Moment | None] = mapped_column(
        comment="End of the latest one for questions, or with an answer."
    )
    last_vocabulary_practice_at: Mapped[Moment | None] = mapped_column(
        comment="End of the latest one for vocabulary, or with a word learned."
    )
    created_at: Mapped[Now] = mapped_column(comment="When the row was made; never changes.")
    updated_at: Mapped[Now] = mapped_column(comment="When the row last changed; a trigger's.")


class Export(Base):
    __tablename__ = "export_history"
    __table_args__ = (
        CheckConstraint(one_of("export_type", ExportType), name="export_type_valid"),
        CheckConstraint(
            "(export_type, export_format)"
            " IN (('csv', 'csv'), ('json', 'json'), ('anki', 'apkg'), ('pdf', 'pdf'))",
            name="export_format_valid",
        ),
        CheckConstraint(one_of("status", ExportStatus), name="status_valid"),
        in_range("expires_at"),
        CheckConstraint("records_count >= 0", name="records_count_not_negative"),
        CheckConstraint("file_size_bytes >= 0", name="file_size_bytes_not_negative"),
        CheckConstraint("retry_count >= 0", name="retry_count_not_negative"),
        CheckConstraint("char_length(file_url) <= 2048", name="file_url_length"),
        CheckConstraint("char_length(error_message) <= 500", name="error_message_length"),
        CheckConstraint(json_object("filters", 4096), name="filters_valid"),
        CheckConstraint(json_object("data", 4096), name="data_valid"),
        CheckConstraint(
            "status <> 'completed' OR (records_count IS NOT NULL AND file_size_bytes IS NOT NULL"
            " AND file_url IS NOT NULL AND expires_at IS NOT NULL)",
            name="file_with_completed",
            info={"field": "file_url"},
        ),
        CheckConstraint(
            "status = 'completed' OR file_url IS NULL",
            name="file_url_with_completed",
            info={"field": "file_url"},
        ),
        CheckConstraint(
            "status <> 'failed' OR error_message IS NOT NULL",
            name="error_message_with_failed",
            info={"field": "error_message"},
        ),
        Index("idx_export_history_user_id", "user_id"),
        Index("idx_export_history_status", "status"),
        Index("idx_export_history_created_at", text("created_at DESC")),
        Index("idx_export_history_export_type", "export_type"),
        Index(
            "idx_export_history_queue",
            "created_at",
            "id",
            postgresql_where=text("status IN ('pending', 'processing')"),
        ),
        {"schema": SCHEMA, "comment": "Audit trail and queue of the exports that learners asked for (001)."},
    )

    id: Mapped[UUID] = uuid_key()
    user_id: Mapped[UUID] = mapped_column(
        ForeignKey(User.id, ondelete="CASCADE", info={"raises": UserNotFound}),
        comment="The learner who asked and whose data it is.",
    )
    export_type: Mapped[str] = mapped_column(String(50), comment="csv, json, anki or pdf.")
    export_format: Mapped[str] = mapped_column(
        String(20), comment="The file's ending: csv, json, apkg or pdf; follows from the type."
    )
    status: Mapped[str] = mapped_column(
        String(20), server_default="pending", comment="pending, processing, completed, failed or expired."
    )
    records_count: Mapped[int | None] = mapped_column(
        Integer, comment="Records written so far, and at the end all of them."
    )
    file_size_bytes: Mapped[int | None] = mapped_column(BigInteger, comment="Size of the file.")
    file_url: Mapped[str | None] = mapped_column(
        Text, comment="Where the file lies; NULL before it is whole and after it expired."
    )
    filters: Mapped[JsonObject] = mapped_column(
        server_default=text("'{}'::jsonb"), comment="What the learner chose, a JSON object of at most 4 KiB."
    )
    data: Mapped[JsonObject] = mapped_column(
        server_default=text("'{}'::jsonb"),
        comment="What the worker notes: sessions done and in total, the file begun, workers lost.",
    )
    error_message: Mapped[str | None] = mapped_column(
        Text, comment="Why it last failed, at most 500 characters."
    )
    retry_count: Mapped[int] = counter("How often it was begun again; a trigger counts.")
    started_at: Mapped[Moment | None] = mapped_column(comment="When a worker last took it; a trigger's.")
    completed_at: Mapped[Moment | None] = mapped_column(
        comment="When it was completed or failed; a trigger's."
    )
    processing_time_seconds: Mapped[Decimal | None] = mapped_column(
        Numeric(12, 3),
        Computed("EXTRACT(epoch FROM (completed_at - started_at))", persisted=True),
        comment="From the one to the other.",
    )
    expires_at: Mapped[Moment | None] = mapped_column(comment="When the file is deleted.")
    created_at: Mapped[Now] = mapped_column(comment="When it was asked for; never changes.")
    updated_at: Mapped[Now] = mapped_column(
        comment="When the row last changed, a sign of life of its worker; a trigger's."
    )


class AbandonedExportFile(Base):
    __tablename__ = "abandoned_export_files"
    __table_args__ = ({"schema": SCHEMA, "comment": "Files that no export has any more, to be deleted."},)

    file_url: Mapped[str] = mapped_column(Text, primary_key=True, comment="Where the file lies.")
    abandoned_at: Mapped[Now] = mapped_column(comment="When that was noted.")
