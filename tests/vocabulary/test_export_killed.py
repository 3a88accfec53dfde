"""Workers that stop in the midst of an export: killed, ended, cut off from the database, replaced."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from carnivore_db import Database, errors
from carnivore_db.kit.storage import Storage
from carnivore_db.vocabulary.exports.worker import work
from carnivore_db.vocabulary.models import ExportType
from tests.support.databases import somebody_waits
from tests.support.processes import python
from tests.vocabulary.export_s3 import PART, Bucket
from tests.vocabulary.export_support import (
    LEASE,
    TYPES,
    Exporting,
    Folder,
    name_of,
    read_csv,
    slowly_but,
)

pytest_plugins = ["tests.vocabulary.export_fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:(moto|botocore|aiobotocore).*")

Place = Folder | Bucket
SESSIONS = 50  # more than are fetched at a time
HALF = 30
# The command; it stops in the midst of the first file and says so.
STOPS = """
import sys, fsspec
from threading import Event
from carnivore_db.cli import app, exports

def stop(self, export, done, total):
    if done == {half}:
        print(done, "of", total, file=sys.__stdout__, flush=True)
        Event().wait()

fsspec.config.conf["s3"] = {{"default_block_size": {part}}}
exports._Shown.__call__ = stop
app(["exports", "work", "--location", {location!r}])
"""
COMMAND = """
from carnivore_db.cli import app
app(["exports", "work", "--location", {location!r}])
"""


@pytest.fixture(autouse=True)
def same_database(exporting: Exporting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes find the test's database."""
    url = exporting.database.app_url.render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", url)


@contextmanager
def stopped_worker(location: str, half: int = HALF) -> Iterator[subprocess.Popen[str]]:
    """A worker that has written half of an export."""
    with python(STOPS.format(half=half, location=location, part=PART)) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"{half} of ")
        yield process


def end(process: subprocess.Popen[str], how: signal.Signals) -> None:
    process.send_signal(how)
    assert process.wait() == (143 if how == signal.SIGTERM else -how)


def begin(exporting: Exporting, export_type: ExportType = "csv") -> tuple[UUID, UUID]:
    """A learner with sessions, and the export that they asked for."""
    ada = exporting.learner()
    exporting.learn(ada, SESSIONS, session_data={"vocabulary": [{"word": "uno"}, {"word": "dos"}]})
    return ada, exporting.ask(ada, export_type)


def assert_taken_over(exporting: Exporting, place: Place, key: UUID) -> bytes:
    """Another worker makes the whole file; returns it."""
    assert exporting.work(place.location, lease=LEASE) == []  # not before its lease
    exporting.silence(key)
    (outcome,) = exporting.work(place.location, lease=LEASE)
    row = exporting.row(key)
    assert (outcome.status, row["status"], row["retry_count"]) == ("completed", "completed", 1)
    assert (row["error_message"], row["data"]["lost"]) == (None, 1)
    ((name, content),) = place.files().items()
    assert name == name_of(outcome.export)
    assert row["file_url"].endswith(name)
    assert row["file_size_bytes"] == len(content)
    return content


@pytest.mark.parametrize("export_type", slowly_but("csv"))
def test_another_worker_completes_what_a_killed_one_began(
    exporting: Exporting, folder: Folder, export_type: ExportType
) -> None:
    ada, key = begin(exporting, export_type)
    with stopped_worker(folder.location) as process:
        during = exporting.get(key, ada)
        assert (during.status, during.data["total"]) == ("processing", SESSIONS)
        assert during.data["file"].endswith(f"/{ada}/{key}-0.{during.export_format}")
        end(process, signal.SIGKILL)
    assert folder.files() == {}
    assert [path.name for path in folder.root.rglob("*.part")] == [f"{key}-0.{during.export_format}.part"]
    content = assert_taken_over(exporting, folder, key)
    # (A killed worker's temporary folder stays where the system has such.)
    assert list(folder.root.rglob("*.part")) == []
    assert exporting.row(key)["records_count"] == (2 if export_type == "anki" else SESSIONS)
    if export_type == "csv":
        assert read_csv(content) == exporting.sessions(ada)


@pytest.mark.parametrize("export_type", slowly_but("anki"))
def test_a_worker_that_is_ended_leaves_nothing_and_another_one_completes(
    exporting: Exporting, folder: Folder, export_type: ExportType
) -> None:
    _, key = begin(exporting, export_type)
    with stopped_worker(folder.location) as process:
        assert len(folder.unfinished()) == (2 if export_type == "anki" else 1)
        end(process, signal.SIGTERM)
    assert (folder.files(), folder.unfinished()) == ({}, [])
    assert exporting.row(key)["status"] == "processing"
    assert_taken_over(exporting, folder, key)


