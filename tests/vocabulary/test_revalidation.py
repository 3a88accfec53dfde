"""Periodic validation of learners' keys: whose are due, what is noted, and what the next run finds."""

from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from pydantic import SecretStr

from carnivore_db import Database, errors
from carnivore_db.vocabulary.keys import api_keys
from carnivore_db.vocabulary.keys import jobs as key_jobs
from carnivore_db.vocabulary.keys.jobs import Revalidated
from carnivore_db.vocabulary.models import Provider
from tests.support.callers import SyncCaller
from tests.support.hostile import MARK
from tests.vocabulary.samples import NEW, SERVICE, new_learner, refused, set_key, taken

NOW, DAY = timedelta(0), timedelta(days=1)


def with_key(caller: SyncCaller, owner: psycopg.Connection, days: int | None = None) -> UUID:
    """A learner with a key that was validated so many days ago, or never."""
    learner = new_learner(caller).id
    set_key(caller, learner, key=f"{learner}-{MARK}")
    if days is not None:
        owner.execute(
            "UPDATE vocabulary.user_api_keys SET last_validated_at = now() - %s WHERE user_id = %s",
            [timedelta(days=days), learner],
        )
    return learner


class Asked:
    """A service that notes who was asked about, and refuses the keys of some or breaks at them."""

    def __init__(self, refuses: tuple[UUID, ...] = (), breaks: tuple[UUID, ...] = ()) -> None:
        self.learners: list[UUID] = []
        self.refuses, self.breaks = refuses, breaks

    def __call__(self, provider: Provider, key: SecretStr) -> bool:
        learner = UUID(key.get_secret_value().removesuffix(f"-{MARK}"))
        self.learners.append(learner)
        if learner in self.breaks:
            raise ConnectionError(f"could not ask about {key.get_secret_value()}")
        return learner not in self.refuses


def test_keys_are_due_by_age_and_those_never_validated(
    sync: SyncCaller, jobs: Database, owner: psycopg.Connection
) -> None:
    never, old, _young = (with_key(sync, owner, days) for days in (None, 31, 29))
    check = Asked()
    assert key_jobs.revalidate(jobs, NEW, check) == Revalidated(valid=2)
    assert set(check.learners) == {never, old}
    assert key_jobs.revalidate(jobs, NEW, Asked()) == Revalidated()  # they are young now


@pytest.mark.parametrize("batch", [1, 3])
def test_all_that_are_due_are_asked_about_once(
    sync: SyncCaller, jobs: Database, owner: psycopg.Connection, batch: int
) -> None:
    learners = [with_key(sync, owner, days) for days in (None, 5, 1)]
    check = Asked()
    told = key_jobs.revalidate(jobs, NEW, check, older_than=NOW, batch=batch)
    assert told == Revalidated(valid=3)
    assert sorted(check.learners) == sorted(learners)


def test_disabled_and_removed_keys_are_left_alone(
    sync: SyncCaller, jobs: Database, owner: psycopg.Connection
) -> None:
    disabled, removed = with_key(sync, owner), with_key(sync, owner)
    sync.call(SERVICE, api_keys.disable, disabled)
    sync.call(SERVICE, api_keys.remove, removed, "openai")
    check = Asked()
    assert key_jobs.revalidate(jobs, NEW, check, older_than=NOW) == Revalidated()
    assert check.learners == []
    assert not sync.call(SERVICE, api_keys.status, disabled).is_active


def test_a_refused_key_disables_its_learner_alone(
    sync: SyncCaller, jobs: Database, owner: psycopg.Connection
) -> None:
    ada, eve = with_key(sync, owner, 40), with_key(sync, owner)
    assert key_jobs.revalidate(jobs, NEW, Asked(refuses=(ada,))) == Revalidated(valid=1, disabled=[ada])
    assert not sync.call(SERVICE, api_keys.status, ada).is_active
    assert sync.call(SERVICE, api_keys.status, eve).is_active


