"""Databases for tests: two shapes, one migrated template each, a clone for every test."""

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import scalar_row
from pytest_postgresql.janitor import DatabaseJanitor
from sqlalchemy import URL

from carnivore_db.dev.local import Server
from carnivore_db.schema import migrations
from carnivore_db.schema.base import Base
from tests.support import supabase
from tests.support.processes import eventually

APPLICATION = "carnivore_app"
_MEMORY = Path("/dev/shm")  # noqa: S108 - LocalPostgres makes a private directory there
_ROOM = 8 * 2**30
_numbers = itertools.count()
_MONTHS: dict[str, str] = {}  # in which each template was made


def _this_month() -> str:
    return f"{datetime.now(UTC):%Y-%m}"


def in_memory() -> Path | None:
    """Where files are kept in memory, if there is room: a database is 900, and most tests make one."""
    return _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM else None


@dataclass(frozen=True)
class Shape:
    """A server, the role that migrates there and the login of the application."""

    name: str
    server: Server  # its user is the superuser
    migrator: str
    login: str

    def url(self, dbname: str, user: str) -> URL:
        return replace(self.server, user=user).url(dbname)

    def create(self, dbname: str) -> None:
        """An empty database, as this shape has it before our first revision."""
        if self.name == "supabase":
            supabase.create(self.server, dbname)
        else:
            with psycopg.connect(self.server.dsn("postgres"), autocommit=True) as connection:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(dbname)))

    def drop(self, dbname: str) -> None:
        with psycopg.connect(self.server.dsn("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(dbname)))

    def migrate(self, dbname: str) -> None:
        _MONTHS[dbname] = _this_month()
        migrations.upgrade(self.url(dbname, self.migrator))
        if self.name == "plain":
            with psycopg.connect(self.server.dsn(dbname), autocommit=True) as connection:
                connection.execute(self._login_sql())

    def _login_sql(self) -> sql.Composed:
        """Make the application's login, once a server; one password serves all logins of the tests."""
        password = sql.SQL("NULL") if self.server.password is None else sql.Literal(self.server.password)
        return sql.SQL(
            "DO $$ BEGIN CREATE ROLE carnivore_app LOGIN NOINHERIT PASSWORD {};"
            " GRANT anon, authenticated, service_role TO carnivore_app;"
            " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        ).format(password)

    @contextmanager
    def clone(self, template: str | None) -> Iterator["TestDatabase"]:
        """A database of its own, made from `template`, dropped afterwards."""
        janitor = DatabaseJanitor(
            user=self.server.user,
            host=self.server.host,
            port=self.server.port,
            password=self.server.password,
            dbname=f"carnivore_test_{os.getpid()}_{next(_numbers)}",
            template_dbname=template,
            maintenance_dbname="postgres",
        )
        with janitor:
            made = TestDatabase(self, janitor.dbname)
            if _MONTHS.get(template or "") not in {None, _this_month()}:
                self._add_month(made)
            yield made

    def _add_month(self, made: "TestDatabase") -> None:
        """The month's last night passed since the template was made: now it would be made otherwise."""
        last = datetime.now(UTC).replace(day=1) - timedelta(days=1)
        with made.connect(self.migrator, autocommit=True) as connection:
            connection.execute(f"DROP TABLE IF EXISTS conversation.logs_{last:%Y_%m}")
            connection.execute(
                "SELECT carnivore.create_partition(CAST(parent AS regclass), CAST(date_trunc('month', now())"
                " + interval '3 months' AS date)) FROM carnivore.partitioned_tables"
            )


@dataclass(frozen=True)
class TestDatabase:
    """One test's database and the ways into it."""

    __test__ = False

    shape: Shape
    name: str

    @property
    def app_url(self) -> URL:
        """As the application logs in: a member of the three roles that inherits nothing."""
        return self.shape.url(self.name, self.shape.login)

    @property
    def migrator_url(self) -> URL:
        return self.shape.url(self.name, self.shape.migrator)

    def connect(self, user: str | None = None, *, autocommit: bool = False) -> psycopg.Connection:
        """A plain psycopg connection, the superuser's unless `user` says otherwise."""
        server = self.shape.server if user is None else replace(self.shape.server, user=user)
        # In UTC wherever the server is, as the package's own connections are.
        return psycopg.connect(server.dsn(self.name), autocommit=autocommit, options="-c timezone=UTC")


def empty(database: TestDatabase, schema: str | None, *, but: set[str] | None = None) -> None:
    """Delete the rows of all tables in a schema of the models (None: public), except of some."""
    with database.connect() as connection:
        connection.execute("SET session_replication_role = replica")  # no rule stands in the way
        for table in Base.metadata.sorted_tables:
            if table.schema == schema and table.name not in (but or set()):
                connection.execute(f'DELETE FROM {schema or "public"}."{table.name}"')


def one(owner: psycopg.Connection, query: str, *values: Any) -> Any:
    """The only value of the only row of a query."""
    rows = owner.execute(query, values).fetchall()
    assert len(rows) == 1
    (value,) = rows[0].values()
    return value


# Where it is executed by another connection: who waits for a lock.
WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()
"""


def waiting(connection: psycopg.Connection) -> int:
    """How many connections to this database wait for a lock now."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        found: int = cursor.execute(WAITING).fetchone()
        return found


def somebody_waits(connection: psycopg.Connection, number: int = 1) -> None:
    """Come back when so many connections wait for a lock."""
    assert eventually(lambda: waiting(connection) == number)
