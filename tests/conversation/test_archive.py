"""The archive: old messages of sessions completed long ago move there, and are read as if they had not."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from carnivore_db import errors
from carnivore_db.conversation import messages, sessions
from tests.conversation.samples import SERVICE, VISITOR, Person, sign_up
from tests.conversation.speaking import COUNTS, OLD, archive, opened, say, speak, spoken
from tests.support.callers import Caller
from tests.support.databases import TestDatabase, one

pytestmark = pytest.mark.document(33)

LEFT = "SELECT count(*) FROM conversation.messages"
ARCHIVED = "SELECT count(*) FROM conversation.messages_archive"
YEAR = timedelta(days=366)
HERE = "SELECT * FROM conversation.messages ORDER BY id"
THERE = "SELECT * FROM conversation.messages_archive ORDER BY id"


def page(caller: Caller, who: Any, session: UUID) -> list[tuple[Any, ...]]:
    found = caller.call(who, messages.page, session, limit=100).rows
    return [(m.id, m.role, m.chat_type, m.content, m.sent_at) for m in found]


def test_archived_messages_are_read_as_before(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    session = spoken(owner, person, said=7)
    before = page(caller, person.identity, session)
    counts = owner.execute(COUNTS, [session]).fetchone()
    assert len(before) == 7
    for batch in (3, 4):
        archive(owner, batch)
        for who in (person.identity, SERVICE):
            assert page(caller, who, session) == before
        assert owner.execute(COUNTS, [session]).fetchone() == counts
    assert (one(owner, LEFT), one(owner, ARCHIVED)) == (0, 7)
    assert counts == {"message_count_main": 4, "message_count_helper": 3}
    shown = caller.call(person.identity, messages.page, session).rows
    moments = owner.execute(
        "SELECT archived_at FROM conversation.messages_archive ORDER BY sent_at"
    ).fetchall()
    assert [message.archived_at for message in shown] == [row["archived_at"] for row in moments]


def test_nothing_of_a_message_is_lost(owner: psycopg.Connection, person: Person) -> None:
    """Every column of the one table is in the other."""
    session = opened(owner, person)
    owner.execute(
        "INSERT INTO conversation.messages (session_id, role, chat_type, content, sent_at, client_message_id)"
        " VALUES (%s, 'user', 'helper', E' Grüß\\n', %s, gen_random_uuid()),"
        " (%s, 'main_assistant', 'main', '', %s, NULL)",
        [session, OLD, session, OLD],
    )
    owner.execute(
        "UPDATE conversation.sessions SET is_completed = true, completed_at = %s WHERE id = %s",
        [OLD, session],
    )
    before = owner.execute(HERE).fetchall()
    archive(owner, 2)
    after = owner.execute(THERE).fetchall()
    assert [{name: row[name] for name in before[0]} for row in after] == before
    assert set(after[0]) - set(before[0]) == {"archived_at"}


def test_only_old_messages_of_sessions_completed_long_ago_move(
    owner: psycopg.Connection, person: Person
) -> None:
    now = datetime.now(UTC)
    almost = timedelta(days=364)
    old = spoken(owner, person, now - YEAR - timedelta(days=2), said=1)
    # Completed since then; young; both; and a session that nobody completed.
    late = opened(owner, sign_up(owner), now - YEAR)
    speak(owner, late, now - YEAR, said=1)
    owner.execute("UPDATE conversation.sessions SET is_completed = true WHERE id = %s", [late])
    spoken(owner, person, now - almost, said=1)
    speak(owner, opened(owner, person), OLD, said=1)
    assert one(owner, "SELECT conversation.archive_messages()") == 1
    assert one(owner, "SELECT session_id FROM conversation.messages_archive") == old
    assert one(owner, LEFT) == 3


def test_another_age_is_the_callers_to_choose(owner: psycopg.Connection, person: Person) -> None:
    spoken(owner, person, datetime.now(UTC) - timedelta(days=30), said=2)
    age = "SELECT conversation.archive_messages(older_than => %s::interval)"
    assert one(owner, age, "31 days") == 0
    assert one(owner, age, "28 days") == 2


def test_the_oldest_go_first_in_batches(owner: psycopg.Connection, person: Person) -> None:
    spoken(owner, person, OLD + timedelta(days=3), said=2)
    spoken(owner, sign_up(owner), OLD, said=3)
    moved = []
    while one(owner, "SELECT conversation.archive_messages(2)"):
        moved.append(one(owner, ARCHIVED))
        youngest = one(owner, "SELECT max(sent_at) FROM conversation.messages_archive")
        left = owner.execute("SELECT FROM conversation.messages WHERE sent_at < %s", [youngest]).fetchall()
        assert left == []
    assert moved == [2, 4, 5]
    assert one(owner, LEFT) == 0


def test_a_batch_says_what_it_did(owner: psycopg.Connection, person: Person) -> None:
    spoken(owner, person, said=3)
    job = UUID(int=7)
    owner.execute("SELECT conversation.archive_messages(2, %s)", [job])
    facts = one(owner, "SELECT metadata FROM conversation.logs WHERE event_type = 'messages_archived'")
    assert (facts["job"], facts["job_id"], facts["archived"]) == ("archive_messages", str(job), 2)
    assert datetime.fromisoformat(facts["started_at"]) <= datetime.fromisoformat(facts["finished_at"])
    assert datetime.fromisoformat(facts["before"]) < datetime.now(UTC) - timedelta(days=364)


def test_a_person_reads_their_own_archive_only(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    session, other = spoken(owner, person, said=2), sign_up(owner)
    spoken(owner, other, said=3)
    archive(owner, 5)
    everything = "SELECT count(*) FROM conversation.messages_archive"
    for who, number in ((person.identity, 2), (other.identity, 3), (SERVICE, 5)):
        assert caller.run(who, lambda tx: tx.connection().exec_driver_sql(everything).scalar_one()) == number
    assert page(caller, other.identity, session) == []
    with pytest.raises(errors.PermissionRefused):
        caller.call(VISITOR, messages.page, session)


def test_an_archived_session_that_goes_on_reads_as_one(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    session = spoken(owner, person, said=4)
    archive(owner, 4)
    caller.call(SERVICE, sessions.reopen, session)
    latest = say(caller, session, who=person.identity)
    found = caller.call(person.identity, messages.page, session).rows
    assert [message.archived_at is None for message in found] == [False] * 4 + [True]
    assert found[-1].id == latest.id
    assert owner.execute(COUNTS, [session]).fetchone() == {"message_count_main": 3, "message_count_helper": 2}


def test_the_archive_goes_with_its_session_and_its_person(owner: psycopg.Connection, person: Person) -> None:
    session = spoken(owner, person, said=2)
    spoken(owner, person, OLD + timedelta(days=9), said=2)
    archive(owner, 4)
    owner.execute("DELETE FROM conversation.sessions WHERE id = %s", [session])
    assert one(owner, ARCHIVED) == 2
    owner.execute("DELETE FROM auth.users WHERE id = %s", [person.id])
    assert one(owner, ARCHIVED) == 0


def test_a_reader_never_misses_a_message(plain_database: TestDatabase) -> None:
    """Each look, a statement of its own, sees every message exactly once while they move one by one."""
    with plain_database.connect(autocommit=True) as owner, plain_database.connect(autocommit=True) as reader:
        owner.row_factory = dict_row
        session = spoken(owner, sign_up(owner), said=200)
        look = "SELECT count(*), count(DISTINCT id) FROM conversation.message_history WHERE session_id = %s"
        seen: list[Any] = []
        with ThreadPoolExecutor(1) as pool:

            def move() -> None:
                while one(owner, "SELECT conversation.archive_messages(1)"):
                    pass

            moving = pool.submit(move)
            while not moving.done():
                seen.append(reader.execute(look, [session]).fetchone())
            moving.result()
        assert set(seen) == {(200, 200)}
        assert one(owner, ARCHIVED) == 200


def test_a_batch_is_seen_as_a_whole_or_not_at_all(plain_database: TestDatabase) -> None:
    with plain_database.connect(autocommit=True) as owner, plain_database.connect() as archivist:
        owner.row_factory = dict_row
        spoken(owner, sign_up(owner), said=4)
        archivist.execute("SELECT conversation.archive_messages(3)")
        assert (one(owner, LEFT), one(owner, ARCHIVED)) == (4, 0)
        archivist.commit()
        assert (one(owner, LEFT), one(owner, ARCHIVED)) == (1, 3)
