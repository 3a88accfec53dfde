"""`carnivore-db archive` as an operator types it."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import Result

from carnivore_db.operations import archive as package
from tests.cli import running
from tests.operations.archive.archiving import LOGS, NAME, ODD, Archiving, stop_at

pytest_plugins = ["tests.operations.archive.archive_fixtures"]


def run(archiving: Archiving, *arguments: str, **environment: str | None) -> Result:
    given = {"CARNIVORE_DB_ARCHIVE_LOCATION": archiving.location, **environment}
    return running.run("archive", *arguments, url=archiving.database.migrator_url, **given)


def test_run_says_what_it_archived_and_list_shows_it(archiving: Archiving) -> None:
    archiving.odd_month()
    dry = run(archiving, "run", "--dry-run")
    assert dry.exit_code == 0
    assert NAME in dry.output
    assert archiving.attached()
    done = run(archiving, "run")
    assert done.exit_code == 0
    ((before, after),) = archiving.ledger("bytes_before, bytes_after")
    assert f"{NAME}: {len(ODD)} rows, {before / 1024:.1f} kB in the database" in done.output
    assert archiving.url() in done.output
    assert "No month is old enough." in run(archiving, "run").output
    shown = run(archiving, "list").output
    for text in ("2024-02", "archived", f"{before / 1024:.1f} kB before, {after / 1024:.1f} kB after"):
        assert text in shown
    (row,) = json.loads(run(archiving, "list", "--json").output)
    assert (row["state"], row["rows"], row["bytes_before"], row["bytes_after"]) == (
        "archived",
        len(ODD),
        before,
        after,
    )


def test_json_stands_alone(archiving: Archiving) -> None:
    archiving.odd_month()
    (due,) = json.loads(run(archiving, "run", "--dry-run", "--json").output)["due"]
    assert (due["name"], due["table"]) == (NAME, "public.report_access_log")
    said = json.loads(run(archiving, "run", "--json").output)
    assert (said["busy"], said["waiting"], said["failed"]) == (False, [], {})
    assert [done["name"] for done in said["archived"]] == [NAME]
    assert json.loads(run(archiving, "verify", "--json").output) == {
        "ok": True,
        "files": [{"file": archiving.url(), "rows": len(ODD), "problem": None}],
    }
    said = json.loads(run(archiving, "restore", "report_access_log", "2024-02", "--json").output)
    assert (said["rows"], said["left_out"], said["came_late"]) == (len(ODD), 0, 0)


def test_settings_say_what_is_archived(archiving: Archiving) -> None:
    archiving.odd_month()
    archiving.month(LOGS)
    days = {"CARNIVORE_DB_ARCHIVE_ACCESS_LOG_AFTER_DAYS": "36500"}
    due = json.loads(run(archiving, "run", "--dry-run", "--json", **days).output)["due"]
    assert due == []
    due = json.loads(
        run(archiving, "run", "--dry-run", "--json", CARNIVORE_DB_ARCHIVE_LOGS="true", **days).output
    )["due"]
    assert [one["name"] for one in due] == ["logs_2024_02"]
    for arguments in (("run", "--dry-run"), ("run",)):
        said = run(archiving, *arguments, CARNIVORE_DB_ARCHIVE_LOCATION=None)
        assert said.exit_code == 0
        assert "CARNIVORE_DB_ARCHIVE_LOCATION is not set: nothing is archived." in said.output
    assert f"Old enough, and still there: {NAME}." in said.output
    assert archiving.attached()


def test_verify_ends_with_1_for_a_damaged_file_and_restore_with_2(archiving: Archiving) -> None:
    archiving.odd_month()
    run(archiving, "run")
    assert "Files read: 1. Not as they should be: 0." in run(archiving, "verify").output
    path = Path(archiving.url().removeprefix("file://"))
    path.write_bytes(path.read_bytes() + b"x")
    verified = run(archiving, "verify")
    assert verified.exit_code == 1
    assert "not what its manifest says: file" in verified.output
    restored = run(archiving, "restore", "report_access_log", "2024-02")
    assert restored.exit_code == 2
    assert "not what its manifest says: file" in restored.output
    assert not archiving.attached()


def test_a_month_that_could_not_be_archived_ends_with_1(archiving: Archiving) -> None:
    archiving.odd_month()
    failed = run(archiving, "run", "--location", "/proc/nowhere")
    assert failed.exit_code == 1
    assert f"{NAME}: a file could not be written, read or deleted" in failed.output


def test_a_second_run_says_so_and_ends_with_0(archiving: Archiving) -> None:
    archiving.odd_month()
    seen = []
    archiving.archive(on_step=stop_at("write", lambda: seen.append(run(archiving, "run"))))
    said = (seen[0].exit_code, seen[0].output.strip())
    assert said == (0, "Another run is at work; nothing was done.")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("users", "2024-02"), "the archive knows report_access_log and logs"),
        (("logs", "2024-13"), "a month is written YYYY-MM"),
        (("logs", "0000-01"), "a month is written YYYY-MM"),
        (("logs", "2024-2"), "a month is written YYYY-MM"),
        (("logs", "2024-02"), "The archive has no rows of this month"),
    ],
)
def test_restore_refuses_what_is_not_there(
    archiving: Archiving, arguments: tuple[str, ...], problem: str
) -> None:
    refused = run(archiving, "restore", *arguments)
    assert refused.exit_code == 2
    assert problem in refused.output


def test_restore_says_what_came_back(archiving: Archiving) -> None:
    archiving.odd_month()
    run(archiving, "run")
    done = run(archiving, "restore", "report_access_log", "2024-02", "--keep-days", "3")
    assert done.exit_code == 0
    assert f"{NAME}: {len(ODD)} rows are back until" in done.output
    assert archiving.one(
        "SELECT keep_until BETWEEN now() + interval '2 days 23 hours' AND now() + interval '3 days'"
        " FROM carnivore.archived_partitions"
    )
    (row,) = json.loads(run(archiving, "list", "--json").output)
    assert row["state"] == "restored"


def test_a_missing_extra_is_one_line(archiving: Archiving, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("run", "restore", "steps", "parquet"):
        monkeypatch.delitem(sys.modules, f"carnivore_db.operations.archive.{name}")
        monkeypatch.delattr(package, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    outcome = run(archiving, "run")
    assert outcome.exit_code == 2
    assert "pip install 'carnivore-db[operations]' is needed: pyarrow is missing" in outcome.output
    assert run(archiving, "list").exit_code == 0
