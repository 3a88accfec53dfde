"""People and their sessions, changed at random by every kind of statement."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from random import Random
from uuid import UUID

import psycopg

from tests.conversation.completion_law import INSTANT, WEEK, monday_of
from tests.support.changing import CHANGES, Changing, Row

# A second open session, and a scene too many in the week.
LAWFUL = {"23505", "PT429"}
PRESENT = "conversation.profiles WHERE deleted_at IS NULL"


class Playing(Changing):
    """The people of one connection, and their sessions."""

    table = "conversation.sessions"
    columns = ("user_id", "scenario_id", "is_completed", "started_at", "completed_at")
    kept = {"user_id"}  # noqa: RUF012 - never changed
    reopened = "is_completed = false"
    logins = "auth.users"
    people = PRESENT
    writer = "service_role"
    some_of = "scenario_id = 3"

    def __init__(self, connection: psycopg.Connection) -> None:
        super().__init__(connection)
        self.refused = 0
        monday = monday_of(datetime.now(UTC))
        self.moments = [
            monday + place
            for place in (-3 * WEEK, -WEEK - INSTANT, -WEEK, -INSTANT, timedelta(0), timedelta(hours=9), WEEK)
        ]

    def a_row(self, choose: Random, key: UUID, *, ended: bool) -> Row:
        moment = choose.choice(self.moments)
        return {
            "id": key,
            "user_id": choose.choice(self.ids(PRESENT)),
            "scenario_id": choose.choice((1, 2, 3)),
            "is_completed": ended,
            "started_at": moment - choose.choice((timedelta(0), timedelta(minutes=20), 2 * WEEK)),
            "completed_at": moment if ended else None,
        }


Operation = Callable[[Playing, Random], None]


def or_refused(change: Operation) -> Operation:
    """Refused is as good as counted: a refused statement leaves no trace."""

    @wraps(change)
    def attempt(playing: Playing, choose: Random) -> None:
        try:
            with playing.connection.transaction():
                change(playing, choose)
        except psycopg.Error as error:
            if error.sqlstate not in LAWFUL:
                raise
            playing.refused += 1

    return attempt


def get_another_id(playing: Playing, choose: Random) -> None:
    person = choose.choice(playing.ids("conversation.profiles"))
    playing.run("UPDATE auth.users SET id = %(new)s WHERE id = %(old)s", new=playing.new_id(), old=person)


def leave_or_return(playing: Playing, choose: Random) -> None:
    person = choose.choice(playing.ids("conversation.profiles"))
    with playing.as_role("service_role"):
        playing.run(
            "UPDATE conversation.profiles"
            " SET deleted_at = CASE WHEN deleted_at IS NULL AND others > 2 THEN now() END"
            " FROM (SELECT count(*) AS others FROM conversation.profiles WHERE deleted_at IS NULL) AS present"
            " WHERE id = %(person)s",
            person=person,
        )


def start(playing: Playing, choose: Random) -> None:
    person = choose.choice(playing.ids(PRESENT))
    with playing.as_role("authenticated", person):
        playing.run(
            "INSERT INTO conversation.sessions (id, user_id, scenario_id) VALUES (%(id)s, %(person)s, 1)",
            id=playing.new_id(),
            person=person,
        )


def complete(playing: Playing, choose: Random) -> None:
    """All that one person has open, as they themselves do it; completed ones once more."""
    person = choose.choice(playing.ids(PRESENT))
    with playing.as_role("authenticated", person):
        playing.run("UPDATE conversation.sessions SET is_completed = true")


def complete_everybodys(playing: Playing, choose: Random) -> None:
    playing.run(
        "UPDATE {table} AS session SET is_completed = true,"
        " completed_at = greatest(session.started_at, given.completed_at) FROM {given}"
        " WHERE session.id = given.id",
        playing.rows_for(choose, "NOT is_completed", ended=1),
    )


def correct(playing: Playing, choose: Random) -> None:
    """The moments of completed sessions, into this week and out of it."""
    rows = playing.rows_for(choose, "is_completed", ended=1)
    value = choose.choice(
        (
            "completed_at = greatest(given.completed_at, session.started_at)",
            "started_at = least(given.started_at, session.completed_at)",
        )
    )
    with playing.as_role("service_role"):
        playing.run(
            f"UPDATE {{table}} AS session SET {value} FROM {{given}} WHERE session.id = given.id", rows
        )


def let_weeks_go_by(playing: Playing, choose: Random) -> None:
    """Whatever happened, happened weeks earlier: no rule stands in the way of that."""
    hours = 24 * 7 * choose.choice((1, 1, 4))  # a day is not 24 hours everywhere
    playing.run("SET LOCAL session_replication_role = replica")
    playing.run(
        "UPDATE conversation.sessions SET started_at = started_at - ago, completed_at = completed_at - ago,"
        " last_activity_at = last_activity_at - ago FROM make_interval(hours => %(hours)s) AS ago",
        hours=hours,
    )
    playing.run(
        "UPDATE conversation.profiles SET week_reset_date = week_reset_date - ago"
        " FROM make_interval(hours => %(hours)s) AS ago",
        hours=hours,
    )
    playing.run("SET LOCAL session_replication_role = origin")


def run_a_job(playing: Playing, choose: Random) -> None:
    job = choose.choice(("reset_weekly_limits", "reset_weekly_limits", "delete_expired_sessions"))
    with playing.as_role("service_role"):
        playing.run(f"SELECT conversation.{job}(%(batch)s::integer)", batch=choose.choice((1, 3, 500)))


def change_the_limit(playing: Playing, choose: Random) -> None:
    with playing.as_role("service_role"):
        playing.run(
            "UPDATE conversation.rate_limits SET enforced = %(enforced)s WHERE code = 'completed_scenarios'",
            enforced=choose.random() < 0.3,
        )


OPERATIONS: tuple[Operation, ...] = tuple(
    or_refused(change)
    for change in (
        *CHANGES,
        get_another_id,
        leave_or_return,
        *(start, start, complete, complete, complete_everybodys, correct, correct),
        let_weeks_go_by,
        run_a_job,
        change_the_limit,
    )
)
