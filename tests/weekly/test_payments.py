"""Stripe's events: what each does to the session that it is about, and what the ledger keeps."""

from decimal import Decimal
from itertools import product
from typing import Any, get_args
from uuid import uuid4

import psycopg
import pytest

from carnivore_db import Settings, errors
from carnivore_db.weekly import assessments, calculator, payments, sessions
from carnivore_db.weekly.models import PaymentStatus
from carnivore_db.weekly.payments import Target
from tests.support.callers import Caller
from tests.support.databases import TestDatabase
from tests.weekly.samples import SERVICE, VISITOR, start_calculator, start_session, submit_assessment
from tests.weekly.stripe_payloads import (
    TABLES,
    Bought,
    JsonObject,
    begin,
    buy,
    checkout,
    deliver,
    entry,
    event,
    new_payment,
    outcomes,
    refund,
)

PAYMENT_COLUMNS = {"user_sessions": "stripe_payment_id", "cw_assessment_sessions": "stripe_payment_intent_id"}


STATES = get_args(PaymentStatus)
# From pending, the states on the way to a state.
WAYS = {
    "pending": [],
    "completed": ["completed"],
    "failed": ["failed"],
    "refunded": ["completed", "refunded"],
}
ALLOWED = {
    ("pending", "completed"),
    ("pending", "failed"),
    ("failed", "pending"),
    ("failed", "completed"),
    ("completed", "refunded"),
} | {(state, state) for state in STATES}


@pytest.mark.parametrize("area", [sessions, calculator])
def test_every_change_of_payment_is_allowed_or_refused_by_name(
    caller: Caller, owner: psycopg.Connection, area: Any
) -> None:
    table = "user_sessions" if area is sessions else "calculator2_sessions"
    for old, new in product(STATES, STATES):
        bought = buy(caller, table)
        given = {"stripe_payment_id": new_payment()} if area is sessions else {}

        def pay(state: str, bought: Bought = bought, given: dict[str, str] = given) -> None:
            caller.call(SERVICE, area.record_payment, int(bought.target.key), state, **given)

        for state in WAYS[old]:
            pay(state)
        if (old, new) in ALLOWED:
            pay(new)
        else:
            with pytest.raises(errors.PaymentTransition) as refused:
                pay(new)
            assert (refused.value.old, refused.value.new) == (old, new)
        assert bought.state(owner) == (new if (old, new) in ALLOWED else old)


@pytest.mark.parametrize("table", TABLES)
def test_a_completed_checkout_pays_the_session(caller: Caller, owner: psycopg.Connection, table: str) -> None:
    bought, payment = buy(caller, table), new_payment()
    paid = checkout("completed", bought.metadata, payment)
    (applied,) = deliver(caller, paid)
    assert applied == payments.Applied(paid["id"], "applied", bought.target)
    row = bought.row(owner)
    assert row["payment_status"] == "completed"
    if table == "calculator2_sessions":
        assert row["amount_paid"] == Decimal("49.00")
    else:
        assert row[PAYMENT_COLUMNS[table]] == payment
        assert row["is_test"] is False
    if table == "cw_assessment_sessions":
        assert row["stripe_session_id"] == paid["data"]["object"]["id"]
        assert row["completed_at"] is not None

    kept = entry(owner, paid)
    assert (kept["payload"], kept["type"], kept["livemode"]) == (paid, paid["type"], True)
    assert (kept["outcome"], kept["error"], kept["attempts"]) == ("applied", None, 1)
    assert (kept["session_table"], kept["session_key"]) == (table, bought.target.key)
    assert (kept["payment_intent"], kept["refunded_amount"]) == (payment, None)
    assert kept["processed_at"] == kept["received_at"]