@pytest.mark.slow
def test_a_worker_that_is_ended_leaves_no_upload_in_s3(exporting: Exporting, bucket: Bucket) -> None:
    ada = exporting.learner()
    exporting.learn(ada, 130, session_data={"some": "noise " * 10_000})
    key = exporting.ask(ada, "json")
    with stopped_worker(bucket.location, 130) as process:
        assert len(bucket.unfinished()) == 1
        end(process, signal.SIGTERM)
    assert (bucket.files(), bucket.unfinished()) == ({}, [])
    assert_taken_over(exporting, bucket, key)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_can_be_ended_while_it_waits_for_the_database(
    exporting: Exporting, folder: Folder, how: signal.Signals
) -> None:
    ada, key = begin(exporting)
    with exporting.database.connect() as blocker:
        blocker.execute("LOCK TABLE vocabulary.sessions IN ACCESS EXCLUSIVE MODE")
        with python(COMMAND.format(location=folder.location)) as process:
            somebody_waits(exporting.owner)
            assert exporting.row(key)["status"] == "processing"
            end(process, how)
    content = assert_taken_over(exporting, folder, key)
    assert read_csv(content) == exporting.sessions(ada)


def at(number: int, key: UUID, act: Callable[[], object]) -> Callable[..., object]:
    """Act when so many sessions of the export have been written."""
    return lambda export, done, total: act() if (export.id, done) == (key, number) else None


@pytest.mark.parametrize(
    ("export_type", "number"),
    [
        ("csv", 1),
        ("csv", SESSIONS),
        ("anki", HALF),
        *(pytest.param(kind, HALF, marks=pytest.mark.slow) for kind in TYPES if kind != "anki"),
    ],
)
def test_an_export_whose_connections_are_terminated_stays_its_own_until_it_is_taken_again(
    exporting: Exporting, folder: Folder, export_type: ExportType, number: int
) -> None:
    _, key = begin(exporting, export_type)
    with pytest.raises(errors.Unavailable):
        exporting.work(folder.location, on_progress=at(number, key, exporting.cut_off))
    row = exporting.row(key)
    assert (row["status"], row["error_message"], row["file_url"]) == ("processing", None, None)
    assert folder.unfinished() == []
    assert_taken_over(exporting, folder, key)
    assert folder.unfinished() == []


def test_an_export_that_is_refused_a_lock_is_taken_again_too(exporting: Exporting, folder: Folder) -> None:
    _, key = begin(exporting)
    impatient = {"options": "-c lock_timeout=1"}  # a millisecond
    db = Database(exporting.database.app_url.update_query_dict(impatient))
    with exporting.database.connect() as blocker:
        blocker.execute("LOCK TABLE vocabulary.sessions IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(errors.Busy):
            list(work(db, Storage(folder.location)))
    db.close()
    assert exporting.row(key)["status"] == "processing"
    assert_taken_over(exporting, folder, key)


@pytest.mark.parametrize("export_type", slowly_but("csv"))
def test_a_worker_that_was_replaced_while_it_wrote_leaves_the_others_file_alone(
    exporting: Exporting, folder: Folder, export_type: ExportType
) -> None:
    _, key = begin(exporting, export_type)
    second = Database(exporting.database.app_url)

    def replace() -> None:
        exporting.silence(key)
        assert [outcome.status for outcome in work(second, Storage(folder.location))] == ["completed"]

    (outcome,) = exporting.work(folder.location, on_progress=at(HALF, key, replace))
    second.close()
    assert outcome.status == "lost"
    assert_seconds_file_alone(exporting, folder, key)


class Slow(Storage):
    """A storage where something happens between a file's last byte and its entry in the queue."""

    def __init__(self, location: str, act: Callable[[], object]) -> None:
        super().__init__(location)
        self.act = act

    def size(self, path: str) -> int:
        self.act()
        return super().size(path)


@pytest.mark.parametrize("then", ["completes", "goes on"])
def test_a_worker_that_was_replaced_after_it_wrote_deletes_its_own_file(
    exporting: Exporting, folder: Folder, then: str
) -> None:
    _, key = begin(exporting)
    second = Database(exporting.database.app_url)

    def replace() -> None:
        assert [Path(name).stem for name in folder.files()] == [f"{key}-0"]
        exporting.silence(key)
        outcomes = work(second, Storage(folder.location))
        if then == "completes":
            assert [outcome.status for outcome in outcomes] == ["completed"]
        else:
            # Stops at its first session: it has the export, and no file yet.
            stopping = work(second, Storage(folder.location), on_progress=stop)
            with pytest.raises(KeyboardInterrupt):
                next(stopping)

    (outcome,) = work(exporting.db, Slow(folder.location, replace))
    assert outcome.status == "lost"
    if then == "completes":
        assert_seconds_file_alone(exporting, folder, key)
    else:
        assert folder.files() == {}
        assert exporting.row(key)["status"] == "processing"
    second.close()


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def assert_seconds_file_alone(exporting: Exporting, folder: Folder, key: UUID) -> None:
    row = exporting.row(key)
    assert (row["status"], row["retry_count"]) == ("completed", 1)
    ((name, content),) = folder.files().items()
    assert row["file_url"].endswith(name)
    assert Path(name).stem == f"{key}-1"
    assert row["file_size_bytes"] == len(content)
    assert folder.unfinished() == []


def test_an_export_of_a_learner_who_was_erased_meanwhile_leaves_nothing(
    exporting: Exporting, folder: Folder
) -> None:
    ada, key = begin(exporting)

    erase = at(HALF, key, lambda: exporting.erase(ada))
    (outcome,) = exporting.work(folder.location, on_progress=erase)
    assert outcome.status == "lost"
    assert (folder.files(), folder.unfinished()) == ({}, [])
