"""The private PostgreSQL: starts, answers, and leaves nothing behind, however its owner ends."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text

from carnivore_db import local
from carnivore_db.local import LocalPostgres, LocalServerError, PostgreSQLNotFound, Server

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
DEADLINE = 60


def eventually(holds: Callable[[], bool]) -> bool:
    """Wait for another process to bring something about."""
    deadline = time.monotonic() + DEADLINE
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def gone(pid: int) -> bool:
    """A process nobody has reaped yet, as under a container's first process, is gone too."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return state.stdout.strip().startswith("Z")


def answer(server: Server) -> int:
    with psycopg.connect(server.dsn("postgres")) as connection:
        row = connection.execute("select 1").fetchone()
    assert row
    return int(row[0])


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with LocalPostgres() as server:
        yield server


@pytest.fixture
def private_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files, which unlike `tmp_path` the server's user may enter."""
    directory = Path(tempfile.mkdtemp(prefix="t-"))
    directory.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    with contextlib.suppress(LocalServerError):
        local.stop_persistent(remove=True)
    shutil.rmtree(directory)


def test_it_answers_and_has_the_extensions(running: Server) -> None:
    with psycopg.connect(running.dsn("postgres"), autocommit=True) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
        connection.execute("create extension citext")
        connection.execute("create extension pgcrypto")
        assert connection.execute("select 'A'::citext = 'a'").fetchone() == (True,)


def test_it_is_set_up_as_promised(running: Server) -> None:
    expected = {
        "fsync": "off",
        "full_page_writes": "off",
        "listen_addresses": "",
        "max_connections": "200",
        "server_encoding": "UTF8",
        "synchronous_commit": "off",
        "unix_socket_directories": running.host,
    }
    with psycopg.connect(running.dsn("postgres")) as connection:
        shown = connection.execute("select name, setting from pg_settings").fetchall()
        reset = "select reset_val from pg_settings where name = 'TimeZone'"
        assert connection.execute(reset).fetchone() == ("UTC",)
    assert expected.items() <= dict(shown).items()
    assert Path(running.host).stat().st_mode & 0o777 == 0o700


def test_the_url_works_and_survives_a_round_trip(running: Server) -> None:
    url = running.url("postgres")
    assert make_url(url.render_as_string(hide_password=False)) == url
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("select 1")).scalar_one() == 1
    engine.dispose()


def test_the_superuser_and_the_settings_are_the_callers() -> None:
    settings = {"work_mem": "7MB", "listen_addresses": "*", "max_connections": "20"}
    with (
        LocalPostgres(user="supabase_admin", settings=settings) as server,
        psycopg.connect(server.dsn("postgres")) as connection,
    ):
        found = connection.execute(
            "select current_user, rolsuper, current_setting('work_mem'),"
            " current_setting('max_connections'), current_setting('listen_addresses')"
            " from pg_roles where rolname = current_user"
        ).fetchone()
    assert found == ("supabase_admin", True, "7MB", "20", "")


@as_root
def test_the_server_of_root_is_not_root() -> None:
    private = LocalPostgres()
    with private as server:
        data = Path(server.host) / "data"
        assert int((data / "postmaster.pid").read_text().splitlines()[0]) == private.pid
        owner = subprocess.run(
            ["ps", "-o", "uid=", "-p", str(private.pid)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(owner.stdout) == data.stat().st_uid != 0


def test_nothing_is_left_after_the_block() -> None:
    private = LocalPostgres()
    with private as server:
        pid, directory = private.pid, private.directory
        assert directory == Path(server.host)
        with pytest.raises(LocalServerError, match="already running"):
            private.__enter__()
    assert gone(pid)
    assert not directory.exists()
    with pytest.raises(LocalServerError, match="not running"):
        _ = private.pid
    with private as server:
        assert answer(server) == 1


def test_an_error_in_the_block_leaves_nothing() -> None:
    private = LocalPostgres()

    def fail() -> None:
        with private as server:
            raise KeyError(private.pid, server.host)

    with pytest.raises(KeyError) as caught:
        fail()
    pid, directory = caught.value.args
    assert gone(pid)
    assert not Path(directory).exists()


def test_a_server_that_does_not_start_shows_its_log() -> None:
    private = LocalPostgres(settings={"no_such_setting": "1"})
    with pytest.raises(LocalServerError, match=r"did not start:(.|\n)*no_such_setting"):
        private.__enter__()
    assert not private.directory.exists()


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "START_TIMEOUT", 0.1)
    monkeypatch.setattr(local, "_answers", lambda _server: False)
    private = LocalPostgres()
    with pytest.raises(LocalServerError, match="did not start within"):
        private.__enter__()
    assert not private.directory.exists()


# Tells what it started, then waits to be ended from outside. SIGINT may come in ignored.
OWNER = """
import os, signal, time
from carnivore_db import local
signal.signal(signal.SIGINT, signal.default_int_handler)
private = local.LocalPostgres()
def tell(fork=0):
    print(private.pid, private._guard.pid, fork, private.directory, flush=True)
    time.sleep(600)
"""
RUNNING = OWNER + "with private: tell()"
STARTING = OWNER + "local._answers = lambda server: tell()\nwith private: pass"
FORKED = (
    OWNER
    + """
with private:
    fork = os.fork()
    if fork:
        tell(fork)
    else:
        time.sleep(600)
"""
)
FORK_LEAVES = (
    OWNER
    + """
with private as server:
    fork = os.fork()
    if fork:
        os.waitpid(fork, 0)
        print("answers" if local._answers(server) else "stopped")
"""
)


@contextlib.contextmanager
def owner(script: str) -> Iterator[subprocess.Popen[str]]:
    root = str(Path(local.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)])},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("script", [RUNNING, STARTING], ids=["running", "starting"])
