"""One row or an error, as it is stored now; and deletions in batches."""

from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Delete, Select, delete, select
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.dml import ReturningDelete, ReturningUpdate

from carnivore_db.errors import CarnivoreError

T = TypeVar("T")

# What a statement returns is what the database has, also for a row that this transaction read before.
FRESH = {"populate_existing": True}


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


def purge(
    tx: Session, key: InstrumentedAttribute[Any], *which: ColumnElement[bool], oldest: Any, batch: int
) -> int:
    """Delete up to `batch` rows that nobody has locked, smallest `oldest` first. Returns how many went."""
    due = select(key).where(*which).order_by(oldest).limit(batch).with_for_update(skip_locked=True)
    # Once: as a plain subquery a plan may run it for each row of the DELETE, and lock and delete more.
    once = due.cte("due").prefix_with("MATERIALIZED")
    gone: Delete = delete(key.class_).where(key.in_(select(*once.c)))
    return len(tx.scalars(gone.returning(key)).all())
