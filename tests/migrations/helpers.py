"""What the migration tests share: fingerprints of a database, and a comparison that names what differs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import getpid

import psycopg
from psycopg import sql
from sqlalchemy import Connection, create_engine, pool

from carnivore_db.dev.local import Server
from carnivore_db.schema import migrations, snapshot
from carnivore_db.schema.diff import compare
from carnivore_db.schema.snapshot import Snapshot
from tests.support import rows
from tests.support.databases import Shape, TestDatabase

HISTORY = migrations.history()
BEFORE = dict(zip(HISTORY, ["base", *HISTORY], strict=False))
DEADLINE = 60


@contextmanager
def opened(database: TestDatabase) -> Iterator[Connection]:
    """An SQLAlchemy connection of the migrating role."""
    engine = create_engine(database.migrator_url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        yield connection


def fingerprint(database: TestDatabase) -> Snapshot:
    """All definitions of the database, in every schema."""
    with opened(database) as connection:
        return snapshot.fingerprint(connection)


def take(database: TestDatabase) -> Snapshot:
    """The snapshot of our schemas."""
    with opened(database) as connection:
        return snapshot.take(connection)


def put_rows(database: TestDatabase) -> None:
    """Rows in every table that exists."""
    with opened(database) as connection:
        rows.fill(driver(connection))
        connection.commit()


def driver(connection: Connection) -> psycopg.Connection:
    """The psycopg connection below, in the same transaction."""
    below = connection.connection.driver_connection
    assert isinstance(below, psycopg.Connection)
    return below


def assert_same(expected: Snapshot, live: Snapshot) -> None:
    """Fail, and say in which objects the two differ."""
    found = [difference.describe() for difference in compare(expected, live)]
    assert not found, "\n".join(found)
    assert live == expected


def only(kept: Snapshot, wanted: Callable[[str], bool]) -> Snapshot:
    """The part of a snapshot whose identities are wanted."""
    return {kind: {i: d for i, d in objects.items() if wanted(i)} for kind, objects in kept.items()}


@contextmanager
def fresh(shape: Shape) -> Iterator[TestDatabase]:
    """A database of its own with nothing of ours in it, dropped afterwards."""
    name = f"carnivore_empty_{getpid()}_{time.monotonic_ns()}"
    shape.create(name)
    try:
        yield TestDatabase(shape, name)
    finally:
        drop(shape.server, name)


def drop(server: Server, dbname: str) -> None:
    """Drop a database, whoever is still connected."""
    with psycopg.connect(server.dsn("template1"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(dbname)))


def eventually(holds: Callable[[], object]) -> None:
    """Wait until another process or thread has brought something about."""
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, "this never came about"
        time.sleep(0.005)
