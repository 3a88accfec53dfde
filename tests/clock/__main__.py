"""Run pytest as if it began at a moment (UTC): servers under libfaketime, every Python under time-machine.

libfaketime around Python hangs its select(). TZ, where it is set, becomes the servers' time zone too.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from carnivore_db.dev.postgres_install import find_postgres

LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
)


def main(moment: str, *arguments: str) -> int:
    library = next((path for path in LIBRARIES if Path(path).exists()), None)
    if library is None or shutil.which("cc") is None:
        sys.exit("libfaketime or a C compiler is missing: apt-get install faketime gcc libc6-dev")
    start = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    seconds = round((start - datetime.now(UTC)).total_seconds())
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # the servers run as somebody else
        waiting = str(Path(folder) / "epoll.so")
        source = str(Path(__file__).with_name("epoll.c"))
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", waiting, source], check=True)
        wrap(find_postgres(), Path(folder), f"{waiting}:{library}", seconds)
        environment = {
            **os.environ,
            "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(Path(__file__).parent),
            "TESTS_CLOCK_SECONDS": str(seconds),
        }
        early = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
        command = [sys.executable, "-m", "pytest", "-W", early, *arguments]
        return subprocess.run(command, env=environment, check=False).returncode


def wrap(bindir: Path, folder: Path, libraries: str, seconds: int) -> None:
    """Programs that start those of `bindir`, elsewhere in time."""
    clock = f"LD_PRELOAD={libraries} FAKETIME={seconds:+d} FAKETIME_DONT_FAKE_MONOTONIC=1"
    for name in ("initdb", "pg_ctl", "postgres"):
        zone = ' -c timezone="$TZ"' if name == "postgres" and os.environ.get("TZ") else ""
        write(folder / name, f'{clock} exec "{bindir / name}" "$@"{zone}')
    shares = (bindir.parent / "share" / "postgresql", Path("/usr/share/postgresql") / bindir.parent.name)
    share = next(path for path in shares if (path / "extension").is_dir())
    write(folder / "pg_config", f'echo "{share}"')


def write(program: Path, command: str) -> None:
    program.write_text(f"#!/bin/sh\n{command}\n")
    program.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
