"""Stripe's webhook: an event and its effect, in one transaction and once.

The documents' webhook, made safe to repeat. `verify` needs the extra `carnivore-db[stripe]`; the rest is
the service's. A checkout says whom it pays for by the metadata of `begin_checkout` (put it on the checkout
session and on its payment intent); without it, by an attached checkout (document 020).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import String, cast, func, select, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from carnivore_db.errors import (
    Busy,
    CarnivoreError,
    ConfigurationError,
    PaidTwice,
    SignatureInvalid,
    Unavailable,
)
from carnivore_db.kit.extras import extra
from carnivore_db.kit.inputs import Grace, parse, validated
from carnivore_db.kit.rows import FRESH
from carnivore_db.weekly.models import (
    AssessmentSession,
    BegunCheckout,
    Calculator2Session,
    GeneratedReport,
    Outcome,
    StripeEvent,
    UserSession,
)
from carnivore_db.weekly.payments import checkouts, targets
from carnivore_db.weekly.payments.payload import keepable
from carnivore_db.weekly.payments.stripe_objects import Effect, Event, effect_of
from carnivore_db.weekly.payments.targets import Target

_MAX_PAYLOAD = 1024 * 1024


@dataclass(frozen=True)
class Applied:
    """What became of an event: applied, unchanged (the state was right already), waiting (for the payment
    it is about), ignored (not ours) or failed (`error` names the broken rule). `repeated`: seen before."""

    event_id: str
    outcome: Outcome
    target: Target | None = None
    error: str | None = None
    repeated: bool = False


def verify(
    payload: bytes, signature: str | None, secret: str | Sequence[str], *, tolerance: int = 300
) -> dict[str, Any]:
    """The event in a webhook's body, after Stripe's own library has checked its signature.

    `signature` is the header Stripe-Signature (None when it is missing), `secret` the endpoint's, or several
    while one takes the place of another, `tolerance` the signature's greatest age in seconds (1 at least).
    Raises SignatureInvalid, ConfigurationError for a blank secret or none, which would let everybody sign,
    and MissingExtra without the extra `stripe`.
    """
    with extra("stripe"):
        import stripe  # noqa: PLC0415

    secrets = [secret] if isinstance(secret, str) else list(secret)
    if not secrets or not all(known.strip() for known in secrets):
        raise ConfigurationError("the webhook's secret must not be blank")
    for known in secrets:
        try:
            body = payload.decode()
            header = (signature or "").encode("ascii").decode()
            # The library takes 0 for no limit at all.
            stripe.WebhookSignature.verify_header(body, header, known, max(tolerance, 1))
        except (UnicodeError, stripe.SignatureVerificationError):
            continue
        event: dict[str, Any] = json.loads(body)
        return event
    raise SignatureInvalid


@validated
def apply_event(tx: Session, event: Mapping[str, Any], *, revoke_on_refund: bool = True) -> Applied:
    """Record a verified event and apply its effect, both or neither, as the service.

    The same event again changes nothing, unless it failed, waits, or was not known to be ours: then it is
    tried again. Events may come in any order; of two payments of one session the one whose event came first
    counts, and the other fails as PaidTwice. A full refund ends access to the reports that the payment
    bought, unless `revoke_on_refund` is false; a partial one is recorded in the ledger.

    An event whose effect breaks a rule is recorded as failed and not raised; a completed checkout that is no
    sale of ours (`mode`, `payment_status`, `amount`) as mismatch, and its session stays as it is; an event
    of a connected account or of another mode than `Settings.stripe_livemode` as ignored. Text that
    PostgreSQL cannot hold is kept as far as it can be. Raises InvalidInput (not a Stripe event: no id,
    type, livemode or object), Busy and Unavailable (let Stripe retry).
    """
    parsed = parse(Event, event, "event")
    payload = keepable(event, _MAX_PAYLOAD)
    effect = effect_of(parse(Event, payload, "event"))
    if effect.payment_intent is not None:
        # A payment and its refund, arriving together, would each miss the other's row.
        tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(effect.payment_intent, 0))))
    ledger = insert(StripeEvent).values(
        id=parsed.id,
        type=parsed.type,
        livemode=parsed.livemode,
        payment_intent=effect.payment_intent,
        payload=payload,
        outcome="waiting",
    )
    new = tx.scalar(ledger.on_conflict_do_nothing().returning(StripeEvent.id)) is not None
    row = tx.scalars(
        select(StripeEvent).where(StripeEvent.id == parsed.id).with_for_update(),
        execution_options=FRESH,
    ).one()
    before = None if new else row.outcome
    found_now = before == "ignored" and _target_of(tx, row, effect) is not None
    if before in {None, "failed", "waiting", "mismatch"} or found_now:
        _settle(tx, row, effect, revoke=revoke_on_refund)
        # Asked again in vain, a waiting event stays as it was: twice the same event changes nothing.
        if before == "failed" or before not in {None, row.outcome}:
            row.attempts += 1
    return _applied(row, repeated=not new)


def _target_of(tx: Session, row: StripeEvent, effect: Effect) -> Target | None:
    if not effect.known or effect.broken is not None or row.payload.get("account") is not None:
        return None
    return targets.find(tx, row.payload["data"]["object"], effect.payment_intent)


def _settle(tx: Session, row: StripeEvent, effect: Effect, *, revoke: bool) -> None:
    """Apply an event's effect and note in the ledger what became of it."""
    row.error = None
    target: Target | None = None
    try:
        with tx.begin_nested():
            target = _target_of(tx, row, effect)
            outcome = _outcome(tx, row, effect, target, revoke=revoke)
    except (Busy, Unavailable):
        raise
    except CarnivoreError as error:
        outcome = "failed"
        row.error = getattr(error, "rule", type(error).__name__)
    row.outcome = outcome
    row.processed_at = None if outcome == "waiting" else func.now()
    if target is not None:
        row.session_table, row.session_key = target.table, target.key
    if effect.refund:
        row.refunded_amount = effect.amount
    tx.flush()
    if effect.payment_intent is not None and effect.known and not effect.refund:
        if outcome == "ignored":
            _settle_refunds(tx, effect.payment_intent, ("waiting",), revoke=revoke)
        elif effect.state == "completed":
            _settle_refunds(tx, effect.payment_intent, ("waiting", "ignored", "failed"), revoke=revoke)


