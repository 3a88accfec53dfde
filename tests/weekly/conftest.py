"""Callers of the weekly repositories, and a second pair of eyes on their database."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest
from psycopg.rows import dict_row

from carnivore_db.base import Base
from tests.support.callers import KINDS, Caller
from tests.support.databases import Shape, TestDatabase

LISTS = {"pricing_tiers"}  # rows of a revision, not of a test


@pytest.fixture(scope="session")
def weekly_database(plain_shape: Shape, plain_template: str) -> Iterator[TestDatabase]:
    """One database for these tests, emptied before each: a clone of its own would cost each more."""
    with plain_shape.clone(plain_template) as made:
        yield made


@pytest.fixture
def empty_database(weekly_database: TestDatabase) -> TestDatabase:
    with weekly_database.connect() as connection:
        connection.execute("SET session_replication_role = replica")  # no rule stands in the way
        for table in Base.metadata.sorted_tables:
            if table.schema is None and table.name not in LISTS:
                connection.execute(f'DELETE FROM public."{table.name}"')
    return weekly_database


@pytest.fixture(params=list(KINDS))
def caller(request: pytest.FixtureRequest, empty_database: TestDatabase) -> Iterator[Caller]:
    """Repository functions in an empty database, by each kind of Database in turn."""
    with KINDS[request.param](empty_database.app_url) as made:
        yield made


@pytest.fixture
def caller_in(caller: Caller, empty_database: TestDatabase) -> Iterator[Callable[[str], Caller]]:
    """As `caller`, on connections that live in another time zone."""
    with ExitStack() as stack:

        def make(zone: str) -> Caller:
            url = empty_database.app_url.update_query_dict({"options": f"-c timezone={zone}"})
            return stack.enter_context(type(caller)(url))

        yield make


@pytest.fixture
def owner(empty_database: TestDatabase) -> Iterator[psycopg.Connection]:
    """The superuser's own connection to the same database: it sees what was really committed."""
    with empty_database.connect(autocommit=True) as connection:
        connection.row_factory = dict_row
        yield connection


@pytest.fixture(params=list(KINDS))
def caller_of_each_shape(request: pytest.FixtureRequest, database: TestDatabase) -> Iterator[Caller]:
    """As `caller`, on plain PostgreSQL and on a database shaped like Supabase's."""
    with KINDS[request.param](database.app_url) as made:
        yield made


@pytest.fixture(scope="module", params=list(KINDS))
def module_caller(request: pytest.FixtureRequest, weekly_database: TestDatabase) -> Iterator[Caller]:
    """One caller for all examples of a property test; they tell their rows by id."""
    with KINDS[request.param](weekly_database.app_url) as made:
        yield made
