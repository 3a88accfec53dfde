"""Old rows go by their rules, in batches, oldest first; what is not due stays."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import psycopg
import pytest

from carnivore_db import Database
from carnivore_db.errors import ArchiveFirst, ConfigurationError, JobFailed, JobNotFound
from carnivore_db.kit.extras import extra
from carnivore_db.operations import jobs, maintenance, retention
from carnivore_db.operations.retention import BatchOptions
from tests.operations import old
from tests.operations.conftest import Open, Run
from tests.operations.partitions.months import one
from tests.support.databases import TestDatabase
from tests.support.rows import contents

each = pytest.mark.parametrize("rule", old.DUE)


@pytest.fixture
def files(owner: psycopg.Connection, tmp_path: Path) -> list[Path]:
    """Rows that are due for each rule, and these files of exports."""
    return old.fill(owner, tmp_path)


def everything(owner: psycopg.Connection) -> dict[str, object]:
    jobs = owner.execute("SELECT to_jsonb(j)::text FROM carnivore.jobs AS j ORDER BY job").fetchall()
    return {**contents(owner), "jobs": jobs}


def delete(db: Database, rule: str, batch: int = 100, pause: float = 0) -> tuple[int, list[int]]:
    """How many went, and what was told meanwhile."""
    told: list[int] = []
    (step,) = (step for step in maintenance.steps(db, BatchOptions(batch, pause)) if step.job == rule)
    did = step.run(lambda done, _: told.append(done))
    return did["deleted"], told


def due(db: Database) -> dict[str, int]:
    found = {rule.job: retention.count_due(db, rule).due for rule in retention.rules(db)}
    return {rule: rows for rule, rows in found.items() if rule != old.PAGES}


@each
@pytest.mark.usefixtures("files")
def test_what_is_due_goes_in_batches_and_nothing_else(
    rule: str, opened: Open, owner: psycopg.Connection
) -> None:
    db, before = opened(), old.kept(owner)
    assert due(db) == old.DELETED
    deleted, told = delete(db, rule, batch=2)
    after = old.kept(owner)
    assert deleted == 6 == len(before[rule]) - len(after[rule])
    assert after | {rule: None} == before | {rule: None}
    # A month of logs goes as a whole, beside its batch; a file is a batch of its own.
    assert told == {"old_logs": [0, 5, 6], "exports": [1, 2, 3, 4, 5, 6]}.get(rule, [0, 2, 4, 6, 6])
    assert due(db) == old.DELETED | {rule: 0}
    assert delete(db, rule, batch=2)[0] == 0


def test_the_rows_that_are_not_due_are_the_ones_that_stay(
    files: list[Path], opened: Open, owner: psycopg.Connection
) -> None:
    for rule in old.DUE:
        delete(opened(), rule)
    left = owner.execute(
        "SELECT (SELECT array_agg(payment_status ORDER BY expires_at) FROM public.calculator2_sessions),"
        " (SELECT bool_and(expires_at > now() - interval '90 days') FROM public.generated_reports AS r"
        " WHERE NOT EXISTS (SELECT FROM public.report_access_log AS l WHERE l.report_id = r.id)),"
        " (SELECT bool_and(expires_at > now()) FROM vocabulary.export_history WHERE status = 'completed'),"
        " (SELECT bool_and(started_at > now() - interval '7 days') FROM conversation.sessions)"
    ).fetchone()
    # Paid for long ago, and pending still.
    assert left == (["completed", "pending"], True, True, True)
    assert {rule: len(rows) for rule, rows in old.kept(owner).items()} == {
        **dict.fromkeys(old.DUE, 1), "calculator_sessions": 2, "reports": 3,
    }  # fmt: skip
    assert sum(file.exists() for file in files) == 1


DUE_MOMENTS = {
    "calculator_sessions": "expires_at FROM public.calculator2_sessions"
    " WHERE expires_at < now() AND payment_status <> 'completed'",
    "reports": "expires_at FROM public.generated_reports AS r WHERE expires_at < now() - interval '90 days'"
    " AND NOT EXISTS (SELECT FROM public.report_access_log AS l WHERE l.report_id = r.id)",
    "exports": "expires_at FROM vocabulary.export_history WHERE expires_at < now() AND status = 'completed'",
    "idle_conversations": "started_at FROM conversation.sessions"
    " WHERE started_at < now() - interval '7 days'",
}


@pytest.mark.parametrize("rule", DUE_MOMENTS)
@pytest.mark.usefixtures("files")
def test_the_oldest_go_first(rule: str, opened: Open, owner: psycopg.Connection) -> None:
    def moments() -> list[object]:
        return [moment for (moment,) in owner.execute(f"SELECT {DUE_MOMENTS[rule]} ORDER BY 1")]

    before, left = moments(), []
    (step,) = (step for step in maintenance.steps(opened(), BatchOptions(2)) if step.job == rule)
    step.run(lambda *_: left.append(moments()))
    assert len(left) > 3
    for seen in left:
        assert seen == before[len(before) - len(seen) :]
    assert not left[-1]


@pytest.mark.usefixtures("files")
def test_a_pause_is_between_batches(
    opened: Open, owner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database's own sleeps, and the package's between files, are only counted."""
    slept: list[float] = []
    monkeypatch.setattr("carnivore_db.operations.retention.time.sleep", slept.append)
    delete(opened(), "exports", pause=0.25)
    assert slept == [0.25] * 6
    owner.execute("CREATE TABLE public.pauses (seconds float)")
    owner.execute("GRANT ALL ON public.pauses TO PUBLIC")
    run_job = one(owner, "SELECT pg_get_functiondef('carnivore.run_job'::regproc)")
    assert run_job.count("PERFORM pg_sleep(") == 1
    owner.execute(run_job.replace("PERFORM pg_sleep(", "INSERT INTO public.pauses SELECT ("))
    for rule in ("calculator_sessions", "reports", "idle_conversations"):
        delete(opened(), rule, batch=2, pause=0.25)
        paused = owner.execute("DELETE FROM public.pauses RETURNING seconds").fetchall()
        assert paused == [(0.25,)] * 3, rule


