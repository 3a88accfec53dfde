"""The weekly repositories, for what every call goes through: their callers on their database."""

from tests.weekly.conftest import (  # noqa: F401 - fixtures
    area_database,
    caller,
    empty_database,
    owner,
)