def test_a_check_that_fails_is_told_without_the_key_and_the_next_run_asks_again(
    sync: SyncCaller, jobs: Database, owner: psycopg.Connection
) -> None:
    broken, fine = with_key(sync, owner), with_key(sync, owner)
    before = sync.call(SERVICE, api_keys.status, broken)
    for _ in range(2):
        told = key_jobs.revalidate(jobs, NEW, Asked(breaks=(broken,)))
        assert told.failed == {broken: "ConnectionError"}
        assert sync.call(SERVICE, api_keys.status, broken) == before
    assert sync.call(SERVICE, api_keys.status, fine).last_validated_at is not None
    assert key_jobs.revalidate(jobs, NEW, taken) == Revalidated(valid=1)


def test_a_key_that_cannot_be_decrypted_is_told_and_the_rest_is_done(
    sync: SyncCaller, jobs: Database, owner: psycopg.Connection
) -> None:
    ada, eve, _ = (with_key(sync, owner) for _ in range(3))
    owner.execute(
        "UPDATE vocabulary.user_api_keys SET openai_api_key ="
        " (SELECT openai_api_key FROM vocabulary.user_api_keys WHERE user_id = %s) WHERE user_id = %s",
        [ada, eve],
    )
    told = key_jobs.revalidate(jobs, NEW, taken)
    assert (told.valid, told.failed) == (2, {eve: str(errors.DecryptionFailed())})


def test_who_changes_a_key_meanwhile_is_asked_about_in_the_next_run(
    sync: SyncCaller, jobs: Database, owner: psycopg.Connection
) -> None:
    ada = with_key(sync, owner)

    def check(provider: Provider, key: SecretStr) -> bool:
        set_key(sync, ada, key="sk-2")
        return False

    told = key_jobs.revalidate(jobs, NEW, check)
    assert list(told.failed) == [ada]
    status = sync.call(SERVICE, api_keys.status, ada)
    assert (status.is_active, status.last_validated_at) == (True, None)
    assert key_jobs.revalidate(jobs, NEW, taken) == Revalidated(valid=1)


def test_keys_that_were_disabled_meanwhile_stay_disabled(
    sync: SyncCaller, jobs: Database, owner: psycopg.Connection
) -> None:
    learners = [with_key(sync, owner) for _ in range(3)]
    asked: list[Provider] = []

    def check(provider: Provider, key: SecretStr) -> bool:
        if not asked:  # they disable theirs while the first of them is asked about
            for learner in learners:
                sync.call(SERVICE, api_keys.disable, learner)
        asked.append(provider)
        return True

    told = key_jobs.revalidate(jobs, NEW, check)
    assert (told.valid, len(told.failed), len(asked)) == (0, 1, 1)
    assert not any(sync.call(SERVICE, api_keys.status, learner).is_active for learner in learners)


def test_who_was_erased_meanwhile_stops_nobody(
    sync: SyncCaller, jobs: Database, owner: psycopg.Connection
) -> None:
    for _ in range(3):
        with_key(sync, owner)

    def check(provider: Provider, key: SecretStr) -> bool:
        owner.execute("DELETE FROM vocabulary.users")
        return True

    told = key_jobs.revalidate(jobs, NEW, check)
    assert (told.valid, told.disabled, len(told.failed)) == (0, [], 3)


def test_no_transaction_is_open_while_services_are_asked(
    sync: SyncCaller, jobs: Database, owner: psycopg.Connection
) -> None:
    with_key(sync, owner)
    open_ones: list[object] = []

    def check(provider: Provider, key: SecretStr) -> bool:
        open_ones.append(jobs.engine.pool.checkedout())
        return True

    assert key_jobs.revalidate(jobs, NEW, check).valid == 1
    assert open_ones == [0]


def test_what_a_run_cannot_take_is_named(jobs: Database) -> None:
    bad = [("batch", 0), ("batch", 100_001), ("older_than", -DAY), ("older_than", "long"), ("check", 5)]
    for field, value in bad:
        with pytest.raises(errors.InvalidInput) as caught:
            key_jobs.revalidate(jobs, NEW, **{"check": refused, field: value})
        assert caught.value.field == field
