"""Rotation of the encryption's key: old ciphertexts become new ones, with the keys in use all the while."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any
from uuid import UUID

import psycopg
import pytest

from carnivore_db import Database
from carnivore_db.vocabulary.keys import api_keys
from carnivore_db.vocabulary.keys import jobs as key_jobs
from carnivore_db.vocabulary.keys.encryption import Keyring
from carnivore_db.vocabulary.keys.jobs import Reencrypted
from carnivore_db.vocabulary.models import PROVIDERS
from tests.support.callers import SyncCaller
from tests.support.databases import TestDatabase, one, somebody_waits
from tests.support.hostile import MARK, attempt
from tests.support.processes import python
from tests.vocabulary.samples import KEYS, NEW, OLD, SERVICE, new_learner, set_key, taken

MORE = {**KEYS, "third": b"3" * 32}
THIRD = Keyring(MORE, "third")


def with_keys(caller: SyncCaller, number: int, keyring: Keyring = OLD) -> list[UUID]:
    """Learners with a key each, in the order that the job takes them in."""
    learners = [new_learner(caller).id for _ in range(number)]
    for learner in learners:
        set_key(caller, learner, keyring=keyring, key=f"{learner}-{MARK}")
    return learners


def assert_readable(caller: SyncCaller, learners: list[UUID], keyring: Keyring = NEW) -> None:
    for learner in learners:
        found = caller.call(SERVICE, api_keys.get, keyring, learner, "openai")
        assert found.get_secret_value() == f"{learner}-{MARK}"


def outdated(owner: psycopg.Connection, keyring: Keyring = NEW) -> int:
    """How many ciphertexts are not of the key that writes."""
    columns = ", ".join(api_keys.column(provider) for provider in PROVIDERS)
    query = f"SELECT count(*) FROM vocabulary.user_api_keys, unnest(ARRAY[{columns}]) AS sealed"
    return int(one(owner, f"{query} WHERE NOT starts_with(sealed, %s)", keyring.prefix))


def rows(owner: psycopg.Connection) -> list[dict[str, Any]]:
    return owner.execute("SELECT * FROM vocabulary.user_api_keys ORDER BY id").fetchall()


def test_the_old_key_reads_and_the_new_one_writes(sync: SyncCaller) -> None:
    learners = with_keys(sync, 1)
    assert_readable(sync, learners, OLD)
    assert_readable(sync, learners, NEW)
    set_key(sync, learners[0], keyring=NEW, key="sk-2")
    error = attempt(lambda: sync.call(SERVICE, api_keys.get, OLD, learners[0], "openai"))
    assert getattr(error, "key_id", None) == "new"


@pytest.mark.parametrize("batch", [2, 7, 500])
def test_all_keys_move_in_batches_and_progress_is_told(
    sync: SyncCaller, jobs: Database, owner: psycopg.Connection, batch: int
) -> None:
    learners = with_keys(sync, 7)
    with_keys(sync, 2, keyring=NEW)
    seen: list[tuple[int, int]] = []
    told = key_jobs.reencrypt(jobs, NEW, batch=batch, on_progress=lambda *now: seen.append(now))
    assert told == Reencrypted(done=7)
    assert [total for _, total in seen] == [7] * len(seen)
    assert [done for done, _ in seen] == [*range(batch, 7, batch), 7]
    assert outdated(owner) == 0
    # The old key can go.
    assert_readable(sync, learners, Keyring({"new": KEYS["new"]}, "new"))


def test_every_provider_moves_and_what_is_new_already_stays(
    sync: SyncCaller, jobs: Database, owner: psycopg.Connection
) -> None:
    (learner,) = with_keys(sync, 1)
    set_key(sync, learner, keyring=OLD, provider="anthropic", key="anthropic")
    set_key(sync, learner, keyring=NEW, provider="unsplash", key="unsplash")
    (before,) = rows(owner)
    assert key_jobs.reencrypt(jobs, NEW) == Reencrypted(done=2)
    (after,) = rows(owner)
    assert after["unsplash_api_key"] == before["unsplash_api_key"]
    assert outdated(owner) == 0
    for provider in ("unsplash", "anthropic"):
        assert sync.call(SERVICE, api_keys.get, NEW, learner, provider).get_secret_value() == provider


def test_a_second_run_has_nothing_to_do(sync: SyncCaller, jobs: Database, owner: psycopg.Connection) -> None:
    with_keys(sync, 2)
    key_jobs.reencrypt(jobs, NEW)
    before = rows(owner)
    seen: list[tuple[int, int]] = []
    assert key_jobs.reencrypt(jobs, NEW, on_progress=lambda *now: seen.append(now)) == Reencrypted()
    assert (rows(owner), seen) == (before, [])


def test_validation_and_state_are_kept(sync: SyncCaller, jobs: Database, owner: psycopg.Connection) -> None:
    validated, disabled, never = with_keys(sync, 3)
    for learner in (validated, disabled):
        sync.call(SERVICE, api_keys.validate, NEW, learner, taken)
    sync.call(SERVICE, api_keys.disable, disabled)
    before = {
        learner: sync.call(SERVICE, api_keys.status, learner) for learner in (validated, disabled, never)
    }
    assert [status.last_validated_at is None for status in before.values()] == [False, False, True]
    assert key_jobs.reencrypt(jobs, NEW).done == 3
    assert outdated(owner) == 0
    for learner, status in before.items():
        assert sync.call(SERVICE, api_keys.status, learner) == status


def test_what_cannot_be_decrypted_is_named_and_left(
    sync: SyncCaller, jobs: Database, owner: psycopg.Connection
) -> None:
    learners = with_keys(sync, 5)
    moved, missing = learners[1], learners[3]
    owner.execute(
        "UPDATE vocabulary.user_api_keys SET openai_api_key ="
        " (SELECT openai_api_key FROM vocabulary.user_api_keys WHERE user_id = %s) WHERE user_id = %s",
        [learners[0], moved],
    )
    set_key(sync, missing, keyring=THIRD)
    set_key(sync, missing, keyring=OLD, provider="unsplash")
    before = {row["user_id"]: row for row in rows(owner)}
    for batch in (1, 2, 5):  # the next run names them again

        def once(done: int, total: int) -> None:
            assert done <= total == (5 if batch == 1 else 2)  # noqa: B023 - called in this turn alone

        told = key_jobs.reencrypt(jobs, NEW, batch=batch, on_progress=once)
        assert set(told.failed) == {(moved, "openai"), (missing, "openai")}
        assert told.done == (4 if batch == 1 else 0)
        assert "altered, moved" in told.failed[moved, "openai"]
        assert "'third'" in told.failed[missing, "openai"]
        assert MARK not in repr(told)
    after = {row["user_id"]: row for row in rows(owner)}
    assert after[moved] == before[moved]
    assert after[missing]["openai_api_key"] == before[missing]["openai_api_key"]
    assert outdated(owner) == 2
    assert_readable(sync, [learners[0], learners[2], learners[4]])


def test_keys_are_in_use_meanwhile(sync: SyncCaller, jobs: Database) -> None:
    learners = with_keys(sync, 6)
    over, used = Event(), Event()

    def use() -> None:
        while not over.is_set():
            assert_readable(sync, learners, THIRD)
            for learner in learners:
                set_key(sync, learner, keyring=Keyring(MORE, "old"), key=f"{learner}-{MARK}")
            used.set()

    with ThreadPoolExecutor(1) as pool:
        using = pool.submit(use)
        while not (used.is_set() or using.done()):
            for current in ("new", "third"):
                assert key_jobs.reencrypt(jobs, Keyring(MORE, current), batch=2).failed == {}
        over.set()
        using.result()
    assert key_jobs.reencrypt(jobs, THIRD).failed == {}
    assert_readable(sync, learners, Keyring({"third": MORE["third"]}, "third"))


def test_a_key_set_with_the_old_keyring_meanwhile_is_not_lost(
    sync: SyncCaller, jobs: Database, owner: psycopg.Connection
) -> None:
    learners = with_keys(sync, 4)
    late: list[UUID] = []

    def set_with_the_old(done: int, total: int) -> None:
        if not late:
            late.append(learners[0])
            for learner in learners:
                set_key(sync, learner, keyring=OLD, key="sk-2")

    first = key_jobs.reencrypt(jobs, NEW, batch=2, on_progress=set_with_the_old)
    assert first == Reencrypted(done=4)
    assert outdated(owner) == 2  # those that were done already
    assert key_jobs.reencrypt(jobs, NEW) == Reencrypted(done=2)
    assert outdated(owner) == 0
    for learner in learners:
        assert sync.call(SERVICE, api_keys.get, NEW, learner, "openai").get_secret_value() == "sk-2"


@pytest.mark.parametrize("keyring", [OLD, NEW], ids=["old", "new"])
def test_a_key_that_somebody_is_just_setting_is_waited_for(
    sync: SyncCaller, jobs: Database, owner: psycopg.Connection, keyring: Keyring
) -> None:
    learners = with_keys(sync, 3)
    with ThreadPoolExecutor(1) as pool:
        with sync.database.transaction(SERVICE) as tx:
            api_keys.set(tx, keyring, learners[1], "openai", f"late-{MARK}")
            running = pool.submit(key_jobs.reencrypt, jobs, NEW, batch=1)
            somebody_waits(owner)
        assert running.result().failed == {}
    assert outdated(owner) == 0
    found = sync.call(SERVICE, api_keys.get, NEW, learners[1], "openai")
    assert found.get_secret_value() == f"late-{MARK}"
    assert_readable(sync, [learners[0], learners[2]])


def test_a_learner_who_was_erased_meanwhile_is_no_failure(
    sync: SyncCaller, jobs: Database, owner: psycopg.Connection
) -> None:
    with_keys(sync, 3)

    def erase(done: int, total: int) -> None:
        owner.execute("DELETE FROM vocabulary.users")

    assert key_jobs.reencrypt(jobs, NEW, batch=1, on_progress=erase) == Reencrypted(done=1)


# A run that stops in the midst of its second batch and says so.
STOPS = """
from threading import Event
from carnivore_db import Database
from carnivore_db.vocabulary.keys import jobs as key_jobs
from carnivore_db.vocabulary.keys.encryption import Keyring

