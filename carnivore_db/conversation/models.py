"""The tables of the role-play chat (document 20251110150000) as SQLAlchemy models.

A model states columns, constraints and indexes. Triggers, policies, grants and partitions belong to the
revisions; `docs/schema/` shows the two together.
"""

from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    false,
    func,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import CITEXT, INTERVAL
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeEngine, UserDefinedType

from carnivore_db.errors import ProfileNotFound, ScenarioNotFound, SessionNotFound
from carnivore_db.schema.base import (
    AUTH_USERS,
    Base,
    JsonObject,
    Moment,
    Now,
    counter,
    enum,
    in_range,
    one_of,
    uuid_key,
)

SCHEMA = "conversation"

Role = Literal["user", "main_assistant", "helper_assistant"]
ChatType = Literal["main", "helper"]
Level = Literal["error", "warn", "info", "debug"]
Limit = Literal["messages", "completed_scenarios"]

CODE_PATTERN = "^[a-z][a-z0-9_]*$"
ERASED = "[erased]"
COMPLETED = text("is_completed")
OPEN = text("NOT is_completed")


class CaseInsensitiveText(UserDefinedType[str]):
    """citext whose equality ignores case under any search_path.

    citext's own operators are found only where its schema is in the path. Elsewhere `=` is that of text,
    which asks the column's collation.
    """

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """As CREATE TABLE writes it, with the schema of citext in the search path."""
        return "citext COLLATE conversation.case_insensitive"

    def compare_against_backend(self, dialect: Dialect, conn_type: TypeEngine[Any]) -> bool:
        """Alembic's question: is the column of this type? Collations are the snapshot's to compare."""
        return isinstance(conn_type, CITEXT)


class Profile(Base):
    __tablename__ = "profiles"
    __table_args__ = (
        CheckConstraint("completed_scenario_count >= 0", name="completed_scenario_count_not_negative"),
        CheckConstraint(
            "current_week_completion_count >= 0", name="current_week_completion_count_not_negative"
        ),
        CheckConstraint("btrim(email::text) <> ''", name="email_not_empty"),
        CheckConstraint(
            "email::text COLLATE \"C\" ~ '^[!-~]*$'", name="email_printable", info={"field": "email"}
        ),
        CheckConstraint("char_length(email::text) <= 255", name="email_length"),
        CheckConstraint(
            "week_reset_date = date_trunc('week', week_reset_date AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'",
            name="week_reset_date_valid",
        ),
        CheckConstraint(
            "erased_at IS NULL OR deleted_at IS NOT NULL",
            name="deleted_at_with_erased",
            info={"field": "deleted_at"},
        ),
        CheckConstraint(
            "erased_at IS NULL OR email::text COLLATE \"C\" LIKE 'erased-%@erased.invalid'",
            name="email_with_erased",
            info={"field": "email"},
        ),
        in_range("deleted_at"),
        UniqueConstraint("email"),
        Index("idx_profiles_email", "email", unique=True, postgresql_ops={"email": "text_ops"}),
        Index("idx_profiles_week_reset", "week_reset_date"),
        {"schema": SCHEMA, "comment": "A person of the chat; id is what auth.uid() returns for them."},
    )

    id: Mapped[UUID] = mapped_column(
        ForeignKey(AUTH_USERS.c.id, onupdate="CASCADE", ondelete="CASCADE", info={"field": "id"}),
        primary_key=True,
        comment="Identity: auth.uid() of the person.",
    )
    email: Mapped[str] = mapped_column(
        CaseInsensitiveText, comment="The person's address; case does not matter."
    )
    completed_scenario_count: Mapped[int] = counter("Completed sessions; a trigger's.")
    current_week_completion_count: Mapped[int] = counter(
        "Completed sessions since the Monday before week_reset_date; a trigger's."
    )
    week_reset_date: Mapped[Moment] = mapped_column(
        comment="The Monday (00:00 UTC) when the week's count begins anew."
    )
    created_at: Mapped[Now] = mapped_column(comment="When the row was made.")
    updated_at: Mapped[Now] = mapped_column(comment="When the row last changed; a trigger's.")
    deleted_at: Mapped[Moment | None] = mapped_column(
        comment="When the person left; NULL while they are there."
    )
    erased_at: Mapped[Moment | None] = mapped_column(comment="When what they said was erased, for good.")


