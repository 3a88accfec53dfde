"""A migration that cannot go on: the database is at a whole revision, and the next run finishes."""

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from psycopg import errors
from sqlalchemy import create_engine, pool, text
from sqlalchemy.exc import OperationalError

from carnivore_db.schema import migrations
from carnivore_db.schema.snapshot import Snapshot
from tests.migrations.helpers import HISTORY, RELEASE, assert_same, eventually, fingerprint, heads, waiting
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.slow

REPORTS = "public.generated_reports"
# These work outside a transaction, while everybody else works; what they had done stays done.
ONLINE = {"critical_fixes_online", "deferred_online"}
# The one backend that holds the migrations' advisory lock in this database.
MIGRATING = """
    SELECT l.pid FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
    WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()
"""
SHOWN = """
    SELECT name, setting FROM pg_settings
    WHERE name IN ('lock_timeout', 'search_path', 'statement_timeout') ORDER BY name
"""


@contextmanager
def locked(database: TestDatabase) -> Iterator[None]:
    """Somebody holds on to the reports."""
    with database.connect() as connection:
        connection.execute(f"LOCK TABLE {REPORTS} IN ACCESS EXCLUSIVE MODE")
        yield


def kill_migration(database: TestDatabase) -> None:
    with database.connect(autocommit=True) as connection:
        connection.execute(f"SELECT pg_terminate_backend(pid, 60000) FROM ({MIGRATING}) AS running")


