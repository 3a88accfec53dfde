"""Messages: who says them in which chat, into open sessions only; each is its session's person's."""

from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from psycopg.errors import CheckViolation, InvalidTextRepresentation
from sqlalchemy import select

from carnivore_db import errors
from carnivore_db.conversation import messages, sessions
from carnivore_db.conversation.models import Message
from carnivore_db.schema import migrations
from tests.conversation.samples import LONG_AGO, NOBODY, SERVICE, VISITOR, Person, completed, sign_up
from tests.conversation.speaking import (
    COUNTS,
    VOICES,
    archive,
    opened,
    say,
    spoken,
    started,
)
from tests.migrations.helpers import fresh, put_rows
from tests.support.callers import Caller
from tests.support.databases import Shape, TestDatabase, one
from tests.support.plans import plan

STORED = "SELECT count(*) FROM conversation.messages WHERE session_id = %s"
CARROT = "\N{CARROT}"  # one character, four bytes
RAW = """
    INSERT INTO conversation.messages (session_id, role, chat_type, content) VALUES (%s, %s, %s, 'Hallo')
"""


def test_a_message_is_kept_as_it_was_said(caller: Caller, person: Person) -> None:
    session = started(caller, person)
    said = " Grüß\n\tGott! \N{CARROT} "
    made = say(caller, session, said, who=person.identity)
    (found,) = caller.call(person.identity, messages.page, session).rows
    assert (found.id, found.session_id, found.role, found.chat_type) == (made.id, session, "user", "main")
    assert (found.content, found.sent_at, found.archived_at) == (said, made.sent_at, None)
    assert said not in repr(found)


@pytest.mark.document(3)
def test_no_message_enters_a_completed_session(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    session = started(caller, person)
    say(caller, session)
    caller.call(person.identity, sessions.complete, session)
    for who in (person.identity, SERVICE):
        with pytest.raises(errors.SessionCompleted, match="completed: no message enters it"):
            say(caller, session, who=who)
    # Neither by the owner, nor with a message that was said before the completion.
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation) as refused:
        owner.execute(RAW, [session, "user", "main"])
    assert refused.value.diag.constraint_name == "conversation_completed"
    with pytest.raises(errors.SessionCompleted):
        say(caller, session, sent_at=LONG_AGO)
    assert one(owner, STORED, session) == 1
    assert owner.execute(COUNTS, [session]).fetchone() == {
        "message_count_main": 1,
        "message_count_helper": 0,
    }


