"""One row or an error, as it is stored now."""

from typing import TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningDelete, ReturningUpdate

from carnivore_db.errors import CarnivoreError

T = TypeVar("T")

# What a statement returns is what the database has, also for a row that this transaction read before.
FRESH = {"populate_existing": True}


def first(tx: Session, statement: Select[T]) -> T | None:
    """The row that `statement` finds, which selects by a unique key, or None."""
    found: T | None = tx.scalars(statement, execution_options=FRESH).one_or_none()
    return found


def one(
    tx: Session,
    statement: Select[T] | ReturningUpdate[T] | ReturningDelete[T],
    missing: type[CarnivoreError],
) -> T:
    """The one row that `statement` finds, or touches and returns. Raises `missing` when there is none."""
    found: T | None = tx.scalars(statement, execution_options=FRESH).one_or_none()
    if found is None:
        raise missing
    return found
