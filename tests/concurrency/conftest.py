"""Where transactions of the chat meet: a database for a file of tests, emptied before each."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from psycopg.rows import dict_row

from carnivore_db import Database, Identity, Settings
from tests.concurrency.meetings import CLIENTS, Arena
from tests.conversation.samples import RESTORE
from tests.support.databases import Shape, TestDatabase, empty


@pytest.fixture(scope="module")
def ground(plain_shape: Shape, plain_template: str) -> Iterator[TestDatabase]:
    """One database for all meetings of a file: a clone of its own would cost each more than the meeting."""
    with plain_shape.clone(plain_template) as made:
        with made.connect(autocommit=True) as owner:
            # Where two meet in a circle, nobody waits long for the verdict.
            owner.execute(f"ALTER DATABASE {made.name} SET deadlock_timeout = '20ms'")
        yield made


@pytest.fixture
def arena(ground: TestDatabase) -> Iterator[Arena]:
    empty(ground, "conversation", but={"event_types", "rate_limits", "scenarios"})
    app, owning = (
        Database(url, settings=Settings(pool_size=CLIENTS)) for url in (ground.app_url, ground.migrator_url)
    )
    with ground.connect(autocommit=True) as owner, ThreadPoolExecutor(CLIENTS) as pool:
        owner.row_factory = dict_row
        owner.execute(RESTORE)
        yield Arena(app, owning, Identity(ground.shape.migrator), owner, pool)
    app.close()
    owning.close()
