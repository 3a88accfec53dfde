"""A login is deleted while its person, the service and the jobs go on: nothing of the person is left."""

import random
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from carnivore_db.conversation import logs, profiles, sessions
from carnivore_db.errors import (
    Busy,
    CarnivoreError,
    InvalidInput,
    PermissionRefused,
    ProfileDeleted,
    ProfileNotFound,
    SessionCompleted,
    SessionNotFound,
)
from tests.concurrency.meetings import OLD, Act, Arena, completed_session, outcome
from tests.conversation.samples import SERVICE, Person
from tests.conversation.speaking import opened

# What meets the deletion, with a person's open session; and what comes of it when the deletion was first.
Meets = Callable[[Arena, Person, UUID], Act]
ACTS: dict[str, tuple[Meets, object]] = {
    "a message": (Arena.say, SessionNotFound),
    "a message with an id": (
        lambda arena, person, session: arena.say(person, session, client_message_id=uuid4()),
        SessionNotFound,
    ),
    "an answer": (lambda arena, _, session: arena.answer(session), SessionNotFound),
    "a completion": (Arena.complete, SessionNotFound),
    "an abandonment": (
        lambda arena, person, session: arena.act(person.identity, sessions.abandon, session),
        SessionNotFound,
    ),
    "a session from elsewhere": (
        lambda arena, person, _: arena.act(SERVICE, completed_session, person),
        ProfileNotFound,
    ),
    "an erasure": (lambda arena, person, _: arena.act(SERVICE, profiles.erase, person.id), ProfileNotFound),
    "leaving": (lambda arena, person, _: arena.act(person.identity, profiles.leave), ProfileNotFound),
    "a new address": (
        lambda arena, person, _: arena.act(
            SERVICE, profiles.change_email, person.id, f"{uuid4()}@example.com"
        ),
        ProfileNotFound,
    ),
    "an event": (
        lambda arena, person, _: arena.act(
            SERVICE, logs.write, "info", "user_login_success", user_id=person.id
        ),
        ProfileNotFound,
    ),
    "the weekly reset": (lambda arena, *_: arena.job("reset_weekly_limits"), 0),
    "the archiving": (lambda arena, *_: arena.job("archive_messages"), 0),
    "the cleanup": (lambda arena, *_: arena.job("delete_expired_sessions"), 0),
}


def busy_person(arena: Arena) -> tuple[Person, UUID]:
    """Somebody whom every job is about: an idle session, a week that is over, messages for the archive."""
    person, _ = arena.old_messages(2)
    session = opened(arena.owner, person, OLD)
    arena.owner.execute(
        "UPDATE conversation.profiles SET week_reset_date = week_reset_date - interval '7 days'"
        " WHERE id = %s",
        [person.id],
    )
    return person, session


@pytest.mark.document(40)
@pytest.mark.parametrize("name", ACTS)
def test_what_waited_for_the_deletion_finds_nothing(arena: Arena, name: str) -> None:
    meets, expected = ACTS[name]
    person, session = busy_person(arena)
    came = arena.meet(arena.deletion(person), meets(arena, person, session))
    assert came.second == expected if expected == 0 else type(came.second) is expected
    assert came.waited == (expected != 0)
    assert arena.rows_of(person) == 0


@pytest.mark.document(40)
@pytest.mark.parametrize("name", ACTS)
def test_the_deletion_waits_and_leaves_nothing(arena: Arena, name: str) -> None:
    meets, _ = ACTS[name]
    person, session = busy_person(arena)
    came = arena.meet(meets(arena, person, session), arena.deletion(person))
    assert (came.second, came.waited) == (None, True)
    assert arena.rows_of(person) == 0
    arena.assert_lawful()


# What a person may be told whose login is being deleted; and Busy, where two met in a circle.
ALLOWED = (
    Busy,
    PermissionRefused,
    ProfileDeleted,
    ProfileNotFound,
    SessionCompleted,
    SessionNotFound,
)


def allowed(error: CarnivoreError) -> bool:
    """An erased person takes no new address."""
    forgotten = isinstance(error, InvalidInput) and error.rule == "email_with_erased"
    return forgotten or isinstance(error, ALLOWED)


@pytest.mark.document(40)
@pytest.mark.parametrize("number", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_deletion_among_everything(
    arena: Arena, number: int, record_property: Callable[[str, object], None]
) -> None:
    choose = random.Random(1)  # noqa: S311 - a test's choice, repeatable
    met = 0
    for _ in range(number):
        person, session = busy_person(arena)

        def delete(person: Person = person) -> None:
            while isinstance(outcome(arena.deletion(person)), Busy):
                pass

        start = arena.act(person.identity, sessions.start, person.id, "party")
        others = [meets(arena, person, session) for meets, _ in choose.sample(list(ACTS.values()), 6)]
        acts = [*others, start]
        choose.shuffle(acts)
        came = arena.rush(delete, *acts)
        assert [one for one in came if isinstance(one, CarnivoreError) and not allowed(one)] == []
        met += sum(isinstance(one, Busy) for one in came)
        assert arena.rows_of(person) == 0
        arena.assert_lawful()
    record_property("met in a circle", met)
