"""`carnivore.run_job`: a run is noted whatever fails, its own log included; options have one default."""

from collections.abc import Iterator

import psycopg
import pytest

from carnivore_db.settings import DEFAULTS
from tests.support.databases import TestDatabase

JOB = "trial"
NOTED = """
    SELECT last_error, last_result ->> 'handled', last_succeeded_at IS NULL FROM carnivore.jobs WHERE job = %s
"""


@pytest.fixture
def owner(database: TestDatabase) -> Iterator[psycopg.Connection]:
    with database.connect(database.shape.migrator, autocommit=True) as connection:
        yield connection


def register(owner: psycopg.Connection, call: str, on_failure: str | None = None) -> None:
    owner.execute(
        "INSERT INTO carnivore.jobs (job, area, position, description, call, on_failure)"
        " VALUES (%s, 'platform', 50, 'a trial', %s, %s)",
        [JOB, call, on_failure],
    )


def run(owner: psycopg.Connection) -> tuple[int, str | None]:
    found = owner.execute("CALL carnivore.run_job(%s, 10)", [JOB]).fetchone()
    assert found
    return found


def noted(owner: psycopg.Connection) -> tuple[object, ...] | None:
    return owner.execute(NOTED, [JOB]).fetchone()


@pytest.mark.parametrize(
    ("raised", "sqlstate"),
    [("assert_failure", "P0004"), ("query_canceled", "57014"), ("check_violation", "23514")],
)
def test_every_kind_of_failure_is_noted(owner: psycopg.Connection, raised: str, sqlstate: str) -> None:
    owner.execute(
        "CREATE FUNCTION carnivore.trial() RETURNS integer LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{raised}'; END $$"
    )
    register(owner, "SELECT carnivore.trial()")
    assert run(owner) == (0, sqlstate)
    assert noted(owner) == (sqlstate, "0", True)


def test_a_failure_that_cannot_be_logged_is_noted_and_stops_no_other(owner: psycopg.Connection) -> None:
    register(owner, "SELECT 1 / 0", "SELECT 1 / 0 WHERE $1 IS NOT NULL")
    with pytest.raises(psycopg.errors.RaiseException, match=rf"jobs failed: {JOB}\n"):
        owner.execute("CALL carnivore.maintain()")
    assert noted(owner) == ("22012", "0", True)
    left = "SELECT count(*) FROM carnivore.jobs WHERE call IS NOT NULL AND last_finished_at IS NULL"
    assert owner.execute(left).fetchone() == (0,)
    # The session's lock is free for the next run.
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    assert owner.execute(held).fetchone() == (0,)


def test_a_run_that_cannot_be_noted_is_an_error(owner: psycopg.Connection) -> None:
    with pytest.raises(psycopg.Error) as caught:
        owner.execute("SELECT carnivore.record_job('nothing', now(), NULL, '{}')")
    assert caught.value.diag.constraint_name == "job_not_found"


def test_options_have_the_defaults_of_the_settings(owner: psycopg.Connection) -> None:
    options: dict[str, object] = {}
    for (given,) in owner.execute("SELECT options FROM carnivore.jobs"):
        options |= given
    assert options == {
        "months_ahead": DEFAULTS.partition_months_ahead,
        "keep_old": DEFAULTS.archive_logs,
        "reports_grace": f"{DEFAULTS.reports_grace_days} days",
        "pages_grace": f"{DEFAULTS.report_pages_grace_days} days",
    }
    arguments = "SELECT pg_get_function_arguments('carnivore.maintain'::regproc)"
    found = str(owner.execute(arguments).fetchone())
    assert f"batch integer DEFAULT {DEFAULTS.retention_batch}," in found
    assert ("reports_grace interval DEFAULT NULL" in found, "months_ahead integer DEFAULT NULL" in found) == (
        True,
        True,
    )


def test_a_job_alone_runs_with_its_own_options(owner: psycopg.Connection) -> None:
    for job in ("reports", "partitions"):
        ended = owner.execute("CALL carnivore.run_job(%s)", [job]).fetchone()
        assert ended
        assert ended[1] is None
