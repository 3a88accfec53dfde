"""A storage that fails: what the export then says, what is left, and that others go on."""

import errno
import gc
import os
import warnings
from socket import create_server
from typing import Any, ClassVar
from uuid import UUID

import fsspec
import pytest
from fsspec.implementations.local import LocalFileOpener, LocalFileSystem

from carnivore_db import Database, Settings, errors
from carnivore_db.kit.storage import Storage
from carnivore_db.vocabulary.exports import FORMATS
from carnivore_db.vocabulary.exports import worker as export_worker
from carnivore_db.vocabulary.models import ExportType
from tests.vocabulary.export_s3 import Bucket
from tests.vocabulary.export_support import TYPES, Exporting, Folder, read_csv, slowly_but

pytest_plugins = ["tests.vocabulary.export_fixtures"]

SECRET = "hunter2"
SESSIONS = 30
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"/srv/{SECRET}/el gato")
NO_SPACE = "OSError: No space left on device"
ERRORS: dict[str, tuple[Exception, str]] = {
    "a system's": (FULL, "OSError: No space left on device"),
    "a system's of another kind": (
        PermissionError(errno.EACCES, os.strerror(errno.EACCES), f"/srv/{SECRET}"),
        "PermissionError: Permission denied",
    ),
    "a sentence": (OSError(f"https://ada:{SECRET}@host said no to el gato"), "OSError"),
    "a library's": (RuntimeError(f"{SECRET}: el gato"), "RuntimeError"),
    "one without words": (TimeoutError(), "TimeoutError"),
}


class BreakingFile(LocalFileOpener):
    def write(self, data: Any) -> int:
        BreakingSystem.left -= len(data)
        if BreakingSystem.left < 0:
            raise BreakingSystem.error
        written: int = super().write(data)
        return written

    def commit(self) -> None:
        if BreakingSystem.breaks_at_commit and ".check-" not in self.path:
            raise BreakingSystem.error
        super().commit()


class BreakingSystem(LocalFileSystem):
    """A place that is no local folder for the package, until `left` bytes have been written."""

    protocol = "breaking"
    left: ClassVar[int]
    breaks_at_commit: ClassVar[bool]
    error: ClassVar[Exception]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "auto_mkdir": True})

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = super()._strip_protocol(str(path).removeprefix("breaking://"))
        return stripped

    def unstrip_protocol(self, name: str) -> str:
        return f"breaking://{self._strip_protocol(name)}"

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **kwargs: Any) -> Any:
        if "w" not in mode:
            return super()._open(path, mode=mode, block_size=block_size, **kwargs)
        self.makedirs(self._parent(path), exist_ok=True)
        return BreakingFile(path, mode, fs=self, **kwargs)


@pytest.fixture
def breaking(folder: Folder) -> str:
    """A location that breaks after a while."""
    fsspec.register_implementation("breaking", BreakingSystem, clobber=True)
    BreakingSystem.left, BreakingSystem.error, BreakingSystem.breaks_at_commit = 300, FULL, False
    return f"breaking://{folder.location}"


def mend() -> None:
    BreakingSystem.left, BreakingSystem.breaks_at_commit = 2**40, False


