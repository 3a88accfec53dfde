"""Learners who were there before document 001: each gets a row that counts all they did; nothing is lost."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from carnivore_db.schema import migrations
from tests.migrations.helpers import eventually, waiting
from tests.support import progress_law
from tests.support.databases import TestDatabase

BEFORE, AFTER = "vocabulary_baseline", "001_user_data"
USERS = """
    INSERT INTO vocabulary.users (email, username)
    SELECT n || '@example.com', 'learner_' || n FROM generate_series(1, %(learners)s) AS n
"""
# Ten ended sessions for a learner on average: hundreds for a few, none for some. Days come in runs with gaps.
ENDED = """
    WITH drawn AS (
        SELECT n, floor(random() ^ 3 * %(learners)s * 0.9)::integer + 1 AS learner,
            timestamptz '2026-02-20 00:00+00' + floor(random() * 20) * interval '1 day'
                + floor(random() * 3) * interval '40 days' AS began,
            floor(random() * 86400000000) * interval '1 microsecond' AS took, floor(random() * 8) AS attempts
        FROM generate_series(1, %(learners)s * 10) AS n
    )
    INSERT INTO vocabulary.sessions (user_id, session_type, started_at, ended_at, duration_minutes,
        images_processed, descriptions_generated, qa_attempts, qa_correct, vocabulary_learned, phrases_saved)
    SELECT learner.id, (enum_range(NULL::vocabulary.session_type))[n %% 4 + 1], began, began + took,
        CASE WHEN n %% 3 = 0 THEN n %% 90 END, n %% 5, greatest(n %% 7 - 4, 0), attempts,
        floor(random() * (attempts + 1)), greatest(n %% 11 - 8, 0), n %% 2
    FROM drawn JOIN vocabulary.users AS learner ON learner.username = 'learner_' || drawn.learner
"""
UNCOUNTED = """
    INSERT INTO vocabulary.sessions (user_id, session_type, started_at, ended_at, images_processed)
    SELECT made.user_id, 'mixed', '2026-05-01', made.ended_at, 100000
    FROM vocabulary.users,
        LATERAL (VALUES (id, NULL), (NULL, timestamptz '2026-05-02')) AS made (user_id, ended_at)
    WHERE email < '5'
"""


def fill(database: TestDatabase, learners: int) -> None:
    with database.connect() as connection:
        connection.execute("SELECT setseed(0.2026)")
        for statement in (USERS, ENDED, UNCOUNTED):
            connection.execute(statement, {"learners": learners})


def kept(database: TestDatabase) -> dict[str, tuple[object, ...] | None]:
    """Number and digest of the rows that were there before."""
    with database.connect() as connection:
        return {
            table: connection.execute(
                f"SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY id)) FROM vocabulary.{table} AS t"
            ).fetchone()
            for table in ("users", "sessions")
        }


def assert_counted(database: TestDatabase, learners: int) -> None:
    """Every learner has a row, and it counts the ended sessions, each of them and nothing else."""
    with database.connect() as connection:
        progress_law.assert_holds(connection)
        found = connection.execute(
            "SELECT count(*), sum(total_sessions), count(*) FILTER (WHERE total_sessions = 0) > 0,"
            " max(longest_streak_days) > 2, max(total_images) < 100000 FROM vocabulary.user_progress"
        ).fetchone()
    assert found == (learners, learners * 10, True, True, True)


def go_up_down_and_up(database: TestDatabase, learners: int) -> None:
    migrations.upgrade(database.migrator_url, BEFORE)
    fill(database, learners)
    before = kept(database)

    migrations.upgrade(database.migrator_url, AFTER)
    assert_counted(database, learners)
    assert kept(database) == before

    migrations.downgrade(database.migrator_url, BEFORE)
    assert kept(database) == before

    migrations.upgrade(database.migrator_url, AFTER)
    assert_counted(database, learners)
    assert kept(database) == before


def test_who_was_there_before_is_counted(empty: TestDatabase) -> None:
    go_up_down_and_up(empty, 100)


@pytest.mark.slow
def test_ten_thousand_learners_and_a_hundred_thousand_sessions_are_counted(plain_empty: TestDatabase) -> None:
    go_up_down_and_up(plain_empty, 10_000)


END = "UPDATE vocabulary.sessions SET ended_at = started_at + interval '1 hour' WHERE ended_at IS NULL"
BEGIN = "INSERT INTO vocabulary.users (email) VALUES ('late@example.com')"


def baseline(database: TestDatabase) -> None:
    migrations.upgrade(database.migrator_url, BEFORE)
    fill(database, 20)


def assert_nobody_is_missed(database: TestDatabase) -> None:
    with database.connect() as connection:
        progress_law.assert_holds(connection)
        still_open = connection.execute("SELECT count(*) FROM vocabulary.sessions WHERE ended_at IS NULL")
        assert still_open.fetchone() == (0,)


def test_a_session_that_ends_just_before_the_migration_is_counted(plain_empty: TestDatabase) -> None:
    """It has ended in a transaction that commits while the migration already waits for the table."""
    baseline(plain_empty)
    with ThreadPoolExecutor(1) as pool:
        with plain_empty.connect() as learner:
            learner.execute(END)
            migrating = pool.submit(migrations.upgrade, plain_empty.migrator_url, AFTER)
            eventually(lambda: migrating.done() or waiting(plain_empty) == 1)
            assert not migrating.done()
        migrating.result()
    assert_nobody_is_missed(plain_empty)


def test_a_session_that_ends_and_a_learner_who_comes_during_the_migration_are_counted(
    plain_empty: TestDatabase,
) -> None:
    """Both come when the migration has counted what there is, and has not committed yet."""
    baseline(plain_empty)

    def run(statement: str) -> None:
        with plain_empty.connect(autocommit=True) as connection:
            connection.execute(statement)

    with ThreadPoolExecutor(2) as pool:
        late = []

        def come(_: str) -> None:
            late.extend(pool.submit(run, statement) for statement in (END, BEGIN))
            eventually(lambda: waiting(plain_empty) == 2)

        migrations.upgrade(plain_empty.migrator_url, AFTER, on_step=come)
        for running in late:
            running.result()
    assert_nobody_is_missed(plain_empty)
