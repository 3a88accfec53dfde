"""Stripe's events come in any order and more than once: the final state is right all the same."""

import itertools
from collections.abc import Callable
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnivore_db.weekly import assessments, calculator, sessions
from tests.support.callers import Caller
from tests.support.databases import TestDatabase, one
from tests.weekly.samples import SERVICE
from tests.weekly.stripe_payloads import (
    TABLES,
    Bought,
    JsonObject,
    buy,
    checkout,
    deliver,
    entry,
    new_payment,
    outcomes,
    refund,
)

# What the charge's own metadata may say: nothing, whom it is about, or something of the shop's.
CHARGES = ["silent", "named", "of the shop"]


def refunded(bought: Bought, charge: str) -> list[JsonObject]:
    """Paid, partly given back, given back."""
    payment = new_payment()
    metadata = {"silent": None, "named": bought.metadata, "of the shop": {"cart": "7"}}[charge]
    return [
        checkout("completed", bought.metadata, payment),
        refund(payment, 1000, metadata=metadata),
        refund(payment, metadata=metadata),
    ]


def delayed(bought: Bought, charge: str) -> list[JsonObject]:
    """A delayed payment method: completed unpaid, then paid."""
    payment = new_payment()
    return [
        checkout("completed", bought.metadata, payment, payment_status="unpaid"),
        checkout("async_payment_succeeded", bought.metadata, payment),
    ]


def second_try(bought: Bought, charge: str) -> list[JsonObject]:
    """One checkout given up, another one paid."""
    return [
        checkout("expired", bought.metadata, None),
        checkout("completed", bought.metadata, new_payment()),
    ]


SCENARIOS: list[tuple[Callable[..., list[JsonObject]], str]] = [
    (refunded, "refunded"),
    (delayed, "completed"),
    (second_try, "completed"),
]


def check(owner: psycopg.Connection, bought: Bought, events: list[JsonObject], state: str) -> None:
    """The session's payment is in `state`, and every event is in the ledger once and settled."""
    assert bought.state(owner) == state
    if bought.report_id is not None:
        gone = state == "refunded"
        assert (bought.open_reports(owner), bought.endings(owner)) == ((0, 1) if gone else (1, 0))
    for event in events:
        kept = entry(owner, event)
        assert kept["outcome"] in {"applied", "unchanged"}
        assert kept["attempts"] <= 2
        assert kept["processed_at"] is not None
        assert (kept["session_table"], kept["session_key"]) == (bought.target.table, bought.target.key)
        if event["type"] == "charge.refunded":
            cents = event["data"]["object"]["amount_refunded"]
            assert kept["refunded_amount"] == Decimal(cents) / 100


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(("scenario", "state"), SCENARIOS)
def test_every_order_leads_to_the_same_state(
    caller: Caller,
    owner: psycopg.Connection,
    table: str,
    scenario: Callable[..., list[JsonObject]],
    state: str,
) -> None:
    for order in itertools.permutations(range(len(scenario(buy(caller, table), "silent")))):
        for charge in CHARGES:
            bought = buy(caller, table)
            events = scenario(bought, charge)
            deliver(caller, *(events[place] for place in order))
            check(owner, bought, events, state)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_repeats_in_any_order_change_nothing(
    module_caller: Caller, area_database: TestDatabase, data: st.DataObject
) -> None:
    scenario, state = data.draw(st.sampled_from(SCENARIOS))
    bought = buy(module_caller, data.draw(st.sampled_from(TABLES)))
    events = scenario(bought, data.draw(st.sampled_from(CHARGES)))
    repeats = data.draw(st.lists(st.sampled_from(events), max_size=5))
    deliver(module_caller, *data.draw(st.permutations([*events, *repeats])))
    with area_database.connect(autocommit=True) as owner:
        owner.row_factory = psycopg.rows.dict_row
        check(owner, bought, events, state)
        ids = [event["id"] for event in events]
        assert one(owner, "SELECT count(*) FROM public.stripe_events WHERE id = ANY(%s)", ids) == len(ids)


@pytest.mark.parametrize("table", TABLES)
def test_a_refund_waits_for_its_payment(caller: Caller, owner: psycopg.Connection, table: str) -> None:
    bought, payment = buy(caller, table), new_payment()
    early, other = refund(payment), refund(new_payment(), metadata=bought.metadata)
    assert outcomes(caller, early, other, early) == ["waiting", "waiting", "waiting"]
    assert (entry(owner, early)["processed_at"], entry(owner, early)["attempts"]) == (None, 1)
    assert bought.state(owner) == "pending"

    assert outcomes(caller, checkout("completed", bought.metadata, payment)) == ["applied"]
    kept = entry(owner, early)
    assert (kept["outcome"], kept["attempts"]) == ("applied", 2)
    assert kept["processed_at"] > kept["received_at"]
    assert entry(owner, other)["outcome"] == "waiting"
    assert bought.state(owner) == "refunded"