class Stopping(Keyring):
    left = 4

    def encrypt(self, *given, **more):
        if not self.left:
            print("stopped", flush=True)
            Event().wait()
        self.left -= 1
        return super().encrypt(*given, **more)

key_jobs.reencrypt(Database(), Stopping.from_settings(), batch=3)
"""


def test_a_killed_run_loses_nothing_and_the_next_one_ends_it(
    sync: SyncCaller,
    jobs: Database,
    owner: psycopg.Connection,
    empty_database: TestDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learners = with_keys(sync, 8)
    keys = {name: base64.b64encode(key).decode() for name, key in KEYS.items()}
    monkeypatch.setenv("CARNIVORE_DB_ENCRYPTION_KEYS", json.dumps(keys))
    monkeypatch.setenv("CARNIVORE_DB_ENCRYPTION_KEY_ID", "new")
    monkeypatch.setenv("DATABASE_URL", empty_database.app_url.render_as_string(hide_password=False))
    with python(STOPS) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stopped\n"
        process.kill()
        assert process.wait() == -9
    assert outdated(owner) == 5  # a batch was done, and half of the next one came to nothing
    assert_readable(sync, learners)
    assert key_jobs.reencrypt(jobs, NEW, batch=3) == Reencrypted(done=5)
    assert outdated(owner) == 0
    assert_readable(sync, learners)
