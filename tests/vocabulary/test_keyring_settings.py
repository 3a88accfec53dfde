"""The keyring of the environment: which keys there are, which one writes, and errors that show none."""

import base64
import json
import traceback
from pathlib import Path

import pytest
from pydantic import SecretStr

from carnivore_db import Settings
from carnivore_db.errors import ConfigurationError, KeyMissing
from carnivore_db.vocabulary.keys.encryption import Keyring
from tests.support.hostile import told
from tests.vocabulary.samples import NOBODY

RAW = {"first": b"A1" * 16, "second": b"B2" * 16}
KEYS = {name: base64.b64encode(key).decode() for name, key in RAW.items()}
# Either form of either key.
SECRETS = [*KEYS.values(), *(key.decode() for key in RAW.values())]


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where there is no .env
    monkeypatch.delenv("CARNIVORE_DB_ENCRYPTION_KEYS", raising=False)
    monkeypatch.delenv("CARNIVORE_DB_ENCRYPTION_KEY_ID", raising=False)


def environment(monkeypatch: pytest.MonkeyPatch, keys: object, key_id: str | None = None) -> None:
    text = keys if isinstance(keys, str) else json.dumps(keys)
    monkeypatch.setenv("CARNIVORE_DB_ENCRYPTION_KEYS", text)
    if key_id is not None:
        monkeypatch.setenv("CARNIVORE_DB_ENCRYPTION_KEY_ID", key_id)


def no_key_in(*texts: str) -> bool:
    return not any(secret in text for secret in SECRETS for text in texts)


def said(error: BaseException) -> list[str]:
    return [str(error), repr(error), *traceback.format_exception(error)]


@pytest.mark.parametrize(
    ("keys", "key_id", "writes"),
    [
        ({"first": KEYS["first"]}, None, "first"),
        ({"first": KEYS["first"]}, "first", "first"),
        (KEYS, "first", "first"),
        (KEYS, "second", "second"),
    ],
)
def test_the_key_that_writes_is_the_one_named_or_the_only_one(
    monkeypatch: pytest.MonkeyPatch, keys: dict[str, str], key_id: str | None, writes: str
) -> None:
    environment(monkeypatch, keys, key_id)
    keyring = Keyring.from_settings()
    assert keyring.current == writes
    sealed = keyring.encrypt(SecretStr("x"), user_id=NOBODY, provider="openai")
    same = Keyring({writes: RAW[writes]}, writes)
    assert same.decrypt(sealed, user_id=NOBODY, provider="openai").get_secret_value() == "x"
    assert no_key_in(f"{keyring} {keyring!r}", f"{Settings()} {Settings()!r}", Settings().model_dump_json())


def test_settings_given_override_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, {"first": KEYS["first"]})
    given = Settings(encryption_keys={"second": KEYS["second"]})
    assert Keyring.from_settings(given).current == "second"


@pytest.mark.parametrize(
    ("keys", "key_id", "expected", "names"),
    [
        (KEYS, None, ConfigurationError, "CARNIVORE_DB_ENCRYPTION_KEY_ID"),
        ({}, None, ConfigurationError, "CARNIVORE_DB_ENCRYPTION_KEYS"),
        (None, None, ConfigurationError, "CARNIVORE_DB_ENCRYPTION_KEYS"),
        (KEYS, "third", KeyMissing, "'third'"),
        (None, "first", KeyMissing, "'first'"),
    ],
)
def test_without_a_key_that_writes(
    monkeypatch: pytest.MonkeyPatch, keys: object, key_id: str | None, expected: type[Exception], names: str
) -> None:
    if keys is not None:
        environment(monkeypatch, keys)
    if key_id is not None:
        monkeypatch.setenv("CARNIVORE_DB_ENCRYPTION_KEY_ID", key_id)
    with pytest.raises(expected) as caught:
        Keyring.from_settings()
    assert names in str(caught.value)
    assert no_key_in(*said(caught.value))


@pytest.mark.parametrize("key_id", [None, "third"])
def test_a_traceback_with_local_variables_shows_no_key(key_id: str | None) -> None:
    settings = Settings(encryption_keys=KEYS, encryption_key_id=key_id)
    with pytest.raises((ConfigurationError, KeyMissing)) as caught:
        Keyring.from_settings(settings)
    assert no_key_in(*told(caught.value))


BAD = {
    "31 bytes": base64.b64encode(RAW["first"][:-1]).decode(),
    "33 bytes": base64.b64encode(RAW["first"] + b"x").decode(),
    "24 bytes": base64.b64encode(RAW["first"][:24]).decode(),
    "no base64": KEYS["first"][:-2] + "?=",
    "no padding": KEYS["first"].rstrip("="),
    "a space": " " + KEYS["first"],
    "no ASCII": KEYS["first"] + "\u00e9",
}


@pytest.mark.parametrize("key", BAD.values(), ids=BAD.keys())
def test_a_key_of_another_form_is_refused(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    environment(monkeypatch, {"first": key})
    with pytest.raises(ConfigurationError, match="encryption_keys") as caught:
        Keyring.from_settings()
    assert "32 bytes in base64" in str(caught.value)
    assert not any(key[:20] in text for text in said(caught.value))


@pytest.mark.parametrize("name", ["", "First", "a b", "a:b", "x" * 33, "\u00e9", "first\n"])
def test_an_identifier_of_another_form_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    environment(monkeypatch, {name: KEYS["first"]})
    with pytest.raises(ConfigurationError, match="encryption_keys") as caught:
        Settings()
    assert no_key_in(*said(caught.value))
    environment(monkeypatch, {"first": KEYS["first"]}, name)
    with pytest.raises(ConfigurationError, match="encryption_key_id") as caught:
        Settings()
    assert no_key_in(*said(caught.value))


def test_a_key_in_the_identifiers_place_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, {KEYS["first"]: "first"})
    with pytest.raises(ConfigurationError, match="encryption_keys") as caught:
        Settings()
    assert no_key_in(*said(caught.value))


@pytest.mark.parametrize(
    "keys",
    [
        KEYS["first"],
        "first:" + KEYS["first"],
        json.dumps(KEYS)[:-1],
        json.dumps([KEYS["first"]]),
        json.dumps(KEYS["first"]),
        json.dumps({"first": {"key": KEYS["first"]}}),
    ],
)
def test_what_is_no_object_is_refused(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    environment(monkeypatch, keys)
    with pytest.raises(ConfigurationError, match="encryption_keys") as caught:
        Settings()
    assert no_key_in(*said(caught.value))
