"""Sessions end, change and go on many connections at once: progress loses nothing, the law always holds."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from tests.concurrency import clients
from tests.concurrency.clients import CLIENTS, at_once
from tests.support import progress_law
from tests.support.databases import TestDatabase, waiting
from tests.support.processes import eventually

BEGAN = datetime(2028, 2, 20, tzinfo=UTC)
ENDED = "ended_at = started_at + ((images_processed * 7919 %% 20) || ' days 3 hours')::interval"
RECOMPUTE = "SELECT * FROM vocabulary.recompute_user_progress(%s)"
TODAY = "ended_at = started_at + interval '1 hour'"


def school(database: TestDatabase, learners: int, sessions: int) -> dict[UUID, list[UUID]]:
    """Learners with open sessions, each of which has counted something of its own."""
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO vocabulary.users (email)"
            " SELECT n || '@example.com' FROM generate_series(1, %s) AS n",
            [learners],
        )
        made = connection.execute(
            "INSERT INTO vocabulary.sessions"
            " (user_id, session_type, started_at, images_processed, qa_attempts)"
            " SELECT id, 'mixed', %s, n, n %% 5 FROM vocabulary.users, generate_series(1, %s) AS n"
            " RETURNING user_id, id",
            [BEGAN, sessions],
        )
        found: dict[UUID, list[UUID]] = {}
        for learner, session in made:
            found.setdefault(learner, []).append(session)
        # Where a statement of the test is to blame for a deadlock, nobody waits long for the verdict.
        connection.execute(f"ALTER DATABASE {database.name} SET deadlock_timeout = '50ms'")
    return found


@contextmanager
def as_service(connection: psycopg.Connection, isolation: LiteralString = "READ COMMITTED") -> Iterator[None]:
    with connection.transaction():
        connection.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        connection.execute("SET LOCAL ROLE service_role")
        yield


def lawful(connection: psycopg.Connection) -> None:
    assert progress_law.broken(connection) == []


def recompute(connection: psycopg.Connection) -> None:
    """Finds nothing to repair."""
    for (learner,) in connection.execute("SELECT id FROM vocabulary.users").fetchall():
        # Gone since; or the victim of a circle that others made, which it waited beside.
        with suppress(errors.NoDataFound, errors.DeadlockDetected):
            assert connection.execute(RECOMPUTE, [learner]).fetchall() == []


@contextmanager
def watched(database: TestDatabase) -> Iterator[None]:
    """The law holds while the block runs, and at the end; so it does while each learner is recomputed."""
    with clients.watched(database, lawful, recompute):
        yield
    with database.connect() as connection:
        progress_law.assert_holds(connection)


def counted(database: TestDatabase) -> tuple[object, ...]:
    """Sessions and pictures of all learners."""
    with database.connect() as connection:
        row = connection.execute(
            "SELECT sum(total_sessions), sum(total_images) FROM vocabulary.user_progress"
        ).fetchone()
    assert row is not None
    return row


@pytest.mark.parametrize("change", [TODAY, ENDED], ids=["on one day", "on days in any order"])
def test_no_session_of_a_learner_is_lost(plain_database: TestDatabase, change: LiteralString) -> None:
    number = CLIENTS * 50
    (sessions,) = school(plain_database, 1, number).values()

    def end(client: int, connection: psycopg.Connection) -> None:
        for session in sessions[client::CLIENTS]:
            with as_service(connection):
                connection.execute(f"UPDATE vocabulary.sessions SET {change} WHERE id = %s", [session])

    with watched(plain_database):
        at_once(plain_database, end)
    assert counted(plain_database) == (number, number * (number + 1) // 2)


def test_no_session_is_lost_where_a_transaction_keeps_its_snapshot(plain_database: TestDatabase) -> None:
    """REPEATABLE READ cannot count on an old snapshot: it is refused, and tries again."""
    number = CLIENTS * 10
    (sessions,) = school(plain_database, 1, number).values()
    refused: list[str | None] = []

    def end(client: int, connection: psycopg.Connection) -> None:
        for session in sessions[client::CLIENTS]:
            for level in ("REPEATABLE READ", "SERIALIZABLE", *["REPEATABLE READ"] * 1000):
                try:
                    with as_service(connection, level):
                        connection.execute("SELECT count(*) FROM vocabulary.user_progress")
                        connection.execute(f"UPDATE vocabulary.sessions SET {ENDED} WHERE id = %s", [session])
                    break
                except errors.SerializationFailure as error:
                    refused.append(error.sqlstate)

    with watched(plain_database):
        at_once(plain_database, end)
    assert counted(plain_database) == (number, number * (number + 1) // 2)
    assert set(refused) <= {"40001"}


def test_statements_over_several_learners_in_any_order_do_not_deadlock(plain_database: TestDatabase) -> None:
    """Each ends, corrects, then deletes a session of each of ten learners: no error is allowed at all."""
    turns, spread = 12, 10
    learners = list(school(plain_database, 20, CLIENTS * turns).values())

    def work(client: int, connection: psycopg.Connection) -> None:
        choose = random.Random(client)  # noqa: S311 - a test's choice, repeatable
        for turn in range(turns):
            mine = [sessions[client * turns + turn] for sessions in choose.sample(learners, spread)]
            for change in (
                f"UPDATE vocabulary.sessions SET {ENDED}",
                "UPDATE vocabulary.sessions SET qa_attempts = qa_attempts + 1",
                *(["DELETE FROM vocabulary.sessions"] if turn % 4 == 0 else []),
            ):
                choose.shuffle(mine)
                with as_service(connection):
                    connection.execute(f"{change} WHERE id = ANY(%s)", [mine])

    with watched(plain_database):
        at_once(plain_database, work)
    assert counted(plain_database)[0] == CLIENTS * turns * spread * 3 // 4


def change_one(connection: psycopg.Connection, choose: random.Random, mine: list[UUID]) -> None:
    """A statement about one session of mine."""
    change = choose.choice(
        [
            f"UPDATE vocabulary.sessions SET {ENDED}",
            f"UPDATE vocabulary.sessions SET {TODAY}",
            "UPDATE vocabulary.sessions SET ended_at = NULL",
            "UPDATE vocabulary.sessions SET qa_attempts = qa_attempts + 1, phrases_saved = 3",
            "UPDATE vocabulary.sessions SET user_id = NULL",
            "DELETE FROM vocabulary.sessions",
        ]
    )
    connection.execute(f"{change} WHERE id = %s", [choose.choice(mine)])


def begin(connection: psycopg.Connection, choose: random.Random, learners: list[UUID]) -> None:
    connection.execute(
        "INSERT INTO vocabulary.sessions (user_id, session_type, started_at, ended_at, qa_attempts)"
        " VALUES (%s, 'qa', %s, %s, 3)",
        [choose.choice(learners), BEGAN, BEGAN + timedelta(days=choose.randint(0, 20))],
    )


@pytest.mark.parametrize("wandering", [False, True], ids=["one at a time", "from learner to learner"])
def test_sessions_change_while_learners_go(
    plain_database: TestDatabase, record_property: Callable[[str, object], None], *, wandering: bool
) -> None:
    """Where transactions go from learner to learner in any order, some meet in a circle and try again."""
    made = school(plain_database, 18, CLIENTS * 10)
    going, staying = list(made)[:10], list(made)[10:]
    retries: list[str | None] = []

    def work(client: int, connection: psycopg.Connection) -> None:
        choose = random.Random(client)  # noqa: S311 - a test's choice, repeatable
        mine = [session for learner in made for session in made[learner][client::CLIENTS]]

        def turn(number: int) -> None:
            if client == 0 and number % 8 == 0:
                connection.execute("DELETE FROM vocabulary.users WHERE id = %s", [going[number // 8]])
                return
            for _ in range(4 if wandering and number % 4 == 0 else 1):
                if choose.random() < 0.2:
                    begin(connection, choose, staying)
                else:
                    change_one(connection, choose, mine)

        for number in range(80):
            for _ in range(1000):
                try:
                    with as_service(connection):
                        turn(number)
                    break
                except errors.DeadlockDetected as error:
                    if not wandering:
                        raise
                    retries.append(error.sqlstate)

    with watched(plain_database):
        at_once(plain_database, work)
    with plain_database.connect() as connection:
        left = connection.execute("SELECT count(*) FROM vocabulary.user_progress").fetchone()
    assert left == (len(staying),)
    record_property("retries", len(retries))


# Two statements at once, each over two learners: the one's first is the other's second.
CROSSWISE: dict[str, tuple[LiteralString, LiteralString]] = {
    "hand over": (
        "UPDATE vocabulary.sessions SET user_id = %(b)s WHERE id = %(a_ended)s",
        "UPDATE vocabulary.sessions SET user_id = %(a)s WHERE id = %(b_ended)s",
    ),
    "end one's and correct the other's": (
        f"UPDATE vocabulary.sessions SET {TODAY} WHERE id IN (%(a_open)s, %(b_ended)s)",
        f"UPDATE vocabulary.sessions SET {TODAY} WHERE id IN (%(b_open)s, %(a_ended)s)",
    ),
}
SLOWLY = """
    CREATE FUNCTION public.wait_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END';
    CREATE TRIGGER a_gate BEFORE UPDATE ON vocabulary.user_progress
        FOR EACH ROW EXECUTE FUNCTION public.wait_at_the_gate();
"""


@pytest.mark.parametrize("case", CROSSWISE)
def test_two_statements_over_the_same_two_learners_do_not_deadlock(
    plain_database: TestDatabase, case: str
) -> None:
    """Each has begun with its first learner, and waits at a gate, before either comes to its second."""
    (a, of_a), (b, of_b) = school(plain_database, 2, 2).items()
    known = {"a": a, "b": b, "a_open": of_a[0], "a_ended": of_a[1], "b_open": of_b[0], "b_ended": of_b[1]}
    with plain_database.connect(autocommit=True) as gate:
        gate.execute(f"UPDATE vocabulary.sessions SET {TODAY} WHERE id = ANY(%s)", [[of_a[1], of_b[1]]])
        gate.execute(SLOWLY)
        gate.execute("SELECT pg_advisory_lock(1)")

        def run(statement: LiteralString) -> None:
            with plain_database.connect(autocommit=True) as connection:
                connection.execute(statement, known)

        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(run, statement) for statement in CROSSWISE[case]]
            came = eventually(lambda: waiting(gate) == 2)
            gate.execute("SELECT pg_advisory_unlock(1)")
            for running in both:
                running.result()
        assert came
        progress_law.assert_holds(gate)
