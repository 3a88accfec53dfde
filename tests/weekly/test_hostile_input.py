"""What strangers send to the shop: events that are none, JSON of any depth, tokens that are none."""

import json
import sys

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from carnivore_db import identity
from carnivore_db.errors import CarnivoreError, InvalidInput
from carnivore_db.weekly import calculator, payments
from tests.support.callers import Caller
from tests.support.hostile import MARK, attempt, nested
from tests.weekly.samples import SERVICE, VISITOR, start_calculator
from tests.weekly.stripe_payloads import checkout, new_payment

PAID = checkout("completed", {}, new_payment())


@pytest.mark.parametrize(
    ("given", "field"),
    [
        *((value, "event") for value in (None, 5, MARK, [], [PAID], MARK.encode())),
        ({}, "event.id"),
        *(({**PAID, "id": value}, "event.id") for value in (None, 5, "", MARK + "'", MARK + "\n", MARK * 30)),
        *(({**PAID, "type": value}, "event.type") for value in (None, 5, MARK * 10)),
        *(({**PAID, "livemode": value}, "event.livemode") for value in (None, MARK, 5)),
        *(({**PAID, "data": value}, "event.data") for value in (None, [], MARK)),
        ({**PAID, "data": {}}, "event.data.object"),
        ({**PAID, "data": {"object": [MARK]}}, "event.data.object"),
    ],
    ids=lambda given: given if isinstance(given, str) and MARK not in given else "",
)
def test_what_is_no_stripe_event_is_refused_by_field(
    module_caller: Caller, given: object, field: str
) -> None:
    error = attempt(lambda: module_caller.call(SERVICE, payments.apply_event, event=given))
    assert isinstance(error, InvalidInput)
    assert error.field.startswith(field)


def test_nesting_is_refused_or_kept_at_every_depth(module_caller: Caller) -> None:
    token = start_calculator(module_caller).session_token

    def kept(depth: int) -> bool:
        try:
            module_caller.call(VISITOR, calculator.save, token, {"a": nested(depth)})
        except CarnivoreError:
            return False
        return True

    low, high = 1, sys.getrecursionlimit()
    while kept(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if kept(middle) else (low, middle)
    assert not kept(high)


@pytest.mark.parametrize("value", ["1e5000", "[" * 5000 + "]" * 5000], ids=["number", "nesting"])
def test_what_a_browser_saved_never_breaks_the_reader(module_caller: Caller, value: str) -> None:
    token = start_calculator(module_caller).session_token
    save = text("SELECT FROM public.save_calculator(:token, CAST(:form AS jsonb))")

    def as_through_postgrest(tx: Session) -> None:
        tx.execute(save, {"token": token, "form": f'{{"a": {value}}}'}).all()

    attempt(lambda: module_caller.run(VISITOR, as_through_postgrest))  # it may well be refused here
    attempt(lambda: module_caller.call(VISITOR, calculator.resume, token))


@pytest.mark.parametrize(("depth", "kept"), [(62, True), (63, False)])
@pytest.mark.parametrize("through_types", [True, False])
def test_the_input_types_and_the_database_agree_on_the_depth(
    module_caller: Caller, depth: int, kept: bool, through_types: bool
) -> None:
    token, form = start_calculator(module_caller).session_token, {"a": nested(depth)}
    statement = text("SELECT FROM public.save_calculator(:token, CAST(:form AS jsonb))")

    def body(tx: Session) -> None:
        if through_types:
            calculator.save(tx, token, form)
        else:
            tx.execute(statement, {"token": token, "form": json.dumps(form)}).all()

    error = attempt(lambda: module_caller.run(VISITOR, body))
    rule = "json_value" if through_types else "form_state_valid"
    assert (error is None) is kept
    assert kept or (isinstance(error, InvalidInput) and (error.field, error.rule) == ("form_state", rule))
    saved = module_caller.call(VISITOR, calculator.resume, token).form_state
    assert saved == (form if kept else None)


@pytest.mark.parametrize("field", ["report_token", "calculator_token"])
def test_a_presented_token_is_never_repeated(module_caller: Caller, field: str) -> None:
    for value in (MARK + "\0", MARK + "\ud800"):
        holder = identity.token_holder(**{field: value})
        assert MARK not in repr(holder)
        assert isinstance(attempt(lambda who=holder: module_caller.run(who, lambda tx: None)), InvalidInput)