def _settle_refunds(tx: Session, payment_intent: str, outcomes: tuple[str, ...], *, revoke: bool) -> None:
    """Look again at the refunds that came before the checkout they are about."""
    early = (
        select(StripeEvent)
        .where(
            StripeEvent.payment_intent == payment_intent,
            StripeEvent.type == "charge.refunded",
            StripeEvent.outcome.in_(outcomes),
        )
        .order_by(StripeEvent.received_at, StripeEvent.id)
        .with_for_update()
    )
    for row in tx.scalars(early).all():
        row.attempts += 1
        _settle(tx, row, effect_of(parse(Event, row.payload, "event")), revoke=revoke)


def _outcome(
    tx: Session, event: StripeEvent, effect: Effect, target: Target | None, *, revoke: bool
) -> Outcome:
    session = None if target is None else targets.lock(tx, target)
    noted = None
    if target is not None and effect.state == "completed":
        noted = checkouts.begun(tx, event, target)
    if (refused := _refused(tx, event, effect, session, noted)) is not None:
        outcome, event.error = refused
        return outcome
    if target is None or session is None:
        # A refund may have overtaken its payment; anything else without a session is not ours.
        return "waiting" if effect.refund and not targets.is_foreign(tx, event) else "ignored"
    if not event.livemode and isinstance(session, UserSession | AssessmentSession):
        session.is_test = True
    if effect.refund:
        return _refund(tx, session, target, effect, revoke=revoke)
    if effect.state == "completed":
        return _complete(tx, session, target, effect, noted)
    if effect.state == "failed" and session.payment_status == "pending":
        attached = getattr(session, "stripe_session_id", None)
        if attached in {None, effect.checkout}:
            session.payment_status = "failed"
            return "applied"
    # Not paid yet, failed already, or the end of an attempt that another one has overtaken.
    return "unchanged"


def _refused(
    tx: Session,
    event: StripeEvent,
    effect: Effect,
    session: targets.AnySession | None,
    noted: BegunCheckout | None,
) -> tuple[Outcome, str] | None:
    """What becomes of an event that must change nothing, and why; None of one that may."""
    if effect.broken is not None:
        return "failed", effect.broken
    if event.payload.get("account") is not None:
        return "ignored", "account"
    if session is None:
        return None
    # Of another mode an event may touch test data alone: nobody has to be asked for that.
    if event.livemode != targets.settings_of(tx).stripe_livemode and not getattr(session, "is_test", False):
        return "ignored", "livemode"
    wrong = checkouts.mismatch(tx, effect, noted) if effect.state == "completed" else None
    return None if wrong is None else ("mismatch", wrong)


