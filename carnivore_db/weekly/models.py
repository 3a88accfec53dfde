"""The tables of Carnivore Weekly (documents 012, 014 and 020) as SQLAlchemy models.

A model states columns, constraints and indexes. Triggers, policies, grants and partitions belong
to the revisions; `docs/schema/` shows the two together.
"""

from datetime import date
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Literal
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Numeric,
    PrimaryKeyConstraint,
    String,
    Text,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import Mapped, mapped_column

from carnivore_db.errors import ReportNotFound, SessionNotFound
from carnivore_db.schema.base import (
    EMAIL_CHECK,
    Base,
    BigIdentity,
    JsonObject,
    Moment,
    Now,
    in_range,
    json_object,
    one_of,
)

PathChoice = Literal["carnivore", "keto", "paleo", "custom"]
PaymentStatus = Literal["pending", "completed", "failed", "refunded"]
PaidTable = Literal["user_sessions", "calculator2_sessions", "cw_assessment_sessions"]
Outcome = Literal["applied", "unchanged", "waiting", "ignored", "failed", "mismatch"]


class UserSession(Base):
    __tablename__ = "user_sessions"
    __table_args__ = (
        CheckConstraint(EMAIL_CHECK, name="email_valid", info={"field": "email"}),
        CheckConstraint(one_of("path_choice", PathChoice), name="path_choice_valid"),
        CheckConstraint(json_object("macro_data", 65536), name="macro_data_valid"),
        CheckConstraint(one_of("payment_status", PaymentStatus), name="payment_status_valid"),
        CheckConstraint(
            "payment_status NOT IN ('completed', 'refunded') OR stripe_payment_id IS NOT NULL",
            name="payment_id_with_completed",
            info={"field": "stripe_payment_id"},
        ),
        CheckConstraint(
            r"stripe_payment_id ~ '\S'", name="payment_id_not_empty", info={"field": "stripe_payment_id"}
        ),
        Index("idx_user_sessions_email", "email"),
        Index("idx_user_sessions_stripe_payment_id", "stripe_payment_id", unique=True),
        {"comment": "A visitor's way from the macro calculator to a paid report (document 012)."},
    )

    id: Mapped[BigIdentity] = mapped_column(primary_key=True, comment="Identity of the session.")
    email: Mapped[str] = mapped_column(String(255), comment="Where the report is sent; stored in lower case.")
    path_choice: Mapped[str] = mapped_column(
        String(50), comment="The chosen diet: carnivore, keto, paleo or custom."
    )
    macro_data: Mapped[JsonObject] = mapped_column(
        comment="The calculator's macros, a JSON object of at most 64 KiB."
    )
    payment_status: Mapped[str] = mapped_column(
        String(50), server_default="pending", comment="pending, completed, failed or refunded."
    )
    stripe_payment_id: Mapped[str | None] = mapped_column(
        String(100), comment="Stripe's payment intent; required once the payment is completed."
    )
    created_at: Mapped[Now] = mapped_column(comment="When the row was made; never changes.")
    updated_at: Mapped[Now] = mapped_column(comment="When the row last changed; a trigger's.")
    is_test: Mapped[bool] = mapped_column(
        server_default=false(), comment="Test data: left out of every count."
    )


