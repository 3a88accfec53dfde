"""Two processes that migrate at the same moment; threads would share Alembic's module globals."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier

from sqlalchemy import URL

from carnivore_db.schema import migrations

RACERS = 2
PATIENCE = 60
_start: list[Barrier] = []


class Racers:
    """Processes that have everything imported and wait for the word."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def upgrade(self, urls: Sequence[URL]) -> list[list[str]]:
        """Upgrade each URL to head, all at once; the revisions that each process applied.

        Raises RuntimeError with the text of what a process raised.
        """
        assert len(urls) == RACERS
        return [running.result(PATIENCE) for running in [self._pool.submit(_upgrade, url) for url in urls]]


@contextmanager
def racers() -> Iterator[Racers]:
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(RACERS)
    with ProcessPoolExecutor(RACERS, context, _prepare, (gate,)) as pool:
        yield Racers(pool)


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
