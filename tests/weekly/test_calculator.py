"""The calculator: what was saved is given back, to the holder of the token, for 48 hours."""

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from carnivore_db import errors
from carnivore_db.weekly import calculator
from carnivore_db.weekly.payloads import FormState
from tests.support.callers import Caller
from tests.support.databases import one
from tests.weekly.samples import (
    NOBODY,
    SERVICE,
    VISITOR,
    ended_calculator,
    issue_report,
    start_calculator,
)

FORM = {"step": 3, "weight": "81,5", "height": 1.75, "goal": None, "notes": [{"größe": "XL"}, [], {}, True]}
# Every whole number and every fraction that JSON writes without an exponent, and text without NUL.
NUMBERS = st.integers(-(10**30), 10**30) | st.floats(-(10.0**15), 10.0**15)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
FORMS = st.dictionaries(TEXTS.filter(lambda key: key not in FormState.model_fields), VALUES, max_size=6)


def test_a_session_lasts_48_hours(caller: Caller, owner: psycopg.Connection) -> None:
    made = start_calculator(caller, form_state=FORM, pricing_tier="mealPlan")
    row = owner.execute("SELECT * FROM public.calculator2_sessions").fetchone()
    assert row is not None
    assert re.fullmatch("[A-Za-z0-9_-]{32}", made.session_token)
    assert (row["id"], row["session_token"], row["expires_at"]) == (
        made.id,
        made.session_token,
        made.expires_at,
    )
    assert row["expires_at"] - row["created_at"] == timedelta(hours=48)
    assert (row["form_state"], row["pricing_tier"]) == (FORM, "mealPlan")
    assert (row["payment_status"], row["amount_paid"], row["report_token"]) == ("pending", None, None)
    assert made.session_token not in f"{made!r}"


def test_anyone_with_the_token_resumes_and_saves(caller_of_each_shape: Caller) -> None:
    caller = caller_of_each_shape
    made = start_calculator(caller)
    assert caller.call(VISITOR, calculator.resume, made.session_token).form_state is None
    saved = caller.call(VISITOR, calculator.save, made.session_token, FORM, pricing_tier="bundle")
    state = caller.call(VISITOR, calculator.resume, made.session_token)
    assert state == saved
    assert (state.form_state, state.pricing_tier, state.payment_status) == (FORM, "bundle", "pending")
    assert state.expires_at == made.expires_at
    assert "81,5" not in f"{state!r}"


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"step": None},
        {"empty": "", "nothing": {}, "none": []},
        {"text": "\\u0000 and \\\\u0000", "emoji": "\N{GRINNING FACE}\u200b\x7f", "": "\x1f\t"},
        {"one": 1, "float": 1.0, "small": 1e-7, "big": 2**64, "zero": 0.1 + 0.2},
        {"deep": [[[[{"a": [None, False]}]]]]},
    ],
    ids=lambda form: next(iter(form), "nothing"),
)
def test_resuming_gives_back_exactly_what_was_saved(caller: Caller, form: dict[str, Any]) -> None:
    first, second = start_calculator(caller, form_state=form), start_calculator(caller)
    caller.call(VISITOR, calculator.save, second.session_token, form)
    for made in (first, second):
        resumed = caller.call(VISITOR, calculator.resume, made.session_token).form_state
        assert resumed == form
        # 1 == 1.0 == True: the types count too.
        assert {key: repr(value) for key, value in resumed.items()} == {
            key: repr(value) for key, value in form.items()
        }


@settings(deadline=None, max_examples=100)
@given(form=FORMS)
def test_resuming_gives_back_any_form(module_caller: Caller, form: dict[str, Any]) -> None:
    made = start_calculator(module_caller)
    module_caller.call(VISITOR, calculator.save, made.session_token, form)
    assert module_caller.call(VISITOR, calculator.resume, made.session_token).form_state == form


def test_saving_merges_key_by_key(caller: Caller) -> None:
    made = start_calculator(caller, form_state={"step": 1, "meals": {"a": 1}, "goal": "lose"})
    saved = caller.call(
        VISITOR, calculator.save, made.session_token, {"step": 2, "meals": {"b": 2}, "goal": None}
    )
    assert saved.form_state == {"step": 2, "meals": {"b": 2}, "goal": None}
    saved = caller.call(VISITOR, calculator.save, made.session_token, FormState(units="metric"))
    assert saved.form_state == {"step": 2, "meals": {"b": 2}, "goal": None, "units": "metric"}
    assert caller.call(VISITOR, calculator.save, made.session_token, {}).form_state == saved.form_state


