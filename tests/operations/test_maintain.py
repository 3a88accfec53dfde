"""One run of everything: in order, noted, none kept by another's failure, one at a time."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from carnivore_db.kit import months
from carnivore_db.operations import maintenance
from carnivore_db.operations.locks import MAINTENANCE, turn
from tests.operations import old
from tests.operations.conftest import Open, Run
from tests.support import reports
from tests.support.databases import TestDatabase

ORDER = [
    "partitions",
    "fold",
    "analytics",
    "archive",
    "calculator_sessions",
    "reports",
    "exports",
    "idle_conversations",
    "old_logs",
    "weekly_limits",
    "message_archive",
    "sizes",
]
LAST = """
SELECT max(inhrelid::regclass::text) FROM pg_inherits
WHERE inhparent = %s::regclass AND inhrelid::regclass::text !~ 'default'
"""
Steps = dict[str, dict[str, Any]]


def maintained(run: Run, *, code: int = 0, **environment: str) -> Steps:
    """Run it; the steps by job, in order."""
    outcome = run("maintain", "--json", **environment)
    assert outcome.exit_code == code, outcome.output
    found = json.loads(outcome.stdout)
    assert found["busy"] is False
    return {step["job"]: step for step in found["steps"]}


def jobs(owner: psycopg.Connection) -> dict[str, tuple[Any, ...]]:
    rows = owner.execute(
        "SELECT job, last_error, last_result, last_succeeded_at IS NOT NULL FROM carnivore.jobs"
    ).fetchall()
    return {job: facts for job, *facts in rows}


def last_month(owner: psycopg.Connection, table: str) -> str:
    row = owner.execute(LAST, [table]).fetchone()
    assert row is not None
    return str(row[0])


def test_everything_runs_in_order_and_is_noted(run: Run, owner: psycopg.Connection, tmp_path: Path) -> None:
    old.fill(owner, tmp_path)
    (report,) = reports.make(owner, 1)
    for table in ("public.report_access_log", "conversation.logs"):
        owner.execute(f"DROP TABLE {last_month(owner, table)}")
    owner.execute("SET carnivore.access_counting = 'deferred'")
    owner.execute("INSERT INTO public.report_access_log (report_id) VALUES (%s)", [report])
    assert run("verify").exit_code == 1
    steps = maintained(run)
    assert list(steps) == ORDER
    assert steps["partitions"]["did"]["made"] >= 2
    assert {job: step["did"] for job, step in steps.items() if job in (*old.DUE, "fold")} == {
        "fold": {"folded": 1},
        **{rule: {"deleted": 6} for rule in old.DUE},
    }
    assert steps["archive"]["status"] == "skipped"
    counted = owner.execute("SELECT access_count FROM public.generated_reports WHERE id = %s", [report])
    assert counted.fetchone() == (1,)
    # What is skipped is not noted: who never archives is not overdue.
    noted = jobs(owner)
    assert set(noted) == set(ORDER) - {"archive"}
    assert noted["reports"] == [None, {"deleted": 6}, True]
    assert all(succeeded for _, _, succeeded in noted.values())
    assert run("verify").exit_code == 0, run("verify").output


def test_a_second_run_has_nothing_left_to_do(run: Run, owner: psycopg.Connection, tmp_path: Path) -> None:
    old.fill(owner, tmp_path)
    maintained(run)
    again = maintained(run)
    for job in ("partitions", "fold", *old.DUE):
        assert set(again[job]["did"].values()) == {0}, job


def test_the_summary_says_what_each_step_did(run: Run, owner: psycopg.Connection, tmp_path: Path) -> None:
    old.fill(owner, tmp_path)
    outcome = run("maintain")
    assert outcome.exit_code == 0
    lines = outcome.output.splitlines()
    for job in ORDER:
        assert sum(f" {job} " in line for line in lines) == 1, job
    (line,) = (line for line in lines if " reports " in line)
    assert "done" in line
    assert "6 deleted" in line


def test_a_step_that_fails_stops_no_other(run: Run, owner: psycopg.Connection, tmp_path: Path) -> None:
    old.fill(owner, tmp_path)
    owner.execute("DROP FUNCTION conversation.reset_weekly_limits(integer, uuid)")
    owner.execute("DROP FUNCTION public.fold_report_access(integer)")
    steps = maintained(run, code=1)
    assert {job for job, step in steps.items() if step["status"] == "failed"} == {"fold", "weekly_limits"}
    assert steps["reports"]["did"] == {"deleted": 6}
    assert "carnivore-db upgrade" in steps["fold"]["problem"]
    noted = jobs(owner)
    assert noted["fold"] == ["42883", {}, False]
    assert noted["weekly_limits"][0] == "42883"
    errors = "SELECT metadata ->> 'job' FROM conversation.logs WHERE level = 'error'"
    assert owner.execute(errors).fetchall() == [("reset_weekly_limits",)]
    outcome = run("maintain")
    assert outcome.exit_code == 1
    assert "fold: A table or function is missing" in outcome.stderr


def test_a_failure_after_a_success_keeps_when_it_last_succeeded(run: Run, owner: psycopg.Connection) -> None:
    moment = "SELECT last_succeeded_at, last_finished_at FROM carnivore.jobs WHERE job = 'fold'"
    maintained(run)
    first = owner.execute(moment).fetchone()
    assert first is not None
    assert first[0] == first[1]
    owner.execute("ALTER FUNCTION public.fold_report_access(integer) RENAME TO away")
    maintained(run, code=1)
    second = owner.execute(moment).fetchone()
    assert second is not None
    assert second[0] == first[0]
    assert second[1] > first[1]


def test_a_month_that_cannot_be_made_stops_neither_the_others_nor_the_folding(
    run: Run, owner: psycopg.Connection
) -> None:
    last = last_month(owner, "public.report_access_log")
    owner.execute(f"DROP TABLE {last}")
    owner.execute(f"CREATE TABLE {last} ()")
    logs = last_month(owner, "conversation.logs")
    owner.execute(f"DROP TABLE {logs}")
    steps = maintained(run, code=1)
    assert steps["partitions"]["status"] == "failed"
    did = steps["partitions"]["did"]
    assert did["made"] >= 1
    assert owner.execute("SELECT to_regclass(%s) IS NOT NULL", [logs]).fetchone() == (True,)
    assert last.removeprefix("public.") in steps["partitions"]["problem"]
    assert steps["fold"]["status"] == "done"
    assert jobs(owner)["partitions"][:2] == ["23514 partition_valid", did]


def test_an_error_of_no_kind_of_ours_shows_its_kind_alone(opened: Open, owner: psycopg.Connection) -> None:
    def fail(_: object) -> maintenance.Did:
        raise ValueError("geheim")

    outcome = maintenance.run(opened(), maintenance.Step("fold", "", fail))
    assert (outcome.status, outcome.problem) == ("failed", "ValueError")
    assert jobs(owner)["fold"][0] == "ValueError"


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
        assert not any(succeeded for _, _, succeeded in jobs(owner).values())
        # The database's own scheduler too.
        owner.execute("CALL carnivore.maintain()")
        assert not any(succeeded for _, _, succeeded in jobs(owner).values())
    maintained(run)


def test_the_turn_ends_with_the_connection(opened: Open, database: TestDatabase) -> None:
    """Whatever ends a run, the next one may work."""
    with turn(opened().engine, MAINTENANCE) as mine:
        assert mine
        with database.connect(autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_locks"
                " WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database"
                " WHERE datname = current_database())"
            )
        with turn(opened().engine, MAINTENANCE) as free:
            assert free


@pytest.mark.parametrize("archive", ["", "nosuch://bucket"])
def test_logs_are_kept_while_their_archive_is_not_done(
    archive: str, run: Run, owner: psycopg.Connection, tmp_path: Path
) -> None:
    old.fill(owner, tmp_path)
    environment = {"CARNIVORE_DB_ARCHIVE_LOGS": "true"}
    if archive:
        environment["CARNIVORE_DB_ARCHIVE_LOCATION"] = archive
    before = old.kept(owner)["old_logs"]
    steps = maintained(run, code=1, **environment)
    assert steps["archive"]["status"] == ("failed" if archive else "skipped")
    assert steps["old_logs"]["status"] == "failed"
    assert "wait for the archive" in steps["old_logs"]["problem"]
    assert old.kept(owner)["old_logs"] == before
    assert jobs(owner)["old_logs"][0] == "ArchiveFirst"


def test_logs_go_once_they_are_archived(run: Run, owner: psycopg.Connection, tmp_path: Path) -> None:
    old.fill(owner, tmp_path / "exports")
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


def test_analyze_renews_the_statistics_of_every_table(run: Run, owner: psycopg.Connection) -> None:
    never = (
        "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_stat_all_tables AS s ON s.relid = c.oid"
        " WHERE relkind IN ('r', 'p') AND c.relname <> 'alembic_version'"
        " AND relnamespace::regnamespace::text IN ('public', 'vocabulary', 'conversation', 'carnivore')"
        " AND s.last_analyze IS NULL AND NOT relispartition"
    )
    assert owner.execute(never).fetchall()
    outcome = run("analyze")
    assert outcome.exit_code == 0
    owner.execute("SELECT pg_stat_force_next_flush()")
    assert owner.execute(never).fetchall() == []