class GeneratedReport(Base):
    __tablename__ = "generated_reports"
    __table_args__ = (
        CheckConstraint(EMAIL_CHECK, name="email_valid", info={"field": "email"}),
        CheckConstraint(
            "access_token ~ '^[0-9a-f]+$' AND char_length(access_token) = 64", name="access_token_valid"
        ),
        # Every access updates this row, and every update runs every check: these two must not unpack the
        # page or print the answers. A trigger asks the rest once, at the insert.
        CheckConstraint("octet_length(report_html) BETWEEN 1 AND 5242880", name="report_html_not_empty"),
        CheckConstraint(
            "jsonb_typeof(questionnaire_data) = 'object'",
            name="questionnaire_not_empty",
            info={"field": "questionnaire_data"},
        ),
        CheckConstraint("expires_at > created_at", name="expiry_in_future", info={"field": "expires_at"}),
        CheckConstraint(
            "expires_at - created_at <= '3653 days'::interval",
            name="expiry_within_ten_years",
            info={"field": "expires_at"},
        ),
        CheckConstraint("access_count >= 0", name="access_count_not_negative"),
        CheckConstraint(
            "last_accessed_at >= created_at",
            name="last_access_after_creation",
            info={"field": "last_accessed_at"},
        ),
        Index("idx_generated_reports_access_token", "access_token", unique=True),
        Index("idx_generated_reports_email_expires", "email", text("expires_at DESC")),
        Index("idx_generated_reports_expires_at", "expires_at"),
        Index("idx_generated_reports_session_id", "session_id"),
        {
            "comment": "A report as it was sold: immutable, read by token until it expires (012).",
            # Every access counts in its report's row: room for that in the same page.
            "postgresql_with": {"fillfactor": 80},
        },
    )

    id: Mapped[BigIdentity] = mapped_column(primary_key=True, comment="Identity of the report.")
    session_id: Mapped[int] = mapped_column(
        BigInteger,
        ForeignKey("user_sessions.id", ondelete="CASCADE", info={"raises": SessionNotFound}),
        comment="The session that bought it.",
    )
    email: Mapped[str] = mapped_column(
        String(255), comment="The buyer's address, copied from the session when not given."
    )
    access_token: Mapped[str] = mapped_column(
        String(64), comment="Secret of the report's link: 256 random bits in lower-case hex."
    )
    report_html: Mapped[str] = mapped_column(
        Text, comment="The page, never changed after it was sold; at most 5 MiB."
    )
    questionnaire_data: Mapped[JsonObject] = mapped_column(
        comment="The answers at the time of generation, a JSON object of at most 256 KiB."
    )
    created_at: Mapped[Now] = mapped_column(comment="When the report was made; never changes.")
    expires_at: Mapped[Moment] = mapped_column(
        comment="End of access; changes are kept in report_expiry_changes."
    )
    access_count: Mapped[int] = mapped_column(
        BigInteger,
        server_default=text("0"),
        comment="Accesses counted so far; with report_access_pending, all of them.",
    )
    last_accessed_at: Mapped[Moment | None] = mapped_column(
        comment="The latest counted access, never before created_at."
    )


class ReportAccess(Base):
    __tablename__ = "report_access_log"
    __table_args__ = (
        CheckConstraint(r"user_agent ~ '\S'", name="user_agent_not_empty"),
        CheckConstraint("char_length(user_agent) <= 1000", name="user_agent_length"),
        in_range("accessed_at"),
        Index("idx_report_access_log_report_id_accessed", "report_id", text("accessed_at DESC")),
        {
            "comment": "Audit trail: one row an access, append-only, a partition a month (012).",
            "postgresql_partition_by": "RANGE (accessed_at)",
        },
    )

    id: Mapped[BigIdentity] = mapped_column(primary_key=True, comment="Identity of the access.")
    report_id: Mapped[int] = mapped_column(
        BigInteger,
        ForeignKey("generated_reports.id", ondelete="CASCADE", info={"raises": ReportNotFound}),
        comment="The report that was opened.",
    )
    accessed_at: Mapped[Now] = mapped_column(
        primary_key=True, comment="When it was opened; partition key, months in UTC."
    )
    ip_address: Mapped[IPv4Address | IPv6Address | IPv4Interface | IPv6Interface | None] = mapped_column(
        INET, comment="The client's address; NULL when it could not be read."
    )
    user_agent: Mapped[str | None] = mapped_column(
        Text, comment="The client's own name, at most 1,000 characters; NULL when blank."
    )


class ReportAccessPending(Base):
    __tablename__ = "report_access_pending"
    __table_args__ = (
        CheckConstraint("access_count > 0", name="access_count_positive"),
        PrimaryKeyConstraint("report_id", "id"),
        {"comment": "Accesses logged in deferred mode and not yet added to access_count."},
    )

    id: Mapped[BigIdentity] = mapped_column(comment="Identity of the delta.")
    # No foreign key: the log's has locked the report already.
    report_id: Mapped[int] = mapped_column(
        BigInteger,
        comment="The report that the accesses belong to; deltas of one that is gone are forgotten.",
    )
    access_count: Mapped[int] = mapped_column(BigInteger, comment="How many accesses this delta stands for.")
    last_accessed_at: Mapped[Moment] = mapped_column(comment="The latest of them.")


