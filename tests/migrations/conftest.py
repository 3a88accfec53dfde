"""Databases with nothing of ours in them yet, and a cluster whose roles a test may make and drop."""

from collections.abc import Iterator

import psycopg
import pytest

from carnivore_db.dev.local import LocalPostgres, Server
from carnivore_db.schema import migrations
from carnivore_db.schema.snapshot import Snapshot
from tests.migrations.helpers import HISTORY, fingerprint, fresh
from tests.support.databases import Shape, TestDatabase, in_memory


@pytest.fixture
def empty(shape: Shape) -> Iterator[TestDatabase]:
    """An empty database, in each of the two shapes."""
    with fresh(shape) as made:
        yield made


@pytest.fixture
def plain_empty(plain_shape: Shape) -> Iterator[TestDatabase]:
    """An empty database on plain PostgreSQL, for what no shape can change."""
    with fresh(plain_shape) as made:
        yield made


@pytest.fixture(scope="session")
def at(plain_shape: Shape) -> dict[str, Snapshot]:
    """The fingerprint of each revision."""
    with fresh(plain_shape) as database:
        found = {}
        for revision in HISTORY:
            migrations.upgrade(database.migrator_url, revision)
            found[revision] = fingerprint(database)
        return found


@pytest.fixture(scope="session")
def spare_server() -> Iterator[Server]:
    """A private server on which no role of ours exists outside a test."""
    with LocalPostgres(parent=in_memory()) as running:
        yield running


@pytest.fixture
def spare_shape(spare_server: Server) -> Iterator[Shape]:
    """A cluster that has none of our roles."""
    yield Shape("plain", spare_server, migrator=spare_server.user, login=spare_server.user)
    with psycopg.connect(spare_server.dsn("postgres"), autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS anon, authenticated, service_role, reporting")
