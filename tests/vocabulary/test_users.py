"""Learners: registered, found, changed and erased with all that is theirs."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from carnivore_db import errors, identity
from carnivore_db.vocabulary import exports, progress, sessions, users
from carnivore_db.vocabulary.models import User
from carnivore_db.vocabulary.payloads import Profile
from tests.support.callers import Caller
from tests.vocabulary.samples import (
    NOBODY,
    NOON,
    SERVICE,
    new_learner,
    set_key,
    start_session,
    themselves,
)

PROFILE = {
    "username": "Ada_1815",
    "full_name": "Ada Lovelace",
    "avatar_url": "https://example.com/ada.png",
    "spanish_level": "advanced",
    "profile_completed": True,
    "theme": "dark",
    "language": "es",
    "default_description_style": "poetico",
    "target_words_per_day": 100,
    "preferred_difficulty": "intermediate",
    "enable_notifications": False,
}
DEFAULTS = {
    "username": None,
    "full_name": None,
    "avatar_url": None,
    "spanish_level": "beginner",
    "profile_completed": False,
    "theme": "light",
    "language": "en",
    "default_description_style": "conversacional",
    "target_words_per_day": 10,
    "preferred_difficulty": "beginner",
    "enable_notifications": True,
}
# All that is a learner's, by table.
THEIRS = ("users", "sessions", "user_api_keys", "user_progress", "export_history")


def profile_of(user: User) -> dict[str, Any]:
    return {name: getattr(user, name) for name in PROFILE}


def test_a_learner_is_stored_as_given(caller_of_each_shape: Caller) -> None:
    for given, stored in ((PROFILE, PROFILE), ({}, DEFAULTS)):
        key = uuid4()
        email = f" {key}@Example.COM "
        made = caller_of_each_shape.call(SERVICE, users.register, key, email, Profile(**given))
        found = caller_of_each_shape.call(SERVICE, users.get, key)
        assert (made.id, found.id, found.email) == (key, key, f"{key}@example.com")
        assert profile_of(made) == profile_of(found) == stored
        assert (found.is_authenticated, found.last_login) == (False, None)
        assert found.created_at == found.updated_at == made.created_at


def test_a_new_learner_has_a_row_of_progress(caller: Caller) -> None:
    ada = new_learner(caller)
    begun = caller.call(SERVICE, progress.get, ada.id)
    assert (begun.user_id, begun.total_sessions, begun.last_activity_at) == (ada.id, 0, None)


def test_a_person_registers_under_the_address_they_logged_in_with(caller: Caller) -> None:
    key = uuid4()
    who = identity.user(key, "Ada@Example.com")
    for other in ((uuid4(), "ada@example.com"), (key, "eve@example.com")):
        with pytest.raises(errors.PermissionRefused):
            caller.call(who, users.register, *other)
    made = caller.call(who, users.register, key, "aDa@example.com", Profile(theme="auto"))
    assert (made.email, made.theme) == ("ada@example.com", "auto")
    assert caller.call(who, users.get, key).id == key


def test_what_must_be_unique_is_named(caller: Caller) -> None:
    ada = new_learner(caller, "ada@example.com", username="ada")
    for given, rule in (
        ((ada.id, "eve@example.com", Profile(username="eve")), "users_pkey"),
        ((uuid4(), "ADA@example.com", Profile(username="eve")), "users_email_key"),
        ((uuid4(), "eve@example.com", Profile(username="ada")), "users_username_key"),
    ):
        with pytest.raises(errors.AlreadyExists) as caught:
            caller.call(SERVICE, users.register, *given)
        assert caught.value.rule == rule
    caller.call(SERVICE, users.register, uuid4(), "eve@example.com", Profile(username="eve"))


def test_an_address_finds_its_learner_in_any_case(caller: Caller) -> None:
    ada = new_learner(caller, "ada@example.com")
    new_learner(caller, "eve@example.com")
    for who in (SERVICE, themselves(ada)):
        found = caller.call(who, users.find_by_email, "ADA@Example.com")
        assert found is not None
        assert found.id == ada.id
    for email in ("nobody@example.com", "ada@example.co"):
        assert caller.call(SERVICE, users.find_by_email, email) is None


def test_a_profile_changes_what_was_given_alone(caller: Caller) -> None:
    ada = new_learner(caller, **PROFILE)
    changed = caller.call(
        themselves(ada), users.save_profile, ada.id, Profile(theme="light", full_name=None, avatar_url=None)
    )
    assert profile_of(changed) == {**PROFILE, "theme": "light", "full_name": None, "avatar_url": None}
    assert changed.updated_at > changed.created_at == ada.created_at
    assert profile_of(caller.call(SERVICE, users.get, ada.id)) == profile_of(changed)


def test_an_empty_profile_changes_nothing(caller: Caller) -> None:
    ada = new_learner(caller, **PROFILE)
    same = caller.call(themselves(ada), users.save_profile, ada.id, Profile())
    assert (profile_of(same), same.updated_at) == (PROFILE, ada.updated_at)


def test_a_name_that_is_taken_stays_with_its_learner(caller: Caller) -> None:
    new_learner(caller, username="ada")
    eve = new_learner(caller, username="eve")
    with pytest.raises(errors.AlreadyExists) as caught:
        caller.call(themselves(eve), users.save_profile, eve.id, Profile(username="ada"))
    assert caught.value.rule == "users_username_key"
    assert caller.call(SERVICE, users.get, eve.id).username == "eve"


def test_an_address_follows_the_logins(caller: Caller) -> None:
    ada, eve = new_learner(caller, "ada@example.com"), new_learner(caller, "eve@example.com")
    assert caller.call(SERVICE, users.change_email, ada.id, "Ada@Lovelace.org").email == "ada@lovelace.org"
    with pytest.raises(errors.AlreadyExists):
        caller.call(SERVICE, users.change_email, eve.id, "ada@lovelace.org")
    assert caller.call(SERVICE, users.get, eve.id).email == "eve@example.com"


def test_a_login_is_noted(caller: Caller) -> None:
    ada = new_learner(caller)
    first = caller.call(SERVICE, users.record_login, ada.id)
    assert first.is_authenticated
    assert first.last_login is not None
    again = caller.call(SERVICE, users.record_login, ada.id)
    assert again.last_login is not None
    assert first.created_at < first.last_login < again.last_login


def test_a_profile_of_a_learner_that_there_is_not(caller: Caller) -> None:
    """Nothing is changed of a row, and is missed all the same."""
    with pytest.raises(errors.UserNotFound):
        caller.call(SERVICE, users.save_profile, NOBODY, Profile())


def with_everything(caller: Caller) -> User:
    """A learner with an ended session, an open one, a key and an export."""
    learner = new_learner(caller)
    for ends in (NOON + timedelta(minutes=5), None):
        made = start_session(caller, learner.id)
        if ends:
            caller.call(SERVICE, sessions.end, made.id, ended_at=ends)
    set_key(caller, learner.id)
    caller.call(SERVICE, exports.request, learner.id, "csv")
    return learner


def test_erasing_takes_all_that_is_a_learners_and_nothing_else(
    caller: Caller, owner: psycopg.Connection
) -> None:
    ada, eve = with_everything(caller), with_everything(caller)
    start_session(caller, None)

    def left(learner: User) -> dict[str, int]:
        return {
            table: len(
                owner.execute(
                    f"SELECT FROM vocabulary.{table} WHERE {'id' if table == 'users' else 'user_id'} = %s",
                    [learner.id],
                ).fetchall()
            )
            for table in THEIRS
        }

    assert left(ada) == left(eve) == {**dict.fromkeys(THEIRS, 1), "sessions": 2}
    caller.call(SERVICE, users.erase, ada.id)
    assert left(ada) == dict.fromkeys(THEIRS, 0)
    assert left(eve) == {**dict.fromkeys(THEIRS, 1), "sessions": 2}
    assert caller.call(SERVICE, progress.recompute, eve.id) == []
    with pytest.raises(errors.UserNotFound):
        caller.call(SERVICE, users.erase, ada.id)


def test_neither_a_learner_nor_a_profile_prints_a_name(caller: Caller) -> None:
    ada = new_learner(caller, "ada@example.com", **PROFILE)
    shown = f"{ada} {ada!r} {Profile(**PROFILE)} {Profile(**PROFILE)!r}"
    assert "Lovelace" not in shown
    assert "ada@" not in shown
