"""`verify` says when a job has not ended well for too long, and whoever may not know is told so."""

import json
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from carnivore_db import errors
from carnivore_db.operations import jobs as health
from tests.operations.conftest import Open, Run
from tests.operations.test_procedure import JOBS
from tests.support.databases import TestDatabase


def status(run: Run, code: int) -> dict[str, Any]:
    """The last section of verify."""
    outcome = run("verify", "--json")
    assert outcome.exit_code == code, outcome.output
    found: dict[str, Any] = json.loads(outcome.stdout)["sections"][-1]
    assert (found["number"], found["title"]) == (12, "Status")
    return found


def test_a_fresh_database_is_not_overdue_and_knows_its_jobs(run: Run) -> None:
    found = status(run, 0)
    assert found["differences"] == []
    assert set(found["facts"]["jobs"]) == {f"{job} never" for job in JOBS}


def test_a_job_that_never_ran_is_overdue_after_its_time(run: Run, owner: psycopg.Connection) -> None:
    known = "UPDATE carnivore.jobs SET created_at = now() - every + interval '{}' WHERE job = 'fold'"
    owner.execute(known.format("1 minute"))
    assert status(run, 0)["status"] == "ok"
    owner.execute(known.format("-1 second"))
    found = status(run, 1)
    assert found["status"] == "differs"
    assert found["differences"] == ["job fold is overdue: it never succeeded, expected every 2 days"]
    assert "job fold is overdue" in run("verify").output


def test_a_failure_is_told_and_the_last_success_counts(
    run: Run, opened: Open, owner: psycopg.Connection
) -> None:
    engine = opened().engine
    owner.execute("UPDATE carnivore.jobs SET created_at = now() - interval '1 year'")
    for job in JOBS:
        health.record(engine, job, seconds=1.5, error=None, result={"rows": 1})
    assert status(run, 0)["differences"] == []
    health.record(engine, "fold", seconds=0, error=errors.Busy(), result={})
    facts = status(run, 0)["facts"]["jobs"]
    assert next(fact for fact in facts if fact.startswith("fold")).endswith("failed (Busy)")
    owner.execute(
        "UPDATE carnivore.jobs SET last_succeeded_at = now() - interval '49 hours' WHERE job = 'fold'"
    )
    (problem,) = status(run, 1)["differences"]
    assert problem.startswith("job fold is overdue: it last succeeded at 2")
    assert problem.endswith(", expected every 2 days, the last error is Busy")
    owner.execute("UPDATE carnivore.jobs SET every = '3 days' WHERE job = 'fold'")
    assert status(run, 0)["differences"] == []


def test_a_run_says_when_it_began_and_ended(opened: Open, owner: psycopg.Connection) -> None:
    health.record(opened().engine, "archive", seconds=90, error=None, result={"months": 2})
    row = owner.execute(
        "SELECT last_finished_at - last_started_at, last_succeeded_at = last_finished_at, last_error,"
        " last_result, every, now() - last_finished_at < interval '1 minute' FROM carnivore.jobs"
        " WHERE job = 'archive'"
    ).fetchone()
    assert row is not None
    assert abs(row[0] - timedelta(seconds=90)) < timedelta(seconds=1)
    assert row[1:] == (True, None, {"months": 2}, timedelta(days=2), True)


def test_of_an_error_only_its_codes_are_kept(opened: Open, owner: psycopg.Connection) -> None:
    engine = opened().engine
    caught: list[BaseException] = []
    for statement in ("SELECT 1/0", "INSERT INTO public.pricing_tiers (code) VALUES ('Geheim!')"):
        with pytest.raises(errors.CarnivoreError) as failure, engine.begin() as connection:
            connection.exec_driver_sql(statement)
        caught.append(failure.value)
    caught.append(LookupError("geheim"))
    kept = []
    for error in caught:
        health.record(engine, "fold", seconds=0, error=error, result={})
        kept.append(owner.execute("SELECT last_error FROM carnivore.jobs WHERE job = 'fold'").fetchone())
    assert kept == [("22012",), ("23514 code_valid",), ("LookupError",)]


def test_who_may_not_read_it_is_told_so_and_nothing_breaks(
    run: Run, database: TestDatabase, owner: psycopg.Connection
) -> None:
    owner.execute("UPDATE carnivore.jobs SET created_at = now() - interval '1 year'")
    outcome = run("verify", "--json", url=database.app_url)
    section = json.loads(outcome.stdout)["sections"][-1]
    assert section["facts"]["jobs"].startswith("not read: ")
    assert "42501" in section["facts"]["jobs"]
    assert not any("overdue" in problem for problem in section["differences"])


def test_a_database_without_the_table_is_looked_at_all_the_same(run: Run, owner: psycopg.Connection) -> None:
    owner.execute("ALTER TABLE carnivore.jobs RENAME TO away")
    assert "42P01" in status(run, 1)["facts"]["jobs"]
