"""The jobs: batch by batch to the end, each batch recorded; at any time, in any number, and again."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg.errors import CheckViolation, InsufficientPrivilege, InvalidTransactionTermination
from psycopg.rows import dict_row

from carnivore_db import Database, errors
from carnivore_db.conversation import jobs
from tests.conversation.samples import sign_up
from tests.conversation.speaking import opened, speak
from tests.conversation.working import WORK, Work, failure, gate, logged, stumbling, working
from tests.support.databases import TestDatabase, one, somebody_waits, waiting
from tests.support.processes import eventually

CALL = "CALL conversation.run_job(%s, %s)"
AGE = {  # how long ago something must have been, in days
    "reset_weekly_limits": 0,
    "delete_expired_sessions": 7,
    "delete_old_logs": 30,
    "archive_messages": 365,
}
everybody = pytest.mark.parametrize("work", WORK.values(), ids=WORK)


@pytest.fixture
def db(empty_database: TestDatabase) -> Iterator[Database]:
    """As the jobs run: the migrating role's, on a direct connection."""
    with working(empty_database) as made:
        yield made


def test_there_is_no_other_job() -> None:
    assert set(WORK) == set(jobs.JOBS)


@pytest.mark.document(31, 32)
@everybody
def test_a_job_works_batch_by_batch_and_records_each(
    db: Database, owner: psycopg.Connection, work: Work
) -> None:
    work.make_due(owner, 5)
    before = datetime.now(UTC)
    assert jobs.run(db.engine, work.job, batch=2) == 5
    assert work.left(owner) == 0
    events = logged(owner, work.event)
    facts = [event["metadata"] for event in events]
    assert {event["level"] for event in events} == {"info"}
    assert [fact[work.count] for fact in facts] == [2, 2, 1]
    assert len({fact["job_id"] for fact in facts}) == 1
    for fact in facts:
        assert fact["job"] == work.job
        began, ended = (datetime.fromisoformat(fact[name]) for name in ("started_at", "finished_at"))
        assert before <= began <= ended <= datetime.now(UTC)
        # The window: everything of before then.
        assert (began - datetime.fromisoformat(fact["before"])).days in {AGE[work.job], AGE[work.job] + 1}
    assert one(owner, "SELECT count(*) FROM conversation.logs WHERE level = 'error'") == 0


@pytest.mark.document(32)
@everybody
def test_a_job_that_runs_again_changes_nothing_more(
    db: Database, owner: psycopg.Connection, work: Work
) -> None:
    work.make_due(owner, 3)
    jobs.run(db.engine, work.job)
    before = everything(owner)
    assert [jobs.run(db.engine, work.job) for _ in range(2)] == [0, 0]
    assert everything(owner) == before
    # And says so: each run has its own id.
    facts = [event["metadata"] for event in logged(owner, work.event)]
    assert [fact[work.count] for fact in facts] == [3, 0, 0]
    assert len({fact["job_id"] for fact in facts}) == 3


@everybody
def test_a_job_touches_nothing_that_is_not_due(db: Database, owner: psycopg.Connection, work: Work) -> None:
    """An open session of now, an event of now, a week that goes on."""
    session = opened(owner, sign_up(owner), one(owner, "SELECT now()"))
    speak(owner, session, one(owner, "SELECT now() - interval '1 minute'"), said=1)
    owner.execute("INSERT INTO conversation.logs (level, event_type) VALUES ('info', 'user_logout')")
    before = everything(owner)
    assert jobs.run(db.engine, work.job) == 0
    assert everything(owner) == before


def everything(owner: psycopg.Connection) -> list[Any]:
    """All rows but the jobs' own records."""
    return [
        owner.execute(f"SELECT * FROM conversation.{table} ORDER BY id").fetchall()
        for table in ("profiles", "sessions", "messages", "messages_archive")
    ] + [
        owner.execute(
            "SELECT * FROM conversation.logs WHERE metadata->>'job' IS NULL ORDER BY created_at, id"
        ).fetchall()
    ]


@pytest.mark.document(31)
@everybody
def test_two_at_once_do_the_work_of_one(
    empty_database: TestDatabase, db: Database, owner: psycopg.Connection, work: Work
) -> None:
    """The first is in the middle of a batch when the second begins."""
    work.make_due(owner, 9)
    # The second waits for nothing: it goes around what the first has in hand, and leaves months to it.
    with (
        stumbling(owner, work, "wait"),
        working(empty_database, lock_timeout="1") as other,
        ThreadPoolExecutor(2) as pool,
    ):
        with gate(empty_database):
            first = pool.submit(jobs.run, db.engine, work.job, batch=2)
            somebody_waits(owner)
            second = pool.submit(jobs.run, other.engine, work.job, batch=3)
            assert eventually(lambda: second.done() or waiting(owner) == 2)
        assert first.result() + second.result() == 9
    assert work.left(owner) == 0
    facts = [event["metadata"] for event in logged(owner, work.event)]
    assert sum(fact[work.count] for fact in facts) == 9
    # Whoever leaves the work to another has done nothing to record.
    assert len({fact["job_id"] for fact in facts}) == (1 if work.job == "delete_old_logs" else 2)


