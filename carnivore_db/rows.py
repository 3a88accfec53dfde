"""Reads that see what is stored now, and writes that say how many rows they must touch."""

from typing import TypeVar

from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from carnivore_db.errors import NotFound

T = TypeVar("T")

# What a statement returns is what the database has, also for a row that this transaction read before.
FRESH = {"populate_existing": True}


def one(
    tx: Session,
    statement: ReturningUpdate[T],
    missing: type[NotFound],
) -> T:
    """The one row that `statement` returns. Raises `missing` when it touched none."""
    found: T | None = tx.scalars(statement, execution_options=FRESH).one_or_none()
    if found is None:
        raise missing
    return found
