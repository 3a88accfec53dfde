"""In every locale the schema is the same, and so is what one address is."""

import os
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from carnivore_db.schema import migrations
from carnivore_db.schema.snapshot import Snapshot
from tests.migrations.helpers import RELEASE, assert_same, drop, fingerprint
from tests.support.databases import Shape, TestDatabase

LOCALES = {
    "C": "LOCALE 'C'",
    "ICU en": "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C'",
    "ICU tr": "LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR' LOCALE 'C'",
    "builtin": "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'",
    "libc tr": "LOCALE 'tr_TR.UTF-8'",
    "libc en": "LOCALE 'en_US.UTF-8'",
}
LOGIN = "INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), %s)"


@pytest.fixture(params=LOCALES)
def localized(request: pytest.FixtureRequest, plain_shape: Shape) -> Iterator[TestDatabase]:
    """A database in a locale, where the server and the machine have it."""
    name = f"carnivore_locale_{os.getpid()}_{time.monotonic_ns()}"
    made = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' " + LOCALES[request.param])
    with psycopg.connect(plain_shape.server.dsn("postgres"), autocommit=True) as connection:
        try:
            connection.execute(made.format(sql.Identifier(name)))
        except psycopg.Error as error:
            pytest.skip(f"no {request.param} here: {error.diag.message_primary}")
    yield TestDatabase(plain_shape, name)
    drop(plain_shape.server, name)


def test_one_address_is_one_profile(localized: TestDatabase, at: dict[str, Snapshot]) -> None:
    migrations.upgrade(localized.migrator_url)
    assert_same(at[RELEASE], fingerprint(localized))
    with localized.connect(autocommit=True) as connection:
        for address in ("ilker@example.com", "ILKER@EXAMPLE.COM", "Ilker@Example.com"):
            connection.execute(LOGIN, [address])
        found = connection.execute("SELECT email::text FROM conversation.profiles").fetchall()
        assert found == [("ilker@example.com",)]
        for path in ("pg_catalog", "public, extensions"):
            connection.execute(f"SET search_path = {path}")
            asked = "SELECT count(*) FROM conversation.profiles WHERE email::text = 'ILKER@example.com'"
            assert connection.execute(asked).fetchone() == (1,)
    migrations.downgrade(localized.migrator_url, "base")
