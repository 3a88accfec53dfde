"""Progress as the repositories show it: read, streaks, words, points, and the proof that it is right."""

from datetime import date, timedelta

import psycopg
import pytest

from carnivore_db import errors
from carnivore_db.vocabulary import progress, sessions
from carnivore_db.vocabulary.models import User, UserProgress
from carnivore_db.vocabulary.payloads import Work
from carnivore_db.vocabulary.progress import Difference
from tests.support.callers import Caller
from tests.vocabulary.samples import NOBODY, NOON, SERVICE, new_learner, start_session, themselves

DAY = timedelta(days=1)
WORK = Work(
    images_processed=3,
    descriptions_generated=2,
    qa_attempts=3,
    qa_correct=2,
    vocabulary_learned=5,
    phrases_saved=1,
)
COUNTED = {
    "total_images": 3,
    "total_descriptions": 2,
    "total_questions_answered": 3,
    "total_questions_correct": 2,
    "total_vocabulary_learned": 5,
    "total_phrases_saved": 1,
    "total_sessions": 1,
    "total_time_spent_minutes": 20,
    "current_streak_days": 1,
    "longest_streak_days": 1,
    "last_streak_date": NOON.date(),
    "average_completion_time_seconds": 1200,
    "last_activity_at": NOON + timedelta(minutes=20),
    "last_description_at": NOON + timedelta(minutes=20),
    "last_qa_session_at": NOON + timedelta(minutes=20),
    "last_vocabulary_practice_at": NOON + timedelta(minutes=20),
}
MOST = 2**31 - 1


def learn(caller: Caller, learner: User, *days: int, work: Work = WORK) -> None:
    """Sessions of twenty minutes, each so many days after the first of May."""
    for day in days:
        began = NOON + day * DAY
        made = start_session(caller, learner.id, started_at=began)
        caller.call(SERVICE, sessions.end, made.id, work, ended_at=began + timedelta(minutes=20))


def read(caller: Caller, learner: User) -> UserProgress:
    return caller.call(themselves(learner), progress.get, learner.id)


def test_progress_is_what_the_ended_sessions_add_up_to(caller_of_each_shape: Caller) -> None:
    ada = new_learner(caller_of_each_shape)
    learn(caller_of_each_shape, ada, 0)
    start_session(caller_of_each_shape, ada.id)
    learn(caller_of_each_shape, new_learner(caller_of_each_shape), 0)
    found = read(caller_of_each_shape, ada)
    assert {name: getattr(found, name) for name in COUNTED} == COUNTED
    assert str(found.average_accuracy) == "66.67"


def test_progress_of_nobody_is_not_found(caller: Caller) -> None:
    for function, given in (
        (progress.get, ()),
        (progress.award_points, (1,)),
        (progress.recompute, ()),
    ):
        with pytest.raises(errors.UserNotFound):
            caller.call(SERVICE, function, NOBODY, *given)
    with pytest.raises(errors.UserNotFound):
        caller.call(SERVICE, progress.save_words, NOBODY, mastered=1, learning=1, new=1)


def test_a_streak_lasts_until_a_whole_day_went_by(caller: Caller) -> None:
    """On each day from the one before the first session: the streak as it is seen then."""
    for days, streaks in (
        ([], [0, 0, 0]),
        ([0], [0, 1, 1, 0, 0]),
        ([0, 0], [0, 1, 1, 0, 0]),
        ([0, 1, 2], [0, 0, 0, 3, 3, 0, 0]),
        ([2, 0, 1], [0, 0, 0, 3, 3, 0, 0]),
        ([0, 1, 2, 4], [0, 0, 0, 0, 0, 1, 1, 0]),
    ):
        ada = new_learner(caller)
        learn(caller, ada, *days)
        found = read(caller, ada)
        seen = [progress.streak_on(found, NOON.date() + day * DAY) for day in range(-1, len(streaks) - 1)]
        assert seen == streaks, days


def test_a_day_is_utcs(caller: Caller) -> None:
    ada = new_learner(caller)
    midnight = NOON + timedelta(hours=12)
    for end in (midnight - timedelta(microseconds=1), midnight):
        made = start_session(caller, ada.id)
        caller.call(SERVICE, sessions.end, made.id, ended_at=end)
    assert progress.streak_on(read(caller, ada), date(2026, 5, 3)) == 2


def test_the_last_active_come_first_and_who_never_was_does_not(caller: Caller) -> None:
    ada, eve, bob = (new_learner(caller) for _ in range(3))
    learn(caller, ada, 5)
    learn(caller, eve, 7, 1)

    def found(**limit: int) -> list[object]:
        return [row.user_id for row in caller.call(SERVICE, progress.recently_active, **limit)]

    assert found() == found(limit=2) == [eve.id, ada.id]
    assert found(limit=1) == [eve.id]
    assert caller.call(themselves(ada), progress.recently_active)[0].user_id == ada.id
    assert caller.call(themselves(bob), progress.recently_active) == []