@pytest.mark.parametrize("table", TABLES)
def test_every_event_twice_is_every_event_once(caller: Caller, owner: psycopg.Connection, table: str) -> None:
    bought, payment = buy(caller, table), new_payment()
    for given, outcome in (
        (checkout("completed", bought.metadata, payment, payment_status="unpaid"), "unchanged"),
        (checkout("expired", bought.metadata, None), "applied"),
        (checkout("async_payment_failed", bought.metadata, payment), "unchanged"),
        (checkout("async_payment_succeeded", bought.metadata, payment), "applied"),
        (refund(payment, 1000), "applied"),
        (refund(payment), "applied"),
        (refund(new_payment()), "waiting"),
        (checkout("completed", {}, new_payment()), "ignored"),
        (event("customer.created", {"id": "cus_1", "object": "customer"}), "ignored"),
    ):
        (first,) = deliver(caller, given)
        before = bought.row(owner), entry(owner, given)
        (second,) = deliver(caller, given)
        assert (first.outcome, first.repeated) == (outcome, False)
        assert (second.outcome, second.repeated) == (outcome, True)
        assert (second.target, second.error) == (first.target, first.error)
        assert (bought.row(owner), entry(owner, given)) == before
    assert bought.state(owner) == "refunded"


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", ["expired", "async_payment_failed"])
def test_a_checkout_that_came_to_nothing_fails_the_payment(
    caller: Caller, owner: psycopg.Connection, table: str, kind: str
) -> None:
    bought = buy(caller, table)
    assert outcomes(caller, checkout(kind, bought.metadata, None)) == ["applied"]
    assert bought.state(owner) == "failed"
    assert outcomes(caller, checkout("completed", bought.metadata, new_payment())) == ["applied"]
    assert bought.state(owner) == "completed"


def test_an_overtaken_checkout_fails_nothing(caller: Caller, owner: psycopg.Connection) -> None:
    bought = buy(caller, "cw_assessment_sessions")
    old, new = (checkout("expired", bought.metadata, None) for _ in range(2))
    attached = new["data"]["object"]["id"]
    caller.call(SERVICE, assessments.attach_checkout, bought.target.key, attached)
    assert outcomes(caller, old) == ["unchanged"]
    assert bought.state(owner) == "pending"
    assert outcomes(caller, new) == ["applied"]
    assert bought.state(owner) == "failed"


def test_an_assessment_is_found_by_reference_or_checkout(
    caller: Caller, owner: psycopg.Connection, empty_database: TestDatabase
) -> None:
    referred, attached = submit_assessment(caller), submit_assessment(caller)
    paid = checkout("completed", {}, new_payment(), client_reference_id=str(referred.id))
    caller.call(SERVICE, assessments.attach_checkout, attached.id, "cs_live_attached")
    other = checkout("completed", {}, new_payment(), id="cs_live_attached")
    # A visitor's own word on a payment link: not believed, unless a setting says so.
    assert outcomes(caller, paid) == ["ignored"]
    with type(caller)(empty_database.app_url, settings=BELIEVING) as believing:
        targets = [applied.target for applied in deliver(believing, paid, other)]
    assert targets == [Target("cw_assessment_sessions", str(one_of.id)) for one_of in (referred, attached)]
    rows = owner.execute("SELECT DISTINCT payment_status FROM public.cw_assessment_sessions").fetchall()
    assert rows == [{"payment_status": "completed"}]


def test_a_free_checkout_has_no_payment(caller: Caller, owner: psycopg.Connection) -> None:
    for table in TABLES:
        bought = buy(caller, table, 0)
        free = checkout(
            "completed", bought.metadata, None, amount_total=0, payment_status="no_payment_required"
        )
        assert outcomes(caller, free) == ["applied"]
        row = bought.row(owner)
        assert row["payment_status"] == "completed"
        if table == "user_sessions":
            assert row["stripe_payment_id"] == free["data"]["object"]["id"]
        if table == "calculator2_sessions":
            assert row["amount_paid"] == 0


