"""`carnivore-db exports` as an operator types it."""

import json
import signal
import sys
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from click.testing import Result
from rich.progress import Progress, TaskID

from carnivore_db import kit
from carnivore_db.cli import exports as commands
from carnivore_db.kit.storage import OWNER
from carnivore_db.vocabulary import exports
from carnivore_db.vocabulary.models import Export
from tests.cli import running
from tests.cli.running import PASSWORD
from tests.vocabulary.export_support import Exporting, Folder

pytest_plugins = ["tests.vocabulary.export_fixtures"]

SESSIONS = 12


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """The command takes SIGTERM for its process, which here is the tests'."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def run(*arguments: str, exporting: Exporting | None = None, **environment: str | None) -> Result:
    url = exporting and exporting.database.app_url
    return running.run("exports", *arguments, url=url, AWS_SECRET_ACCESS_KEY=PASSWORD, **environment)


def begin(exporting: Exporting, number: int = 1) -> list[str]:
    """Exports that a learner asked for; oldest first."""
    ada = exporting.learner()
    exporting.learn(ada, SESSIONS)
    return [str(exporting.ask(ada)) for _ in range(number)]


def test_work_makes_all_that_waits_and_says_what_became_of_each(exporting: Exporting, folder: Folder) -> None:
    keys = begin(exporting, 2)
    worked = run("work", "--location", folder.location, exporting=exporting)
    assert worked.exit_code == 0
    files = folder.files()
    assert len(files) == 2
    for key in keys:
        row = exporting.row(key)
        assert f"csv {key}: {SESSIONS} records, {row['file_size_bytes']} bytes" in worked.output
        assert row["file_url"] in worked.output


def test_work_shows_a_bar_for_the_export_that_it_makes(
    exporting: Exporting, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, shown = begin(exporting, 2), []
    update = Progress.update

    def watched(self: Progress, bar: TaskID, **values: float) -> None:
        update(self, bar, **values)  # type: ignore[arg-type]
        shown.append([(task.description, task.completed, task.total) for task in self.tasks])

    monkeypatch.setattr(Progress, "update", watched)
    run("work", "--location", folder.location, exporting=exporting)
    assert shown == [[(f"csv {key}", done, SESSIONS)] for key in keys for done in range(1, SESSIONS + 1)]


def test_the_environment_names_the_location_too(exporting: Exporting, folder: Folder) -> None:
    begin(exporting)
    worked = run("work", exporting=exporting, CARNIVORE_DB_EXPORT_LOCATION=folder.location)
    assert (worked.exit_code, len(folder.files())) == (0, 1)


def test_nothing_to_do_is_no_failure(exporting: Exporting, folder: Folder) -> None:
    for command in ("work", "expire", "list"):
        options = ["--location", folder.location] if command == "work" else []
        done = run(command, *options, exporting=exporting)
        assert done.exit_code == 0
    assert [path.name for path in folder.root.iterdir()] == [OWNER]


def test_a_lost_workers_export_is_taken_again_after_the_lease(exporting: Exporting, folder: Folder) -> None:
    (key,) = begin(exporting)
    exporting.lose(key)
    exporting.silence(key, timedelta(minutes=4))
    work = ("work", "--location", folder.location)
    assert run(*work, exporting=exporting).exit_code == 0
    assert exporting.row(key)["status"] == "processing"
    assert run(*work, "--lease", "60", exporting=exporting).exit_code == 0
    assert (exporting.row(key)["status"], exporting.row(key)["retry_count"]) == ("completed", 1)


def test_a_lease_is_longer_than_a_workers_silence(exporting: Exporting, folder: Folder) -> None:
    begin(exporting)
    for lease, status in (("29", 2), ("30", 0)):
        worked = run("work", "--location", folder.location, "--lease", lease, exporting=exporting)
        assert (worked.exit_code, len(folder.files())) == (status, int(not status))


def test_a_waiting_worker_looks_again(
    exporting: Exporting, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(exporting)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt
        begin(exporting)

    monkeypatch.setattr(commands, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(commands, "Database", lambda: exporting.db)  # closed at the test's end
    worked = run("work", "--location", folder.location, "--wait", "7", exporting=exporting)
    assert slept == [7, 7, 7]
    assert len(folder.files()) == 3
    assert worked.exit_code not in {0, 2}


def test_max_retries_ends_a_hopeless_export(exporting: Exporting, folder: Folder) -> None:
    (key,) = begin(exporting)
    exporting.lose(key)
    run("work", "--location", folder.location, "--max-retries", "0", exporting=exporting)
    assert exporting.row(key)["error_message"] == "its worker was lost 1 times"
    assert folder.files() == {}


def test_a_failing_export_is_exit_status_1_and_the_others_go_on(exporting: Exporting, folder: Folder) -> None:
    bad, good = begin(exporting, 2)
    exporting.tamper(bad, filters='{"since": "soon"}')
    worked = run("work", "--location", folder.location, exporting=exporting)
    assert worked.exit_code == 1
    assert f"csv {bad}: failed, ValidationError" in worked.output
    assert f"csv {good}: {SESSIONS} records" in worked.output


def test_a_wrong_storage_is_one_line_and_costs_no_export_an_attempt(
    exporting: Exporting, folder: Folder
) -> None:
    (key,) = begin(exporting)
    folder.put("file", b"")
    for location, words in (
        (f"nosuch://ada:{PASSWORD}@bucket", "nosuch://"),
        (f"{folder.location}/file/{PASSWORD}", "Not a directory"),
    ):
        outcome = run("work", "--location", location, exporting=exporting)
        assert outcome.exit_code == 2
        assert words in " ".join(outcome.output.split())
        assert (exporting.row(key)["status"], exporting.row(key)["started_at"]) == ("pending", None)


def test_expire_has_no_location(exporting: Exporting, folder: Folder) -> None:
    assert run("expire", "--location", folder.location, exporting=exporting).exit_code == 2


@pytest.mark.parametrize(
    ("command", "missing"), [("work", "fsspec"), ("work", "genanki"), ("expire", "fpdf")]
)
def test_a_missing_extra_is_one_line(
    exporting: Exporting, command: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("worker", "files"):
        monkeypatch.delitem(sys.modules, f"carnivore_db.vocabulary.exports.{name}")
        monkeypatch.delattr(exports, name)
    monkeypatch.delitem(sys.modules, "carnivore_db.kit.storage")
    monkeypatch.delattr(kit, "storage")
    monkeypatch.setitem(sys.modules, missing, None)
    outcome = run(command, exporting=exporting)
    assert outcome.exit_code == 2
    assert f"pip install 'carnivore-db[exports]' is needed: {missing} is missing" in outcome.output


def test_a_missing_extra_is_no_reason_not_to_list(
    exporting: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "carnivore_db.vocabulary.exports.worker", None)
    assert run("list", exporting=exporting).exit_code == 0


def in_each_state(exporting: Exporting, folder: Folder) -> dict[str, str]:
    """An export of a learner's in each state, by the state; the newest last."""
    done, failed, halfway, waiting = begin(exporting, 4)
    exporting.tamper(failed, filters='{"since": "soon"}')
    exporting.tamper(halfway, status="expired")
    exporting.tamper(waiting, status="expired")
    exporting.work(folder.location)
    exporting.tamper(halfway, status="processing", data='{"done": 7, "total": 9}', records_count=7)
    exporting.tamper(waiting, status="pending")
    return {"completed": done, "failed": failed, "processing": halfway, "pending": waiting}