class ReportExpiryChange(Base):
    __tablename__ = "report_expiry_changes"
    __table_args__ = (
        CheckConstraint("char_length(reason) <= 200", name="reason_length"),
        Index("idx_report_expiry_changes_report_id", "report_id"),
        {"comment": "Every extension and revocation of a report, append-only."},
    )

    id: Mapped[BigIdentity] = mapped_column(primary_key=True, comment="Identity of the change.")
    report_id: Mapped[int] = mapped_column(
        BigInteger,
        ForeignKey("generated_reports.id", ondelete="CASCADE", info={"raises": ReportNotFound}),
        comment="The report whose expiry changed.",
    )
    changed_at: Mapped[Moment] = mapped_column(
        server_default=func.clock_timestamp(), comment="When it changed."
    )
    changed_by: Mapped[str] = mapped_column(Text, comment="The role that changed it.")
    reason: Mapped[str | None] = mapped_column(
        Text, comment="Why, from the setting carnivore.expiry_reason: refund, extended, ..."
    )
    old_expires_at: Mapped[Moment] = mapped_column(comment="The expiry before.")
    new_expires_at: Mapped[Moment] = mapped_column(comment="The expiry after.")


class PricingTier(Base):
    __tablename__ = "pricing_tiers"
    __table_args__ = (
        CheckConstraint("code ~ '^[A-Za-z][A-Za-z0-9_]*$'", name="code_valid"),
        {"comment": "What the calculator sells; a new tier is a new row (014)."},
    )

    code: Mapped[str] = mapped_column(
        String(50), primary_key=True, comment="The tier's name in the code: bundle, mealPlan, ..."
    )


class Calculator2Session(Base):
    __tablename__ = "calculator2_sessions"
    __table_args__ = (
        CheckConstraint("session_token ~ '^[A-Za-z0-9_-]{32}$'", name="session_token_valid"),
        CheckConstraint(json_object("form_state", 65536), name="form_state_valid"),
        CheckConstraint("amount_paid >= 0", name="amount_paid_not_negative"),
        CheckConstraint(one_of("payment_status", PaymentStatus), name="payment_status_valid"),
        CheckConstraint(
            "expires_at > created_at", name="expiry_after_creation", info={"field": "expires_at"}
        ),
        CheckConstraint(
            "last_active_at >= created_at",
            name="last_active_after_creation",
            info={"field": "last_active_at"},
        ),
        Index("idx_calculator2_sessions_token", "session_token", unique=True),
        Index("idx_calculator2_sessions_expires_at", "expires_at"),
        Index("idx_calculator2_sessions_last_active", text("last_active_at DESC")),
        Index("idx_calculator2_sessions_pricing_tier", "pricing_tier"),
        Index("idx_calculator2_sessions_report_token", "report_token"),
        {"comment": "A visitor's calculator form for 48 hours, found by its token (014)."},
    )

    id: Mapped[BigIdentity] = mapped_column(primary_key=True, comment="Identity of the session.")
    session_token: Mapped[str] = mapped_column(
        String(64), comment="The browser's secret: 192 random bits, URL-safe base64."
    )
    form_state: Mapped[JsonObject | None] = mapped_column(
        comment="The form as last saved, a JSON object of at most 64 KiB."
    )
    pricing_tier: Mapped[str | None] = mapped_column(
        String(50),
        ForeignKey("pricing_tiers.code", info={"field": "pricing_tier"}),
        comment="The chosen tier.",
    )
    amount_paid: Mapped[Decimal | None] = mapped_column(
        Numeric(10, 2), comment="What was paid, in the currency's main unit."
    )
    payment_status: Mapped[str] = mapped_column(
        String(50), server_default="pending", comment="pending, completed, failed or refunded."
    )
    report_token: Mapped[str | None] = mapped_column(
        String(64),
        ForeignKey("generated_reports.access_token", ondelete="SET NULL", info={"raises": ReportNotFound}),
        comment="The report that was made of this session.",
    )
    created_at: Mapped[Now] = mapped_column(comment="When the session began; never changes.")
    last_active_at: Mapped[Now] = mapped_column(comment="When it last changed; a trigger's.")
    expires_at: Mapped[Moment] = mapped_column(
        server_default=text("now() + '48 hours'::interval"),
        comment="48 hours after the beginning; activity does not extend it.",
    )


