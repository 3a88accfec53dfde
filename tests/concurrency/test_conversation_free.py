"""The chat's races, free: all begin at once, many times in a row, and the database agrees with the answers.

Which one comes first is chance; each test notes how often it went which way.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from carnivore_db.conversation import jobs, messages, profiles, sessions
from carnivore_db.conversation.models import Message
from carnivore_db.errors import CarnivoreError, ProfileDeleted, SessionCompleted, SessionNotFound
from tests.concurrency.meetings import Arena, completed_session
from tests.conversation.samples import SERVICE, sign_up

IDLE = datetime.now(UTC) - timedelta(days=8)
Number = pytest.mark.parametrize("number", [25, pytest.param(200, marks=pytest.mark.slow)])


class Rushes:
    """So many times in a row: the same acts in any order, all at once."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.went: Counter[str] = Counter()
        self._choose = random.Random(46)  # noqa: S311 - a test's choice, repeatable

    def __call__(self, **acts: Callable[[], Any]) -> Any:
        """What came of each, by its name; errors that are none of the answers are raised."""
        names = list(acts)
        self._choose.shuffle(names)
        came = dict(zip(names, self.arena.rush(*(acts[name] for name in names)), strict=True))
        self.arena.assert_lawful()
        self.went[", ".join(f"{name}: {_said(came[name])}" for name in acts)] += 1
        return tuple(came[name] for name in acts)


def _said(outcome: object) -> str:
    return str(outcome) if isinstance(outcome, int) else type(outcome).__name__


@pytest.fixture
def rush(arena: Arena, record_property: Callable[[str, object], None]) -> Iterator[Rushes]:
    made = Rushes(arena)
    yield made
    record_property("went", dict(made.went))


@Number
@pytest.mark.document(3)
def test_a_message_against_a_completion(arena: Arena, rush: Rushes, number: int) -> None:
    """It is in the session and counted, or refused and nowhere."""
    for _ in range(number):
        person, session = arena.player()
        said, done = rush(message=arena.say(person, session), completion=arena.complete(person, session))
        stored = [] if isinstance(said, SessionCompleted) else [said.id]
        seen = arena.session(session)
        assert seen == {"is_completed": True, "counted": len(stored), "messages": stored}
        assert done.message_count_main == len(stored)


@Number
@pytest.mark.document(9, 10)
def test_a_completion_against_a_completion(arena: Arena, rush: Rushes, number: int) -> None:
    for _ in range(number):
        person, session = arena.player()
        both = rush(
            person=arena.complete(person, session), service=arena.act(SERVICE, sessions.complete, session)
        )
        (refused,) = (one for one in both if isinstance(one, CarnivoreError))
        assert type(refused) is SessionCompleted
        assert arena.week(person) == (1, 1, True)


@Number
@pytest.mark.document(9, 10)
def test_completions_of_two_sessions_of_a_person(arena: Arena, rush: Rushes, number: int) -> None:
    for _ in range(number):
        person, session = arena.player()
        other = arena.act(SERVICE, completed_session, person)
        both = rush(one=arena.complete(person, session), other=other)
        assert not any(isinstance(one, CarnivoreError) for one in both)
        assert arena.week(person) == (2, 2, True)


@Number
def test_a_start_against_a_start(arena: Arena, rush: Rushes, number: int) -> None:
    for _ in range(number):
        person = sign_up(arena.owner)
        one, other = rush(
            person=arena.act(person.identity, sessions.start, person.id, "party"),
            service=arena.act(SERVICE, sessions.start, person.id, "kebab"),
        )
        rows = arena.owner.execute(
            "SELECT id FROM conversation.sessions WHERE user_id = %s", [person.id]
        ).fetchall()
        assert [one.id, other.id] == [row["id"] for row in rows] * 2


