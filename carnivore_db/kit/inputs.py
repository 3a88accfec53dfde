"""What goes in: the input types of the repositories, and the one way they are checked.

The database keeps every rule itself. These types say no earlier, name the field, and never repeat
the value. A rule is named as the database names it.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import wraps
from inspect import signature
from ipaddress import ip_address
from typing import Annotated, ParamSpec, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    validate_call,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from carnivore_db.errors import InvalidInput
from carnivore_db.schema.base import EMAIL_PATTERN, MAX_DEPTH, MAX_NUMBER, JsonObject

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=BaseModel)

KIB = 1024

# Faults of the caller's code, not of a value.
_MISCALLS = frozenset(
    {
        "missing_argument",
        "missing_keyword_only_argument",
        "missing_positional_only_argument",
        "multiple_argument_values",
        "unexpected_keyword_argument",
        "unexpected_positional_argument",
    }
)

_EMAIL = re.compile(EMAIL_PATTERN, re.ASCII)
# A NUL character in JSON text: \u0000 behind an even number of backslashes.
_JSON_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def validated(function: Callable[P, R]) -> Callable[P, R]:
    """Check a function's arguments against their types before it runs.

    Raises InvalidInput for the first value that breaks a rule; TypeError for a wrong call.
    """
    names = list(signature(function).parameters)
    checking = validate_call(config=ConfigDict(arbitrary_types_allowed=True, hide_input_in_errors=True))(
        function
    )

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return checking(*args, **kwargs)
        except ValidationError as error:
            fault = _first(error)
        # Raised here so that the values, which the first error holds, are not chained to it.
        if fault["type"] in _MISCALLS:
            raise TypeError(f"{function.__name__}(): {fault['msg']}: {fault['loc'][0]}")
        place = fault["loc"][0]  # a number for an argument given by position
        outer = names[place] if isinstance(place, int) else str(place)
        raise _invalid(fault, outer, skip=1)

    return call


def parse(model: type[M], value: object, name: str) -> M:
    """`value` as a `model`. Raises InvalidInput, whose field begins with `name`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fault = _first(error)
    raise _invalid(fault, name)


def _first(error: ValidationError) -> ErrorDetails:
    return error.errors(include_input=False, include_url=False)[0]


def _invalid(fault: ErrorDetails, outer: str, *, skip: int = 0) -> InvalidInput:
    inner = fault.get("ctx", {}).get("path")
    place = fault["loc"][skip:]
    if fault["type"] in {"extra_forbidden", "invalid_key"}:
        place = place[:-1]  # a key that nobody knows is a stranger's text
    where = ".".join(str(part) for part in (outer, *place, inner) if part is not None)
    return InvalidInput(where, fault["type"], fault["msg"])


def _text(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("no_nul", "must not hold a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("utf8", "must be text that UTF-8 can hold") from None
    return value


def _email(value: object) -> str:
    given = _text(value) if isinstance(value, str) else ""
    # Some letters become ASCII when they are folded: they are refused before.
    folded = given.strip().lower() if given.isascii() else ""
    if len(folded) > 255 or _EMAIL.fullmatch(folded) is None:
        raise PydanticCustomError("email_valid", "must be an address such as name@example.com")
    return folded


def _not_blank(value: str) -> str:
    if not value.strip():
        raise PydanticCustomError("not_empty", "must not be blank")
    return value


def check_json(value: object, limit: int) -> JsonObject:
    """`value` as a JSON object that PostgreSQL can hold, of at most `limit` bytes of text."""
    if not isinstance(value, Mapping):
        raise PydanticCustomError("json_object", "must be a JSON object")
    _check_json_value(value, MAX_DEPTH)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except (TypeError, ValueError):
        raise PydanticCustomError("json_value", "must hold only what JSON can: no NaN, no dates") from None
    if _JSON_NUL.search(text):
        raise PydanticCustomError("no_nul", "must not hold a NUL character")
    if size > limit:
        raise PydanticCustomError("json_size", "must take at most {limit} bytes", {"limit": limit})
    return dict(value)


def _check_json_value(value: object, levels: int) -> None:
    if levels < 0:
        raise PydanticCustomError("json_value", "must nest at most {depth} deep", {"depth": MAX_DEPTH})
    if isinstance(value, int | float) and abs(value) > MAX_NUMBER:
        raise PydanticCustomError("json_value", "must hold numbers of at most 308 digits")
    if isinstance(value, Mapping):
        for item in value.values():
            _check_json_value(item, levels - 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_json_value(item, levels - 1)


class Hidden(BaseModel):
    """What people say of themselves: it does not belong into a log, so its repr shows nothing."""

    model_config = ConfigDict(hide_input_in_errors=True)

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        """Nothing."""
        return []


class Payload(Hidden):
    """A JSON object that keeps the keys it does not know."""

    model_config = ConfigDict(extra="allow")


def payload(model: type[BaseModel], limit: int) -> PlainValidator:
    """A check of JSON objects: the keys that `model` knows by its types, the others kept as they are."""

    def check(value: object) -> JsonObject:
        if isinstance(value, BaseModel):
            value = value.model_dump(mode="json", exclude_unset=True)
        given = check_json(value, limit)
        try:
            model.model_validate(given, strict=True)
        except ValidationError as error:
            fault = _first(error)
        else:
            return given
        # The failing branch of a union is told by the key alone.
        raise PydanticCustomError(
            "payload", "{reason}", {"path": str(fault["loc"][0]), "reason": fault["msg"]}
        )

    return PlainValidator(check)


def _client_ip(value: object) -> str | None:
    try:
        address = ip_address(str(value).strip())
    except ValueError:
        return None
    # An address with a zone means something on the client's own link alone; inet has none.
    return None if getattr(address, "scope_id", None) else str(address)


def _user_agent(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    cut = value.replace("\0", "").encode("utf-8", "replace").decode()[:1000]
    return cut if cut.strip() else None


def _accessed_at(value: datetime) -> datetime:
    if not datetime(2000, 1, 1, tzinfo=UTC) <= value < datetime(2100, 1, 1, tzinfo=UTC):
        raise PydanticCustomError("accessed_at_in_range", "must lie between 2000 and 2100")
    return value


def _for_text(check: Callable[[str], str]) -> BeforeValidator:
    return BeforeValidator(lambda value: check(value) if isinstance(value, str) else value)


Id = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
Email = Annotated[str, BeforeValidator(_email)]
Text = Annotated[str, Field(strict=True), _for_text(_text)]
FilledText = Annotated[Text, _for_text(_not_blank)]
Limit = Annotated[int, Field(strict=True, ge=1, le=1000)]
Threshold = Annotated[int, Field(strict=True, ge=2, le=2**31 - 1)]
Occurrences = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
BatchSize = Annotated[int, Field(strict=True, ge=1, le=100_000)]
Validity = Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=3653))]
Grace = Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(days=36530))]
AccessedAt = Annotated[AwareDatetime, AfterValidator(_accessed_at)]
# Client metadata never costs a reader the report: what cannot be kept becomes None.
ClientIP = Annotated[str | None, BeforeValidator(_client_ip)]
UserAgent = Annotated[str | None, BeforeValidator(_user_agent)]
