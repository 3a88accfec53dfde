"""A job that fails: its batches stay done, the failure is in the log and is raised, the next run ends it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege
from psycopg.rows import dict_row

from carnivore_db import errors
from carnivore_db.conversation import jobs
from tests.conversation.working import SECRET, WORK, Work, failure, gate, logged, stumbling, working
from tests.support.databases import WAITING, TestDatabase, one, somebody_waits

pytestmark = pytest.mark.document(45)
CALL = "CALL conversation.run_job(%s, %s)"
everybody = pytest.mark.parametrize("work", WORK.values(), ids=WORK)


def batches(owner: psycopg.Connection, work: Work) -> list[int]:
    """What is recorded of the batches that were kept."""
    return [event["metadata"][work.count] for event in logged(owner, work.event)]


def finish(database: TestDatabase, owner: psycopg.Connection, work: Work, left: int) -> None:
    """The next run does what was left."""
    assert work.left(owner) == left
    with working(database) as db:
        assert jobs.run(db.engine, work.job, batch=2) == left
    assert work.left(owner) == 0
    failure(owner)  # still the only one


@everybody
def test_a_failure_in_the_middle(empty_database: TestDatabase, owner: psycopg.Connection, work: Work) -> None:
    work.make_due(owner, 5)
    before = datetime.now(UTC)
    with working(empty_database) as db, stumbling(owner, work, "fail"):
        with pytest.raises(errors.DatabaseError) as failed:
            jobs.run(db.engine, work.job, batch=2)
        assert failed.value.sqlstate == "P0001"
        assert SECRET not in f"{failed.value} {failed.value.__cause__}"
    facts = failure(owner)
    assert (facts["job"], facts["sqlstate"], facts["rule"]) == (work.job, "P0001", "of_the_test")
    began, ended = (datetime.fromisoformat(facts[name]) for name in ("started_at", "finished_at"))
    assert before <= began <= ended <= datetime.now(UTC)
    # The first batch is kept, and is the same run's.
    assert batches(owner, work) == [2]
    assert logged(owner, work.event)[0]["metadata"]["job_id"] == facts["job_id"]
    finish(empty_database, owner, work, 3)


def cancel(owner: psycopg.Connection) -> None:
    owner.execute(WAITING.replace("count(*)", "pg_cancel_backend(pid)"))


def terminate(owner: psycopg.Connection) -> None:
    owner.execute(WAITING.replace("count(*)", "pg_terminate_backend(pid)"))


@everybody
@pytest.mark.parametrize(
    ("end", "error", "told"),
    [
        (cancel, errors.Busy, {"sqlstate": "57014"}),
        (terminate, errors.Unavailable, {"rule": "connection_lost"}),
    ],
    ids=["cancelled", "killed"],
)
def test_somebody_ends_it_in_the_middle(
    empty_database: TestDatabase,
    owner: psycopg.Connection,
    work: Work,
    end: Callable[[psycopg.Connection], None],
    error: type[errors.CarnivoreError],
    told: dict[str, str],
) -> None:
    work.make_due(owner, 5)
    with (
        working(empty_database) as db,
        stumbling(owner, work, "wait"),
        gate(empty_database),
        ThreadPoolExecutor(1) as pool,
    ):
        running = pool.submit(jobs.run, db.engine, work.job, batch=2)
        somebody_waits(owner)
        end(owner)
        with pytest.raises(error):
            running.result()
    facts = failure(owner)
    assert {"job": work.job, **told}.items() <= facts.items()
    assert batches(owner, work) == [2]
    finish(empty_database, owner, work, 3)


def wait_in_vain(
    database: TestDatabase, owner: psycopg.Connection, work: Work, sqlstate: str, **settings: str
) -> None:
    """The job comes to the gate, and its time is up."""
    work.make_due(owner, 5)
    with (
        working(database, **settings) as db,
        stumbling(owner, work, "wait"),
        gate(database),
        pytest.raises(errors.Busy),
    ):
        jobs.run(db.engine, work.job, batch=2)
    assert failure(owner)["sqlstate"] == sqlstate
    assert batches(owner, work) == [2]
    finish(database, owner, work, 3)


@everybody
def test_a_lock_is_not_to_be_had(empty_database: TestDatabase, owner: psycopg.Connection, work: Work) -> None:
    wait_in_vain(empty_database, owner, work, "55P03", lock_timeout="100")


def test_its_statement_takes_too_long(empty_database: TestDatabase, owner: psycopg.Connection) -> None:
    """The time is the whole run's, and long enough for a batch."""
    wait_in_vain(empty_database, owner, WORK["archive_messages"], "57014", statement_timeout="4000")


def test_a_month_that_somebody_reads_is_not_waited_for_long(plain_database: TestDatabase) -> None:
    """Dropping it needs a lock that the reader's stands against: the job gives up, and the month stays."""
    with plain_database.connect(autocommit=True) as owner, plain_database.connect() as reader:
        owner.row_factory = dict_row
        one(owner, "SELECT carnivore.create_partition('conversation.logs', %s)", date(2024, 5, 1))
        WORK["delete_old_logs"].make_due(owner, 1)
        reader.execute("SELECT FROM conversation.logs_2024_05")
        with working(plain_database) as db:
            with pytest.raises(errors.Busy):
                jobs.run(db.engine, "delete_old_logs")
            facts = failure(owner)
            assert (facts["job"], facts["sqlstate"]) == ("delete_old_logs", "55P03")
            assert one(owner, "SELECT count(*) FROM conversation.logs_2024_05") == 1
            reader.commit()
            jobs.run(db.engine, "delete_old_logs")
        assert one(owner, "SELECT to_regclass('conversation.logs_2024_05')") is None


@everybody
def test_a_right_that_was_taken_away(database: TestDatabase, work: Work) -> None:
    """The service runs the job by raw SQL; the failure is its to log."""
    with (
        database.connect(autocommit=True) as owner,
        database.connect(database.shape.login, autocommit=True) as login,
    ):
        owner.row_factory = dict_row
        work.make_due(owner, 3)
        arguments = "integer, uuid, interval" if work.job == "archive_messages" else "integer, uuid"
        function = f"conversation.{work.job}({arguments})"
        owner.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM service_role")
        login.execute("SET ROLE service_role")
        with pytest.raises(InsufficientPrivilege) as refused:
            login.execute(CALL, [work.job, 2])
        assert str(refused.value).startswith(f"the job {work.job} failed")
        facts = failure(owner)
        assert (facts["job"], facts["sqlstate"]) == (work.job, "42501")
        assert work.left(owner) == 3
        owner.execute(f"GRANT EXECUTE ON FUNCTION {function} TO service_role")
        assert login.execute(CALL, [work.job, 2]).fetchone() == (3,)


def test_a_failure_that_the_job_logs_itself_would_be_lost(
    plain_database: TestDatabase,
) -> None:
    """Why the failure is logged in a transaction of its own: this one is gone with the batch."""
    work = WORK["delete_expired_sessions"]
    with plain_database.connect(autocommit=True) as owner:
        owner.row_factory = dict_row
        work.make_due(owner, 5)
        with stumbling(owner, work, "fail"), pytest.raises(psycopg.errors.RaiseException):
            owner.execute("SELECT conversation.delete_expired_sessions(4)")
        assert logged(owner, work.event) == []
        assert work.left(owner) == 5
