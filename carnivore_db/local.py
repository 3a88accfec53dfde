"""The private PostgreSQL of `make demo`, of the tests and of `carnivore-db local`."""

import contextlib
import fcntl
import functools
import getpass
import os
import pwd
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

OLDEST = 15
EXTENSIONS = ("citext", "pgcrypto")
_PLACES = (
    "usr/lib/postgresql/*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "opt/homebrew/bin",
    "usr/local/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)
START_TIMEOUT = 60
STOP_TIMEOUT = 30

# The data can always be made again, so durability is traded for speed.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "log_timezone": "UTC",
    "max_connections": "200",
    "synchronous_commit": "off",
    "timezone": "UTC",
}
_PORT = 5432  # only names the socket file; each server has a directory of its own
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


class LocalServerError(RuntimeError):
    """A private server could not be started, stopped or trusted; the text says why."""


class PostgreSQLNotFound(LocalServerError):
    """No usable PostgreSQL is installed; the text is one line on what to install."""


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
        driver = "postgresql+psycopg"
        return URL.create(driver, self.user, self.password, host, self.port, dbname, query)

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


def _candidates() -> Iterator[Path]:
    """Yield the directories that may hold a server, the preferred ones first."""
    for entry in os.get_exec_path():
        # PATH often holds links; the programs find their siblings beside the real file.
        yield (Path(entry) / "initdb").resolve().parent
    for pattern in _PLACES:
        numbered = [
            ([int(number) for number in re.findall(r"\d+", str(path))], path)
            for path in Path("/").glob(pattern)
        ]
        for _, path in sorted(numbered, reverse=True):
            yield (path / "initdb").resolve().parent


def _output(*command: str | Path) -> str:
    """Return what a program prints, or nothing when it cannot be run."""
    try:
        return subprocess.run(  # noqa: S603 - a program of the PostgreSQL found, fixed arguments
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        ).stdout.strip()
    except OSError:
        return ""


def _why_unfit(bindir: Path) -> str | None:
    """Return why the server in `bindir` will not do, or None when it will."""
    number = re.search(r"\d+", _output(bindir / "postgres", "--version"))
    if number is None:
        return "does not run"
    version = int(number[0])
    if version < OLDEST:
        return f"is version {version}"
    reported = _output(bindir / "pg_config", "--sharedir")
    shares = [
        Path(reported or "/nonexistent"),
        Path(f"/usr/share/postgresql/{version}"),
        *(bindir.parent / "share" / name for name in (".", "postgresql", f"postgresql@{version}")),
    ]
    missing = [
        name
        for name in EXTENSIONS
        if not any(os.access(share / "extension" / f"{name}.control", os.R_OK) for share in shares)
    ]
    return f"lacks {' and '.join(missing)}" if missing else None


def find_postgres() -> Path:
    """Return the directory of an installed server's programs; PostgreSQLNotFound without one."""
    unfit = []
    for bindir in dict.fromkeys(_candidates()):
        # Unlike is_file(), access() also takes a directory of PATH that we may not enter.
        if all(os.access(bindir / name, os.X_OK) for name in ("initdb", "postgres", "pg_ctl")):
            reason = _why_unfit(bindir)
            if reason is None:
                return bindir
            unfit.append(f"{bindir} {reason}")
    raise PostgreSQLNotFound(
        f"No PostgreSQL {OLDEST} or newer with {' and '.join(EXTENSIONS)} is installed"
        + (f" ({'; '.join(unfit)})" if unfit else "")
        + ": run `apt-get install postgresql` (Debian) or `brew install postgresql@17` (macOS),"
        " then `make setup` again."
    )


@functools.cache
def _locale() -> str:
    """Return C.UTF-8 where the system has it, else C."""
    # Asked in another process: setlocale() is global, and unsafe beside other threads.
    probe = "import _locale; _locale.setlocale(_locale.LC_ALL, 'C.UTF-8')"
    done = subprocess.run(  # noqa: S603 - this interpreter, fixed arguments
        [sys.executable, "-ISc", probe], capture_output=True, check=False
    )
    return "C" if done.returncode else "C.UTF-8"


def _account() -> pwd.struct_passwd | None:
    """Return whom the server runs as: PostgreSQL refuses root. None is the present user."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _give(directory: Path) -> None:
    """Hand a new directory to the account of the server; root can still enter it."""
    if account := _account():
        os.chown(directory, account.pw_uid, account.pw_gid, follow_symlinks=False)


def _as_server_user(directory: Path) -> dict[str, Any]:
    """Return the Popen arguments that run a program as the server's user, away from a terminal."""
    account = _account()
    # PG* would configure the server behind our back; macOS needs a valid LC_ALL.
    kept = {key: text for key, text in os.environ.items() if not key.startswith(("PG", "LC_"))}
    return {
        "cwd": directory,
        "env": {**kept, "HOME": str(directory), "LC_ALL": "C"},
        "user": account.pw_uid if account else None,
        "group": account.pw_gid if account else None,
        "extra_groups": [] if account else None,
        "start_new_session": True,  # a Ctrl-C in the terminal is for us, not for the server
    }


