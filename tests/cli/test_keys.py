"""`carnivore-db keys` as an operator types it: exit statuses, and no key but the one that was asked for."""

import base64
import json
from pathlib import Path

import pytest
from click.testing import Result
from pydantic import SecretStr
from sqlalchemy import URL, make_url

from carnivore_db import Database, Settings, identity
from carnivore_db.vocabulary import users
from carnivore_db.vocabulary.keys import api_keys
from carnivore_db.vocabulary.keys.encryption import Keyring
from carnivore_db.vocabulary.models import User
from tests.cli import running
from tests.cli.running import NOWHERE
from tests.support.databases import TestDatabase
from tests.support.hostile import MARK
from tests.vocabulary.samples import NOBODY, SERVICE

KEYS = {name: base64.b64encode(name.encode() * 8).decode() for name in ("old1", "new1")}


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where there is no .env


@pytest.fixture
def ada(db: Database) -> User:
    """A learner whose key is of the old encryption key."""
    with db.transaction(SERVICE) as tx:
        made = users.register(tx, NOBODY, "ada@example.com")
        api_keys.set(tx, ring("old1"), made.id, "openai", SecretStr(MARK))
    return made


def ring(*names: str) -> Keyring:
    """A keyring of these keys; the last one writes."""
    given = Settings(encryption_keys={name: KEYS[name] for name in names}, encryption_key_id=names[-1])
    return Keyring.from_settings(given)


def run(*arguments: str, keys: object = None, key_id: str | None = None, url: URL | None = None) -> Result:
    environment = {
        "CARNIVORE_DB_ENCRYPTION_KEYS": keys if isinstance(keys, str | None) else json.dumps(keys),
        "CARNIVORE_DB_ENCRYPTION_KEY_ID": key_id,
    }
    outcome = running.run("keys", *arguments, url=url, **environment)
    for secret in (MARK, *KEYS.values(), *(name * 8 for name in KEYS)):
        assert secret not in outcome.output
    return outcome


def test_a_generated_key_serves_and_is_all_that_is_printed() -> None:
    printed = {running.run("keys", "generate").output for _ in range(3)}
    assert len(printed) == 3
    for output in printed:
        key = output.removesuffix("\n")
        assert len(base64.b64decode(key, validate=True)) == 32
        assert Keyring.from_settings(Settings(encryption_keys={"k1": key})).current == "k1"


def test_all_keys_are_moved_and_the_old_one_can_go(
    plain_database: TestDatabase, db: Database, ada: User
) -> None:
    for number in (1, 0):
        outcome = run("reencrypt", "--batch", "1", keys=KEYS, key_id="new1", url=plain_database.app_url)
        assert outcome.exit_code == 0
        assert f"re-encrypted: {number}." in outcome.output
        assert "Not possible: 0." in outcome.output
    with db.transaction(identity.service()) as tx:
        assert api_keys.get(tx, ring("new1"), ada.id, "openai").get_secret_value() == MARK


def test_what_could_not_be_moved_is_named_and_the_exit_status_is_1(
    plain_database: TestDatabase, db: Database, ada: User
) -> None:
    outcome = run("reencrypt", keys={"new1": KEYS["new1"]}, url=plain_database.app_url)
    assert outcome.exit_code == 1
    assert "Not possible: 1." in outcome.output
    (line,) = (line for line in outcome.output.splitlines() if line.startswith(f"{ada.id} openai: "))
    assert "'old1' is not among CARNIVORE_DB_ENCRYPTION_KEYS" in line
    with db.transaction(identity.service()) as tx:
        assert api_keys.get(tx, ring("old1"), ada.id, "openai").get_secret_value() == MARK


@pytest.mark.parametrize(
    ("keys", "key_id", "says"),
    [
        (None, None, "CARNIVORE_DB_ENCRYPTION_KEYS is not set"),
        (KEYS, None, "CARNIVORE_DB_ENCRYPTION_KEY_ID"),
        (KEYS, "third", "'third'"),
        (KEYS["old1"], None, "not JSON"),
        ({"old1": KEYS["old1"][:-8]}, None, "encryption_keys"),
        ({"old1": MARK}, None, "encryption_keys"),
        ({KEYS["old1"]: "old1"}, None, "encryption_keys"),
    ],
)
def test_a_keyring_that_cannot_be_made_is_one_line_and_status_2(
    keys: object, key_id: str | None, says: str
) -> None:
    outcome = run("reencrypt", keys=keys, key_id=key_id, url=make_url(NOWHERE))
    assert outcome.exit_code == 2
    assert says in " ".join(outcome.output.split())


@pytest.mark.parametrize("batch", ["0", "100001", "many"])
def test_a_batch_out_of_bounds_is_status_2(batch: str) -> None:
    assert run("reencrypt", "--batch", batch, keys={"old1": KEYS["old1"]}).exit_code == 2
