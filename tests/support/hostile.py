"""Values that strangers send, all marked, and the proof that no error and no log line repeats them."""

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import strategies as st

from carnivore_db.errors import CarnivoreError

# Fits a token, an address, a page, a key: whatever quotes a value quotes this.
MARK = "5ec2e7c0ffee"


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def logged() -> Iterator[list[str]]:
    """Everything that is logged meanwhile, with SQLAlchemy as talkative as it can be."""
    handler, root, talkative = _Lines(), logging.getLogger(), logging.getLogger("sqlalchemy")
    before = root.level, talkative.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    talkative.setLevel(logging.DEBUG)
    try:
        yield handler.lines
    finally:
        root.removeHandler(handler)
        root.setLevel(before[0])
        talkative.setLevel(before[1])


def attempt(call: Callable[[], Any], *secrets: str) -> CarnivoreError | None:
    """The error of a call, of our types alone; neither it nor the log quotes a secret."""
    with logged() as lines:
        try:
            call()
        except CarnivoreError as raised:
            error = raised
        else:
            return None
    assert any("BEGIN" in line for line in lines)  # the log is really read
    said = [
        str(error),
        repr(error),
        *map(str, vars(error).values()),
        *traceback.format_exception(error),
        *lines,
    ]
    for secret in (MARK, *secrets):
        assert not any(secret in text for text in said)
    return error


def told(error: BaseException | None) -> list[str]:
    """All that an error says, with every chained one and the local variables of every frame."""
    texts: list[str] = []
    while error is not None:
        frames = traceback.TracebackException.from_exception(error, capture_locals=True, lookup_lines=False)
        texts += [str(error), repr(error), repr(error.args), repr(vars(error)), *frames.format(chain=False)]
        error = error.__cause__ or error.__context__
    return texts


def nested(depth: int) -> list[Any]:
    value: list[Any] = [MARK]
    for _ in range(depth):
        value = [value]
    return value


NO_OBJECTS = [5, 1.5, True, MARK, [MARK], (MARK,), {MARK}, MARK.encode(), object()]
# By the rule that they break.
BAD_OBJECTS: dict[str, list[Any]] = {
    "json_object": NO_OBJECTS,
    "json_value": [
        {MARK: float("nan")},
        {MARK: [{"a": float("inf")}, float("-inf")]},
        {MARK: object()},
        {MARK: {1, 2}},
        {MARK: MARK.encode()},
        {MARK: 1 + 2j},
        {(MARK, 1): 1},
        {MARK.encode(): 1},
        {MARK: "\ud800"},
        {MARK + "\udfff": 1},
        {MARK: nested(10_000)},
        {MARK: 10**5000},
    ],
    "no_nul": [
        {"a": MARK + "\0"},
        {MARK + "\0": 1},
        {"a": [{"b": ["\\\0" + MARK]}]},
        {"a": "\\u0000\0"},
    ],
    "json_size": [{"a": MARK * 900_000}, {"a": ["\N{GRINNING FACE}" + MARK] * 100_000}],
}

NASTY_TEXTS = st.text() | st.sampled_from(
    ["", " ", "\0", MARK + "\0", MARK + "\ud800", MARK * 1000, MARK + "|" + MARK, MARK + "@x.c|d", "\\u0000"]
)
NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([2**31, 2**63, -(2**63) - 1, 2**64, 10**400, 10**4299]),
)
NASTY_OBJECTS = st.recursive(
    st.none() | st.booleans() | NUMBERS | NASTY_TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NASTY_TEXTS | st.sampled_from(["step", "age", "units"]), inner, max_size=3)
    ),
    max_leaves=8,
)
ANYTHING = st.one_of(
    st.none(),
    NUMBERS,
    st.booleans(),
    NASTY_TEXTS,
    st.binary(max_size=70),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.timedeltas(),
    st.dates(),
    st.decimals(),
    st.uuids(),
    st.complex_numbers(),
    NASTY_OBJECTS,
    st.sampled_from([value for values in BAD_OBJECTS.values() for value in values[:6]]),
)
