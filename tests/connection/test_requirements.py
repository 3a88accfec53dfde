"""A database that will not do is refused in one line, by every way in, before anything changes."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import URL

from carnivore_db import AsyncDatabase, Database, identity
from carnivore_db.connection import requirements
from carnivore_db.errors import ConfigurationError
from carnivore_db.schema import migrations
from tests.support.databases import Shape

ENCODINGS = {"LATIN1": "UTF8, and is LATIN1$", "SQL_ASCII": "UTF8, and is SQL_ASCII$"}


@pytest.fixture(params=ENCODINGS)
def other(request: pytest.FixtureRequest, plain_shape: Shape) -> Iterator[tuple[URL, str]]:
    """A database of another encoding, and what is said of it."""
    name = f"carnivore_{uuid4().hex}"
    with psycopg.connect(plain_shape.server.dsn("postgres"), autocommit=True) as admin:
        admin.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{request.param}' LOCALE 'C'".encode()
        )
        try:
            yield plain_shape.server.url(name), ENCODINGS[request.param]
        finally:
            admin.execute(f"DROP DATABASE {name} (FORCE)".encode())


def test_another_encoding_is_refused_before_anything_changes(
    other: tuple[URL, str], plain_shape: Shape
) -> None:
    url, said = other
    with pytest.raises(ConfigurationError, match=said):
        migrations.upgrade(url)
    with pytest.raises(ConfigurationError, match=said):
        migrations.states(url)
    database = Database(url)
    with pytest.raises(ConfigurationError, match=said), database.transaction(identity.service()):
        pass
    database.close()
    with psycopg.connect(plain_shape.server.dsn(str(url.database))) as connection:
        found = connection.execute("SELECT to_regnamespace('carnivore') IS NULL").fetchone()
    assert found == (True,)


def test_another_encoding_is_refused_asynchronously_too(other: tuple[URL, str]) -> None:
    url, said = other

    async def enter() -> None:
        database = AsyncDatabase(url)
        try:
            async with database.transaction(identity.service()):
                pass
        finally:
            await database.close()

    with pytest.raises(ConfigurationError, match=said):
        asyncio.run(enter())


@pytest.mark.parametrize(
    ("version", "fit"), [(140012, False), (149999, False), (150000, True), (180004, True)]
)
def test_an_old_server_is_refused(version: int, *, fit: bool) -> None:
    info = SimpleNamespace(server_version=version, parameter_status=lambda _: "UTF8")
    driver = SimpleNamespace(info=info)
    if fit:
        requirements._check(driver)
        return
    with pytest.raises(ConfigurationError, match="PostgreSQL 15 or newer is needed, and the server is 14"):
        requirements._check(driver)
