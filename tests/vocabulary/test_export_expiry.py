"""Files go, with their URLs, when their time has come or their learner went; nothing else does."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import create_server
from threading import Barrier
from uuid import UUID

import pytest
from fsspec.implementations.local import LocalFileSystem

from carnivore_db import Database, errors
from carnivore_db.kit.storage import OWNER, Storage, database_of
from carnivore_db.vocabulary import exports
from carnivore_db.vocabulary.exports.worker import Expired, expire, work
from carnivore_db.vocabulary.models import Export
from tests.vocabulary.export_s3 import Bucket
from tests.vocabulary.export_support import SERVICE, SLOWLY_IN_S3, Exporting, Folder, name_of

pytest_plugins = ["tests.vocabulary.export_fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:(moto|botocore|aiobotocore).*")

Place = Folder | Bucket
NOTHING = Expired()
REFUSED = "a file could not be written, read or deleted: PermissionError: Permission denied"


def made(exporting: Exporting, place: Place, number: int) -> list[Export]:
    """Exports of a learner, with their files."""
    ada = exporting.learner()
    exporting.learn(ada)
    return [exporting.make(place.location, ada) for _ in range(number)]


def due(exporting: Exporting, place: Place, number: int) -> list[Export]:
    """Exports whose files' time has come, in this order."""
    found = made(exporting, place, number)
    for export in found:
        exporting.end_time(export.id)
    return found


def abandoned(exporting: Exporting) -> list[str]:
    rows = exporting.owner.execute("SELECT file_url FROM vocabulary.abandoned_export_files ORDER BY 1")
    return [row["file_url"] for row in rows]


@SLOWLY_IN_S3
def test_files_whose_time_has_come_go_with_their_urls(exporting: Exporting, place: Place) -> None:
    first, second = due(exporting, place, 2)
    (kept,) = made(exporting, place, 1)
    before = exporting.row(kept.id)
    assert exporting.expire() == Expired(exports=2)
    assert list(place.files()) == [name_of(kept)]
    assert exporting.row(kept.id) == before
    for export in (first, second):
        row = exporting.row(export.id)
        assert (row["status"], row["file_url"]) == ("expired", None)
        # What there was to say of it stays.
        assert (row["records_count"], row["file_size_bytes"]) == (1, export.file_size_bytes)
        assert row["completed_at"] == export.completed_at
    assert exporting.expire() == NOTHING
    assert list(place.files()) == [name_of(kept)]


def test_a_file_is_kept_for_as_long_as_the_settings_say(exporting: Exporting, folder: Folder) -> None:
    (export,) = made(exporting, folder, 1)
    assert export.expires_at is not None
    assert export.completed_at is not None
    kept = export.expires_at - export.completed_at
    assert round(kept.total_seconds() / 3600) == exporting.db.settings.export_validity_hours == 168


@SLOWLY_IN_S3
def test_a_file_that_is_gone_already_is_no_error(exporting: Exporting, place: Place) -> None:
    first, _ = due(exporting, place, 2)
    (erased,) = made(exporting, place, 1)
    exporting.erase(erased.user_id)
    for export in (first, erased):
        place.remove(name_of(export))
    assert exporting.expire() == Expired(exports=2, abandoned=1)
    assert place.files() == {}
    assert exporting.row(first.id)["status"] == "expired"


def test_files_of_an_erased_learner_go_wherever_they_lie_and_nobody_elses(
    exporting: Exporting, folder: Folder, bucket: Bucket
) -> None:
    ada, eve = exporting.learner(), exporting.learner()
    of_ada, of_eve = [], []
    for place in (folder, bucket):
        of_ada.append(exporting.ask(ada))
        of_eve.append(exporting.ask(eve))
        exporting.work(place.location)
    urls = sorted(exporting.row(key)["file_url"] for key in of_ada)
    exporting.erase(ada)
    assert abandoned(exporting) == urls
    assert exporting.expire() == Expired(abandoned=2)
    for place, key in zip((folder, bucket), of_eve, strict=True):
        assert list(place.files()) == [name_of(exporting.get(key))]
    assert (abandoned(exporting), exporting.expire()) == ([], NOTHING)


def test_an_expired_exports_file_is_not_abandoned_when_its_learner_goes(
    exporting: Exporting, folder: Folder
) -> None:
    (export,) = due(exporting, folder, 1)
    exporting.expire()
    exporting.erase(export.user_id)
    assert abandoned(exporting) == []


def test_a_file_lies_where_its_url_says_whoever_looks_from_anywhere(
    exporting: Exporting, folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ada = exporting.learner()
    for location in ("exports", "./exports/", f"file://{folder.root}"):
        exporting.end_time(exporting.make(location, ada).id)
    erased = exporting.make("exports", exporting.learner())
    exporting.erase(erased.user_id)
    assert len(folder.files()) == 4
    monkeypatch.chdir("/")
    assert exporting.expire() == Expired(exports=3, abandoned=1)
    assert folder.files() == {}


@SLOWLY_IN_S3
def test_foreign_files_are_left_alone(exporting: Exporting, place: Place) -> None:
    (export,) = due(exporting, place, 1)
    (kept,) = made(exporting, place, 1)
    exporting.erase(kept.user_id)
    foreign = {
        "readme.txt",
        f"{kept.user_id}/notes.csv",
        f"{kept.user_id}/{kept.id}-7.csv",
        f"{export.user_id}/{UUID(int=1)}-0.csv",
        f"{UUID(int=2)}/{UUID(int=3)}-0.csv",  # another database's
    }
    for name in foreign:
        place.put(name, b"not ours")
    assert exporting.expire() == Expired(exports=1, abandoned=1)
    assert set(place.files()) == foreign


def test_several_runs_at_once_expire_each_export_once(exporting: Exporting, folder: Folder) -> None:
    due(exporting, folder, 12)
    (erased, *_) = made(exporting, folder, 6)
    exporting.erase(erased.user_id)
    start = Barrier(4, timeout=60)
    databases = [Database(exporting.database.app_url) for _ in range(4)]

    def run(db: Database) -> Expired:
        start.wait()
        return expire(db)

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(run, databases))
    for db in databases:
        db.close()
    assert sum(result.exports for result in results) == 12
    assert [result.failed for result in results] == [{}] * 4
    assert (folder.files(), abandoned(exporting)) == ({}, [])


