"""Runs that are stopped anywhere, rows that come and go meanwhile: nothing is lost, the next run finishes."""

import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from carnivore_db import Settings, errors
from carnivore_db.kit import storage
from carnivore_db.operations import jobs
from carnivore_db.operations.archive import parquet
from tests.operations.archive.archiving import (
    BEGIN,
    LOGS,
    LOGS_NAME,
    NAME,
    ODD,
    Archiving,
    days,
    stop_at,
)
from tests.support.processes import eventually, python

pytest_plugins = ["tests.operations.archive.archive_fixtures"]

# In this order; a step of which the first moment is met, or one in the midst of its rows.
POINTS = [
    "write",
    "write:rows",
    "read back",
    "read back:rows",
    "detach",
    "read back:again",
    "compare",
    "compare:rows",
    "count",
    "drop",
    "done",
]
FILES = ["_part-0001.json", "part-0001.parquet"]
DETACHED = set(POINTS[POINTS.index("read back:again") :])
# The command; it stops at a step and says so.
STOPS = """
import sys
from threading import Event
from carnivore_db.cli import app, archive
from tests.operations.archive.archiving import stop_at

def stop():
    print("stopped", file=sys.__stdout__, flush=True)
    Event().wait()

told = stop_at({point!r}, stop)
archive._Shown.__call__ = lambda self, step: told(step)
app(["archive", "run", "--location", {location!r}])
"""


def assert_finished(archiving: Archiving, before: Any, counts: Any, rows: int = len(ODD)) -> None:
    """The next run does the rest; nothing is lost, nothing is there twice, the rollup has all."""
    assert archiving.everything() == before
    outcome = archiving.archive()
    assert outcome.failed == {}
    assert archiving.everything() == before
    assert archiving.counts() == counts
    assert archiving.ledger() == [(1, rows, True, True)]
    assert archiving.rollup() == days(archiving.file(archiving.url()))
    assert archiving.files() == FILES
    assert not archiving.exists(f"public.{NAME}")
    assert not archiving.exists(f"carnivore.{NAME}")


@pytest.mark.parametrize("point", POINTS)
def test_a_run_that_ends_at_a_step_is_finished_by_the_next(archiving_anywhere: Archiving, point: str) -> None:
    archiving = archiving_anywhere
    archiving.odd_month()
    before, counts = archiving.everything(), archiving.counts()
    with pytest.raises(KeyboardInterrupt):
        archiving.archive(on_step=stop_at(point))
    assert archiving.attached() == (point not in DETACHED)
    assert archiving.exists(f"carnivore.{NAME}") == (point in DETACHED - {"done"})
    assert_finished(archiving, before, counts)


