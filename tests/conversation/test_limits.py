"""The week and its limit: so many completed scenes until Monday, whoever asks, whether or not a job ran."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from carnivore_db import errors
from carnivore_db.conversation import limits, messages, profiles, sessions
from carnivore_db.conversation.models import RolePlay
from carnivore_db.conversation.profiles import Allowance
from tests.conversation.completion_law import WEEK, monday_of
from tests.conversation.samples import LONG_AGO, SERVICE, VISITOR, Person, completed, sign_up
from tests.support.callers import Caller
from tests.support.changing import ZONES
from tests.support.databases import one


def play(caller: Caller, person: Person, times: int = 1) -> RolePlay:
    """The person plays scenes to their end. Returns the last one."""
    for _ in range(times):
        made = caller.call(person.identity, sessions.start, person.id, "party")
        done = caller.call(person.identity, sessions.complete, made.id)
    return done


def stored(owner: psycopg.Connection, person: Person) -> tuple[int, int, datetime]:
    row = owner.execute("SELECT * FROM conversation.profiles WHERE id = %s", [person.id]).fetchone()
    assert isinstance(row, dict)
    return row["completed_scenario_count"], row["current_week_completion_count"], row["week_reset_date"]


def monday(owner: psycopg.Connection) -> datetime:
    """The next one, 00:00 UTC, by the database's clock."""
    return monday_of(one(owner, "SELECT now()")) + WEEK


def be_away(owner: psycopg.Connection, person: Person, weeks: int) -> None:
    """As if nothing had been written for the person since: the week that ended then was their last."""
    owner.execute(
        "UPDATE conversation.profiles AS p SET week_reset_date = %s, current_week_completion_count ="
        " (SELECT count(*) FROM conversation.sessions AS s WHERE s.user_id = p.id AND s.completed_at >= %s)"
        " WHERE p.id = %s",
        [monday(owner) - weeks * WEEK, monday(owner) - (weeks + 1) * WEEK, person.id],
    )


@pytest.mark.document(43)
def test_three_scenes_a_week(caller_of_each_shape: Caller, signed_up: Callable[[], Person]) -> None:
    caller, ada, eve = caller_of_each_shape, signed_up(), signed_up()
    resets = caller.call(ada.identity, profiles.get, ada.id).week_reset_date
    assert caller.call(ada.identity, profiles.allowance, ada.id) == Allowance(3, 0, resets)
    play(caller, ada, 3)
    full = caller.call(ada.identity, profiles.allowance, ada.id)
    assert (full, full.remaining) == (Allowance(3, 3, resets), 0)
    for who in (ada.identity, SERVICE):
        with pytest.raises(errors.WeeklyLimitReached) as caught:
            caller.call(who, sessions.start, ada.id, "party")
        assert caught.value.resets_at == resets
        assert caught.value.resets_at.utcoffset() == timedelta(0)
        assert resets.astimezone(UTC).isoformat() in str(caught.value)
    play(caller, eve)  # another person's week is their own
    assert caller.call(SERVICE, profiles.allowance, eve.id).remaining == 2


@pytest.mark.document(43)
def test_what_began_in_time_may_end_too_late(
    caller: Caller, owner: psycopg.Connection, person: Person
) -> None:
    made = caller.call(person.identity, sessions.start, person.id, "party")
    for _ in range(3):
        completed(owner, person, datetime.now(UTC))
    # Whoever has an open session gets it back.
    assert caller.call(person.identity, sessions.start, person.id, "party").id == made.id
    for who in (person.identity, SERVICE):
        with pytest.raises(errors.WeeklyLimitReached) as caught:
            caller.call(who, sessions.complete, made.id)
        assert caught.value.resets_at == monday(owner)
    assert not caller.call(person.identity, sessions.get, made.id).is_completed
    assert stored(owner, person)[:2] == (3, 3)
    caller.call(person.identity, sessions.abandon, made.id)


