"""The private PostgreSQL of `make demo` and of the tests: gone when its block or process ends."""

import getpass
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL

from carnivore_db.dev.postgres_install import find_postgres
from carnivore_db.dev.postgres_process import (
    PORT,
    START_TIMEOUT,
    STOP_TIMEOUT,
    as_server_user,
    hand_over,
    initdb_command,
    server_options,
    tail,
)
from carnivore_db.errors import ConfigurationError, LocalServerError
from carnivore_db.settings import DRIVER, parse_url

_SOCKET_PATH_LIMIT = 103  # bytes; macOS, Linux allows 107

# Runs $1, which makes the cluster, then becomes $2, the server. It waits for a word first, so that
# nothing runs before the guard knows its pid, and opens the log itself, as the server user. Told to
# stop, it lets initdb finish: killed half-way, that leaves shared memory behind.
_SERVER = """
read -r _ || exit 1
exec </dev/null >log 2>&1
trap 'rm -f starting' EXIT
trap 'exit 1' INT QUIT
: >starting
eval "$1" || exit 1
rm starting
eval "exec $2"
"""

# Reads the directory, the server's pid, then word that the server is stopped. When its input ends
# without that word, the parent is gone, however it died, and the guard stops the server. It looks
# at files, not at the process: where nobody reaps orphans, they seem to live on.
_GUARD = """
IFS= read -r directory || exit 0
read -r pid
tries=0
if ! read -r _ && [ -n "$pid" ] && cd "$directory"; then
    while kill -s QUIT "$pid" && [ $tries -lt 100 ]; do
        [ -e starting ] || [ -e data/postmaster.pid ] || break
        sleep 0.1
        tries=$((tries + 1))
    done
    kill -s KILL -- "-$pid"
fi
cd /
until rm -rf -- "$directory" || [ $tries -gt 200 ]; do sleep 0.1; tries=$((tries + 1)); done
"""


@dataclass(frozen=True)
class Server:
    """Where a PostgreSQL answers: `host` is a host name, or the directory of its Unix socket.

    `options` holds further libpq parameters, such as `sslmode`. `repr` shows no secrets.
    """

    host: str
    port: int
    user: str
    password: str | None = field(default=None, repr=False)
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def url(self, dbname: str) -> URL:
        """Return the SQLAlchemy URL (psycopg 3) of one database of this server."""
        socket = self.host.startswith("/")
        query = {**dict(self.options), **({"host": self.host} if socket else {})}
        host = None if socket else self.host
        return URL.create(DRIVER, self.user, self.password, host, self.port, dbname, query)

    def dsn(self, dbname: str) -> str:
        """Return the libpq connection string (psycopg, psql) of one database, password included."""
        return make_conninfo(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=dbname,
            **dict(self.options),
        )

    def answers(self) -> bool:
        """Tell whether it takes a query now."""
        try:
            with psycopg.connect(self.dsn("postgres"), connect_timeout=5) as connection:
                connection.execute("select 1")
        except psycopg.OperationalError:
            return False
        return True


