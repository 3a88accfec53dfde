"""Callers of the chat's repositories on their database."""

from collections.abc import Callable

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.conversation.samples import Person, sign_up
from tests.support.databases import TestDatabase, empty
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

# What the revisions put there stays, as they put it.
RESTORE = """
    DELETE FROM auth.users;
    DELETE FROM conversation.scenarios WHERE id > 3;
    UPDATE conversation.scenarios SET is_active = true;
    DELETE FROM conversation.rate_limits;
    INSERT INTO conversation.rate_limits (code, allowed, per)
    VALUES ('messages', 30, '1 minute'), ('completed_scenarios', 3, '7 days');
"""


@pytest.fixture
def empty_database(area_database: TestDatabase) -> TestDatabase:  # noqa: F811
    empty(area_database, "conversation", but={"event_types", "rate_limits", "scenarios"})
    with area_database.connect() as connection:
        connection.execute(RESTORE)
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