@Number
@pytest.mark.document(46)
def test_a_message_sent_three_times(arena: Arena, rush: Rushes, number: int) -> None:
    for _ in range(number):
        person, session = arena.player()
        once = arena.say(person, session, client_message_id=uuid4())
        came = rush(first=once, second=once, third=once)
        seen = arena.session(session)
        assert (seen["messages"] * 3, seen["counted"]) == ([one.id for one in came], 1)


@Number
@pytest.mark.document(3, 46)
def test_a_message_sent_twice_against_a_completion(arena: Arena, rush: Rushes, number: int) -> None:
    """Both senders get the one message, or both are refused and there is none."""
    for _ in range(number):
        person, session = arena.player()
        once = arena.say(person, session, client_message_id=uuid4())
        *said, _ = rush(first=once, second=once, completion=arena.complete(person, session))
        stored = arena.session(session)["messages"]
        if stored:
            assert [one.id for one in said] == stored * 2
        else:
            assert [type(one) for one in said] == [SessionCompleted] * 2


@Number
@pytest.mark.document(2, 31)
def test_the_weekly_reset_against_a_completion(arena: Arena, rush: Rushes, number: int) -> None:
    for _ in range(number):
        person, session = arena.of_last_week()
        reset, done = rush(
            reset=lambda: jobs.run(arena.owning.engine, "reset_weekly_limits"),
            completion=arena.complete(person, session),
        )
        assert reset in {0, 1}
        assert done.is_completed
        assert arena.week(person) == (4, 1, True)


@Number
@pytest.mark.document(2, 31)
def test_two_weekly_resets(arena: Arena, rush: Rushes, number: int) -> None:
    people = [arena.of_last_week()[0] for _ in range(7)]
    for _ in range(number):
        arena.owner.execute(
            "UPDATE conversation.profiles SET week_reset_date = week_reset_date - interval '7 days',"
            " current_week_completion_count = 0"
        )

        def reset() -> int:
            return jobs.run(arena.owning.engine, "reset_weekly_limits", batch=2)

        assert sum(rush(one=reset, other=reset)) == len(people)
        assert [arena.week(person) for person in people] == [(3, 0, True)] * len(people)


@Number
@pytest.mark.document(35)
def test_an_erasure_against_messages(arena: Arena, rush: Rushes, number: int) -> None:
    """What was said before it is redacted, what comes after it is refused."""
    for _ in range(number):
        person, session = arena.player()
        erased, said, answered = rush(
            erasure=arena.act(SERVICE, profiles.erase, person.id),
            message=arena.say(person, session),
            answer=arena.answer(session),
        )
        assert isinstance(said, Message | ProfileDeleted | SessionNotFound)
        assert isinstance(answered, Message | ProfileDeleted)
        stored = [one.id for one in (said, answered) if isinstance(one, Message)]
        assert sorted(arena.session(session)["messages"]) == sorted(stored)
        assert erased == len(stored)


@Number
@pytest.mark.document(33)
def test_two_archivings_while_somebody_reads(arena: Arena, rush: Rushes, number: int) -> None:
    def archive() -> int:
        return jobs.run(arena.owning.engine, "archive_messages", batch=2)

    for _ in range(number):
        person, session = arena.old_messages(5)
        one, other, read = rush(
            one=archive, other=archive, page=arena.act(person.identity, messages.page, session)
        )
        assert one + other == 5
        assert len({message.id for message in read.rows}) == len(read.rows) == 5
        assert arena.session(session)["messages"] == []


@Number
def test_the_cleanup_against_a_message(arena: Arena, rush: Rushes, number: int) -> None:
    """The session stays for the message, or has gone before it."""
    for _ in range(number):
        person, session = arena.player(started_at=IDLE, last_activity_at=IDLE)
        deleted, said = rush(
            cleanup=lambda: jobs.run(arena.owning.engine, "delete_expired_sessions"),
            message=arena.say(person, session),
        )
        assert (type(said) is SessionNotFound) == deleted
        stored = [] if deleted else [said.id]
        assert arena.session(session)["messages"] == stored
