"""Erasure: what a person said is gone for good, what others and the counts say stays."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy.orm import Session

from carnivore_db import Database, errors
from carnivore_db.conversation import logs, messages, profiles, sessions
from carnivore_db.conversation.models import ERASED
from carnivore_db.kit.paging import Page
from tests.conversation.samples import NOBODY, SERVICE, VISITOR, Person, sign_up
from tests.conversation.speaking import archive, opened, say, somebody_waits, speak, spoken
from tests.support.callers import Caller
from tests.support.databases import TestDatabase, one

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
    owner.execute(
        "INSERT INTO conversation.logs (level, event_type, user_id, session_id, metadata)"
        """ VALUES ('info', 'session_created', %s, %s, '{"said": "Satz"}')""",
        [person.id, session],
    )
    return session


def contents(owner: psycopg.Connection, person: Person, *, others: bool) -> dict[str, list[Any]]:
    which = "<>" if others else "="
    return {
        table: owner.execute(
            f"SELECT * FROM conversation.{table} WHERE {key} {which} %s ORDER BY created_at, id"
            if table != "sessions"
            else f"SELECT * FROM conversation.{table} WHERE {key} {which} %s ORDER BY id",
            [person.id],
        ).fetchall()
        for table, key in EVERYTHING.items()
    }


def test_what_they_said_is_gone_and_counts_stay(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    lived(owner, person)
    before = contents(owner, person, others=False)
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
    # Nowhere in the area is there anything that they said, or their address.
    for table in EVERYTHING:
        dump = owner.execute(f"SELECT string_agg(t::text, ' ') AS dump FROM conversation.{table} AS t")
        found = str((dump.fetchone() or {})["dump"])
        assert "Satz" not in found
        assert person.email not in found


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


def test_whoever_left_before_is_erased_since(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    lived(owner, person)
    left = caller.call(person.identity, profiles.leave)
    assert caller.call(SERVICE, profiles.erase, person.id) == 6
    profile = caller.call(SERVICE, profiles.get, person.id)
    assert profile.deleted_at == left
    assert profile.erased_at is not None
    assert profile.erased_at > left


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


def erase(tx: Session, person: Person, _: UUID) -> None:
    profiles.erase(tx, person.id)


def speak_now(tx: Session, _: Person, session: UUID) -> None:
    messages.send(tx, session, "Zu spät", role="main_assistant")


def speak_in_a_new_session(tx: Session, person: Person, session: UUID) -> None:
    sessions.complete(tx, session)
    messages.send(tx, sessions.start(tx, person.id, "party").id, "Zu spät", role="main_assistant")


@pytest.mark.parametrize("speak", [speak_now, speak_in_a_new_session])
def test_a_message_on_its_way_is_redacted(
    plain_database: TestDatabase, db: Database, speak: Callable[..., None]
) -> None:
    """It came first: the erasure waits for it."""
    with plain_database.connect(autocommit=True) as owner:
        owner.row_factory = dict_row
        person = sign_up(owner)
        session = lived(owner, person)
        with ThreadPoolExecutor(1) as pool:
            with db.transaction(SERVICE) as tx:
                speak(tx, person, session)
                erasure = pool.submit(in_transaction, db, erase, person, session)
                somebody_waits(owner)
            erasure.result()
        said = owner.execute(SAID, [person.id]).fetchall()
        assert [row["content"] for row in said] == [ERASED] * 7


@pytest.mark.parametrize("who", ["service", "person"])
def test_a_message_that_comes_too_late_is_refused(
    plain_database: TestDatabase, db: Database, who: str
) -> None:
    """The erasure came first: the message waits for it."""
    with plain_database.connect(autocommit=True) as owner:
        owner.row_factory = dict_row
        person = sign_up(owner)
        session = lived(owner, person)

        def say_something() -> None:
            with db.transaction(SERVICE if who == "service" else person.identity) as tx:
                messages.send(tx, session, "Zu spät")

        with ThreadPoolExecutor(1) as pool:
            with db.transaction(SERVICE) as tx:
                profiles.erase(tx, person.id)
                message = pool.submit(say_something)
                somebody_waits(owner)
            with pytest.raises(errors.ProfileDeleted if who == "service" else errors.SessionNotFound):
                message.result()
        said = owner.execute(SAID, [person.id]).fetchall()
        assert [row["content"] for row in said] == [ERASED] * 6


def test_a_message_that_is_being_archived_is_redacted(plain_database: TestDatabase, db: Database) -> None:
    with plain_database.connect(autocommit=True) as owner, plain_database.connect() as archivist:
        owner.row_factory = dict_row
        person = sign_up(owner)
        session = spoken(owner, person)
        archivist.execute("SELECT conversation.archive_messages(3)")
        with ThreadPoolExecutor(1) as pool:
            erasure = pool.submit(in_transaction, db, erase, person, session)
            somebody_waits(owner)
            archivist.commit()
            erasure.result()
        assert one(owner, "SELECT count(*) FROM conversation.messages_archive") == 3
        said = owner.execute(SAID, [person.id]).fetchall()
        assert [row["content"] for row in said] == [ERASED] * 4


def test_two_erasures_at_once_are_one(plain_database: TestDatabase, db: Database) -> None:
    with plain_database.connect(autocommit=True) as owner:
        owner.row_factory = dict_row
        person = sign_up(owner)
        lived(owner, person)
        with ThreadPoolExecutor(1) as pool:
            with db.transaction(SERVICE) as tx:
                assert profiles.erase(tx, person.id) == 6
                second = pool.submit(in_transaction, db, erase, person, uuid4())
                somebody_waits(owner)
            second.result()
        counted = owner.execute(
            "SELECT metadata FROM conversation.logs WHERE event_type = 'account_erased' ORDER BY created_at"
        ).fetchall()
        assert [row["metadata"]["messages"] for row in counted] == [6, 0]


def in_transaction(db: Database, work: Callable[..., None], *given: Any) -> None:
    with db.transaction(SERVICE) as tx:
        work(tx, *given)
