"""How long a session took: derived of its two moments, unless somebody says it."""

from datetime import datetime, timedelta

from carnivore_db.vocabulary import progress, sessions
from carnivore_db.vocabulary.models import User
from tests.support.callers import Caller
from tests.vocabulary.samples import NOON, SERVICE, new_learner, start_session, themselves

TWENTY = NOON + timedelta(minutes=20)


def after(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def minutes(caller: Caller, learner: User) -> int:
    return caller.call(SERVICE, progress.get, learner.id).total_time_spent_minutes


def test_a_duration_is_derived_when_it_is_not_given(caller: Caller) -> None:
    for ended_at, given, duration in (
        (NOON, None, 0),
        (after(0.49), None, 0),
        (after(0.51), None, 1),
        (after(90), None, 90),
        (after(90), 45, 45),
        (after(90), 0, 0),
        (NOON + timedelta(days=5 * 365), None, 100_000),  # nobody ended it for years
    ):
        made = start_session(caller, None)
        ended = caller.call(SERVICE, sessions.end, made.id, ended_at=ended_at, duration_minutes=given)
        assert ended.duration_minutes == duration


def test_a_derived_duration_follows_the_moments_and_a_given_one_does_not(caller: Caller) -> None:
    ada = new_learner(caller)
    derived, given = start_session(caller, ada.id), start_session(caller, ada.id)
    caller.call(SERVICE, sessions.end, derived.id, ended_at=TWENTY)
    caller.call(SERVICE, sessions.end, given.id, ended_at=TWENTY, duration_minutes=9)
    for made, expected in ((derived, 50), (given, 9)):
        corrected = caller.call(themselves(ada), sessions.correct, made.id, ended_at=after(50))
        assert (corrected.ended_at, corrected.duration_minutes) == (after(50), expected)
    corrected = caller.call(themselves(ada), sessions.correct, derived.id, started_at=after(10))
    assert (corrected.started_at, corrected.duration_minutes) == (after(10), 40)
    assert minutes(caller, ada) == 49
    caller.call(themselves(ada), sessions.correct, derived.id, duration_minutes=3)
    assert minutes(caller, ada) == 12


def test_a_duration_given_with_the_moment_is_kept_though_it_is_the_one_derived_before(caller: Caller) -> None:
    made = start_session(caller, None)
    caller.call(SERVICE, sessions.end, made.id, ended_at=TWENTY)
    corrected = caller.call(
        SERVICE, sessions.correct, made.id, ended_at=TWENTY + timedelta(hours=1), duration_minutes=20
    )
    assert corrected.duration_minutes == 20
