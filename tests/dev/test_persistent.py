"""The server of `carnivore-db local`: one at a time, in a directory nobody else can enter."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from carnivore_db.dev import persistent as local_persistent
from carnivore_db.dev.postgres_install import find_postgres, major
from carnivore_db.dev.postgres_process import hand_over
from carnivore_db.errors import LocalServerError
from tests.support.processes import DEADLINE, eventually, gone, python


@pytest.fixture
def private_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files, which unlike `tmp_path` the server's user may enter."""
    directory = Path(tempfile.mkdtemp(prefix="t-"))
    directory.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.setenv("TMPDIR", str(directory))
    yield directory
    with suppress(LocalServerError):
        local_persistent.stop(remove=True)
    shutil.rmtree(directory)


@pytest.fixture
def directory(private_tmp: Path) -> Path:
    """Where the server keeps its data, here without any."""
    directory = private_tmp / f"carnivore-db-{os.geteuid()}"
    for made in (directory, directory / "data"):
        made.mkdir(mode=0o700)
        hand_over(made)
    return directory


def test_it_starts_once_and_stops(private_tmp: Path) -> None:
    assert local_persistent.status() is None
    assert local_persistent.stop() is False

    server = local_persistent.start()
    pid_file = Path(server.host) / "data" / "postmaster.pid"
    before = pid_file.read_text()
    assert Path(server.host).parent == private_tmp
    assert local_persistent.start() == server == local_persistent.status()
    assert pid_file.read_text() == before
    with psycopg.connect(server.dsn("postgres")) as connection:
        connection.execute("create table kept ()")

    pid = int(before.splitlines()[0])
    assert local_persistent.stop() is True
    assert eventually(lambda: gone(pid))
    assert local_persistent.status() is None
    assert local_persistent.stop() is False

    with psycopg.connect(local_persistent.start().dsn("postgres")) as connection:
        assert connection.execute("select count(*) from kept").fetchone() == (0,)
    assert local_persistent.stop(remove=True) is True
    assert list(private_tmp.iterdir()) == []


@pytest.mark.usefixtures("private_tmp")
def test_two_starts_at_once_make_one_server_that_outlives_them() -> None:
    script = "from carnivore_db.dev import persistent; print(persistent.start())"
    with python(script) as one, python(script) as two:
        said = {process.communicate(timeout=DEADLINE)[0] for process in (one, two)}
    server = local_persistent.status()
    assert server
    assert said == {f"{server}\n"}
    assert server.answers()


def test_a_start_that_fails_shows_the_log(directory: Path) -> None:
    (directory / "data" / "PG_VERSION").write_text(f"{major(find_postgres())}\n")
    (directory / "data" / "postgresql.conf").write_text("max_connections = many\n")
    with pytest.raises(LocalServerError, match=r"pg_ctl: (.|\n)*max_connections"):
        local_persistent.start()
    assert local_persistent.status() is None


def test_data_of_another_version_are_told_as_such(directory: Path) -> None:
    (directory / "data" / "PG_VERSION").write_text("9.6\n")
    (directory / "data" / "postgresql.conf").touch()
    with pytest.raises(LocalServerError, match=r"made by PostgreSQL 9\.6, and .*LOCAL_MAJOR=9\.6"):
        local_persistent.start()
    assert local_persistent.status() is None


def test_a_stale_pid_file_stops_nobody(directory: Path) -> None:
    with subprocess.Popen(["sleep", str(DEADLINE)]) as process:
        (directory / "data" / "postmaster.pid").write_text(f"{process.pid}\n")
        assert local_persistent.status() is None
        with pytest.raises(LocalServerError, match="does not answer"):
            local_persistent.stop(remove=True)
        assert process.poll() is None
        process.kill()
    assert directory.exists()
    assert local_persistent.stop(remove=True) is False
    assert not directory.exists()


@pytest.mark.parametrize("mine", ["link", "open", "file", "foreign"])
def test_a_directory_that_is_not_ours_is_refused(mine: str, private_tmp: Path, tmp_path: Path) -> None:
    path = private_tmp / f"carnivore-db-{os.geteuid()}"
    if mine == "link":
        tmp_path.chmod(0o700)
        path.symlink_to(tmp_path)
    elif mine == "open":
        path.mkdir()
        path.chmod(0o755)
    elif mine == "file":
        path.touch(mode=0o600)
    elif os.geteuid() == 0:
        path.mkdir(mode=0o700)
        os.chown(path, 4242, 4242)
    else:
        pytest.skip("only root can give a directory away")
    for use in (local_persistent.start, local_persistent.stop, local_persistent.status):
        with pytest.raises(LocalServerError, match=re.escape(str(path))):
            use()
    assert list(tmp_path.iterdir()) == []
