"""Logs: the service writes and searches by index, a person reads what is about them, types grow by a row."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text

from carnivore_db import Identity, errors
from carnivore_db.conversation import logs
from tests.conversation.samples import NOBODY, SERVICE, VISITOR, Person, sign_up
from tests.conversation.speaking import started
from tests.support.callers import Caller
from tests.support.databases import one

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
WRITTEN = "SELECT count(*) FROM conversation.logs"


def found(caller: Caller, who: Identity = SERVICE, **given: Any) -> list[UUID]:
    return [event.id for event in caller.call(who, logs.search, **given).rows]


def test_an_event_is_now_unless_said_otherwise(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    session = started(caller, person)
    before = one(owner, "SELECT clock_timestamp()")
    facts = {"model": "large", "tokens": [1, 2], "nested": {"ä": None}}
    now = caller.call(
        SERVICE, logs.write, "warn", "api_call_failed", user_id=person.id, session_id=session, metadata=facts
    )
    then = caller.call(SERVICE, logs.write, "debug", "user_logout", created_at=NOON)
    latest, earlier = caller.call(SERVICE, logs.search).rows
    assert (latest.id, latest.level, latest.event_type) == (now, "warn", "api_call_failed")
    assert (latest.user_id, latest.session_id, latest.facts) == (person.id, session, facts)
    assert before <= latest.created_at <= one(owner, "SELECT clock_timestamp()")
    assert (earlier.id, earlier.created_at, earlier.facts) == (then, NOON, None)
    assert (earlier.user_id, earlier.session_id) == (None, None)


@pytest.mark.document(29)
def test_an_unknown_type_is_refused_until_it_is_a_row(caller: Caller, owner: psycopg.Connection) -> None:
    with pytest.raises(errors.InvalidInput) as refused:
        caller.call(SERVICE, logs.write, "info", "voice_recognised")
    assert (refused.value.field, refused.value.rule) == ("event_type", "logs_event_type_fkey")
    caller.call(SERVICE, logs.add_event_type, "voice_recognised", "A voice was recognised.")
    try:
        made = caller.call(SERVICE, logs.write, "info", "voice_recognised")
        assert found(caller, event_type="voice_recognised") == [made]
        with pytest.raises(errors.AlreadyExists):
            caller.call(SERVICE, logs.add_event_type, "voice_recognised", "Again.")
    finally:
        owner.execute("DELETE FROM conversation.logs")
        owner.execute("DELETE FROM conversation.event_types WHERE code = 'voice_recognised'")


@pytest.mark.document(29)
def test_the_documents_types_are_there(owner: psycopg.Connection) -> None:
    """Those of the baseline's check, and no constraint lists them any more."""
    baseline = """
        api_call_started api_call_completed api_call_failed api_call_timeout api_retry_attempted
        user_registered user_login_success user_login_failed user_logout session_expired account_deleted
        scenario_started scenario_completed scenario_abandoned session_created session_restored
        session_expiration_cleanup rate_limit_checked rate_limit_exceeded weekly_limit_reset
        database_error cleanup_job_executed unknown_error
    """
    there = {row["code"] for row in owner.execute("SELECT code FROM conversation.event_types").fetchall()}
    assert set(baseline.split()) <= there
    checks = owner.execute(
        "SELECT pg_get_constraintdef(oid) AS said FROM pg_constraint"
        " WHERE conrelid = 'conversation.logs'::regclass AND contype = 'c'"
    ).fetchall()
    assert not [row["said"] for row in checks if "event_type" in row["said"]]


@pytest.mark.document(29)
@pytest.mark.parametrize("who", ["person", "visitor"])
def test_types_are_the_services(caller: Caller, person: Person, who: str) -> None:
    identity = person.identity if who == "person" else VISITOR
    with pytest.raises(errors.PermissionRefused):
        caller.call(identity, logs.add_event_type, "mine", "Mine.")
    for statement in ("SELECT code FROM conversation.event_types", "DELETE FROM conversation.event_types"):
        with pytest.raises(errors.PermissionRefused):
            caller.run(identity, lambda tx, statement=statement: tx.execute(text(statement)))


def test_an_event_of_nobody_known_is_refused(caller: Caller, owner: psycopg.Connection) -> None:
    with pytest.raises(errors.ProfileNotFound):
        caller.call(SERVICE, logs.write, "info", "user_logout", user_id=NOBODY)
    with pytest.raises(errors.SessionNotFound):
        caller.call(SERVICE, logs.write, "info", "user_logout", session_id=NOBODY)
    assert one(owner, WRITTEN) == 0


