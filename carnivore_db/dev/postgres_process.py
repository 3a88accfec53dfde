"""How a private PostgreSQL runs: as whom, from which commands, with which settings."""

import functools
import os
import pwd
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

START_TIMEOUT = 60
STOP_TIMEOUT = 30
PORT = 5432  # only names the socket file; each server has a directory of its own

# The data can always be made again, so durability is traded for speed.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "log_timezone": "UTC",
    "max_connections": "200",
    "synchronous_commit": "off",
    "timezone": "UTC",
}


def account() -> pwd.struct_passwd | None:
    """Return whom the server runs as: PostgreSQL refuses root. None is the present user."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def hand_over(directory: Path) -> None:
    """Give a new directory to the account of the server; root can still enter it."""
    if owner := account():
        os.chown(directory, owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def as_server_user(directory: Path) -> dict[str, Any]:
    """Return the Popen arguments that run a program as the server's user, away from a terminal."""
    user = account()
    # PG* would configure the server behind our back; macOS needs a valid LC_ALL.
    kept = {key: text for key, text in os.environ.items() if not key.startswith(("PG", "LC_"))}
    return {
        "cwd": directory,
        "env": {**kept, "HOME": str(directory), "LC_ALL": "C"},
        "user": user.pw_uid if user else None,
        "group": user.pw_gid if user else None,
        "extra_groups": [] if user else None,
        "start_new_session": True,  # a Ctrl-C in the terminal is for us, not for the server
    }


def initdb_command(bindir: Path, data: Path, user: str) -> list[str]:
    """Return the command that makes a cluster whose superuser, and only login, is `user`."""
    options = ["--auth=trust", "--encoding=UTF8", "--no-sync", "--no-instructions"]
    locale = f"--locale={_locale()}"
    return [str(bindir / "initdb"), f"--pgdata={data}", f"--username={user}", locale, *options]


@functools.cache
def _locale() -> str:
    """Return C.UTF-8 where the system has it, else C."""
    # Asked in another process: setlocale() is global, and unsafe beside other threads.
    probe = "import _locale; _locale.setlocale(_locale.LC_ALL, 'C.UTF-8')"
    done = subprocess.run(  # noqa: S603 - this interpreter, fixed arguments
        [sys.executable, "-ISc", probe], capture_output=True, check=False
    )
    return "C" if done.returncode else "C.UTF-8"


def server_options(directory: Path, settings: Mapping[str, str]) -> list[str]:
    """Return the server's arguments; `settings` override ours, but cannot move it off its socket."""
    place = {"listen_addresses": "", "port": str(PORT), "unix_socket_directories": str(directory)}
    merged = {**_SETTINGS, **settings, **place}
    return [word for name, value in merged.items() for word in ("-c", f"{name}={value}")]


def tail(log: Path) -> str:
    """Return the end of a server's log, indented for an error message."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return "".join(f"\n  {line}" for line in lines[-20:]) or "\n  (the log is empty)"
