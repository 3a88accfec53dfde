"""A migrated database for each test, the package's way in as the migrating role, and a second look."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from click.testing import Result
from typer.testing import CliRunner

from carnivore_db import Database, Settings
from carnivore_db.cli import app
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
def run(database: TestDatabase) -> Run:
    """The command line on the test's database."""

    def invoke(*arguments: str, **environment: str) -> Result:
        url = database.migrator_url.render_as_string(hide_password=False)
        return CliRunner().invoke(app, arguments, env={"DATABASE_URL": url, **environment})

    return invoke