def test_list_is_a_table_with_progress_and_outcome(exporting: Exporting, folder: Folder) -> None:
    keys = in_each_state(exporting, folder)
    listed = run("list", exporting=exporting)
    assert listed.exit_code == 0
    shown = [line for line in listed.output.splitlines() if any(key in line for key in keys.values())]
    lines = {state: next(line for line in shown if key in line) for state, key in keys.items()}
    for state, line in lines.items():
        assert state in line
    assert "7 of 9" in lines["processing"]
    assert "ValidationError" in lines["failed"]
    assert exporting.row(keys["completed"])["file_url"] in lines["completed"]
    assert shown == [lines[state] for state in ("pending", "processing", "failed", "completed")]


def test_list_prints_every_column_as_json(exporting: Exporting, folder: Folder) -> None:
    keys = in_each_state(exporting, folder)
    listed = run("list", "--json", exporting=exporting)
    assert listed.exit_code == 0
    rows = json.loads(listed.output)
    assert [row["id"] for row in rows] == list(keys.values())[::-1]
    assert all(set(row) == set(Export.__table__.columns.keys()) for row in rows)
    assert rows[1]["data"] == {"done": 7, "total": 9}
    assert json.loads(run("list", "--json", "--limit", "1", exporting=exporting).output) == rows[:1]