def _initdb(bindir: Path, data: Path, user: str) -> list[str]:
    options = ["--auth=trust", "--encoding=UTF8", "--no-sync", "--no-instructions"]
    locale = f"--locale={_locale()}"
    return [str(bindir / "initdb"), f"--pgdata={data}", f"--username={user}", locale, *options]


def _options(directory: Path, settings: Mapping[str, str]) -> list[str]:
    """Return the server's arguments; the caller's settings cannot move it off its socket."""
    place = {"listen_addresses": "", "port": str(_PORT), "unix_socket_directories": str(directory)}
    merged = {**_SETTINGS, **settings, **place}
    return [word for name, value in merged.items() for word in ("-c", f"{name}={value}")]


def _answers(server: Server) -> bool:
    try:
        with psycopg.connect(server.dsn("postgres"), connect_timeout=5) as connection:
            connection.execute("select 1")
    except psycopg.OperationalError:
        return False
    return True


def _tail(log: Path) -> str:
    """Return the end of a server's log, indented for an error message."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return "".join(f"\n  {line}" for line in lines[-20:]) or "\n  (the log is empty)"


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

    In go the superuser's name and further server settings. Entering raises PostgreSQLNotFound, or
    LocalServerError with the end of the server's log. Inside, `directory` and `pid` tell where and
    what it is. Leaving stops the server and removes the directory; so does the death of this
    process, whatever its cause.
    """

    def __init__(self, user: str = "postgres", settings: Mapping[str, str] | None = None) -> None:
        """Remember what to start; nothing is started yet."""
        self._user = user
        self._settings = dict(settings or {})
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
        initdb = _initdb(bindir, Path("data"), self._user)
        self._owner = os.getpid()
        parent = tempfile.gettempdir()
        if len(os.fsencode(f"{parent}/cdb-12345678/.s.PGSQL.{_PORT}")) > _SOCKET_PATH_LIMIT:
            parent = "/tmp"  # noqa: S108 - short; mkdtemp makes a private directory there
        try:
            self._guard, self._lifeline = _shell(_GUARD, start_new_session=True)
            _lifelines.add(self._lifeline)
            self.directory = Path(tempfile.mkdtemp(prefix="cdb-", dir=parent))
            self._tell_guard(self.directory)
            _give(self.directory)
            options = _options(self.directory, self._settings)
            data = str(self.directory / "data")
            self._launch(initdb, [str(bindir / "postgres"), "-D", data, *options])
            return self._wait_ready()
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

    def _launch(self, initdb: list[str], postgres: list[str]) -> None:
        commands = (shlex.join(initdb), shlex.join(postgres))
        self._server, start = _shell(_SERVER, *commands, **_as_server_user(self.directory))
        with start:
            self._tell_guard(self._server.pid)
            start.write(b"start\n")

    def _wait_ready(self) -> Server:
        server = Server(str(self.directory), _PORT, self._user)
        deadline = time.monotonic() + START_TIMEOUT
        while not _answers(server):
            ended = self._server is None or self._server.poll() is not None
            if ended or time.monotonic() > deadline:
                within = "" if ended else f" within {START_TIMEOUT} seconds"
                log = _tail(self.directory / "log")
                raise LocalServerError(f"PostgreSQL did not start{within}:{log}")
            time.sleep(0.05)
        return server

    def _stop(self, how: signal.Signals) -> None:
        if self._server:
            self._server.send_signal(how)
            try:
                self._server.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(self._server.pid, signal.SIGKILL)
                self._server.wait()
            self._tell_guard("stopped")
        if self._guard and self._lifeline:
            _lifelines.discard(self._lifeline)
            self._lifeline.close()
            self._guard.wait()
        self._server = self._guard = self._lifeline = None
        self._owner = 0


def _persistent_directory() -> Path:
    return Path(tempfile.gettempdir()) / f"carnivore-db-{os.geteuid()}"


