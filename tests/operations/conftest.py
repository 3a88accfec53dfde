"""A migrated database for each test, the package's way in as the migrating role, and a second look."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from click.testing import Result

from carnivore_db import Database, Settings
from tests.cli import running
from tests.support.databases import TestDatabase

Run = Callable[..., Result]
Open = Callable[..., Database]


@pytest.fixture
def owner(database: TestDatabase) -> Iterator[psycopg.Connection]:
    """The superuser's own connection, in each of the two shapes."""
    with database.connect(autocommit=True) as connection:
        yield connection


@pytest.fixture
def opened(database: TestDatabase) -> Iterator[Open]:
    """The package's way in, as the migrating role, with settings of the test's."""
    made: list[Database] = []

    def make(**settings: Any) -> Database:
        made.append(Database(database.migrator_url, settings=Settings(**settings)))
        return made[-1]

    yield make
    for db in made:
        db.close()


@pytest.fixture
def migrating(opened: Open) -> Database:
    return opened()


@pytest.fixture
def run(database: TestDatabase) -> Run:
    """The command line on the test's database."""
    return partial(running.run, url=database.migrator_url)
