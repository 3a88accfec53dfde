"""How often the package asks the server, seen in the messages that the driver sends."""

import asyncio
import logging
from collections.abc import Callable
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import psycopg
import pytest
from psycopg.pq import Trace
from sqlalchemy import Connection, event, text
from sqlalchemy.orm import Session

from carnivore_db import Identity, errors, identity
from carnivore_db.weekly import reports
from tests.support.callers import KINDS, Caller, SyncCaller
from tests.support.databases import TestDatabase
from tests.support.processes import eventually
from tests.weekly.samples import LOST, SERVICE, VISITOR, issue_report

BACKEND = "SELECT pg_backend_pid()"
WHO_AND_LIMIT = "SELECT current_user, current_setting('statement_timeout')"


def sent(caller: Caller, act: Callable[[], object]) -> list[str]:
    """What the client sends during `act` on the pool's connections, cut where it awaits an answer."""
    act()  # what a new connection asks is not counted
    with TemporaryFile() as file:

        def begin(_connection: object, record: Any, _proxy: object) -> None:
            record.driver_connection.pgconn.trace(file.fileno())
            record.driver_connection.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)

        def end(_connection: object, record: Any) -> None:
            record.driver_connection.pgconn.untrace()

        event.listen(caller.events, "checkout", begin)
        event.listen(caller.events, "checkin", end)
        try:
            act()
        finally:
            event.remove(caller.events, "checkout", begin)
            event.remove(caller.events, "checkin", end)
        return _asked(file)


def _asked(file: BinaryIO) -> list[str]:
    """The statements of each message or pipeline: a Query and a Sync are what the client awaits."""
    file.seek(0)
    asked = [""]
    for line in file.read().decode().splitlines():
        sender, _, rest = line.partition("\t")
        kind = rest.split("\t")[1].strip() if sender == "F" else ""
        if kind in {"Parse", "Query"}:
            asked[-1] += rest
        if kind in {"Sync", "Query"}:
            asked.append("")
    return asked[:-1]


def _backend(tx: Session) -> int:
    return int(tx.execute(text(BACKEND)).scalar_one())


def test_a_transaction_begins_as_somebody_in_one_round_trip(caller: Caller) -> None:
    made = issue_report(caller)
    begin, statement, commit = sent(caller, lambda: caller.call(VISITOR, reports.open, made.access_token))
    assert '"BEGIN"' in begin
    assert "set_config('role'" in begin
    assert "open_report" in statement
    assert "COMMIT" in commit


def test_a_report_is_opened_by_itself_in_one_round_trip(caller: Caller) -> None:
    made = issue_report(caller)
    (statement,) = sent(caller, lambda: caller.alone(reports.open, made.access_token))
    assert "open_report" in statement
    assert "BEGIN" not in statement


def test_no_statement_s_text_holds_a_secret(caller: Caller) -> None:
    """The server writes texts into its log and shows them in pg_stat_activity."""
    who = identity.token_holder(report_token="s3cret", calculator_token="s3cret")
    asked = sent(caller, lambda: caller.run(who, lambda tx: tx.execute(text(BACKEND)).scalar_one()))
    assert "set_config" in asked[0]
    assert "s3cret" not in "".join(asked)


@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_whose_beginning_was_interrupted_is_not_used_again(
    kind: str,
    empty_database: TestDatabase,
    owner: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    async def interrupt_task(*_: object) -> None:
        raise asyncio.CancelledError

    with KINDS[kind](empty_database.app_url) as caller:
        before = caller.run(SERVICE, _backend)
        with monkeypatch.context() as patched:
            patched.setattr(psycopg.Pipeline, "__exit__", interrupt)
            patched.setattr(psycopg.AsyncPipeline, "__aexit__", interrupt_task)
            with pytest.raises((KeyboardInterrupt, asyncio.CancelledError)):
                caller.run(SERVICE, _backend)
        assert caller.run(SERVICE, _backend) != before
        assert eventually(lambda: before not in backends(owner))
    assert caplog.records == []


def backends(owner: psycopg.Connection) -> set[int]:
    rows = owner.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()").fetchall()
    return {row["pid"] for row in rows}


def test_a_connection_lost_while_a_transaction_begins(
    caller: Caller, owner: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """After the pool has looked at it, which the next listener comes behind."""
    caller.run(SERVICE, _backend)

    def lose(*_: object) -> None:
        owner.execute(LOST)

    event.listen(caller.events, "checkout", lose)
    with pytest.raises(errors.Unavailable):
        caller.run(SERVICE, _backend)
    event.remove(caller.events, "checkout", lose)
    caller.run(SERVICE, _backend)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_refused_role_leaves_the_connection_usable(caller: Caller) -> None:
    before = caller.run(SERVICE, _backend)
    with pytest.raises(errors.CarnivoreError):
        caller.run(Identity("postgres"), _backend)
    assert caller.run(SERVICE, _backend) == before


@pytest.mark.parametrize("ended", ["ROLLBACK", "COMMIT"])
def test_a_block_that_ends_its_transaction_is_told(caller: Caller, ended: str) -> None:
    with pytest.raises(errors.RolledBack):
        caller.run(SERVICE, lambda tx: tx.execute(text(ended)))


def test_what_was_sent_before_is_part_of_the_transaction(caller: Caller) -> None:

    @event.listens_for(caller.events, "begin")
    def limit(connection: Connection) -> None:
        connection.execute(text("SET LOCAL statement_timeout = '77s'"))

    found = caller.run(SERVICE, lambda tx: tx.execute(text(WHO_AND_LIMIT)).one())
    assert tuple(found) == ("service_role", "77s")


def test_an_isolation_level_of_the_engine_holds(empty_database: TestDatabase) -> None:
    with SyncCaller(empty_database.app_url) as caller:
        caller.database.engine.update_execution_options(isolation_level="SERIALIZABLE")
        shown = caller.run(SERVICE, lambda tx: tx.execute(text("SHOW transaction_isolation")).scalar_one())
    assert shown == "serializable"


def test_a_detached_connection_is_closed(empty_database: TestDatabase) -> None:
    with SyncCaller(empty_database.app_url) as caller:
        pooled = caller.database.engine.raw_connection()
        driver: Any = pooled.driver_connection
        pooled.detach()
        pooled.close()
        assert driver.closed


def test_the_pool_s_connections_begin_transactions_afterwards(caller: Caller) -> None:
    """Whoever takes one from the engine finds the driver as SQLAlchemy leaves it."""
    caller.run(SERVICE, _backend)
    with pytest.raises(errors.CarnivoreError):
        caller.run(SERVICE, lambda tx: tx.execute(text("SELECT 1 / 0")))

    def rolled_back(connection: Any) -> str:
        connection.execute(text("SET application_name = 'kept'"))
        connection.rollback()
        return str(connection.execute(text("SHOW application_name")).scalar_one())

    assert caller.outside(rolled_back) != "kept"
