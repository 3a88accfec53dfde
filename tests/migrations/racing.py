"""Two processes that migrate at the same moment; threads would share Alembic's module globals."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier

from sqlalchemy import URL

from carnivore_db.schema import migrations

PATIENCE = 60
# Upgrades two databases to head at once; the revisions that each process applied.
Race = Callable[[URL, URL], list[list[str]]]
_start: list[Barrier] = []


@contextmanager
def racers() -> Iterator[Race]:
    """Processes that have everything imported and wait for the word.

    Raises RuntimeError with the text of what a process raised.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, _prepare, (context.Barrier(2),)) as pool:
        yield lambda *urls: [
            running.result(PATIENCE) for running in [pool.submit(_upgrade, url) for url in urls]
        ]


def _prepare(gate: Barrier) -> None:
    _start.append(gate)


def _upgrade(url: URL) -> list[str]:
    applied: list[str] = []
    # Neither goes on before the other has arrived, so they are two different processes.
    _start[0].wait(PATIENCE)
    try:
        migrations.upgrade(url, on_step=applied.append)
    except Exception as error:  # noqa: BLE001 - a driver's error may not survive the way between processes
        raise RuntimeError(f"{type(error).__name__}: {error}") from None
    return applied
