"""People and their sessions, changed at random by every kind of statement."""

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import psycopg

from carnivore_db import identity
from tests.conversation.completion_law import INSTANT, WEEK, ZONES, monday_of

COLUMNS = ("user_id", "scenario_id", "is_completed", "started_at", "completed_at")
LISTED = ", ".join(COLUMNS)
AS_GIVEN = ", ".join(f"{name} = given.{name}" for name in COLUMNS[1:])  # a session stays its person's
# Rows given as JSON; the table's own types read them.
GIVEN = "jsonb_populate_recordset(NULL::conversation.sessions, %(rows)s) AS given"
# A second open session, and a scene too many in the week.
LAWFUL = {"23505", "PT429"}


class Playing:
    """The people and sessions of one connection. Ids count up, so that a failure can be played again."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        self.refused = 0
        self._numbers = itertools.count(1)
        monday = monday_of(datetime.now(UTC))
        self.moments = [
            monday + place
            for place in (-3 * WEEK, -WEEK - INSTANT, -WEEK, -INSTANT, timedelta(0), timedelta(hours=9), WEEK)
        ]

    def attempt(self, change: "Operation", choose: Random) -> None:
        """Refused is as good as counted: a refused statement leaves no trace."""
        try:
            with self.connection.transaction():
                change(self, choose)
        except psycopg.Error as error:
            if error.sqlstate not in LAWFUL:
                raise
            self.refused += 1

    def run(self, statement: str, rows: list[dict[str, Any]] | None = None, **values: Any) -> None:
        values["rows"] = json.dumps(rows, default=str)
        self.connection.execute(statement, values)

    @contextmanager
    def as_role(self, role: str, person: UUID | None = None) -> Iterator[None]:
        claims = identity.user(person, "").claims if person else {}
        settings = {"role": role, "request.jwt.claims": json.dumps(claims)}
        for name, value in settings.items():
            self.connection.execute("SELECT set_config(%s, %s, true)", [name, value])
        yield
        self.connection.execute("SET LOCAL ROLE NONE")

    def ids(self, table: str, where: str = "true") -> list[UUID]:
        rows = self.connection.execute(f"SELECT id FROM conversation.{table} WHERE {where} ORDER BY id")
        return [key for (key,) in rows]

    def new_id(self) -> UUID:
        return UUID(int=next(self._numbers))

    def some(self, choose: Random, where: str = "true") -> list[UUID]:
        """One session in half of the cases, else several; none when there is none."""
        ids = self.ids("sessions", where)
        return choose.sample(ids, min(len(ids), choose.choice((1, 1, 1, 2, 3, 6))))

    def a_row(self, choose: Random, key: UUID, *, completed: bool) -> dict[str, Any]:
        moment = choose.choice(self.moments)
        return {
            "id": key,
            "user_id": choose.choice(self.ids("profiles", "deleted_at IS NULL")),
            "scenario_id": choose.choice((1, 2, 3)),
            "is_completed": completed,
            "started_at": moment - choose.choice((timedelta(0), timedelta(minutes=20), 2 * WEEK)),
            "completed_at": moment if completed else None,
        }

    def new_rows(self, choose: Random) -> list[dict[str, Any]]:
        number = choose.choice((1, 1, 3))
        return [self.a_row(choose, self.new_id(), completed=True) for _ in range(number)]

    def rows_for(self, choose: Random) -> list[dict[str, Any]]:
        """New values for some of the sessions."""
        return [self.a_row(choose, key, completed=choose.random() < 0.8) for key in self.some(choose)]


Operation = Callable[[Playing, Random], None]


def sign_up(playing: Playing, choose: Random) -> None:
    ids = [playing.new_id() for _ in range(choose.choice((1, 2)))]
    playing.run(
        "INSERT INTO auth.users (id, email) SELECT id, id || '@example.com' FROM unnest(%(ids)s) AS id",
        ids=ids,
    )


def close_accounts(playing: Playing, choose: Random) -> None:
    """Two are left always, and eight at most."""
    ids = playing.ids("profiles", "deleted_at IS NULL")
    gone = choose.sample(ids, max(len(ids) - 8, min(choose.choice((1, 2)), len(ids) - 2), 0))
    playing.run("DELETE FROM auth.users WHERE id = ANY(%(gone)s)", gone=gone)


def get_another_id(playing: Playing, choose: Random) -> None:
    person = choose.choice(playing.ids("profiles"))
    playing.run("UPDATE auth.users SET id = %(new)s WHERE id = %(old)s", new=playing.new_id(), old=person)


def leave_or_return(playing: Playing, choose: Random) -> None:
    person = choose.choice(playing.ids("profiles"))
    with playing.as_role("service_role"):
        playing.run(
            "UPDATE conversation.profiles"
            " SET deleted_at = CASE WHEN deleted_at IS NULL AND others > 2 THEN now() END"
            " FROM (SELECT count(*) AS others FROM conversation.profiles WHERE deleted_at IS NULL) AS present"
            " WHERE id = %(person)s",
            person=person,
        )


def start(playing: Playing, choose: Random) -> None:
    person = choose.choice(playing.ids("profiles", "deleted_at IS NULL"))
    with playing.as_role("authenticated", person):
        playing.run(
            "INSERT INTO conversation.sessions (id, user_id, scenario_id) VALUES (%(id)s, %(person)s, 1)",
            id=playing.new_id(),
            person=person,
        )


def complete(playing: Playing, choose: Random) -> None:
    """All that one person has open, as they themselves do it; completed ones once more."""
    person = choose.choice(playing.ids("profiles", "deleted_at IS NULL"))
    with playing.as_role("authenticated", person):
        playing.run("UPDATE conversation.sessions SET is_completed = true")


def complete_everybodys(playing: Playing, choose: Random) -> None:
    rows = [playing.a_row(choose, key, completed=True) for key in playing.some(choose, "NOT is_completed")]
    playing.run(
        "UPDATE conversation.sessions AS session SET is_completed = true,"
        f" completed_at = greatest(session.started_at, given.completed_at) FROM {GIVEN}"
        " WHERE session.id = given.id",
        rows,
    )


def add_completed(playing: Playing, choose: Random) -> None:
    with playing.as_role("service_role"):
        playing.run(
            f"INSERT INTO conversation.sessions (id, {LISTED}) SELECT id, {LISTED} FROM {GIVEN}",
            playing.new_rows(choose),
        )


def copy(playing: Playing, choose: Random) -> None:
    rows = playing.new_rows(choose)
    with (
        playing.connection.cursor() as cursor,
        cursor.copy(f"COPY conversation.sessions (id, {LISTED}) FROM STDIN") as stream,
    ):
        for row in rows:
            stream.write_row([row[name] for name in ("id", *COLUMNS)])


def reopen(playing: Playing, choose: Random) -> None:
    with playing.as_role("service_role"):
        playing.run(
            "UPDATE conversation.sessions SET is_completed = false WHERE id = ANY(%(ids)s)",
            ids=playing.some(choose, "is_completed"),
        )


def correct(playing: Playing, choose: Random) -> None:
    """The moments of completed sessions, into this week and out of it."""
    rows = [playing.a_row(choose, key, completed=True) for key in playing.some(choose, "is_completed")]
    value = choose.choice(
        (
            "completed_at = greatest(given.completed_at, session.started_at)",
            "started_at = least(given.started_at, session.completed_at)",
        )
    )
    with playing.as_role("service_role"):
        playing.run(
            f"UPDATE conversation.sessions AS session SET {value} FROM {GIVEN} WHERE session.id = given.id",
            rows,
        )


def rewrite(playing: Playing, choose: Random) -> None:
    """Every column at once: completes some and reopens some in the same statement."""
    playing.run(
        f"UPDATE conversation.sessions AS session SET {AS_GIVEN} FROM {GIVEN} WHERE session.id = given.id",
        playing.rows_for(choose),
    )


def delete(playing: Playing, choose: Random) -> None:
    """Some; or most of them, everybody's, when they have become many."""
    ids = playing.ids("sessions")
    gone = choose.sample(ids, len(ids) - 10) if len(ids) > 50 else playing.some(choose)
    with playing.as_role("service_role"):
        playing.run("DELETE FROM conversation.sessions WHERE id = ANY(%(gone)s)", gone=gone)