class Scenario(Base):
    __tablename__ = "scenarios"
    __table_args__ = (
        CheckConstraint("octet_length(emoji) <= 16", name="emoji_length"),
        CheckConstraint(f"code ~ '{CODE_PATTERN}'", name="code_valid"),
        UniqueConstraint("title"),
        UniqueConstraint("code"),
        {"schema": SCHEMA, "comment": "A scene to play."},
    )

    id: Mapped[int] = mapped_column(
        Integer, Identity(always=False, start=4), primary_key=True, comment="Identity."
    )
    title: Mapped[str] = mapped_column(Text, comment="What the scene is called.")
    emoji: Mapped[str] = mapped_column(Text, comment="Its picture.")
    initial_message_main: Mapped[str] = mapped_column(Text, comment="The partner's opening line, in German.")
    initial_message_helper: Mapped[str] = mapped_column(
        Text, comment="The helper's opening line, in English."
    )
    is_active: Mapped[bool] = mapped_column(server_default=true(), comment="It is offered.")
    created_at: Mapped[Now] = mapped_column(comment="When the row was made.")
    updated_at: Mapped[Now] = mapped_column(comment="When the row last changed; a trigger's.")
    sort_order: Mapped[int] = mapped_column(
        SmallInteger, server_default=text("0"), comment="Its place in lists, smallest first."
    )
    code: Mapped[str] = mapped_column(
        String(50),
        comment="What clients know it by: lower-case letters, digits and underscores; never changes.",
    )


class RolePlay(Base):
    __tablename__ = "sessions"
    __table_args__ = (
        CheckConstraint(
            "is_completed = (completed_at IS NOT NULL)",
            name="completed_at_with_completed",
            info={"field": "completed_at"},
        ),
        in_range("started_at"),
        in_range("last_activity_at"),
        CheckConstraint(
            "completed_at IS NULL OR completed_at >= started_at"
            " AND completed_at < '2100-01-01 00:00:00+00'::timestamptz",
            name="completed_at_in_range",
        ),
        CheckConstraint(
            "message_count_main >= 0 AND message_count_helper >= 0",
            name="message_counts_not_negative",
            info={"field": "message_count_main"},
        ),
        CheckConstraint(
            "duration_seconds IS NULL OR duration_seconds >= 0", name="duration_seconds_not_negative"
        ),
        Index("idx_sessions_active_per_user", "user_id", unique=True, postgresql_where=OPEN),
        Index("idx_sessions_history", "user_id", text("completed_at DESC"), postgresql_where=COMPLETED),
        Index("idx_sessions_user_lookup", "user_id", "is_completed"),
        Index("idx_sessions_expiration_cleanup", "started_at", postgresql_where=OPEN),
        Index(
            "idx_sessions_scenario_history",
            "user_id",
            "scenario_id",
            text("completed_at DESC"),
            postgresql_where=COMPLETED,
        ),
        Index("idx_sessions_user_scenario", "user_id", "scenario_id"),
        Index("idx_sessions_scenario", "scenario_id", "is_completed"),
        {
            "schema": SCHEMA,
            "comment": "A scene as one person plays it.",
            # Every message counts in its session's row: room for that in the same page.
            "postgresql_with": {"fillfactor": 80},
        },
    )

    id: Mapped[UUID] = uuid_key()
    user_id: Mapped[UUID] = mapped_column(
        ForeignKey(Profile.id, onupdate="CASCADE", ondelete="CASCADE", info={"raises": ProfileNotFound}),
        comment="The person who plays.",
    )
    scenario_id: Mapped[int] = mapped_column(
        ForeignKey(Scenario.id, onupdate="CASCADE", ondelete="RESTRICT", info={"raises": ScenarioNotFound}),
        comment="The scene.",
    )
    is_completed: Mapped[bool] = mapped_column(
        server_default=false(), comment="The scene was played to its end."
    )
    started_at: Mapped[Now] = mapped_column(comment="When it began.")
    last_activity_at: Mapped[Now] = mapped_column(comment="When its latest message came.")
    completed_at: Mapped[Moment | None] = mapped_column(
        comment="When it was completed; set by a trigger when not given."
    )
    message_count_main: Mapped[int] = counter("Messages of the main chat; a trigger's.")
    message_count_helper: Mapped[int] = counter("Messages of the helper's chat; a trigger's.")
    duration_seconds: Mapped[int | None] = mapped_column(
        Integer, comment="From start to completion; a trigger's."
    )
    updated_at: Mapped[Now] = mapped_column(comment="When the row last changed; a trigger's.")


