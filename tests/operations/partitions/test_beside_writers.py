"""Partitions are made beside writers: none is refused, none is lost, none waits longer than it is said."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from typing import Any

import psycopg
import pytest
from psycopg import errors as refused
from sqlalchemy import event

from carnivore_db import Database, errors
from tests.operations.partitions.months import (
    LOG,
    LOGS,
    access,
    counts,
    forget,
    holders,
    inside,
    log,
    made,
    month,
    name,
    one,
    partitions,
    rows,
    run,
)
from tests.support.databases import TestDatabase
from tests.support.processes import eventually

pytestmark = pytest.mark.slow

CLIENTS = 4
FAR = date(2031, 5, 1)
PREPARE = "SELECT carnivore.prepare_partition(%s::text::regclass, %s)"
ATTACH = "SELECT carnivore.attach_partition(%s::text::regclass, %s)"
LOCK = "SELECT carnivore.lock_partitioned(%s::text::regclass, %s)"
WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE %s
"""


@pytest.fixture
def database(plain_database: TestDatabase) -> TestDatabase:
    """Locks are the same in both shapes."""
    return plain_database


@pytest.fixture
def attempts(migrating: Database) -> list[str]:
    """A list that grows with each attempt to attach."""
    seen: list[str] = []

    @event.listens_for(migrating.engine, "before_cursor_execute")
    def note(_c: Any, _r: Any, statement: str, given: dict[str, Any], _x: Any, _m: bool) -> None:
        if "attach_partition" in statement:
            seen.append(name(given["table"], given["month"]))

    return seen


OPEN = "SELECT public.open_report(%(token)s, '192.0.2.1', 'Browser/1.0')"
RECORD = "INSERT INTO public.report_access_log (report_id) VALUES (%(id)s)"
EVENT = "INSERT INTO conversation.logs (level, event_type) VALUES ('info', 'user_logout')"
# Each locks in an order of its own: the report first, the log first, the log alone, the chat's log.
WRITERS = {
    "opens": (LOG, "anon", "immediate", OPEN),
    "records": (LOG, "service_role", "immediate", RECORD),
    "records that are counted later": (LOG, "service_role", "deferred", RECORD),
    "events": (LOGS, "service_role", "immediate", EVENT),
}


@contextmanager
def writing(database: TestDatabase, reports: dict[int, str], kind: str) -> Iterator[list[int]]:
    """Connections that write without a pause while the block runs; yields how often each did so far. The
    first error is raised."""
    _, role, counting, statement = WRITERS[kind]
    over, written = threading.Event(), [0] * CLIENTS
    chosen = list(reports.items())

    def write(client: int) -> None:
        with database.connect(database.shape.login, autocommit=True) as connection:
            while not over.is_set():
                key, token = chosen[(client + written[client]) % len(chosen)]
                with connection.transaction():
                    connection.execute(
                        "SELECT set_config('role', %s, true),"
                        " set_config('carnivore.access_counting', %s, true)",
                        [role, counting],
                    )
                    connection.execute(statement, {"id": key, "token": token})
                written[client] += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(write, client) for client in range(CLIENTS)]
        try:
            assert eventually(lambda: min(written) > 0 or any(c.done() for c in clients))
            yield written
        finally:
            over.set()
        for client in clients:
            client.result()


@pytest.mark.parametrize("kind", WRITERS)
def test_the_month_that_everybody_writes_to_is_made_beneath_them(
    database: TestDatabase, owner: psycopg.Connection, migrating: Database, kind: str
) -> None:
    """The calendar was forgotten: all of it goes through the DEFAULT partition, until it does not."""
    table = WRITERS[kind][0]
    tokens = made(database, 8)
    forget(owner, month(), month(1), tables=[table])
    with writing(database, tokens, kind) as written:
        outcome = run(migrating)
        assert outcome.failed == {}
        after = sum(written)
        assert eventually(lambda: sum(written) > after + CLIENTS)
    (drained,) = (a for a in outcome.done if a.kind == "drain")
    assert drained.partition == name(table, month())
    assert drained.rows > 0
    assert holders(owner, table) == {name(table, month()): sum(written)}
    assert sum(written) > drained.rows
    counts(owner)


def test_of_two_runs_one_works(owner: psycopg.Connection, migrating: Database) -> None:
    log(owner, inside(FAR))
    others = []
    outcome = run(migrating, on_step=lambda *_: others.append(run(migrating)))
    assert others
    for other in others:
        assert (other.busy, other.done, other.failed) == (True, [], {})
    assert not outcome.busy
    assert holders(owner, LOGS) == {name(LOGS, FAR): 1}
    assert not run(migrating).busy


def test_a_month_that_cannot_be_had_is_tried_again_and_then_told(
    database: TestDatabase, owner: psycopg.Connection, migrating: Database, attempts: list[str]
) -> None:
    forget(owner, month(3))
    missing, other = name(LOG, month(3)), name(LOGS, month(3))
    with database.connect() as writer:
        writer.execute("LOCK TABLE public.generated_reports IN ROW EXCLUSIVE MODE")
        outcome = run(migrating, lock_timeout_ms=50, patience=0.5)
        assert isinstance(outcome.failed[missing], errors.Busy)
        assert attempts.count(missing) > 2
        assert other in {action.partition for action in outcome.done}
        assert attempts.count(other) == 1
    assert missing not in partitions(owner, LOG)
    again = run(migrating)
    assert again.failed == {}
    assert missing in {action.partition for action in again.done}