@pytest.mark.parametrize(
    "how",
    [
        signal.SIGKILL,
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_nothing_outlives_its_owner(script: str, how: signal.Signals) -> None:
    with owner(script) as process:
        assert process.stdout
        server, guard, _, directory = process.stdout.readline().split()
        assert Path(directory).is_dir()
        process.send_signal(how)
        process.wait(DEADLINE)
    assert eventually(lambda: gone(int(server)))
    assert eventually(lambda: not Path(directory).exists())
    assert eventually(lambda: gone(int(guard)))


def test_a_fork_of_the_owner_does_not_keep_the_server() -> None:
    with owner(FORKED) as process:
        assert process.stdout
        server, guard, fork, directory = process.stdout.readline().split()
        process.kill()
        process.wait(DEADLINE)
        try:
            assert eventually(lambda: not Path(directory).exists())
            assert eventually(lambda: gone(int(server)) and gone(int(guard)))
            assert not gone(int(fork))
        finally:
            os.kill(int(fork), signal.SIGKILL)


def test_a_fork_that_leaves_the_block_does_not_stop_the_server() -> None:
    with owner(FORK_LEAVES) as process:
        said, _ = process.communicate(timeout=DEADLINE)
    assert said == "answers\n"


def test_without_postgresql_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_candidates", lambda: iter([Path("/nonexistent")]))
    with pytest.raises(PostgreSQLNotFound) as caught:
        LocalPostgres().__enter__()
    message = str(caught.value)
    assert "\n" not in message
    for hint in ("apt-get install postgresql", "brew install postgresql@17", "make setup"):
        assert hint in message


def fake_install(bindir: Path, version: str, *, extensions: tuple[str, ...]) -> None:
    bindir.mkdir(parents=True)
    for name in ("initdb", "pg_ctl", "postgres"):
        program = bindir / name
        program.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    controls = bindir.parent / "share" / "extension"
    controls.mkdir(parents=True)
    for extension in extensions:
        (controls / f"{extension}.control").touch()


def test_the_search_follows_links_and_passes_over_the_unfit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = ("citext", "pgcrypto")
    fake_install(tmp_path / "old" / "bin", "14.9", extensions=both)
    # Numbered beyond any release, so that no system directory can supply what it lacks.
    fake_install(tmp_path / "bare" / "bin", "9917.1", extensions=("pgcrypto",))
    fake_install(tmp_path / "good" / "bin", "9918beta1", extensions=both)
    links = tmp_path / "links"
    links.mkdir()
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    monkeypatch.setattr(local, "_PLACES", ())

    unfit = [closed, tmp_path / "old" / "bin", tmp_path / "bare" / "bin", links]
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, unfit)))
    with pytest.raises(PostgreSQLNotFound, match=r"old/bin is version 14; .*bare/bin lacks citext"):
        local.find_postgres()

    (links / "initdb").symlink_to(tmp_path / "good" / "bin" / "initdb")
    assert local.find_postgres() == tmp_path / "good" / "bin"


def test_higher_versions_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("9.6", "16", "100", "18"):
        fake_install(tmp_path / version / "bin", version, extensions=())
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(local, "_PLACES", (f"{tmp_path}/*/bin".lstrip("/"),))
    in_path, *others = local._candidates()
    assert in_path == Path("/nonexistent")
    assert [path.parent.name for path in others] == ["100", "18", "16", "9.6"]


