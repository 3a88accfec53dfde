"""Old rows go by their rules, in batches, oldest first; what is not due stays."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import psycopg
import pytest

from carnivore_db import Database, errors
from carnivore_db.errors import ArchiveFirst
from carnivore_db.operations import retention
from carnivore_db.operations.retention import RULES, Pace, Rule
from tests.operations import old
from tests.operations.conftest import Open, Run
from tests.support.databases import TestDatabase
from tests.support.rows import contents

NUMBER = 3
RULE = {rule.name: rule for rule in RULES}


def everything(owner: psycopg.Connection) -> dict[str, object]:
    jobs = owner.execute("SELECT to_jsonb(j)::text FROM carnivore.jobs AS j ORDER BY job").fetchall()
    return {**contents(owner), "jobs": jobs}


def delete(db: Database, rule: Rule, pace: Pace) -> tuple[int, list[int]]:
    """How many went, and how many a batch."""
    batches: list[int] = []
    return rule.delete(db, pace, batches.append), batches


def test_every_rule_is_tried_here() -> None:
    assert tuple(RULE) == old.DUE


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_what_is_due_goes_in_batches_and_nothing_else(
    rule: Rule, opened: Open, owner: psycopg.Connection, tmp_path: Path
) -> None:
    old.fill(owner, tmp_path, NUMBER)
    db, before = opened(), old.kept(owner)
    assert rule.due(db) == 2 * NUMBER
    deleted, batches = delete(db, rule, Pace(batch=2))
    after = old.kept(owner)
    assert deleted == 2 * NUMBER == sum(batches) == len(before[rule.name]) - len(after[rule.name])
    # A month of logs goes as a whole, beside its batch; a file is a batch of its own.
    largest = {"old_logs": 2 + NUMBER, "exports": 1}
    assert max(batches) <= largest.get(rule.name, 2)
    assert {name: rows for name, rows in after.items() if name != rule.name} == {
        name: rows for name, rows in before.items() if name != rule.name
    }
    assert rule.due(db) == 0
    assert delete(db, rule, Pace(batch=2))[0] == 0


def test_the_rows_that_are_not_due_are_the_ones_that_stay(
    opened: Open, owner: psycopg.Connection, tmp_path: Path
) -> None:
    files = old.fill(owner, tmp_path, NUMBER)
    for rule in RULES:
        delete(opened(), rule, Pace(batch=100))
    left = owner.execute(
        "SELECT (SELECT array_agg(payment_status ORDER BY expires_at) FROM public.calculator2_sessions),"
        " (SELECT bool_and(expires_at > now() - interval '90 days') FROM public.generated_reports),"
        " (SELECT bool_and(expires_at > now()) FROM vocabulary.export_history WHERE status = 'completed'),"
        " (SELECT bool_and(started_at > now() - interval '7 days') FROM conversation.sessions)"
    ).fetchone()
    # Paid for long ago, and pending still.
    assert left == (["completed", "pending"], True, True, True)
    assert {name: len(rows) for name, rows in old.kept(owner).items()} == {
        "calculator_sessions": 2,
        "reports": 2,
        "exports": 1,
        "idle_conversations": 1,
        "old_logs": 1,
    }
    assert sum(file.exists() for file in files) == 1


DUE_MOMENTS = {
    "calculator_sessions": "SELECT expires_at FROM public.calculator2_sessions"
    " WHERE expires_at < now() AND payment_status <> 'completed' ORDER BY expires_at, id",
    "reports": "SELECT expires_at FROM public.generated_reports"
    " WHERE expires_at < now() - interval '90 days' ORDER BY expires_at, id",
    "exports": "SELECT expires_at FROM vocabulary.export_history"
    " WHERE expires_at < now() AND status = 'completed' ORDER BY expires_at, id",
    "idle_conversations": "SELECT started_at FROM conversation.sessions"
    " WHERE started_at < now() - interval '7 days' ORDER BY started_at, id",
}


@pytest.mark.parametrize("rule", DUE_MOMENTS)
def test_the_oldest_go_first(rule: str, opened: Open, owner: psycopg.Connection, tmp_path: Path) -> None:
    old.fill(owner, tmp_path, NUMBER)
    before = [moment for (moment,) in owner.execute(DUE_MOMENTS[rule])]
    left: list[list[object]] = []

    def look(_: int) -> None:
        left.append([moment for (moment,) in owner.execute(DUE_MOMENTS[rule])])

    RULE[rule].delete(opened(), Pace(batch=2), look)
    for seen in left:
        assert seen == before[len(before) - len(seen) :]
    assert not left[-1]


def test_a_pause_is_between_batches(
    opened: Open, owner: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old.fill(owner, tmp_path, NUMBER)
    slept: list[float] = []
    monkeypatch.setattr("carnivore_db.operations.retention.time.sleep", slept.append)
    for name in ("calculator_sessions", "reports", "idle_conversations"):
        slept.clear()
        delete(opened(), RULE[name], Pace(batch=2, pause=0.25))
        assert slept == [0.25] * 3, name


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_two_at_once_delete_each_row_once(
    rule: Rule, opened: Open, owner: psycopg.Connection, tmp_path: Path
) -> None:
    old.fill(owner, tmp_path, 20)
    start = Barrier(3, timeout=60)

    def work(_: int) -> int:
        db = opened()
        start.wait()
        return rule.delete(db, Pace(batch=3), lambda _: None)

    before = len(old.kept(owner)[rule.name])
    with ThreadPoolExecutor(3) as threads:
        deleted = sum(threads.map(work, range(3)))
    # Of the logs one works and the others leave it to it, or find months gone that it counted.
    deleted += rule.delete(opened(), Pace(batch=100), lambda _: None)
    assert deleted == before - len(old.kept(owner)[rule.name]) == 40


def test_a_row_that_somebody_holds_is_gone_around(
    opened: Open, owner: psycopg.Connection, tmp_path: Path, database: TestDatabase
) -> None:
    old.fill(owner, tmp_path, NUMBER)
    with database.connect() as other:
        other.execute("SELECT FROM public.generated_reports ORDER BY expires_at LIMIT 1 FOR UPDATE")
        assert delete(opened(), RULE["reports"], Pace(batch=100))[0] == 2 * NUMBER - 1
    assert delete(opened(), RULE["reports"], Pace(batch=100))[0] == 1


def test_a_dry_run_counts_and_changes_nothing(run: Run, owner: psycopg.Connection, tmp_path: Path) -> None:
    files = old.fill(owner, tmp_path, NUMBER)
    before = everything(owner)
    outcome = run("cleanup", "--dry-run", "--json")
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.stdout) == dict.fromkeys(old.DUE, 2 * NUMBER)
    assert run("cleanup", "--dry-run").exit_code == 0
    assert everything(owner) == before
    assert all(file.exists() for file in files)


def test_cleanup_does_what_the_dry_run_said(run: Run, owner: psycopg.Connection, tmp_path: Path) -> None:
    old.fill(owner, tmp_path, NUMBER)
    found = json.loads(run("cleanup", "--batch", "2", "--json").stdout)
    assert {step["job"]: step["did"]["deleted"] for step in found["steps"]} == dict.fromkeys(
        old.DUE, 2 * NUMBER
    )
    assert set(json.loads(run("cleanup", "--dry-run", "--json").stdout).values()) == {0}


def test_the_grace_of_reports_is_a_setting(run: Run, owner: psycopg.Connection, tmp_path: Path) -> None:
    old.fill(owner, tmp_path, NUMBER)
    for days, due in (("365", NUMBER), ("90", 2 * NUMBER), ("0", 2 * NUMBER + 1)):
        counted = run("cleanup", "--dry-run", "--json", CARNIVORE_DB_REPORTS_GRACE_DAYS=days)
        assert json.loads(counted.stdout)["reports"] == due


def test_logs_that_are_archived_first_are_left_to_the_archive(
    opened: Open, owner: psycopg.Connection, tmp_path: Path
) -> None:
    old.fill(owner, tmp_path, NUMBER)
    db, before = opened(archive_logs=True), old.kept(owner)
    with pytest.raises(ArchiveFirst, match=f"{2 * NUMBER} old logs"):
        delete(db, RULE["old_logs"], Pace(batch=100))
    assert old.kept(owner) == before
    delete(opened(), RULE["old_logs"], Pace(batch=100))
    assert delete(db, RULE["old_logs"], Pace(batch=100)) == (0, [])


def test_a_failed_batch_of_the_chat_is_in_its_log_without_a_text(
    opened: Open, owner: psycopg.Connection, tmp_path: Path
) -> None:
    old.fill(owner, tmp_path, NUMBER)
    owner.execute(
        "CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'geheim' USING ERRCODE = '23514', CONSTRAINT = 'a_rule'; END $$;"
        "CREATE TRIGGER fail BEFORE DELETE ON conversation.sessions"
        " FOR EACH ROW EXECUTE FUNCTION public.fail()"
    )
    with pytest.raises(errors.InvalidInput):
        delete(opened(), RULE["idle_conversations"], Pace(batch=2))
    logged = owner.execute("SELECT metadata FROM conversation.logs WHERE level = 'error'").fetchall()
    ((metadata,),) = logged
    assert metadata.pop("job_id")
    assert metadata == {"job": "delete_expired_sessions", "sqlstate": "23514", "rule": "a_rule"}


def test_files_on_another_machine_are_a_failure_and_stay_due(
    run: Run, owner: psycopg.Connection, tmp_path: Path
) -> None:
    """The default location is a folder: where maintain runs, it may not be there."""
    files = old.fill(owner, tmp_path / "here", NUMBER)
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
        raise LookupError("exports need an extra")

    monkeypatch.setattr(retention, "_export_worker", missing)
    assert delete(opened(), RULE["exports"], Pace(batch=2))[0] == 0
    old.fill(owner, tmp_path, NUMBER)
    with pytest.raises(LookupError, match="exports need"):
        delete(opened(), RULE["exports"], Pace(batch=2))
