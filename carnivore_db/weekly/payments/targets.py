"""Which session a Stripe object pays for, and the change of that session's payment."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from carnivore_db.errors import InvalidInput, SessionNotFound
from carnivore_db.kit.rows import FRESH
from carnivore_db.settings import DEFAULTS, Settings
from carnivore_db.weekly import reports
from carnivore_db.weekly.models import (
    AssessmentSession,
    Calculator2Session,
    GeneratedReport,
    StripeEvent,
    UserSession,
)

METADATA_KEY = "carnivore_session"
PAID_EVENTS = ("checkout.session.completed", "checkout.session.async_payment_succeeded")

AnySession = UserSession | Calculator2Session | AssessmentSession

_MODELS: dict[str, type[AnySession]] = {
    model.__tablename__: model for model in (UserSession, Calculator2Session, AssessmentSession)
}


@dataclass(frozen=True)
class Target:
    """A session that is paid for: its table and its key as text."""

    table: str
    key: str


def checkout_metadata(table: str, key: int | UUID) -> dict[str, str]:
    """Metadata for a Stripe checkout (and its payment intent) that pays for a session.

    `table` is user_sessions, calculator2_sessions or cw_assessment_sessions; raises InvalidInput for another.
    """
    if table not in _MODELS:
        raise InvalidInput("table", "literal_error", f"must be one of {', '.join(_MODELS)}")
    return {METADATA_KEY: f"{table}:{key}"}


def find(tx: Session, stripe_object: Mapping[str, Any], payment_intent: str | None) -> Target | None:
    """The session that a checkout or a charge is about; None when it is not ours, or not yet known."""
    table, _, key = str((stripe_object.get("metadata") or {}).get(METADATA_KEY, "")).partition(":")
    # Only what `checkout_metadata` writes: the key in its one form.
    if table in _MODELS and (parsed := _parse_key(table, key)) is not None and str(parsed) == key:
        return Target(table, key)
    if stripe_object.get("object") == "checkout.session":
        return _of_checkout(tx, stripe_object)
    return None if payment_intent is None else _of_payment(tx, payment_intent)


def was_mismatch(tx: Session, payment_intent: str | None) -> bool:
    """Whether a payment was none of ours: the amount, the mode or the state did not match."""
    found = select(StripeEvent.id).where(
        StripeEvent.payment_intent == payment_intent, StripeEvent.outcome == "mismatch"
    )
    return tx.scalar(found.limit(1)) is not None


def target_of(event: StripeEvent) -> Target | None:
    """The session that a recorded event was found to be about."""
    if event.session_table is None or event.session_key is None:
        return None
    return Target(event.session_table, event.session_key)


def is_foreign(tx: Session, refund: StripeEvent) -> bool:
    """Whether a refund without a session is another product's, rather than early.

    Its checkout was ignored, or it carries somebody else's metadata. A wrong guess costs nothing: when a
    checkout of ours is applied, all earlier refunds of its payment are looked at again.
    """
    metadata = refund.payload["data"]["object"].get("metadata") or {}
    ignored = select(StripeEvent.id).where(
        StripeEvent.payment_intent == refund.payment_intent,
        StripeEvent.type.like("checkout.session.%"),
        StripeEvent.outcome == "ignored",
    )
    others = bool(metadata) and METADATA_KEY not in metadata
    return others or tx.scalar(ignored.limit(1)) is not None


def settings_of(tx: Session) -> Settings:
    """Of the database that the transaction is one of."""
    found: Settings = tx.info.get("settings", DEFAULTS)
    return found


def _parse_key(table: str, key: str) -> int | UUID | None:
    try:
        parsed = UUID(key) if table == AssessmentSession.__tablename__ else int(key)
    except ValueError:
        return None
    return parsed if isinstance(parsed, UUID) or 0 < parsed < 2**63 else None


def _of_checkout(tx: Session, checkout: Mapping[str, Any]) -> Target | None:
    believed = checkout.get("client_reference_id") if settings_of(tx).stripe_client_reference else None
    reference = _parse_key(AssessmentSession.__tablename__, str(believed))
    found = tx.scalar(
        select(AssessmentSession.id).where(
            or_(
                AssessmentSession.id == reference,
                AssessmentSession.stripe_session_id == str(checkout.get("id")),
            )
        )
    )
    return None if found is None else Target(AssessmentSession.__tablename__, str(found))


def _of_payment(tx: Session, payment_intent: str) -> Target | None:
    paid = tx.scalars(
        select(StripeEvent).where(
            StripeEvent.payment_intent == payment_intent,
            # A second payment of a session failed, and its refund is still about that session.
            StripeEvent.outcome.in_(("applied", "failed", "mismatch")),
            StripeEvent.session_table.is_not(None),
        )
    ).first()
    if paid is not None:
        return target_of(paid)
    # Recorded by the application itself, without an event.
    session = tx.scalar(select(UserSession.id).where(UserSession.stripe_payment_id == payment_intent))
    if session is not None:
        return Target(UserSession.__tablename__, str(session))
    assessment = tx.scalar(
        select(AssessmentSession.id).where(AssessmentSession.stripe_payment_intent_id == payment_intent)
    )
    return None if assessment is None else Target(AssessmentSession.__tablename__, str(assessment))


def lock(tx: Session, target: Target) -> AnySession:
    """The target's row, locked. Raises SessionNotFound."""
    model = _MODELS[target.table]
    row = tx.scalars(
        select(model).where(model.id == _parse_key(target.table, target.key)).with_for_update(),
        execution_options=FRESH,
    ).one_or_none()
    if row is None:
        raise SessionNotFound
    return cast("AnySession", row)


def payment_of(tx: Session, target: Target, row: AnySession) -> str | None:
    """The payment that paid the session, as far as it is known."""
    if isinstance(row, UserSession):
        return row.stripe_payment_id
    if isinstance(row, AssessmentSession):
        return row.stripe_payment_intent_id
    return tx.scalar(
        select(StripeEvent.payment_intent).where(
            StripeEvent.session_table == target.table,
            StripeEvent.session_key == target.key,
            StripeEvent.type.in_(PAID_EVENTS),
            StripeEvent.outcome == "applied",
        )
    )


def mark_paid(row: AnySession, *, payment_intent: str | None, checkout: str, amount: Decimal | None) -> None:
    """Complete the payment. A checkout of 0 has no payment intent; its own id then stands for it."""
    row.payment_status = "completed"
    if isinstance(row, UserSession):
        row.stripe_payment_id = payment_intent or checkout
    elif isinstance(row, AssessmentSession):
        row.stripe_session_id = checkout
        row.stripe_payment_intent_id = payment_intent
    else:
        row.amount_paid = amount


def end_reports(tx: Session, row: AnySession) -> None:
    """End access to the reports that the session bought. No document ties an assessment to a report."""
    if isinstance(row, UserSession):
        reports.end_access(tx, GeneratedReport.session_id == row.id, "refund")
    elif isinstance(row, Calculator2Session) and row.report_token is not None:
        reports.end_access(tx, GeneratedReport.access_token == row.report_token, "refund")
