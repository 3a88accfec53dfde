"""The law of user_progress: at every commit it equals what the learner's ended sessions add up to."""

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime

import psycopg
import pytest
from psycopg import errors

from tests.support import laws, progress_law
from tests.support.changing import add_people
from tests.support.databases import Shape, TestDatabase
from tests.vocabulary.learning import OPERATIONS, Learning

ENDED = "SELECT FROM vocabulary.sessions WHERE user_id IS NOT NULL AND ended_at IS NOT NULL"


@pytest.fixture(scope="module")
def connection(plain_shape: Shape, plain_template: str) -> Iterator[psycopg.Connection]:
    with plain_shape.clone(plain_template) as database, database.connect() as opened:
        opened.prepare_threshold = None  # some tests change the schema under their statements
        yield opened


@pytest.fixture
def tx(connection: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A transaction in which Ada and Grace have begun to learn, taken back at the end."""
    connection.rollback()
    connection.execute(
        "INSERT INTO vocabulary.users (email, username) VALUES ('ada@example.com', 'ada'),"
        " ('grace@example.com', 'grace')"
    )
    yield connection
    connection.rollback()


def learn(tx: psycopg.Connection, ended_at: str | None, who: str = "ada", **columns: object) -> None:
    """A session of half an hour at least, a noon in 2028 unless told otherwise."""
    given = {"session_type": "qa", "ended_at": ended_at, "started_at": "2026-01-01", **columns}
    tx.execute(
        f"INSERT INTO vocabulary.sessions (user_id, {', '.join(given)})"
        f" SELECT id, {', '.join(['%s'] * len(given))} FROM vocabulary.users WHERE username = %s",
        [*given.values(), who],
    )


def progress(tx: psycopg.Connection, columns: str, who: str = "ada") -> tuple[object, ...] | None:
    return tx.execute(
        f"SELECT {columns} FROM vocabulary.user_progress AS progress JOIN vocabulary.users AS learner"
        " ON learner.id = progress.user_id WHERE learner.username = %s",
        [who],
    ).fetchone()


def test_the_law_holds_after_every_operation(connection: psycopg.Connection) -> None:
    def begin() -> Learning:
        learning = Learning(connection)
        for _ in range(2):
            add_people(learning, random.Random(1))  # noqa: S311 - the same each time
        return learning

    laws.holds_after_every_change(
        connection,
        begin,
        OPERATIONS,
        lambda: progress_law.assert_holds(connection),
        see=lambda: progress_law.see(connection),
    )


@pytest.mark.slow
def test_the_law_holds_after_ten_thousand_operations(
    plain_database: TestDatabase, record_property: Callable[[str, object], None]
) -> None:
    with plain_database.connect() as connection:
        done = laws.holds_after_ten_thousand_changes(
            connection,
            Learning(connection),
            OPERATIONS,
            lambda: progress_law.assert_holds(connection),
            counted=ENDED,
            seed=20281231,
        )
    record_property("operations", done)


def test_days_in_a_row_are_utcs_and_their_longest_run_is_kept(tx: psycopg.Connection) -> None:
    tx.execute("SET LOCAL TimeZone = 'Pacific/Kiritimati'")  # where it is the next day for most of the day
    streaks = "current_streak_days, longest_streak_days, last_streak_date"
    assert progress(tx, streaks) == (0, 0, None)
    for moment in ("2028-02-28 23:59:59.999999+00", "2028-02-29 00:00+00", "2028-03-01 12:00+00"):
        learn(tx, moment)
    assert progress(tx, streaks) == (3, 3, date(2028, 3, 1))
    learn(tx, "2028-03-03 00:00+00")
    assert progress(tx, streaks) == (1, 3, date(2028, 3, 3))
    learn(tx, "2028-03-02 23:00+00")  # late news closes the gap
    assert progress(tx, streaks) == (5, 5, date(2028, 3, 3))
    tx.execute("DELETE FROM vocabulary.sessions WHERE ended_at = '2028-03-01 12:00+00'")
    assert progress(tx, streaks) == (2, 2, date(2028, 3, 3))
    progress_law.assert_holds(tx)


def test_an_ended_session_counts_once_however_often_it_is_ended(tx: psycopg.Connection) -> None:
    learn(tx, None, qa_attempts=8, qa_correct=5, images_processed=2)
    counted = "total_sessions, total_questions_answered, total_time_spent_minutes, average_accuracy::float"
    assert progress(tx, counted) == (0, 0, 0, 0)
    for moment in ("2026-01-01 00:30+00", "2026-01-01 00:40+00", "2026-01-01 00:40+00"):
        tx.execute("UPDATE vocabulary.sessions SET ended_at = %s", [moment])
    assert progress(tx, counted) == (1, 8, 40, 62.5)
    assert progress(tx, counted, "grace") == (0, 0, 0, 0)
    progress_law.assert_holds(tx)


def test_an_earlier_session_of_the_latest_day_moves_no_moment_back(tx: psycopg.Connection) -> None:
    learn(tx, "2026-01-01 20:00+00", qa_attempts=1, descriptions_generated=1, vocabulary_learned=1)
    learn(tx, "2026-01-01 19:00+00", qa_attempts=1, descriptions_generated=1, vocabulary_learned=1)
    progress_law.assert_holds(tx)


def test_a_session_counts_for_whom_it_belongs_to(tx: psycopg.Connection) -> None:
    learn(tx, "2026-01-01 00:30+00", phrases_saved=3)
    ada = "SELECT id FROM vocabulary.users WHERE username = 'ada'"
    grace = "SELECT id FROM vocabulary.users WHERE username = 'grace'"
    for owner, counts in {grace: (0, 3), "NULL": (0, 0), ada: (3, 0)}.items():
        tx.execute(f"UPDATE vocabulary.sessions SET user_id = ({owner})")
        assert (progress(tx, "total_phrases_saved"), progress(tx, "total_phrases_saved", "grace")) == (
            (counts[0],),
            (counts[1],),
        )
        progress_law.assert_holds(tx)


def test_a_learners_sessions_leave_everybody_elses_row_alone(tx: psycopg.Connection) -> None:
    learn(tx, "2026-01-01 00:30+00", "grace")
    before = progress(tx, "progress.*, progress.xmin, progress.ctid", "grace")
    learn(tx, "2028-01-02 00:30+00", "ada")
    tx.execute("UPDATE vocabulary.sessions SET qa_attempts = 4 WHERE ended_at > '2028-01-02'")
    tx.execute("DELETE FROM vocabulary.users WHERE username = 'ada'")
    assert progress(tx, "progress.*, progress.xmin, progress.ctid", "grace") == before
    progress_law.assert_holds(tx)


def test_without_sessions_there_is_no_progress(tx: psycopg.Connection) -> None:
    learn(tx, "2026-01-01 00:30+00", "ada", qa_attempts=3)
    learn(tx, "2028-01-05 00:30+00", "grace", vocabulary_learned=1)
    tx.execute("TRUNCATE vocabulary.sessions")
    assert progress(tx, "total_sessions, total_questions_answered, last_activity_at") == (0, 0, None)
    progress_law.assert_holds(tx)


@pytest.mark.parametrize("ended_before", [False, True], ids=["ends", "is corrected"])
def test_a_total_beyond_an_integer_is_refused_and_loses_nothing(
    tx: psycopg.Connection, *, ended_before: bool
) -> None:
    learn(tx, "2026-01-01 00:30+00" if ended_before else None, images_processed=7)
    tx.execute(
        "INSERT INTO vocabulary.sessions (user_id, session_type, started_at, ended_at, images_processed)"
        " SELECT id, 'mixed', '2026-01-01', '2026-01-01 00:10+00', 100000"
        " FROM vocabulary.users, generate_series(1, 21474) WHERE username = 'ada'"
    )
    before = progress_law.see(tx)
    assert progress(tx, "total_images") == (2_147_400_000 + 7 * ended_before,)
    with pytest.raises(errors.NumericValueOutOfRange), tx.transaction():
        tx.execute(
            "UPDATE vocabulary.sessions SET images_processed = 100000, ended_at = '2026-01-01 01:00+00'"
            " WHERE images_processed = 7"
        )
    assert progress_law.see(tx) == before
    progress_law.assert_holds(tx)


def test_recomputing_finds_nothing_where_the_law_holds(tx: psycopg.Connection) -> None:
    learn(tx, "2026-01-01 00:30+00", qa_attempts=3)
    before = progress(tx, "progress.*, progress.ctid")
    assert progress_law.recomputed(tx) == []
    assert progress(tx, "progress.*, progress.ctid") == before  # nothing was written either


WRONG = {
    **dict.fromkeys(progress_law.COUNTED, "4"),
    **{name: "2031-05-01T00:00:00+00:00" for name in progress_law.COUNTED if name.endswith("_at")},
    "last_streak_date": "2031-05-01",
}


@pytest.mark.parametrize("column", progress_law.COUNTED)
def test_recomputing_says_what_differs_and_repairs_it(tx: psycopg.Connection, column: str) -> None:
    learn(tx, "2026-01-01 00:30+00", qa_attempts=3, qa_correct=2, vocabulary_learned=1)
    learn(tx, "2026-01-01 00:40+00", "grace")
    ((ada, right),) = tx.execute(
        f"SELECT user_id, to_jsonb(progress) ->> '{column}' FROM vocabulary.user_progress AS progress"
        " JOIN vocabulary.users AS learner ON learner.id = user_id WHERE username = 'ada'"
    ).fetchall()
    tx.execute(f"UPDATE vocabulary.user_progress SET {column} = %s WHERE user_id = %s", [WRONG[column], ada])
    assert any(f"{ada}: {column} is " in line for line in progress_law.broken(tx))
    assert progress_law.recomputed(tx) == [(ada, column, WRONG[column], right)]
    progress_law.assert_holds(tx)


def test_recomputing_keeps_what_is_not_counted(tx: psycopg.Connection) -> None:
    tx.execute(
        "UPDATE vocabulary.user_progress SET total_points = 9, mastered_words_count = 8, total_sessions = 7"
    )
    assert len(progress_law.recomputed(tx)) == 2
    assert progress(tx, "total_points, mastered_words_count, total_sessions") == (9, 8, 0)


def test_recomputing_for_nobody_is_refused(tx: psycopg.Connection) -> None:
    with pytest.raises(errors.NoDataFound) as failure:
        tx.execute("SELECT vocabulary.recompute_user_progress(gen_random_uuid())")
    assert (failure.value.sqlstate, failure.value.diag.constraint_name) == ("P0002", "user_not_found")


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO vocabulary.sessions (user_id, session_type, ended_at) SELECT id, 'qa', now() FROM me",
        "UPDATE vocabulary.sessions SET user_id = (SELECT id FROM me) WHERE user_id IS NULL",
    ],
    ids=["a first session", "a guest's session"],
)
def test_who_signs_up_with_a_session_in_one_statement_is_counted_once(
    tx: psycopg.Connection, change: str
) -> None:
    tx.execute("INSERT INTO vocabulary.sessions (session_type, ended_at) VALUES ('qa', now())")
    tx.execute(f"WITH me AS (INSERT INTO vocabulary.users (email) VALUES ('m@x.org') RETURNING id) {change}")
    progress_law.assert_holds(tx)


# Each trigger that keeps the law, and a change that is not counted without it.
KEEPERS = {
    "sessions.trigger_update_user_progress_from_session": (
        "UPDATE vocabulary.sessions SET ended_at = '2028-01-02 00:30+00' WHERE ended_at IS NULL"
    ),
    "sessions.trigger_update_user_progress_from_new_session": (
        "INSERT INTO vocabulary.sessions (user_id, session_type, ended_at)"
        " SELECT id, 'mixed', now() FROM vocabulary.users"
    ),
    "sessions.trigger_update_user_progress_from_deleted_session": "DELETE FROM vocabulary.sessions",
    "sessions.trigger_sessions_truncated": "TRUNCATE vocabulary.sessions",
    "user_progress.trigger_user_progress_fill": (
        "ALTER TABLE vocabulary.user_progress DISABLE TRIGGER trigger_user_progress_keep;"
        " DELETE FROM vocabulary.user_progress;"
        " INSERT INTO vocabulary.user_progress (user_id) SELECT id FROM vocabulary.users"
    ),
    "user_progress.trigger_user_progress_keep": "DELETE FROM vocabulary.user_progress",
    "users.trigger_users_create_progress": "INSERT INTO vocabulary.users (email) VALUES ('m@example.com')",
}


@pytest.mark.parametrize("keeper", KEEPERS)
@pytest.mark.parametrize("missing", [False, True], ids=["there", "missing"])
def test_the_law_check_notices_a_missing_trigger(
    tx: psycopg.Connection, keeper: str, *, missing: bool
) -> None:
    learn(tx, "2026-01-01 00:30+00", qa_attempts=3)
    learn(tx, None)
    table, trigger = keeper.split(".")
    if missing:
        tx.execute(f"DROP TRIGGER {trigger} ON vocabulary.{table}")
    progress_law.assert_holds(tx)
    with suppress(errors.IntegrityConstraintViolation), tx.transaction():  # refused is as good as counted
        tx.execute(KEEPERS[keeper])
    assert bool(progress_law.broken(tx)) == missing


def test_the_expected_values_are_right_where_they_can_be_told_by_heart() -> None:
    def session(day: int, kind: str, **counted: int) -> progress_law.Row:
        nothing = dict.fromkeys(progress_law.SUMS.values(), 0)
        return nothing | counted | {"session_type": kind, "ended_at": datetime(2028, 1, day, tzinfo=UTC)}

    found = progress_law.expected(
        [
            session(1, "mixed", duration_minutes=10, qa_attempts=3, qa_correct=2),
            session(2, "description"),
            session(9, "vocabulary", duration_minutes=5),
        ]
    )
    assert (found["current_streak_days"], found["longest_streak_days"]) == (1, 2)
    assert (str(found["average_accuracy"]), found["average_completion_time_seconds"]) == ("66.67", 300)
    assert [found[name].day for name in progress_law.LATEST] == [2, 1, 9]
