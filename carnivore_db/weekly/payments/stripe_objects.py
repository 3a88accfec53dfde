"""What Stripe sends: the parts of its events that are looked at, and what an event asks for."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

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
    payment_status: str | None = None
    currency: str = "usd"
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
    data: _Data


@dataclass(frozen=True)
class Effect:
    """What an event asks for. `state` is None when it asks for no change of state."""

    known: bool
    state: Literal["completed", "failed", "refunded"] | None = None
    refund: bool = False
    checkout: str = ""
    payment_intent: str | None = None
    amount: Decimal | None = None


def effect_of(event: Event) -> Effect:
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
    )


def _amount(smallest: int | None, currency: str) -> Decimal | None:
    if smallest is None:
        return None
    code = currency.lower()
    decimals = 0 if code in _NO_DECIMALS else 3 if code in _THREE_DECIMALS else 2
    return Decimal(smallest).scaleb(-decimals)
