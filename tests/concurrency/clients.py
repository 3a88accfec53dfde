"""Many connections at work at once, while others look on."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg

from tests.support.databases import TestDatabase

CLIENTS = 8
Look = Callable[[psycopg.Connection], None]


def at_once(database: TestDatabase, work: Callable[[int, psycopg.Connection], None]) -> None:
    """Run `work` on eight connections of the application's login; the first failure is raised."""
    barrier = threading.Barrier(CLIENTS)

    def client(number: int) -> None:
        with database.connect(database.shape.login, autocommit=True) as connection:
            barrier.wait()
            work(number, connection)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))


@contextmanager
def watched(database: TestDatabase, *looks: Look) -> Iterator[None]:
    """Look over and over, each time in one snapshot, while the block runs; each observer by itself."""
    seen: set[Look] = set()
    over = threading.Event()

    def watch(look: Look) -> None:
        with database.connect(autocommit=True) as connection:
            while not over.is_set():
                look(connection)
                seen.add(look)

    with ThreadPoolExecutor(len(looks)) as pool:
        watching = [pool.submit(watch, look) for look in looks]
        try:
            yield
        finally:
            over.set()
        for observer in watching:
            observer.result()
    assert seen == set(looks)
