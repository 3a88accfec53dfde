"""What Stripe sends: the parts of its events that are looked at, and what an event asks for."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from carnivore_db.errors import InvalidInput
from carnivore_db.kit.inputs import parse

# Stripe's amounts are in the smallest unit; these currencies have none or three decimals, not two. (UGX
# has none either, but Stripe sends it with two. A third decimal is rounded by the column.)
_NO_DECIMALS = frozenset(
    "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split()  # noqa: SIM905
)
_THREE_DECIMALS = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})


_STRIPE = ConfigDict(extra="allow", hide_input_in_errors=True)

StripeId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=255)]


class _Reference(BaseModel):
    """What Stripe sends as an id, or whole when the endpoint asks for it expanded."""

    model_config = _STRIPE
    id: StripeId


class _Object(BaseModel):
    """The part of a checkout session or a charge that is looked at."""

    model_config = _STRIPE
    id: StripeId
    payment_intent: StripeId | _Reference | None = None
    mode: str | None = None
    payment_status: str | None = None
    currency: str | None = None
    amount_total: Annotated[int, Field(ge=0, lt=10**12)] | None = None
    amount_refunded: Annotated[int, Field(ge=0, lt=10**12)] | None = None
    refunded: bool = False
    metadata: dict[str, Any] | None = None


class _Data(BaseModel):
    model_config = _STRIPE
    object: dict[str, Any]


class Event(BaseModel):
    """The part of a Stripe event that is looked at; the ledger keeps all of it."""

    model_config = _STRIPE
    id: StripeId
    type: Annotated[str, Field(max_length=100)]
    livemode: bool
    account: str | None = None
    data: _Data


@dataclass(frozen=True)
class Effect:
    """What an event asks for. `state` is None when it asks for no change of state; `mismatch` names what of
    a completed checkout is not as in a sale of ours, `broken` a field that is not what its type has."""

    known: bool
    state: Literal["completed", "failed", "refunded"] | None = None
    refund: bool = False
    checkout: str = ""
    payment_intent: str | None = None
    amount: Decimal | None = None
    smallest: int | None = None
    currency: str | None = None
    mismatch: str | None = None
    broken: str | None = None


def effect_of(event: Event) -> Effect:
    """What an event asks for. Of an object that is not what its type has, nothing, and why (`broken`)."""
    try:
        return _effect(event)
    except InvalidInput as error:
        return Effect(known=True, broken=".".join(error.field.split(".")[:4]))  # event.data.object.field


def _effect(event: Event) -> Effect:
    checkout_states: dict[str, Literal["completed", "failed"]] = {
        "checkout.session.completed": "completed",
        "checkout.session.async_payment_succeeded": "completed",
        "checkout.session.async_payment_failed": "failed",
        "checkout.session.expired": "failed",
    }
    if event.type not in checkout_states and event.type != "charge.refunded":
        return Effect(known=False)
    it = parse(_Object, event.data.object, "event.data.object")
    payment = it.payment_intent.id if isinstance(it.payment_intent, _Reference) else it.payment_intent
    if event.type == "charge.refunded":
        return Effect(
            known=True,
            state="refunded" if it.refunded else None,
            refund=True,
            payment_intent=payment,
            amount=_amount(it.amount_refunded, it.currency),
        )
    state: Literal["completed", "failed"] | None = checkout_states[event.type]
    if event.type == "checkout.session.completed" and it.payment_status == "unpaid":
        state = None  # a delayed payment method: async_payment_succeeded or _failed follows
    return Effect(
        known=True,
        state=state,
        checkout=it.id,
        payment_intent=payment,
        amount=_amount(it.amount_total, it.currency),
        smallest=it.amount_total,
        currency=None if it.currency is None else it.currency.lower(),
        mismatch=_mismatch(it) if state == "completed" else None,
    )


def _mismatch(it: _Object) -> str | None:
    """Why a completed checkout pays for nothing of ours; so does what Stripe may send one day."""
    if it.mode != "payment":
        return "mode"  # setup, subscription
    free = it.payment_status == "no_payment_required" and it.amount_total == 0
    if it.payment_status != "paid" and not free:
        return "payment_status"
    return None if it.amount_total is not None and it.currency is not None else "amount"


def _amount(smallest: int | None, currency: str | None) -> Decimal | None:
    if smallest is None or currency is None:
        return None
    code = currency.lower()
    decimals = 0 if code in _NO_DECIMALS else 3 if code in _THREE_DECIMALS else 2
    return Decimal(smallest).scaleb(-decimals)
