"""Limits that the database keeps (document 20251110150000): messages in a time, scenes in a week."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from carnivore_db.conversation.models import Limit, RateLimit
from carnivore_db.errors import NotFound
from carnivore_db.kit.inputs import validated
from carnivore_db.kit.rows import FRESH, one

Allowed = Annotated[int, Field(strict=True, ge=1, le=100_000)]
Span = Annotated[timedelta, Field(ge=timedelta(seconds=1), le=timedelta(days=7))]


def list_all(tx: Session) -> list[RateLimit]:
    """The limits that the caller may see: for a person the enforced ones."""
    return list(tx.scalars(select(RateLimit).order_by(RateLimit.code), execution_options=FRESH))


@validated
def change(
    tx: Session,
    limit: Limit,
    *,
    allowed: Allowed | None = None,
    per: Span | None = None,
    enforced: bool | None = None,
) -> RateLimit:
    """Change a limit, as the service, for what comes after; None leaves a value as it is.

    `per` is 1 second to 7 days, and for completed scenes always the week. Raises InvalidInput.
    """
    given = {"allowed": allowed, "per": per, "enforced": enforced}
    values = {name: value for name, value in given.items() if value is not None}
    mine = RateLimit.code == limit
    if not values:
        return one(tx, select(RateLimit).where(mine), NotFound)
    return one(tx, update(RateLimit).where(mine).values(**values).returning(RateLimit), NotFound)
