"""Any input whatever: an answer or an error of our own types, and the value in no error and no log."""

import logging
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from carnivore_db.conversation import logs, messages, scenarios
from carnivore_db.conversation import sessions as plays
from carnivore_db.errors import InvalidInput
from carnivore_db.vocabulary import sessions as lessons
from carnivore_db.weekly import calculator, reports
from tests.conversation.samples import sign_up
from tests.support.bad_input import SERVICE, Good, any_value
from tests.support.callers import Caller
from tests.support.databases import TestDatabase
from tests.support.hostile import MARK, NASTY_OBJECTS, NASTY_TEXTS, attempt, logged
from tests.vocabulary.samples import start_session
from tests.weekly.samples import HTML, VISITOR, issue_report, start_calculator

# What these say depends on two arguments, or on what an earlier example has done to the row.
OF_SEVERAL = {
    *("payment_id_with_completed", "later", "ended_at_in_range", "duration_minutes_in_range"),
    *("messages_role_chat_type_valid", "deleted_at_with_erased"),
}
OBJECTS = st.dictionaries(st.text(), NASTY_OBJECTS, max_size=3)


@settings(
    deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(data=st.data())
def test_any_value_is_taken_or_refused_by_name(
    module_caller: Caller, good: Good, data: st.DataObject
) -> None:
    name, error = any_value(module_caller, good, data)
    if isinstance(error, InvalidInput) and error.rule not in OF_SEVERAL:
        too_many_points = name == "points" and error.field == "value"
        assert error.field.split(".")[0] == name or too_many_points


# Each saves an object, and reads it back.
def form_state(caller: Caller, given: Mapping[str, Any]) -> Mapping[str, Any] | None:
    token = start_calculator(caller).session_token
    caller.call(VISITOR, calculator.save, token, form_state=given)
    return caller.call(VISITOR, calculator.resume, token).form_state


def session_data(caller: Caller, given: Mapping[str, Any]) -> Mapping[str, Any]:
    made = start_session(caller, None).id
    caller.call(SERVICE, lessons.save, made, session_data=given)
    return caller.call(SERVICE, lessons.get, made).session_data


def metadata(caller: Caller, given: Mapping[str, Any]) -> Mapping[str, Any] | None:
    made = caller.call(SERVICE, logs.write, "info", "unknown_error", metadata=given)
    found = caller.call(SERVICE, logs.search, metadata=given, event_type="unknown_error", limit=1000)
    return {event.id: event.facts for event in found.rows}[made]


@pytest.mark.parametrize("keep", [form_state, session_data, metadata], ids=lambda keep: keep.__name__)
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=OBJECTS)
def test_any_object_is_kept_and_found_or_refused(
    module_caller: Caller, keep: Callable[..., Any], document: dict[str, Any]
) -> None:
    kept = []
    error = attempt(lambda: kept.append(keep(module_caller, document)))
    if error is None:
        assert set(kept[0] or {}) == set(document)
    else:
        assert isinstance(error, InvalidInput)
        assert error.field.split(".")[0] == keep.__name__


@settings(deadline=None, max_examples=50)
@given(content=NASTY_TEXTS)
def test_any_text_is_kept_as_it_was_said_or_refused(module_caller: Caller, good: Good, content: str) -> None:
    session_id = good[messages.send]["session_id"]
    sent = []
    error = attempt(
        lambda: sent.append(
            module_caller.call(SERVICE, messages.send, session_id, content, role="main_assistant")
        )
    )
    if error is None:
        page = module_caller.call(SERVICE, messages.page, session_id, newest_first=True, limit=1)
        assert (page.rows[0].id, page.rows[0].content) == (sent[0].id, content)
    else:
        assert isinstance(error, InvalidInput)
        assert error.field == "content"


def test_a_marked_value_in_the_log_would_be_found() -> None:
    with logged() as lines:
        logging.getLogger("sqlalchemy.engine.Engine").debug("Row %r", (MARK,))
    assert any(MARK in line for line in lines)


def test_what_is_read_is_never_logged(module_caller: Caller) -> None:
    report = issue_report(module_caller)
    with logged() as lines:
        module_caller.call(VISITOR, reports.open, report.access_token)
    assert any("BEGIN" in line for line in lines)
    assert not any(HTML in line for line in lines)
    assert not any(report.access_token in line for line in lines)


@pytest.mark.usefixtures("good")
def test_what_is_said_is_never_logged(module_caller: Caller, area_database: TestDatabase) -> None:
    with area_database.connect(autocommit=True) as owner:
        owner.row_factory = dict_row
        person = sign_up(owner, f"{MARK}{uuid4().hex}@example.com")
    module_caller.call(SERVICE, scenarios.offer, "party", is_active=True)
    playing = module_caller.call(SERVICE, plays.start, person.id, "party")
    with logged() as lines:
        sent = module_caller.call(SERVICE, messages.send, playing.id, MARK, role="main_assistant")
        page = module_caller.call(SERVICE, messages.page, playing.id)
        module_caller.call(SERVICE, logs.write, "info", "unknown_error", metadata={MARK: MARK})
        found = module_caller.call(SERVICE, logs.search, metadata={MARK: MARK})
    assert found.rows
    assert any("BEGIN" in line for line in lines)
    for said in (*lines, repr(sent), repr(page), repr(page.rows), repr(found), repr(person.identity)):
        assert MARK not in said