def test_a_waiting_refund_leaves_the_report_when_told_so(caller: Caller, owner: psycopg.Connection) -> None:
    bought, payment = buy(caller, "user_sessions"), new_payment()
    events = [refund(payment), checkout("completed", bought.metadata, payment)]
    deliver(caller, *events, revoke_on_refund=False)
    assert (bought.state(owner), bought.open_reports(owner)) == ("refunded", 1)


@pytest.mark.parametrize("refund_first", [False, True])
@pytest.mark.parametrize("metadata", [None, {"order": "7"}])
def test_another_products_refund_is_ignored(
    caller: Caller, owner: psycopg.Connection, refund_first: bool, metadata: dict[str, str] | None
) -> None:
    payment = new_payment()
    events = [checkout("completed", {"order": "7"}, payment), refund(payment, metadata=metadata)]
    deliver(caller, *(events[::-1] if refund_first else events))
    assert [entry(owner, event)["outcome"] for event in events] == ["ignored", "ignored"]


def test_a_refund_alone_waits_unless_it_is_another_products(caller: Caller) -> None:
    silent, others = refund(new_payment()), refund(new_payment(), metadata={"order": "7"})
    assert outcomes(caller, silent, others) == ["waiting", "ignored"]


@pytest.mark.parametrize("completed_first", [False, True])
def test_an_early_refund_meets_a_session_completed_by_hand(
    caller: Caller, owner: psycopg.Connection, completed_first: bool
) -> None:
    """The application recorded the payment by itself; the checkout's event then changes nothing."""
    bought, payment = buy(caller, "user_sessions"), new_payment()
    key = int(bought.target.key)
    if completed_first:
        caller.call(SERVICE, sessions.record_payment, key, "completed", stripe_payment_id=payment)
    early = refund(payment)
    deliver(caller, early)
    if not completed_first:
        assert entry(owner, early)["outcome"] == "waiting"
        caller.call(SERVICE, sessions.record_payment, key, "completed", stripe_payment_id=payment)
    deliver(caller, checkout("completed", bought.metadata, payment))
    assert (bought.state(owner), bought.open_reports(owner)) == ("refunded", 0)


def test_a_waiting_refund_is_settled_when_it_is_delivered_again(
    caller: Caller, owner: psycopg.Connection
) -> None:
    bought, payment = buy(caller, "user_sessions"), new_payment()
    early = refund(payment)
    assert outcomes(caller, early, early) == ["waiting", "waiting"]
    assert entry(owner, early)["attempts"] == 1
    caller.call(
        SERVICE, sessions.record_payment, int(bought.target.key), "completed", stripe_payment_id=payment
    )
    assert outcomes(caller, early) == ["applied"]
    assert (bought.state(owner), entry(owner, early)["attempts"]) == ("refunded", 2)


def test_the_first_payment_of_a_session_completed_by_hand_is_remembered(
    caller: Caller, owner: psycopg.Connection
) -> None:
    bought, first, second = buy(caller, "cw_assessment_sessions"), new_payment(), new_payment()
    caller.call(SERVICE, assessments.complete, UUID(bought.target.key))
    paid = [checkout("completed", bought.metadata, payment) for payment in (first, second)]
    assert outcomes(caller, *paid) == ["applied", "failed"]
    assert bought.row(owner)["stripe_payment_intent_id"] == first
    assert outcomes(caller, refund(second), refund(first)) == ["unchanged", "applied"]
    assert bought.state(owner) == "refunded"


def test_a_paid_calculator_session_outlives_its_expiry_for_its_refund(
    caller: Caller, owner: psycopg.Connection
) -> None:
    bought, payment = buy(caller, "calculator2_sessions"), new_payment()
    deliver(caller, checkout("completed", bought.metadata, payment))
    owner.execute(
        "ALTER TABLE public.calculator2_sessions DISABLE TRIGGER trg_calculator2_sessions_immutable"
    )
    owner.execute(
        "UPDATE public.calculator2_sessions SET created_at = now() - interval '3 days',"
        " expires_at = now() - interval '1 day'"
    )
    assert caller.call(SERVICE, calculator.purge_expired) == 0
    deliver(caller, refund(payment))
    assert (bought.state(owner), bought.open_reports(owner)) == ("refunded", 0)


def test_a_checkout_that_came_before_it_was_attached_is_found_when_repeated(
    caller: Caller, owner: psycopg.Connection
) -> None:
    bought, payment = buy(caller, "cw_assessment_sessions"), new_payment()
    paid = checkout("completed", {}, payment)
    assert outcomes(caller, paid, paid) == ["ignored", "ignored"]
    before = entry(owner, paid)
    assert before["attempts"] == 1
    key, checkout_id = UUID(bought.target.key), paid["data"]["object"]["id"]
    caller.call(SERVICE, assessments.attach_checkout, key, checkout_id)
    assert outcomes(caller, paid) == ["applied"]
    assert bought.state(owner) == "completed"
