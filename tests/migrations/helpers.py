"""What the migration tests share: fingerprints of a database, and a comparison that names what differs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import getpid

import psycopg
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import to_tuple
from psycopg import sql
from sqlalchemy import Connection, create_engine, pool

from carnivore_db.dev.local import Server
from carnivore_db.schema import areas, migrations, snapshot
from carnivore_db.schema.diff import compare
from carnivore_db.schema.snapshot import Snapshot
from tests.support import rows
from tests.support.databases import Shape, TestDatabase

SCRIPTS = ScriptDirectory.from_config(migrations.config())
HISTORY = migrations.history()
RELEASE = HISTORY[-1]
# What each revision follows: one revision, none at all, or the tips that a release brings together.
BEFORE: dict[str, tuple[str, ...]] = {
    revision: tuple(sorted(to_tuple(SCRIPTS.get_revision(revision).down_revision, default=())))
    for revision in HISTORY
}
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
        return snapshot.take(connection, areas.schemas(connection))


def heads(database: TestDatabase) -> tuple[str, ...]:
    """The revisions that the database is at: none, one, or one of each branch."""
    with opened(database) as connection:
        options = {"version_table_schema": migrations.VERSION_SCHEMA}
        return tuple(sorted(MigrationContext.configure(connection, opts=options).get_current_heads()))


def take_back(database: TestDatabase, revision: str) -> None:
    """Downgrade this revision and those that follow it; other branches stay as they are."""
    below = (*BEFORE[revision], "base")[0]
    area = SCRIPTS.get_revision(revision).branch_labels
    migrations.downgrade(database.migrator_url, f"{min(area)}@{below}" if len(area) == 1 else below)


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


def waiting(database: TestDatabase) -> int:
    """How many sessions of this database wait for a lock."""
    with database.connect(autocommit=True) as connection:
        (found,) = connection.execute(
            "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE NOT granted AND datname = current_database()"
        ).fetchone() or (0,)
        return int(found)