def test_a_run_passes_over_what_another_one_has_in_hand(exporting: Exporting, folder: Folder) -> None:
    first, _ = due(exporting, folder, 2)
    with exporting.db.transaction(SERVICE) as tx:
        held = exports.take_expired(tx)
        assert held is not None
        assert held.id == first.id
        assert exporting.expire() == Expired(exports=1)
    assert exporting.expire() == Expired(exports=1)


def test_a_file_that_cannot_be_deleted_is_reported_and_the_others_go_on(
    exporting: Exporting, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired = due(exporting, folder, 3)
    erased = made(exporting, folder, 3)
    exporting.erase(erased[0].user_id)
    # The first of each kind that a run comes to.
    left = min(name_of(export) for export in erased)
    stuck = {name_of(expired[0]), left}
    remove = LocalFileSystem.rm_file

    def rm_file(self: LocalFileSystem, path: str) -> None:
        if path.removeprefix(folder.location + "/") in stuck:
            raise PermissionError(13, "Permission denied", path)
        remove(self, path)

    monkeypatch.setattr(LocalFileSystem, "rm_file", rm_file)
    failed = {expired[0].id: REFUSED, left.rpartition("/")[2]: REFUSED}
    assert exporting.expire() == Expired(exports=2, abandoned=2, failed=failed)
    assert set(folder.files()) == stuck
    assert exporting.row(expired[0].id)["status"] == "completed"
    assert [url.endswith(left) for url in abandoned(exporting)] == [True]
    monkeypatch.undo()
    assert exporting.expire() == Expired(exports=1, abandoned=1)
    assert folder.files() == {}


def test_a_server_that_is_gone_is_reported_and_the_others_go_on(
    exporting: Exporting, bucket: Bucket, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    far, near = due(exporting, folder, 2)
    (erased,) = made(exporting, folder, 1)
    for export in (far, erased):
        exporting.tamper(export.id, file_url=f"{bucket.location}/{name_of(export)}")
    exporting.erase(erased.user_id)
    why = "a file could not be written, read or deleted: EndpointConnectionError"
    failed = {far.id: why, name_of(erased).rpartition("/")[2]: why}
    assert exporting.expire() == Expired(exports=1, failed=failed)
    assert exporting.row(near.id)["status"] == "expired"
    assert exporting.row(far.id)["status"] == "completed"


def test_a_host_that_refuses_a_connection_is_reported(exporting: Exporting, folder: Folder) -> None:
    far, near = due(exporting, folder, 2)
    exporting.tamper(far.id, file_url=f"ftp://127.0.0.1:{closed_port()}/x-0.csv")
    assert set(exporting.expire().failed) == {far.id}
    assert exporting.row(near.id)["status"] == "expired"


def closed_port() -> int:
    with create_server(("127.0.0.1", 0)) as closed:
        port: int = closed.getsockname()[1]
    return port


def test_a_location_that_no_storage_is_installed_for_is_reported(
    exporting: Exporting, folder: Folder
) -> None:
    far, near = due(exporting, folder, 2)
    exporting.tamper(far.id, file_url="nosuch://ada:hunter2@host/x-0.csv")
    result = exporting.expire()
    assert (result.exports, set(result.failed)) == (1, {far.id})
    assert "hunter2" not in result.failed[far.id]
    assert exporting.row(near.id)["status"] == "expired"


def test_what_is_being_written_meanwhile_is_left_alone(exporting: Exporting, folder: Folder) -> None:
    ada = exporting.learner()
    exporting.learn(ada, 3)
    exporting.ask(ada)

    def during(*_: object) -> None:
        assert exporting.expire() == NOTHING

    class Between(Storage):
        def size(self, path: str) -> int:
            during()  # the file is whole, and no row has its URL yet
            return super().size(path)

    (outcome,) = work(exporting.db, Between(folder.location), on_progress=during)
    assert outcome.status == "completed"
    assert list(folder.files()) == [name_of(outcome.export)]


@SLOWLY_IN_S3
def test_a_copy_of_the_database_deletes_no_file_of_the_first(exporting: Exporting, place: Place) -> None:
    """Rows and their addresses go along into a restored backup; the files are still the first one's."""
    (export,) = due(exporting, place, 1)
    (lost,) = made(exporting, place, 1)
    exporting.owner.execute("DELETE FROM vocabulary.users WHERE id = %s", [lost.user_id])
    before = place.files()
    place.put(OWNER, b"1/2")
    refused = exporting.expire()
    assert (refused.exports, refused.abandoned, len(refused.failed)) == (0, 0, 2)
    assert all("another database's" in problem for problem in refused.failed.values())
    with pytest.raises(errors.FilesOfAnother):
        exporting.work(place.location)
    assert place.files() == before
    assert exporting.row(export.id)["status"] == "completed"
    place.remove(OWNER)  # nor does it where nobody says whose they are
    assert len(exporting.expire().failed) == 2
    with exporting.db.engine.connect() as connection:
        Storage(place.location).adopt(database_of(connection))
    assert exporting.expire() == Expired(exports=1, abandoned=1)
    assert place.files() == {}
