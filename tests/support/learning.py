"""Learners, guests and their sessions, changed at random by every kind of statement there is."""

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import psycopg

TYPES = ("description", "qa", "vocabulary", "mixed")
COUNTERS = (
    "images_processed",
    "descriptions_generated",
    "qa_attempts",
    "qa_correct",
    "vocabulary_learned",
    "phrases_saved",
)
COLUMNS = ("user_id", "session_type", "started_at", "ended_at", "duration_minutes", *COUNTERS)
LISTED = ", ".join(COLUMNS)
AS_GIVEN = ", ".join(f"{name} = given.{name}" for name in COLUMNS)
# Rows given as JSON; the table's own types read them.
GIVEN = "jsonb_populate_recordset(NULL::vocabulary.sessions, %(rows)s) AS given"
# A year's end, the end of February in a leap year and an ordinary month's, with gaps between; each runs
# for days enough to make streaks, and none lies further from another than a session may last.
DAYS = [
    start + timedelta(days=day)
    for start in (
        datetime(2027, 12, 29, tzinfo=UTC),
        datetime(2028, 2, 27, tzinfo=UTC),
        datetime(2028, 4, 29, tzinfo=UTC),
    )
    for day in range(6)
]
# Midnight UTC, the last moment before it, and moments that are another day elsewhere.
TIMES = (
    timedelta(0),
    timedelta(days=1) - timedelta(microseconds=1),
    timedelta(hours=3, minutes=30),
    timedelta(hours=12),
    timedelta(hours=22, microseconds=7),
)
ZONES = ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/St_Johns", "Europe/Berlin")


class Learning:
    """The learners and sessions of one connection. Ids count up, so that a failure can be played again."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        self._numbers = itertools.count(1)

    def run(self, statement: str, rows: list[dict[str, Any]] | None = None, **values: Any) -> None:
        values["rows"] = json.dumps(rows, default=str)
        self.connection.execute(statement, values)

    def ids(self, table: str) -> list[UUID]:
        return [key for (key,) in self.connection.execute(f"SELECT id FROM vocabulary.{table} ORDER BY id")]

    def new_id(self) -> UUID:
        return UUID(int=next(self._numbers))

    def some_sessions(self, choose: Random) -> list[UUID]:
        """One session in half of the cases, else several; none when there is none."""
        ids = self.ids("sessions")
        return choose.sample(ids, min(len(ids), choose.choice((1, 1, 1, 2, 3, 6))))

    def a_row(self, choose: Random, key: UUID, *, ended: bool) -> dict[str, Any]:
        """A session of any learner or of a guest."""
        end = choose.choice(DAYS) + choose.choice(TIMES)
        attempts = choose.randint(0, 5)
        return {
            "id": key,
            "user_id": choose.choice([*self.ids("users"), None]),
            "session_type": choose.choice(TYPES),
            "started_at": end - choose.choice((timedelta(0), timedelta(minutes=20), timedelta(seconds=90))),
            "ended_at": end if ended else None,
            "duration_minutes": choose.choice((None, 0, 7, 600)),
            "images_processed": choose.randint(0, 3),
            "descriptions_generated": choose.choice((0, 0, 2)),
            "qa_attempts": attempts,
            "qa_correct": choose.randint(0, attempts),
            "vocabulary_learned": choose.choice((0, 0, 4)),
            "phrases_saved": choose.randint(0, 3),
        }

    def new_rows(self, choose: Random, *, ended: bool) -> list[dict[str, Any]]:
        return [self.a_row(choose, self.new_id(), ended=ended) for _ in range(choose.choice((1, 1, 3)))]

    def rows_for(self, choose: Random, *, most: int = 6) -> list[dict[str, Any]]:
        """New values for some of the sessions."""
        return [
            self.a_row(choose, key, ended=choose.random() < 0.8) for key in self.some_sessions(choose)[:most]
        ]


def add_learners(learning: Learning, choose: Random) -> None:
    ids = [learning.new_id() for _ in range(choose.choice((1, 2)))]
    learning.run(
        "INSERT INTO vocabulary.users (id, email) SELECT id, id || '@example.com' FROM unnest(%(ids)s) AS id",
        ids=ids,
    )


def delete_learners(learning: Learning, choose: Random) -> None:
    """Two or three are left always, and eight at most."""
    ids = learning.ids("users")
    gone = choose.sample(ids, max(len(ids) - 8, min(choose.choice((1, 1, 2)), len(ids) - 2), 0))
    learning.run("DELETE FROM vocabulary.users WHERE id = ANY(%(gone)s)", gone=gone)


def begin(learning: Learning, choose: Random) -> None:
    rows = learning.new_rows(choose, ended=False)
    learning.run(f"INSERT INTO vocabulary.sessions (id, {LISTED}) SELECT id, {LISTED} FROM {GIVEN}", rows)


def add_ended(learning: Learning, choose: Random) -> None:
    rows = learning.new_rows(choose, ended=True)
    learning.run(f"INSERT INTO vocabulary.sessions (id, {LISTED}) SELECT id, {LISTED} FROM {GIVEN}", rows)


def copy(learning: Learning, choose: Random) -> None:
    rows = learning.new_rows(choose, ended=True)
    with (
        learning.connection.cursor() as cursor,
        cursor.copy(f"COPY vocabulary.sessions (id, {LISTED}) FROM STDIN") as stream,
    ):
        for row in rows:
            stream.write_row([row[name] for name in ("id", *COLUMNS)])


def end(learning: Learning, choose: Random) -> None:
    """Sessions that are open, and ended ones once more."""
    rows = [learning.a_row(choose, key, ended=True) for key in learning.some_sessions(choose)]
    learning.run(
        "UPDATE vocabulary.sessions AS session SET ended_at = greatest(session.started_at, given.ended_at)"
        f" FROM {GIVEN} WHERE session.id = given.id",
        rows,
    )


def correct(learning: Learning, choose: Random) -> None:
    """One column of some sessions, as far as the table's own rules let it."""
    column, value = choose.choice(
        [
            *((name, f"given.{name}") for name in COUNTERS if not name.startswith("qa_")),
            ("qa_attempts", "greatest(given.qa_attempts, session.qa_correct)"),
            ("qa_correct", "least(given.qa_correct, session.qa_attempts)"),
            ("started_at", "least(given.started_at, session.ended_at)"),
            ("ended_at", "greatest(given.ended_at, session.started_at)"),
            ("duration_minutes", "given.duration_minutes"),
            ("session_type", "given.session_type"),
        ]
    )
    learning.run(
        f"UPDATE vocabulary.sessions AS session SET {column} = {value} FROM {GIVEN}"
        " WHERE session.id = given.id",
        learning.rows_for(choose),
    )


