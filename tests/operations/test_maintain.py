"""One run of everything: in order, noted, none kept by another's failure, one at a time."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from carnivore_db import errors
from carnivore_db.kit import months
from carnivore_db.operations import jobs, maintenance
from carnivore_db.operations.locks import MAINTENANCE, turn
from tests.operations import old
from tests.operations.conftest import Open, Run
from tests.operations.partitions.months import LOG, LOGS, month, name, one
from tests.support import reports
from tests.support.databases import TestDatabase
from tests.support.processes import python

ORDER = [
    "partitions",
    "fold",
    "analytics",
    "archive",
    "calculator_sessions",
    "reports",
    "report_pages",
    "exports",
    "idle_conversations",
    "old_logs",
    "weekly_limits",
    "message_archive",
    "sizes",
]
LAST = [name(LOG, month(3)), name(LOGS, month(3))]
KILL = """
    SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE locktype = 'advisory'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture
def filled(owner: psycopg.Connection, tmp_path: Path) -> None:
    """Rows that are due for each rule."""
    old.fill(owner, tmp_path)


def maintained(run: Run, *, code: int = 0, **environment: str) -> dict[str, dict[str, Any]]:
    """Run it; the steps by job, in order."""
    outcome = run("maintain", "--json", **environment)
    assert outcome.exit_code == code, outcome.output
    found = json.loads(outcome.stdout)
    assert found["busy"] is False
    return {step["job"]: step for step in found["steps"]}


def noted(owner: psycopg.Connection) -> dict[str, tuple[Any, ...]]:
    """Of each job that ever ran: its last error and result, and whether it ever succeeded."""
    rows = owner.execute(
        "SELECT job, last_error, last_result, last_succeeded_at IS NOT NULL FROM carnivore.jobs"
        " WHERE last_finished_at IS NOT NULL"
    )
    return {job: tuple(facts) for job, *facts in rows}


@pytest.mark.usefixtures("filled")
def test_everything_runs_in_order_and_is_noted(run: Run, owner: psycopg.Connection) -> None:
    (report,) = reports.make(owner, 1)
    owner.execute(f"DROP TABLE {', '.join(LAST)}")
    owner.execute("SET carnivore.access_counting = 'deferred'")
    owner.execute("INSERT INTO public.report_access_log (report_id) VALUES (%s)", [report])
    assert run("verify").exit_code == 1
    steps = maintained(run)
    assert list(steps) == ORDER
    assert steps["partitions"]["did"]["made"] >= 2
    assert {job: step["did"] for job, step in steps.items() if job in {*old.DUE, "fold"}} == {
        "fold": {"handled": 1},
        **{rule: {"deleted": 6} for rule in old.DUE},
    }
    assert steps["archive"]["status"] == "skipped"
    assert one(owner, "SELECT access_count FROM public.generated_reports WHERE id = %s", report) == 1
    # What is skipped is not noted: who never archives is not overdue.
    found = noted(owner)
    assert set(found) == set(ORDER) - {"archive"}
    assert found["reports"] == (None, {"handled": 6}, True)
    assert all(succeeded for _, _, succeeded in found.values())
    assert run("verify").exit_code == 0, run("verify").output
    again = maintained(run)
    for job in ("partitions", "fold", *old.DUE):
        assert set(again[job]["did"].values()) == {0}, job


@pytest.mark.usefixtures("filled")
def test_the_summary_says_what_each_step_did(run: Run) -> None:
    outcome = run("maintain")
    assert outcome.exit_code == 0
    lines = outcome.output.splitlines()
    for job in ORDER:
        assert sum(f" {job} " in line for line in lines) == 1, job
    (line,) = (line for line in lines if " reports " in line)
    assert "done" in line
    assert "6 deleted" in line


