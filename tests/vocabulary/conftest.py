"""Callers of the vocabulary repositories on their database."""

from collections.abc import Iterator

import pytest

from carnivore_db import Database
from tests.support.callers import SyncCaller
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


@pytest.fixture
def empty_database(area_database: TestDatabase) -> TestDatabase:  # noqa: F811
    empty(area_database, "vocabulary")
    return area_database


@pytest.fixture
def jobs(empty_database: TestDatabase) -> Iterator[Database]:
    """The database as jobs open it, which are synchronous alone."""
    made = Database(empty_database.app_url)
    yield made
    made.close()


@pytest.fixture
def sync(empty_database: TestDatabase) -> Iterator[SyncCaller]:
    """The caller for tests of jobs, which are synchronous alone."""
    with SyncCaller(empty_database.app_url) as made:
        yield made
