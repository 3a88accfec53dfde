"""Any input whatever: an answer or an error of our own types, and the value in no error and no log."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from carnivore_db.conversation import logs, messages, scenarios, sessions
from carnivore_db.errors import InvalidInput
from tests.conversation.arguments import good_arguments
from tests.conversation.samples import SERVICE, sign_up, tidy
from tests.support.bad_input import Good, any_value
from tests.support.callers import Caller
from tests.support.databases import TestDatabase
from tests.support.hostile import MARK, NASTY_OBJECTS, NASTY_TEXTS, attempt, logged

# Types of events that an example has added would stay for the area's other tests.
TIDY = """
    SET session_replication_role = replica;
    DELETE FROM conversation.logs WHERE NOT event_type = ANY(%(before)s);
    DELETE FROM conversation.event_types WHERE NOT code = ANY(%(before)s);
"""


@pytest.fixture(scope="module")
def good(module_caller: Caller, area_database: TestDatabase) -> Iterator[Good]:
    tidy(area_database)  # an earlier example may have retired a scene, or changed a limit
    with area_database.connect(autocommit=True) as owner:
        before = [code for (code,) in owner.execute("SELECT code FROM conversation.event_types")]
        owner.row_factory = dict_row
        yield good_arguments(module_caller, owner)
        for statement in TIDY.split(";\n"):
            if statement.strip():
                owner.execute(statement, {"before": before} if "before" in statement else None)


# What these say depends on two arguments, or on what an earlier example has done to the row.
OF_SEVERAL = {"messages_role_chat_type_valid", "deleted_at_with_erased"}


@settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(data=st.data())
def test_any_value_is_taken_or_refused_by_name(
    module_caller: Caller, good: Good, data: st.DataObject
) -> None:
    name, error = any_value(module_caller, good, data)
    if isinstance(error, InvalidInput) and error.rule not in OF_SEVERAL:
        assert error.field.split(".")[0] == name


@settings(deadline=None, max_examples=50)
@given(facts=st.dictionaries(st.text(), NASTY_OBJECTS, max_size=3))
def test_any_facts_are_kept_and_found_or_refused(
    module_caller: Caller, good: Good, facts: dict[str, Any]
) -> None:
    assert good
    written = []
    error = attempt(
        lambda: written.append(
            module_caller.call(SERVICE, logs.write, "info", "unknown_error", metadata=facts)
        )
    )
    if error is None:
        found = module_caller.call(
            SERVICE, logs.search, metadata=facts, event_type="unknown_error", limit=1000
        )
        assert written[0] in {event.id for event in found.rows}
    else:
        assert isinstance(error, InvalidInput)
        assert error.field.split(".")[0] == "metadata"


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


def test_what_is_said_is_never_logged(module_caller: Caller, good: Good, area_database: TestDatabase) -> None:
    with area_database.connect(autocommit=True) as owner:
        owner.row_factory = dict_row
        person = sign_up(owner, f"{MARK}{uuid4().hex}@example.com")
    assert good
    module_caller.call(SERVICE, scenarios.offer, "party", is_active=True)
    playing = module_caller.call(SERVICE, sessions.start, person.id, "party")
    with logged() as lines:
        sent = module_caller.call(SERVICE, messages.send, playing.id, MARK, role="main_assistant")
        page = module_caller.call(SERVICE, messages.page, playing.id)
        module_caller.call(SERVICE, logs.write, "info", "unknown_error", metadata={MARK: MARK})
        found = module_caller.call(SERVICE, logs.search, metadata={MARK: MARK})
    assert found.rows
    assert any("BEGIN" in line for line in lines)
    for said in (*lines, repr(sent), repr(page), repr(page.rows), repr(found), repr(person.identity)):
        assert MARK not in said