def test_a_lock_that_is_given_back_in_time_costs_nothing(
    database: TestDatabase, owner: psycopg.Connection, migrating: Database, attempts: list[str]
) -> None:
    forget(owner, month(3), tables=[LOG])
    with database.connect() as writer:
        writer.execute("LOCK TABLE public.generated_reports IN ROW EXCLUSIVE MODE")

        @event.listens_for(migrating.engine, "handle_error")
        def refused_twice(_: Any) -> None:
            if attempts.count(name(LOG, month(3))) == 2:
                writer.rollback()

        outcome = run(migrating, lock_timeout_ms=50)
    assert outcome.failed == {}
    assert name(LOG, month(3)) in {action.partition for action in outcome.done}


def test_who_waits_behind_a_run_goes_on_when_its_time_is_up(
    database: TestDatabase, owner: psycopg.Connection, migrating: Database
) -> None:
    """Somebody holds a lock for long; the run queues for it, and a writer behind the run. The writer is
    through while that lock is held still."""
    (report,) = made(database, 1)
    forget(owner, month(3), tables=[LOG])
    with (
        ThreadPoolExecutor(2) as pool,
        database.connect() as holder,
        database.connect(autocommit=True) as writer,
    ):
        holder.execute("LOCK TABLE public.generated_reports IN ROW EXCLUSIVE MODE")
        running = pool.submit(run, migrating, lock_timeout_ms=1500, patience=0)
        assert eventually(lambda: one(owner, WAITING, "%attach_partition%") == 1)
        written = pool.submit(writer.execute, RECORD, {"id": report})
        assert eventually(lambda: one(owner, WAITING, "INSERT%") == 1)
        written.result(timeout=60)
        assert isinstance(running.result(timeout=60).failed[name(LOG, month(3))], errors.Busy)
    counts(owner)


def test_rows_that_take_too_long_stay_until_they_may(
    database: TestDatabase, owner: psycopg.Connection, migrating: Database
) -> None:
    owner.execute(
        "INSERT INTO conversation.logs (level, event_type, created_at) SELECT 'info', 'user_logout',"
        " '2031-05-01Z'::timestamptz + n * interval '1 minute' FROM generate_series(1, 20000) AS n"
    )
    outcome = run(migrating, lock_timeout_ms=10, patience=0)
    problem = outcome.failed[name(LOGS, FAR)]
    assert isinstance(problem, errors.Busy)
    assert "within 10 ms" in str(problem)
    assert holders(owner, LOGS) == {f"{LOGS}_default": 20000}
    assert run(migrating, lock_timeout_ms=60_000).failed == {}
    assert holders(owner, LOGS) == {name(LOGS, FAR): 20000}


# What somebody else has locked, and how; in which order the run goes.
LATER = [
    (LOG, "off", LOG, "ROW EXCLUSIVE"),
    (LOG, "off", f"{LOG}_default", "ACCESS SHARE"),
    (LOG, "on", "public.generated_reports", "ROW EXCLUSIVE"),
    (LOG, "on", f"{LOG}_default", "ACCESS SHARE"),
    (LOGS, "off", "conversation.profiles", "ROW EXCLUSIVE"),
    (LOGS, "off", "conversation.event_types", "ROW EXCLUSIVE"),
    (LOGS, "off", LOGS, "ROW EXCLUSIVE"),
    (LOGS, "on", "conversation.sessions", "ROW EXCLUSIVE"),
]


@pytest.mark.parametrize("dropping", [False, True])
@pytest.mark.parametrize(("table", "parent_first", "held", "mode"), LATER)
def test_no_lock_but_the_first_is_waited_for(
    database: TestDatabase, table: str, parent_first: str, held: str, mode: str, dropping: bool
) -> None:
    """Whoever has it may wait for what is held: nobody shall have to die of that."""
    with database.connect() as holder, database.connect(database.shape.migrator) as ddl:
        holder.execute(f"LOCK TABLE ONLY {held} IN {mode} MODE")
        ddl.execute("SET LOCAL statement_timeout = '30s'")  # without NOWAIT it would be this
        ddl.execute("SELECT set_config('carnivore.parent_first', %s, true)", [parent_first])
        with pytest.raises(refused.LockNotAvailable):
            ddl.execute(LOCK, [table, dropping])


