"""People who leave, come back, or have what they said erased for good."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text

from carnivore_db import errors
from carnivore_db.conversation import logs, messages, profiles, sessions
from carnivore_db.conversation.models import ERASED
from tests.conversation.samples import LONG_AGO, SERVICE, VISITOR, Person, completed, sign_up
from tests.conversation.speaking import holding
from tests.support.callers import Caller
from tests.support.databases import one

SECRET = "my sister's wedding"
# What a person who is there can read of themselves.
READABLE = ("profiles", "sessions", "messages", "messages_archive", "message_history", "logs")


def lived(caller: Caller, person: Person) -> UUID:
    """The person said things in an open session, and something was logged of them. Returns the session."""
    playing = caller.call(person.identity, sessions.start, person.id, "party")
    caller.call(person.identity, messages.send, playing.id, SECRET)
    caller.call(SERVICE, messages.send, playing.id, SECRET, role="main_assistant")
    caller.call(SERVICE, logs.write, "info", "scenario_started", user_id=person.id, metadata={"said": SECRET})
    return playing.id


def seen(caller: Caller, person: Person) -> dict[str, int]:
    """How many rows of each kind the person can read."""

    def count(tx: Any) -> dict[str, int]:
        return {
            table: tx.execute(text(f"SELECT count(*) FROM conversation.{table}")).scalar_one()
            for table in READABLE
        }

    return caller.run(person.identity, count)


@pytest.mark.document(35)
def test_who_leaves_sees_and_writes_nothing_and_may_come_back(
    caller_of_each_shape: Caller, signed_up: Callable[[], Person]
) -> None:
    caller, ada, eve = caller_of_each_shape, signed_up(), signed_up()
    playing = lived(caller, ada)
    before = seen(caller, ada)
    assert before == {
        **dict.fromkeys(READABLE, 1),
        "messages": 2,
        "messages_archive": 0,
        "message_history": 2,
    }

    left = caller.call(ada.identity, profiles.leave)
    assert seen(caller, ada) == dict.fromkeys(READABLE, 0)
    for function, given, expected in (
        (profiles.get, (ada.id,), errors.ProfileNotFound),
        (profiles.allowance, (ada.id,), errors.ProfileNotFound),
        (profiles.leave, (), errors.ProfileNotFound),
        (sessions.get, (playing,), errors.SessionNotFound),
        (sessions.complete, (playing,), errors.SessionNotFound),
        (sessions.abandon, (playing,), errors.SessionNotFound),
        (messages.send, (playing, "Hallo?"), errors.SessionNotFound),
    ):
        with pytest.raises(expected):
            caller.call(ada.identity, function, *given)
    assert caller.call(SERVICE, profiles.get, ada.id).deleted_at == left
    assert caller.call(SERVICE, profiles.get, eve.id).deleted_at is None

    back = caller.call(SERVICE, profiles.restore, ada.id)
    assert (back.deleted_at, back.erased_at) == (None, None)
    assert seen(caller, ada) == before
    assert caller.call(ada.identity, sessions.complete, playing).is_completed


@pytest.mark.document(35)
def test_nothing_is_written_for_somebody_who_has_left(caller: Caller, owner: psycopg.Connection) -> None:
    ada, bob = sign_up(owner), sign_up(owner)
    playing = lived(caller, ada)
    for person in (ada, bob):
        caller.call(person.identity, profiles.leave)
    with pytest.raises(errors.PermissionRefused):
        caller.call(bob.identity, sessions.start, bob.id, "party")
    with pytest.raises(errors.ProfileDeleted):
        caller.call(SERVICE, sessions.start, bob.id, "party")
    with pytest.raises(errors.ProfileDeleted):
        caller.call(SERVICE, messages.send, playing, "Are you there?", role="main_assistant")
    assert one(owner, "SELECT count(*) FROM conversation.sessions") == 1
    assert one(owner, "SELECT count(*) FROM conversation.messages") == 2


@pytest.mark.document(35)
def test_the_service_deactivates_a_person_once(caller: Caller, person: Person) -> None:
    gone = caller.call(SERVICE, profiles.deactivate, person.id)
    again = caller.call(SERVICE, profiles.deactivate, person.id)
    assert gone.deleted_at == again.deleted_at is not None
    assert gone.erased_at is None
    with pytest.raises(errors.ProfileNotFound):
        caller.call(person.identity, profiles.get, person.id)
    assert caller.call(SERVICE, profiles.restore, person.id).deleted_at is None
    assert caller.call(SERVICE, profiles.restore, person.id).deleted_at is None
    assert caller.call(person.identity, profiles.get, person.id).id == person.id


@pytest.mark.document(9, 35)
def test_erasure_takes_what_was_said_and_leaves_the_counts(
    caller_of_each_shape: Caller, signed_up: Callable[[], Person]
) -> None:
    caller, ada = caller_of_each_shape, signed_up()
    playing = lived(caller, ada)
    caller.call(ada.identity, sessions.complete, playing)
    before = caller.call(SERVICE, sessions.get, playing)

    assert caller.call(SERVICE, profiles.erase, ada.id) == 2
    erased = caller.call(SERVICE, profiles.get, ada.id)
    assert erased.deleted_at == erased.erased_at is not None
    assert erased.email == f"erased-{ada.id}@erased.invalid"
    assert (erased.completed_scenario_count, erased.current_week_completion_count) == (1, 1)
    after = caller.call(SERVICE, sessions.get, playing)
    assert (after.message_count_main, after.completed_at) == (2, before.completed_at)
    said = caller.call(SERVICE, messages.page, playing).rows
    assert [message.content for message in said] == [ERASED, ERASED]
    found = caller.call(SERVICE, logs.search, user_id=ada.id).rows
    assert [(event.event_type, event.facts) for event in found] == [
        ("account_erased", {"messages": 2}),
        ("scenario_started", {}),
    ]
    with pytest.raises(errors.ProfileNotFound):
        caller.call(ada.identity, profiles.get, ada.id)


@pytest.mark.document(35)
def test_who_left_before_keeps_that_moment_when_erased(caller: Caller, person: Person) -> None:
    left = caller.call(person.identity, profiles.leave)
    caller.call(SERVICE, profiles.erase, person.id)
    erased = caller.call(SERVICE, profiles.get, person.id)
    assert erased.deleted_at == left
    assert erased.erased_at is not None
    assert erased.erased_at > left


@pytest.mark.document(35)
def test_who_was_erased_does_not_come_back(caller: Caller, person: Person) -> None:
    caller.call(SERVICE, profiles.erase, person.id)
    with pytest.raises(errors.InvalidInput) as caught:
        caller.call(SERVICE, profiles.restore, person.id)
    assert (caught.value.field, caught.value.rule) == ("deleted_at", "deleted_at_with_erased")
    with pytest.raises(errors.ProfileNotFound):
        caller.call(person.identity, profiles.get, person.id)


@pytest.mark.document(35)
def test_an_erased_address_is_free_again(caller: Caller, owner: psycopg.Connection, person: Person) -> None:
    caller.call(SERVICE, profiles.erase, person.id)
    owner.execute("DELETE FROM auth.users WHERE id = %s", [person.id])
    again = sign_up(owner, person.email.upper())
    found = caller.call(SERVICE, profiles.find_by_email, person.email)
    assert found is not None
    assert found.id == again.id


@pytest.mark.document(35)
def test_the_address_does_not_come_back_to_who_was_erased(
    caller: Caller, owner: psycopg.Connection, person: Person
) -> None:
    """The service follows changes of logins: one that comes late must not undo the erasure."""
    caller.call(SERVICE, profiles.erase, person.id)
    with pytest.raises(errors.CarnivoreError):
        caller.call(SERVICE, profiles.change_email, person.id, person.email)
    assert holding(owner, person.email) == []


@pytest.mark.document(35)
def test_leaving_deactivating_and_erasing_are_theirs_who_may(
    caller: Caller, owner: psycopg.Connection, person: Person
) -> None:
    eve = sign_up(owner)
    completed(owner, person, LONG_AGO)
    row = "SELECT * FROM conversation.profiles WHERE id = %s"
    before = owner.execute(row, [person.id]).fetchall()
    for who in (eve.identity, person.identity, VISITOR):
        for function in (profiles.deactivate, profiles.restore, profiles.erase):
            with pytest.raises(errors.PermissionRefused):
                caller.call(who, function, person.id)
    for who in (VISITOR, SERVICE):
        with pytest.raises(errors.PermissionRefused):
            caller.call(who, profiles.leave)
    caller.call(eve.identity, profiles.leave)  # herself, and nobody else
    assert owner.execute(row, [person.id]).fetchall() == before


@pytest.mark.document(35)
@pytest.mark.parametrize("forged", ["erased_at = now()", "deleted_at = now(), erased_at = now()"])
def test_nobody_forges_an_erasure(caller: Caller, person: Person, forged: str) -> None:
    """Whoever could set erased_at could change messages."""
    statement = text(f"UPDATE conversation.profiles SET {forged}")
    for who in (SERVICE, person.identity):
        with pytest.raises(errors.PermissionRefused):
            caller.run(who, lambda tx: tx.execute(statement))
