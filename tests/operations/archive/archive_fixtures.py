"""The fixtures of the archive's tests: a plugin, for modules that name it in `pytest_plugins`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from carnivore_db import Database
from tests.operations.archive.archiving import Archiving
from tests.support.databases import TestDatabase

# Months that a test does not make itself must not be due, whatever year it is.
_OLD = """
    DO $$
    DECLARE
        month regclass;
    BEGIN
        FOR month IN SELECT inhrelid::regclass FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
            WHERE inhparent = 'public.report_access_log'::regclass AND relname ~ '_[0-9]{4}_[0-9]{2}$'
                AND to_date(right(relname, 7), 'YYYY_MM') < now() - interval '300 days'
        LOOP
            EXECUTE format('DROP TABLE %s', month);
        END LOOP;
    END
    $$
"""


def _archiving(database: TestDatabase, location: str) -> Iterator[Archiving]:
    db = Database(database.migrator_url)
    with database.connect(autocommit=True) as owner:
        owner.execute(_OLD)
        yield Archiving(database, owner, db.engine, location)
    db.close()


@pytest.fixture
def archiving(plain_database: TestDatabase, tmp_path: Path) -> Iterator[Archiving]:
    """On plain PostgreSQL, with a folder for files."""
    yield from _archiving(plain_database, str(tmp_path / "cold"))


@pytest.fixture
def archiving_anywhere(database: TestDatabase, tmp_path: Path) -> Iterator[Archiving]:
    """In each of the two shapes."""
    yield from _archiving(database, str(tmp_path / "cold"))
