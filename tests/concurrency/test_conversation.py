"""The chat's races in a fixed order: the second comes while the first has done its part and has not ended."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from carnivore_db.conversation import messages, profiles, sessions
from carnivore_db.errors import ProfileDeleted, SessionCompleted, SessionNotFound
from tests.concurrency.meetings import Arena, completed_session, sql
from tests.conversation.samples import SERVICE, sign_up
from tests.support.databases import somebody_waits

IDLE = datetime.now(UTC) - timedelta(days=8)
AGAIN = """
    INSERT INTO conversation.messages (session_id, role, chat_type, content, client_message_id)
    VALUES (:session, 'user', 'main', 'Guten Tag!', :id) ON CONFLICT DO NOTHING RETURNING id
"""
Ends = pytest.mark.parametrize("kept", [True, False], ids=["kept", "taken back"])


@pytest.mark.document(3)
@Ends
@pytest.mark.parametrize("whose", ["person", "service"])
def test_a_message_waits_for_the_completion(arena: Arena, whose: str, *, kept: bool) -> None:
    person, session = arena.player()
    speak = arena.say(person, session) if whose == "person" else arena.answer(session)
    came = arena.meet(arena.complete(person, session), speak, kept=kept)
    assert came.waited
    seen = arena.session(session)
    if kept:
        assert isinstance(came.second, SessionCompleted)
        assert (seen["is_completed"], seen["messages"]) == (True, [])
    else:
        assert (seen["is_completed"], seen["messages"], seen["counted"]) == (False, [came.second.id], 1)
    arena.assert_lawful()


@pytest.mark.document(3)
@Ends
@pytest.mark.parametrize("whose", ["person", "service"])
def test_a_completion_waits_for_the_message(arena: Arena, whose: str, *, kept: bool) -> None:
    person, session = arena.player()
    speak = arena.say(person, session) if whose == "person" else arena.answer(session)
    came = arena.meet(speak, arena.complete(person, session), kept=kept)
    assert came.waited
    assert came.second.message_count_main == kept
    seen = arena.session(session)
    assert (seen["is_completed"], seen["messages"]) == (True, [came.first.id] if kept else [])
    arena.assert_lawful()


@pytest.mark.document(3, 8)
def test_no_message_is_later_than_the_completion_that_waited_for_it(arena: Arena) -> None:
    """The completion's transaction has begun, and so has its now(), before the message's."""
    person, session = arena.player()
    with arena.app.transaction(person.identity) as tx:
        arena.say(person, session)()
        sessions.complete(tx, session)
    row = arena.ask(
        "SELECT completed_at - (SELECT max(sent_at) FROM conversation.messages) AS after"
        " FROM conversation.sessions WHERE id = %s",
        session,
    )
    assert row["after"] >= timedelta(0)


@pytest.mark.document(9, 10)
@Ends
def test_a_session_is_completed_once(arena: Arena, *, kept: bool) -> None:
    person, session = arena.player()
    once = arena.complete(person, session)
    came = arena.meet(once, arena.act(SERVICE, sessions.complete, session), kept=kept)
    assert came.waited
    assert isinstance(came.second, SessionCompleted) == kept
    assert arena.week(person) == (1, 1, True)
    arena.assert_lawful()


@pytest.mark.document(9, 10)
@Ends
def test_two_sessions_of_a_person_are_both_counted(arena: Arena, *, kept: bool) -> None:
    person, session = arena.player()
    other = arena.act(SERVICE, completed_session, person)
    came = arena.meet(arena.complete(person, session), other, kept=kept)
    assert came.waited
    assert arena.week(person) == (1 + kept, 1 + kept, True)
    arena.assert_lawful()


@Ends
def test_two_starts_give_the_same_session(arena: Arena, *, kept: bool) -> None:
    person = sign_up(arena.owner)
    start = arena.act(person.identity, sessions.start, person.id, "party")
    came = arena.meet(start, arena.act(SERVICE, sessions.start, person.id, "kebab"), kept=kept)
    assert came.waited
    assert (came.second.id == came.first.id) == kept
    rows = arena.owner.execute("SELECT id FROM conversation.sessions").fetchall()
    assert rows == [{"id": came.second.id}]


@pytest.mark.document(46)
@Ends
def test_a_message_sent_twice_at_once_is_stored_once(arena: Arena, *, kept: bool) -> None:
    person, session = arena.player()
    once = arena.say(person, session, client_message_id=uuid4())
    came = arena.meet(once, once, kept=kept)
    assert came.waited
    assert (came.second.id == came.first.id) == kept
    seen = arena.session(session)
    assert (seen["messages"], seen["counted"]) == ([came.second.id], 1)


@pytest.mark.document(46)
@pytest.mark.parametrize("meanwhile", ["completed", "limit reached"])
def test_a_retry_waits_for_its_message_whatever_happens_meanwhile(arena: Arena, meanwhile: str) -> None:
    person, session = arena.player()
    once = arena.say(person, session, client_message_id=uuid4())
    if meanwhile == "limit reached":
        arena.owner.execute("UPDATE conversation.rate_limits SET allowed = 1 WHERE code = 'messages'")

    def say(tx: Any) -> Any:
        said = once.function(tx, *once.args, **once.kwargs)
        if meanwhile == "completed":
            sessions.complete(tx, session)
        return said

    came = arena.meet(arena.act(person.identity, say), once)
    assert (came.second.id, came.waited) == (came.first.id, True)
    assert arena.session(session)["messages"] == [came.first.id]
    arena.assert_lawful()


@pytest.mark.document(46)
@Ends
def test_a_retry_that_meets_the_completion_gets_what_was_stored(arena: Arena, *, kept: bool) -> None:
    """The first attempt is stored and still open as the completion begins, and the retry behind that."""
    person, session = arena.player()
    once = arena.say(person, session, client_message_id=uuid4())
    ends = arena.complete(person, session)
    came = arena.meet(once, lambda: arena.rush(ends, once), kept=kept)
    done, retried = came.second
    seen = arena.session(session)
    assert seen["is_completed"]
    if kept:
        assert (retried.id, done.id) == (came.first.id, session)
        assert seen["messages"] == [came.first.id]
    elif isinstance(retried, SessionCompleted):
        assert seen["messages"] == []
    else:
        assert seen["messages"] == [retried.id]
    arena.assert_lawful()


@pytest.mark.document(46)
@Ends
def test_a_retry_that_waited_for_the_completion_does_not_come_too_late(arena: Arena, *, kept: bool) -> None:
    """The bare statement, which has not looked first for what is stored."""
    person, session = arena.player()
    stored = arena.say(person, session, client_message_id=uuid4())()
    again = arena.act(person.identity, sql, AGAIN, session=session, id=stored.client_message_id)
    came = arena.meet(arena.complete(person, session), again, kept=kept)
    assert (came.second, came.waited) == (None, True)
    assert arena.session(session)["messages"] == [stored.id]
    arena.assert_lawful()


@pytest.mark.document(2, 31)
@Ends
def test_the_weekly_reset_goes_around_a_completion(arena: Arena, *, kept: bool) -> None:
    person, session = arena.of_last_week()
    came = arena.meet(arena.complete(person, session), arena.job("reset_weekly_limits"), kept=kept)
    assert (came.second, came.waited) == (0, False)
    if kept:
        assert arena.week(person) == (4, 1, True)
    else:
        assert arena.job("reset_weekly_limits")() == 1
        assert arena.week(person) == (3, 0, True)


@pytest.mark.document(2, 31)
@Ends
def test_a_completion_waits_for_the_weekly_reset(arena: Arena, *, kept: bool) -> None:
    person, session = arena.of_last_week()
    came = arena.meet(arena.job("reset_weekly_limits"), arena.complete(person, session), kept=kept)
    assert (came.first, came.waited) == (1, True)
    assert arena.week(person) == (4, 1, True)


@pytest.mark.document(2, 31)
def test_two_weekly_resets_share_the_work(arena: Arena) -> None:
    people = [arena.of_last_week()[0] for _ in range(3)]
    some = arena.job("reset_weekly_limits", batch=2)
    came = arena.meet(some, some)
    assert came == (2, 1, False)
    assert [arena.week(person) for person in people] == [(3, 0, True)] * 3


@pytest.mark.document(35)
@Ends
@pytest.mark.parametrize("whose", ["person", "service"])
def test_an_erasure_waits_for_the_message(arena: Arena, whose: str, *, kept: bool) -> None:
    person, session = arena.player()
    speak = arena.say(person, session) if whose == "person" else arena.answer(session)
    came = arena.meet(speak, arena.act(SERVICE, profiles.erase, person.id), kept=kept)
    assert (came.second, came.waited) == (int(kept), True)
    arena.assert_lawful()


@pytest.mark.document(35)
@Ends
@pytest.mark.parametrize("whose", ["person", "service"])
def test_a_message_waits_for_the_erasure(arena: Arena, whose: str, *, kept: bool) -> None:
    person, session = arena.player()
    speak = arena.say(person, session) if whose == "person" else arena.answer(session)
    came = arena.meet(arena.act(SERVICE, profiles.erase, person.id), speak, kept=kept)
    assert came.waited
    # Who has left sees no session of theirs either.
    refused = (ProfileDeleted, SessionNotFound) if whose == "person" else ProfileDeleted
    assert isinstance(came.second, refused) == kept
    assert len(arena.session(session)["messages"]) == (not kept)
    arena.assert_lawful()


@pytest.mark.document(35)
def test_an_erasure_waits_for_a_session_that_it_does_not_see_yet(arena: Arena) -> None:
    person, open_one = arena.player()

    def start_and_say(tx: Any) -> None:
        sessions.complete(tx, open_one)
        session = sessions.start(tx, person.id, "party")
        messages.send(tx, session.id, "Guten Tag!")

    came = arena.meet(
        arena.act(person.identity, start_and_say), arena.act(SERVICE, profiles.erase, person.id)
    )
    assert (came.second, came.waited) == (1, True)
    arena.assert_lawful()


@pytest.mark.document(35)
@Ends
def test_two_erasures_at_once_are_one(arena: Arena, *, kept: bool) -> None:
    person, session = arena.player()
    arena.say(person, session)()
    erase = arena.act(SERVICE, profiles.erase, person.id)
    came = arena.meet(erase, erase, kept=kept)
    assert (came.first, came.second, came.waited) == (1, int(not kept), True)
    logged = "SELECT metadata FROM conversation.logs WHERE event_type = 'account_erased' ORDER BY created_at"
    counted = [row["metadata"]["messages"] for row in arena.owner.execute(logged)]
    assert counted == ([1, 0] if kept else [1])
    arena.assert_lawful()


@pytest.mark.document(33)
def test_two_archivings_share_the_work(arena: Arena) -> None:
    person, session = arena.old_messages(3)
    some = arena.job("archive_messages", batch=2)
    came = arena.meet(some, some)
    assert came == (2, 1, False)
    found = arena.act(person.identity, messages.page, session)()
    assert [message.archived_at is not None for message in found.rows] == [True] * 3
    arena.assert_lawful()


@pytest.mark.document(33, 35)
@Ends
def test_an_erasure_waits_for_the_archiving(arena: Arena, *, kept: bool) -> None:
    person, _ = arena.old_messages(2)
    came = arena.meet(arena.job("archive_messages"), arena.act(SERVICE, profiles.erase, person.id), kept=kept)
    assert (came.first, came.second, came.waited) == (2, 2, True)
    arena.assert_lawful()


@pytest.mark.document(33, 35)
@Ends
def test_an_archiving_goes_around_the_erasure(arena: Arena, *, kept: bool) -> None:
    person, _ = arena.old_messages(2)
    came = arena.meet(arena.act(SERVICE, profiles.erase, person.id), arena.job("archive_messages"), kept=kept)
    assert (came.first, came.second, came.waited) == (2, 0, False)
    assert arena.job("archive_messages")() == 2
    arena.assert_lawful()


GATE = """
    CREATE FUNCTION public.wait_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END';
    CREATE TRIGGER a_gate BEFORE INSERT ON conversation.messages_archive
        FOR EACH ROW EXECUTE FUNCTION public.wait_at_the_gate();
    SELECT pg_advisory_lock(1);
