"""Callers of an area's repositories, and a second pair of eyes on its database.

The conftest of an area imports these, and adds `empty_database`: `area_database` without its rows.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest
from psycopg.rows import dict_row

from carnivore_db import Identity
from tests.support.callers import KINDS, Caller
from tests.support.databases import Shape, TestDatabase


@pytest.fixture(scope="session")
def area_database(plain_shape: Shape, plain_template: str) -> Iterator[TestDatabase]:
    """One database for an area's tests, emptied before each: a clone of its own would cost each more."""
    with plain_shape.clone(plain_template) as made:
        yield made


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
def module_caller(request: pytest.FixtureRequest, area_database: TestDatabase) -> Iterator[Caller]:
    """One caller for all examples of a property test; they tell their rows by id."""
    with KINDS[request.param](area_database.app_url) as made:
        yield made


@pytest.fixture(scope="module", params=list(KINDS))
def owning_caller(request: pytest.FixtureRequest, area_database: TestDatabase) -> Iterator[Caller]:
    """A caller who may do everything: only the rules themselves are in the way."""
    with KINDS[request.param](area_database.migrator_url) as made:
        yield made


@pytest.fixture(scope="module")
def owner_identity(area_database: TestDatabase) -> Identity:
    return Identity(area_database.shape.migrator)
