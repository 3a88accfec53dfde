"""A database whose partitions may come and go, the owner's view of it, and the migrating role's way in."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import dict_row

from carnivore_db import Database
from tests.support.databases import TestDatabase


@pytest.fixture
def owner(database: TestDatabase) -> Iterator[psycopg.Connection]:
    with database.connect(autocommit=True) as connection:
        connection.row_factory = dict_row
        yield connection


@pytest.fixture
def migrating(database: TestDatabase) -> Iterator[Database]:
    made = Database(database.migrator_url)
    yield made
    made.close()