def test_a_session_that_is_not_theirs_is_none(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    session = started(caller, person)
    with pytest.raises(errors.SessionNotFound):
        say(caller, session, who=sign_up(owner).identity)
    with pytest.raises(errors.PermissionRefused):
        say(caller, session, who=VISITOR)
    for who in (person.identity, SERVICE):
        with pytest.raises(errors.SessionNotFound):
            say(caller, NOBODY, who=who)
    assert one(owner, STORED, session) == 0


@pytest.mark.document(11)
def test_a_chat_that_nobody_counts_is_refused(plain_database: TestDatabase) -> None:
    """Whoever gives the chats a third one, and forgets the counting, hears of it with the first message."""
    with plain_database.connect(autocommit=True) as owner:
        owner.row_factory = psycopg.rows.dict_row
        session = opened(owner, sign_up(owner))
        owner.execute("ALTER TYPE conversation.chat_type_enum ADD VALUE 'aside'")
        owner.execute("ALTER TABLE conversation.messages DROP CONSTRAINT messages_role_chat_type_valid")
        with pytest.raises(CheckViolation) as refused:
            owner.execute(RAW, [session, "user", "aside"])
        assert refused.value.diag.constraint_name == "chat_type_valid"
        assert refused.value.diag.context is not None
        assert "increment_message_count" in refused.value.diag.context
        assert one(owner, STORED, session) == 0


@pytest.mark.document(13, 36)
def test_roles_and_chats_are_enums_with_plain_names(owner: psycopg.Connection) -> None:
    for column, labels in (
        ("role", ["user", "main_assistant", "helper_assistant"]),
        ("chat_type", ["main", "helper"]),
    ):
        for table in ("messages", "messages_archive"):
            found = owner.execute(
                "SELECT e.enumlabel FROM pg_attribute AS a JOIN pg_enum AS e ON e.enumtypid = a.atttypid"
                " WHERE a.attrelid = %s::regclass AND a.attname = %s ORDER BY e.enumsortorder",
                [f"conversation.{table}", column],
            )
            assert [row["enumlabel"] for row in found] == labels


@pytest.mark.document(13, 14, 36)
def test_who_speaks_in_which_chat(caller: Caller, person: Person, owner: psycopg.Connection) -> None:
    session = started(caller, person)
    for role in ("user", "main_assistant", "helper_assistant"):
        for chat in ("main", "helper"):
            if (role, chat) in VOICES:
                made = say(caller, session, role=role, chat_type=chat)
                assert (made.role, made.chat_type) == (role, chat)
                continue
            with pytest.raises(errors.InvalidInput) as refused:
                say(caller, session, role=role, chat_type=chat)
            assert (refused.value.field, refused.value.rule) == ("role", "messages_role_chat_type_valid")
    assert one(owner, STORED, session) == len(VOICES)


@pytest.mark.document(13, 36)
@pytest.mark.parametrize(
    "given", [{"role": "scenario"}, {"role": "helper"}, {"role": ""}, {"chat_type": "aside"}]
)
def test_old_and_unknown_names_are_refused(
    caller: Caller, person: Person, owner: psycopg.Connection, given: dict[str, str]
) -> None:
    session = started(caller, person)
    with pytest.raises(errors.InvalidInput) as refused:
        say(caller, session, **given)
    assert refused.value.field == next(iter(given))
    with pytest.raises(InvalidTextRepresentation):
        owner.execute(RAW, [session, *({"role": "user", "chat_type": "main"} | given).values()])
    assert one(owner, STORED, session) == 0


@pytest.mark.document(15)
@pytest.mark.parametrize("letter", ["a", CARROT], ids=["one byte", "four bytes"])
def test_the_limit_is_of_characters(
    caller: Caller, person: Person, owner: psycopg.Connection, letter: str
) -> None:
    session = started(caller, person)
    assert say(caller, session, letter * 8000).content == letter * 8000
    with pytest.raises(errors.InvalidInput) as refused:
        say(caller, session, letter * 8001)
    assert refused.value.field == "content"
    with pytest.raises(CheckViolation) as raw:
        owner.execute(RAW.replace("'Hallo'", "repeat(%s, 8001)"), [session, "user", "main", letter])
    assert raw.value.diag.constraint_name == "content_length"
    assert one(owner, "SELECT max(char_length(content)) FROM conversation.messages") == 8000


@pytest.mark.document(18)
def test_a_message_is_its_sessions_persons_whatever_is_given(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    other = sign_up(owner)
    session = started(caller, person)
    assert say(caller, session, who=person.identity).user_id == person.id
    assert say(caller, session).user_id == person.id
    given = owner.execute(
        "INSERT INTO conversation.messages (session_id, user_id, role, chat_type, content)"
        " VALUES (%s, %s, 'user', 'main', 'Hallo') RETURNING user_id",
        [session, other.id],
    ).fetchone()
    assert given == {"user_id": person.id}
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation) as refused:
        owner.execute("UPDATE conversation.sessions SET user_id = %s WHERE id = %s", [other.id, session])
    assert refused.value.diag.constraint_name == "immutable"


@pytest.mark.document(18, 40)
def test_a_message_follows_its_person(caller: Caller, person: Person, owner: psycopg.Connection) -> None:
    """Another id of the login, and of the session: messages of both tables go with them, and say the same."""
    spoken(owner, person)
    archive(owner, 2)
    everything = "SELECT id, content, user_id, session_id FROM conversation.message_history ORDER BY id"
    before = owner.execute(everything).fetchall()
    moved, session = uuid4(), uuid4()
    owner.execute("UPDATE auth.users SET id = %s WHERE id = %s", [moved, person.id])
    owner.execute("UPDATE conversation.sessions SET id = %s", [session])
    after = owner.execute(everything).fetchall()
    assert after == [row | {"user_id": moved, "session_id": session} for row in before]
    assert len(after) == 4


@pytest.mark.document(18)
def test_messages_that_were_there_before_have_their_person(plain_shape: Shape) -> None:
    with fresh(plain_shape) as database:
        migrations.upgrade(database.migrator_url, "conversation_baseline")
        put_rows(database)
        migrations.upgrade(database.migrator_url)
        with database.connect() as owner:
            found = owner.execute(
                "SELECT m.user_id = s.user_id, count(*) FROM conversation.messages AS m"
                " JOIN conversation.sessions AS s ON s.id = m.session_id GROUP BY 1"
            ).fetchall()
    assert found == [(True, 12)]


@pytest.mark.document(18)
def test_row_security_asks_the_message_and_not_its_session(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    other = sign_up(owner)
    session = started(caller, person)
    say(caller, session)
    spoken(owner, other)
    archive(owner, 2)

    def seen(who: Person) -> int:
        return len(caller.call(who.identity, messages.page, session).rows)

    assert (seen(person), seen(other)) == (1, 0)
    # Where the two disagree, which no rule allows, the message's own word counts.
    with owner.transaction():
        owner.execute("SET LOCAL session_replication_role = replica")
        owner.execute(
            "UPDATE conversation.messages SET user_id = %s WHERE session_id = %s", [other.id, session]
        )
    assert (seen(person), seen(other)) == (0, 1)


@pytest.mark.document(18)
def test_no_query_of_messages_reads_sessions(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    session = started(caller, person)
    say(caller, session)
    completed(owner, person, LONG_AGO)
    for query in (
        lambda tx: messages.page(tx, session),
        lambda tx: messages.page(tx, session, chat_type="main", newest_first=True),
        lambda tx: tx.scalars(select(Message)).all(),
    ):
        nodes = caller.run(person.identity, lambda tx, query=query: plan(tx, query))
        read = {node["Relation Name"] for node in nodes if "Relation Name" in node}
        assert "messages" in read
        assert read <= {"messages", "messages_archive"}
        # What row security asks of the person is asked once a query, not once a message.
        assert not [node for node in nodes if node.get("Parent Relationship") == "SubPlan"]
    policies = owner.execute(
        "SELECT tablename, concat(qual, with_check) AS words FROM pg_policies"
        " WHERE schemaname = 'conversation' AND tablename IN ('messages', 'messages_archive')"
        " AND roles <> '{service_role}'"
    ).fetchall()
    assert {row["tablename"] for row in policies} == {"messages", "messages_archive"}
    for row in policies:
        assert "user_id = ( SELECT" in row["words"]
        assert "session" not in row["words"]
        assert "EXISTS" not in row["words"]


def test_a_session_lasts_as_long_as_its_latest_message(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    session = opened(owner, person)
    latest = "SELECT last_activity_at FROM conversation.sessions WHERE id = %s"
    for minutes, expected in ((5, 5), (3, 5), (7, 7)):
        say(caller, session, sent_at=LONG_AGO + timedelta(minutes=minutes))
        assert one(owner, latest, session) == LONG_AGO + timedelta(minutes=expected)
