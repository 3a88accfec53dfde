"""The SQL that `alembic upgrade head --sql` prints does what the migration itself does."""

import io
import re
import shutil
import subprocess

import pytest
from alembic import command

from carnivore_db.schema import migrations
from carnivore_db.schema.snapshot import Snapshot
from tests.migrations.helpers import assert_same, fingerprint, fresh, only, put_rows
from tests.support.databases import TestDatabase

psql = pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")


def printed(direction: str, revisions: str) -> str:
    config = migrations.config()
    config.output_buffer = io.StringIO()
    getattr(command, direction)(config, revisions, sql=True)
    return config.output_buffer.getvalue()


def run(database: TestDatabase, script: str) -> None:
    """Run a script as an administrator would: psql, as the migrating role, until the first error."""
    url = database.migrator_url.set(drivername="postgresql").render_as_string(hide_password=False)
    done = subprocess.run(
        ["psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--dbname={url}"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def without_version_table(whole: Snapshot) -> Snapshot:
    """Whether base has Alembic's own empty table or not depends on Alembic's version."""
    return only(whole, lambda identity: "alembic_version" not in identity)


@psql
def test_the_printed_sql_makes_and_unmakes_the_same(empty: TestDatabase) -> None:
    run(empty, printed("upgrade", "head"))
    with fresh(empty.shape) as online:
        migrations.upgrade(online.migrator_url)
        assert_same(fingerprint(online), fingerprint(empty))
        assert migrations.current(empty.migrator_url) == migrations.current(online.migrator_url)

        put_rows(empty)
        run(empty, printed("downgrade", "head:base"))
        migrations.downgrade(online.migrator_url, "base")
        expected = without_version_table(fingerprint(online))
        assert_same(expected, without_version_table(fingerprint(empty)))
    assert migrations.current(empty.migrator_url) is None


@psql
def test_the_printed_sql_goes_on_from_a_revision(plain_database: TestDatabase) -> None:
    head = fingerprint(plain_database)
    migrations.downgrade(plain_database.migrator_url, "012_access_log")
    run(plain_database, printed("upgrade", "012_access_log:head"))
    assert_same(head, fingerprint(plain_database))


@pytest.mark.parametrize(("direction", "revisions"), [("upgrade", "head"), ("downgrade", "head:base")])
def test_the_printed_sql_is_plain_sql(direction: str, revisions: str) -> None:
    script = printed(direction, revisions)
    assert "%%" not in script
    assert "%(" not in script
    # One transaction for each revision, so that a failure in the middle leaves a whole revision; around what
    # is done beside writers (indexes built CONCURRENTLY, rules validated) it ends and begins anew.
    between = re.findall(r"\nCOMMIT;(?s:(.*?))\nBEGIN;", script)
    online = sum(bool(statements.strip()) for statements in between)
    assert script.count("\nBEGIN;") == script.count("\nCOMMIT;") == len(migrations.history()) + online
    assert online == {"upgrade": 3, "downgrade": 2}[direction]