@pytest.mark.parametrize(
    ("table", "parent_first", "first"),
    [
        (LOG, "off", "public.generated_reports"),
        (LOG, "on", LOG),
        (LOGS, "off", "conversation.sessions"),
        (LOGS, "on", LOGS),
    ],
)
def test_the_first_is_waited_for(
    database: TestDatabase, owner: psycopg.Connection, table: str, parent_first: str, first: str
) -> None:
    def lock() -> None:
        with database.connect(database.shape.migrator) as ddl:
            ddl.execute("SELECT set_config('carnivore.parent_first', %s, true)", [parent_first])
            ddl.execute(LOCK, [table, False])

    with ThreadPoolExecutor(1) as pool, database.connect() as holder:
        holder.execute(f"LOCK TABLE ONLY {first} IN ROW EXCLUSIVE MODE")
        waiting = pool.submit(lock)
        assert eventually(lambda: one(owner, WAITING, "%lock_partitioned%") == 1 or waiting.done())
        holder.rollback()
        waiting.result(timeout=60)


@pytest.mark.parametrize("dropping", [False, True])
@pytest.mark.parametrize("table", [LOG, LOGS])
def test_what_is_locked_and_how(database: TestDatabase, table: str, dropping: bool) -> None:
    """Readers go on while a month is attached, but in the DEFAULT partition."""
    whole = {"report_access_log": ["generated_reports"], "logs": ["event_types", "profiles", "sessions"]}
    short = table.split(".")[1]
    mode = "AccessExclusiveLock" if dropping else "ShareRowExclusiveLock"
    with database.connect(database.shape.migrator) as ddl:
        ddl.execute(LOCK, [table, dropping])
        found = ddl.execute(
            "SELECT c.relname, l.mode FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation"
            " WHERE l.pid = pg_backend_pid() AND c.relkind IN ('r', 'p') AND l.mode <> 'AccessShareLock'"
        ).fetchall()
    expected = dict.fromkeys([*whole[short], short], mode) | {f"{short}_default": "AccessExclusiveLock"}
    assert dict(found) == expected


@pytest.mark.parametrize(("table", "write"), [(LOG, access), (LOGS, log)])
def test_a_row_that_comes_while_its_month_is_attached_goes_there(
    database: TestDatabase,
    owner: psycopg.Connection,
    table: str,
    write: Callable[..., None],
) -> None:
    """PostgreSQL would refuse a row that had chosen the DEFAULT partition and waited there."""
    (report,) = made(database, 1)
    given = [report] if table == LOG else []

    def late() -> None:
        with database.connect(autocommit=True) as connection:
            connection.execute("SET carnivore.access_counting = 'deferred'")
            write(connection, *given, inside(FAR))

    write(owner, *given, inside(FAR))
    with ThreadPoolExecutor(1) as pool:
        with database.connect(database.shape.migrator) as ddl:
            ddl.execute(PREPARE, [table, FAR])
            ddl.execute(ATTACH, [table, FAR])
            running = pool.submit(late)
            assert eventually(lambda: one(owner, WAITING, "%INSERT%") == 1 or running.done())
            ddl.commit()
        running.result(timeout=60)
    assert holders(owner, table) == {name(table, FAR): 2}
    assert len(rows(owner, table)) == 2
    counts(owner)


def test_nobody_waits_while_a_month_is_prepared(database: TestDatabase, owner: psycopg.Connection) -> None:
    """However many rows are copied: who writes and who reads goes on."""
    (report,) = made(database, 1)
    access(owner, report, inside(FAR))
    log(owner, inside(FAR))
    with database.connect(database.shape.migrator) as ddl:
        for table in (LOG, LOGS):
            ddl.execute(PREPARE, [table, FAR])
        owner.execute("SET lock_timeout = '30s'")
        access(owner, report, inside(FAR))
        log(owner, inside(FAR))
        assert len(rows(owner, LOG)) == len(rows(owner, LOGS)) == 2
        owner.execute("DELETE FROM public.generated_reports")
        ddl.rollback()
    assert partitions(owner, LOG) & {name(LOG, FAR)} == set()


@pytest.mark.parametrize(
    ("held", "mode"),
    [
        ("conversation.profiles", "ROW SHARE"),
        ("conversation.logs", "ACCESS SHARE"),
        ("conversation.logs_2024_05", "ACCESS SHARE"),
    ],
)
def test_who_drops_old_months_waits_for_nobody_with_locks_in_hand(
    database: TestDatabase, owner: psycopg.Connection, held: str, mode: str
) -> None:
    owner.execute("SELECT carnivore.create_partition('conversation.logs', '2024-05-01')")
    drop = "SELECT conversation.delete_old_logs()"
    definition = one(
        owner, "SELECT pg_get_functiondef('conversation.delete_old_logs(integer, uuid)'::regprocedure)"
    )
    owner.execute(definition.replace("SET lock_timeout TO '2s'", "SET lock_timeout TO '0'"))
    with database.connect() as holder, database.connect(database.shape.migrator) as ddl:
        holder.execute(f"LOCK TABLE ONLY {held} IN {mode} MODE")
        ddl.execute("SET LOCAL statement_timeout = '30s'")  # without NOWAIT it would be this
        with pytest.raises(refused.LockNotAvailable):
            ddl.execute(drop)
        ddl.rollback()
        holder.rollback()
        ddl.execute(drop)
        ddl.commit()
    assert name(LOGS, date(2024, 5, 1)) not in partitions(owner, LOGS)
