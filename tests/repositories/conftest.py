"""Callers of all areas' repositories on one database, and arguments that the functions accept."""

from collections.abc import Callable, Iterator

import pytest
from psycopg.rows import dict_row

from tests.conversation import arguments as chat
from tests.conversation.samples import tidy
from tests.support.bad_input import Good
from tests.support.callers import Caller
from tests.support.databases import TestDatabase
from tests.support.fixtures import (  # noqa: F401 - fixtures
    area_database,
    module_caller,
    owner_identity,
    owning_caller,
)
from tests.vocabulary import arguments as vocabulary
from tests.vocabulary.samples import new_learner
from tests.weekly import arguments as weekly


@pytest.fixture(scope="module")
def new_arguments(module_caller: Caller, area_database: TestDatabase) -> Iterator[Callable[[], Good]]:  # noqa: F811
    """Makes rows, and arguments about them."""
    tidy(area_database)  # another module's examples may have retired a scene, or changed a limit
    with area_database.connect(autocommit=True) as owner:
        owner.row_factory = dict_row

        def make() -> Good:
            return {
                **weekly.good_arguments(module_caller),
                **vocabulary.good_arguments(module_caller, new_learner(module_caller)),
                **chat.good_arguments(module_caller, owner),
            }

        yield make


@pytest.fixture(scope="module")
def good(new_arguments: Callable[[], Good]) -> Good:
    return new_arguments()
