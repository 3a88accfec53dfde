"""Erasure: what a person said is gone for good, what others and the counts say stays."""

from typing import Any
from uuid import UUID

import psycopg
import pytest

from carnivore_db import errors
from carnivore_db.conversation import logs, messages, profiles
from carnivore_db.conversation.models import ERASED
from carnivore_db.kit.paging import Page
from tests.conversation.samples import NOBODY, SERVICE, VISITOR, Person, sign_up
from tests.conversation.speaking import archive, holding, opened, say, speak, spoken
from tests.support.callers import Caller
from tests.support.factories import put

pytestmark = pytest.mark.document(35)

SAID = "SELECT content FROM conversation.message_history WHERE user_id = %s ORDER BY sent_at, id"
# All that the database has, of somebody or of others, but for what tells when it was last written.
EVERYTHING: dict[str, str] = {
    "profiles": "id",
    "sessions": "user_id",
    "messages": "user_id",
    "messages_archive": "user_id",
    "logs": "user_id",
}


def lived(owner: psycopg.Connection, person: Person) -> UUID:
    """An archived session of four messages, an open one of two, and an event; the open session."""
    spoken(owner, person)
    archive(owner, 4)
    session = opened(owner, person)
    speak(owner, session, said=2)
    about = {"user_id": person.id, "session_id": session, "metadata": {"said": "Satz"}}
    put(owner, "conversation.logs", level="info", event_type="session_created", **about)
    return session


def contents(owner: psycopg.Connection, person: Person, *, others: bool) -> dict[str, list[Any]]:
    which = "<>" if others else "="
    return {
        table: owner.execute(
            f"SELECT * FROM conversation.{table} WHERE {key} {which} %s"
            f" ORDER BY {'id' if table == 'sessions' else 'created_at, id'}",
            [person.id],
        ).fetchall()
        for table, key in EVERYTHING.items()
    }


