"""The private PostgreSQL: starts, answers, and leaves nothing behind, however its owner ends."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text

from carnivore_db.dev import local
from carnivore_db.dev.local import LocalPostgres, Server
from carnivore_db.errors import ConfigurationError, LocalServerError
from tests.support.processes import DEADLINE, eventually, gone, python

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with LocalPostgres() as server:
        yield server


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
        zone = os.environ.get("TZ", "UTC") if "TESTS_CLOCK_SECONDS" in os.environ else "UTC"
        assert connection.execute(reset).fetchone() == (zone,)
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
def test_the_server_of_root_is_not_root(running: Server) -> None:
    data = Path(running.host) / "data"
    pid = (data / "postmaster.pid").read_text().splitlines()[0]
    assert psutil.Process(int(pid)).uids().effective == data.stat().st_uid != 0


def test_nothing_is_left_after_the_block() -> None:
    private = LocalPostgres()
    with private as server:
        pid, directory = private.pid, private.directory
        assert directory == Path(server.host)
        assert int((directory / "data" / "postmaster.pid").read_text().splitlines()[0]) == pid
        with pytest.raises(LocalServerError, match="already running"):
            private.__enter__()
    assert gone(pid)
    assert not directory.exists()
    assert not server.answers()
    with pytest.raises(LocalServerError, match="not running"):
        _ = private.pid
    with private as server:
        assert server.answers()


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
    monkeypatch.setattr(Server, "answers", lambda _server: False)
    private = LocalPostgres()
    with pytest.raises(LocalServerError, match="did not start within"):
        private.__enter__()
    assert not private.directory.exists()


# Tells what it started, then waits to be ended from outside. SIGINT may come in ignored.
OWNER = """
import os, signal, time
from carnivore_db.dev.local import LocalPostgres, Server
signal.signal(signal.SIGINT, signal.default_int_handler)
private = LocalPostgres()
def tell(fork=0):
    print(private.pid, private._guard.pid, fork, private.directory, flush=True)
    time.sleep(600)
"""
RUNNING = OWNER + "with private: tell()"
STARTING = OWNER + "Server.answers = lambda server: tell()\nwith private: pass"
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
        print("answers" if server.answers() else "stopped")
"""
)


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
    with python(script) as process:
        assert process.stdout
        server, guard, _, directory = process.stdout.readline().split()
        assert Path(directory).is_dir()
        process.send_signal(how)
        process.wait(DEADLINE)
    assert eventually(lambda: gone(int(server)))
    assert eventually(lambda: not Path(directory).exists())
    assert eventually(lambda: gone(int(guard)))


def test_a_fork_of_the_owner_does_not_keep_the_server() -> None:
    with python(FORKED) as process:
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
    with python(FORK_LEAVES) as process:
        said, _ = process.communicate(timeout=DEADLINE)
    assert said == "answers\n"


def test_database_url_is_used_as_it_is(running: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: LocalPostgres) -> Server:
        raise AssertionError("started a server")

    monkeypatch.setattr(LocalPostgres, "__enter__", refuse)
    url = running.url("postgres").render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", url)
    with local.server() as server:
        assert server == running
        assert server.answers()
    assert running.answers()


def test_without_database_url_the_server_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with local.server() as server:
        assert server.answers()
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


def test_parameters_override_what_the_url_says_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = "host=/run/db&port=6543&user=you&password=new&dbname=y"
    monkeypatch.setenv("DATABASE_URL", f"postgresql://me:old@db.example:5433/x?{parameters}")
    with local.server() as server:
        assert server == Server("/run/db", 6543, "you", "new")


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
    with pytest.raises(ConfigurationError, match="DATABASE_URL") as caught, local.server():
        pass
    assert "sec" not in str(caught.value)
    assert "\n" not in str(caught.value)