@pytest.mark.document(23)
def test_events_are_found_by_what_their_metadata_contains(caller: Caller) -> None:
    first, second, third = (
        caller.call(
            SERVICE, logs.write, "info", "api_call_completed", metadata=facts, created_at=NOON + n * DAY
        )
        for n, facts in enumerate(
            (
                {"model": "small", "usage": {"in": 1, "out": 2}, "tags": ["a", "b"]},
                {"model": "large", "usage": {"in": 1, "out": 3}, "tags": ["b"]},
                {"model": "large"},
            )
        )
    )
    caller.call(SERVICE, logs.write, "info", "api_call_completed", created_at=NOON)
    for wanted, expected in (
        ({"model": "large"}, [third, second]),
        ({"usage": {"in": 1}}, [second, first]),
        ({"tags": ["b"]}, [second, first]),
        ({"usage": {"in": 1, "out": 2}, "model": "small"}, [first]),
        ({}, [third, second, first]),
        ({"model": None}, []),
        ({"no such key": 1}, []),
    ):
        assert found(caller, metadata=wanted) == expected, wanted


@pytest.mark.document(19)
def test_events_are_found_by_session_person_level_type_and_time(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    other = sign_up(owner)
    mine, theirs = started(caller, person), started(caller, other)
    owner.execute("DELETE FROM conversation.logs")
    made = [
        caller.call(
            SERVICE, logs.write, level, kind, user_id=who, session_id=session, created_at=NOON + n * DAY
        )
        for n, (level, kind, who, session) in enumerate(
            [
                ("info", "session_created", person.id, mine),
                ("error", "api_call_failed", person.id, mine),
                ("error", "api_call_failed", other.id, theirs),
                ("warn", "session_restored", person.id, None),
            ]
        )
    ]
    for given, numbers in (
        ({"session_id": mine}, [1, 0]),
        ({"user_id": person.id}, [3, 1, 0]),
        ({"level": "error"}, [2, 1]),
        ({"event_type": "api_call_failed", "user_id": other.id}, [2]),
        ({"since": NOON + 2 * DAY}, [3, 2]),
        ({"session_id": mine, "since": NOON + timedelta(seconds=1)}, [1]),
        ({"session_id": NOBODY}, []),
        ({}, [3, 2, 1, 0]),
    ):
        assert found(caller, **given) == [made[number] for number in numbers], given


@pytest.mark.document(24)
def test_a_person_reads_their_own_events_and_writes_none(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    other = sign_up(owner)
    session = started(caller, person)
    mine = caller.call(SERVICE, logs.write, "info", "session_created", user_id=person.id, session_id=session)
    caller.call(SERVICE, logs.write, "info", "session_created", user_id=other.id)
    caller.call(SERVICE, logs.write, "info", "session_restored", session_id=session)  # of nobody
    assert found(caller, person.identity) == [mine]
    assert found(caller, person.identity, user_id=other.id) == []
    assert len(found(caller)) == 3
    with pytest.raises(errors.PermissionRefused):
        caller.call(person.identity, logs.write, "info", "user_logout", user_id=person.id)
    for statement in (
        "UPDATE conversation.logs SET level = 'debug'",
        "DELETE FROM conversation.logs",
        "INSERT INTO conversation.logs (level, event_type) VALUES ('info', 'user_logout')",
    ):
        with pytest.raises(errors.PermissionRefused):
            caller.run(person.identity, lambda tx, statement=statement: tx.execute(text(statement)))
    for function, given in ((logs.search, ()), (logs.write, ("info", "user_logout"))):
        with pytest.raises(errors.PermissionRefused):
            caller.call(VISITOR, function, *given)
    assert one(owner, WRITTEN) == 3


@pytest.mark.document(24)
@pytest.mark.parametrize(
    "verb", ["UPDATE conversation.logs SET level = 'debug'", "DELETE FROM conversation.logs"]
)
def test_the_service_only_appends(caller: Caller, owner: psycopg.Connection, verb: str) -> None:
    caller.call(SERVICE, logs.write, "info", "user_logout")
    with pytest.raises(errors.PermissionRefused):
        caller.run(SERVICE, lambda tx: tx.execute(text(verb)))
    assert one(owner, "SELECT level FROM conversation.logs") == "info"


def test_an_event_outlives_what_it_is_about(
    caller: Caller, person: Person, owner: psycopg.Connection
) -> None:
    session = started(caller, person)
    caller.call(SERVICE, logs.write, "info", "session_created", user_id=person.id, session_id=session)
    owner.execute("DELETE FROM auth.users WHERE id = %s", [person.id])
    (event,) = caller.call(SERVICE, logs.search).rows
    assert (event.user_id, event.session_id, event.event_type) == (None, None, "session_created")