@pytest.mark.usefixtures("filled")
def test_a_step_that_fails_stops_no_other_and_keeps_when_it_last_succeeded(
    run: Run, owner: psycopg.Connection, tmp_path: Path
) -> None:
    moments = "SELECT last_succeeded_at, last_finished_at FROM carnivore.jobs WHERE job = 'fold'"
    maintained(run)
    ((succeeded, finished),) = owner.execute(moments).fetchall()
    assert succeeded == finished
    owner.execute("DROP FUNCTION conversation.reset_weekly_limits(integer, uuid)")
    owner.execute("DROP FUNCTION public.fold_report_access(integer)")
    old.fill(owner, tmp_path)
    steps = maintained(run, code=1)
    assert {job for job, step in steps.items() if step["status"] == "failed"} == {"fold", "weekly_limits"}
    assert steps["reports"]["did"] == {"deleted": 6}
    assert steps["fold"]["problem"] == "the job fold failed: SQLSTATE 42883"
    found = noted(owner)
    assert found["fold"] == ("42883", {"handled": 0}, True)
    assert found["weekly_limits"][0] == "42883"
    assert [failure["job"] for failure in old.failures(owner)] == ["weekly_limits"]
    ((again, finished),) = owner.execute(moments).fetchall()
    assert (again, finished > again) == (succeeded, True)
    outcome = run("maintain")
    assert outcome.exit_code == 1
    assert "fold: the job fold failed: SQLSTATE 42883" in outcome.stderr


def test_a_month_that_cannot_be_made_stops_neither_the_others_nor_the_folding(
    run: Run, owner: psycopg.Connection
) -> None:
    owner.execute(f"DROP TABLE {', '.join(LAST)}; CREATE TABLE {LAST[0]} ()")
    steps = maintained(run, code=1)
    assert steps["partitions"]["status"] == "failed"
    did = steps["partitions"]["did"]
    assert did["made"] >= 1
    assert one(owner, "SELECT to_regclass(%s) IS NOT NULL", LAST[1])
    assert LAST[0] in steps["partitions"]["problem"]
    assert steps["fold"]["status"] == "done"
    assert noted(owner)["partitions"] == ("23514 partition_valid", did, False)


@pytest.mark.usefixtures("filled")
def test_progress_is_told_batch_by_batch(opened: Open) -> None:
    db = opened()
    told: list[int] = []
    assert jobs.run(db.engine, "reports", db.settings, batch=2, on_progress=told.append) == 6
    assert told == [2, 4, 6, 6]
    # Nothing is left of that on the connection: nobody hears of the next run.
    jobs.run(db.engine, "sizes", db.settings, batch=2)
    assert len(told) == 4


@pytest.mark.usefixtures("filled")
def test_a_connection_that_is_lost_is_noted_and_the_next_run_goes_on(
    opened: Open, owner: psycopg.Connection
) -> None:
    db = opened()
    (step,) = (s for s in maintenance.steps(db, maintenance.BatchOptions(2)) if s.job == "reports")
    kill = (
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE query LIKE '%carnivore.run_job%'"
    )

    def lose(done: int, _: int | None) -> None:
        if done:
            owner.execute(kill + " AND pid <> pg_backend_pid()")

    outcome = maintenance.run(db, step, lose)
    assert (outcome.status, outcome.problem) == ("failed", str(errors.Unavailable()))
    assert noted(owner)["reports"][0] in {"57P01", "Unavailable"}
    assert len(old.kept(owner)["reports"]) < 9
    assert maintenance.run(db, step).status == "done"
    assert noted(owner)["reports"][0] is None
    assert len(old.kept(owner)["reports"]) == 3


def test_an_error_of_no_kind_of_ours_shows_its_kind_alone(opened: Open, owner: psycopg.Connection) -> None:
    def fail(_: object) -> maintenance.Did:
        raise ValueError("geheim")

    outcome = maintenance.run(opened(), maintenance.Step("fold", "", fail))
    assert (outcome.status, outcome.problem) == ("failed", "ValueError")
    assert noted(owner)["fold"][0] == "ValueError"