class Message(Base):
    __tablename__ = "messages"
    __table_args__ = (
        CheckConstraint("char_length(content) <= 8000", name="content_length"),
        in_range("sent_at"),
        CheckConstraint(
            "(role, chat_type) IN (('main_assistant', 'main'), ('helper_assistant', 'helper'),"
            " ('user', 'main'), ('user', 'helper'))",
            name="messages_role_chat_type_valid",
            info={"field": "role"},
        ),
        Index("idx_messages_session_time_id", "session_id", "sent_at", "id"),
        Index("idx_messages_chat_type", "session_id", "chat_type", "sent_at", "id"),
        Index("idx_messages_session_user", "session_id", "user_id", "sent_at", "id"),
        Index("idx_messages_user", "user_id", text("sent_at DESC")),
        Index(
            "idx_messages_client_message_id",
            "session_id",
            "client_message_id",
            unique=True,
            postgresql_where=text("client_message_id IS NOT NULL"),
        ),
        Index("idx_messages_sent_at", "sent_at", postgresql_using="brin"),
        {"schema": SCHEMA, "comment": "What was said in a session."},
    )

    id: Mapped[UUID] = uuid_key()
    session_id: Mapped[UUID] = mapped_column(
        ForeignKey(RolePlay.id, onupdate="CASCADE", ondelete="CASCADE", info={"raises": SessionNotFound}),
        comment="The session.",
    )
    role: Mapped[Role] = mapped_column(enum("message_role", SCHEMA, Role), comment="Who said it.")
    chat_type: Mapped[ChatType] = mapped_column(
        enum("chat_type_enum", SCHEMA, ChatType), comment="The chat that it was said in: main or helper."
    )
    content: Mapped[str] = mapped_column(
        Text, comment="What was said, at most 8,000 characters; never changes."
    )
    sent_at: Mapped[Moment] = mapped_column(
        server_default=func.clock_timestamp(), comment="When it was said; never in the future."
    )
    created_at: Mapped[Now] = mapped_column(comment="When the row was made.")
    user_id: Mapped[UUID] = mapped_column(
        ForeignKey(Profile.id, onupdate="CASCADE", ondelete="CASCADE", info={"raises": ProfileNotFound}),
        comment="The session's person; a trigger's. Row security asks it.",
    )
    client_message_id: Mapped[UUID | None] = mapped_column(
        comment="The sender's own identity of the message: sent twice, it is stored once."
    )


class ArchivedMessage(Base):
    __tablename__ = "messages_archive"
    __table_args__ = (
        Index("idx_messages_archive_session_time_id", "session_id", "sent_at", "id"),
        Index("idx_messages_archive_user", "user_id", text("sent_at DESC")),
        {
            "schema": SCHEMA,
            "comment": "Old messages of completed sessions; message_history shows them with the others.",
        },
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, comment="Identity, as it was.")
    session_id: Mapped[UUID] = mapped_column(
        ForeignKey(RolePlay.id, onupdate="CASCADE", ondelete="CASCADE", info={"raises": SessionNotFound}),
        comment="The session.",
    )
    user_id: Mapped[UUID] = mapped_column(
        ForeignKey(Profile.id, onupdate="CASCADE", ondelete="CASCADE", info={"raises": ProfileNotFound}),
        comment="The session's person.",
    )
    role: Mapped[Role] = mapped_column(enum("message_role", SCHEMA, Role), comment="Who said it.")
    chat_type: Mapped[ChatType] = mapped_column(
        enum("chat_type_enum", SCHEMA, ChatType), comment="The chat that it was said in."
    )
    content: Mapped[str] = mapped_column(Text, comment="What was said; never changes.")
    sent_at: Mapped[Moment] = mapped_column(comment="When it was said.")
    created_at: Mapped[Moment] = mapped_column(comment="When the message was stored.")
    client_message_id: Mapped[UUID | None] = mapped_column(
        comment="The sender's own identity of the message."
    )
    archived_at: Mapped[Now] = mapped_column(comment="When it came here.")


