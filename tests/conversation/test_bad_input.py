"""Bad input, field by field: the rule and the field by name, the value nowhere."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

import carnivore_db.conversation
from carnivore_db import Database
from carnivore_db.conversation import jobs, limits, logs, messages, profiles, scenarios, sessions
from carnivore_db.errors import InvalidInput
from tests.conversation.arguments import good_arguments
from tests.conversation.samples import LONG_AGO, NOBODY, SERVICE
from tests.support.bad_input import (
    BAD_ADDRESSES,
    BAD_LIMITS,
    BAD_TEXTS,
    BAD_UUIDS,
    Bad,
    Good,
    check,
    refused,
)
from tests.support.callers import Caller
from tests.support.databases import TestDatabase
from tests.support.hostile import BAD_OBJECTS, MARK, attempt

NAIVE = datetime(2026, 2, 14)  # noqa: DTZ001 - that is what is tested
NO_MOMENTS: Bad = {
    "timezone_aware": [NAIVE],
    "datetime_from_date_parsing": [MARK],
    "datetime_type": [[MARK]],
}
NO_BOOLEANS: Bad = {"bool_parsing": [MARK], "bool_type": [[MARK]]}
NO_CODES: Bad = {
    "string_pattern_mismatch": [
        "",
        MARK,
        f"A{MARK}",
        f"_{MARK}",
        f"x{MARK}!",
        f"x{MARK}\n",
        f"x{MARK}\0",
        f"ä{MARK}",
    ],
    "string_too_long": [f"x{MARK * 5}"],
    "string_type": [5, [MARK], MARK.encode()],
    "string_unicode": [f"x{MARK}\ud800"],
}


@pytest.fixture(scope="module")
def good(module_caller: Caller, area_database: TestDatabase) -> Iterator[Good]:
    with area_database.connect(autocommit=True) as owner:
        owner.row_factory = dict_row
        yield good_arguments(module_caller, owner)


def taking(good: Good, name: str) -> list[Any]:
    """The functions that take an argument of this name."""
    return [function for function, given in good.items() if name in given]


def test_no_function_that_takes_input_is_left_out(good: Good) -> None:
    """`validated` wraps them all; jobs have tests of their own."""
    found: set[Callable[..., Any]] = set()
    for module in pkgutil.iter_modules(carnivore_db.conversation.__path__, "carnivore_db.conversation."):
        for _, function in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
            of_the_chat = function.__module__ == module.name and not function.__name__.startswith("_")
            if of_the_chat and set(inspect.signature(function).parameters) - {"tx"}:
                found.add(function)
    assert found - {jobs.run} == set(good)
    assert len(found) > 20
    for function, given in good.items():
        assert list(given) == [name for name in inspect.signature(function).parameters if name != "tx"]


def test_the_arguments_are_good_before_they_are_broken(caller: Caller, owner: psycopg.Connection) -> None:
    for function, given in good_arguments(caller, owner).items():
        assert attempt(lambda function=function, given=given: caller.call(SERVICE, function, **given)) is None


@pytest.mark.parametrize("field", ["user_id", "session_id", "client_message_id"])
def test_an_id_that_is_no_uuid(module_caller: Caller, good: Good, field: str) -> None:
    functions = taking(good, field)
    assert functions
    check(module_caller, good, functions, field, BAD_UUIDS)


def test_an_address_that_is_none(module_caller: Caller, good: Good) -> None:
    check(module_caller, good, (profiles.find_by_email, profiles.change_email), "email", BAD_ADDRESSES)


@pytest.mark.parametrize("field", ["code", "scenario", "event_type"])
def test_a_code_that_is_none(module_caller: Caller, good: Good, field: str) -> None:
    functions = taking(good, field)
    assert len(functions) >= 2
    check(module_caller, good, functions, field, NO_CODES)


@pytest.mark.parametrize(
    ("function", "field", "length", "filled"),
    [
        (scenarios.add, "title", 200, True),
        (scenarios.add, "emoji", 16, True),
        (scenarios.add, "initial_message_main", 8000, True),
        (scenarios.add, "initial_message_helper", 8000, True),
        (logs.add_event_type, "description", 200, True),
        (messages.send, "content", 8000, False),
    ],
)
def test_text_that_is_blank_long_or_cannot_be_kept(
    module_caller: Caller, good: Good, function: Callable[..., Any], field: str, length: int, *, filled: bool
) -> None:
    bad = {**BAD_TEXTS, "string_too_long": [(MARK * 1000)[: length + 1]]}
    if filled:
        bad["not_empty"] = ["", " \n\t"]
    check(module_caller, good, [function], field, bad)


def test_an_emoji_of_too_many_bytes_is_the_databases_to_refuse(module_caller: Caller, good: Good) -> None:
    check(module_caller, good, [scenarios.add], "emoji", {"emoji_length": ["🥨" * 5, MARK + "ä" * 3]})


@pytest.mark.parametrize(
    ("field", "function"),
    [
        ("is_active", scenarios.offer),
        ("newest_first", messages.page),
        ("enforced", limits.change),
    ],
)
def test_a_yes_or_no_that_is_neither(
    module_caller: Caller, good: Good, field: str, function: Callable[..., Any]
) -> None:
    check(module_caller, good, [function], field, NO_BOOLEANS)


@pytest.mark.parametrize(
    ("function", "field", "lowest", "highest"),
    [(scenarios.add, "sort_order", -(2**15), 2**15 - 1), (limits.change, "allowed", 1, 100_000)],
)
def test_a_number_out_of_bounds(
    module_caller: Caller, good: Good, function: Callable[..., Any], field: str, lowest: int, highest: int
) -> None:
    bad: Bad = {
        "int_type": ["5", 5.0, True, MARK, [1]],
        "greater_than_equal": [lowest - 1, -(2**70)],
        "less_than_equal": [highest + 1, 2**70],
    }
    check(module_caller, good, [function], field, bad)


def test_a_span_out_of_bounds(module_caller: Caller, good: Good) -> None:
    bad: Bad = {
        "greater_than_equal": [timedelta(0), timedelta(microseconds=999_999), timedelta.min],
        "less_than_equal": [timedelta(days=7, microseconds=1), timedelta.max],
        "time_delta_type": [[MARK]],
    }
    check(module_caller, good, [limits.change], "per", bad)


@pytest.mark.parametrize(
    ("field", "function"),
    [
        ("limit", limits.change),
        ("role", messages.send),
        ("chat_type", messages.send),
        ("chat_type", messages.page),
        ("level", logs.write),
        ("level", logs.search),
    ],
)
def test_a_choice_that_there_is_not(
    module_caller: Caller, good: Good, field: str, function: Callable[..., Any]
) -> None:
    check(
        module_caller, good, [function], field, {"literal_error": [MARK, "", "Main", "scenario", 5, [MARK]]}
    )


@pytest.mark.document(13, 14)
@pytest.mark.parametrize(("role", "chat_type"), [("main_assistant", "helper"), ("helper_assistant", "main")])
def test_a_role_in_the_wrong_chat(module_caller: Caller, good: Good, role: str, chat_type: str) -> None:
    given = {**good[messages.send], "role": role, "chat_type": chat_type, "content": MARK}
    error = attempt(lambda: module_caller.call(SERVICE, messages.send, **given))
    assert isinstance(error, InvalidInput)
    assert (error.field, error.rule) == ("role", "messages_role_chat_type_valid")


def test_an_event_of_no_type_is_refused(module_caller: Caller, good: Good) -> None:
    check(module_caller, good, [logs.write], "event_type", {"logs_event_type_fkey": [f"x{MARK}"]})


def test_a_page_that_is_too_large_or_none(module_caller: Caller, good: Good) -> None:
    check(module_caller, good, (sessions.history, messages.page, logs.search), "limit", BAD_LIMITS)


@pytest.mark.parametrize(
    ("field", "function"), [("sent_at", messages.send), ("created_at", logs.write), ("since", logs.search)]
)
def test_a_moment_that_is_none(
    module_caller: Caller, good: Good, field: str, function: Callable[..., Any]
) -> None:
    check(module_caller, good, [function], field, NO_MOMENTS)


@pytest.mark.parametrize("function", [sessions.history, messages.page, logs.search])
def test_a_cursor_is_a_moment_and_an_id(
    module_caller: Caller, good: Good, function: Callable[..., Any]
) -> None:
    for value in (
        MARK,
        5,
        (LONG_AGO,),
        (LONG_AGO, MARK),
        (MARK, NOBODY),
        (NAIVE, NOBODY),
        (LONG_AGO, NOBODY, 1),
    ):
        error = refused(module_caller, good, function, "after", value)
        assert isinstance(error, InvalidInput), value
        assert error.field.split(".")[0] == "after"


@pytest.mark.parametrize("year", [1, 9999])
@pytest.mark.parametrize(
    ("field", "function"),
    [("after", sessions.history), ("after", messages.page), ("after", logs.search), ("since", logs.search)],
)
def test_a_cursor_may_lie_at_the_ends_of_time(
    module_caller: Caller, good: Good, field: str, function: Callable[..., Any], year: int
) -> None:
    moment = datetime(year, 6, 1, tzinfo=UTC)
    value = moment if field == "since" else (moment, UUID(int=0))
    assert refused(module_caller, good, function, field, value) is None


@pytest.mark.parametrize("rule", BAD_OBJECTS)
@pytest.mark.parametrize("function", [logs.write, logs.search])
def test_facts_that_json_cannot_hold(
    module_caller: Caller, good: Good, function: Callable[..., Any], rule: str
) -> None:
    check(module_caller, good, [function], "metadata", {rule: BAD_OBJECTS[rule]})


def test_facts_at_their_largest(module_caller: Caller, good: Good) -> None:
    room = 64 * 1024 - len('{"a": ""}')
    assert refused(module_caller, good, logs.write, "metadata", {"a": "x" * room}) is None
    check(
        module_caller,
        good,
        [logs.write],
        "metadata",
        {"json_size": [{"a": MARK + "x" * (room + 1 - len(MARK))}]},
    )


def test_a_job_that_there_is_not(area_database: TestDatabase) -> None:
    db = Database(area_database.migrator_url)
    for field, rule, values in (
        ("job", "literal_error", [MARK, "", None, 5]),
        ("batch", "int_type", ["5", 5.0, True, None]),
        ("batch", "greater_than_equal", [0, -1]),
        ("batch", "less_than_equal", [100_001, 2**70]),
    ):
        for value in values:
            given: dict[str, Any] = {"job": "reset_weekly_limits", "batch": 5, field: value}
            with pytest.raises(InvalidInput) as caught:
                jobs.run(db.engine, **given)
            assert (caught.value.field, caught.value.rule) == (field, rule)
            assert MARK not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"
    db.close()


def test_an_argument_given_by_position_is_named_too(module_caller: Caller, good: Good) -> None:
    given = good[messages.send]
    error = attempt(lambda: module_caller.call(SERVICE, messages.send, given["session_id"], [MARK]))
    assert isinstance(error, InvalidInput)
    assert error.field == "content"


def test_a_call_that_is_wrong_is_no_bad_input(module_caller: Caller, good: Good) -> None:
    for call in (
        lambda: module_caller.call(SERVICE, sessions.start, NOBODY),
        lambda: module_caller.call(SERVICE, sessions.get, NOBODY, nothing=MARK),
    ):
        with pytest.raises(TypeError) as caught:
            call()
        assert MARK not in str(caught.value)
