"""A message that is sent twice, as when the answer was lost, is stored once and comes back both times."""

from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.orm import Session

from carnivore_db import errors
from carnivore_db.conversation import limits, messages, sessions
from tests.conversation.samples import SERVICE, Person, sign_up
from tests.conversation.speaking import COUNTS, say, started
from tests.support.callers import Caller
from tests.support.databases import one

pytestmark = pytest.mark.document(46)
STORED = "SELECT count(*) FROM conversation.messages WHERE session_id = %s"


def test_sent_twice_is_stored_once(caller: Caller, person: Person, owner: psycopg.Connection) -> None:
    session = started(caller, person)
    key = uuid4()
    first, again = (say(caller, session, who=person.identity, client_message_id=key) for _ in range(2))
    from_the_service = say(caller, session, role="user", client_message_id=key)
    assert first.id == again.id == from_the_service.id
    assert (again.content, again.sent_at, again.client_message_id) == ("Hallo", first.sent_at, key)
    assert owner.execute(COUNTS, [session]).fetchone() == {"message_count_main": 1, "message_count_helper": 0}


def test_sent_twice_in_one_transaction_is_stored_once(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    session, key = started(caller, person), uuid4()

    def twice(tx: Session) -> set[object]:
        return {messages.send(tx, session, "Hallo", client_message_id=key).id for _ in range(2)}

    assert len(caller.run(person.identity, twice)) == 1
    assert one(owner, STORED, session) == 1


def test_without_a_key_nothing_is_a_retry(caller: Caller, person: Person, owner: psycopg.Connection) -> None:
    session = started(caller, person)
    assert say(caller, session).id != say(caller, session).id
    assert one(owner, STORED, session) == 2


def test_a_retry_finds_its_message_after_the_completion_too(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    session, key = started(caller, person), uuid4()
    first = say(caller, session, who=person.identity, client_message_id=key)
    caller.call(person.identity, sessions.complete, session)
    assert say(caller, session, who=person.identity, client_message_id=key).id == first.id
    with pytest.raises(errors.SessionCompleted):
        say(caller, session, who=person.identity, client_message_id=uuid4())
    assert one(owner, STORED, session) == 1


@pytest.mark.parametrize(
    "other",
    [{"content": "Tschüss"}, {"chat_type": "helper"}, {"role": "main_assistant"}],
    ids=["content", "chat", "role"],
)
def test_another_message_of_the_same_key_is_refused(
    caller: Caller, person: Person, owner: psycopg.Connection, other: dict[str, str]
) -> None:
    session = started(caller, person)
    said = {"content": "Hallo", "role": "user", "client_message_id": uuid4()}
    say(caller, session, **said)
    with pytest.raises(errors.AlreadyExists) as refused:
        say(caller, session, **said | other)
    assert refused.value.rule == "idx_messages_client_message_id"
    assert one(owner, STORED, session) == 1


def test_a_key_is_the_senders_and_no_other_sessions(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    other, key = sign_up(owner), uuid4()
    mine, theirs = started(caller, person), started(caller, other)
    first = say(caller, mine, who=person.identity, client_message_id=key)
    second = say(caller, theirs, who=other.identity, client_message_id=key)
    assert first.id != second.id
    with pytest.raises(errors.SessionNotFound):
        say(caller, mine, who=other.identity, client_message_id=key)


def test_a_retry_does_not_count_for_the_rate(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    session, keys = started(caller, person), [uuid4() for _ in range(3)]
    caller.call(SERVICE, limits.change, "messages", allowed=3)
    for key in keys:
        for _ in range(4):
            say(caller, session, who=person.identity, client_message_id=key)
    with pytest.raises(errors.RateLimited):
        say(caller, session, who=person.identity, client_message_id=uuid4())
    # The limit is reached, and a retry still finds its message.
    say(caller, session, who=person.identity, client_message_id=keys[2])
    assert one(owner, STORED, session) == 3
