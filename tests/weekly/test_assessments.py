"""Assessments: submitted once, completed once, found by their checkout."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest

from carnivore_db import errors
from carnivore_db.weekly import assessments
from carnivore_db.weekly.payloads import FormData
from tests.support.callers import Caller
from tests.support.databases import one
from tests.weekly.samples import SERVICE, submit_assessment

COUNT = "SELECT count(*) FROM public.cw_assessment_sessions"


def test_an_assessment_is_stored_as_it_was_given(caller_of_each_shape: Caller) -> None:
    caller = caller_of_each_shape
    form = {"age": "36", "note": "\\u0000 größe", "meals": [1.5, None, {"b": []}]}
    made = submit_assessment(caller, email="Ada@Example.com", first_name=" Ada ", form_data=form)
    stored = caller.call(SERVICE, assessments.get, made.id)
    assert (stored.email, stored.first_name, stored.form_data) == ("ada@example.com", " Ada ", form)
    assert (stored.payment_status, stored.completed_at, stored.is_test) == ("pending", None, False)
    assert (stored.stripe_session_id, stored.stripe_payment_intent_id) == (None, None)
    assert stored.created_at == stored.updated_at


def test_a_repeated_submission_is_stored_once(caller: Caller, owner: psycopg.Connection) -> None:
    chosen = uuid4()
    first = submit_assessment(caller, assessment_id=chosen, email="Ada@example.com")
    again = submit_assessment(caller, assessment_id=chosen, email="ada@example.com")
    assert first.id == again.id == chosen
    assert (again.created_at, again.updated_at) == (first.created_at, first.created_at)
    assert one(owner, COUNT) == 1


@pytest.mark.parametrize(
    "other", [{"email": "eve@example.com"}, {"first_name": "Eve"}, {"form_data": {"other": 1}}]
)
def test_another_submission_does_not_take_the_id(
    caller: Caller, owner: psycopg.Connection, other: dict[str, Any]
) -> None:
    chosen = uuid4()
    submit_assessment(caller, assessment_id=chosen)
    before = owner.execute("SELECT * FROM public.cw_assessment_sessions").fetchall()
    with pytest.raises(errors.AlreadyExists) as caught:
        submit_assessment(caller, assessment_id=chosen, **other)
    assert caught.value.rule == "cw_assessment_sessions_pkey"
    assert owner.execute("SELECT * FROM public.cw_assessment_sessions").fetchall() == before


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, 1e23], ids=repr)
def test_a_first_submission_is_never_another_one(caller: Caller, value: object) -> None:
    made = submit_assessment(caller, form_data={"a": value})
    assert caller.call(SERVICE, assessments.get, made.id).email == "ada@example.com"


def test_a_repeated_submission_is_recognised_after_a_test_payment(
    caller: Caller, owner: psycopg.Connection
) -> None:
    chosen = uuid4()
    submit_assessment(caller, assessment_id=chosen)
    owner.execute("UPDATE public.cw_assessment_sessions SET is_test = true")  # as payments.apply_event does
    assert submit_assessment(caller, assessment_id=chosen).id == chosen


def test_without_an_id_every_submission_is_its_own(caller: Caller, owner: psycopg.Connection) -> None:
    assert submit_assessment(caller).id != submit_assessment(caller).id
    assert one(owner, COUNT) == 2


def test_the_form_is_merged_key_by_key(caller: Caller) -> None:
    made = submit_assessment(caller, form_data={"age": 36, "meals": {"a": 1}})
    merged = caller.call(SERVICE, assessments.merge_form, made.id, {"meals": {"b": 2}, "goal": None})
    assert merged.form_data == {"age": 36, "meals": {"b": 2}, "goal": None}
    merged = caller.call(SERVICE, assessments.merge_form, made.id, FormData(age=None))
    stored = caller.call(SERVICE, assessments.get, made.id)
    assert merged.form_data == stored.form_data == {"age": None, "meals": {"b": 2}, "goal": None}
    assert stored.updated_at == merged.updated_at > made.updated_at


def test_the_whole_form_takes_256_kib(caller: Caller) -> None:
    made = submit_assessment(caller, form_data={"a": "x" * 200_000})
    with pytest.raises(errors.InvalidInput) as caught:
        caller.call(SERVICE, assessments.merge_form, made.id, {"b": "x" * 100_000})
    assert (caught.value.field, caught.value.rule) == ("form_data", "form_data_is_object")
    assert set(caller.call(SERVICE, assessments.get, made.id).form_data) == {"a"}


def test_a_checkout_finds_its_assessment(caller: Caller) -> None:
    made, other = submit_assessment(caller), submit_assessment(caller)
    attach = assessments.attach_checkout
    assert caller.call(SERVICE, assessments.find_by_checkout, "cs_1") is None
    caller.call(SERVICE, attach, made.id, "cs_1", stripe_payment_intent_id="pi_1")
    again = caller.call(SERVICE, attach, made.id, "cs_1")
    assert (again.stripe_session_id, again.stripe_payment_intent_id) == ("cs_1", "pi_1")
    found = caller.call(SERVICE, assessments.find_by_checkout, "cs_1")
    assert found is not None
    assert (found.id, found.stripe_payment_intent_id) == (made.id, "pi_1")

    for given, rule in (
        (("cs_1",), "idx_cw_assessment_sessions_stripe_session_id"),
        (("cs_2", "pi_1"), "idx_cw_assessment_sessions_stripe_payment_intent_id"),
    ):
        payment = {"stripe_payment_intent_id": given[1]} if len(given) > 1 else {}
        with pytest.raises(errors.AlreadyExists) as caught:
            caller.call(SERVICE, attach, other.id, given[0], **payment)
        assert caught.value.rule == rule
    assert caller.call(SERVICE, assessments.get, other.id).stripe_session_id is None


def test_completing_twice_is_completing_once(caller: Caller) -> None:
    made = submit_assessment(caller)
    paid = caller.call(SERVICE, assessments.complete, made.id)
    assert paid.payment_status == "completed"
    assert paid.completed_at is not None
    assert paid.completed_at > made.created_at
    again = caller.call(SERVICE, assessments.complete, made.id)
    assert (again.payment_status, again.completed_at) == ("completed", paid.completed_at)


def test_a_refunded_assessment_is_not_completed_again(caller: Caller, owner: psycopg.Connection) -> None:
    made = submit_assessment(caller)
    caller.call(SERVICE, assessments.complete, made.id)
    owner.execute("UPDATE public.cw_assessment_sessions SET payment_status = 'refunded'")
    with pytest.raises(errors.PaymentTransition) as caught:
        caller.call(SERVICE, assessments.complete, made.id)
    assert (caught.value.old, caught.value.new) == ("refunded", "completed")


def test_a_late_retry_is_recognised_after_the_form_was_merged(caller: Caller) -> None:
    chosen = uuid4()
    submit_assessment(caller, assessment_id=chosen)
    caller.call(SERVICE, assessments.merge_form, chosen, {"later": [1, 2]})
    assert submit_assessment(caller, assessment_id=chosen).form_data["later"] == [1, 2]