def change_nothing(playing: Playing, choose: Random) -> None:
    """No row, or each row as it was."""
    where = choose.choice(("false", "true"))
    playing.run(f"UPDATE conversation.sessions SET is_completed = is_completed WHERE {where}")


def insert_or_update(playing: Playing, choose: Random) -> None:
    excluded = AS_GIVEN.replace("given.", "excluded.")
    playing.run(
        f"INSERT INTO conversation.sessions (id, {LISTED}) SELECT id, {LISTED} FROM {GIVEN}"
        f" ON CONFLICT (id) DO UPDATE SET {excluded}",
        playing.rows_for(choose) + playing.new_rows(choose),
    )


def merge(playing: Playing, choose: Random) -> None:
    """Deletes, updates and inserts, in one statement."""
    values = ", ".join(f"given.{name}" for name in COLUMNS)
    playing.run(
        f"MERGE INTO conversation.sessions AS session USING {GIVEN} ON session.id = given.id"
        " WHEN MATCHED AND given.scenario_id = 3 THEN DELETE"
        f" WHEN MATCHED THEN UPDATE SET {AS_GIVEN}"
        f" WHEN NOT MATCHED THEN INSERT (id, {LISTED}) VALUES (given.id, {values})",
        playing.rows_for(choose) + playing.new_rows(choose),
    )


def change_several_times(playing: Playing, choose: Random) -> None:
    """Inserts, updates twice and deletes, of which some may mean the same session."""
    new = playing.new_rows(choose)
    playing.run(
        f"""WITH given AS (SELECT * FROM {GIVEN}),
            added AS (INSERT INTO conversation.sessions (id, {LISTED}) SELECT id, {LISTED} FROM given
                WHERE id = ANY(%(new)s)),
            changed AS (UPDATE conversation.sessions AS session SET {AS_GIVEN} FROM given
                WHERE session.id = given.id),
            reopened AS (UPDATE conversation.sessions SET is_completed = false WHERE id = ANY(%(reopened)s))
        DELETE FROM conversation.sessions WHERE id = ANY(%(gone)s)""",
        new + playing.rows_for(choose),
        new=[row["id"] for row in new],
        reopened=playing.some(choose),
        gone=playing.some(choose),
    )


def move_elsewhere(playing: Playing, choose: Random) -> None:
    """Another TimeZone, in which weeks would begin at another moment."""
    playing.connection.execute("SELECT set_config('TimeZone', %s, false)", [choose.choice(ZONES)])


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


OPERATIONS: tuple[Operation, ...] = (
    sign_up,
    close_accounts,
    get_another_id,
    leave_or_return,
    start,
    start,
    complete,
    complete,
    complete_everybodys,
    add_completed,
    copy,
    reopen,
    correct,
    correct,
    rewrite,
    delete,
    change_nothing,
    insert_or_update,
    merge,
    change_several_times,
    move_elsewhere,
    let_weeks_go_by,
    run_a_job,
    change_the_limit,
)
