"""Every promise holds, in each of the two shapes."""

import pytest
from _pytest.mark import ParameterSet

from tests.security.personas import Session
from tests.security.promises import PROMISES, Promise


def _cases() -> list[ParameterSet]:
    return [
        pytest.param(
            promise,
            id=promise.name.replace(" ", "_"),
            marks=[pytest.mark.xfail(raises=AssertionError, strict=True, reason=promise.hole)]
            if promise.hole
            else [],
        )
        for promise in PROMISES
    ]


@pytest.mark.parametrize("promise", _cases())
def test_the_promise_is_kept(promise: Promise, session: Session) -> None:
    promise.check(session)
