"""The way bad input is tested: by the rule it breaks, by the field it is in, and as any value whatever."""

import inspect
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from carnivore_db import identity
from carnivore_db.errors import CarnivoreError, InvalidInput
from tests.support.callers import Caller
from tests.support.hostile import ANYTHING, MARK, attempt

# For every repository function that takes input, arguments that it accepts.
Good = dict[Callable[..., Any], dict[str, Any]]
Bad = dict[str, list[Any]]

SERVICE = identity.service()
BAD_TEXTS: Bad = {
    "no_nul": [MARK + "\0"],
    "utf8": [MARK + "\ud800"],
    "string_type": [5, MARK.encode(), [MARK]],
}
BAD_UUIDS: Bad = {"uuid_parsing": [MARK, ""], "uuid_type": [5, [MARK]]}
BAD_LIMITS: Bad = {
    "int_type": ["5", 5.0, True, None],
    "greater_than_equal": [0, -1, -(2**70)],
    "less_than_equal": [1001, 2**70],
}
BAD_ADDRESSES: Bad = {
    "email_valid": [
        *(f"{MARK}{rest}" for rest in ("", "@x.c|d", "|d@x.com", "@x", "@x..com", "@-x.com", "@x.com@x.com")),
        *(
            f"{MARK}@x.{rest}"
            for rest in ("c", "c0m", "com.", "com x", "com\nx", "\N{CYRILLIC SMALL LETTER ES}om")
        ),
        *(f"{MARK}{rest}@x.com" for rest in (" ", "\u00e4", "<", '"', ",", ";", "\\")),
        MARK * 30 + "@example.com",
        "",
        "@x.com",
        5,
        MARK.encode(),
        [MARK],
    ],
    "no_nul": [f"{MARK}\0@x.com"],
    "utf8": [f"{MARK}\ud800@x.com"],
}


def refused(
    caller: Caller, good: Good, function: Callable[..., Any], field: str, value: object, *secrets: str
) -> CarnivoreError | None:
    given = {**good[function], field: value}
    return attempt(lambda: caller.call(SERVICE, function, **given), *secrets)


def check(
    caller: Caller, good: Good, functions: Any, field: str, bad: Bad, *, within: str | None = None
) -> None:
    """Each of the functions refuses each bad value of a field by the rule it breaks.

    `within`: the values are of this key of the field, and the error names field and key.
    """
    named = f"{field}.{within}" if within else field
    for function in functions:
        for rule, values in bad.items():
            for value in values:
                given = {within: value} if within else value
                error = refused(caller, good, function, field, given)
                assert isinstance(error, InvalidInput), (function, rule, type(value))
                assert error.field == named, (function, type(value))
                # A length is string_too_long or too_long, as pydantic knows the type or not.
                assert error.rule.removeprefix("string_") == rule.removeprefix("string_"), (
                    function,
                    type(value),
                )


def any_value(caller: Caller, good: Good, data: st.DataObject) -> tuple[str, CarnivoreError | None]:
    """Call any of the functions with any value in one argument: its name, and the error if there is one."""
    functions = {function.__module__ + "." + function.__name__: function for function in good}
    function = functions[data.draw(st.sampled_from(sorted(functions)))]
    names = [name for name in inspect.signature(function).parameters if name != "tx"]
    name = data.draw(st.sampled_from(names))
    arguments = {**good[function], name: data.draw(ANYTHING)}
    return name, attempt(lambda: caller.call(SERVICE, function, **arguments))


def insert(tx: Session, table: str, row: dict[str, Any]) -> None:
    """Put a row into a table, past all input types; as in the models, a bare name is of public."""
    table = table if "." in table else f"public.{table}"
    columns, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    tx.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({values})"), row)
