"""After a fork (gunicorn --preload, Celery's prefork) a child opens connections of its own."""

import asyncio
import os
from collections.abc import Callable

import pytest
from sqlalchemy import text

from carnivore_db import AsyncDatabase, Database, identity
from tests.support.databases import TestDatabase

BACKEND = text("SELECT pg_backend_pid()")


def in_child(act: Callable[[], int]) -> int:
    """What a forked child finds."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        found = 0
        try:
            found = act()
        finally:
            os.write(writing, str(found).encode())
            os._exit(0)  # nothing of pytest's
    os.close(writing)
    with os.fdopen(reading) as told:
        answer = told.read()
    os.waitpid(child, 0)
    return int(answer)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pytest's own threads
def test_a_child_has_connections_of_its_own(plain_database: TestDatabase) -> None:
    database = Database(plain_database.app_url)

    def backend() -> int:
        with database.transaction(identity.service()) as tx:
            return int(tx.scalar(BACKEND) or 0)

    before = backend()
    assert in_child(backend) not in {0, before}
    assert backend() == before
    database.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_asynchronous_child_too(plain_database: TestDatabase) -> None:
    database = AsyncDatabase(plain_database.app_url)

    async def backend() -> int:
        async with database.transaction(identity.service()) as tx:
            return int(await tx.scalar(BACKEND) or 0)

    with asyncio.Runner() as runner:
        before = runner.run(backend())
        assert in_child(lambda: asyncio.new_event_loop().run_until_complete(backend())) not in {0, before}
        assert runner.run(backend()) == before
        runner.run(database.close())
