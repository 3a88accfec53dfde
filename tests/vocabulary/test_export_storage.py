"""Files in a folder and in S3: there whole or not at all, signed for a browser, and no secret told."""

import hashlib
import urllib.request
from pathlib import Path
from socket import create_server
from typing import Any
from unittest.mock import Mock
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from carnivore_db.errors import ConfigurationError, StorageError
from carnivore_db.kit import storage as files
from carnivore_db.kit.storage import Storage
from carnivore_db.vocabulary.models import ExportType
from tests.vocabulary.export_s3 import PART, S3_SECRET, Bucket
from tests.vocabulary.export_support import (
    SLOWLY_IN_S3,
    TYPES,
    Exporting,
    Folder,
    name_of,
    read_csv,
    read_json,
)

pytest_plugins = ["tests.vocabulary.export_fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:(moto|botocore|aiobotocore).*")

Place = Folder | Bucket
SESSIONS = 130


def learn_much(exporting: Exporting, learner: UUID) -> None:
    """Sessions whose file has more than one of S3's parts, however it is compressed."""
    for number in range(SESSIONS):
        noise = "".join(hashlib.sha256(f"{number} {line}".encode()).hexdigest() for line in range(2000))
        words = [{"word": noise[start : start + 400]} for start in range(0, 60_000, 500)]
        exporting.learn(learner, session_data={"vocabulary": words})


@pytest.mark.parametrize(
    ("place", "export_type"),
    [
        *(("folder", kind) for kind in TYPES),
        ("bucket", "csv"),
        *(pytest.param("bucket", kind, marks=pytest.mark.slow) for kind in TYPES if kind != "csv"),
    ],
    indirect=["place"],
)
def test_a_file_is_whole_and_its_url_leads_to_it(
    exporting: Exporting, place: Place, export_type: ExportType
) -> None:
    ada = exporting.learner()
    exporting.learn(ada, 300, session_data={"vocabulary": [{"word": "ñandú 漢字"}]})
    export = exporting.make(place.location, ada, export_type)
    ((name, content),) = place.files().items()
    assert name == name_of(export) == f"{ada}/{export.id}-0.{export.export_format}"
    assert export.file_url is not None
    assert export.file_url.endswith(f"/exports/{name}")
    assert "://" in export.file_url
    assert export.file_size_bytes == len(content) > 0
    with files.read(export.file_url) as file:
        assert file.read() == content
    assert place.unfinished() == []
    if export_type in {"csv", "json"}:
        read = read_csv if export_type == "csv" else read_json
        assert read(content) == exporting.sessions(ada)


@pytest.mark.slow
def test_a_file_of_several_parts_is_whole(exporting: Exporting, place: Place) -> None:
    ada = exporting.learner()
    learn_much(exporting, ada)
    export = exporting.make(place.location, ada, "json")
    (content,) = place.files().values()
    assert export.file_size_bytes == len(content) > PART
    assert read_json(content) == exporting.sessions(ada)
    assert place.unfinished() == []


def test_nobody_else_on_the_machine_reads_a_local_file(exporting: Exporting, folder: Folder) -> None:
    ada = exporting.learner()
    exporting.learn(ada, 3)
    seen = []

    def on_progress(*_: object) -> None:
        seen.extend((path.name[-4:], path.stat().st_mode & 0o777) for path in folder.root.rglob("*/*.*"))

    exporting.ask(ada)
    (outcome,) = exporting.work(folder.location, on_progress=on_progress)
    assert set(seen) == {("part", 0o600)}
    path = folder.root / name_of(outcome.export)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def fails_in_the_midst(exporting: Exporting, place: Place, learner: UUID) -> list[str]:
    """An export that fails near its end; returns what had been begun."""
    key = exporting.ask(learner, "json")
    begun = []

    def on_progress(export: Any, done: int, total: int) -> None:
        if done == total:
            begun.extend(place.unfinished())
            assert place.files() == {}
            raise RuntimeError

    (outcome,) = exporting.work(place.location, on_progress=on_progress)
    assert outcome.status == exporting.row(key)["status"] == "failed"
    assert (place.files(), place.unfinished()) == ({}, [])
    exporting.retry(key)
    assert [outcome.status for outcome in exporting.work(place.location)] == ["completed"]
    return begun


def test_an_export_that_fails_leaves_nothing(exporting: Exporting, folder: Folder) -> None:
    ada = exporting.learner()
    exporting.learn(ada, 3)
    (begun,) = fails_in_the_midst(exporting, folder, ada)
    assert begun.endswith("-0.json.part")


