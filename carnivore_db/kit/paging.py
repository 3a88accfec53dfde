"""Pages of rows in a stable order: one Cursor and one Page for all lists that can grow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, NamedTuple, TypeVar
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime
from pydantic_core import PydanticCustomError

from carnivore_db.kit.inputs import Id

Row = TypeVar("Row")


class Cursor(NamedTuple):
    """Where a page ended: the timestamp that the list is ordered by, and the id of the last row."""

    at: AwareDatetime
    id: Id | UUID


def _with_id(kind: type) -> AfterValidator:
    def check(cursor: Cursor) -> Cursor:
        if not isinstance(cursor.id, kind):
            raise PydanticCustomError("cursor_of_the_list", "must be where a page of this list ended")
        return cursor

    return AfterValidator(check)


NumberCursor = Annotated[Cursor, _with_id(int)]
UuidCursor = Annotated[Cursor, _with_id(UUID)]


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows in order. `next` is passed as `after` for the following page; None at the end."""

    rows: list[Row]
    next: Cursor | None


def page_of(found: Sequence[Row], limit: int, cursor: Callable[[Row], tuple[object, object]]) -> Page[Row]:
    """A page of at most `limit` rows out of `found`, which holds one more when another page follows.

    `cursor` gives the timestamp and the id of a row.
    """
    shown = list(found[:limit])
    follows = len(found) > limit
    return Page(shown, Cursor(*cursor(shown[-1])) if follows else None)  # type: ignore[arg-type]
