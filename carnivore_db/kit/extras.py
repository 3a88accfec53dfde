"""The guard around imports that need an optional extra."""

from collections.abc import Iterator
from contextlib import contextmanager

from carnivore_db.errors import MissingExtra


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around imports that need the extra `name`. Raises MissingExtra, which says what to install."""
    try:
        yield
    except ImportError as error:
        raise MissingExtra(name, error.name) from None
