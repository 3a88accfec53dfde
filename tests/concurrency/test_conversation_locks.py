"""The tests of the chat's races can fail: each lock that one of them needs is taken away in turn."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.concurrency import test_conversation as races
from tests.concurrency.meetings import Arena

pytestmark = pytest.mark.slow
Damage = Callable[[psycopg.Connection], object]
SESSION_LOCK = "conversation.prevent_messages_in_completed_sessions()"
COUNTING = "carnivore.count_completions(uuid)"
RESET = "conversation.reset_weekly_limits(integer, uuid)"
CLEANUP = "conversation.delete_expired_sessions(integer, uuid)"
ARCHIVING = "conversation.archive_messages(integer, uuid, interval)"
ERASURE = "conversation.erase_profile(uuid)"
PRESENT = "carnivore.refuse_departed()"


def without(function: str, words: str, instead: str = "") -> Damage:
    """The function without these words."""

    def damage(owner: psycopg.Connection) -> None:
        ((whole,),) = (
            row.values() for row in owner.execute("SELECT pg_get_functiondef(%s::regprocedure)", [function])
        )
        assert words in whole
        owner.execute(whole.replace(words, instead))

    return damage


def dropped(trigger: str, table: str) -> Damage:
    return lambda owner: owner.execute(f"DROP TRIGGER {trigger} ON conversation.{table}")


CASES: dict[str, tuple[Damage, Callable[[Arena], None]]] = {
    "a message does not lock its session": (
        without(SESSION_LOCK, "FOR NO KEY UPDATE"),
        lambda arena: races.test_a_message_waits_for_the_completion(arena, "person", kept=True),
    ),
    "a message locks its session weakly": (
        without(SESSION_LOCK, "FOR NO KEY UPDATE", "FOR KEY SHARE"),
        lambda arena: races.test_a_message_waits_for_the_completion(arena, "service", kept=True),
    ),
    "nothing keeps messages out": (
        dropped("check_session_not_completed", "messages"),
        lambda arena: races.test_a_message_waits_for_the_completion(arena, "person", kept=True),
    ),
    "messages are not counted": (
        dropped("increment_message_count", "messages"),
        lambda arena: races.test_a_completion_waits_for_the_message(arena, "person", kept=True),
    ),
    "a retry is a message like any other": (
        without(SESSION_LOCK, "m.client_message_id = NEW.client_message_id", "false"),
        lambda arena: races.test_a_retry_that_waited_for_the_completion_does_not_come_too_late(
            arena, kept=True
        ),
    ),
    "counting does not lock the person": (
        without(COUNTING, "FOR NO KEY UPDATE"),
        lambda arena: races.test_two_sessions_of_a_person_are_both_counted(arena, kept=True),
    ),
    "completions are not counted": (
        dropped("maintain_profile_counts", "sessions"),
        lambda arena: races.test_a_session_is_completed_once(arena, kept=True),
    ),
    "the reset waits for completions": (
        without(RESET, "SKIP LOCKED"),
        lambda arena: races.test_the_weekly_reset_goes_around_a_completion(arena, kept=True),
    ),
    "two resets take the same people": (
        without(RESET, "FOR NO KEY UPDATE SKIP LOCKED"),
        races.test_two_weekly_resets_share_the_work,
    ),
    "two archivings take the same messages": (
        without(ARCHIVING, "FOR UPDATE OF m SKIP LOCKED"),
        races.test_two_archivings_share_the_work,
    ),
    "the cleanup does not lock what it chose": (
        without(CLEANUP, "FOR UPDATE SKIP LOCKED"),
        lambda arena: races.test_the_cleanup_goes_around_a_message_in_an_idle_session(arena, kept=True),
    ),
    "a message does not ask whether its person has left": (
        without(PRESENT, "p.deleted_at IS NOT NULL", "false"),
        lambda arena: races.test_a_message_waits_for_the_erasure(arena, "service", kept=True),
    ),
    "an erasure forgets the archive": (
        without(
            ERASURE,
            "a.user_id = person",
            "false",
        ),
        lambda arena: races.test_an_erasure_waits_for_the_archiving(arena, kept=True),
    ),
}


@contextmanager
def damaged(arena: Arena, damage: Damage) -> Iterator[None]:
    """The database with one damage, which is taken back from what the catalog said before."""
    before = [
        *arena.owner.execute(
            "SELECT pg_get_functiondef(oid) AS made FROM pg_proc"
            " WHERE pronamespace::regnamespace::text IN ('conversation', 'carnivore') AND prokind = 'f'"
        ),
        *arena.owner.execute(
            "SELECT format('CREATE OR REPLACE %s', substr(pg_get_triggerdef(oid), 8)) AS made FROM pg_trigger"
            " WHERE starts_with(tgrelid::regclass::text, 'conversation.') AND NOT tgisinternal"
            " AND tgparentid = 0"
        ),
    ]
    damage(arena.owner)
    try:
        yield
    finally:
        for row in before:
            arena.owner.execute(row["made"])


@pytest.mark.parametrize("name", CASES)
def test_a_race_is_lost_without_its_lock(arena: Arena, name: str) -> None:
    damage, race = CASES[name]
    with damaged(arena, damage), pytest.raises(AssertionError):
        race(arena)


def test_the_races_are_won_with_their_locks(arena: Arena) -> None:
    """The same database, all damages taken back."""
    for _, race in CASES.values():
        race(arena)