@pytest.mark.document(31)
@everybody
def test_a_locked_row_holds_nothing_up(
    empty_database: TestDatabase, owner: psycopg.Connection, work: Work
) -> None:
    """It is left to the next run, and nobody waits for it."""
    work.make_due(owner, 4)
    locked = owner.execute(work.due).fetchall()[1]["id"]
    table = {"archive_messages": "conversation.messages"}.get(work.job, work.touched)
    with working(empty_database, lock_timeout="1") as db:
        with empty_database.connect() as holder:
            holder.execute(f"SELECT FROM {table} WHERE id = %s FOR UPDATE", [locked])
            assert jobs.run(db.engine, work.job, batch=10) == 3
            assert [row["id"] for row in owner.execute(work.due).fetchall()] == [locked]
        assert jobs.run(db.engine, work.job, batch=10) == 1


@pytest.mark.document(31)
def test_a_reset_holds_nobody_longer_than_its_batch(
    empty_database: TestDatabase, db: Database, owner: psycopg.Connection
) -> None:
    """In the middle of the second batch, the people of the first are free, and so are those to come."""
    work = WORK["reset_weekly_limits"]
    work.make_due(owner, 6)
    people = [row["id"] for row in owner.execute(work.due).fetchall()]
    with stumbling(owner, work, "wait"), ThreadPoolExecutor(1) as pool:
        with gate(empty_database):
            running = pool.submit(jobs.run, db.engine, work.job, batch=2)
            somebody_waits(owner)
            free = owner.execute("SELECT id FROM conversation.profiles FOR UPDATE SKIP LOCKED").fetchall()
            assert {row["id"] for row in free} == {*people[:2], *people[4:]}
        assert running.result() == 6


@pytest.mark.parametrize("batch", [0, -1, None])
@everybody
def test_a_batch_has_rows(owner: psycopg.Connection, work: Work, batch: int | None) -> None:
    """Else the job would go on for ever."""
    work.make_due(owner, 3)
    owner.execute("SET statement_timeout = '5s'")
    with pytest.raises(CheckViolation) as refused:
        owner.execute(CALL, [work.job, batch])
    assert refused.value.diag.constraint_name == "batch_positive"
    assert work.left(owner) == 3


@pytest.mark.document(45)
def test_a_job_that_nobody_knows(db: Database, owner: psycopg.Connection) -> None:
    with pytest.raises(errors.InvalidInput) as refused:
        jobs.run(db.engine, "drop_everything")  # type: ignore[arg-type]
    assert refused.value.field == "job"
    assert logged(owner, "cleanup_job_failed") == []
    name = "drop_everything" * 10
    with pytest.raises(errors.JobNotFound), db.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(
            "CALL conversation.run_job(%s)", (name,)
        )
    facts = failure(owner)
    assert (facts["job"], facts["sqlstate"], facts["rule"]) == (name[:100], "PT404", "job_not_found")


@everybody
def test_the_service_calls_a_job_and_nobody_else(database: TestDatabase, work: Work) -> None:
    """As a scheduler does, without this package."""
    with (
        database.connect(autocommit=True) as owner,
        database.connect(database.shape.login, autocommit=True) as login,
    ):
        owner.row_factory = dict_row
        work.make_due(owner, 3)
        for role in ("anon", "authenticated"):
            login.execute(f"SET ROLE {role}")
            for statement in (CALL, f"SELECT conversation.{work.job}(%s::integer)"):
                with pytest.raises(InsufficientPrivilege):
                    login.execute(statement, [work.job, 2] if statement == CALL else [2])
        assert work.left(owner) == 3
        login.execute("SET ROLE service_role")
        assert login.execute(CALL, [work.job, 2]).fetchone() == (3,)
        assert work.left(owner) == 0


def test_a_job_within_a_transaction_is_refused_whole(
    empty_database: TestDatabase, owner: psycopg.Connection
) -> None:
    """It could not commit its batches."""
    work = WORK["delete_expired_sessions"]
    work.make_due(owner, 3)
    with empty_database.connect() as connection, pytest.raises(InvalidTransactionTermination):
        connection.execute(CALL, [work.job, 2])
    assert work.left(owner) == 3
    assert logged(owner, work.event) == []
