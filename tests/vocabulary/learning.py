"""Learners, guests and their sessions, changed at random by every kind of statement there is."""

from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from tests.support.changing import CHANGES, Changing, Row

TYPES = ("description", "qa", "vocabulary", "mixed")
COUNTERS = (
    "images_processed",
    "descriptions_generated",
    "qa_attempts",
    "qa_correct",
    "vocabulary_learned",
    "phrases_saved",
)
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


class Learning(Changing):
    """The learners of one connection, and their sessions."""

    table = "vocabulary.sessions"
    columns = ("user_id", "session_type", "started_at", "ended_at", "duration_minutes", *COUNTERS)
    reopened = "ended_at = NULL"
    logins = people = "vocabulary.users"
    some_of = "phrases_saved = 0"

    def a_row(self, choose: Random, key: UUID, *, ended: bool) -> Row:
        """A session of any learner or of a guest."""
        end = choose.choice(DAYS) + choose.choice(TIMES)
        attempts = choose.randint(0, 5)
        return {
            "id": key,
            "user_id": choose.choice([*self.ids(self.people), None]),
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


def begin(learning: Learning, choose: Random) -> None:
    learning.run("INSERT INTO {table} {listed} FROM {given}", learning.new_rows(choose, ended=False))


def end(learning: Learning, choose: Random) -> None:
    """Sessions that are open, and ended ones once more."""
    learning.run(
        "UPDATE {table} AS session SET ended_at = greatest(session.started_at, given.ended_at)"
        " FROM {given} WHERE session.id = given.id",
        learning.rows_for(choose, ended=1),
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
        f"UPDATE {{table}} AS session SET {column} = {value} FROM {{given}} WHERE session.id = given.id",
        learning.rows_for(choose),
    )


def hand_over(learning: Learning, choose: Random) -> None:
    """To other learners, to a guest, from a guest."""
    learning.run(
        "UPDATE {table} AS session SET user_id = given.user_id FROM {given} WHERE session.id = given.id",
        learning.rows_for(choose),
    )


# There are a dozen columns to correct.
OPERATIONS = (*CHANGES, begin, end, correct, correct, hand_over)
