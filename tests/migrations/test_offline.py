"""The SQL that `alembic upgrade --sql` prints does what the migration does, for each area and for all."""

import io
import re
import shutil
import subprocess

import pytest
from alembic import command

from carnivore_db.schema import migrations
from carnivore_db.schema.areas import AREAS
from carnivore_db.schema.snapshot import Snapshot
from tests.migrations.helpers import HISTORY, RELEASE, assert_same, fingerprint, fresh, heads, only, put_rows
from tests.support.databases import TestDatabase

psql = pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
TIPS = {area: migrations.tip(area) for area in AREAS}


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


def assert_makes_and_unmakes_the_same(database: TestDatabase, revision: str) -> None:
    run(database, printed("upgrade", revision))
    with fresh(database.shape) as online:
        migrations.upgrade(online.migrator_url, revision)
        assert_same(fingerprint(online), fingerprint(database))
        assert heads(database) == (revision,)

        put_rows(database)
        run(database, printed("downgrade", f"{revision}:base"))
        migrations.downgrade(online.migrator_url, "base")
        expected = without_version_table(fingerprint(online))
        assert_same(expected, without_version_table(fingerprint(database)))
    assert heads(database) == ()


@psql
@pytest.mark.parametrize("area", TIPS)
def test_the_printed_sql_of_an_area_makes_and_unmakes_the_same(plain_empty: TestDatabase, area: str) -> None:
    assert_makes_and_unmakes_the_same(plain_empty, TIPS[area])


@psql
def test_the_printed_sql_of_all_makes_and_unmakes_the_same(empty: TestDatabase) -> None:
    assert_makes_and_unmakes_the_same(empty, RELEASE)


@psql
def test_the_printed_sql_goes_on_from_a_revision(plain_empty: TestDatabase) -> None:
    migrations.upgrade(plain_empty.migrator_url, TIPS["weekly"])
    tip = fingerprint(plain_empty)
    migrations.downgrade(plain_empty.migrator_url, "012_access_log")
    run(plain_empty, printed("upgrade", f"012_access_log:{TIPS['weekly']}"))
    assert_same(tip, fingerprint(plain_empty))


@pytest.mark.parametrize(("direction", "revisions"), [("upgrade", "head"), ("downgrade", "head:base")])
def test_the_printed_sql_is_plain_sql(direction: str, revisions: str) -> None:
    script = printed(direction, revisions)
    percent = {"upgrade": "RAISE NOTICE 'role % was", "downgrade": "LIKE 'carnivore_db:%'"}
    assert percent[direction] in script  # not doubled, as for a driver
    assert "%(" not in script
    # One transaction for each revision, so that a failure in the middle leaves a whole revision; around what
    # is done beside writers (indexes built CONCURRENTLY) it ends and begins anew.
    between = re.findall(r"\nCOMMIT;(?s:(.*?))\nBEGIN;", script)
    online = sum(bool(statements.strip()) for statements in between)
    assert script.count("\nBEGIN;") == script.count("\nCOMMIT;") == len(HISTORY) + online
    assert online == {"upgrade": 3, "downgrade": 1}[direction]