def begin(exporting: Exporting, *types: ExportType) -> tuple[Any, ...]:
    """A learner with many sessions who asked for exports: the learner and they."""
    ada = exporting.learner()
    for number in range(3):
        words = [{"word": f"palabra {number} {word}"} for word in range(50)]
        exporting.learn(ada, SESSIONS // 3, session_data={"vocabulary": words})
    return ada, *(exporting.ask(ada, kind) for kind in types)


@pytest.mark.parametrize(("export_type", "left"), [("csv", 300), ("anki", None)])
def test_a_failed_export_leaves_no_file_and_the_next_one_goes_on(
    exporting: Exporting, folder: Folder, breaking: str, export_type: ExportType, left: int | None
) -> None:
    exporting.work(breaking)  # the location is this database's
    _, broken, next_one = begin(exporting, export_type, "json")
    if left is None:
        mend()
        BreakingSystem.breaks_at_commit = True
    else:
        BreakingSystem.left = left
    outcomes = []
    for outcome in export_worker.work(exporting.db, Storage(breaking)):
        outcomes.append((outcome.export.id, outcome.status))
        if outcome.status == "failed":
            assert (folder.files(), folder.unfinished()) == ({}, [])
        mend()
    assert outcomes == [(broken, "failed"), (next_one, "completed")]
    assert_failed_and_made_anew(exporting, folder, breaking, broken)


def assert_failed_and_made_anew(exporting: Exporting, folder: Folder, location: str, broken: UUID) -> None:
    row = exporting.row(broken)
    assert (row["error_message"], row["file_url"]) == (NO_SPACE, None)
    assert row["completed_at"] is not None
    assert len(folder.files()) == 1
    exporting.retry(broken)
    assert [outcome.status for outcome in exporting.work(location)] == ["completed"]
    row = exporting.row(broken)
    assert (row["retry_count"], row["error_message"]) == (1, None)
    assert len(folder.files()) == 2


@pytest.mark.parametrize("export_type", slowly_but("csv", "anki"))
def test_a_disk_that_is_full_fails_the_export_and_leaves_no_file(
    exporting: Exporting, folder: Folder, export_type: ExportType
) -> None:
    ada, broken, _ = begin(exporting, export_type, "json")
    part = folder.root / f"{ada}/{broken}-0.{FORMATS[export_type]}.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    outcomes = exporting.work(folder.location)
    assert [outcome.status for outcome in outcomes] == ["failed", "completed"]
    assert folder.unfinished() == []
    assert_failed_and_made_anew(exporting, folder, folder.location, broken)


@pytest.mark.parametrize("which", list(ERRORS))
def test_the_reason_quotes_neither_path_nor_credential_nor_row(
    exporting: Exporting, breaking: str, which: str
) -> None:
    _, broken = begin(exporting, "csv")
    BreakingSystem.error, words = ERRORS[which]
    (outcome,) = exporting.work(breaking)
    assert (outcome.status, outcome.export.error_message) == ("failed", words)
    assert exporting.row(broken)["error_message"] == words


def test_a_very_long_reason_is_cut(exporting: Exporting, breaking: str) -> None:
    begin(exporting, "csv")
    BreakingSystem.error = OSError(errno.EIO, "no " * 1000)
    (outcome,) = exporting.work(breaking)
    assert outcome.export.error_message is not None
    assert len(outcome.export.error_message) == 200


def test_the_file_of_a_retry_is_whole(exporting: Exporting, folder: Folder, breaking: str) -> None:
    exporting.work(breaking)  # the location is this database's
    ada, broken = begin(exporting, "csv")
    for left in (0, 2_000, 40_000):
        BreakingSystem.left = left
        assert [outcome.status for outcome in exporting.work(breaking)] == ["failed"]
        exporting.retry(broken)
    mend()
    assert [outcome.status for outcome in exporting.work(breaking)] == ["completed"]
    ((name, content),) = folder.files().items()
    assert f"{broken}-3." in name
    assert read_csv(content) == exporting.sessions(ada)


def test_a_location_that_cannot_be_made_costs_no_export_an_attempt(
    exporting: Exporting, folder: Folder
) -> None:
    folder.root.write_text("no folder")
    _, *keys = begin(exporting, "csv", "pdf")
    exporting.lose(keys[0], 4)  # nor is one given up
    before = [exporting.row(key) for key in keys]
    with pytest.raises(errors.StorageError) as caught:
        exporting.work(folder.location)
    assert caught.value.reason in {"NotADirectoryError: Not a directory", "FileExistsError: File exists"}
    assert str(folder.root) not in str(caught.value)
    assert [exporting.row(key) for key in keys] == before


def test_a_location_that_is_full_or_keeps_its_files_costs_no_export_an_attempt(
    exporting: Exporting, breaking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, key = begin(exporting, "csv")
    before = exporting.row(key)

    def refuse(*_: object, **__: object) -> None:
        raise FULL

    for method in ("_open", "rm_file"):
        with monkeypatch.context() as broken:
            broken.setattr(BreakingSystem, method, refuse)
            with pytest.raises(errors.StorageError, match="No space left"):
                exporting.work(breaking)
        assert exporting.row(key) == before


@pytest.mark.slow
def test_a_missing_bucket_costs_no_export_an_attempt(exporting: Exporting, bucket: Bucket) -> None:
    _, key = begin(exporting, "csv")
    with pytest.raises(errors.StorageError, match="FileNotFoundError"):
        exporting.work(f"{bucket.location.replace('learners', 'teachers')}")
    assert exporting.row(key)["status"] == "pending"


def test_a_server_that_is_gone_costs_no_export_an_attempt(
    exporting: Exporting, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    _, key = begin(exporting, "csv")
    with pytest.raises(errors.StorageError) as caught:
        exporting.work(bucket.location)
    assert caught.value.reason == "EndpointConnectionError"
    assert exporting.row(key)["status"] == "pending"


def test_what_the_callers_own_callback_raises_fails_the_export(exporting: Exporting, folder: Folder) -> None:
    begin(exporting, "csv")

    def on_progress(*_: object) -> None:
        raise LookupError(SECRET)

    (outcome,) = exporting.work(folder.location, on_progress=on_progress)
    assert (outcome.status, folder.files(), folder.unfinished()) == ("failed", {}, [])
    assert outcome.export.error_message == "LookupError"


def test_a_lost_exports_file_that_cannot_be_deleted_does_not_end_the_worker(
    exporting: Exporting, breaking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, lost, _ = begin(exporting, "csv", "csv")
    mend()

    remove = BreakingSystem.rm_file

    def refuse(self: BreakingSystem, path: str) -> None:
        if ".check-" not in path:
            raise FULL
        remove(self, path)

    monkeypatch.setattr(BreakingSystem, "rm_file", refuse)

    def replaced(export: Any, done: int, total: int) -> None:
        if (export.id, done) == (lost, total):
            exporting.tamper(lost, retry_count=7)

    outcomes = exporting.work(breaking, on_progress=replaced)
    assert [outcome.status for outcome in outcomes] == ["lost", "completed"]


@pytest.mark.slow
@pytest.mark.parametrize("export_type", TYPES)
def test_a_broken_export_leaves_nothing_open(
    exporting: Exporting, folder: Folder, export_type: ExportType
) -> None:
    begin(exporting, export_type)

    def on_progress(*_: object) -> None:
        raise LookupError

    gc.collect()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        (outcome,) = exporting.work(folder.location, on_progress=on_progress)
        gc.collect()
    assert outcome.status == "failed"
    assert [str(warning.message) for warning in heard] == []


def test_a_pool_of_one_connection_is_too_small_and_nothing_is_lost(
    exporting: Exporting, folder: Folder
) -> None:
    _, key = begin(exporting, "csv")
    db = Database(exporting.database.app_url, settings=Settings(pool_size=1, max_overflow=0))
    db.engine.pool._timeout = 0  # type: ignore[attr-defined]
    with pytest.raises(errors.Busy):
        list(export_worker.work(db, Storage(folder.location)))
    db.close()
    assert exporting.row(key)["status"] == "processing"
    assert (folder.files(), folder.unfinished()) == ({}, [])