def test_what_they_said_is_gone_and_counts_stay(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    lived(owner, person)
    before = contents(owner, person, others=False)
    assert set(holding(owner, "Satz")) >= {"conversation.messages", "conversation.messages_archive"}
    assert any("logs" in table for table in holding(owner, "Satz"))
    assert caller.call(SERVICE, profiles.erase, person.id) == 6
    after = contents(owner, person, others=False)
    for table in ("messages", "messages_archive"):
        assert after[table] == [row | {"content": ERASED} for row in before[table]]
    assert after["sessions"] == before["sessions"]
    (profile,), (was,) = after["profiles"], before["profiles"]
    changed = {"email", "deleted_at", "erased_at", "updated_at"}
    assert {name for name in profile if profile[name] != was[name]} == changed
    assert profile["email"] == f"erased-{person.id}@erased.invalid"
    event, erasure = after["logs"]
    assert event == before["logs"][0] | {"metadata": {}}
    assert (erasure["event_type"], erasure["metadata"]) == ("account_erased", {"messages": 6})
    assert holding(owner, "Satz") == holding(owner, person.email) == []


def test_other_people_notice_nothing(caller: Caller, person: Person, owner: psycopg.Connection) -> None:
    lived(owner, person)
    lived(owner, sign_up(owner))
    before = contents(owner, person, others=True)
    assert [len(rows) for rows in before.values()] == [1, 2, 2, 4, 1]
    caller.call(SERVICE, profiles.erase, person.id)
    assert contents(owner, person, others=True) == before


def test_what_was_logged_of_their_sessions_is_gone_too(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    """An event may name the session and not the person."""
    session = lived(owner, person)
    theirs, other = {"said": "Satz"}, {"somebody": "else"}
    for facts, about in ((theirs, session), (other, None)):
        caller.call(SERVICE, logs.write, "error", "api_call_failed", session_id=about, metadata=facts)
    caller.call(SERVICE, profiles.erase, person.id)
    found = [row["metadata"] for row in owner.execute("SELECT metadata FROM conversation.logs").fetchall()]
    assert theirs not in found
    assert other in found


def test_erased_twice_is_erased_once(caller: Caller, person: Person, owner: psycopg.Connection) -> None:
    lived(owner, person)
    caller.call(SERVICE, profiles.erase, person.id)
    before = contents(owner, person, others=False)
    assert caller.call(SERVICE, profiles.erase, person.id) == 0
    after = contents(owner, person, others=False)
    assert {**after, "logs": after["logs"][:2], "profiles": []} == {**before, "profiles": []}
    for name in ("email", "deleted_at", "erased_at"):
        assert after["profiles"][0][name] == before["profiles"][0][name]


def test_a_person_without_a_word_is_erased(caller: Caller, person: Person, owner: psycopg.Connection) -> None:
    assert caller.call(SERVICE, profiles.erase, person.id) == 0
    assert caller.call(SERVICE, profiles.get, person.id).erased_at is not None


def test_erased_is_for_good(caller: Caller, person: Person, owner: psycopg.Connection) -> None:
    """They see and write nothing any more, nobody writes for them, and nobody brings them back."""
    session = lived(owner, person)
    caller.call(SERVICE, profiles.erase, person.id)
    assert caller.call(person.identity, messages.page, session) == Page([], None)
    assert caller.call(person.identity, logs.search).rows == []
    with pytest.raises(errors.ProfileDeleted):
        say(caller, session)
    with pytest.raises(errors.SessionNotFound):
        say(caller, session, who=person.identity)
    with pytest.raises(errors.InvalidInput):
        caller.call(SERVICE, profiles.restore, person.id)
    found = caller.call(SERVICE, messages.page, session).rows
    assert [message.content for message in found] == [ERASED] * 2


def test_the_service_erases_and_nobody_else(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    lived(owner, person)
    for who in (person.identity, sign_up(owner).identity, VISITOR):
        with pytest.raises(errors.PermissionRefused):
            caller.call(who, profiles.erase, person.id)
    with pytest.raises(errors.ProfileNotFound):
        caller.call(SERVICE, profiles.erase, NOBODY)
    said = owner.execute(SAID, [person.id]).fetchall()
    assert len(said) == 6
    assert ERASED not in {row["content"] for row in said}


@pytest.mark.document(4, 37)
@pytest.mark.parametrize("table", ["messages", "messages_archive"])
@pytest.mark.parametrize(
    "change",
    [
        "content = 'Was anderes'",
        "content = '[erased]', sent_at = now()",
        "content = '[erased]', role = 'main_assistant'",
        "role = 'main_assistant'",
        "client_message_id = gen_random_uuid()",
        "content = content",
    ],
)
def test_erasure_opens_no_door_to_other_changes(
    owner: psycopg.Connection, person: Person, table: str, change: str
) -> None:
    """Not for the owner either, and not before it, while it is done or after it."""
    lived(owner, person)
    for moment in ("before", "while", "after"):
        if moment == "while":  # marked as erased, and not redacted yet
            owner.execute(
                "UPDATE conversation.profiles SET deleted_at = now(), erased_at = now(),"
                " email = 'erased-' || id || '@erased.invalid'"
            )
        if moment == "after":
            owner.execute("SELECT conversation.erase_profile(%s)", [person.id])
        before = contents(owner, person, others=False)
        with pytest.raises(psycopg.errors.IntegrityConstraintViolation) as refused:
            owner.execute(f"UPDATE conversation.{table} SET {change}")
        assert refused.value.diag.constraint_name == "messages_immutable"
        assert contents(owner, person, others=False) == before


@pytest.mark.document(4, 37)
def test_whoever_is_not_erased_is_not_redacted(owner: psycopg.Connection, person: Person) -> None:
    """By the same change of content that erasure makes; a person who left can come back."""
    lived(owner, person)
    for table in ("messages", "messages_archive"):
        for left in ("NULL", "now()"):
            owner.execute(f"UPDATE conversation.profiles SET deleted_at = {left}")
            with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
                owner.execute(f"UPDATE conversation.{table} SET content = '[erased]'")