def test_database_url_is_used_as_it_is(running: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: LocalPostgres) -> Server:
        raise AssertionError("started a server")

    monkeypatch.setattr(LocalPostgres, "__enter__", refuse)
    url = running.url("postgres").render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", url)
    with local.server() as server:
        assert server == running
        assert answer(server) == 1
    assert answer(running) == 1


def test_without_database_url_the_server_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with local.server() as server:
        assert answer(server) == 1
    assert not Path(server.host).exists()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_usual_scheme_is_understood(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://me:s%40fe@db.example:6543/x?sslmode=require")
    with local.server() as server:
        assert (server.host, server.port, server.user) == ("db.example", 6543, "me")
        assert server.password == "s@fe"
        assert server.url("y").render_as_string(hide_password=False) == (
            "postgresql+psycopg://me:s%40fe@db.example:6543/y?sslmode=require"
        )
        assert psycopg.conninfo.conninfo_to_dict(server.dsn("a 'b'")) == {
            "host": "db.example",
            "port": "6543",
            "user": "me",
            "password": "s@fe",
            "dbname": "a 'b'",
            "sslmode": "require",
        }
        assert "s@fe" not in repr(server)
        assert "s@fe" not in str(server.url("y"))


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:secret@db/x",
        "postgresql+asyncpg://me:secret@db/x",
        "me secret db",
        "postgresql://me:x@db:secret/x",
        "postgresql://me:secret@/x?host=a&host=b",
        "postgresql://me:secret@db/x?port=secret",
    ],
)
def test_other_urls_are_refused_without_their_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(ValueError, match="DATABASE_URL") as caught, local.server():
        pass
    assert "sec" not in str(caught.value)


def test_the_persistent_server_starts_once_and_stops(private_tmp: Path) -> None:
    assert local.persistent_status() is None
    assert local.stop_persistent() is False

    server = local.start_persistent()
    pid_file = Path(server.host) / "data" / "postmaster.pid"
    before = pid_file.read_text()
    assert Path(server.host).parent == private_tmp
    assert local.start_persistent() == server == local.persistent_status()
    assert pid_file.read_text() == before
    with psycopg.connect(server.dsn("postgres")) as connection:
        connection.execute("create table kept ()")

    pid = int(before.splitlines()[0])
    assert local.stop_persistent() is True
    assert eventually(lambda: gone(pid))
    assert local.persistent_status() is None
    assert local.stop_persistent() is False

    with psycopg.connect(local.start_persistent().dsn("postgres")) as connection:
        assert connection.execute("select count(*) from kept").fetchone() == (0,)
    assert local.stop_persistent(remove=True) is True
    assert list(private_tmp.iterdir()) == []


def test_the_persistent_server_outlives_its_starter(private_tmp: Path) -> None:
    start = "from carnivore_db import local; print(local.start_persistent().host)"
    with owner(f"import tempfile; tempfile.tempdir = {str(private_tmp)!r}; {start}") as process:
        said, _ = process.communicate(timeout=DEADLINE)
    server = local.persistent_status()
    assert server
    assert server.host == said.strip()
    assert answer(server) == 1


def test_two_persistent_starts_at_once_make_one_server(private_tmp: Path) -> None:
    start = "from carnivore_db import local; print(local.start_persistent())"
    script = f"import tempfile; tempfile.tempdir = {str(private_tmp)!r}; {start}"
    with owner(script) as one, owner(script) as two:
        said = {process.communicate(timeout=DEADLINE)[0] for process in (one, two)}
    assert said == {f"{local.persistent_status()}\n"}


def test_a_persistent_start_that_fails_shows_the_log(private_tmp: Path) -> None:
    directory = Path(local.start_persistent().host)
    local.stop_persistent()
    (directory / "data" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(LocalServerError, match=r"pg_ctl: (.|\n)*version 9\.6"):
        local.start_persistent()
    assert local.persistent_status() is None


def test_a_stale_pid_file_stops_nobody(private_tmp: Path) -> None:
    directory = Path(local.start_persistent().host)
    local.stop_persistent()
    pid_file = directory / "data" / "postmaster.pid"
    with owner(OWNER + "time.sleep(600)") as process:
        pid_file.write_text(f"{process.pid}\n")
        assert local.persistent_status() is None
        with pytest.raises(LocalServerError, match="does not answer"):
            local.stop_persistent(remove=True)
        assert process.poll() is None
    assert directory.exists()
    assert local.stop_persistent(remove=True) is False
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
    for use in (local.start_persistent, local.stop_persistent, local.persistent_status):
        with pytest.raises(LocalServerError, match=re.escape(str(path))):
            use()
    assert list(tmp_path.iterdir()) == []