def test_a_learner_saves_the_words_that_the_app_counts(caller: Caller) -> None:
    ada = new_learner(caller)
    learn(caller, ada, 0)
    saved = caller.call(themselves(ada), progress.save_words, ada.id, mastered=7, learning=0, new=MOST)
    words = ("mastered_words_count", "learning_words_count", "new_words_count")
    for row in (saved, read(caller, ada)):
        assert [getattr(row, name) for name in words] == [7, 0, MOST]
        assert row.total_vocabulary_learned == 5


def test_points_add_up(caller: Caller) -> None:
    ada = new_learner(caller)
    for points, total in ((5, 5), (0, 5), (7, 12)):
        assert caller.call(SERVICE, progress.award_points, ada.id, points).total_points == total
    assert read(caller, ada).total_points == 12


def test_points_that_would_not_fit_are_refused_and_none_is_lost(caller: Caller) -> None:
    ada = new_learner(caller)
    caller.call(SERVICE, progress.award_points, ada.id, MOST - 1)
    with pytest.raises(errors.InvalidInput):
        caller.call(SERVICE, progress.award_points, ada.id, 2)
    assert read(caller, ada).total_points == MOST - 1
    assert caller.call(SERVICE, progress.award_points, ada.id, 1).total_points == MOST


def test_right_progress_has_no_differences(caller: Caller) -> None:
    ada = new_learner(caller)
    assert caller.call(SERVICE, progress.recompute, ada.id) == []
    learn(caller, ada, 0, 1, 5)
    before = read(caller, ada)
    assert caller.call(SERVICE, progress.recompute, ada.id) == []
    assert read(caller, ada).updated_at == before.updated_at


# What somebody wrote by hand, and what it was.
TAMPERED = {
    "total_descriptions": ("99", "2"),
    "total_images": ("0", "3"),
    "total_questions_answered": ("5", "3"),
    "total_questions_correct": ("0", "2"),
    "total_vocabulary_learned": ("6", "5"),
    "total_phrases_saved": ("0", "1"),
    "total_sessions": ("2", "1"),
    "total_time_spent_minutes": ("0", "20"),
    "current_streak_days": ("9", "1"),
    "longest_streak_days": ("9", "1"),
    "last_streak_date": ("2026-05-02", "2026-05-01"),
    "last_activity_at": (None, "2026-05-01T12:20:00+00:00"),
    "last_description_at": ("2026-05-01T12:21:00+00:00", "2026-05-01T12:20:00+00:00"),
    "last_qa_session_at": (None, "2026-05-01T12:20:00+00:00"),
    "last_vocabulary_practice_at": (None, "2026-05-01T12:20:00+00:00"),
}


def write_by_hand(owner: psycopg.Connection, learner: User, values: dict[str, str | None]) -> None:
    changes = ", ".join(f"{name} = %s" for name in values)
    owner.execute(
        f"UPDATE vocabulary.user_progress SET {changes} WHERE user_id = %s", [*values.values(), learner.id]
    )


def test_each_total_written_by_hand_is_named_and_repaired(caller: Caller, owner: psycopg.Connection) -> None:
    ada = new_learner(caller)
    learn(caller, ada, 0)
    for name, (stored, counted) in TAMPERED.items():
        write_by_hand(owner, ada, {name: stored})
        assert caller.call(SERVICE, progress.recompute, ada.id) == [Difference(name, stored, counted)]
        assert caller.call(SERVICE, progress.recompute, ada.id) == []
        found = read(caller, ada)
        assert {each: getattr(found, each) for each in COUNTED} == COUNTED


def test_all_differences_are_repaired_at_once_and_what_is_not_counted_stays(
    caller: Caller, owner: psycopg.Connection
) -> None:
    ada, eve = new_learner(caller), new_learner(caller)
    for learner in (ada, eve):
        learn(caller, learner, 0)
        caller.call(SERVICE, progress.award_points, learner.id, 5)
        caller.call(SERVICE, progress.save_words, learner.id, mastered=1, learning=2, new=3)
        write_by_hand(owner, learner, {name: stored for name, (stored, _) in TAMPERED.items()})
    found = caller.call(SERVICE, progress.recompute, ada.id)
    assert {one.name: (one.stored, one.counted) for one in found} == TAMPERED
    repaired = read(caller, ada)
    assert {each: getattr(repaired, each) for each in COUNTED} == COUNTED
    assert (repaired.total_points, repaired.mastered_words_count, repaired.new_words_count) == (5, 1, 3)
    assert read(caller, eve).total_sessions == 2  # hers is looked at when somebody asks
