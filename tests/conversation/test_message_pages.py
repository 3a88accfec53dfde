"""Pages of messages: each message once, whatever is said or archived between two pages; by an index."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row
from sqlalchemy.orm import Session

from carnivore_db import Identity
from carnivore_db.conversation import messages
from carnivore_db.conversation.messages import StoredMessage
from carnivore_db.conversation.models import ChatType
from carnivore_db.kit.paging import Cursor, Page
from tests.conversation.samples import LONG_AGO, NOBODY, SERVICE, Person, sign_up
from tests.conversation.speaking import VOICES, archive, opened, spoken, started
from tests.support.callers import Caller
from tests.support.databases import Shape, TestDatabase
from tests.support.plans import indexes, nodes_of

pytestmark = pytest.mark.document(21)

INSERT = """
    INSERT INTO conversation.messages (session_id, role, chat_type, content, sent_at)
    VALUES (%s, %s, %s, '', %s)
"""
SORTS = {"Sort", "Incremental Sort"}
# As the job does it, but any of them and in any session.
ARCHIVE = """
    WITH chosen AS (
        SELECT * FROM conversation.messages AS m WHERE m.session_id = %(session)s
        ORDER BY md5(m.id || %(salt)s::text) LIMIT %(number)s
    )
    INSERT INTO conversation.messages_archive
        (id, session_id, user_id, role, chat_type, content, sent_at, created_at, client_message_id)
    SELECT id, session_id, user_id, role, chat_type, content, sent_at, created_at, client_message_id
    FROM chosen
"""
LEAVE = """
    DELETE FROM conversation.messages AS m
    WHERE EXISTS (SELECT FROM conversation.messages_archive AS a WHERE a.id = m.id)
"""


# Many sessions, each with messages of both chats, half of them archived.
FILL = """
    INSERT INTO conversation.sessions (id, user_id, scenario_id, is_completed, started_at, completed_at)
    SELECT md5(n::text)::uuid, p.id, 1, true, '2025-01-01 00:00+00', '2025-02-01 00:00+00'
    FROM conversation.profiles AS p, generate_series(1, 50) AS n;
    ALTER TABLE conversation.messages DISABLE TRIGGER USER;
    INSERT INTO conversation.messages (session_id, user_id, role, chat_type, content, sent_at)
    SELECT s.id, s.user_id, 'user', (ARRAY['main', 'helper'])[n % 2 + 1]::conversation.chat_type_enum,
        'Satz', s.started_at + n / 3 * interval '1 minute'
    FROM conversation.sessions AS s, generate_series(1, 400) AS n;
    ALTER TABLE conversation.messages ENABLE TRIGGER USER;
    SELECT conversation.archive_messages(10000);
