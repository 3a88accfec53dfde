"""Commands that are killed at random moments on a server of their own: the process, its backend, the server.

SIGKILL of a backend makes PostgreSQL restart all others and recover; of the server, whoever owns it.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg
from psycopg.conninfo import make_conninfo

from carnivore_db.dev.local import Server
from carnivore_db.dev.postgres_install import find_postgres
from carnivore_db.dev.postgres_process import (
    PORT,
    as_server_user,
    hand_over,
    initdb_command,
    server_options,
)
from tests.support.databases import TestDatabase
from tests.support.processes import eventually

Victim = Literal["process", "backend", "server"]
VICTIMS: tuple[Victim, ...] = ("process", "backend", "server")
_NAME = "to be killed"
_BACKENDS = f"SELECT pid FROM pg_stat_activity WHERE application_name = '{_NAME}'"
_ROOT = Path(__file__).parents[3]
# What is committed must outlive the server, as anywhere but in the other tests.
_SETTINGS = {"synchronous_commit": "on", "full_page_writes": "on", "restart_after_crash": "on"}


class Killable:
    """A PostgreSQL that may be killed and started again."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="cdb-kill-"))
        hand_over(self.directory)
        self._run(initdb_command(find_postgres(), self.directory / "data", "postgres"))
        self.server = Server(str(self.directory), PORT, "postgres")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def _run(self, command: Sequence[str]) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **as_server_user(self.directory))

    def start(self) -> None:
        """Again and again: the backends of a killed server end a moment after it."""

        def runs() -> bool:
            if self._process is None or self._process.poll() is not None:
                command = [
                    str(find_postgres() / "postgres"),
                    "-D",
                    str(self.directory / "data"),
                    *server_options(self.directory, _SETTINGS),
                ]
                with (self.directory / "log").open("ab") as log:
                    self._process = subprocess.Popen(
                        command, stdout=log, stderr=log, **as_server_user(self.directory)
                    )
            return self.server.answers()

        assert eventually(runs), (self.directory / "log").read_text()[-2000:]

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)
        shutil.rmtree(self.directory)


@contextmanager
def killable() -> Iterator[Killable]:
    made = Killable()
    try:
        yield made
    finally:
        made.stop()


@dataclass(frozen=True)
class Job:
    """A database with something to do, and the arguments of `carnivore-db` that do it."""

    database: TestDatabase
    arguments: Sequence[str]


@dataclass(frozen=True)
class Killed:
    """What happened: after so many seconds of work; `ended`: the command had ended before."""

    victim: Victim
    seconds: float
    ended: bool


@contextmanager
def running(job: Job) -> Iterator[subprocess.Popen[bytes]]:
    """`carnivore-db` at work."""
    environment = os.environ | {
        "DATABASE_URL": job.database.migrator_url.render_as_string(hide_password=False),
        "PGAPPNAME": _NAME,
    }
    script = f"from carnivore_db.cli import app; app({list(job.arguments)!r})"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=_ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def backends(server: Server) -> list[int]:
    """The processes of the server that work for the command; none while it recovers."""
    with suppress(psycopg.OperationalError):
        conninfo = make_conninfo(server.dsn("postgres"), connect_timeout=5)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            return [pid for (pid,) in connection.execute(_BACKENDS)]
    return []


def undisturbed(server: Server, job: Job) -> float:
    """How many seconds the command works in the database; it must succeed."""
    with running(job) as process:
        assert eventually(lambda: bool(backends(server)) or process.poll() is not None)
        began = time.monotonic()
        said, _ = process.communicate()
        assert process.returncode == 0, said.decode()
        return time.monotonic() - began


def kill(killed: Killable, job: Job, victim: Victim, seconds: float) -> Killed:
    """Run the command, kill the victim when it has worked for so long, and bring back what has to be."""
    with running(job) as process:
        found: list[int] = []

        def works() -> bool:
            found[:] = backends(killed.server)
            return bool(found) or process.poll() is not None

        assert eventually(works)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        ended = process.poll() is not None
        if victim == "process":
            process.kill()
        elif victim == "server":
            killed.kill()
        else:
            for pid in backends(killed.server):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=60)
    killed.start()
    assert eventually(lambda: killed.server.answers() and not backends(killed.server))
    return Killed(victim, seconds, ended)


def survives(
    killed: Killable,
    fresh: Callable[[], AbstractContextManager[Job]],
    check: Callable[[TestDatabase, bool], None],
    *,
    points: int,
    seed: int | None = None,
) -> list[Killed]:
    """Kill a command at so many random points of its work, the victims in turn, each time with a fresh job;
    check what is left, run it again to its end, and check again.

    `check(database, finished)` raises AssertionError. The seed is printed; given again, it brings the same
    points.
    """
    seed = random.randrange(2**32) if seed is None else seed  # noqa: S311 - a test's choice, repeatable
    print(f"seed of the points: {seed}")  # noqa: T201 - pytest shows it when the test fails
    chosen = random.Random(seed)  # noqa: S311
    with fresh() as job:
        longest = undisturbed(killed.server, job)
        check(job.database, True)
    done = []
    for point in range(points):
        # One in each part of its time, or chance would leave long stretches out.
        seconds = longest * (point + chosen.random()) / points
        with fresh() as job:
            done.append(kill(killed, job, VICTIMS[point % 3], seconds))
            print(done[-1])  # noqa: T201
            check(job.database, False)
            undisturbed(killed.server, job)
            check(job.database, True)
    return done