def _exists(directory: Path) -> bool:
    """Tell whether the directory exists; LocalServerError when it is not privately ours."""
    try:
        found = os.lstat(directory)
    except FileNotFoundError:
        return False
    account = _account()
    ours = {os.geteuid(), account.pw_uid if account else os.geteuid()}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in ours or found.st_mode & 0o077:
        raise LocalServerError(
            f"{directory} is not a private directory of this user (it is a link, belongs to"
            " somebody else, or others may enter it): remove it, or set TMPDIR"
        )
    return True


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other starts and stops out; the lock ends with the process that holds it."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _run(directory: Path, *command: str) -> None:
    # As the server's user, so that a forged postmaster.pid cannot make root signal anybody.
    done = subprocess.run(  # noqa: S603 - a program of the PostgreSQL found, our own arguments
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        **_as_server_user(directory),
    )
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip()
        raise LocalServerError(f"{Path(command[0]).name}: {said}{_tail(directory / 'log')}")


def _postmaster_alive(directory: Path) -> bool:
    try:
        pid = int((directory / "data" / "postmaster.pid").read_text().split("\n")[0])
        os.kill(pid, 0)
    except (OSError, ValueError):
        return False
    return pid > 0  # a negative one is the mark of a single-user session


def persistent_status() -> Server | None:
    """Return the persistent server when it runs and answers, else None.

    Raises LocalServerError when its directory is not privately ours.
    """
    directory = _persistent_directory()
    if not _exists(directory) or not _postmaster_alive(directory):
        return None
    server = Server(str(directory), _PORT, "postgres")
    return server if _answers(server) else None


def start_persistent() -> Server:
    """Start the server that outlives this process, unless it runs already, and return it.

    Its data stays from one start to the next, though not over a power cut. Raises
    PostgreSQLNotFound, or LocalServerError when it does not start or its directory is not ours.
    """
    directory = _persistent_directory()
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    _exists(directory)
    _give(directory)
    with _locked(directory):
        if running := persistent_status():
            return running
        bindir = find_postgres()
        data, unfinished = directory / "data", directory / "data.new"
        if not data.exists():
            # Renamed when whole: an initdb that was cut short is never taken for a cluster.
            shutil.rmtree(unfinished, ignore_errors=True)
            _run(directory, *_initdb(bindir, unfinished, "postgres"))
            unfinished.rename(data)
        options = shlex.join(_options(directory, {}))
        where = [f"--pgdata={data}", f"--log={directory / 'log'}"]
        how = ["--wait", f"--timeout={START_TIMEOUT}", f"--options={options}"]
        _run(directory, str(bindir / "pg_ctl"), "start", *where, *how)
        if running := persistent_status():
            return running
        raise LocalServerError(f"PostgreSQL does not answer:{_tail(directory / 'log')}")


def stop_persistent(*, remove: bool = False) -> bool:
    """Stop the persistent server, with `remove` also its data; tell whether it was running.

    Raises LocalServerError when it cannot be stopped or its directory is not privately ours.
    """
    directory = _persistent_directory()
    if not _exists(directory):
        return False
    with _locked(directory):
        running = persistent_status() is not None
        if running:
            where = f"--pgdata={directory / 'data'}"
            how = ["--mode=fast", "--wait", f"--timeout={STOP_TIMEOUT}"]
            _run(directory, str(find_postgres() / "pg_ctl"), "stop", where, *how)
        elif _postmaster_alive(directory):
            # Perhaps a stale file and a process that only has the number: not ours to kill.
            raise LocalServerError(
                f"the process named in {directory}/data/postmaster.pid does not answer:"
                " stop it, or remove that file when it is no PostgreSQL"
            )
        if remove:
            shutil.rmtree(directory)
    return running


def _parse(database_url: str) -> Server:
    """Return the server of a PostgreSQL URL; ValueError, without the secret text, if it is none."""
    try:
        url = make_url(database_url)
        port = int(str(url.query.get("port") or url.port or _PORT))
    except (ArgumentError, ValueError):
        raise ValueError("DATABASE_URL is not a valid URL") from None
    if url.drivername not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise ValueError(f"DATABASE_URL must begin with postgresql://, not {url.drivername}://")
    query = {key: value for key, value in url.query.items() if isinstance(value, str)}
    if len(query) < len(url.query):
        raise ValueError("DATABASE_URL must not give a parameter twice")
    # libpq lets a parameter override the same thing earlier in the URL.
    return Server(
        host=query.pop("host", "") or url.host or "localhost",
        port=port,
        user=query.pop("user", "") or url.username or getpass.getuser(),
        password=query.pop("password", None) or url.password,
        options=tuple((key, query[key]) for key in sorted(query.keys() - {"dbname", "port"})),
    )


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """Give the server of `DATABASE_URL` where that is set, else a `LocalPostgres` for the block.

    An existing server is neither started nor stopped. Raises ValueError for a URL that is not
    PostgreSQL's, and what `LocalPostgres` raises.
    """
    if database_url := os.environ.get("DATABASE_URL"):
        yield _parse(database_url)
    else:
        with LocalPostgres() as private:
            yield private
