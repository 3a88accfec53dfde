"""Whom the functions of all areas refuse, and what they say of a row that there is not."""

from typing import Any
from uuid import UUID

import pytest

from carnivore_db import errors
from carnivore_db.conversation import logs, messages, scenarios
from carnivore_db.conversation import sessions as plays
from carnivore_db.kit.paging import Page
from carnivore_db.vocabulary import exports, users
from carnivore_db.vocabulary import sessions as lessons
from carnivore_db.vocabulary.keys import api_keys
from carnivore_db.weekly import access_log, assessments, calculator, reports
from tests.support.bad_input import SERVICE, Function, Good
from tests.support.callers import Caller
from tests.support.databases import TestDatabase
from tests.support.rows import contents
from tests.weekly.samples import VISITOR

# With the token of a report or of a form.
VISITORS = {reports.open, reports.check, calculator.resume, calculator.save, calculator.choose_tier}
NOT_FOUND: dict[tuple[str, str], type[errors.CarnivoreError]] = {
    ("weekly", "session_id"): errors.SessionNotFound,
    ("weekly", "assessment_id"): errors.SessionNotFound,
    ("weekly", "report_id"): errors.ReportNotFound,
    ("vocabulary", "user_id"): errors.UserNotFound,
    ("vocabulary", "session_id"): errors.SessionNotFound,
    ("vocabulary", "export_id"): errors.ExportNotFound,
    ("conversation", "user_id"): errors.ProfileNotFound,
    ("conversation", "session_id"): errors.SessionNotFound,
    ("conversation", "code"): errors.ScenarioNotFound,
    ("conversation", "scenario"): errors.ScenarioNotFound,
}
NOTHING: Page[Any] = Page([], None)
# What looks for rows finds none.
ANSWERS: dict[tuple[Function, str], object] = {
    (access_log.history, "report_id"): NOTHING,
    (access_log.counts_per_day, "report_id"): {},
    (lessons.list_by_user, "user_id"): NOTHING,
    (exports.list_by_user, "user_id"): [],
    (api_keys.status, "user_id"): api_keys.KeyStatus((), is_active=True, last_validated_at=None),
    **{
        (function, "user_id"): errors.ApiKeyNotFound
        for function in (api_keys.get, api_keys.validate, api_keys.disable, api_keys.remove)
    },
    (plays.find_open, "user_id"): None,
    (plays.history, "user_id"): NOTHING,
    (plays.history, "scenario"): NOTHING,
    (messages.page, "session_id"): NOTHING,
    (logs.search, "user_id"): NOTHING,
    (logs.search, "session_id"): NOTHING,
}
# The id, or the code, is a new row's.
NEW = {
    (assessments.submit, "assessment_id"),
    (users.register, "user_id"),
    (lessons.start, "session_id"),
    (scenarios.add, "code"),
    (logs.add_event_type, "code"),
}


def test_a_visitor_does_nothing_without_a_token(
    module_caller: Caller, good: Good, area_database: TestDatabase
) -> None:
    def rows() -> dict[str, list[str]]:
        with area_database.connect() as connection:
            return contents(connection)

    before = rows()
    for function, given in good.items():
        if function not in VISITORS:
            with pytest.raises(errors.PermissionRefused):
                module_caller.call(VISITOR, function, **given)
    assert rows() == before
    for function in VISITORS:
        module_caller.call(VISITOR, function, **good[function])


@pytest.mark.parametrize(("area", "field"), NOT_FOUND)
def test_a_row_that_there_is_not(module_caller: Caller, good: Good, area: str, field: str) -> None:
    unknown = [2**40, -(2**63)] if area == "weekly" and field != "assessment_id" else [UUID(int=5)]
    tried = 0
    for function, given in good.items():
        of_the_area = function.__module__.startswith(f"carnivore_db.{area}.")
        if not of_the_area or field not in given or (function, field) in NEW:
            continue
        expected = ANSWERS.get((function, field), NOT_FOUND[area, field])
        for value in unknown if field not in {"code", "scenario"} else ["nowhere"]:
            tried += 1
            asked = {**given, field: value}
            if isinstance(expected, type):
                with pytest.raises(expected):
                    module_caller.call(SERVICE, function, **asked)
            else:
                assert module_caller.call(SERVICE, function, **asked) == expected, function
    assert tried
