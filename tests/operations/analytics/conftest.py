"""An empty database of each shape, in which what a test changes is taken back."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.databases import TestDatabase


@pytest.fixture(scope="module", params=["plain", "supabase"])
def module_database(request: pytest.FixtureRequest) -> Iterator[TestDatabase]:
    """One database for a module, of each shape."""
    shape = request.getfixturevalue(f"{request.param}_shape")
    with shape.clone(request.getfixturevalue(f"{request.param}_template")) as made:
        yield made


@pytest.fixture(scope="module")
def connection(module_database: TestDatabase) -> Iterator[psycopg.Connection]:
    """The superuser's; a test begins and takes back its own transaction."""
    with module_database.connect(autocommit=True) as made:
        yield made
