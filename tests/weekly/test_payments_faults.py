"""Stripe's events when things go wrong: two deliveries at once, a crash, a session that is missing."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from threading import Barrier
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from carnivore_db import errors
from carnivore_db.weekly import payments, sessions
from carnivore_db.weekly.payments import Applied
from tests.support.callers import Caller
from tests.support.databases import one
from tests.weekly.samples import NOBODY, SERVICE, start_session, submit_assessment
from tests.weekly.stripe_payloads import (
    TABLES,
    JsonObject,
    begin,
    buy,
    checkout,
    deliver,
    entry,
    new_payment,
    outcomes,
    refund,
)

ROUNDS = 20
LEDGER = "SELECT count(*) FROM public.stripe_events"
AtOnce = Callable[[JsonObject, JsonObject], list[Applied]]


@contextmanager
def two_connections(caller: Caller) -> Iterator[AtOnce]:
    """Delivers two events at the same moment, each on a connection of its own."""
    barrier = Barrier(2)

    def deliver_when_both_are_ready(one_caller: Caller, event: JsonObject) -> Applied:
        def body(tx: Session) -> Applied:
            barrier.wait(60)
            return payments.apply_event(tx, event)

        return one_caller.run(SERVICE, body)

    with caller.another() as other, ThreadPoolExecutor(2) as threads:
        callers = (caller, other)
        yield lambda *events: list(threads.map(deliver_when_both_are_ready, callers, events))


def test_the_same_event_twice_at_once_has_its_effect_once(caller: Caller, owner: psycopg.Connection) -> None:
    with two_connections(caller) as at_once:
        for number in range(ROUNDS):
            bought, payment = buy(caller, TABLES[number % 2]), new_payment()
            for event in (checkout("completed", bought.metadata, payment), refund(payment)):
                both = at_once(event, event)
                assert sorted(applied.repeated for applied in both) == [False, True]
                assert {applied.outcome for applied in both} == {"applied"}
                assert entry(owner, event)["attempts"] == 1
            assert (bought.state(owner), bought.endings(owner)) == ("refunded", 1)
    assert one(owner, LEDGER) == 2 * ROUNDS


@pytest.mark.parametrize("named", [False, True])
def test_a_payment_and_its_refund_at_once_end_as_a_refund(
    caller: Caller, owner: psycopg.Connection, named: bool
) -> None:
    with two_connections(caller) as at_once:
        for number in range(ROUNDS):
            bought, payment = buy(caller, TABLES[number % 2]), new_payment()
            paid = checkout("completed", bought.metadata, payment)
            back = refund(payment, metadata=bought.metadata if named else None)
            at_once(*((paid, back) if number % 4 < 2 else (back, paid)))
            assert (bought.state(owner), bought.endings(owner)) == ("refunded", 1)
            assert [entry(owner, event)["outcome"] for event in (paid, back)] == ["applied", "applied"]
    assert one(owner, LEDGER) == 2 * ROUNDS


def test_two_payments_of_a_session_at_once_pay_it_once(caller: Caller, owner: psycopg.Connection) -> None:
    with two_connections(caller) as at_once:
        for number in range(ROUNDS):
            bought = buy(caller, TABLES[number % 3])
            both = at_once(*(checkout("completed", bought.metadata, new_payment()) for _ in range(2)))
            assert sorted((applied.outcome, applied.error) for applied in both) == [
                ("applied", None),
                ("failed", "PaidTwice"),
            ]
            assert bought.state(owner) == "completed"


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("early", [False, True], ids=["after the effect", "before the effect"])
def test_a_crash_before_the_commit_leaves_neither_event_nor_effect(
    caller: Caller, owner: psycopg.Connection, table: str, early: bool
) -> None:
    bought, payment = buy(caller, table), new_payment()
    before = bought.row(owner)

    def die(tx: Session) -> None:
        backend = tx.scalar(text("SELECT pg_backend_pid()"))
        assert one(owner, "SELECT pg_terminate_backend(%s, 60000)", backend)

    def body(tx: Session, event: JsonObject) -> None:
        if early:
            die(tx)
        payments.apply_event(tx, event)
        die(tx)

    for event in (checkout("completed", bought.metadata, payment), refund(payment)):
        with pytest.raises(errors.Unavailable):
            caller.call(SERVICE, body, event)
        assert (bought.row(owner), entry(owner, event)) == (before, None)

        (applied,) = deliver(caller, event)
        assert (applied.outcome, applied.repeated) == ("applied", False)
        assert outcomes(caller, event) == ["applied"]
        assert entry(owner, event)["attempts"] == 1
        before = bought.row(owner)
    assert bought.state(owner) == "refunded"


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_session_fails_until_it_is_there(
    caller: Caller, owner: psycopg.Connection, table: str
) -> None:
    key = uuid4() if table == "cw_assessment_sessions" else NOBODY
    metadata, payment = payments.checkout_metadata(table, key), new_payment()
    paid, back = checkout("completed", metadata, payment), refund(payment, metadata=metadata)
    for _ in range(2):
        for applied in deliver(caller, paid, back):
            assert (applied.outcome, applied.error) == ("failed", "SessionNotFound")
            assert applied.target == payments.Target(table, str(key))
    assert (entry(owner, paid)["outcome"], entry(owner, paid)["attempts"]) == ("failed", 2)

    if table == "cw_assessment_sessions":
        submit_assessment(caller, assessment_id=key)
    else:
        buy(caller, table)
        owner.execute("SET session_replication_role = replica")  # the id never changes otherwise
        owner.execute(f"UPDATE public.{table} SET id = %s", [key])
        owner.execute("RESET session_replication_role")

    begin(caller, table, key)
    applied_now = deliver(caller, paid, back)
    assert [(applied.outcome, applied.error, applied.repeated) for applied in applied_now] == [
        ("applied", None, True),
        ("applied", None, True),
    ]
    kept = entry(owner, paid)
    assert (kept["outcome"], kept["error"], kept["attempts"]) == ("applied", None, 3)
    assert kept["processed_at"] > kept["received_at"]
    assert one(owner, f"SELECT payment_status FROM public.{table}") == "refunded"
    assert outcomes(caller, paid, back) == ["applied", "applied"]
    assert entry(owner, paid) == kept


@pytest.mark.parametrize("named", [False, True])
def test_a_refund_of_a_missing_session_is_settled_with_its_payment(
    caller: Caller, owner: psycopg.Connection, named: bool
) -> None:
    key, payment = uuid4(), new_payment()
    metadata = payments.checkout_metadata("cw_assessment_sessions", key)
    paid, back = (
        checkout("completed", metadata, payment),
        refund(payment, metadata=metadata if named else None),
    )
    deliver(caller, paid, back)
    submit_assessment(caller, assessment_id=key)
    begin(caller, "cw_assessment_sessions", key)
    assert outcomes(caller, paid) == ["applied"]  # Stripe repeats the one, perhaps not the other
    assert one(owner, "SELECT payment_status FROM public.cw_assessment_sessions") == "refunded"
    assert entry(owner, back)["outcome"] == "applied"


def test_a_broken_rule_is_recorded_and_not_raised(caller: Caller, owner: psycopg.Connection) -> None:
    taken, other, payment = start_session(caller), buy(caller, "user_sessions"), new_payment()
    caller.call(SERVICE, sessions.record_payment, taken.id, "completed", stripe_payment_id=payment)
    before, again = other.row(owner), checkout("completed", other.metadata, payment)
    (applied,) = deliver(caller, again)
    assert (applied.outcome, applied.error) == ("failed", "idx_user_sessions_stripe_payment_id")
    assert other.row(owner) == before
    assert entry(owner, again)["error"] == "idx_user_sessions_stripe_payment_id"


def test_an_amount_that_the_column_cannot_hold_fails(caller: Caller, owner: psycopg.Connection) -> None:
    bought = buy(caller, "calculator2_sessions", 999_999_999, "vnd")
    huge = checkout("completed", bought.metadata, new_payment(), amount_total=999_999_999, currency="vnd")
    assert outcomes(caller, huge) == ["failed"]
    assert bought.state(owner) == "pending"
    assert entry(owner, huge)["error"] is not None


@pytest.mark.parametrize("ours", [False, True])
def test_an_amount_in_rupiah_is_no_reason_to_refuse_the_event(
    caller: Caller, owner: psycopg.Connection, ours: bool
) -> None:
    bought = buy(caller, "user_sessions", 80_000_000_00, "idr")
    paid = checkout(
        "completed",
        bought.metadata if ours else {},
        new_payment(),
        amount_total=80_000_000_00,
        currency="idr",
    )
    assert outcomes(caller, paid) == ["applied" if ours else "ignored"]


def test_a_refund_of_nine_digits_is_recorded(caller: Caller, owner: psycopg.Connection) -> None:
    bought, payment = buy(caller, "user_sessions"), new_payment()
    back = refund(payment, 999_999_999, currency="jpy")
    deliver(caller, checkout("completed", bought.metadata, payment), back)
    assert entry(owner, back)["refunded_amount"] == Decimal(999_999_999)


def test_a_strangely_written_key_is_no_reason_to_raise(caller: Caller, owner: psycopg.Connection) -> None:
    bought = buy(caller, "user_sessions")
    named = {"carnivore_session": f"user_sessions:{bought.target.key:0>80}"}
    (applied,) = deliver(caller, checkout("completed", named, new_payment()))
    assert applied.target in {None, bought.target}