def test_activity_is_noted_and_extends_nothing(caller: Caller, owner: psycopg.Connection) -> None:
    made = start_calculator(caller)
    before = caller.call(VISITOR, calculator.resume, made.session_token)
    assert caller.call(VISITOR, calculator.resume, made.session_token) == before
    saved = caller.call(VISITOR, calculator.save, made.session_token, {"step": 2})
    assert saved.last_active_at > before.last_active_at
    assert saved.expires_at == before.expires_at
    stored = "SELECT expires_at FROM public.calculator2_sessions"
    assert one(owner, stored) == made.expires_at


def test_the_whole_form_takes_64_kib(caller: Caller) -> None:
    made = start_calculator(caller, form_state={"a": "x" * 40_000})
    with pytest.raises(errors.InvalidInput) as caught:
        caller.call(VISITOR, calculator.save, made.session_token, {"b": "x" * 40_000})
    assert (caught.value.field, caught.value.rule) == ("form_state", "form_state_valid")
    assert caller.call(VISITOR, calculator.resume, made.session_token).form_state == {"a": "x" * 40_000}


def test_a_tier_is_one_that_is_sold(caller: Caller, owner: psycopg.Connection) -> None:
    made = start_calculator(caller, form_state=FORM)
    chosen = caller.call(VISITOR, calculator.choose_tier, made.session_token, "doctor")
    assert (chosen.pricing_tier, chosen.form_state) == ("doctor", FORM)
    for function, arguments, tier in (
        (calculator.choose_tier, (made.session_token, "gold"), {}),
        (calculator.save, (made.session_token, {}), {"pricing_tier": "Doctor"}),
        (calculator.start, (), {"pricing_tier": "gold"}),
    ):
        with pytest.raises(errors.InvalidInput) as caught:
            caller.call(SERVICE, function, *arguments, **tier)
        assert (caught.value.field, caught.value.rule) == (
            "pricing_tier",
            "calculator2_sessions_pricing_tier_fkey",
        )
    assert caller.call(VISITOR, calculator.resume, made.session_token).pricing_tier == "doctor"
    assert caller.call(VISITOR, calculator.save, made.session_token, {}).pricing_tier == "doctor"


def test_a_float_beyond_16_digits_comes_back_as_the_number_that_was_written(caller: Caller) -> None:
    """JSON has one kind of number: 1e+23 is 10**23, and is read as Python reads whole numbers."""
    made = start_calculator(caller, form_state={"large": 1e23})
    resumed = caller.call(VISITOR, calculator.resume, made.session_token).form_state
    assert resumed == {"large": 10**23}


def test_choosing_a_tier_saves_no_form(caller: Caller) -> None:
    made = start_calculator(caller)
    caller.call(VISITOR, calculator.choose_tier, made.session_token, "bundle")
    assert caller.call(VISITOR, calculator.resume, made.session_token).form_state is None


@pytest.mark.parametrize("states", [["completed"], ["completed", "refunded"]])
def test_a_tier_that_was_paid_for_stays(caller: Caller, states: list[str]) -> None:
    made = start_calculator(caller, pricing_tier="bundle")
    for state in states:
        caller.call(SERVICE, calculator.record_payment, made.id, state)
    for function, arguments in ((calculator.choose_tier, ("doctor",)), (calculator.save, ({"step": 2},))):
        tier = {} if arguments == ("doctor",) else {"pricing_tier": "doctor"}
        with pytest.raises(errors.Immutable) as caught:
            caller.call(VISITOR, function, made.session_token, *arguments, **tier)
        assert caught.value.table == "calculator2_sessions"
        assert caught.value.columns[0] == "pricing_tier"
    with pytest.raises(errors.Immutable) as caught:
        caller.call(VISITOR, calculator.save, made.session_token, {"step": 3})
    assert caught.value.columns == ("form_state",)
    saved = caller.call(VISITOR, calculator.choose_tier, made.session_token, "bundle")
    assert saved.pricing_tier == "bundle"