def _shell(script: str, *arguments: str, **options: Any) -> tuple["subprocess.Popen[bytes]", IO[bytes]]:
    """Start a shell script without an output; return it and the only end of its input."""
    process = subprocess.Popen(  # noqa: S603 - scripts of this module
        ["/bin/sh", "-c", script, "sh", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **options,
    )
    return process, cast(IO[bytes], process.stdin)


# What keeps the guards waiting. A process forked off without exec must not hold on to them.
_lifelines: set[IO[bytes]] = set()


def _let_go() -> None:
    for lifeline in _lifelines:
        lifeline.close()
    _lifelines.clear()


os.register_at_fork(after_in_child=_let_go)


class LocalPostgres:
    """A throw-away PostgreSQL, as a context manager that gives its `Server`.

    In go the superuser's name, further server settings and where its directory is made (by default where
    temporary files are). Entering raises PostgreSQLNotFound, or LocalServerError with the end of the
    server's log. Inside, `directory` and `pid` tell where and what it is. Leaving stops the server and
    removes the directory; so does the death of this process, whatever its cause.
    """

    def __init__(
        self, user: str = "postgres", settings: Mapping[str, str] | None = None, parent: Path | None = None
    ) -> None:
        """Remember what to start; nothing is started yet."""
        self._user = user
        self._settings = dict(settings or {})
        self._parent = parent
        self._server: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._lifeline: IO[bytes] | None = None
        self._owner = 0
        self.directory = Path()

    @property
    def pid(self) -> int:
        """The process id of the server; LocalServerError when it is not running."""
        if self._server is None:
            raise LocalServerError("the private PostgreSQL is not running")
        return self._server.pid

    def __enter__(self) -> Server:
        """Start the server and wait until it answers."""
        if self._server is not None:
            raise LocalServerError("the private PostgreSQL is already running")
        bindir = find_postgres()
        self._owner = os.getpid()
        parent = str(self._parent or tempfile.gettempdir())
        if len(os.fsencode(f"{parent}/cdb-12345678/.s.PGSQL.{PORT}")) > _SOCKET_PATH_LIMIT:
            parent = "/tmp"  # noqa: S108 - short; mkdtemp makes a private directory there
        try:
            self._guard, self._lifeline = _shell(_GUARD, start_new_session=True)
            _lifelines.add(self._lifeline)
            self.directory = Path(tempfile.mkdtemp(prefix="cdb-", dir=parent))
            self._tell_guard(self.directory)
            hand_over(self.directory)
            data = self.directory / "data"
            initdb = initdb_command(bindir, data, self._user)
            options = server_options(self.directory, self._settings)
            postgres = [str(bindir / "postgres"), "-D", str(data), *options]
            commands = (shlex.join(initdb), shlex.join(postgres))
            self._server, start = _shell(_SERVER, *commands, **as_server_user(self.directory))
            with start:
                self._tell_guard(self._server.pid)
                start.write(b"start\n")
            return self._when_ready(self._server)
        except BaseException:
            self._stop(signal.SIGQUIT)
            raise

    def __exit__(self, *_: object) -> None:
        """Stop the server and remove its directory."""
        if os.getpid() == self._owner:  # a fork that unwinds this block must not stop the server
            self._stop(signal.SIGINT)

    def _tell_guard(self, word: object) -> None:
        if self._lifeline:
            self._lifeline.write(f"{word}\n".encode())
            self._lifeline.flush()

    def _when_ready(self, process: "subprocess.Popen[bytes]") -> Server:
        server = Server(str(self.directory), PORT, self._user)
        deadline = time.monotonic() + START_TIMEOUT
        while not server.answers():
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                within = "" if ended else f" within {START_TIMEOUT} seconds"
                log = tail(self.directory / "log")
                raise LocalServerError(f"PostgreSQL did not start{within}:{log}")
            time.sleep(0.05)
        return server

    def _stop(self, how: signal.Signals) -> None:
        if self._server:
            # Told again each second: a signal is lost where the shell becomes the server just then.
            for _ in range(STOP_TIMEOUT):
                self._server.send_signal(how)
                with suppress(subprocess.TimeoutExpired):
                    self._server.wait(1)
                    break
            else:
                os.killpg(self._server.pid, signal.SIGKILL)
                self._server.wait()
            self._tell_guard("stopped")
        if self._guard and self._lifeline:
            _lifelines.discard(self._lifeline)
            self._lifeline.close()
            self._guard.wait()
        self._server = self._guard = self._lifeline = None


def _given(database_url: str) -> Server:
    """Return the server of a PostgreSQL URL; ConfigurationError, without the secret text, if it is none."""
    try:
        url = parse_url(database_url)
        # libpq lets a parameter override the same thing earlier in the URL.
        facts = {**url.translate_connect_args(username="user", database="dbname"), **url.query}
        port = int(str(facts.pop("port", PORT)))
    except ValueError:
        raise ConfigurationError("DATABASE_URL must be a valid URL that begins with postgresql://") from None
    if any(isinstance(value, tuple) for value in facts.values()):
        raise ConfigurationError("DATABASE_URL must not give a parameter twice")
    facts.pop("dbname", None)
    return Server(
        host=facts.pop("host", "localhost"),
        port=port,
        user=facts.pop("user", None) or getpass.getuser(),
        password=facts.pop("password", None),
        options=tuple(sorted(facts.items())),
    )


@contextmanager
def server(parent: Path | None = None) -> Iterator[Server]:
    """Give the server of `DATABASE_URL` where that is set, else a `LocalPostgres` for the block.

    An existing server is neither started nor stopped; `parent` is where a private one's directory is made.
    Raises ConfigurationError for a URL that is not PostgreSQL's, and what `LocalPostgres` raises.
    """
    if database_url := os.environ.get("DATABASE_URL"):
        yield _given(database_url)
    else:
        with LocalPostgres(parent=parent) as private:
            yield private