@pytest.mark.parametrize(
    ("currency", "smallest", "amount"),
    [("usd", 4999, "49.99"), ("JPY", 4999, "4999.00"), ("kwd", 4990, "4.99"), ("eur", 0, "0.00")],
)
def test_amounts_are_in_the_main_unit(
    caller: Caller, owner: psycopg.Connection, currency: str, smallest: int, amount: str
) -> None:
    bought = buy(caller, "calculator2_sessions", smallest, currency.lower())
    payment = new_payment()
    part = refund(payment, smallest, currency=currency)
    deliver(
        caller,
        checkout("completed", bought.metadata, payment, amount_total=smallest, currency=currency),
        part,
    )
    assert bought.row(owner)["amount_paid"] == Decimal(amount)
    assert entry(owner, part)["refunded_amount"] == Decimal(amount)


@pytest.mark.parametrize("table", TABLES)
def test_a_test_event_marks_the_session_in_test_mode_alone(
    caller: Caller, owner: psycopg.Connection, empty_database: TestDatabase, table: str
) -> None:
    bought = buy(caller, table)
    test = checkout("completed", bought.metadata, new_payment(), livemode=False)
    before = bought.row(owner)
    (ignored,) = deliver(caller, test)
    assert (ignored.outcome, ignored.error) == ("ignored", "livemode")
    assert bought.row(owner) == before
    with type(caller)(empty_database.app_url, settings=Settings(stripe_livemode=False)) as testing:
        assert outcomes(testing, test) == ["applied"]
        (live,) = deliver(testing, checkout("completed", bought.metadata, new_payment()))
        if "is_test" not in before:
            assert (live.outcome, live.error) == ("ignored", "livemode")
    assert bought.state(owner) == "completed"
    assert bought.row(owner).get("is_test", True)
    assert entry(owner, test)["livemode"] is False


@pytest.mark.parametrize("table", TABLES[:2])
@pytest.mark.parametrize("revoke", [True, False])
def test_a_full_refund_ends_access_to_the_report(
    caller: Caller, owner: psycopg.Connection, table: str, revoke: bool
) -> None:
    bought, other, payment = buy(caller, table), buy(caller, table), new_payment()
    deliver(caller, checkout("completed", bought.metadata, payment))
    part, full = refund(payment, 1000), refund(payment)
    assert outcomes(caller, part, revoke_on_refund=revoke) == ["applied"]
    assert (bought.state(owner), bought.open_reports(owner)) == ("completed", 1)
    assert entry(owner, part)["refunded_amount"] == Decimal("10.00")

    assert outcomes(caller, full, revoke_on_refund=revoke) == ["applied"]
    assert (bought.state(owner), bought.open_reports(owner)) == ("refunded", 0 if revoke else 1)
    assert bought.endings(owner) == (1 if revoke else 0)
    assert entry(owner, full)["refunded_amount"] == Decimal("49.00")
    assert (other.state(owner), other.open_reports(owner)) == ("pending", 1)


@pytest.mark.parametrize("table", TABLES)
def test_a_second_payment_fails_and_its_refund_changes_nothing(
    caller: Caller, owner: psycopg.Connection, table: str
) -> None:
    bought, first, second = buy(caller, table), new_payment(), new_payment()
    deliver(caller, checkout("completed", bought.metadata, first))
    before, again = bought.row(owner), checkout("completed", bought.metadata, second)
    (applied,) = deliver(caller, again)
    assert (applied.outcome, applied.error, applied.target) == ("failed", "PaidTwice", bought.target)
    assert bought.row(owner) == before
    assert (entry(owner, again)["error"], entry(owner, again)["attempts"]) == ("PaidTwice", 1)

    assert outcomes(caller, refund(second, metadata=bought.metadata)) == ["unchanged"]
    assert (bought.row(owner), bought.endings(owner)) == (before, 0)
    assert outcomes(caller, refund(first, metadata=bought.metadata)) == ["applied"]
    assert bought.state(owner) == "refunded"