def _complete(
    tx: Session,
    session: targets.AnySession,
    target: Target,
    effect: Effect,
    noted: BegunCheckout | None,
) -> Outcome:
    paid_by = targets.payment_of(tx, target, session)
    if session.payment_status == "refunded" or (
        session.payment_status == "completed" and paid_by is not None
    ):
        if paid_by not in {None, effect.payment_intent, effect.checkout}:
            raise PaidTwice
        return "unchanged"
    if isinstance(session, Calculator2Session) and noted is not None and noted.tier is not None:
        session.pricing_tier = noted.tier  # what is paid for, whatever was begun since
    # Also for a session that the application completed by itself: now it is known which payment did.
    targets.mark_paid(
        session, payment_intent=effect.payment_intent, checkout=effect.checkout, amount=effect.amount
    )
    return "applied"


def _refund(
    tx: Session, session: targets.AnySession, target: Target, effect: Effect, *, revoke: bool
) -> Outcome:
    if session.payment_status in {"pending", "failed"}:
        # Of a payment that paid for nothing of ours there is nothing to take back.
        return "unchanged" if targets.was_mismatch(tx, effect.payment_intent) else "waiting"
    if targets.payment_of(tx, target, session) not in {None, effect.payment_intent}:
        return "unchanged"  # the second of two payments was given back; the first still stands
    if session.payment_status == "refunded":
        return "unchanged"
    if effect.state == "refunded":
        session.payment_status = "refunded"
        tx.flush()
        if revoke:
            targets.end_reports(tx, session)
    return "applied"


def _applied(row: StripeEvent, *, repeated: bool) -> Applied:
    outcome: Any = row.outcome  # the table's check allows no other
    return Applied(row.id, outcome, targets.target_of(row), row.error, repeated)


@dataclass(frozen=True)
class Unsettled:
    """An event that did not count: it waits, failed, or does not match (`error` says what)."""

    id: str
    type: str
    outcome: Outcome
    error: str | None


@dataclass(frozen=True)
class Reconciliation:
    """Where money and reports do not match; test data left out."""

    paid_without_report: list[Target]
    report_without_payment: list[int]
    unsettled_events: list[Unsettled]


@validated
def reconcile(
    tx: Session, *, within: Grace = timedelta(days=30), include_test: bool = False
) -> Reconciliation:
    """Paid sessions without a report, reports without a payment, and events that still need a hand.

    As the service. Sessions that began `within` are looked at: choose it shorter than reports are kept, for
    a report that was purged is no longer known. Assessments have no report in the documents and are left out.
    """
    since = func.now() - within
    shown = true() if include_test else UserSession.is_test.is_(False)
    unserved = select(UserSession.id).where(
        UserSession.payment_status == "completed",
        UserSession.created_at >= since,
        ~select(GeneratedReport.id).where(GeneratedReport.session_id == UserSession.id).exists(),
        shown,
    )
    # A calculator session has no mark of its own: the event that paid it tells.
    paid_in_test_mode = select(StripeEvent.id).where(
        StripeEvent.session_table == Calculator2Session.__tablename__,
        StripeEvent.session_key == cast(Calculator2Session.id, String),
        StripeEvent.livemode.is_(False),
    )
    unlinked = select(Calculator2Session.id).where(
        Calculator2Session.payment_status == "completed",
        Calculator2Session.report_token.is_(None),
        Calculator2Session.created_at >= since,
        true() if include_test else ~paid_in_test_mode.exists(),
    )
    paid_otherwise = select(Calculator2Session.id).where(
        Calculator2Session.report_token == GeneratedReport.access_token,
        Calculator2Session.payment_status == "completed",
    )
    unpaid = (
        select(GeneratedReport.id)
        .join(UserSession, UserSession.id == GeneratedReport.session_id)
        .where(
            UserSession.payment_status != "completed",
            GeneratedReport.expires_at > func.now(),
            ~paid_otherwise.exists(),
            shown,
        )
    )
    events = select(StripeEvent.id, StripeEvent.type, StripeEvent.outcome, StripeEvent.error).where(
        StripeEvent.outcome.in_(("waiting", "failed", "mismatch")),
        true() if include_test else StripeEvent.livemode,
    )
    return Reconciliation(
        [
            *(Target("user_sessions", str(key)) for key in tx.scalars(unserved.order_by(UserSession.id))),
            *(
                Target("calculator2_sessions", str(key))
                for key in tx.scalars(unlinked.order_by(Calculator2Session.id))
            ),
        ],
        list(tx.scalars(unpaid.order_by(GeneratedReport.id))),
        [_unsettled(row) for row in tx.execute(events.order_by(StripeEvent.received_at, StripeEvent.id))],
    )


def _unsettled(row: Any) -> Unsettled:
    return Unsettled(row.id, row.type, row.outcome, row.error)