class AssessmentSession(Base):
    __tablename__ = "cw_assessment_sessions"
    __table_args__ = (
        CheckConstraint(
            json_object("form_data", 262144), name="form_data_is_object", info={"field": "form_data"}
        ),
        CheckConstraint(EMAIL_CHECK, name="email_format", info={"field": "email"}),
        CheckConstraint(r"first_name ~ '\S'", name="first_name_not_empty"),
        CheckConstraint(one_of("payment_status", PaymentStatus), name="payment_status_valid"),
        CheckConstraint(
            "payment_status <> 'completed' OR completed_at IS NOT NULL",
            name="completed_at_with_completed",
            info={"field": "completed_at"},
        ),
        Index("idx_cw_assessment_sessions_email", "email"),
        Index("idx_cw_assessment_sessions_payment_status", "payment_status"),
        Index(
            "idx_cw_assessment_sessions_stripe_session_id",
            "stripe_session_id",
            unique=True,
            postgresql_where=text("stripe_session_id IS NOT NULL"),
        ),
        Index("idx_cw_assessment_sessions_created_at", text("created_at DESC")),
        Index(
            "idx_cw_assessment_sessions_stripe_payment_intent_id",
            "stripe_payment_intent_id",
            unique=True,
            postgresql_where=text("stripe_payment_intent_id IS NOT NULL"),
        ),
        {"comment": "A submitted assessment and its payment (020)."},
    )

    id: Mapped[UUID] = mapped_column(
        primary_key=True,
        server_default=text("gen_random_uuid()"),
        comment="Identity; the client may choose it, so that a retry is recognised.",
    )
    email: Mapped[str] = mapped_column(String(255), comment="Contact address; stored in lower case.")
    first_name: Mapped[str] = mapped_column(String(100), comment="How the person is addressed.")
    form_data: Mapped[JsonObject] = mapped_column(comment="The whole form, a JSON object of at most 256 KiB.")
    payment_status: Mapped[str] = mapped_column(
        String(50), server_default="pending", comment="pending, completed, failed or refunded."
    )
    stripe_session_id: Mapped[str | None] = mapped_column(
        String(255), comment="Stripe's checkout session; one checkout pays one assessment."
    )
    stripe_payment_intent_id: Mapped[str | None] = mapped_column(
        String(255), comment="Stripe's payment intent."
    )
    created_at: Mapped[Now] = mapped_column(comment="When the form was submitted; never changes.")
    updated_at: Mapped[Now] = mapped_column(comment="When the row last changed; a trigger's.")
    completed_at: Mapped[Moment | None] = mapped_column(
        comment="When the payment was completed; set by the database."
    )
    is_test: Mapped[bool] = mapped_column(
        server_default=false(), comment="Test data: left out of every count."
    )


