"""pytest-alembic's own tests over our history; test_round_trip.py sees what they are blind to."""

from collections.abc import Iterator

import pytest
from alembic.config import Config
from pytest_alembic.tests import (
    test_model_definitions_match_ddl,
    test_single_head_revision,
    test_up_down_consistency,
    test_upgrade,
)
from sqlalchemy import Connection

from carnivore_db.schema import migrations
from tests.migrations.helpers import fresh, opened
from tests.support.databases import Shape, TestDatabase

__all__ = [
    "test_model_definitions_match_ddl",
    "test_single_head_revision",
    "test_up_down_consistency",
    "test_upgrade",
]


@pytest.fixture
def alembic_config() -> Config:
    return migrations.config()


@pytest.fixture(scope="module")
def shared(plain_shape: Shape) -> Iterator[TestDatabase]:
    with fresh(plain_shape) as made:
        yield made


@pytest.fixture
def alembic_engine(shared: TestDatabase) -> Iterator[Connection]:
    """A connection, because that is what alembic/env.py takes, to a database at base."""
    with opened(shared) as connection:
        yield connection
    migrations.downgrade(shared.migrator_url, "base")
