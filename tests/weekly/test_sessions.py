"""Sessions: started, found, paid for and marked as test data."""

import psycopg
import pytest

from carnivore_db import errors
from carnivore_db.weekly import sessions
from carnivore_db.weekly.payloads import MacroData
from tests.support.callers import Caller
from tests.weekly.samples import SERVICE, start_session


def test_a_session_is_stored_as_it_was_given(caller_of_each_shape: Caller) -> None:
    macros = {"protein": 120.5, "fat": None, "notes": ["Eier", {"größe": "XL"}]}
    made = start_session(
        caller_of_each_shape, email=" Ada@Example.COM ", path_choice="paleo", macro_data=macros, is_test=True
    )
    stored = caller_of_each_shape.call(SERVICE, sessions.get, made.id)
    assert (stored.email, stored.path_choice, stored.macro_data) == ("ada@example.com", "paleo", macros)
    assert (stored.payment_status, stored.stripe_payment_id, stored.is_test) == ("pending", None, True)
    assert stored.created_at == stored.updated_at == made.created_at
    assert stored.created_at.utcoffset() is not None


def test_a_model_is_stored_like_a_dict(caller: Caller) -> None:
    made = start_session(caller, macro_data=MacroData(protein=120, sauce="none"))
    stored = caller.call(SERVICE, sessions.get, made.id)
    assert stored.macro_data == {"protein": 120, "sauce": "none"}
    assert not stored.is_test


def test_sessions_of_an_address_newest_first_in_any_case(caller: Caller) -> None:
    made = [start_session(caller).id for _ in range(3)]
    start_session(caller, email="bob@example.com")

    def found(email: str, **limit: int) -> list[int]:
        return [session.id for session in caller.call(SERVICE, sessions.list_by_email, email, **limit)]

    assert found("ADA@Example.com") == made[::-1]
    assert found("ada@example.com", limit=2) == made[:0:-1]
    assert found("nobody@example.com") == []


def test_sessions_of_one_transaction_are_told_apart_by_id(caller: Caller) -> None:
    given = {"email": "ada@example.com", "path_choice": "keto", "macro_data": {}}
    made = caller.run(SERVICE, lambda tx: [sessions.start(tx, **given).id for _ in range(3)])
    found = caller.call(SERVICE, sessions.list_by_email, "ada@example.com")
    assert [session.id for session in found] == made[::-1]


def test_a_payment_finds_its_session(caller: Caller) -> None:
    made = start_session(caller)
    assert caller.call(SERVICE, sessions.find_by_payment, "pi_1") is None
    paid = caller.call(SERVICE, sessions.record_payment, made.id, "completed", stripe_payment_id="pi_1")
    assert (paid.payment_status, paid.stripe_payment_id) == ("completed", "pi_1")
    assert paid.updated_at > paid.created_at == made.created_at
    found = caller.call(SERVICE, sessions.find_by_payment, "pi_1")
    assert found is not None
    assert (found.id, found.payment_status) == (made.id, "completed")


def test_a_completed_payment_has_an_id(caller: Caller) -> None:
    made = start_session(caller)
    with pytest.raises(errors.InvalidInput) as caught:
        caller.call(SERVICE, sessions.record_payment, made.id, "completed")
    assert (caught.value.field, caught.value.rule) == ("stripe_payment_id", "payment_id_with_completed")


def test_a_payment_pays_one_session(caller: Caller) -> None:
    for expected in (None, errors.AlreadyExists):
        made = start_session(caller)
        pay = (SERVICE, sessions.record_payment, made.id, "completed")
        if expected is None:
            caller.call(*pay, stripe_payment_id="pi_1")
        else:
            with pytest.raises(expected) as caught:
                caller.call(*pay, stripe_payment_id="pi_1")
            assert caught.value.rule == "idx_user_sessions_stripe_payment_id"
            assert caller.call(SERVICE, sessions.get, made.id).payment_status == "pending"


def test_the_payment_id_stays_when_none_is_given(caller: Caller) -> None:
    made = start_session(caller)
    caller.call(SERVICE, sessions.record_payment, made.id, "completed", stripe_payment_id="pi_1")
    refunded = caller.call(SERVICE, sessions.record_payment, made.id, "refunded")
    assert (refunded.payment_status, refunded.stripe_payment_id) == ("refunded", "pi_1")


def test_the_mark_of_test_data_comes_and_goes(caller: Caller, owner: psycopg.Connection) -> None:
    made = start_session(caller)
    marked = "SELECT is_test FROM public.user_sessions"
    assert caller.call(SERVICE, sessions.mark_test, made.id).is_test
    assert owner.execute(marked).fetchall() == [{"is_test": True}]
    assert not caller.call(SERVICE, sessions.mark_test, made.id, is_test=False).is_test
    assert owner.execute(marked).fetchall() == [{"is_test": False}]