@pytest.mark.parametrize("early", [False, True])
def test_the_refund_of_a_failed_second_payment_settles(
    caller: Caller, owner: psycopg.Connection, early: bool
) -> None:
    bought, second = buy(caller, "user_sessions"), new_payment()
    deliver(caller, checkout("completed", bought.metadata, new_payment()))
    events = [checkout("completed", bought.metadata, second), refund(second)]
    deliver(caller, *(events[::-1] if early else events))
    assert [entry(owner, event)["outcome"] for event in events] == ["failed", "unchanged"]
    assert bought.state(owner) == "completed"


def test_a_payment_recorded_without_an_event_is_refunded(caller: Caller, owner: psycopg.Connection) -> None:
    payment, other = new_payment(), new_payment()
    session, assessment = start_session(caller), submit_assessment(caller)
    caller.call(SERVICE, sessions.record_payment, session.id, "completed", stripe_payment_id=payment)
    caller.call(SERVICE, assessments.attach_checkout, assessment.id, "cs_1", stripe_payment_intent_id=other)
    caller.call(SERVICE, assessments.complete, assessment.id)
    targets = [applied.target for applied in deliver(caller, refund(payment), refund(other))]
    assert targets == [
        Target("user_sessions", str(session.id)),
        Target("cw_assessment_sessions", str(assessment.id)),
    ]
    assert caller.call(SERVICE, sessions.get, session.id).payment_status == "refunded"
    assert caller.call(SERVICE, assessments.get, assessment.id).payment_status == "refunded"


@pytest.mark.parametrize(
    "given",
    [
        event("invoice.paid", {"id": "in_1", "object": "invoice"}),
        event("some.type.of.tomorrow", {}),
        checkout("completed", {}, new_payment()),
        checkout("completed", {"order": "7"}, new_payment(), client_reference_id="7"),
        checkout("completed", {"carnivore_session": "orders:7"}, new_payment()),
        checkout("completed", {"carnivore_session": "user_sessions:7; DROP"}, new_payment()),
        checkout("expired", {"carnivore_session": ""}, None, client_reference_id=str(uuid4())),
        checkout("async_payment_failed", None, None),
    ],
    ids=lambda given: given["type"],
)
def test_what_is_not_ours_is_recorded_and_ignored(
    caller: Caller, owner: psycopg.Connection, given: dict[str, Any]
) -> None:
    session = start_session(caller)
    (applied,) = deliver(caller, given)
    assert (applied.outcome, applied.target, applied.error) == ("ignored", None, None)
    kept = entry(owner, given)
    assert (kept["outcome"], kept["payload"]) == ("ignored", given)
    assert kept["processed_at"] is not None
    assert caller.call(SERVICE, sessions.get, session.id).updated_at == session.created_at


def test_metadata_names_a_known_table() -> None:
    with pytest.raises(errors.InvalidInput, match="table"):
        payments.checkout_metadata("orders", 7)


def test_an_expanded_payment_intent_is_understood(caller: Caller, owner: psycopg.Connection) -> None:
    bought, payment = buy(caller, "user_sessions"), new_payment()
    expanded = {"id": payment, "object": "payment_intent", "status": "succeeded"}
    deliver(caller, checkout("completed", bought.metadata, None, payment_intent=expanded))
    assert bought.row(owner)["stripe_payment_id"] == payment


