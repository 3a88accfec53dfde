"""Sessions of learners and guests: begun, saved, ended once, corrected, listed, handed over."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from carnivore_db import Database, errors
from carnivore_db.vocabulary import progress, sessions
from carnivore_db.vocabulary.models import LearningSession
from carnivore_db.vocabulary.payloads import SessionData, Word, Work
from tests.support.callers import Caller
from tests.support.databases import somebody_waits
from tests.vocabulary.samples import NOBODY, NOON, SERVICE, new_learner, start_session, themselves

WORK = {
    "images_processed": 3,
    "descriptions_generated": 2,
    "qa_attempts": 10,
    "qa_correct": 7,
    "vocabulary_learned": 5,
    "phrases_saved": 1,
}
TWENTY = NOON + timedelta(minutes=20)


def after(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def totals(caller: Caller, user_id: UUID) -> tuple[int, int, int]:
    """Ended sessions, answered questions and minutes of a learner."""
    counted = caller.call(SERVICE, progress.get, user_id)
    return counted.total_sessions, counted.total_questions_answered, counted.total_time_spent_minutes


def facts(session: LearningSession) -> dict[str, Any]:
    return {column: getattr(session, column) for column in LearningSession.__table__.columns.keys()}  # noqa: SIM118


def test_a_session_begins_as_it_was_given(caller_of_each_shape: Caller) -> None:
    ada, key = new_learner(caller_of_each_shape), uuid4()
    made = start_session(
        caller_of_each_shape,
        ada.id,
        session_type="qa",
        session_id=key,
        user_agent="Browser/1.0",
        ip_address=" 2001:DB8::1 ",
        device_type="phone",
    )
    stored = caller_of_each_shape.call(themselves(ada), sessions.get, key)
    assert (stored.id, stored.user_id, stored.session_type) == (key, ada.id, "qa")
    assert (stored.started_at, stored.ended_at, stored.duration_minutes) == (NOON, None, None)
    assert (stored.user_agent, stored.device_type) == ("Browser/1.0", "phone")
    assert stored.ip_address == ip_address("2001:db8::1")
    assert (stored.qa_attempts, stored.session_data, stored.engagement_score) == (0, {}, 0)
    assert facts(stored) == facts(made)


def test_a_session_begins_now_when_nobody_says_when(caller: Caller) -> None:
    ada = new_learner(caller)
    made = caller.call(themselves(ada), sessions.start, "description", user_id=ada.id)
    assert ada.created_at < made.started_at == made.created_at
    guests = caller.call(SERVICE, sessions.start, "description")
    assert (guests.user_id, guests.ended_at) == (None, None)


def test_an_address_is_the_services_to_note(caller: Caller) -> None:
    ada = new_learner(caller)
    with pytest.raises(errors.PermissionRefused):
        start_session_as(caller, ada, ip_address="203.0.113.7")
    assert start_session_as(caller, ada, ip_address="no address").ip_address is None


def start_session_as(caller: Caller, learner: Any, **given: Any) -> LearningSession:
    return caller.call(themselves(learner), sessions.start, "qa", user_id=learner.id, **given)


def test_an_id_that_is_there_already(caller: Caller) -> None:
    ada = new_learner(caller)
    made = start_session(caller, ada.id)
    with pytest.raises(errors.AlreadyExists) as caught:
        start_session_as(caller, new_learner(caller), session_id=made.id)
    assert caught.value.rule == "sessions_pkey"


def test_a_session_that_there_is_not_whatever_is_given(caller: Caller) -> None:
    start_session(caller, None)
    for function, given in (
        (sessions.save, {}),
        (sessions.end, {}),
        (sessions.correct, {}),
        (sessions.correct, {"session_type": "qa"}),
    ):
        with pytest.raises(errors.SessionNotFound):
            caller.call(SERVICE, function, NOBODY, **given)


def test_saving_replaces_numbers_and_merges_material(caller: Caller) -> None:
    ada = new_learner(caller)
    made, mine = start_session(caller, ada.id), themselves(ada)
    caller.call(
        mine, sessions.save, made.id, Work(**WORK), session_data={"vocabulary": [{"word": "sol"}], "a": 1}
    )
    words = SessionData(vocabulary=[Word(word="luna", translation="moon")])
    work = Work(qa_correct=8, engagement_score=0.5)
    saved = caller.call(mine, sessions.save, made.id, work, session_data=words)
    assert {name: getattr(saved, name) for name in WORK} == {**WORK, "qa_correct": 8}
    assert (saved.engagement_score, saved.completion_rate) == (Decimal("0.5"), 0)
    assert saved.session_data == {"vocabulary": [{"word": "luna", "translation": "moon"}], "a": 1}
    assert facts(caller.call(mine, sessions.save, made.id)) == facts(saved)
    assert totals(caller, ada.id) == (0, 0, 0)


def test_material_that_is_too_large_when_merged_leaves_the_session(caller: Caller) -> None:
    made = start_session(caller, None)
    half = "x" * 40_000
    caller.call(SERVICE, sessions.save, made.id, session_data={"a": half})
    with pytest.raises(errors.InvalidInput) as caught:
        caller.call(SERVICE, sessions.save, made.id, Work(qa_attempts=1), session_data={"b": half})
    assert (caught.value.field, caught.value.rule) == ("session_data", "session_data_valid")
    kept = caller.call(SERVICE, sessions.get, made.id)
    assert (kept.session_data, kept.qa_attempts) == ({"a": half}, 0)


def test_more_correct_answers_than_answers_are_refused(caller: Caller) -> None:
    made = start_session(caller, None)
    with pytest.raises(errors.InvalidInput) as caught:
        caller.call(SERVICE, sessions.save, made.id, Work(qa_attempts=1, qa_correct=2))
    assert (caught.value.field, caught.value.rule) == ("qa_correct", "qa_correct_in_range")


def test_an_ended_session_is_counted_with_its_last_numbers(caller: Caller) -> None:
    ada = new_learner(caller)
    made = start_session(caller, ada.id)
    caller.call(themselves(ada), sessions.save, made.id, Work(qa_attempts=99))
    ended = caller.call(themselves(ada), sessions.end, made.id, Work(**WORK), ended_at=TWENTY)
    assert (ended.ended_at, ended.duration_minutes, ended.qa_attempts) == (TWENTY, 20, 10)
    assert totals(caller, ada.id) == (1, 10, 20)


def test_a_session_ends_now_when_nobody_says_when(caller: Caller) -> None:
    began = datetime.now(UTC) - timedelta(minutes=7)
    made = start_session(caller, None, started_at=began)
    ended = caller.call(SERVICE, sessions.end, made.id)
    assert ended.ended_at is not None
    assert ended.ended_at > made.created_at
    assert ended.duration_minutes == 7


def test_a_session_of_a_fast_clock_ends_when_it_began(caller: Caller) -> None:
    ahead = datetime.now(UTC) + timedelta(days=1)
    made = start_session(caller, None, started_at=ahead)
    ended = caller.call(SERVICE, sessions.end, made.id)
    assert (ended.ended_at, ended.duration_minutes) == (ahead, 0)


def test_an_end_before_the_beginning_is_refused(caller: Caller) -> None:
    made = start_session(caller, None)
    with pytest.raises(errors.InvalidInput) as caught:
        caller.call(SERVICE, sessions.end, made.id, ended_at=NOON - timedelta(microseconds=1))
    assert (caught.value.field, caught.value.rule) == ("ended_at", "ended_at_in_range")
    assert caller.call(SERVICE, sessions.get, made.id).ended_at is None


def test_a_session_ends_once(caller: Caller) -> None:
    ada = new_learner(caller)
    made = start_session(caller, ada.id)
    ended = caller.call(SERVICE, sessions.end, made.id, Work(**WORK), ended_at=TWENTY)
    with pytest.raises(errors.SessionEnded) as caught:
        caller.call(SERVICE, sessions.end, made.id, Work(qa_attempts=99), ended_at=after(60))
    assert caught.value.ended_at == TWENTY
    assert facts(caller.call(SERVICE, sessions.get, made.id)) == facts(ended)
    assert totals(caller, ada.id) == (1, 10, 20)


def test_the_end_of_an_ended_session_is_told_in_utc(caller_in: Callable[[str], Caller]) -> None:
    caller = caller_in("Asia/Kolkata")
    made = start_session(caller, None)
    caller.call(SERVICE, sessions.end, made.id, ended_at=TWENTY)
    with pytest.raises(errors.SessionEnded) as caught:
        caller.call(SERVICE, sessions.end, made.id)
    assert caught.value.ended_at is not None
    assert caught.value.ended_at.utcoffset() == timedelta(0)


def test_two_ends_at_once_count_once(jobs: Database, owner: psycopg.Connection, caller: Caller) -> None:
    ada = new_learner(caller)
    made = start_session(caller, ada.id)

    with ThreadPoolExecutor(1) as pool:
        with jobs.transaction(SERVICE) as tx:
            sessions.end(tx, made.id, Work(qa_attempts=5), ended_at=TWENTY)
            again = pool.submit(caller.call, SERVICE, sessions.end, made.id, Work(qa_attempts=7))
            somebody_waits(owner)
        with pytest.raises(errors.SessionEnded) as caught:
            again.result()
    assert caught.value.ended_at == TWENTY
    assert totals(caller, ada.id) == (1, 5, 20)


def test_a_correction_leaves_what_was_not_given(caller: Caller) -> None:
    made = start_session(caller, None)
    ended = caller.call(SERVICE, sessions.end, made.id, Work(**WORK), ended_at=TWENTY)
    assert facts(caller.call(SERVICE, sessions.correct, made.id)) == facts(ended)
    corrected = caller.call(SERVICE, sessions.correct, made.id, session_type="qa")
    assert facts(corrected) == {**facts(ended), "session_type": "qa"}


def test_an_ended_session_is_corrected_with_its_learners_progress(caller: Caller) -> None:
    ada = new_learner(caller)
    made = start_session(caller, ada.id)
    caller.call(SERVICE, sessions.end, made.id, Work(**WORK), ended_at=TWENTY)
    caller.call(themselves(ada), sessions.save, made.id, Work(qa_attempts=8))
    assert totals(caller, ada.id) == (1, 8, 20)


def test_a_reopened_session_goes_on_and_is_counted_when_it_ends_again(caller: Caller) -> None:
    ada = new_learner(caller)
    made = start_session(caller, ada.id)
    caller.call(SERVICE, sessions.end, made.id, Work(qa_attempts=5), ended_at=TWENTY)
    for _ in range(2):
        open_again = caller.call(themselves(ada), sessions.reopen, made.id)
        assert (open_again.ended_at, open_again.duration_minutes, open_again.qa_attempts) == (None, None, 5)
        assert totals(caller, ada.id) == (0, 0, 0)
    caller.call(themselves(ada), sessions.end, made.id, ended_at=after(30))
    assert totals(caller, ada.id) == (1, 5, 30)


@pytest.mark.parametrize("ended_before", [True, False])
def test_a_guests_session_goes_to_who_signed_up(caller: Caller, ended_before: bool) -> None:
    ada = new_learner(caller)
    made = start_session(caller, None)
    steps = [
        (sessions.end, {"work": Work(qa_attempts=5), "ended_at": TWENTY}),
        (sessions.assign, {"user_id": ada.id}),
    ]
    for function, given in steps if ended_before else steps[::-1]:
        caller.call(SERVICE, function, made.id, **given)
    assert caller.call(themselves(ada), sessions.get, made.id).user_id == ada.id
    assert totals(caller, ada.id) == (1, 5, 20)
    eve = new_learner(caller)
    caller.call(SERVICE, sessions.assign, made.id, eve.id)
    assert (totals(caller, ada.id), totals(caller, eve.id)) == ((0, 0, 0), (1, 5, 20))


def test_a_removed_session_is_gone_and_not_counted(caller: Caller) -> None:
    ada = new_learner(caller)
    kept, removed = start_session(caller, ada.id), start_session(caller, ada.id)
    for made in (kept, removed):
        caller.call(SERVICE, sessions.end, made.id, Work(qa_attempts=5), ended_at=TWENTY)
    caller.call(themselves(ada), sessions.remove, removed.id)
    assert totals(caller, ada.id) == (1, 5, 20)
    with pytest.raises(errors.SessionNotFound):
        caller.call(themselves(ada), sessions.remove, removed.id)
