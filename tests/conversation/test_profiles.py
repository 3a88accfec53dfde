"""People of the chat: made by a login, found, changed by nobody but the database and the service."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from carnivore_db import errors
from carnivore_db.conversation import profiles
from tests.conversation.completion_law import WEEK, monday_of
from tests.conversation.samples import SERVICE, VISITOR, Person, completed, sign_up
from tests.support.callers import Caller
from tests.support.changing import ZONES
from tests.support.databases import TestDatabase, one


def run(statement: str, **values: Any) -> Callable[[Session], None]:
    return lambda tx: tx.execute(text(statement), values) and None


@pytest.mark.document(2)
def test_whoever_signs_up_has_a_profile(
    caller_of_each_shape: Caller, signed_up: Callable[[], Person]
) -> None:
    ada = signed_up()
    mine = caller_of_each_shape.call(ada.identity, profiles.get, ada.id)
    assert (mine.id, mine.email) == (ada.id, ada.email)
    assert (mine.completed_scenario_count, mine.current_week_completion_count) == (0, 0)
    assert (mine.deleted_at, mine.erased_at) == (None, None)
    assert mine.week_reset_date == monday_of(mine.created_at) + WEEK
    assert mine.updated_at == mine.created_at


@pytest.mark.document(2)
@pytest.mark.parametrize("zone", ZONES)
def test_the_first_week_ends_on_monday_utc_in_every_time_zone(owner: psycopg.Connection, zone: str) -> None:
    owner.execute("SELECT set_config('TimeZone', %s, false)", [zone])
    ada = sign_up(owner)
    made, reset = (
        one(owner, f"SELECT {column} FROM conversation.profiles WHERE id = %s", ada.id)
        for column in ("created_at", "week_reset_date")
    )
    assert reset == monday_of(made) + WEEK


MONDAY = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.mark.document(2)
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (MONDAY - timedelta(microseconds=1), MONDAY),
        (MONDAY, MONDAY + WEEK),
        (MONDAY + timedelta(hours=1), MONDAY + WEEK),
        (MONDAY + WEEK - timedelta(microseconds=1), MONDAY + WEEK),
        (datetime(2026, 12, 31, 23, 59, tzinfo=UTC), datetime(2027, 1, 4, tzinfo=UTC)),
        (datetime(2028, 2, 29, 12, tzinfo=UTC), datetime(2028, 3, 6, tzinfo=UTC)),
    ],
)
def test_the_next_monday_of_a_moment(
    owner: psycopg.Connection, zone: str, moment: datetime, expected: datetime
) -> None:
    owner.execute("SELECT set_config('TimeZone', %s, false)", [zone])
    assert one(owner, "SELECT carnivore.next_monday(%s)", moment) == expected


@pytest.mark.document(25)
@pytest.mark.parametrize("address", [None, "", "   "], ids=["none", "empty", "blank"])
def test_a_login_without_an_address_is_refused_where_profiles_are_required(
    database: TestDatabase, address: str | None
) -> None:
    with database.connect(autocommit=True) as connection:
        connection.execute("SET carnivore.profile_required = 'on'")
        with pytest.raises(psycopg.errors.CheckViolation) as caught:
            connection.execute("INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), %s)", [address])
        assert caught.value.diag.constraint_name == "email_not_empty"
        assert caught.value.diag.column_name == "email"
        for table in ("auth.users", "conversation.profiles"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_a_profile_goes_with_its_login(owner: psycopg.Connection, person: Person) -> None:
    other = sign_up(owner)
    owner.execute("DELETE FROM auth.users WHERE id = %s", [person.id])
    assert one(owner, "SELECT id FROM conversation.profiles") == other.id


# What a person, and whoever else, might want to write in a profile.
FORGED = {
    "completed_scenario_count": "0",
    "current_week_completion_count": "0",
    "week_reset_date": "week_reset_date + interval '7 days'",
    "email": "'eve@example.com'",
    "id": "gen_random_uuid()",
    "created_at": "now()",
    "updated_at": "now()",
    "deleted_at": "now()",
    "erased_at": "now()",
}
# The service alone follows a login's address, and lets people go and come back.
OF_THE_SERVICE = {"email", "deleted_at"}


@pytest.mark.document(27)
@pytest.mark.parametrize("column", FORGED)
def test_nobody_writes_what_is_the_databases(
    caller: Caller, owner: psycopg.Connection, person: Person, column: str
) -> None:
    completed(owner, person, datetime.now(UTC))
    before = owner.execute("SELECT * FROM conversation.profiles").fetchall()
    forge = run(f"UPDATE conversation.profiles SET {column} = {FORGED[column]}")
    for who in (person.identity, VISITOR, *([] if column in OF_THE_SERVICE else [SERVICE])):
        with pytest.raises(errors.PermissionRefused):
            caller.run(who, forge)
    assert owner.execute("SELECT * FROM conversation.profiles").fetchall() == before


@pytest.mark.document(27)
def test_nobody_adds_or_deletes_a_profile(caller: Caller, owner: psycopg.Connection, person: Person) -> None:
    owner.execute("ALTER TABLE auth.users DISABLE TRIGGER on_auth_user_created")
    bob = sign_up(owner)  # a login without a profile
    owner.execute("ALTER TABLE auth.users ENABLE TRIGGER on_auth_user_created")
    add = run(
        "INSERT INTO conversation.profiles (id, email, week_reset_date) VALUES (:id, 'b@x.org', now())",
        id=bob.id,
    )
    for who in (bob.identity, person.identity, SERVICE, VISITOR):
        for attempt in (add, run("DELETE FROM conversation.profiles")):
            with pytest.raises(errors.PermissionRefused):
                caller.run(who, attempt)
    assert one(owner, "SELECT id FROM conversation.profiles") == person.id
    with pytest.raises(errors.ProfileNotFound):
        caller.call(bob.identity, profiles.get, bob.id)


@pytest.mark.document(9, 27)
def test_even_the_owners_new_profile_begins_at_nothing(owner: psycopg.Connection, person: Person) -> None:
    owner.execute("DELETE FROM conversation.profiles")
    owner.execute(
        "INSERT INTO conversation.profiles VALUES (%s, 'ada@example.com', 7, 7, '2020-01-06 00:00+00')",
        [person.id],
    )
    row = owner.execute("SELECT * FROM conversation.profiles").fetchone()
    assert isinstance(row, dict)
    assert (row["completed_scenario_count"], row["current_week_completion_count"]) == (0, 0)
    assert row["week_reset_date"] == monday_of(row["created_at"]) + WEEK


def test_a_person_is_found_by_address_in_whatever_case(caller: Caller, owner: psycopg.Connection) -> None:
    ada = sign_up(owner, "Ada.Lovelace@Example.com")
    for address in ("ada.lovelace@example.com", "ADA.LOVELACE@EXAMPLE.COM", " Ada.Lovelace@Example.com "):
        for who in (SERVICE, ada.identity):
            found = caller.call(who, profiles.find_by_email, address)
            assert found is not None
            assert found.id == ada.id
    assert caller.call(SERVICE, profiles.find_by_email, "ada@example.com") is None


def test_a_person_sees_themselves_alone(caller: Caller, owner: psycopg.Connection, person: Person) -> None:
    eve = sign_up(owner)
    for function, given in ((profiles.get, person.id), (profiles.allowance, person.id)):
        with pytest.raises(errors.ProfileNotFound):
            caller.call(eve.identity, function, given)
    assert caller.call(eve.identity, profiles.find_by_email, person.email) is None
    with pytest.raises(errors.PermissionRefused):
        caller.call(VISITOR, profiles.get, person.id)


def test_an_address_follows_the_logins(caller_of_each_shape: Caller, signed_up: Callable[[], Person]) -> None:
    ada, eve = signed_up(), signed_up()
    before = caller_of_each_shape.call(SERVICE, profiles.get, ada.id)
    changed = caller_of_each_shape.call(SERVICE, profiles.change_email, ada.id, "Ada@Example.org")
    assert changed.email == "ada@example.org"
    assert changed.updated_at > before.updated_at
    found = caller_of_each_shape.call(ada.identity, profiles.find_by_email, "ADA@example.org")
    assert found is not None
    assert found.id == ada.id
    with pytest.raises(errors.AlreadyExists) as caught:
        caller_of_each_shape.call(SERVICE, profiles.change_email, eve.id, "ADA@EXAMPLE.ORG")
    assert caught.value.rule == "profiles_email_key"
    with pytest.raises(errors.PermissionRefused):
        caller_of_each_shape.call(ada.identity, profiles.change_email, ada.id, "other@example.org")


def test_a_profile_prints_no_address(caller: Caller, person: Person) -> None:
    found = caller.call(SERVICE, profiles.get, person.id)
    assert person.email not in f"{found} {found!r}"
    assert str(person.id) in repr(found)
