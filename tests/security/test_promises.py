"""Every promise holds, in each of the two shapes."""

import pytest

from tests.security.personas import Session
from tests.security.promises import PROMISES, Promise


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.name.replace(" ", "_"))
def test_the_promise_is_kept(promise: Promise, session: Session) -> None:
    promise.check(session)
