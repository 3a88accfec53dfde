"""Callers of the weekly repositories on their database."""

import pytest

from tests.support.databases import TestDatabase, empty
from tests.support.fixtures import (  # noqa: F401 - fixtures
    area_database,
    caller,
    caller_in,
    caller_of_each_shape,
    module_caller,
    owner,
    owner_identity,
    owning_caller,
)


@pytest.fixture
def empty_database(area_database: TestDatabase) -> TestDatabase:  # noqa: F811
    empty(area_database, None, but={"pricing_tiers"})  # whose rows are a revision's, not a test's
    return area_database
