"""Learners' API keys: set, read, disabled, removed; and that the database never has them plain."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.orm import Session

from carnivore_db import errors
from carnivore_db.vocabulary.keys import api_keys
from carnivore_db.vocabulary.keys.api_keys import KeyStatus
from carnivore_db.vocabulary.keys.encryption import Keyring
from carnivore_db.vocabulary.models import PROVIDERS, User
from tests.support.callers import Caller
from tests.support.databases import one
from tests.support.hostile import MARK, attempt, told
from tests.vocabulary.samples import (
    NEW,
    NOBODY,
    OLD,
    PLAIN,
    SERVICE,
    new_learner,
    set_key,
    taken,
    themselves,
)

NONE = KeyStatus((), is_active=True, last_validated_at=None)


def plain(caller: Caller, learner: User, provider: str = "openai", keyring: Keyring = NEW) -> str:
    return caller.call(themselves(learner), api_keys.get, keyring, learner.id, provider).get_secret_value()


def stored(owner: psycopg.Connection, learner: User) -> dict[str, Any]:
    row = owner.execute("SELECT * FROM vocabulary.user_api_keys WHERE user_id = %s", [learner.id]).fetchone()
    assert row is not None
    return row


def test_a_key_comes_back_as_it_was_set(caller_of_each_shape: Caller) -> None:
    ada, eve = new_learner(caller_of_each_shape), new_learner(caller_of_each_shape)
    for learner, who in ((ada, themselves(ada)), (eve, SERVICE)):
        for number, provider in enumerate(PROVIDERS, 1):
            given = SecretStr(f"{provider}-{MARK}")
            status = caller_of_each_shape.call(who, api_keys.set, NEW, learner.id, provider, given)
            assert status == KeyStatus(PROVIDERS[:number], is_active=True, last_validated_at=None)
        for provider in PROVIDERS:
            found = caller_of_each_shape.call(who, api_keys.get, NEW, learner.id, provider)
            assert found.get_secret_value() == f"{provider}-{MARK}"
            assert MARK not in f"{found} {found!r}"
        assert caller_of_each_shape.call(who, api_keys.status, learner.id) == status


def test_what_lies_in_the_database_is_ciphertext(caller: Caller, owner: psycopg.Connection) -> None:
    ada, eve = new_learner(caller), new_learner(caller)
    for learner in (ada, eve):
        for provider in PROVIDERS:
            set_key(caller, learner.id, provider=provider)
    rows = one(owner, "SELECT string_agg(keys::text, '|') FROM vocabulary.user_api_keys AS keys")
    assert MARK not in rows
    sealed = [stored(owner, who)[api_keys.column(each)] for who in (ada, eve) for each in PROVIDERS]
    assert len(set(sealed)) == 6
    assert all(each.startswith("enc:v1:new:") for each in sealed)


def test_plaintext_by_raw_sql_is_refused(caller: Caller, owner: psycopg.Connection) -> None:
    ada = new_learner(caller)
    set_key(caller, ada.id)
    before = stored(owner, ada)

    def write(tx: Session, column: str) -> None:
        tx.execute(text(f"UPDATE vocabulary.user_api_keys SET {column} = :key"), {"key": f"sk-{MARK}"})

    for who in (themselves(ada), SERVICE):
        for provider in PROVIDERS:
            column = api_keys.column(provider)
            error = attempt(lambda who=who, column=column: caller.call(who, write, column))
            assert isinstance(error, errors.InvalidInput)
            assert (error.field, error.rule) == (column, f"{column}_valid")
    assert stored(owner, ada) == before


def test_a_key_that_is_set_again_is_another(caller: Caller) -> None:
    ada = new_learner(caller)
    set_key(caller, ada.id)
    set_key(caller, ada.id, provider="unsplash", key="other")
    set_key(caller, ada.id, key="sk-2")
    assert (plain(caller, ada), plain(caller, ada, "unsplash")) == ("sk-2", "other")


def test_setting_a_key_makes_keys_active_and_not_validated(caller: Caller) -> None:
    ada = new_learner(caller)
    set_key(caller, ada.id)
    caller.call(SERVICE, api_keys.validate, NEW, ada.id, taken)
    assert caller.call(SERVICE, api_keys.status, ada.id).last_validated_at is not None
    caller.call(themselves(ada), api_keys.disable, ada.id)
    again = caller.call(themselves(ada), api_keys.set, NEW, ada.id, "openai", PLAIN)
    assert again == KeyStatus(("openai",), is_active=True, last_validated_at=None)
    assert plain(caller, ada) == PLAIN.get_secret_value()


def test_disabled_keys_are_kept_and_not_given_out(caller: Caller) -> None:
    ada = new_learner(caller)
    set_key(caller, ada.id)
    for _ in range(2):
        status = caller.call(themselves(ada), api_keys.disable, ada.id)
        assert status == KeyStatus(("openai",), is_active=False, last_validated_at=None)
    with pytest.raises(errors.ApiKeyInactive):
        plain(caller, ada)
    with pytest.raises(errors.ApiKeyNotFound):
        plain(caller, ada, "unsplash")


def test_a_removed_key_is_gone_and_the_others_stay(caller: Caller, owner: psycopg.Connection) -> None:
    ada = new_learner(caller)
    for provider in ("openai", "unsplash"):
        set_key(caller, ada.id, provider=provider)
    assert caller.call(themselves(ada), api_keys.remove, ada.id, "openai").providers == ("unsplash",)
    with pytest.raises(errors.ApiKeyNotFound):
        caller.call(themselves(ada), api_keys.remove, ada.id, "openai")
    assert stored(owner, ada)["openai_api_key"] is None
    with pytest.raises(errors.ApiKeyNotFound):
        plain(caller, ada)
    assert plain(caller, ada, "unsplash") == PLAIN.get_secret_value()


def test_who_never_set_a_key_has_none(caller: Caller) -> None:
    ada = new_learner(caller)
    for learner in (ada.id, NOBODY):
        assert caller.call(SERVICE, api_keys.status, learner) == NONE
        for function, given in (
            (api_keys.get, (NEW, learner, "openai")),
            (api_keys.validate, (NEW, learner, taken)),
            (api_keys.disable, (learner,)),
            (api_keys.remove, (learner, "openai")),
        ):
            with pytest.raises(errors.ApiKeyNotFound):
                caller.call(SERVICE, function, *given)
    with pytest.raises(errors.UserNotFound):
        set_key(caller, NOBODY)


def test_a_learner_of_whose_keys_none_is_left_has_nothing_to_validate(caller: Caller) -> None:
    ada = new_learner(caller)
    set_key(caller, ada.id)
    caller.call(SERVICE, api_keys.remove, ada.id, "openai")
    with pytest.raises(errors.ApiKeyNotFound):
        caller.call(SERVICE, api_keys.validate, NEW, ada.id, taken)


def exchange(owner: psycopg.Connection, ada: User, eve: User) -> None:
    owner.execute(
        "UPDATE vocabulary.user_api_keys AS keys SET openai_api_key = other.openai_api_key"
        " FROM vocabulary.user_api_keys AS other"
        " WHERE keys.user_id = ANY(%s) AND other.user_id = ANY(%s) AND other.user_id <> keys.user_id",
        [[ada.id, eve.id], [ada.id, eve.id]],
    )


def move(owner: psycopg.Connection, ada: User, eve: User) -> None:
    owner.execute(
        "UPDATE vocabulary.user_api_keys SET openai_api_key = unsplash_api_key WHERE user_id = %s", [ada.id]
    )


@pytest.mark.parametrize("tamper", [exchange, move])
def test_a_ciphertext_moved_in_the_database_is_no_key(
    caller: Caller, owner: psycopg.Connection, tamper: Callable[..., None]
) -> None:
    ada, eve = new_learner(caller), new_learner(caller)
    for learner in (ada, eve):
        set_key(caller, learner.id)
        set_key(caller, learner.id, provider="unsplash")
    tamper(owner, ada, eve)
    for function, given in ((api_keys.get, "openai"), (api_keys.validate, taken)):
        error = attempt(
            lambda function=function, given=given: caller.call(SERVICE, function, NEW, ada.id, given)
        )
        assert type(error) is errors.DecryptionFailed
    assert plain(caller, ada, "unsplash") == PLAIN.get_secret_value()


def test_a_key_of_a_newer_keyring_says_which_it_needs(caller: Caller) -> None:
    ada = new_learner(caller)
    set_key(caller, ada.id)
    error = attempt(lambda: caller.call(SERVICE, api_keys.get, OLD, ada.id, "openai"))
    assert isinstance(error, errors.KeyMissing)
    assert error.key_id == "new"


GOOD = ["x", "x" * 1000, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "sk-" + MARK]
BAD = {
    "empty": "",
    "blank": " ",
    "1,001 characters": MARK * 83 + "00000",
    "a space": f"sk {MARK}",
    "a space behind": f"{MARK} ",
    "a newline": f"{MARK}\n",
    "a tab": f"\t{MARK}",
    "NUL": f"{MARK}\0",
    "DEL": f"{MARK}\x7f",
    "no ASCII": f"{MARK}\u00e9",
    "a digit of no ASCII": f"{MARK}\u0665",
    "a lone surrogate": f"{MARK}\ud800",
    "a zero-width space": f"{MARK}\u200b",
}


def test_any_printable_key_is_kept(caller: Caller) -> None:
    ada = new_learner(caller)
    for key in GOOD:
        set_key(caller, ada.id, key=key)
        assert plain(caller, ada) == key


def test_a_key_of_another_form_is_refused_without_it(caller: Caller) -> None:
    ada = new_learner(caller)
    for name, key in BAD.items():
        for given in (key, SecretStr(key)):
            error = attempt(
                lambda given=given: caller.call(themselves(ada), api_keys.set, NEW, ada.id, "openai", given)
            )
            assert isinstance(error, errors.InvalidInput), name
            assert error.field == "key", name
            assert error.__context__ is None
    assert caller.call(SERVICE, api_keys.status, ada.id) == NONE


def test_neither_the_log_nor_an_error_shows_a_key(caller: Caller) -> None:
    ada, eve = new_learner(caller), new_learner(caller)

    def everything(tx: Session, user_id: UUID) -> None:
        api_keys.set(tx, NEW, user_id, "openai", PLAIN)
        api_keys.get(tx, NEW, user_id, "openai")
        api_keys.validate(tx, NEW, user_id, taken)

    assert attempt(lambda: caller.call(SERVICE, everything, ada.id)) is None
    with pytest.raises(errors.PermissionRefused) as caught:
        caller.call(themselves(eve), everything, ada.id)
    said = told(caught.value)
    assert any("keyring" in text for text in said)  # the local variables are really read
    assert not any(MARK in text for text in said)
