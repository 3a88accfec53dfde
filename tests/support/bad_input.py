"""The way bad input is tested: by the rule it breaks, by the field it is in, and as any value whatever."""

import inspect
from collections.abc import Callable
from types import NoneType
from typing import Any, get_args, get_type_hints

from hypothesis import strategies as st

from carnivore_db import identity
from carnivore_db.errors import CarnivoreError, InvalidInput
from tests.support.callers import Caller
from tests.support.hostile import ANYTHING, attempt

Function = Callable[..., Any]
# For every repository function that takes input, arguments that it accepts.
Good = dict[Function, dict[str, Any]]
# Values by the rule that they break.
Bad = dict[str, list[Any]]

SERVICE = identity.service()


def parameters(function: Function) -> list[str]:
    """The arguments besides the transaction."""
    return [name for name in inspect.signature(function).parameters if name != "tx"]


def takes_none(function: Function, field: str, key: str = "") -> bool:
    """Whether an argument, or a key of the model that it is, may be None; as its type says."""
    hint = get_type_hints(function)[field]
    if key:
        models = [one for one in (hint, *get_args(hint)) if hasattr(one, "model_fields")]
        hint = models[0].model_fields[key].annotation
    return NoneType in get_args(hint)


def refused(
    caller: Caller, good: Good, function: Function, field: str, value: object, *secrets: str
) -> CarnivoreError | None:
    given = {**good[function], field: value}
    return attempt(lambda: caller.call(SERVICE, function, **given), *secrets)


def check(caller: Caller, good: Good, function: Function, field: str, bad: Bad, *, within: str = "") -> None:
    """The function refuses each bad value of a field by the rule it breaks, and None unless its type has it.

    `within`: the values are of this key of the field, and the error names field and key.
    """
    named = f"{field}.{within}" if within else field
    for rule, values in bad.items():
        for value in values:
            error = refused(caller, good, function, field, {within: value} if within else value)
            assert isinstance(error, InvalidInput), (function, rule, type(value), error)
            assert error.field == named, (function, type(value))
            # A length is string_too_long or too_long, as pydantic knows the type or not.
            assert error.rule.removeprefix("string_") == rule.removeprefix("string_"), (function, type(value))
    if not takes_none(function, field, within):
        error = refused(caller, good, function, field, {within: None} if within else None)
        assert isinstance(error, InvalidInput), function
        assert error.field == named, function


def any_value(caller: Caller, good: Good, data: st.DataObject) -> tuple[str, CarnivoreError | None]:
    """Call any of the functions with any value in one argument: its name, and the error if there is one."""
    functions = {function.__module__ + "." + function.__name__: function for function in good}
    function = functions[data.draw(st.sampled_from(sorted(functions)))]
    name = data.draw(st.sampled_from(parameters(function)))
    arguments = {**good[function], name: data.draw(ANYTHING)}
    return name, attempt(lambda: caller.call(SERVICE, function, **arguments))