@pytest.mark.slow
@pytest.mark.parametrize("much", [True, False])
def test_an_export_that_fails_leaves_no_parts_in_s3(exporting: Exporting, bucket: Bucket, much: bool) -> None:
    ada = exporting.learner()
    exporting.learn(ada)
    if much:
        learn_much(exporting, ada)
    assert len(fails_in_the_midst(exporting, bucket, ada)) == int(much)


def test_only_what_a_storage_refuses_is_a_storage_error(folder: Folder) -> None:
    with pytest.raises(RuntimeError), Storage(folder.location).writing("nobody/nothing-0.csv"):
        raise RuntimeError


def test_an_address_for_a_browser_is_signed_where_the_storage_can(bucket: Bucket) -> None:
    storage = Storage(bucket.location)
    with storage.writing("ada/a-0.csv") as file:
        file.write(b"hers")
    url = storage.url("ada/a-0.csv")
    signed = files.download_url(url, seconds=77)
    asked = parse_qs(urlsplit(signed).query)
    assert asked["X-Amz-Expires"] == ["77"]
    assert "X-Amz-Signature" in asked
    assert S3_SECRET not in f"{signed} {url}"
    with urllib.request.urlopen(signed) as answer:  # noqa: S310 - the test's own server
        assert answer.read() == b"hers"


def test_a_local_file_needs_no_signature(exporting: Exporting, folder: Folder) -> None:
    ada = exporting.learner()
    export = exporting.make(folder.location, ada)
    assert export.file_url is not None
    assert files.download_url(export.file_url) == export.file_url
    assert Path(urlsplit(export.file_url).path).is_file()


@SLOWLY_IN_S3
def test_a_missing_file_is_an_error_to_read_and_none_to_delete(place: Place) -> None:
    url = Storage(place.location).url("nobody/nothing-0.csv")
    with pytest.raises(StorageError, match="FileNotFoundError") as caught:
        files.read(url)
    assert "nobody" not in str(caught.value)
    files.delete(url)
    assert place.files() == {}


@SLOWLY_IN_S3
def test_checking_a_location_leaves_nothing_there(place: Place) -> None:
    Storage(place.location).check()
    assert (place.files(), place.unfinished()) == ({}, [])


def test_deleting_a_file_deletes_what_a_killed_writer_left_of_it(folder: Folder) -> None:
    for name in ("a-0.csv", "a-0.csv.part", "a-1.csv.part"):
        folder.put(f"nobody/{name}", b"half")
    files.delete(Storage(folder.location).url("nobody/a-0.csv"))
    assert (folder.files(), folder.unfinished()) == ({}, ["a-1.csv.part"])


@pytest.mark.parametrize("name", ["[red] #a?b", "a%20b*", "ñandú 漢字", "./sub/../x", "x.part/"])
def test_a_folder_may_have_any_name(folder: Folder, name: str) -> None:
    storage = Storage(f"{folder.location}/{name}")
    storage.check()
    with storage.writing("ada/a-0.csv") as file:
        file.write(b"whole")
    url = storage.url("ada/a-0.csv")
    assert list(folder.files().values()) == [b"whole"]
    assert (folder.root / name / "ada/a-0.csv").is_file()
    with files.read(url) as written:
        assert (written.read(), storage.size("ada/a-0.csv")) == (b"whole", 5)
    files.delete(url)
    assert folder.files() == {}


@pytest.mark.parametrize("location", ["nosuch://bucket/folder", "gopher://ada:hunter2@host/x"])
def test_an_unknown_protocol_is_refused_without_the_location(location: str) -> None:
    for reach in (Storage, files.delete, files.read, files.download_url):
        with pytest.raises(ConfigurationError) as caught:
            reach(location)
        assert location.partition(":")[0] in str(caught.value)
        assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__}"


def test_a_url_leads_back_to_the_host_of_its_location(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsspec.implementations.ftp.FTP", Mock())
    url = Storage("ftp://files.example.com/exports/").url("x/y-0.csv")
    assert url == "ftp://files.example.com/exports/x/y-0.csv"


def test_a_host_that_refuses_a_connection_is_a_storage_error() -> None:
    with create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(StorageError):
        files.read(f"ftp://127.0.0.1:{port}/exports/x-0.csv")


def test_a_password_in_the_location_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match="password") as caught:
        Storage("http://ada:hunter2@127.0.0.1/x")
    assert "hunter2" not in str(caught.value)
