"""Sessions: begun, found open, completed once, given up, reopened, listed."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from carnivore_db import errors
from carnivore_db.conversation import messages, profiles, sessions
from carnivore_db.conversation.models import RolePlay
from carnivore_db.kit.paging import Page
from tests.conversation.samples import LONG_AGO, NOBODY, SERVICE, VISITOR, Person, completed, sign_up
from tests.support.callers import Caller
from tests.support.databases import one

HOUR = timedelta(hours=1)


def start(caller: Caller, person: Person, scenario: str = "marketplace") -> RolePlay:
    return caller.call(person.identity, sessions.start, person.id, scenario)


def rewind(owner: psycopg.Connection, session_id: UUID, ago: timedelta) -> None:
    """As if the session had begun so long before."""
    owner.execute(
        "UPDATE conversation.sessions SET started_at = started_at - %s WHERE id = %s", [ago, session_id]
    )


@pytest.mark.document(1, 5, 12)
def test_a_session_from_its_beginning_to_its_end(
    caller_of_each_shape: Caller, signed_up: Callable[[], Person]
) -> None:
    caller, ada = caller_of_each_shape, signed_up()
    made = start(caller, ada, "party")
    assert (made.user_id, made.scenario_id, made.is_completed) == (ada.id, 2, False)
    assert (made.completed_at, made.duration_seconds) == (None, None)
    assert (made.message_count_main, made.message_count_helper) == (0, 0)
    assert made.started_at == made.last_activity_at == made.updated_at
    caller.call(ada.identity, messages.send, made.id, "Hallo!")
    assert caller.call(ada.identity, sessions.find_open, ada.id).id == made.id  # type: ignore[union-attr]
    assert caller.call(ada.identity, sessions.get, made.id).message_count_main == 1

    done = caller.call(ada.identity, sessions.complete, made.id)
    assert (done.id, done.is_completed, done.started_at) == (made.id, True, made.started_at)
    assert done.completed_at >= done.updated_at > done.started_at
    assert done.duration_seconds == (done.completed_at - done.started_at) // timedelta(seconds=1)
    counted = caller.call(ada.identity, profiles.get, ada.id)
    assert (counted.completed_scenario_count, counted.current_week_completion_count) == (1, 1)
    assert caller.call(ada.identity, sessions.find_open, ada.id) is None
    (listed,) = caller.call(ada.identity, sessions.history, ada.id).rows
    assert listed.id == made.id


@pytest.mark.document(1, 12)
def test_the_duration_is_whole_seconds_from_start_to_completion(
    caller: Caller, owner: psycopg.Connection, person: Person
) -> None:
    made = start(caller, person)
    rewind(owner, made.id, timedelta(minutes=5, milliseconds=700))
    done = caller.call(person.identity, sessions.complete, made.id)
    assert done.completed_at is not None
    assert done.duration_seconds is not None
    assert done.duration_seconds >= 300
    assert done.duration_seconds == (done.completed_at - done.started_at) // timedelta(seconds=1)


def test_who_starts_again_gets_the_open_session(caller: Caller, person: Person) -> None:
    first = start(caller, person, "kebab")
    assert start(caller, person, "kebab").id == first.id
    assert start(caller, person, "party").id == first.id  # whichever scene was asked for
    assert caller.call(SERVICE, sessions.start, person.id, "party").id == first.id
    caller.call(person.identity, sessions.complete, first.id)
    second = start(caller, person, "party")
    assert (second.id != first.id, second.scenario_id) == (True, 2)


def test_a_session_that_cannot_begin(caller: Caller, owner: psycopg.Connection, person: Person) -> None:
    eve = sign_up(owner)
    for who, user_id, scenario, expected in (
        (SERVICE, person.id, "nowhere", errors.ScenarioNotFound),
        (SERVICE, NOBODY, "party", errors.ProfileNotFound),
        (eve.identity, person.id, "party", errors.PermissionRefused),
        (VISITOR, person.id, "party", errors.PermissionRefused),
    ):
        with pytest.raises(expected):
            caller.call(who, sessions.start, user_id, scenario)
    assert one(owner, "SELECT count(*) FROM conversation.sessions") == 0


def test_what_is_completed_is_neither_completed_nor_given_up(
    caller: Caller, owner: psycopg.Connection, person: Person
) -> None:
    done = caller.call(person.identity, sessions.complete, start(caller, person).id)
    for who in (person.identity, SERVICE):
        for function in (sessions.complete, sessions.abandon):
            with pytest.raises(errors.SessionCompleted):
                caller.call(who, function, done.id)
    stored = caller.call(SERVICE, sessions.get, done.id)
    assert (stored.completed_at, stored.updated_at) == (done.completed_at, done.updated_at)
    assert caller.call(SERVICE, profiles.get, person.id).completed_scenario_count == 1


def test_a_session_that_is_given_up_leaves_nothing(
    caller: Caller, owner: psycopg.Connection, person: Person
) -> None:
    made = start(caller, person)
    caller.call(person.identity, messages.send, made.id, "Hallo!")
    caller.call(person.identity, sessions.abandon, made.id)
    for table in ("sessions", "messages"):
        assert one(owner, f"SELECT count(*) FROM conversation.{table}") == 0
    with pytest.raises(errors.SessionNotFound):
        caller.call(person.identity, sessions.abandon, made.id)
    assert start(caller, person).id != made.id


@pytest.mark.document(9)
def test_a_session_that_is_reopened_counts_no_more(caller: Caller, person: Person) -> None:
    done = caller.call(person.identity, sessions.complete, start(caller, person).id)
    with pytest.raises(errors.PermissionRefused):
        caller.call(person.identity, sessions.reopen, done.id)
    again = caller.call(SERVICE, sessions.reopen, done.id)
    assert (again.is_completed, again.completed_at, again.duration_seconds) == (False, None, None)
    counted = caller.call(SERVICE, profiles.get, person.id)
    assert (counted.completed_scenario_count, counted.current_week_completion_count) == (0, 0)
    assert start(caller, person).id == done.id
    assert caller.call(person.identity, sessions.complete, done.id).is_completed


def test_a_session_is_not_reopened_beside_an_open_one(caller: Caller, person: Person) -> None:
    done = caller.call(person.identity, sessions.complete, start(caller, person).id)
    start(caller, person)
    with pytest.raises(errors.AlreadyExists) as caught:
        caller.call(SERVICE, sessions.reopen, done.id)
    assert caught.value.rule == "idx_sessions_active_per_user"
    assert caller.call(SERVICE, sessions.get, done.id).is_completed


def test_another_person_neither_sees_nor_changes_a_session(
    caller: Caller, owner: psycopg.Connection, person: Person
) -> None:
    eve = sign_up(owner)
    mine = [start(caller, person).id, completed(owner, person, LONG_AGO)]
    before = owner.execute("SELECT * FROM conversation.sessions ORDER BY id").fetchall()
    for session_id in mine:
        for function in (sessions.get, sessions.complete, sessions.abandon, sessions.reopen):
            with pytest.raises(errors.SessionNotFound):
                caller.call(eve.identity, function, session_id)
            with pytest.raises(errors.PermissionRefused):
                caller.call(VISITOR, function, session_id)
    assert caller.call(eve.identity, sessions.find_open, person.id) is None
    assert caller.call(eve.identity, sessions.history, person.id) == Page([], None)
    assert owner.execute("SELECT * FROM conversation.sessions ORDER BY id").fetchall() == before


@pytest.mark.document(27)
@pytest.mark.parametrize(
    "change",
    [
        "is_completed = false",
        "completed_at = completed_at - interval '1 day'",
        "started_at = started_at - interval '1 day'",
        "duration_seconds = 1",
        "message_count_main = 5",
        "scenario_id = 2",
        "user_id = gen_random_uuid()",
    ],
)
def test_a_person_changes_nothing_of_a_session_but_its_completion(
    caller: Caller, owner: psycopg.Connection, person: Person, change: str
) -> None:
    completed(owner, person, LONG_AGO)
    before = owner.execute("SELECT * FROM conversation.sessions").fetchall()
    with pytest.raises(errors.PermissionRefused):
        caller.run(person.identity, lambda tx: tx.execute(text(f"UPDATE conversation.sessions SET {change}")))
    assert owner.execute("SELECT * FROM conversation.sessions").fetchall() == before


@pytest.mark.document(20)
def test_a_history_is_of_what_was_completed_and_of_a_scene_if_one_is_asked_for(
    caller: Caller, owner: psycopg.Connection, person: Person
) -> None:
    start(caller, person)  # an open one is no history
    made = [
        completed(owner, person, LONG_AGO + place * HOUR, scenario_id=1 + place % 2) for place in range(5)
    ]

    def listed(**given: Any) -> list[UUID]:
        return [one.id for one in caller.call(person.identity, sessions.history, person.id, **given).rows]

    assert listed() == made[::-1]
    assert listed(scenario="party") == [made[3], made[1]]
    assert listed(scenario="kebab") == listed(scenario="nowhere") == []


def test_a_swallowed_error_saves_nothing(caller: Caller, owner: psycopg.Connection, person: Person) -> None:
    done = completed(owner, person, LONG_AGO)

    def careless(tx: Session) -> None:
        sessions.start(tx, person.id, "party")
        with suppress(errors.AlreadyExists):
            sessions.reopen(tx, done)  # beside the open one: the database refuses

    def careful(tx: Session) -> None:
        sessions.start(tx, person.id, "party")
        with suppress(errors.AlreadyExists), tx.begin_nested():
            sessions.reopen(tx, done)

    with pytest.raises(errors.RolledBack):
        caller.run(SERVICE, careless)
    assert one(owner, "SELECT count(*) FROM conversation.sessions") == 1
    caller.run(SERVICE, careful)
    assert one(owner, "SELECT count(*) FROM conversation.sessions") == 2


def test_a_session_read_twice_in_one_transaction_is_as_it_is_stored(caller: Caller, person: Person) -> None:
    def body(tx: Session) -> RolePlay:
        made = sessions.start(tx, person.id, "party")
        assert not made.is_completed
        sessions.complete(tx, made.id)
        return made

    kept = caller.run(person.identity, body)
    assert kept.is_completed
    assert kept.completed_at > kept.started_at  # the clock's, not the transaction's
    assert kept.duration_seconds == 0
