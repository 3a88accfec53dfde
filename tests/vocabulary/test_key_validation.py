"""A learner's keys shown to the services: taken, refused, not answered, changed meanwhile."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from carnivore_db import errors
from carnivore_db.vocabulary.keys import api_keys
from carnivore_db.vocabulary.models import Provider, User
from tests.support.callers import Caller
from tests.support.hostile import MARK, attempt
from tests.vocabulary.samples import NEW, SERVICE, new_learner, refused, set_key, taken, themselves

BOTH: tuple[Provider, ...] = ("openai", "anthropic")


@pytest.fixture
def ada(caller: Caller) -> User:
    """A learner with two keys."""
    made = new_learner(caller)
    for provider in BOTH:
        set_key(caller, made.id, provider=provider, key=f"{provider}-{MARK}")
    return made


def row(owner: psycopg.Connection) -> dict[str, Any]:
    found = owner.execute("SELECT * FROM vocabulary.user_api_keys").fetchone()
    assert found is not None
    return found


def test_keys_that_were_all_taken_are_validated_now(caller: Caller, ada: User) -> None:
    asked: dict[str, str] = {}

    def check(provider: Provider, key: SecretStr) -> bool:
        asked[provider] = key.get_secret_value()
        return True

    caller.call(SERVICE, api_keys.disable, ada.id)
    seen = [caller.call(SERVICE, api_keys.validate, NEW, ada.id, check) for _ in range(2)]
    assert seen == [dict.fromkeys(BOTH, True)] * 2
    assert asked == {provider: f"{provider}-{MARK}" for provider in BOTH}
    status = caller.call(SERVICE, api_keys.status, ada.id)
    assert status.is_active
    assert status.last_validated_at is not None
    assert status.last_validated_at > ada.created_at


def test_one_refused_key_disables_them_all(caller: Caller, ada: User) -> None:
    caller.call(SERVICE, api_keys.validate, NEW, ada.id, taken)
    before = caller.call(SERVICE, api_keys.status, ada.id)
    seen = caller.call(SERVICE, api_keys.validate, NEW, ada.id, lambda provider, key: provider == "openai")
    assert seen == {"openai": True, "anthropic": False}
    after = caller.call(SERVICE, api_keys.status, ada.id)
    assert (after.is_active, after.last_validated_at) == (False, before.last_validated_at)
    with pytest.raises(errors.ApiKeyInactive):
        caller.call(SERVICE, api_keys.get, NEW, ada.id, "openai")


def test_a_service_that_does_not_answer_changes_nothing(
    caller: Caller, ada: User, owner: psycopg.Connection
) -> None:
    before = row(owner)

    def check(provider: Provider, key: SecretStr) -> bool:
        if provider == BOTH[-1]:
            raise TimeoutError
        return False

    with pytest.raises(TimeoutError):
        caller.call(SERVICE, api_keys.validate, NEW, ada.id, check)
    assert row(owner) == before


CHANGES: dict[str, Callable[[Caller, User], object]] = {
    "set again": lambda other, ada: set_key(other, ada.id, key="sk-2"),
    "set again to the same": lambda other, ada: set_key(other, ada.id, key=f"openai-{MARK}"),
    "another one set": lambda other, ada: set_key(other, ada.id, provider="unsplash"),
    "removed": lambda other, ada: other.call(themselves(ada), api_keys.remove, ada.id, "openai"),
    "disabled": lambda other, ada: other.call(themselves(ada), api_keys.disable, ada.id),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("answer", [taken, refused])
def test_keys_that_changed_meanwhile_are_not_judged(
    caller: Caller, ada: User, owner: psycopg.Connection, change: str, answer: api_keys.Check
) -> None:
    changed = []
    with caller.another() as other:

        def check(provider: Provider, key: SecretStr) -> bool:
            if not changed:
                in_another_thread(CHANGES[change], other, ada)
                changed.append(row(owner))
            return answer(provider, key)

        error = attempt(lambda: caller.call(SERVICE, api_keys.validate, NEW, ada.id, check))
    assert type(error) is errors.Busy
    assert [row(owner)] == changed


def in_another_thread(function: Callable[[Caller, User], object], caller: Caller, ada: User) -> None:
    """An asynchronous caller's loop cannot run inside another's."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(function, caller, ada).result()


def test_a_learner_does_not_validate_their_own(caller: Caller, ada: User, owner: psycopg.Connection) -> None:
    before = row(owner)
    with pytest.raises(errors.PermissionRefused):
        caller.call(themselves(ada), api_keys.validate, NEW, ada.id, taken)
    assert row(owner) == before


def test_an_error_of_a_check_keeps_the_key_to_itself(caller: Caller, ada: User) -> None:
    def check(provider: Provider, key: SecretStr) -> bool:
        raise errors.Unavailable

    error = attempt(lambda: caller.call(SERVICE, api_keys.validate, NEW, ada.id, check))
    assert type(error) is errors.Unavailable
