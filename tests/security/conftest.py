"""One database with rows for each shape and module, and a transaction in it that is always taken back."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.security import seed
from tests.security.personas import Session
from tests.support.databases import Shape, TestDatabase


@pytest.fixture(scope="module", params=["plain", "supabase"])
def planted(request: pytest.FixtureRequest) -> Iterator[TestDatabase]:
    """A migrated database with the rows of seed.py, in each of the two shapes."""
    shape: Shape = request.getfixturevalue(f"{request.param}_shape")
    with shape.clone(request.getfixturevalue(f"{request.param}_template")) as made:
        with made.connect() as connection:
            seed.plant(connection)
        yield made


@pytest.fixture(scope="module")
def connection(planted: TestDatabase) -> Iterator[psycopg.Connection]:
    with planted.connect() as made:
        made.prepare_threshold = None  # the schema changes under its statements
        made.execute("SET statement_timeout = '20s'")  # a damaged loop may never end
        made.commit()
        yield made
        made.rollback()


@pytest.fixture
def session(connection: psycopg.Connection, planted: TestDatabase) -> Iterator[Session]:
    """One transaction of the superuser, taken back at the end."""
    connection.rollback()
    yield Session(connection, planted.shape.migrator)
    connection.rollback()
