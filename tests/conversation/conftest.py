"""Callers of the chat's repositories on their database."""

from collections.abc import Callable

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.conversation.samples import Person, sign_up, tidy
from tests.support.databases import TestDatabase
from tests.support.fixtures import (  # noqa: F401 - fixtures
    area_database,
    caller,
    caller_in,
    caller_of_each_shape,
    module_caller,
    owner,
    owner_identity,
    owning_caller,
)


@pytest.fixture
def empty_database(area_database: TestDatabase) -> TestDatabase:  # noqa: F811
    tidy(area_database)
    return area_database


@pytest.fixture
def person(owner: psycopg.Connection) -> Person:  # noqa: F811
    """Somebody who has signed up."""
    return sign_up(owner)


@pytest.fixture
def signed_up(database: TestDatabase) -> Callable[[], Person]:
    """People of the database of each shape."""

    def make() -> Person:
        with database.connect(autocommit=True) as connection:
            connection.row_factory = dict_row
            return sign_up(connection)

    return make
