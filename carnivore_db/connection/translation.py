"""The driver's errors as the package's, by SQLSTATE, rule and constraint.

What a constraint is about stands on the constraint, in its model (`info`): `field` where its name does not
say, `raises` where a type of its own tells it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from carnivore_db.errors import (
    RAISED_BY,
    AlreadyExists,
    Busy,
    CarnivoreError,
    DatabaseError,
    InvalidInput,
    PermissionRefused,
    SchemaMismatch,
    Unavailable,
)

# A constraint's `info`, by its schema and name; a partition's constraints have their parent's names.
Facts = Mapping[tuple[str, str], Mapping[str, Any]]

# By SQLSTATE, or by its class (its first two characters).
_CODES: dict[str, type[CarnivoreError]] = {
    "08": Unavailable,
    "40": Busy,
    "42501": PermissionRefused,
    "42703": SchemaMismatch,
    "42883": SchemaMismatch,
    "42P01": SchemaMismatch,
    "3F000": SchemaMismatch,
    "53": Unavailable,
    "55P03": Busy,
    "57014": Busy,
    "57P": Unavailable,
}


_SUFFIXES = ("_valid", "_not_empty", "_not_negative", "_positive", "_length", "_in_range")


def _field_of(rule: str) -> str:
    """The field that a check is about, as its name says: a column's name and the kind of rule."""
    suffix = next((suffix for suffix in _SUFFIXES if rule.endswith(suffix)), "")
    return rule.removesuffix(suffix)


class Translation:
    """Raises the package's errors for the driver's. As a context manager: around what goes past SQLAlchemy.

    `facts` returns what the models say of their constraints; it is asked when the first constraint is broken.
    """

    def __init__(self, facts: Callable[[], Facts]) -> None:
        self._facts = facts

    def install(self, engine: Engine) -> None:
        """Translate whatever statements on this engine raise, raw SQL too."""
        event.listen(engine, "handle_error", self._handle)

    def _handle(self, context: ExceptionContext) -> BaseException | None:
        error = context.original_exception
        return self.safe(error) if isinstance(error, psycopg.Error | UnicodeEncodeError) else None

    def __enter__(self) -> None: ...

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, psycopg.Error):
            raise self.safe(error) from error
        if isinstance(error, UnicodeEncodeError):
            raise self.safe(error) from None  # it holds the value

    def safe(self, error: psycopg.Error | UnicodeEncodeError) -> CarnivoreError:
        """`translate`, and the driver's error without its text: it stays chained to ours as its cause."""
        if isinstance(error, UnicodeEncodeError):
            return InvalidInput("value", "not representable in UTF-8")
        translated = self.translate(error)
        if not isinstance(translated, Unavailable):
            # It quotes the failing row.
            error.args = (f"SQLSTATE {error.sqlstate}, rule {error.diag.constraint_name}",)
        return translated

    def translate(self, error: psycopg.Error) -> CarnivoreError:
        """The package's exception for one of the driver's."""
        diag = error.diag
        rule = diag.constraint_name
        if rule in RAISED_BY:
            return RAISED_BY[rule].from_diagnostic(diag)
        # 23001: what RESTRICT refuses, from PostgreSQL 18 on.
        if error.sqlstate in {"23514", "23503", "23001"} and rule:
            info = self._facts().get((diag.schema_name or "", rule), {})
            raises: type[CarnivoreError] | None = info.get("raises")
            return raises() if raises else InvalidInput(info.get("field", _field_of(rule)), rule)
        return _by_code(error)


def _by_code(error: psycopg.Error) -> CarnivoreError:
    diag = error.diag
    code = error.sqlstate or ""
    if code == "23505":
        return AlreadyExists(diag.constraint_name or "")
    if code == "23502":
        return InvalidInput(diag.column_name or "value", "required")
    # 22: PostgreSQL could not take the value; 54: it is too deep or too large; and DataError alone:
    # the driver refused it before it was sent (a NUL character, a date out of range).
    if code[:2] in {"22", "54"} or isinstance(error, psycopg.DataError):
        return InvalidInput(diag.column_name or "value", f"not representable in PostgreSQL {code}".strip())
    for known in (code, code[:3], code[:2]):
        if known in _CODES:
            return _CODES[known]()
    if not code and isinstance(error, psycopg.OperationalError):
        return Unavailable()
    return DatabaseError(error.sqlstate)
