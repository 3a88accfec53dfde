"""How often the package asks the server, seen in the messages that the driver sends."""

from collections.abc import Callable
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import psycopg
import pytest
from psycopg.pq import Trace
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from carnivore_db import errors, identity
from carnivore_db.weekly import reports
from tests.support.callers import Caller, SyncCaller
from tests.support.databases import TestDatabase
from tests.weekly.samples import SERVICE, VISITOR, issue_report

BACKEND = "SELECT pg_backend_pid()"


def sent(caller: Caller, act: Callable[[], object]) -> list[str]:
    """What the client sends during `act` on the pool's connections, cut where it awaits an answer."""
    engine = getattr(caller.database.engine, "sync_engine", caller.database.engine)
    act()  # what a new connection asks is not counted
    with TemporaryFile() as file:

        def begin(_connection: object, record: Any, _proxy: object) -> None:
            record.driver_connection.pgconn.trace(file.fileno())
            record.driver_connection.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)

        def end(_connection: object, record: Any) -> None:
            record.driver_connection.pgconn.untrace()

        event.listen(engine, "checkout", begin)
        event.listen(engine, "checkin", end)
        try:
            act()
        finally:
            event.remove(engine, "checkout", begin)
            event.remove(engine, "checkin", end)
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
    assert "s3cret" not in "".join(asked)


def test_a_connection_whose_beginning_was_interrupted_is_not_used_again(
    empty_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    shape = empty_database.shape
    with SyncCaller(shape.url(empty_database.name, shape.login)) as caller:
        before = caller.run(SERVICE, _backend)
        with monkeypatch.context() as patched:
            patched.setattr(psycopg.Pipeline, "__exit__", interrupt)
            with pytest.raises(KeyboardInterrupt):
                caller.run(SERVICE, _backend)
        assert caller.run(SERVICE, _backend) != before


def _backend(tx: Session) -> int:
    return int(tx.execute(text(BACKEND)).scalar_one())


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