@each
def test_several_at_once_delete_each_row_once(
    rule: str, opened: Open, owner: psycopg.Connection, tmp_path: Path
) -> None:
    old.fill(owner, tmp_path, 20)
    start = Barrier(3, timeout=60)

    def work(_: int) -> int:
        db = opened()
        start.wait()
        return delete(db, rule, batch=3)[0]

    before = len(old.kept(owner)[rule])
    with ThreadPoolExecutor(3) as threads:
        deleted = sum(threads.map(work, range(3)))
    # Of the logs one works and the others leave it to it, or find months gone that it counted.
    deleted += delete(opened(), rule)[0]
    assert deleted == before - len(old.kept(owner)[rule]) == 40


@pytest.mark.usefixtures("files")
def test_a_row_that_somebody_holds_is_gone_around(opened: Open, database: TestDatabase) -> None:
    with database.connect() as other:
        other.execute("SELECT FROM public.generated_reports ORDER BY expires_at LIMIT 1 FOR UPDATE")
        assert delete(opened(), "reports")[0] == 5
    assert delete(opened(), "reports")[0] == 1


def test_a_dry_run_counts_and_changes_nothing(files: list[Path], run: Run, owner: psycopg.Connection) -> None:
    before = everything(owner)
    outcome = run("cleanup", "--dry-run", "--json")
    assert outcome.exit_code == 0, outcome.output
    told = {rule: (found["due"], found["held"]) for rule, found in json.loads(outcome.stdout).items()}
    assert told == {
        **{rule: (rows, 0) for rule, rows in old.DELETED.items()}, "reports": (6, 1), old.PAGES: (7, 0),
    }  # fmt: skip
    assert run("cleanup", "--dry-run").exit_code == 0
    assert everything(owner) == before
    assert all(file.exists() for file in files)


@pytest.mark.usefixtures("files")
def test_cleanup_does_what_the_dry_run_said(run: Run) -> None:
    found = json.loads(run("cleanup", "--batch", "2", "--json").stdout)
    deleted = {step["job"]: step["did"]["deleted"] for step in found["steps"]}
    assert deleted == old.DELETED | {old.PAGES: 1}
    left = json.loads(run("cleanup", "--dry-run", "--json").stdout)
    assert {rule["due"] for rule in left.values()} == {0}


@pytest.mark.usefixtures("files")
def test_a_report_stays_until_its_accesses_are_archived_and_its_page_goes(
    opened: Open, owner: psycopg.Connection
) -> None:
    db = opened()
    log = "SELECT array_agg(id ORDER BY id) FROM public.report_access_log"
    trail = one(owner, log)
    assert [delete(db, rule)[0] for rule in ("reports", old.PAGES, "reports", old.PAGES)] == [6, 1, 0, 0]
    assert one(owner, log) == trail
    gone = "SELECT id FROM public.generated_reports WHERE report_html = '(deleted)'"
    held = one(owner, gone)
    with pytest.raises(psycopg.IntegrityError):  # nobody would find a page
        owner.execute(
            "UPDATE public.generated_reports SET expires_at = now() + interval '1 day' WHERE id = %s", [held]
        )
    # As the archive leaves it: its months are not in the table any more.
    owner.execute("SET session_replication_role = replica")
    owner.execute("DELETE FROM public.report_access_log WHERE report_id = %s", [held])
    owner.execute("RESET session_replication_role")
    assert delete(db, "reports")[0] == 1