"""
FILLED = UUID("c4ca4238-a0b9-2382-0dcc-509a6f75849b")  # md5 of '1'


@pytest.fixture(scope="module")
def area_owner(area_database: TestDatabase) -> Iterator[psycopg.Connection]:
    with area_database.connect(autocommit=True) as connection:
        connection.row_factory = dict_row
        yield connection


@pytest.fixture(scope="module")
def filled(plain_shape: Shape, plain_template: str) -> Iterator[tuple[TestDatabase, Person]]:
    """A database with twenty thousand messages of somebody."""
    with plain_shape.clone(plain_template) as made:
        with made.connect(autocommit=True) as owner:
            person = sign_up(owner)
            with owner.transaction():
                owner.execute(FILL)
            owner.execute("VACUUM (ANALYZE)")
        yield made, person


def archive_any(owner: psycopg.Connection, session: UUID, number: int, salt: int) -> None:
    with owner.transaction():
        owner.execute(ARCHIVE, {"session": session, "number": number, "salt": salt})
        owner.execute(LEAVE)


def walk(
    caller: Caller,
    who: Identity,
    session: UUID,
    between: Callable[[], None] = lambda: None,
    **given: Any,
) -> list[StoredMessage]:
    """All messages of a session, page by page."""
    found: list[StoredMessage] = []
    after: Cursor | None = None
    while True:
        page = caller.call(who, messages.page, session, after=after, **given)
        found += page.rows
        assert len(found) <= 1000  # pages that repeat would never end
        if page.next is None:
            return found
        assert len(page.rows) == given["limit"]
        after = page.next
        between()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(st.tuples(st.sampled_from(VOICES), st.integers(0, 3)), max_size=14),
    later=st.lists(st.tuples(st.sampled_from(VOICES), st.integers(0, 4)), max_size=4),
    archived=st.integers(0, 14),
    salt=st.integers(0, 99),
    limit=st.integers(1, 5),
    chat=st.sampled_from([None, "main", "helper"]),
    newest_first=st.booleans(),
    own=st.booleans(),
)
def test_pages_neither_repeat_nor_hide_a_message(
    module_caller: Caller,
    area_owner: psycopg.Connection,
    said: list[tuple[tuple[str, str], int]],
    later: list[tuple[tuple[str, str], int]],
    archived: int,
    salt: int,
    limit: int,
    chat: ChatType | None,
    newest_first: bool,
    own: bool,
) -> None:
    """Most were said at the same few moments. Between two pages more is said, and something is archived."""
    person = sign_up(area_owner)
    session = opened(area_owner, person)

    def speak(what: list[tuple[tuple[str, str], int]]) -> None:
        for voice, minute in what:
            area_owner.execute(INSERT, [session, *voice, LONG_AGO + timedelta(minutes=minute)])

    def between() -> None:
        speak(later)
        archive_any(area_owner, session, 2, salt)

    speak(said)
    archive_any(area_owner, session, archived, salt)
    there = area_owner.execute(
        "SELECT id, sent_at FROM conversation.message_history WHERE session_id = %s"
        " AND chat_type = coalesce(%s::conversation.chat_type_enum, chat_type)",
        [session, chat],
    ).fetchall()
    expected = sorted(((row["sent_at"], row["id"]) for row in there), reverse=newest_first)
    who = person.identity if own else SERVICE
    given = {"limit": limit, "chat_type": chat, "newest_first": newest_first}
    whole = walk(module_caller, who, session, **given)
    assert [(message.sent_at, message.id) for message in whole] == expected
    found = walk(module_caller, who, session, between, **given)
    assert len(found) == len({message.id for message in found})
    places = [(message.sent_at, message.id) for message in found]
    assert places == sorted(places, reverse=newest_first)
    assert [place for place in places if place in expected] == expected
    assert {message.chat_type for message in found} <= ({chat} if chat else {"main", "helper"})


def test_what_is_said_later_comes_behind(caller: Caller, person: Person) -> None:
    """Messages of one transaction too: their order is that in which they were said."""
    session = started(caller, person)

    def talk(tx: Session) -> list[UUID]:
        return [messages.send(tx, session, "Hallo").id for _ in range(5)]

    said = caller.run(person.identity, talk) + caller.run(person.identity, talk)
    for newest_first in (False, True):
        found = walk(caller, person.identity, session, limit=3, newest_first=newest_first)
        assert [message.id for message in found] == (said[::-1] if newest_first else said)


def test_somebody_elses_session_has_no_messages(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    session = spoken(owner, person)
    archive(owner, 2)
    assert len(caller.call(SERVICE, messages.page, session).rows) == 4
    nothing = Page([], None)
    assert caller.call(sign_up(owner).identity, messages.page, session) == nothing
    assert caller.call(SERVICE, messages.page, NOBODY) == nothing


@pytest.mark.parametrize("own", [True, False], ids=["person", "service"])
@pytest.mark.parametrize("newest_first", [False, True], ids=["oldest first", "newest first"])
@pytest.mark.parametrize("behind", [False, True], ids=["first page", "behind a cursor"])
def test_a_page_is_read_by_the_index(
    filled: tuple[TestDatabase, Person], *, own: bool, newest_first: bool, behind: bool
) -> None:
    """In order from both tables, and merged: nothing is sorted, nothing read that is not shown."""
    database, person = filled
    after = Cursor(datetime(2025, 1, 1, 1, 30, tzinfo=UTC), NOBODY) if behind else None

    def query(tx: Session) -> None:
        page = messages.page(tx, FILLED, after=after, newest_first=newest_first)
        assert len(page.rows) == 50

    nodes = nodes_of(database.app_url, person.identity if own else SERVICE, query)
    assert indexes(nodes) - {"profiles_pkey"} == {
        "idx_messages_session_time_id",
        "idx_messages_archive_session_time_id",
    }
    assert not [node for node in nodes if node["Node Type"] in {"Seq Scan", *SORTS}]
    scans = [node for node in nodes if node.get("Index Name", "").endswith("session_time_id")]
    for node in scans:
        assert ("ROW(sent_at, id)" in node["Index Cond"]) == behind


def test_a_page_of_one_chat_is_read_by_its_index(filled: tuple[TestDatabase, Person]) -> None:
    database, _ = filled
    nodes = nodes_of(database.app_url, SERVICE, lambda tx: messages.page(tx, FILLED, chat_type="helper"))
    assert "idx_messages_chat_type" in indexes(nodes)
    # What the archive has of one session may be sorted: it has no index of its chats.
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan"]


def test_without_its_index_a_page_is_sorted(filled: tuple[TestDatabase, Person]) -> None:
    """The plans above could be others."""
    database, _ = filled
    drop = "DROP INDEX conversation.idx_messages_session_time_id"
    nodes = nodes_of(database.migrator_url, SERVICE, lambda tx: messages.page(tx, FILLED), drop)
    assert [node for node in nodes if node["Node Type"] in SORTS]
