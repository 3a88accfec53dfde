"""How the promises about rows are tried, and values that are bad, or good, wherever they stand."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from psycopg.types.json import Jsonb

from tests.security.personas import Session
from tests.security.registry import add
from tests.security.rows import Row, insertion, triggers

CHECK, UNIQUE, FOREIGN = "23514", "23505", "23503"
# All that `counter_examples` was given: the tests of the package's errors read it too.
COUNTER_EXAMPLES: dict[tuple[str, str, str], list[Row]] = {}


def nested(levels: int) -> Jsonb:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"k": found}
    return Jsonb(found)


NO_ADDRESSES = (
    "",
    "eve",
    "eve@example",
    "eve@example.c",
    "eve@example.c|d",
    "eve@example.c0m",
    "eve@@example.com",
    "eve@-example.com",
    "eve@example..com",
    "e ve@example.com",
    "eve@example.com\n",
    "eve@example.com,mallory@example.com",
    "<eve@example.com>",
)
ADDRESSES = ("o'brien@example.com", "eve+test@mail.example.co", "e.v_e-1%@1.de")
NO_OBJECTS = (Jsonb([]), Jsonb("x"), Jsonb(1), Jsonb(None))
# Deeper than 64 levels, or a number that no double holds: no other language could read it back.
NO_JSON = (*NO_OBJECTS, nested(70), Jsonb({"n": 10**309}), Jsonb({"n": {"m": [-(10**309)]}}))


def json_over(limit: int) -> Jsonb:
    return Jsonb({"k": "x" * limit})


def each(column: str, values: tuple[Any, ...]) -> list[Row]:
    return [{column: value} for value in values]


BEFORE, AFTER = ("1999-12-31 23:59:59+00", "-infinity"), ("2100-01-01 00:00:00+00", "infinity")


def no_moments(column: str) -> list[Row]:
    return each(column, BEFORE + AFTER)


def objects(column: str, limit: int) -> list[Row]:
    return each(column, (*NO_JSON, json_over(limit)))


def _refuses(s: Session, *, table: str, rule: str, sqlstate: str, changes: list[Row]) -> None:
    # A foreign key is a trigger itself.
    asker = s.as_("superuser", triggers="origin" if sqlstate == FOREIGN else triggers(table))
    for change in changes:
        asker.refused(*insertion(table, **change), sqlstate=sqlstate, constraint=rule)


def _keeps(s: Session, *, table: str, changes: list[Row]) -> None:
    for change in ({}, *changes):
        with s.undone():
            s.as_("superuser", triggers=triggers(table)).allows(*insertion(table, **change), rows=1)


def _requires(s: Session, *, table: str, column: str) -> None:
    """With every trigger off, so that none can fill it in."""
    asker = s.as_("superuser", triggers="replica")
    error = asker.refused(*insertion(table, **{column: None}), sqlstate="23502")
    assert error.diag.column_name == column


def _fills_in(s: Session, *, table: str, given: tuple[str, ...], condition: str) -> None:
    statement, params = insertion(table, only=given)
    asker = s.as_("superuser", triggers=triggers(table))
    assert asker.value(f"{statement} RETURNING {condition}", params) is True


def counter_examples(bad: Mapping[tuple[str, str, str], list[Row]]) -> None:
    """Table, constraint, SQLSTATE: changes that make a good row bad."""
    COUNTER_EXAMPLES.update(bad)
    for (table, rule, sqlstate), changes in bad.items():
        check = partial(_refuses, table=table, rule=rule, sqlstate=sqlstate, changes=changes)
        add(f"{rule} of {table} refuses its counter-examples", check, f"{table} {rule} rule")


def good_rows(good: Mapping[str, list[Row]]) -> None:
    """Table: changes that leave a good row good, the other side of each limit."""
    for table, changes in good.items():
        add(f"{table} keeps good rows", partial(_keeps, table=table, changes=changes), f"{table} good")


def required(columns: Mapping[str, str]) -> None:
    """Table: the columns that take no NULL, beside those that a primary key holds."""
    for table, names in columns.items():
        for column in names.split():
            check = partial(_requires, table=table, column=column)
            add(f"{table} requires {column}", check, f"{table} {column} required")


def defaults(found: Mapping[str, tuple[tuple[str, ...], str]]) -> None:
    """Table: the columns that are given, and a condition that must be true of the rest."""
    for table, (given, condition) in found.items():
        check = partial(_fills_in, table=table, given=given, condition=condition)
        add(f"{table} fills in its defaults", check, f"{table} default")


def _no_two_rows_have_one_id(s: Session, *, table: str) -> None:
    (known,) = s.superuser.rows(f"SELECT id FROM {table} ORDER BY id LIMIT 1")[0]
    asker = s.as_("superuser", triggers=triggers(table))
    rule = f"{table.split('.')[1]}_pkey"
    asker.refused(*insertion(table, id=known), sqlstate=UNIQUE, constraint=rule)


def one_id(*tables: str) -> None:
    """Tables whose id is their primary key."""
    for table in tables:
        check = partial(_no_two_rows_have_one_id, table=table)
        add(f"no two rows of {table} have one id", check, f"{table} {table.split('.')[1]}_pkey")