@pytest.mark.usefixtures("files")
def test_pages_have_a_grace_of_their_own(opened: Open) -> None:
    assert [delete(opened(report_pages_grace_days=days), old.PAGES)[0] for days in (365, 95, 0)] == [3, 1, 4]


@pytest.mark.usefixtures("files")
def test_the_grace_of_reports_is_a_setting(run: Run, opened: Open) -> None:
    for days, number in ((365, 3), (90, 6), (0, 7)):
        counted = run("cleanup", "--dry-run", "--json", CARNIVORE_DB_REPORTS_GRACE_DAYS=str(days))
        assert json.loads(counted.stdout)["reports"]["due"] == number
    assert [delete(opened(reports_grace_days=days), "reports")[0] for days in (365, 90, 0)] == [3, 3, 1]


@pytest.mark.parametrize(
    ("rule", "view", "left"),
    [
        ("calculator_sessions", "due_calculator_sessions", 6),
        ("reports", "due_reports", 6),
        ("idle_conversations", "due_sessions", 6),
        ("old_logs", "due_log_rows", 3),
        ("old_logs", "due_log_months", 3),
    ],
)
@pytest.mark.usefixtures("files")
def test_counted_and_deleted_is_what_one_view_finds(
    rule: str, view: str, left: int, opened: Open, owner: psycopg.Connection
) -> None:
    finds = one(owner, "SELECT pg_get_viewdef(%s::text::regclass)", f"carnivore.{view}")
    owner.execute(
        f"CREATE OR REPLACE VIEW carnivore.{view} AS SELECT * FROM ({finds.rstrip(';')}) AS due WHERE false"
    )
    db = opened()
    assert due(db) == old.DELETED | {rule: 6 - left}
    assert delete(db, rule)[0] == 6 - left


@pytest.mark.usefixtures("files")
def test_logs_that_are_archived_first_are_left_to_the_archive(
    opened: Open, owner: psycopg.Connection
) -> None:
    db, before = opened(archive_logs=True), old.kept(owner)
    with pytest.raises(ArchiveFirst, match="6 rows wait for the archive"):
        delete(db, "old_logs")
    assert old.kept(owner) == before
    delete(opened(), "old_logs")
    assert delete(db, "old_logs") == (0, [])


@pytest.mark.usefixtures("files")
def test_a_failed_batch_is_told_by_its_codes_and_logged_without_a_text(
    opened: Open, owner: psycopg.Connection
) -> None:
    old.stumble(owner)
    with pytest.raises(JobFailed) as failed:
        delete(opened(), "idle_conversations", batch=2)
    assert (failed.value.job, failed.value.reason) == ("idle_conversations", "23514 a_rule")
    assert old.failures(owner) == [{"job": "idle_conversations", "sqlstate": "23514", "rule": "a_rule"}]


def test_a_job_that_there_is_not_can_neither_be_counted_nor_run(opened: Open) -> None:
    db = opened()
    for job in ("nosuch", "fold"):  # which deletes nothing
        with pytest.raises(JobNotFound):
            jobs.count_due(db.engine, job, db.settings)
    with pytest.raises(JobNotFound):
        jobs.run(db.engine, "nosuch", db.settings, batch=1)


def test_files_on_another_machine_are_a_failure_and_stay_due(
    run: Run, owner: psycopg.Connection, tmp_path: Path
) -> None:
    """The default location is a folder: where maintain runs, it may not be there."""
    files = old.fill(owner, tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    outcome = run("cleanup", "--json")
    assert outcome.exit_code == 1
    (exports,) = (step for step in json.loads(outcome.stdout)["steps"] if step["job"] == "exports")
    assert exports["status"] == "failed"
    assert "not on this machine" in exports["problem"]
    assert str(tmp_path) not in exports["problem"]
    assert not (tmp_path / "here").exists()
    (tmp_path / "there").rename(tmp_path / "here")
    assert run("cleanup").exit_code == 0
    assert sum(file.exists() for file in files) == 1


def test_where_nothing_is_exported_the_extra_is_not_needed(
    opened: Open, owner: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        with extra("exports"):
            raise ModuleNotFoundError(name="fpdf")

    monkeypatch.setattr(retention, "_worker", missing)
    assert delete(opened(), "exports")[0] == 0
    old.fill(owner, tmp_path)
    with pytest.raises(ConfigurationError, match=r"carnivore-db\[exports\]"):
        delete(opened(), "exports")
