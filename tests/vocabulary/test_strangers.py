"""Who may call what: the learner themselves, another learner, a visitor. A refused call changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from carnivore_db import errors
from carnivore_db.kit.paging import Page
from carnivore_db.vocabulary import exports, progress, sessions, users
from carnivore_db.vocabulary.keys import api_keys
from carnivore_db.vocabulary.models import User
from tests.support.bad_input import Good
from tests.support.callers import Caller
from tests.support.databases import TestDatabase
from tests.support.rows import contents
from tests.vocabulary.arguments import good_arguments
from tests.vocabulary.samples import SERVICE, new_learner, start_session, themselves, undone

REFUSED = errors.PermissionRefused
NO_KEYS = api_keys.KeyStatus((), is_active=True, last_validated_at=None)
# What another learner gets, given a learner's ids: an error, or nothing to see.
STRANGER: dict[Callable[..., Any], object] = {
    users.register: REFUSED,
    users.get: errors.UserNotFound,
    users.find_by_email: None,
    users.save_profile: errors.UserNotFound,
    users.change_email: REFUSED,
    users.record_login: REFUSED,
    users.erase: REFUSED,
    sessions.start: REFUSED,
    sessions.get: errors.SessionNotFound,
    sessions.list_by_user: Page([], None),
    sessions.save: errors.SessionNotFound,
    sessions.end: errors.SessionNotFound,
    sessions.correct: errors.SessionNotFound,
    sessions.reopen: errors.SessionNotFound,
    sessions.assign: REFUSED,
    sessions.remove: errors.SessionNotFound,
    progress.get: errors.UserNotFound,
    progress.recently_active: [],
    progress.save_words: errors.UserNotFound,
    progress.award_points: REFUSED,
    progress.recompute: REFUSED,
    api_keys.set: REFUSED,
    api_keys.get: errors.ApiKeyNotFound,
    api_keys.status: NO_KEYS,
    api_keys.validate: errors.ApiKeyNotFound,
    api_keys.disable: errors.ApiKeyNotFound,
    api_keys.remove: errors.ApiKeyNotFound,
    exports.request: REFUSED,
    exports.get: errors.ExportNotFound,
    exports.list_by_user: [],
    exports.list_by_status: [],
    exports.retry: errors.ExportNotFound,
}
# What is the service's to do, for the learner too; an erased or new learner is somebody else.
OF_THE_SERVICE = {
    users.register,
    users.change_email,
    users.record_login,
    users.erase,
    sessions.assign,
    progress.award_points,
    progress.recompute,
    api_keys.validate,
}


@pytest.fixture
def ada(caller: Caller) -> User:
    return new_learner(caller)


@pytest.fixture
def good(caller: Caller, ada: User) -> Good:
    return good_arguments(caller, ada)


def all_rows(database: TestDatabase) -> dict[str, list[str]]:
    with database.connect() as connection:
        return contents(connection)


def test_every_function_is_tried(good: Good) -> None:
    assert set(good) == set(STRANGER)


def test_the_service_may_do_everything(caller: Caller, good: Good) -> None:
    for function, given in good.items():
        undone(caller, SERVICE, function, **given)


def test_a_learner_does_what_is_theirs_and_no_more(caller: Caller, ada: User, good: Good) -> None:
    for function, given in good.items():
        if function in OF_THE_SERVICE:
            with pytest.raises(REFUSED):
                undone(caller, themselves(ada), function, **given)
        else:
            undone(caller, themselves(ada), function, **given)


def test_another_learner_neither_sees_nor_changes_anything(
    caller: Caller, good: Good, empty_database: TestDatabase
) -> None:
    eve = themselves(new_learner(caller))
    before = all_rows(empty_database)
    for function, given in good.items():
        expected = STRANGER[function]
        if isinstance(expected, type):
            with pytest.raises(expected):
                caller.call(eve, function, **given)
        else:
            assert caller.call(eve, function, **given) == expected, function
    assert all_rows(empty_database) == before


def test_a_guests_session_is_the_services_alone(caller: Caller) -> None:
    guests = start_session(caller, None)
    learner = themselves(new_learner(caller))
    for function in (sessions.get, sessions.save, sessions.end, sessions.reopen, sessions.remove):
        with pytest.raises(errors.SessionNotFound):
            caller.call(learner, function, guests.id)
    with pytest.raises(REFUSED):
        caller.call(learner, sessions.start, "qa")
    assert caller.call(SERVICE, sessions.get, guests.id).ended_at is None


def test_who_never_registered_has_nothing_and_begins_nothing(caller: Caller, ada: User, good: Good) -> None:
    caller.call(SERVICE, users.erase, ada.id)
    for function in (sessions.start, api_keys.set, exports.request):
        with pytest.raises(errors.UserNotFound):
            caller.call(themselves(ada), function, **good[function])
