"""Stripe's events come in any order and more than once: the final state is right all the same."""

import itertools
from collections.abc import Callable
from decimal import Decimal

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.callers import Caller
from tests.support.databases import TestDatabase
from tests.weekly.samples import one
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


def refunded(bought: Bought, *, named: bool) -> list[JsonObject]:
    """Paid, partly given back, given back. `named`: the charge says whom it is about, too."""
    payment, metadata = new_payment(), bought.metadata if named else None
    return [
        checkout("completed", bought.metadata, payment),
        refund(payment, 1000, metadata=metadata),
        refund(payment, metadata=metadata),
    ]


def delayed(bought: Bought, *, named: bool) -> list[JsonObject]:
    """A delayed payment method: completed unpaid, then paid."""
    payment = new_payment()
    return [
        checkout("completed", bought.metadata, payment, payment_status="unpaid"),
        checkout("async_payment_succeeded", bought.metadata, payment),
    ]


def second_try(bought: Bought, *, named: bool) -> list[JsonObject]:
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
    for order in itertools.permutations(range(len(scenario(buy(caller, table), named=True)))):
        for named in (False, True):
            bought = buy(caller, table)
            events = scenario(bought, named=named)
            deliver(caller, *(events[place] for place in order))
            check(owner, bought, events, state)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_repeats_in_any_order_change_nothing(
    module_caller: Caller, weekly_database: TestDatabase, data: st.DataObject
) -> None:
    scenario, state = data.draw(st.sampled_from(SCENARIOS))
    bought = buy(module_caller, data.draw(st.sampled_from(TABLES)))
    events = scenario(bought, named=data.draw(st.booleans()))
    repeats = data.draw(st.lists(st.sampled_from(events), max_size=5))
    deliver(module_caller, *data.draw(st.permutations([*events, *repeats])))
    with weekly_database.connect(autocommit=True) as owner:
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
def test_another_products_refund_is_ignored(
    caller: Caller, owner: psycopg.Connection, refund_first: bool
) -> None:
    payment = new_payment()
    events = [checkout("completed", {"order": "7"}, payment), refund(payment, metadata={"order": "7"})]
    deliver(caller, *(events[::-1] if refund_first else events))
    assert [entry(owner, event)["outcome"] for event in events] == ["ignored", "ignored"]
