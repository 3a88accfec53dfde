"""Rows of sessions as the database itself keeps them right, whoever writes."""

from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest

from tests.conversation.samples import LONG_AGO, Person, completed
from tests.support.databases import one

HOUR = timedelta(hours=1)
RAW = "INSERT INTO conversation.sessions (user_id, scenario_id, started_at, {}) VALUES (%s, 1, %s, {})"


@pytest.mark.document(1)
def test_completed_without_a_moment_cannot_exist(owner: psycopg.Connection, person: Person) -> None:
    owner.execute(RAW.format("is_completed, completed_at", "true, NULL"), [person.id, LONG_AGO])
    found = owner.execute("SELECT now() - completed_at AS age, duration_seconds FROM conversation.sessions")
    row = found.fetchone()
    assert isinstance(row, dict)
    assert row["age"] < HOUR
    owner.execute("UPDATE conversation.sessions SET completed_at = NULL")
    assert one(owner, "SELECT completed_at IS NOT NULL FROM conversation.sessions")


@pytest.mark.document(1, 12)
def test_a_given_moment_is_kept_and_the_duration_derived(owner: psycopg.Connection, person: Person) -> None:
    made = completed(owner, person, LONG_AGO + HOUR, started_at=LONG_AGO, duration_seconds=5)
    derived = "SELECT duration_seconds FROM conversation.sessions WHERE id = %s"
    assert one(owner, derived, made) == 3600
    for change, expected in (
        ("completed_at = completed_at + interval '90.9 seconds'", 3690),
        ("started_at = started_at + interval '1 hour'", 90),
        ("duration_seconds = 7", 90),
        ("completed_at = started_at", 0),
        (
            "started_at = '2000-01-01Z', completed_at = '2099-01-01Z'",
            2**31 - 1,
        ),  # as much as the column holds
    ):
        owner.execute(f"UPDATE conversation.sessions SET {change} WHERE id = %s", [made])
        assert one(owner, derived, made) == expected, change
    owner.execute("UPDATE conversation.sessions SET is_completed = false, duration_seconds = 7")
    assert one(owner, derived, made) is None


@pytest.mark.document(40)
def test_sessions_and_counts_follow_a_login_that_gets_another_id(
    owner: psycopg.Connection, person: Person
) -> None:
    made, new = completed(owner, person, LONG_AGO), uuid4()
    owner.execute("UPDATE auth.users SET id = %s WHERE id = %s", [new, person.id])
    assert one(owner, "SELECT user_id FROM conversation.sessions WHERE id = %s", made) == new
    assert one(owner, "SELECT completed_scenario_count FROM conversation.profiles WHERE id = %s", new) == 1
