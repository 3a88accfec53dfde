"""The calculator's form, kept for 48 hours for the holder of its token (document 014)."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import bindparam, insert, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from carnivore_db.errors import CalculatorNotFound, InvalidInput, SessionNotFound
from carnivore_db.kit.inputs import BatchSize, FilledText, Id, validated
from carnivore_db.kit.rows import one
from carnivore_db.schema.base import JsonObject
from carnivore_db.settings import DEFAULTS
from carnivore_db.weekly import tokens
from carnivore_db.weekly.models import Calculator2Session, PaymentStatus
from carnivore_db.weekly.payloads import FormStateInput

Tier = Annotated[FilledText, Field(max_length=50)]
Amount = Annotated[Decimal, Field(ge=0, max_digits=10, decimal_places=2)]

_STATE = "form_state, pricing_tier, payment_status, last_active_at, expires_at"
_RESUME = text(f"SELECT {_STATE} FROM public.resume_calculator(:token)")
_SAVE = text(f"SELECT {_STATE} FROM public.save_calculator(:token, :form_state, :pricing_tier)").bindparams(
    bindparam("form_state", type_=JSONB(none_as_null=True))
)
_PURGE = text("SELECT public.delete_expired_calculator_sessions(:batch)")


@dataclass(frozen=True)
class StartedSession:
    """A new session. The token is shown here once: the browser keeps it."""

    id: int
    session_token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True)
class CalculatorState:
    """What the holder of the token sees."""

    form_state: JsonObject | None = field(repr=False)
    pricing_tier: str | None
    payment_status: str
    last_active_at: datetime
    expires_at: datetime


@validated
def start(
    tx: Session, *, form_state: FormStateInput | None = None, pricing_tier: Tier | None = None
) -> StartedSession:
    """A new session of 48 hours, as the service. `form_state` takes at most 64 KiB.

    Raises InvalidInput.
    """
    row: dict[str, Any] = {"session_token": tokens.new_calculator_token()}
    if form_state is not None:
        row["form_state"] = form_state
    if pricing_tier is not None:
        row["pricing_tier"] = pricing_tier
    made = tx.execute(
        insert(Calculator2Session).values(row).returning(Calculator2Session.id, Calculator2Session.expires_at)
    ).one()
    return StartedSession(made.id, row["session_token"], made.expires_at)


@validated
def resume(tx: Session, token: str) -> CalculatorState:
    """What was saved under a token; as anyone.

    Raises CalculatorNotFound, CalculatorExpired.
    """
    _look_at(token)
    return CalculatorState(*tx.execute(_RESUME, {"token": token}).one())


@validated
def save(
    tx: Session, token: str, form_state: FormStateInput, *, pricing_tier: Tier | None = None
) -> CalculatorState:
    """Save the form's keys over those that are there, and the tier when one is given; as anyone.

    The whole form takes at most 64 KiB. The expiry stays. Raises CalculatorNotFound, CalculatorExpired,
    InvalidInput, Immutable (another tier is paid for already).
    """
    return _save(tx, token, form_state, pricing_tier)


@validated
def choose_tier(tx: Session, token: str, pricing_tier: Tier) -> CalculatorState:
    """Choose what to buy; as anyone.

    Raises CalculatorNotFound, CalculatorExpired, InvalidInput, Immutable (it is paid for already).
    """
    return _save(tx, token, None, pricing_tier)


def _save(
    tx: Session, token: str, form_state: FormStateInput | None, pricing_tier: str | None
) -> CalculatorState:
    _look_at(token)
    wanted = {"token": token, "form_state": form_state, "pricing_tier": pricing_tier}
    return CalculatorState(*tx.execute(_SAVE, wanted).one())


def _look_at(token: str) -> None:
    if tokens.CALCULATOR_TOKEN.fullmatch(token) is None:
        raise CalculatorNotFound


@validated
def link_report(tx: Session, session_id: Id, report_token: str) -> None:
    """Note which report was made of a session, as the service.

    Raises SessionNotFound, ReportNotFound, InvalidInput.
    """
    if tokens.REPORT_TOKEN.fullmatch(report_token) is None:
        raise InvalidInput("report_token", "access_token_valid", "must be a report's token")
    _change(tx, session_id, report_token=report_token)


@validated
def record_payment(
    tx: Session, session_id: Id, status: PaymentStatus, *, amount_paid: Amount | None = None
) -> None:
    """Set the payment's state, and the amount (main unit, two decimals) when given, as the service.

    Raises SessionNotFound, PaymentTransition, InvalidInput.
    """
    paid = {} if amount_paid is None else {"amount_paid": amount_paid}
    _change(tx, session_id, payment_status=status, **paid)


def _change(tx: Session, session_id: int, **values: object) -> None:
    change = update(Calculator2Session).where(Calculator2Session.id == session_id).values(**values)
    one(tx, change.returning(Calculator2Session.id), SessionNotFound)


@validated
def purge_expired(tx: Session, *, batch: BatchSize = DEFAULTS.retention_batch) -> int:
    """Delete up to `batch` expired sessions that nobody paid for, oldest first, as the service.

    Returns how many went; fewer than `batch` means that none is left which nobody has locked. A paid session
    stays: its refund must find it.
    """
    gone: int = tx.scalars(_PURGE, {"batch": batch}).one()
    return gone
