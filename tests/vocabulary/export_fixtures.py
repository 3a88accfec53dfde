"""The fixtures of the exports' tests: a plugin, for modules that name it in `pytest_plugins`."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from moto.server import ThreadedMotoServer
from psycopg.rows import dict_row

from carnivore_db import Database
from tests.support.callers import KINDS, Caller
from tests.support.databases import Shape, TestDatabase, empty
from tests.vocabulary.export_s3 import PART, S3_SECRET, Bucket
from tests.vocabulary.export_support import Exporting, Folder


@pytest.fixture(scope="session")
def exports_database(plain_shape: Shape, plain_template: str) -> Iterator[TestDatabase]:
    """One database for these tests, emptied before each: a clone of its own would cost each more."""
    with plain_shape.clone(plain_template) as made:
        yield made


@pytest.fixture
def exporting_database(exports_database: TestDatabase) -> TestDatabase:
    empty(exports_database, "vocabulary")
    return exports_database


@pytest.fixture
def exporting(exporting_database: TestDatabase) -> Iterator[Exporting]:
    with exporting_database.connect(autocommit=True) as owner:
        owner.row_factory = dict_row
        db = Database(exporting_database.app_url)
        yield Exporting(exporting_database, db, owner)
        db.close()


@pytest.fixture(params=["sync", pytest.param("async", marks=pytest.mark.slow)])
def export_caller(request: pytest.FixtureRequest, exporting_database: TestDatabase) -> Iterator[Caller]:
    """Repository functions by each kind of Database in turn."""
    with KINDS[request.param](exporting_database.app_url) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    made = Folder(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(made.temporary))
    monkeypatch.setenv("TMPDIR", str(made.temporary))  # other processes'
    return made


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of a server that speaks S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": S3_SECRET,
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }.items():
        monkeypatch.setenv(name, value)
    # Parts as small as S3 allows, so that a file of a few MB has several.
    monkeypatch.setitem(fsspec.config.conf, "s3", {"default_block_size": PART})
    return Bucket(s3_server)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest) -> Folder | Bucket:
    """Each kind of place for files in turn."""
    found: Folder | Bucket = request.getfixturevalue(request.param)
    return found