def test_list_shows_one_state_and_one_learner(exporting: Exporting, folder: Folder) -> None:
    keys = in_each_state(exporting, folder)
    (other,) = begin(exporting)
    ada, eve = (str(exporting.row(key)["user_id"]) for key in (keys["failed"], other))

    def ids(*options: str) -> list[str]:
        return [row["id"] for row in json.loads(run("list", "--json", *options, exporting=exporting).output)]

    assert ids("--status", "failed") == [keys["failed"]]
    assert ids("--status", "pending") == [other, keys["pending"]]
    assert ids("--user", eve) == [other]
    assert ids("--user", ada, "--status", "pending") == [keys["pending"]]
    assert ids("--user", str(uuid4())) == []
    assert run("list", "--status", "nosuch", exporting=exporting).exit_code == 2


def test_the_limit_counts_what_is_shown(exporting: Exporting, folder: Folder) -> None:
    keys = in_each_state(exporting, folder)
    ada = str(exporting.row(keys["failed"])["user_id"])
    options = ("--user", ada, "--status", "failed", "--limit", "1", "--json")
    rows = json.loads(run("list", *options, exporting=exporting).output)
    assert [row["id"] for row in rows] == [keys["failed"]]


def test_what_rich_takes_for_markup_is_shown_as_it_is(exporting: Exporting, folder: Folder) -> None:
    (made,) = begin(exporting)
    exporting.work(f"{folder.location}/[red]")
    (failed,) = begin(exporting)
    exporting.tamper(failed, status="failed", error_message="[/b] not [bold]")
    listed = run("list", exporting=exporting).output
    assert exporting.row(made)["file_url"] in listed
    assert "[/b] not [bold]" in listed


def test_ids_are_whole_in_a_narrow_terminal(exporting: Exporting) -> None:
    (key,) = begin(exporting)
    assert key in run("list", exporting=exporting, width=80).output


def test_times_are_utc_whatever_the_connections_zone(exporting: Exporting) -> None:
    (key,) = begin(exporting)
    exporting.tamper(key, created_at="2026-05-01 23:30:00+00")
    with exporting.far_east() as elsewhere:
        listed = run("list", exporting=elsewhere)
        assert "2026-05-01 23:30:00" in listed.output


def test_expire_deletes_and_says_how_many(exporting: Exporting, folder: Folder) -> None:
    due, _ = begin(exporting, 2)
    (erased,) = begin(exporting)
    exporting.work(folder.location)
    exporting.end_time(due)
    exporting.erase(exporting.row(erased)["user_id"])
    folder.put(f"{uuid4()}/{uuid4()}-0.csv", b"not ours")
    for exported, gone in ((1, 1), (0, 0)):
        expired = run("expire", exporting=exporting)
        assert expired.exit_code == 0
        words = f"Exports expired: {exported}. Files of no export deleted: {gone}."
        assert words in expired.output
        assert len(folder.files()) == 2


def test_a_file_that_cannot_be_deleted_is_exit_status_1(exporting: Exporting, folder: Folder) -> None:
    stuck, due = begin(exporting, 2)
    (erased,) = begin(exporting)
    exporting.work(folder.location)
    for key in (stuck, due):
        exporting.end_time(key)
    exporting.erase(exporting.row(erased)["user_id"])
    # A folder where the file was: even root cannot unlink it.
    for key in (stuck, erased):
        (path,) = folder.root.rglob(f"{key}-*")
        path.unlink()
        path.mkdir()
    expired = run("expire", exporting=exporting)
    assert expired.exit_code == 1
    assert "Exports expired: 1. Files of no export deleted: 0." in expired.output
    why = "a file could not be written, read or deleted: IsADirectoryError: Is a directory"
    assert f"{stuck}: {why}" in expired.output
    assert f"{erased}-0.csv: {why}" in expired.output
    assert str(folder.root) not in expired.output