def rewrite(learning: Learning, choose: Random) -> None:
    """Every column at once: ends some, re-opens some and hands some over in the same statement."""
    learning.run(
        f"UPDATE vocabulary.sessions AS session SET {AS_GIVEN} FROM {GIVEN} WHERE session.id = given.id",
        learning.rows_for(choose),
    )


def reopen(learning: Learning, choose: Random) -> None:
    learning.run(
        "UPDATE vocabulary.sessions SET ended_at = NULL WHERE id = ANY(%(ids)s)",
        ids=learning.some_sessions(choose),
    )


def hand_over(learning: Learning, choose: Random) -> None:
    """To other learners, to a guest, from a guest."""
    learning.run(
        f"UPDATE vocabulary.sessions AS session SET user_id = given.user_id FROM {GIVEN}"
        " WHERE session.id = given.id",
        learning.rows_for(choose),
    )


def delete(learning: Learning, choose: Random) -> None:
    """Some; or most of them, everybody's, when they have become many."""
    ids = learning.ids("sessions")
    gone = choose.sample(ids, len(ids) - 10) if len(ids) > 50 else learning.some_sessions(choose)
    learning.run("DELETE FROM vocabulary.sessions WHERE id = ANY(%(gone)s)", gone=gone)


def change_nothing(learning: Learning, choose: Random) -> None:
    """No row, or each row as it was."""
    where = choose.choice(("false", "true"))
    learning.run(f"UPDATE vocabulary.sessions SET ended_at = ended_at WHERE {where}")


def insert_or_update(learning: Learning, choose: Random) -> None:
    rows = learning.rows_for(choose) + learning.new_rows(choose, ended=True)
    excluded = AS_GIVEN.replace("given.", "excluded.")
    learning.run(
        f"INSERT INTO vocabulary.sessions (id, {LISTED}) SELECT id, {LISTED} FROM {GIVEN}"
        f" ON CONFLICT (id) DO UPDATE SET {excluded}",
        rows,
    )


def merge(learning: Learning, choose: Random) -> None:
    """Deletes, updates and inserts, in one statement."""
    rows = learning.rows_for(choose) + learning.new_rows(choose, ended=True)
    values = ", ".join(f"given.{name}" for name in COLUMNS)
    learning.run(
        f"MERGE INTO vocabulary.sessions AS session USING {GIVEN} ON session.id = given.id"
        " WHEN MATCHED AND given.phrases_saved = 0 THEN DELETE"
        f" WHEN MATCHED THEN UPDATE SET {AS_GIVEN}"
        f" WHEN NOT MATCHED THEN INSERT (id, {LISTED}) VALUES (given.id, {values})",
        rows,
    )


def change_several_times(learning: Learning, choose: Random) -> None:
    """Inserts twice, updates twice and deletes, of which some may mean the same session."""
    learning.run(
        f"""WITH given AS (SELECT * FROM {GIVEN}),
            added AS (INSERT INTO vocabulary.sessions (id, {LISTED}) SELECT id, {LISTED} FROM given
                WHERE phrases_saved > 1 AND id = ANY(%(new)s)),
            added_too AS (INSERT INTO vocabulary.sessions (id, {LISTED}) SELECT id, {LISTED} FROM given
                WHERE phrases_saved <= 1 AND id = ANY(%(new)s)),
            changed AS (UPDATE vocabulary.sessions AS session SET {AS_GIVEN} FROM given
                WHERE session.id = given.id),
            reopened AS (UPDATE vocabulary.sessions SET ended_at = NULL WHERE id = ANY(%(reopened)s))
        DELETE FROM vocabulary.sessions WHERE id = ANY(%(gone)s)""",
        (new := learning.new_rows(choose, ended=True)) + learning.rows_for(choose),
        new=[row["id"] for row in new],
        reopened=learning.some_sessions(choose),
        gone=learning.some_sessions(choose),
    )


def move_elsewhere(learning: Learning, choose: Random) -> None:
    """Another TimeZone, in which the same moments have other dates."""
    learning.connection.execute("SELECT set_config('TimeZone', %s, false)", [choose.choice(ZONES)])


OPERATIONS: tuple[Callable[[Learning, Random], None], ...] = (
    add_learners,
    delete_learners,
    begin,
    add_ended,
    copy,
    end,
    correct,
    correct,  # it has a dozen columns to choose from
    rewrite,
    reopen,
    hand_over,
    delete,
    change_nothing,
    insert_or_update,
    merge,
    change_several_times,
    move_elsewhere,
)