def each_way_in(caller: Caller, token: str, expected: type[errors.CarnivoreError]) -> list[Any]:
    caught = []
    for function, arguments in (
        (calculator.resume, ()),
        (calculator.save, ({"step": 1},)),
        (calculator.choose_tier, ("bundle",)),
    ):
        with pytest.raises(expected) as one_of:
            caller.call(VISITOR, function, token, *arguments)
        caught.append(one_of.value)
    return caught


def test_what_no_session_has_is_not_found(caller: Caller) -> None:
    start_calculator(caller)
    for token in ("a" * 32, "", "a" * 31, "a" * 33, "a" * 31 + "+", "a" * 32 + "\n", "ä" * 32):
        each_way_in(caller, token, errors.CalculatorNotFound)


def test_a_session_that_ended_says_since_when(
    caller_in: Callable[[str], Caller], owner: psycopg.Connection
) -> None:
    caller, old = caller_in("Asia/Kolkata"), ended_calculator(owner)
    for error in each_way_in(caller, old.token, errors.CalculatorExpired):
        assert error.expired_at == old.expires_at
        assert error.expired_at.utcoffset() == timedelta(0)
    assert one(owner, "SELECT form_state FROM public.calculator2_sessions") is None


def test_a_report_is_linked(caller: Caller, owner: psycopg.Connection) -> None:
    made, report = start_calculator(caller), issue_report(caller)
    caller.call(SERVICE, calculator.link_report, made.id, report.access_token)
    assert one(owner, "SELECT report_token FROM public.calculator2_sessions") == report.access_token
    with pytest.raises(errors.SessionNotFound):
        caller.call(SERVICE, calculator.link_report, NOBODY, report.access_token)
    with pytest.raises(errors.ReportNotFound):
        caller.call(SERVICE, calculator.link_report, made.id, "0" * 64)
    assert one(owner, "SELECT report_token FROM public.calculator2_sessions") == report.access_token


def test_an_amount_is_kept_to_the_cent(caller: Caller, owner: psycopg.Connection) -> None:
    made = start_calculator(caller)
    amount = "SELECT amount_paid FROM public.calculator2_sessions"
    pay = (SERVICE, calculator.record_payment, made.id)
    caller.call(*pay, "completed", amount_paid=Decimal("99999999.99"))
    assert one(owner, amount) == Decimal("99999999.99")
    caller.call(*pay, "refunded")
    assert one(owner, amount) == Decimal("99999999.99")
    with pytest.raises(errors.SessionNotFound):
        caller.call(SERVICE, calculator.record_payment, NOBODY, "completed")


def test_purging_takes_ended_sessions_oldest_first(caller: Caller, owner: psycopg.Connection) -> None:
    kept = start_calculator(caller)
    made = [ended_calculator(owner, ago=timedelta(hours=hours)).id for hours in (2, 3, 1)]

    def left() -> list[int]:
        rows = owner.execute("SELECT id FROM public.calculator2_sessions ORDER BY expires_at").fetchall()
        return [row["id"] for row in rows]

    assert caller.call(SERVICE, calculator.purge_expired, batch=2) == 2
    assert left() == [made[2], kept.id]
    assert caller.call(SERVICE, calculator.purge_expired) == 1
    assert caller.call(SERVICE, calculator.purge_expired) == 0
    assert left() == [kept.id]


def test_a_visitor_may_not_touch_the_payment(caller: Caller) -> None:
    made = start_calculator(caller)

    def free_of_charge(tx: Session) -> None:
        calculator.record_payment(tx, made.id, "completed")

    with pytest.raises(errors.PermissionRefused):
        caller.run(VISITOR, free_of_charge)
    with pytest.raises(errors.PermissionRefused):
        caller.call(VISITOR, calculator.start)
    assert caller.call(VISITOR, calculator.resume, made.session_token).payment_status == "pending"


@pytest.mark.slow
def test_a_batch_may_be_larger_than_a_statement_takes_parameters(
    caller: Caller, owner: psycopg.Connection
) -> None:
    owner.execute(
        "INSERT INTO public.calculator2_sessions (session_token, created_at, last_active_at, expires_at)"
        " SELECT replace(gen_random_uuid()::text, '-', ''), now() - interval '3 days',"
        " now() - interval '3 days', now() - interval '1 day' FROM generate_series(1, 66000)"
    )
    purged = [caller.call(SERVICE, calculator.purge_expired, batch=65_900) for _ in range(2)]
    assert purged == [65_900, 100]