BELIEVING = Settings(stripe_client_reference=True, stripe_unbound=True)
NO_SALES = {
    "mode": [{"mode": "setup"}, {"mode": "subscription"}, {"mode": None}, {"mode": "later"}],
    "payment_status": [
        {"payment_status": status}
        for status in ("no_payment_required", "requires_action", None, "PAID", "paid_later")
    ],
    "amount": [{"amount_total": None}, {"currency": None}, *({"amount_total": n} for n in (1, 4899, 4901))],
    "currency": [{"currency": "jpy"}, {"currency": "vnd"}],
    "checkout": [{"metadata": {}}],
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("why", NO_SALES)
def test_what_is_no_sale_of_ours_pays_for_nothing(
    caller: Caller, owner: psycopg.Connection, table: str, why: str
) -> None:
    bought = buy(caller, table)
    for given in NO_SALES[why]:
        changes, metadata = dict(given), bought.metadata
        if changes.pop("metadata", None) is not None:  # another session's checkout
            other = buy(caller, table).metadata["carnivore_checkout"]
            metadata = {**metadata, "carnivore_checkout": other}
        before, payment = bought.row(owner), new_payment()
        wrong = checkout("completed", metadata, payment, **changes)
        for applied in deliver(caller, wrong, wrong):
            assert (applied.outcome, applied.error) == ("mismatch", why), changes
        assert bought.row(owner) == before
        # It goes back, and nobody waits for a session that it never paid.
        assert outcomes(caller, refund(payment)) == ["unchanged"]
    assert outcomes(caller, checkout("completed", bought.metadata, new_payment())) == ["applied"]


def test_events_of_connected_accounts_and_of_other_keys_touch_nothing(
    caller: Caller, owner: psycopg.Connection
) -> None:
    bought = buy(caller, "user_sessions")
    connected = {**checkout("completed", bought.metadata, new_payment()), "account": "acct_1"}
    (applied,) = deliver(caller, connected)
    assert (applied.outcome, applied.error, applied.target) == ("ignored", "account", None)
    table, _, key = bought.metadata["carnivore_session"].partition(":")
    for other in (f"{table}:0{key}", f"{table}: {key}", f"{table}:+{key}", f"{table}:{key}_0", f"{table}:"):
        paid = checkout("completed", {"carnivore_session": other}, new_payment())
        assert outcomes(caller, paid) == ["ignored"], other
    assert bought.state(owner) == "pending"


DEEP: JsonObject = {}
for _ in range(100):
    DEEP = {"in": DEEP}
ODD = {
    "NUL": {"customer_details": {"name": "Ada\0Lovelace"}},
    "a lone surrogate": {"customer_details": {"name": "Ada \ud83d", "\udc00": 1}},
    "depth": {"extra": DEEP},
    "a large number": {"extra": 10**400},
    "a number that is none": {"extra": float("nan")},
    "size": {"extra": "x" * 2_000_000},
    "size and NUL": {"extra": ["\0" * 200_000] * 10},
}


@pytest.mark.parametrize("odd", ODD)
def test_nothing_that_is_signed_is_lost(caller: Caller, owner: psycopg.Connection, odd: str) -> None:
    for table in TABLES:
        bought, payment = buy(caller, table), new_payment()
        paid = checkout("completed", bought.metadata, payment, **ODD[odd])
        assert outcomes(caller, paid, paid) == ["applied", "applied"]
        assert bought.state(owner) == "completed"
        assert entry(owner, paid)["payload"]["carnivore_cut"]
        assert outcomes(caller, refund(payment, **ODD[odd])) == ["applied"]
        assert bought.state(owner) == "refunded"


BROKEN = [
    checkout("completed", {}, "no id"),
    checkout("completed", {}, None, id="cs-"),
    checkout("completed", {}, None, amount_total=-1),
    checkout("completed", {}, None, amount_total="much"),
    checkout("completed", {}, None, currency=5),
    checkout("completed", {}, None, payment_status=["paid"]),
    refund(None, -1),
    refund(None, amount_refunded=2**70),
    event("charge.refunded", {"object": "charge"}),
]
FIELDS = (
    "payment_intent id amount_total amount_total currency payment_status amount_refunded amount_refunded id"
)


@pytest.mark.parametrize(("given", "field"), zip(BROKEN, FIELDS.split(), strict=True), ids=FIELDS.split())
def test_a_field_that_is_not_what_its_type_has_is_recorded(
    caller: Caller, owner: psycopg.Connection, given: JsonObject, field: str
) -> None:
    bought = buy(caller, "user_sessions")
    given["data"]["object"]["metadata"] = bought.metadata
    (applied,) = deliver(caller, given)
    assert (applied.outcome, applied.error) == ("failed", f"event.data.object.{field}")
    assert bought.state(owner) == "pending"


def test_a_cheap_payment_buys_no_dear_product(caller: Caller, owner: psycopg.Connection) -> None:
    """The tier is the checkout's, whatever a visitor chose since; of several the one that is paid."""
    form = start_calculator(caller)

    def begun(tier: str, amount: int) -> dict[str, str]:
        return caller.call(
            SERVICE,
            payments.begin_checkout,
            "calculator2_sessions",
            form.id,
            amount=amount,
            currency="usd",
            tier=tier,
        )

    cheap = begun("shopping", 499)
    for change in ((calculator.choose_tier, "doctor"), (calculator.choose_tier, "bundle")):
        with pytest.raises(errors.Immutable):
            caller.call(VISITOR, change[0], form.session_token, change[1])
    dear = begun("doctor", 9900)
    # It pays for what it was begun for, not for the other.
    wrong = checkout("completed", dear, new_payment(), amount_total=499)
    assert outcomes(caller, wrong) == ["mismatch"]
    caller.call(VISITOR, calculator.choose_tier, form.session_token, "doctor")
    assert outcomes(caller, checkout("completed", cheap, new_payment(), amount_total=499)) == ["applied"]
    row = owner.execute("SELECT pricing_tier, amount_paid FROM public.calculator2_sessions").fetchone()
    assert row == {"pricing_tier": "shopping", "amount_paid": Decimal("4.99")}
    with pytest.raises(errors.PaymentTransition):
        begun("doctor", 1)


def test_a_site_that_notes_no_price_says_so(
    caller: Caller, owner: psycopg.Connection, empty_database: TestDatabase
) -> None:
    session = start_session(caller)
    paid = checkout("completed", payments.checkout_metadata("user_sessions", session.id), new_payment())
    (applied,) = deliver(caller, paid)
    assert (applied.outcome, applied.error) == ("mismatch", "checkout")
    with type(caller)(empty_database.app_url, settings=Settings(stripe_unbound=True)) as trusting:
        assert outcomes(trusting, paid) == ["applied"]
    assert owner.execute("SELECT payment_status FROM public.user_sessions").fetchone() == {
        "payment_status": "completed"
    }


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("amount", {"amount": -1}),
        ("amount", {"amount": 10**12}),
        ("currency", {"currency": "USD"}),
        ("currency", {"currency": "us"}),
        ("tier", {"tier": "nosuch"}),
        ("table", {"table": "orders"}),
    ],
)
def test_a_checkout_that_cannot_be_begun_says_why(caller: Caller, field: str, given: JsonObject) -> None:
    sound = {"table": "user_sessions", "key": start_session(caller).id, "amount": 1, "currency": "usd"}
    with pytest.raises(errors.InvalidInput) as refused:
        caller.call(SERVICE, payments.begin_checkout, **{**sound, **given})
    assert refused.value.field == field


def test_what_was_paid_for_stays_as_it_was(caller: Caller, owner: psycopg.Connection) -> None:
    form = start_calculator(caller)
    caller.call(VISITOR, calculator.save, form.session_token, form_state={"step": 1}, pricing_tier="bundle")
    metadata, payment = begin(caller, "calculator2_sessions", form.id), new_payment()
    for given in (checkout("completed", metadata, payment), refund(payment)):
        assert outcomes(caller, given) == ["applied"]
        for change in ({"form_state": {"step": 2}}, {"form_state": {}, "pricing_tier": "doctor"}):
            with pytest.raises(errors.Immutable):
                caller.call(VISITOR, calculator.save, form.session_token, **change)
    row = owner.execute("SELECT form_state, pricing_tier FROM public.calculator2_sessions").fetchone()
    assert row == {"form_state": {"step": 1}, "pricing_tier": "bundle"}
