"""Bad input, field by field: the rule and the field by name, the value nowhere."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carnivore_db.errors import InvalidInput
from carnivore_db.kit.paging import Cursor
from carnivore_db.vocabulary import exports, progress, sessions, users
from carnivore_db.vocabulary.keys import api_keys
from tests.support.bad_input import (
    BAD_ADDRESSES,
    BAD_LIMITS,
    BAD_TEXTS,
    BAD_UUIDS,
    Bad,
    Good,
    any_value,
    check,
    refused,
)
from tests.support.callers import Caller
from tests.support.hostile import BAD_OBJECTS, MARK, NASTY_OBJECTS, attempt
from tests.vocabulary.arguments import good_arguments
from tests.vocabulary.samples import KEYS, NOON, SERVICE, new_learner, start_session

NAIVE = datetime(2026, 2, 14)  # noqa: DTZ001 - that is what is tested
FAR = [datetime(year, 12, 31, tzinfo=UTC) for year in (1, 1999, 2100, 9999)]
NO_MOMENTS: Bad = {
    "timezone_aware": [NAIVE],
    "datetime_from_date_parsing": [MARK],
    "datetime_type": [[MARK]],
}
NO_COUNTS: Bad = {
    "int_type": ["5", 5.0, True, MARK, [1]],
    "greater_than_equal": [-1, -(2**70)],
}


@pytest.fixture(scope="module")
def good(module_caller: Caller) -> Good:
    return good_arguments(module_caller, new_learner(module_caller))


def taking(good: Good, name: str) -> list[Any]:
    """The functions that take an argument of this name."""
    return [function for function, given in good.items() if name in given]


@pytest.mark.parametrize("field", ["user_id", "session_id", "export_id"])
def test_an_id_that_is_no_uuid(module_caller: Caller, good: Good, field: str) -> None:
    functions = taking(good, field)
    assert len(functions) >= 2
    check(module_caller, good, functions, field, BAD_UUIDS)


def test_an_address_that_is_none(module_caller: Caller, good: Good) -> None:
    functions = (users.register, users.find_by_email, users.change_email)
    check(module_caller, good, functions, "email", BAD_ADDRESSES)


LITERALS: Bad = {"literal_error": [MARK, "", "Beginner", None, 5]}
TEXT_RULES: Bad = {**BAD_TEXTS, "string_pattern_mismatch": [f"ftp://{MARK}", f"https://{MARK} x", MARK, ""]}
PROFILE: dict[str, Bad] = {
    "username": {
        "string_pattern_mismatch": [
            "ab",
            "",
            f"{MARK}!",
            f"{MARK}\n",
            MARK * 5,
            f"{MARK}\u00e4",
            f"{MARK}\0",
        ],
        "string_type": [5, [MARK]],
        "string_unicode": [MARK + "\ud800"],
    },
    "full_name": {
        **BAD_TEXTS,
        "not_empty": ["", " \n\t"],
        "string_too_short": ["x"],
        "string_too_long": [(MARK * 30)[:256]],
    },
    "avatar_url": {**TEXT_RULES, "string_too_long": [f"https://{MARK * 200}"]},
    "target_words_per_day": {**NO_COUNTS, "greater_than_equal": [0, -1], "less_than_equal": [101, 2**70]},
    "profile_completed": {"bool_parsing": [MARK], "bool_type": [None, [MARK]]},
    "enable_notifications": {"bool_parsing": [MARK], "bool_type": [None, [MARK]]},
    **dict.fromkeys(
        ("spanish_level", "theme", "language", "default_description_style", "preferred_difficulty"), LITERALS
    ),
}


@pytest.mark.parametrize("key", PROFILE)
def test_a_profile_names_the_key_that_is_wrong(module_caller: Caller, good: Good, key: str) -> None:
    functions = (users.register, users.save_profile)
    check(module_caller, good, functions, "profile", PROFILE[key], within=key)


COUNTS = (
    "images_processed",
    "descriptions_generated",
    "qa_attempts",
    "qa_correct",
    "vocabulary_learned",
    "phrases_saved",
)


@pytest.mark.parametrize("key", COUNTS)
def test_work_names_the_number_that_is_wrong(module_caller: Caller, good: Good, key: str) -> None:
    bad = {**NO_COUNTS, "less_than_equal": [100_001, 2**31, 2**70]}
    check(module_caller, good, (sessions.save, sessions.end), "work", bad, within=key)


@pytest.mark.parametrize("key", ["engagement_score", "completion_rate"])
def test_a_share_out_of_bounds(module_caller: Caller, good: Good, key: str) -> None:
    bad = {
        "greater_than_equal": [-0.01, float("-inf")],
        "less_than_equal": [1.01, float("inf"), 10**300, float("nan")],
        "float_type": [[MARK]],
        "float_parsing": [MARK],
    }
    check(module_caller, good, (sessions.save, sessions.end), "work", bad, within=key)


def test_a_key_that_there_is_not_is_not_repeated(module_caller: Caller, good: Good) -> None:
    bad: Bad = {"extra_forbidden": [{"user_id": MARK}, {MARK: None}, {MARK: 5}]}
    check(module_caller, good, (sessions.save, sessions.end), "work", bad)
    check(module_caller, good, (users.register, users.save_profile), "profile", bad)
    check(module_caller, good, [exports.request], "filters", bad)


def test_filters_name_the_key_that_is_wrong(module_caller: Caller, good: Good) -> None:
    for key in ("since", "until"):
        check(module_caller, good, [exports.request], "filters", NO_MOMENTS, within=key)
    bad: Bad = {"list_type": [MARK, 5]}
    check(module_caller, good, [exports.request], "filters", bad, within="session_types")
    error = refused(module_caller, good, exports.request, "filters", {"session_types": ["qa", MARK]})
    assert isinstance(error, InvalidInput)
    assert (error.field, error.rule) == ("filters.session_types.1", "literal_error")


def test_material_that_is_no_object_or_cannot_be_kept(module_caller: Caller, good: Good) -> None:
    check(module_caller, good, [sessions.save], "session_data", BAD_OBJECTS)
    large = {"a": MARK * 5500}
    error = refused(module_caller, good, sessions.save, "session_data", large)
    assert isinstance(error, InvalidInput)
    assert (error.field, error.rule) == ("session_data", "json_size")


@pytest.mark.parametrize("key", ["vocabulary", "phrases"])
def test_a_word_of_the_wrong_type_is_named(module_caller: Caller, good: Good, key: str) -> None:
    no_words: list[Any] = [MARK, {MARK: 1}, [MARK], [{}], [{"word": ""}], [{"word": 5}]]
    no_words += [[{"word": MARK * 50}], [{"word": "a", "translation": MARK * 50}]]
    no_words += [[{"word": "a", "example": MARK * 200}], [{"word": "a"}, {"word": None}]]
    for value in no_words:
        error = refused(module_caller, good, sessions.save, "session_data", {"other": 1, key: value})
        assert isinstance(error, InvalidInput)
        assert (error.field, error.rule) == (f"session_data.{key}", "payload")


def test_a_choice_that_there_is_not(module_caller: Caller, good: Good) -> None:
    for functions, field in (
        ([sessions.start], "session_type"),
        ([api_keys.set, api_keys.get, api_keys.remove], "provider"),
        ([exports.request], "export_type"),
    ):
        check(module_caller, good, functions, field, LITERALS)
    some = {"literal_error": [MARK, "", "QA", 5]}
    check(module_caller, good, [sessions.correct], "session_type", some)
    check(module_caller, good, [exports.list_by_status], "status", some)


def test_a_limit_out_of_bounds(module_caller: Caller, good: Good) -> None:
    functions = taking(good, "limit")
    assert len(functions) == 4
    check(module_caller, good, functions, "limit", BAD_LIMITS)


def test_a_number_out_of_bounds(module_caller: Caller, good: Good) -> None:
    bad = {**NO_COUNTS, "less_than_equal": [2**31, 2**70]}
    check(module_caller, good, [progress.award_points], "points", {**bad, "int_type": [None, "5", True]})
    for field in ("mastered", "learning", "new"):
        check(module_caller, good, [progress.save_words], field, bad)
    minutes = {**NO_COUNTS, "less_than_equal": [100_001, 2**70]}
    check(module_caller, good, (sessions.end, sessions.correct), "duration_minutes", minutes)


def test_a_moment_out_of_bounds(module_caller: Caller, good: Good) -> None:
    starts = (sessions.start, sessions.correct)
    check(module_caller, good, starts, "started_at", NO_MOMENTS)
    check(module_caller, good, [sessions.start], "started_at", {"started_at_in_range": FAR})
    ends = (sessions.end, sessions.correct)
    check(module_caller, good, ends, "ended_at", {**NO_MOMENTS, "ended_at_in_range": FAR})


def test_a_moment_corrected_out_of_bounds_is_named(module_caller: Caller) -> None:
    """Of an open session: an ended one names its end, which lies before its new beginning."""
    made = start_session(module_caller, None)
    for moment in FAR:
        error = attempt(
            lambda moment=moment: module_caller.call(SERVICE, sessions.correct, made.id, started_at=moment)
        )
        assert isinstance(error, InvalidInput)
        assert (error.field, error.rule) == ("started_at", "started_at_in_range")


def test_a_cursor_is_a_moment_and_an_id(module_caller: Caller, good: Good) -> None:
    wrong = (MARK, 5, (NOON,), (NOON, MARK), (MARK, uuid4()), (NAIVE, uuid4()), (NOON, uuid4(), 1), {"id": 1})
    for after in wrong:
        error = refused(module_caller, good, sessions.list_by_user, "after", after)
        assert isinstance(error, InvalidInput)
        assert error.field.startswith("after")


@pytest.mark.parametrize(("year", "hours"), [(1, 14), (1, 0), (9999, 0), (9999, -14)])
def test_a_cursor_may_lie_at_the_ends_of_time(
    module_caller: Caller, good: Good, year: int, hours: int
) -> None:
    """In these zones the moment lies in a year that Python does not have."""
    day = (1, 1, 0) if year == 1 else (12, 31, 23)
    after = Cursor(datetime(year, *day, tzinfo=timezone(timedelta(hours=hours))), UUID(int=0))
    user_id = good[sessions.list_by_user]["user_id"]
    listed = module_caller.call(SERVICE, sessions.list_by_user, user_id, after=after)
    assert bool(listed.rows) is (year == 9999)


def test_text_that_is_long_or_cannot_be_kept(module_caller: Caller, good: Good) -> None:
    bad = {**BAD_TEXTS, "string_too_long": [(MARK * 5)[:51]]}
    check(module_caller, good, [sessions.start], "device_type", bad)


def test_what_is_no_keyring_or_no_check(module_caller: Caller, good: Good) -> None:
    no_keyring: Bad = {"is_instance_of": [None, MARK, KEYS, 5]}
    check(module_caller, good, (api_keys.set, api_keys.get, api_keys.validate), "keyring", no_keyring)
    check(module_caller, good, [api_keys.validate], "check", {"callable_type": [None, MARK, 5]})


def test_an_argument_given_by_position_is_named_too(module_caller: Caller, good: Good) -> None:
    learner = good[progress.award_points]["user_id"]
    error = attempt(lambda: module_caller.call(SERVICE, progress.award_points, learner, MARK))
    assert isinstance(error, InvalidInput)
    assert error.field == "points"


# What these say depends on the row as an earlier example left it, and not on the value alone.
OF_THE_ROW = {"ended_at_in_range", "duration_minutes_in_range"}


@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(data=st.data())
def test_any_value_is_taken_or_refused_by_name(
    module_caller: Caller, good: Good, data: st.DataObject
) -> None:
    name, error = any_value(module_caller, good, data)
    too_many_points = name == "points" and isinstance(error, InvalidInput) and error.field == "value"
    if isinstance(error, InvalidInput) and error.rule not in OF_THE_ROW and not too_many_points:
        assert error.field.split(".")[0] == name


@settings(deadline=None, max_examples=30)
@given(material=st.dictionaries(st.text(), NASTY_OBJECTS, max_size=3))
def test_any_object_is_kept_or_refused(module_caller: Caller, material: dict[str, Any]) -> None:
    made = start_session(module_caller, None)
    error = attempt(lambda: module_caller.call(SERVICE, sessions.save, made.id, session_data=material))
    if error is None:
        assert set(module_caller.call(SERVICE, sessions.get, made.id).session_data) == set(material)
    else:
        assert isinstance(error, InvalidInput)
        assert error.field.split(".")[0] == "session_data"
