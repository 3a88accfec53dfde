"""Whatever a database or a role has for defaults: sessions speak the same, identities start from nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.orm import Session

from carnivore_db import Identity, identity
from carnivore_db.schema import migrations
from carnivore_db.weekly import reports
from tests.support.callers import KINDS, Caller
from tests.support.databases import TestDatabase
from tests.weekly.samples import SERVICE, VISITOR, issue_report

SPOKEN = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
}
VALUES = "SELECT timestamptz '2026-07-01 23:30Z', interval '1 year 2 days 03:04:05', '\u20ac', 'a\\\\b'"
ADA = uuid4()


def defaults(database: TestDatabase, settings: dict[str, str]) -> None:
    with database.connect(autocommit=True) as connection:
        for name, value in settings.items():
            statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
            names = sql.Identifier(database.name), sql.Identifier(name), sql.Literal(value)
            connection.execute(statement.format(*names))


@pytest.fixture(params=list(KINDS))
def caller(request: pytest.FixtureRequest, database: TestDatabase) -> Iterator[Caller]:
    with KINDS[request.param](database.app_url) as made:
        yield made


@pytest.fixture
def said_otherwise(database: TestDatabase) -> None:
    defaults(database, SPOKEN)


@pytest.mark.usefixtures("said_otherwise")
def test_values_arrive_as_they_are_and_moments_in_utc(caller: Caller) -> None:
    def values(tx: Session) -> tuple[object, ...]:
        return tuple(tx.execute(text(VALUES)).one())

    moment, span, euro, slashes = caller.run(SERVICE, values)
    assert (moment, moment.utcoffset()) == (datetime(2026, 7, 1, 23, 30, tzinfo=UTC), timedelta(0))
    assert span == timedelta(days=367, hours=3, minutes=4, seconds=5)
    assert (euro, slashes) == ("\u20ac", "a\\\\b")
    report = issue_report(caller)
    opened = caller.call(VISITOR, reports.open, report.access_token)
    assert opened.expires_at.utcoffset() == timedelta(0)


@pytest.mark.usefixtures("said_otherwise")
def test_the_migrations_states_are_read(database: TestDatabase) -> None:
    assert all(state.current for state in migrations.states(database.migrator_url).values())


LEFT = {
    "request.jwt.claim.sub": str(ADA),
    "request.jwt.claim.email": "ada@example.com",
    "request.jwt.claim.role": "service_role",
    "request.jwt.claim": f'{{"sub": "{ADA}"}}',
    "request.jwt.claims": f'{{"sub": "{ADA}", "email": "ada@example.com"}}',
    "carnivore.expiry_reason": "somebody else's",
}
WHO = text("SELECT auth.uid(), auth.email()")


@pytest.mark.parametrize("name", LEFT)
def test_an_identity_starts_from_nothing(database: TestDatabase, caller: Caller, name: str) -> None:
    defaults(database, {name: LEFT[name]})
    bob = uuid4()

    def who(tx: Session) -> tuple[UUID | None, str | None]:
        uid, email = tx.execute(WHO).one()
        return uid, email

    assert caller.run(identity.user(bob, "bob@example.com"), who) == (bob, "bob@example.com")
    assert caller.run(identity.anonymous(), who) == (None, None)
    left = caller.run(
        SERVICE, lambda tx: tx.scalar(text("SELECT current_setting('carnivore.expiry_reason')"))
    )
    assert left == ""


def test_a_header_that_was_left_shows_no_report(database: TestDatabase) -> None:
    with KINDS["sync"](database.app_url) as caller:
        token = issue_report(caller).access_token
    defaults(database, {"request.headers": f'{{"x-report-token": "{token}"}}'})
    seen = "SELECT count(*) FROM public.generated_reports"

    def count(who: Identity) -> int:
        with KINDS["sync"](database.app_url) as caller:
            return caller.run(who, lambda tx: tx.scalar(text(seen)))

    assert count(VISITOR) == 0
    assert count(identity.token_holder(report_token=token)) == 1


def test_names_resolve_where_nobody_else_writes(database: TestDatabase, caller: Caller) -> None:
    defaults(database, {"search_path": "elsewhere, public"})
    path = caller.run(VISITOR, lambda tx: tx.scalar(text("SHOW search_path")))
    assert path == "pg_catalog, public, pg_temp"