def test_a_second_run_at_once_says_so_and_does_nothing(
    run: Run, opened: Open, owner: psycopg.Connection
) -> None:
    with turn(opened().engine, MAINTENANCE) as mine:
        assert mine
        for command in ("maintain", "cleanup"):
            outcome = run(command)
            assert outcome.exit_code == 0
            assert "Another run is at work" in outcome.output
            assert json.loads(run(command, "--json").stdout) == {"busy": True, "steps": []}
        # The database's own scheduler too.
        owner.execute("CALL carnivore.maintain()")
        assert noted(owner) == {}
    maintained(run)


def test_the_turn_ends_with_the_connection(opened: Open, owner: psycopg.Connection) -> None:
    """Whatever ends a run, the next one may work."""
    with turn(opened().engine, MAINTENANCE) as mine:
        assert mine
        assert one(owner, KILL)
        with turn(opened().engine, MAINTENANCE) as free:
            assert free


@pytest.mark.parametrize("archive", [{}, {"CARNIVORE_DB_ARCHIVE_LOCATION": "nosuch://bucket"}])
@pytest.mark.usefixtures("filled")
def test_logs_are_kept_while_their_archive_is_not_done(
    archive: dict[str, str], run: Run, owner: psycopg.Connection
) -> None:
    before = old.kept(owner)["old_logs"]
    steps = maintained(run, code=1, CARNIVORE_DB_ARCHIVE_LOGS="true", **archive)
    assert steps["archive"]["status"] == ("failed" if archive else "skipped")
    assert steps["old_logs"]["status"] == "failed"
    assert "wait for the archive" in steps["old_logs"]["problem"]
    assert old.kept(owner)["old_logs"] == before
    assert noted(owner)["old_logs"][0] == "ArchiveFirst"


@pytest.mark.usefixtures("filled")
def test_logs_go_once_they_are_archived(run: Run, owner: psycopg.Connection, tmp_path: Path) -> None:
    owner.execute("DELETE FROM conversation.logs_default")
    folder, now = tmp_path / "archive", datetime.now(UTC)
    steps = maintained(
        run,
        CARNIVORE_DB_ARCHIVE_LOGS="true",
        CARNIVORE_DB_ARCHIVE_LOCATION=str(folder),
        CARNIVORE_DB_ARCHIVE_ACCESS_LOG_AFTER_DAYS="36500",
    )
    # A month without rows is among them on the day on which it has ended 29 days ago: logs are archived from
    # then on, and a day later no gap is filled with a partition any more.
    ends = [months.start(months.number(now) - ago) for ago in range(3)]
    gaps = sum(timedelta(days=29) <= now - end < timedelta(days=30) for end in ends)
    assert steps["archive"]["did"] == {"months": 1 + gaps, "rows": 3}
    assert steps["old_logs"]["did"] == {"deleted": 0}
    assert len(old.kept(owner)["old_logs"]) == 1
    assert len(list(folder.rglob("*.parquet"))) == 1 + gaps


def test_analyze_renews_the_statistics_of_every_table(
    database: TestDatabase, owner: psycopg.Connection
) -> None:
    """In a process of its own, which has imported no table before."""
    never = (
        "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_stat_all_tables AS s ON s.relid = c.oid"
        " WHERE relkind IN ('r', 'p') AND c.relname <> 'alembic_version'"
        " AND relnamespace::regnamespace::text = ANY(ARRAY(SELECT unnest(schemas) FROM carnivore.areas))"
        " AND s.last_analyze IS NULL AND NOT relispartition"
    )
    tables = {table for (table,) in owner.execute(never)}
    assert {"carnivore.archived_partitions", "carnivore.partition_sizes", "stripe_events"} <= tables
    url = database.migrator_url.render_as_string(hide_password=False)
    script = (
        f"import os; os.environ['DATABASE_URL'] = {url!r}; from carnivore_db.cli import app; app(['analyze'])"
    )
    with python(script) as process:
        assert process.communicate()[0] == f"Analyzed: {len(tables)} tables.\n"
    assert owner.execute(never).fetchall() == []