def test_a_migration_that_cannot_have_a_lock_gives_up_whole(
    plain_empty: TestDatabase, at: dict[str, Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARNIVORE_DB_MIGRATION_LOCK_TIMEOUT", "1")
    for earlier, revision in (
        ("012_reports", "012_access_log"),
        ("012_access_log", "014_calculator2_sessions"),
    ):
        migrations.upgrade(plain_empty.migrator_url, f"weekly@{earlier}")
        before = fingerprint(plain_empty)
        with locked(plain_empty), pytest.raises(OperationalError) as failure:
            migrations.upgrade(plain_empty.migrator_url, f"weekly@{revision}")
        assert isinstance(failure.value.orig, errors.LockNotAvailable)
        assert heads(plain_empty) == (earlier,)
        assert_same(before, fingerprint(plain_empty))
    migrations.upgrade(plain_empty.migrator_url)
    assert_same(at[RELEASE], fingerprint(plain_empty))


def test_a_killed_run_keeps_the_revisions_that_it_has_finished(
    plain_empty: TestDatabase, at: dict[str, Snapshot]
) -> None:
    def kill(revision: str) -> None:
        if revision == HISTORY[3]:
            kill_migration(plain_empty)

    with pytest.raises(OperationalError):
        migrations.upgrade(plain_empty.migrator_url, on_step=kill)
    assert heads(plain_empty) == (HISTORY[2],)
    assert_same(at[HISTORY[2]], fingerprint(plain_empty))


def test_a_migration_killed_before_its_commit_leaves_the_revision_before(
    plain_empty: TestDatabase, at: dict[str, Snapshot]
) -> None:
    def kill(_: str) -> None:
        kill_migration(plain_empty)

    for earlier, revision in zip([None, *HISTORY], HISTORY, strict=False):
        before = heads(plain_empty)
        with pytest.raises(OperationalError) as failure:
            migrations.upgrade(plain_empty.migrator_url, revision, on_step=kill)
        assert isinstance(failure.value.orig, errors.AdminShutdown)
        assert heads(plain_empty) == before
        if earlier is not None and revision not in ONLINE:
            assert_same(at[earlier], fingerprint(plain_empty))
        migrations.upgrade(plain_empty.migrator_url, revision)
        assert_same(at[revision], fingerprint(plain_empty))


def test_a_migration_killed_in_the_middle_of_a_revision_leaves_the_one_before(
    plain_empty: TestDatabase, at: dict[str, Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARNIVORE_DB_MIGRATION_LOCK_TIMEOUT", "600")
    migrations.upgrade(plain_empty.migrator_url, "012_access_log")
    before = fingerprint(plain_empty)
    with ThreadPoolExecutor(1) as thread, locked(plain_empty):
        # It has made pricing_tiers, and waits for the lock that the next table's foreign key needs.
        migrating = thread.submit(migrations.upgrade, plain_empty.migrator_url, "014_calculator2_sessions")
        eventually(lambda: migrating.done() or waiting(plain_empty) == 1)
        kill_migration(plain_empty)
        with pytest.raises(OperationalError) as failure:
            migrating.result()
    assert isinstance(failure.value.orig, errors.AdminShutdown)
    assert heads(plain_empty) == ("012_access_log",)
    assert_same(before, fingerprint(plain_empty))
    migrations.upgrade(plain_empty.migrator_url)
    assert_same(at[RELEASE], fingerprint(plain_empty))


@pytest.fixture
def watched(plain_empty: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    """A configuration whose run must have these settings in each revision."""
    seen: list[object] = []

    def look(*, ctx: MigrationContext, **_: object) -> None:
        assert ctx.connection is not None
        seen.append(ctx.connection.execute(text(SHOWN)).all())

    monkeypatch.setenv("CARNIVORE_DB_MIGRATION_LOCK_TIMEOUT", "7")
    monkeypatch.setenv("CARNIVORE_DB_MIGRATION_STATEMENT_TIMEOUT", "77")
    config = migrations.config(plain_empty.migrator_url)
    config.attributes["on_version_apply"] = look
    yield config
    settings = [("lock_timeout", "7000"), ("search_path", "public"), ("statement_timeout", "77000")]
    assert seen == [settings] * len(HISTORY)


def test_each_revision_runs_with_the_settings_timeouts(watched: Config) -> None:
    command.upgrade(watched, "head")


def test_a_failure_leaves_no_lock_and_no_setting_on_the_callers_connection(
    plain_empty: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations.upgrade(plain_empty.migrator_url, "012_reports")
    monkeypatch.setenv("CARNIVORE_DB_MIGRATION_LOCK_TIMEOUT", "1")
    engine = create_engine(plain_empty.migrator_url, poolclass=pool.NullPool)
    config = migrations.config()
    with engine.connect() as config.attributes["connection"]:
        connection = config.attributes["connection"]
        before = connection.execute(text(SHOWN)).all()
        connection.rollback()
        with locked(plain_empty), pytest.raises(OperationalError):
            command.upgrade(config, "head")
        assert connection.execute(text(SHOWN)).all() == before
        assert connection.execute(text(MIGRATING)).all() == []
        connection.rollback()
        command.upgrade(config, "head")
        assert connection.execute(text(SHOWN)).all() == before
        assert connection.execute(text(MIGRATING)).all() == []


@contextmanager
def another_deployment(database: TestDatabase) -> Iterator[psycopg.Connection]:
    """Another one has the turn, until the end of the block."""
    source = (migrations.ini_file().parent / "alembic" / "env.py").read_text(encoding="utf-8")
    (key,) = re.findall(r"^ADVISORY_LOCK = ([\d_]+)$", source, re.MULTILINE)
    with database.connect(autocommit=True) as connection:
        connection.execute(f"SELECT pg_advisory_lock({int(key)})")
        yield connection


def wait_until_it_waits(first: psycopg.Connection, second: "Future[None]") -> None:
    """Until the other session of this database waits for the lock, or has asked for it repeatedly."""
    others = """
        SELECT coalesce(wait_event = 'advisory', false), state_change FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND query <> ''
            AND (wait_event = 'advisory' OR state = 'idle')
    """
    pauses = set()

    def waits() -> bool:
        for blocked, since in first.execute(others):
            pauses.add(since)
            if blocked:
                return True
        return second.done() or len(pauses) > 2  # the driver's own first queries end in a pause, too

    eventually(waits)


def test_a_deployment_that_waits_its_turn_does_not_stop_an_index_built_concurrently(
    plain_database: TestDatabase,
) -> None:
    """CREATE INDEX CONCURRENTLY waits for whoever has a snapshot, and the other deployment for it."""
    with ThreadPoolExecutor(1) as thread:
        with another_deployment(plain_database) as first:
            first.execute("SET deadlock_timeout = '10ms'")
            second = thread.submit(migrations.upgrade, plain_database.migrator_url)
            wait_until_it_waits(first, second)
            first.execute("CREATE INDEX CONCURRENTLY idx_late ON public.user_sessions (created_at)")
        second.result()


def test_a_deployment_that_has_waited_runs_with_the_settings_timeouts(
    plain_empty: TestDatabase, watched: Config
) -> None:
    with ThreadPoolExecutor(1) as thread:
        with another_deployment(plain_empty) as first:
            second = thread.submit(command.upgrade, watched, "head")
            wait_until_it_waits(first, second)
        second.result()