@pytest.mark.document(43)
def test_other_weeks_are_nobodys_limit(caller: Caller, owner: psycopg.Connection, person: Person) -> None:
    play(caller, person, 3)
    for _ in range(4):
        completed(owner, person, LONG_AGO)
    assert stored(owner, person)[:2] == (7, 3)
    with pytest.raises(psycopg.Error) as caught:
        completed(owner, person, datetime.now(UTC))
    assert (caught.value.sqlstate, caught.value.diag.constraint_name) == ("PT429", "weekly_limit")


@pytest.mark.document(43)
def test_a_scene_that_is_taken_back_may_be_played_again(caller: Caller, person: Person) -> None:
    last = play(caller, person, 3)
    caller.call(SERVICE, sessions.reopen, last.id)
    assert caller.call(person.identity, profiles.allowance, person.id).remaining == 1
    assert caller.call(person.identity, sessions.complete, last.id).is_completed


@pytest.mark.document(2, 43)
def test_a_week_that_is_over_limits_nobody(caller: Caller, owner: psycopg.Connection, person: Person) -> None:
    """Before any job ran: the allowance, the start and the completion know what day it is."""
    for _ in range(3):
        completed(owner, person, monday(owner) - WEEK - timedelta(seconds=1))
    be_away(owner, person, 1)
    assert stored(owner, person)[:2] == (3, 3)
    assert caller.call(person.identity, profiles.allowance, person.id) == Allowance(3, 0, monday(owner))
    play(caller, person)
    assert stored(owner, person) == (4, 1, monday(owner))


@pytest.mark.document(2)
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("weeks", [1, 2, 5, 60])
def test_the_reset_is_right_after_any_absence_and_run_twice(
    owner: psycopg.Connection, person: Person, weeks: int, zone: str
) -> None:
    this_monday = monday(owner) - WEEK
    instant = timedelta(microseconds=1)
    for moment in (
        *(this_monday - place * WEEK - instant for place in range(1, 4)),
        *(this_monday - instant, this_monday, this_monday + instant),
    ):
        completed(owner, person, moment)
    be_away(owner, person, weeks)
    owner.execute("SELECT set_config('TimeZone', %s, false)", [zone])
    assert stored(owner, person)[2] == monday(owner) - weeks * WEEK
    assert one(owner, "SELECT conversation.reset_weekly_limits()") == 1
    assert stored(owner, person) == (6, 2, monday(owner))
    before = owner.execute("SELECT p.*, p.xmin FROM conversation.profiles AS p").fetchall()
    assert one(owner, "SELECT conversation.reset_weekly_limits()") == 0
    assert owner.execute("SELECT p.*, p.xmin FROM conversation.profiles AS p").fetchall() == before


@pytest.mark.document(2)
def test_who_is_in_time_is_left_alone(caller: Caller, owner: psycopg.Connection, person: Person) -> None:
    play(caller, person)
    away = sign_up(owner)
    be_away(owner, away, 2)
    before = owner.execute(
        "SELECT p.*, p.xmin FROM conversation.profiles AS p WHERE id = %s", [person.id]
    ).fetchall()
    assert one(owner, "SELECT conversation.reset_weekly_limits()") == 1
    after = owner.execute(
        "SELECT p.*, p.xmin FROM conversation.profiles AS p WHERE id = %s", [person.id]
    ).fetchall()
    assert after == before


@pytest.mark.document(31)
def test_the_reset_takes_a_batch_and_who_waited_longest_comes_first(owner: psycopg.Connection) -> None:
    people = [sign_up(owner) for _ in range(5)]
    for weeks, person in enumerate(people, start=1):
        be_away(owner, person, weeks)
    for expected, waiting in ((2, people[:3]), (2, people[:1]), (1, []), (0, [])):
        assert one(owner, "SELECT conversation.reset_weekly_limits(2)") == expected
        assert [one.id for one in people if stored(owner, one)[2] < monday(owner)] == [
            one.id for one in waiting
        ]