"""


@pytest.mark.document(33, 35)
def test_an_archiving_and_an_erasure_do_not_meet_in_a_circle(arena: Arena) -> None:
    """The archiving has chosen its messages, and waits at a gate, as the erasure comes to them."""
    person, _ = arena.old_messages(2)
    arena.owner.execute(GATE)
    try:
        archiving = arena.pool.submit(arena.job("archive_messages"))
        somebody_waits(arena.owner)
        erasure = arena.pool.submit(arena.act(SERVICE, profiles.erase, person.id))
        somebody_waits(arena.owner, 2)
        arena.owner.execute("SELECT pg_advisory_unlock(1)")
        assert (archiving.result(), erasure.result()) == (2, 2)
        arena.assert_lawful()
    finally:
        arena.owner.execute(
            "SELECT pg_advisory_unlock_all(); DROP FUNCTION public.wait_at_the_gate() CASCADE"
        )


@Ends
def test_the_cleanup_goes_around_a_message_in_an_idle_session(arena: Arena, *, kept: bool) -> None:
    person, session = arena.player(started_at=IDLE, last_activity_at=IDLE)
    came = arena.meet(arena.say(person, session), arena.job("delete_expired_sessions"), kept=kept)
    assert (came.second, came.waited) == (0, False)
    assert arena.job("delete_expired_sessions")() == (not kept)
    assert arena.session(session)["messages"] == ([came.first.id] if kept else [])
    arena.assert_lawful()


@Ends
def test_a_message_waits_for_the_cleanup_of_its_idle_session(arena: Arena, *, kept: bool) -> None:
    person, session = arena.player(started_at=IDLE, last_activity_at=IDLE)
    came = arena.meet(arena.job("delete_expired_sessions"), arena.say(person, session), kept=kept)
    assert (came.first, came.waited) == (1, True)
    assert isinstance(came.second, SessionNotFound) == kept
    assert len(arena.session(session)["messages"]) == (not kept)
    arena.assert_lawful()