class EventType(Base):
    __tablename__ = "event_types"
    __table_args__ = (
        CheckConstraint(f"code ~ '{CODE_PATTERN}'", name="code_valid"),
        CheckConstraint("btrim(description) <> ''", name="description_not_empty"),
        {"schema": SCHEMA, "comment": "What can be logged; a new type is a new row."},
    )

    code: Mapped[str] = mapped_column(String(50), primary_key=True, comment="Identity.")
    description: Mapped[str] = mapped_column(String(200), comment="What it means.")


class Log(Base):
    __tablename__ = "logs"
    __table_args__ = (
        CheckConstraint(one_of("level", Level), name="level_valid"),
        in_range("created_at"),
        Index("idx_logs_event_type", "event_type"),
        Index("idx_logs_created_at", text("created_at DESC")),
        Index("idx_logs_level_created", "level", text("created_at DESC")),
        Index("idx_logs_user", "user_id", postgresql_where=text("user_id IS NOT NULL")),
        Index("idx_logs_session", "session_id", text("created_at DESC")),
        Index("idx_logs_metadata", "metadata", postgresql_using="gin"),
        {
            "schema": SCHEMA,
            "comment": "What happened in the application; a partition a month.",
            "postgresql_partition_by": "RANGE (created_at)",
        },
    )

    id: Mapped[UUID] = mapped_column(
        primary_key=True, server_default=text("gen_random_uuid()"), comment="Identity of the event."
    )
    level: Mapped[Level] = mapped_column(Text, comment="error, warn, info or debug.")
    event_type: Mapped[str] = mapped_column(
        String(50),
        ForeignKey(EventType.code, onupdate="CASCADE", info={"field": "event_type"}),
        comment="What happened.",
    )
    user_id: Mapped[UUID | None] = mapped_column(
        ForeignKey(Profile.id, onupdate="CASCADE", ondelete="SET NULL", info={"raises": ProfileNotFound}),
        comment="The person it was about, while there.",
    )
    session_id: Mapped[UUID | None] = mapped_column(
        ForeignKey(RolePlay.id, onupdate="CASCADE", ondelete="SET NULL", info={"raises": SessionNotFound}),
        comment="The session it was about, while there.",
    )
    # `metadata` is SQLAlchemy's own name on a model.
    facts: Mapped[JsonObject | None] = mapped_column("metadata", comment="Its facts.")
    created_at: Mapped[Now] = mapped_column(
        primary_key=True, comment="When it happened; partition key, months in UTC."
    )


class RateLimit(Base):
    __tablename__ = "rate_limits"
    __table_args__ = (
        CheckConstraint(one_of("code", Limit), name="code_valid"),
        CheckConstraint("allowed BETWEEN 1 AND 100000", name="allowed_in_range"),
        CheckConstraint("per BETWEEN interval '1 second' AND interval '7 days'", name="per_in_range"),
        CheckConstraint(
            "code <> 'completed_scenarios' OR per = interval '7 days'",
            name="per_is_the_week",
            info={"field": "per"},
        ),
        {
            "schema": SCHEMA,
            "comment": "How much a person may do in which time; the service's to change.",
        },
    )

    code: Mapped[str] = mapped_column(
        String(50),
        primary_key=True,
        comment="Identity: messages that a person sends, or scenes that they complete.",
    )
    allowed: Mapped[int] = mapped_column(Integer, comment="How many.")
    per: Mapped[timedelta] = mapped_column(
        INTERVAL, comment="In how long; for scenes the week that begins on Monday 00:00 UTC."
    )
    enforced: Mapped[bool] = mapped_column(
        server_default=true(), comment="False lets everybody do as they like."
    )
