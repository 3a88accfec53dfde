"""Other processes: scripts that own servers, waiting for what they bring about."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

DEADLINE = 60
_ROOT = Path(__file__).parents[2]


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
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def python(script: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script beside the block; it is killed at the end, unless it ended before."""
    command = [sys.executable, "-c", script]  # from the root, so that it imports this checkout
    with subprocess.Popen(
        command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()
