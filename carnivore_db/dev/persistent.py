"""The private PostgreSQL of `carnivore-db local`: it outlives the process that starts it."""

import fcntl
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from carnivore_db.dev.local import Server
from carnivore_db.dev.postgres_install import find_postgres, major
from carnivore_db.dev.postgres_process import (
    PORT,
    START_TIMEOUT,
    STOP_TIMEOUT,
    account,
    as_server_user,
    hand_over,
    initdb_command,
    server_options,
    tail,
)
from carnivore_db.errors import LocalServerError


def start() -> Server:
    """Start the server, unless it runs already, and return it.

    Its data stays from one start to the next, though not over a power cut. Raises
    PostgreSQLNotFound, or LocalServerError when it does not start or its directory is not ours.
    """
    directory = _directory()
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    _exists(directory)
    hand_over(directory)
    with _locked(directory):
        if running := status():
            return running
        bindir = find_postgres()
        data, unfinished = directory / "data", directory / "data.new"
        if not data.exists():
            # Renamed when whole: an initdb that was cut short is never taken for a cluster.
            shutil.rmtree(unfinished, ignore_errors=True)
            _run(directory, *initdb_command(bindir, unfinished, "postgres"))
            unfinished.rename(data)
        _same_version(data, bindir)
        where = [f"--pgdata={data}", f"--log={directory / 'log'}"]
        options = shlex.join(server_options(directory, {}))
        how = ["--wait", f"--timeout={START_TIMEOUT}", f"--options={options}"]
        _run(directory, str(bindir / "pg_ctl"), "start", *where, *how)
        if running := status():
            return running
        raise LocalServerError(f"PostgreSQL does not answer:{tail(directory / 'log')}")


def stop(*, remove: bool = False) -> bool:
    """Stop the server, with `remove` delete its data too; tell whether it was running.

    Raises LocalServerError when it cannot be stopped or its directory is not privately ours.
    """
    directory = _directory()
    if not _exists(directory):
        return False
    with _locked(directory):
        running = status() is not None
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


def status() -> Server | None:
    """Return the server when it runs and answers, else None.

    Raises LocalServerError when its directory is not privately ours.
    """
    directory = _directory()
    server = Server(str(directory), PORT, "postgres")
    return server if _exists(directory) and server.answers() else None


def _directory() -> Path:
    return Path(tempfile.gettempdir()) / f"carnivore-db-{os.geteuid()}"


def _exists(directory: Path) -> bool:
    """Tell whether the directory exists; LocalServerError when it is not privately ours."""
    try:
        found = os.lstat(directory)
    except FileNotFoundError:
        return False
    server_user = account()
    ours = {os.geteuid(), server_user.pw_uid if server_user else os.geteuid()}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in ours or found.st_mode & 0o077:
        raise LocalServerError(
            f"{directory} is not a private directory of this user (it is a link, belongs to"
            " somebody else, or others may enter it): remove it, or set TMPDIR"
        )
    return True


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other starts and stops out; the lock ends with the process that holds it."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _same_version(data: Path, bindir: Path) -> None:
    made, found = (data / "PG_VERSION").read_text().strip(), major(bindir)
    if made != str(found):
        raise LocalServerError(
            f"the private server's data was made by PostgreSQL {made}, and {bindir} is {found}: set"
            f" CARNIVORE_DB_LOCAL_MAJOR={made}, or delete the data with `carnivore-db local stop --remove`"
        )


def _run(directory: Path, *command: str) -> None:
    # As the server's user, so that a forged postmaster.pid cannot make root signal anybody.
    done = subprocess.run(  # noqa: S603 - a program of the PostgreSQL found, our own arguments
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        **as_server_user(directory),
    )
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip()
        raise LocalServerError(f"{Path(command[0]).name}: {said}{tail(directory / 'log')}")


def _postmaster_alive(directory: Path) -> bool:
    try:
        pid = int((directory / "data" / "postmaster.pid").read_text().split("\n")[0])
        os.kill(pid, 0)
    except (OSError, ValueError):
        return False
    return pid > 0  # a negative one is the mark of a single-user session