class StripeEvent(Base):
    __tablename__ = "stripe_events"
    __table_args__ = (
        CheckConstraint("id ~ '^[A-Za-z0-9_]+$'", name="event_id_valid", info={"field": "id"}),
        CheckConstraint(json_object("payload", 1048576), name="payload_valid"),
        in_range("processed_at"),
        CheckConstraint("attempts > 0", name="attempts_positive"),
        CheckConstraint(one_of("outcome", Outcome), name="outcome_valid"),
        CheckConstraint("char_length(error) <= 200", name="error_length"),
        CheckConstraint("refunded_amount >= 0", name="refunded_amount_not_negative"),
        CheckConstraint(
            "(session_table IS NULL) = (session_key IS NULL)",
            name="session_table_with_key",
            info={"field": "session_key"},
        ),
        Index("idx_stripe_events_session", "session_table", "session_key"),
        Index(
            "idx_stripe_events_payment_intent",
            "payment_intent",
            postgresql_where=text("payment_intent IS NOT NULL"),
        ),
        {"comment": "Ledger of Stripe's webhook: an event and its effect commit together."},
    )

    id: Mapped[str] = mapped_column(
        String(255), primary_key=True, comment="Stripe's event id, so that a repeat is recognised."
    )
    type: Mapped[str] = mapped_column(String(100), comment="Stripe's event type.")
    livemode: Mapped[bool] = mapped_column(comment="False for Stripe's test mode.")
    payment_intent: Mapped[str | None] = mapped_column(
        String(255), comment="The payment that the event is about."
    )
    payload: Mapped[JsonObject] = mapped_column(
        comment="The event as received, a JSON object of at most 1 MiB; carnivore_cut says what was not kept."
    )
    received_at: Mapped[Now] = mapped_column(comment="When it first arrived.")
    processed_at: Mapped[Moment | None] = mapped_column(
        comment="When its effect was applied or it was set aside; NULL while it waits."
    )
    attempts: Mapped[int] = mapped_column(server_default=text("1"), comment="How often its effect was tried.")
    outcome: Mapped[str] = mapped_column(
        String(50), comment="applied, unchanged, waiting, ignored, failed or mismatch."
    )
    error: Mapped[str | None] = mapped_column(
        Text, comment="Why: the broken rule, what does not match, or why it is ignored."
    )
    session_table: Mapped[str | None] = mapped_column(
        String(63), comment="Table of the session that the event is about."
    )
    session_key: Mapped[str | None] = mapped_column(
        String(63), comment="Primary key of that session, as text."
    )
    refunded_amount: Mapped[Decimal | None] = mapped_column(
        Numeric(14, 2), comment="Refunded so far in the currency's main unit, partly or in full."
    )


class BegunCheckout(Base):
    __tablename__ = "begun_checkouts"
    __table_args__ = (
        CheckConstraint("amount BETWEEN 0 AND 999999999999", name="amount_in_range"),
        CheckConstraint("currency ~ '^[a-z]{3}$'", name="currency_valid"),
        CheckConstraint(one_of("session_table", PaidTable), name="session_table_valid"),
        Index("idx_begun_checkouts_session", "session_table", "session_key"),
        Index("idx_begun_checkouts_tier", "tier"),
        {"comment": "What a checkout was begun for: a price and a tier that nobody changes under it."},
    )

    id: Mapped[BigIdentity] = mapped_column(primary_key=True, comment="Identity; the checkout carries it.")
    session_table: Mapped[str] = mapped_column(String(63), comment="Table of the session that is paid for.")
    session_key: Mapped[str] = mapped_column(String(63), comment="Primary key of that session, as text.")
    amount: Mapped[int] = mapped_column(
        BigInteger, comment="To be paid, in the currency's smallest unit, as Stripe counts."
    )
    currency: Mapped[str] = mapped_column(String(3), comment="Its currency: three lower-case letters.")
    tier: Mapped[str | None] = mapped_column(
        String(50),
        ForeignKey("pricing_tiers.code", info={"field": "tier"}),
        comment="The tier that is sold, of a calculator session.",
    )
    begun_at: Mapped[Now] = mapped_column(comment="When it was begun.")


class AccessDay(Base):
    __tablename__ = "access_days"
    __table_args__ = (
        CheckConstraint(
            "reports >= 1 AND reports <= accesses", name="reports_within_accesses", info={"field": "reports"}
        ),
        {
            "schema": "analytics",
            "comment": "Accesses by day, counted beforehand; analytics.refresh counts again.",
        },
    )

    day: Mapped[date] = mapped_column(
        primary_key=True, comment="The day, in UTC; one without accesses has no row."
    )
    accesses: Mapped[int] = mapped_column(BigInteger, comment="How often reports were opened.")
    reports: Mapped[int] = mapped_column(BigInteger, comment="How many different reports.")
    counted_at: Mapped[Moment] = mapped_column(comment="What was logged by this moment is counted.")
