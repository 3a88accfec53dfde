"""A checkout is begun here: what is to be paid is noted before anybody pays, and the webhook compares."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from sqlalchemy import String, cast, insert, literal, select
from sqlalchemy.orm import Session

from carnivore_db.errors import PaymentTransition
from carnivore_db.kit.inputs import FilledText, Text, validated
from carnivore_db.weekly.models import BegunCheckout, Calculator2Session, StripeEvent
from carnivore_db.weekly.payments import targets
from carnivore_db.weekly.payments.stripe_objects import Effect
from carnivore_db.weekly.payments.targets import Target

CHECKOUT_KEY = "carnivore_checkout"
Amount = Annotated[int, Field(strict=True, ge=0, le=10**12 - 1)]
Currency = Annotated[Text, Field(pattern=r"^[a-z]{3}\z")]
Tier = Annotated[FilledText, Field(max_length=50)]


@validated
def begin_checkout(
    tx: Session,
    table: str,
    key: int | UUID,
    *,
    amount: Amount,
    currency: Currency,
    tier: Tier | None = None,
) -> dict[str, str]:
    """Note what a checkout for a session is to cost. Returns metadata for it and for its payment intent.

    As the service. `table` is user_sessions, calculator2_sessions or cw_assessment_sessions; `amount` in the
    currency's smallest unit, as Stripe counts, `currency` three lower-case letters; `tier` of a calculator
    session, which has it from then on. Raises InvalidInput, SessionNotFound, and PaymentTransition for a
    session that is paid.
    """
    metadata = targets.checkout_metadata(table, key)
    target = Target(table, str(key))
    session = targets.lock(tx, target)
    if session.payment_status not in {"pending", "failed"}:
        raise PaymentTransition(session.payment_status, "pending")
    row = insert(BegunCheckout).values(
        session_table=table, session_key=target.key, amount=amount, currency=currency, tier=tier
    )
    made = tx.scalars(row.returning(BegunCheckout.id)).one()
    if isinstance(session, Calculator2Session) and tier is not None:
        session.pricing_tier = tier
        tx.flush()
    return {**metadata, CHECKOUT_KEY: str(made)}


def begun(tx: Session, event: StripeEvent, target: Target) -> BegunCheckout | None:
    """The checkout that an event's metadata names, of this session; without a name the session's latest."""
    metadata: dict[str, Any] = event.payload["data"]["object"].get("metadata") or {}
    found = select(BegunCheckout).where(
        BegunCheckout.session_table == target.table, BegunCheckout.session_key == target.key
    )
    if CHECKOUT_KEY in metadata:
        found = found.where(cast(BegunCheckout.id, String) == literal(str(metadata[CHECKOUT_KEY])))
    return tx.scalars(found.order_by(BegunCheckout.id.desc()).limit(1)).one_or_none()


def mismatch(tx: Session, effect: Effect, noted: BegunCheckout | None) -> str | None:
    """What of a completed checkout is not as it was begun: checkout, amount or currency; None when all is."""
    if effect.mismatch is not None:
        return effect.mismatch
    if noted is None:
        return None if targets.settings_of(tx).stripe_unbound else "checkout"
    if noted.currency != effect.currency:
        return "currency"
    return None if noted.amount == effect.smallest else "amount"