@pytest.mark.document(43)
def test_the_limits_are_the_services_to_change(
    caller_of_each_shape: Caller, signed_up: Callable[[], Person]
) -> None:
    caller, ada = caller_of_each_shape, signed_up()
    for who in (SERVICE, ada.identity):
        found = caller.call(who, limits.list_all)
        assert [(limit.code, limit.allowed, limit.per, limit.enforced) for limit in found] == [
            ("completed_scenarios", 3, timedelta(days=7), True),
            ("messages", 30, timedelta(minutes=1), True),
        ]
    changed = caller.call(SERVICE, limits.change, "completed_scenarios", allowed=1)
    assert (changed.allowed, changed.per, changed.enforced) == (1, timedelta(days=7), True)
    play(caller, ada)
    with pytest.raises(errors.WeeklyLimitReached):
        caller.call(ada.identity, sessions.start, ada.id, "party")
    assert (
        caller.call(SERVICE, limits.change, "completed_scenarios").allowed == 1
    )  # nothing given, nothing changed
    caller.call(SERVICE, limits.change, "completed_scenarios", allowed=2)
    play(caller, ada)
    for who in (ada.identity, VISITOR):
        with pytest.raises(errors.PermissionRefused):
            caller.call(who, limits.change, "completed_scenarios", allowed=100)
    with pytest.raises(errors.PermissionRefused):
        caller.call(VISITOR, limits.list_all)


@pytest.mark.document(43)
def test_a_limit_that_is_not_enforced_stops_nobody(caller: Caller, person: Person) -> None:
    for limit in ("completed_scenarios", "messages"):
        changed = caller.call(SERVICE, limits.change, limit, allowed=1, enforced=False)
        assert (changed.allowed, changed.enforced) == (1, False)
    assert caller.call(person.identity, limits.list_all) == []
    play(caller, person, 4)
    free = caller.call(person.identity, profiles.allowance, person.id)
    assert (free.allowed, free.used, free.remaining) == (None, 4, None)
    made = caller.call(person.identity, sessions.start, person.id, "party")
    for _ in range(3):
        caller.call(person.identity, messages.send, made.id, "Hallo!")
    caller.call(SERVICE, limits.change, "completed_scenarios", enforced=True)
    # Four are completed and one is allowed: nothing is left, not less than nothing.
    late = caller.call(person.identity, profiles.allowance, person.id)
    assert (late.allowed, late.used, late.remaining) == (1, 4, 0)
    with pytest.raises(errors.WeeklyLimitReached):
        caller.call(person.identity, sessions.complete, made.id)


@pytest.mark.document(43)
def test_a_message_too_many_waits(caller: Caller, person: Person) -> None:
    caller.call(SERVICE, limits.change, "messages", allowed=2, per=timedelta(hours=1))
    made = caller.call(person.identity, sessions.start, person.id, "party")
    for _ in range(2):
        caller.call(person.identity, messages.send, made.id, "Hallo!")
    with pytest.raises(errors.RateLimited) as caught:
        caller.call(person.identity, messages.send, made.id, "Hallo?")
    assert timedelta(minutes=30) < caught.value.retry_after <= timedelta(hours=1)
    # The partner is not the person: it answers.
    caller.call(SERVICE, messages.send, made.id, "Ja?", role="main_assistant")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"limit": "completed_scenarios", "per": timedelta(days=1)}, ("per", "per_is_the_week")),
        ({"limit": "completed_scenarios", "per": timedelta(hours=168)}, None),
        ({"limit": "messages", "per": timedelta(days=7)}, None),
        ({"limit": "messages", "allowed": 100_000}, None),
    ],
)
def test_the_week_stays_a_week(caller: Caller, change: dict[str, Any], rule: tuple[str, str] | None) -> None:
    if rule is None:
        changed = caller.call(SERVICE, limits.change, **change)
        assert changed.per == change.get("per", changed.per)
        return
    with pytest.raises(errors.InvalidInput) as caught:
        caller.call(SERVICE, limits.change, **change)
    assert (caught.value.field, caught.value.rule) == rule