@pytest.mark.parametrize("point", POINTS[:-1])
def test_a_run_that_loses_its_backend_is_finished_by_the_next(archiving: Archiving, point: str) -> None:
    archiving.odd_month()
    before, counts = archiving.everything(), archiving.counts()
    terminate = (
        "SELECT pg_terminate_backend(l.pid, 60000) FROM pg_locks AS l"
        " JOIN pg_database AS d ON d.oid = l.database"
        " WHERE locktype = 'advisory' AND datname = current_database()"
    )

    def kill() -> None:
        assert archiving.one(terminate) is True

    # While a file is read nobody asks the database: a step later, then.
    with pytest.raises(errors.Unavailable):
        archiving.archive(on_step=stop_at(point, kill))
    assert_finished(archiving, before, counts)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_killed_run_is_finished_by_the_next(
    archiving: Archiving, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archiving.odd_month()
    before, counts = archiving.everything(), archiving.counts()
    url = archiving.database.migrator_url.render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("PGAPPNAME", "to be killed")
    with python(STOPS.format(point=point, location=archiving.location)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stopped\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'to be killed'"
    assert eventually(lambda: bool(archiving.one(gone)))
    assert archiving.attached() == (point not in DETACHED)
    assert_finished(archiving, before, counts)


@pytest.mark.parametrize("point", ["read back", "detach"])
def test_a_row_that_comes_after_the_snapshot_is_archived_too(archiving: Archiving, point: str) -> None:
    (report, *_) = archiving.odd_month()

    def late() -> None:
        archiving.open(report, BEGIN + timedelta(days=9), agent="late")

    rows = archiving.one("SELECT count(*) FROM public.report_access_log")
    (done,) = archiving.archive(on_step=stop_at(point, late)).done
    assert done.rows == len(ODD) + 1
    assert sum(archiving.everything().values()) == rows + 1
    assert sum(archiving.counts().values()) == rows + 1
    assert archiving.ledger() == [(1, len(ODD) + 1, True, True)]


@pytest.mark.parametrize("point", ["read back", "detach", "read back:again"])
def test_a_report_that_is_deleted_before_the_comparison_takes_its_rows_along(
    archiving: Archiving, point: str
) -> None:
    gone, kept = archiving.odd_month()

    def delete() -> None:
        archiving.owner.execute("DELETE FROM public.generated_reports WHERE id = %s", [gone])

    (done,) = archiving.archive(on_step=stop_at(point, delete)).done
    assert {row[1] for row in archiving.file(done.file_url)} == {str(kept)}
    assert done.rows == len(ODD) // 2


def test_a_report_that_is_deleted_later_stays_in_the_archive(archiving: Archiving) -> None:
    gone, _ = archiving.odd_month()

    def delete() -> None:
        archiving.owner.execute("DELETE FROM public.generated_reports WHERE id = %s", [gone])

    (done,) = archiving.archive(on_step=stop_at("drop", delete)).done
    assert done.rows == len(ODD)


@pytest.mark.parametrize("place", [0, 1000, -1])
def test_a_file_that_is_damaged_on_its_way_is_refused_and_nothing_is_detached(
    archiving: Archiving, place: int
) -> None:
    archiving.odd_month()
    before, counts = archiving.everything(), archiving.counts()
    (path,) = [Path(archiving.location) / "public.report_access_log/2024_02/part-0001.parquet"]

    def damage() -> None:
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)

    outcome = archiving.archive(on_step=stop_at("read back", damage))
    assert (outcome.done, set(outcome.failed)) == ([], {NAME})
    assert isinstance(outcome.failed[NAME], errors.ArchiveDamaged)
    assert archiving.attached()
    assert archiving.ledger() == [(1, None, False, False)]
    assert_finished(archiving, before, counts)


@pytest.mark.parametrize("what", ["lost", "damaged", "without its manifest"])
def test_a_file_that_went_while_the_table_stood_aside_is_written_anew(
    archiving: Archiving, what: str
) -> None:
    archiving.odd_month()
    before, counts = archiving.everything(), archiving.counts()
    with pytest.raises(KeyboardInterrupt):
        archiving.archive(on_step=stop_at("drop"))
    path = Path(archiving.url().removeprefix("file://"))
    if what == "lost":
        path.unlink()
    elif what == "damaged":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.with_name("_part-0001.json").unlink()
    assert_finished(archiving, before, counts)


def test_a_file_that_is_written_anew_has_no_manifest_before_it_is_whole(archiving: Archiving) -> None:
    """The old one would call the new file damaged, or the old file whole."""
    (report, *_) = archiving.odd_month()
    written = 0

    def told(step: Any) -> None:
        nonlocal written
        if step.what == "detach":
            assert archiving.files() == FILES
            archiving.open(report, BEGIN, agent="late")
        elif step.what == "write":
            written += step.total == 0
            if written == 2 and step.done:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archiving.archive(on_step=told)
    assert archiving.files() == ["part-0001.parquet"]
    # As SIGKILL leaves them, and longer than what will be there.
    folder = Path(archiving.url().removeprefix("file://")).parent
    for name in FILES:
        (folder / f"{name}.part").write_bytes(b"half" * 10_000)
    (done,) = archiving.archive().done
    assert archiving.files() == FILES
    manifest = parquet.check(done.file_url)
    assert (manifest.rows, archiving.ledger("rows, sha256")) == (
        len(ODD) + 1,
        [(len(ODD) + 1, manifest.sha256)],
    )


def test_a_storage_that_fills_up_loses_nothing(archiving: Archiving, monkeypatch: pytest.MonkeyPatch) -> None:
    archiving.odd_month(20_000)
    before, counts = archiving.everything(), archiving.counts()
    beside = storage._beside

    class Full:
        """A file that takes a few bytes and no more."""

        def __init__(self, file: Any) -> None:
            self.file, self.room = file, 100_000

        def write(self, chunk: bytes) -> int:
            self.room -= len(chunk)
            if self.room < 0:
                raise OSError(28, "No space left on device")
            return int(self.file.write(chunk))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    from contextlib import contextmanager  # noqa: PLC0415

    @contextmanager
    def full(target: Path) -> Any:
        with beside(target) as file:
            yield Full(file)

    monkeypatch.setattr(storage, "_beside", full)
    outcome = archiving.archive()
    assert isinstance(outcome.failed[NAME], errors.StorageError)
    assert "No space left on device" in str(outcome.failed[NAME])
    assert [path for path in Path(archiving.location).rglob("*/*") if path.is_file()] == []
    assert archiving.attached()
    monkeypatch.undo()
    assert_finished(archiving, before, counts, len(ODD) + 20_000)


def test_a_storage_that_cannot_be_reached_leaves_every_month(archiving: Archiving) -> None:
    archiving.odd_month()
    archiving.location = "/proc/nowhere"
    outcome = archiving.archive()
    assert isinstance(outcome.failed[NAME], errors.StorageError)
    assert archiving.attached()
    assert archiving.ledger() == []


def test_a_month_that_somebody_holds_on_to_stays_and_writers_do_not_wait(
    archiving: Archiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    archiving.odd_month()
    before, counts = archiving.everything(), archiving.counts()
    monkeypatch.setattr("carnivore_db.operations.locks._PATIENCE", 0.2)
    with archiving.database.connect() as reader:
        reader.execute("SELECT count(*) FROM public.report_access_log")  # a transaction that stays open
        outcome = archiving.archive(lock_timeout_ms=20)
        assert isinstance(outcome.failed[NAME], errors.Busy)
        assert archiving.attached()
    assert_finished(archiving, before, counts)


def test_a_run_without_location_finishes_what_is_detached(archiving: Archiving) -> None:
    archiving.odd_month()
    with pytest.raises(KeyboardInterrupt):
        archiving.archive(on_step=stop_at("compare"))
    archiving.location = None  # type: ignore[assignment]
    assert [done.name for done in archiving.archive().done] == [NAME]


def test_a_restored_month_whose_second_archiving_is_stopped_keeps_its_rows(archiving: Archiving) -> None:
    archiving.odd_month()
    archiving.archive()
    archiving.restore(keep=timedelta(0))
    before = archiving.everything()
    for point in ("read back", "compare", "drop"):
        with pytest.raises(KeyboardInterrupt):
            archiving.archive(on_step=stop_at(point))
        assert archiving.everything() == before
    archiving.archive()
    assert archiving.everything() == before
    assert archiving.ledger() == [(2, len(ODD), True, True)]


def test_a_month_may_get_a_partition_while_its_table_stands_aside(archiving: Archiving) -> None:
    (report, *_) = archiving.odd_month()
    with pytest.raises(KeyboardInterrupt):
        archiving.archive(on_step=stop_at("compare"))
    archiving.open(report, BEGIN, agent="late")
    archiving.month()
    before, counts = archiving.everything(), archiving.counts()
    assert [done.rows for done in archiving.archive().done] == [len(ODD)]
    assert archiving.everything() == before
    assert [done.rows for done in archiving.archive().done] == [1]
    assert (archiving.everything(), archiving.counts()) == (before, counts)
    assert archiving.ledger("part, rows") == [(1, len(ODD)), (2, 1)]


@pytest.mark.parametrize("point", ["write", "detach"])
def test_logs_must_not_be_deleted_while_their_month_is_not_in_the_archive(
    archiving: Archiving, point: str
) -> None:
    archiving.odd_month()
    archiving.month(LOGS)
    archiving.owner.execute(
        "INSERT INTO conversation.logs (level, event_type, created_at) VALUES ('info', 'user_logout', %s)",
        [BEGIN],
    )

    def due() -> int:
        """What keeps the job from deleting them."""
        return jobs.count_due(archiving.engine, "old_logs", Settings())

    def fail(step: Any) -> None:
        if step.name == LOGS_NAME and step.what == point:
            raise errors.StorageError("no space left on device")

    outcome = archiving.archive(logs=True, on_step=fail)
    assert [done.name for done in outcome.done] == [NAME]  # the others go on
    assert set(outcome.failed) == {LOGS_NAME}
    assert due() == 1
    assert [done.name for done in archiving.archive(logs=True).done] == [LOGS_NAME]
    assert due() == 0
