"""A report opened by a statement that is a transaction by itself."""

import asyncio
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import text

from carnivore_db import AsyncDatabase, Database, Settings, errors
from carnivore_db.weekly import access_log, reports
from tests.support.callers import AsyncCaller, Caller
from tests.support.databases import TestDatabase, one
from tests.weekly.samples import HTML, LOST, SERVICE, VISITOR, ended_report, issue_report, start_session

LOG = "SELECT host(ip_address), user_agent FROM public.report_access_log"
COUNTED = "SELECT access_count FROM public.generated_reports"
PENDING = "SELECT coalesce(sum(access_count), 0) FROM public.report_access_pending"


def test_a_report_is_opened_logged_and_counted(caller: Caller, owner: psycopg.Connection) -> None:
    made = issue_report(caller)
    opened = caller.alone(reports.open, made.access_token, ip_address="192.0.2.1", user_agent="Browser/1.0")
    assert (opened.id, opened.html) == (made.id, HTML)
    assert (opened.created_at, opened.expires_at) == (made.created_at, made.expires_at)
    assert list(owner.execute(LOG).fetchone().values()) == ["192.0.2.1", "Browser/1.0"]  # type: ignore[union-attr]
    assert (one(owner, COUNTED), one(owner, PENDING)) == (1, 0)


def test_a_check_leaves_nothing(caller: Caller, owner: psycopg.Connection) -> None:
    made = issue_report(caller)
    checked = caller.alone(reports.check, made.access_token)
    assert (checked.id, checked.expires_at) == (made.id, made.expires_at)
    assert one(owner, "SELECT count(*) FROM public.report_access_log") == 0


@contextmanager
def given(owner: psycopg.Connection, database: TestDatabase, setting: str, value: str) -> Iterator[None]:
    """A setting that new sessions of the database begin with."""
    owner.execute(f"ALTER DATABASE {database.name} SET {setting} = '{value}'")
    try:
        yield
    finally:
        owner.execute(f"ALTER DATABASE {database.name} RESET {setting}")


@pytest.mark.parametrize("mode", ["immediate", "deferred"])
def test_the_settings_say_how_it_is_counted(
    mode: str, caller: Caller, empty_database: TestDatabase, owner: psycopg.Connection
) -> None:
    """Whatever the database says."""
    made = issue_report(caller)
    other = {"immediate": "deferred", "deferred": "immediate"}[mode]
    settings = Settings(access_counting=mode)
    with (
        given(owner, empty_database, "carnivore.access_counting", other),
        type(caller)(empty_database.app_url, settings=settings) as another,
    ):
        another.alone(reports.open, made.access_token)
        immediate, deferred = one(owner, COUNTED), one(owner, PENDING)
        # It ended with the statement.
        setting = text("SELECT current_setting('carnivore.access_counting')")
        assert another.outside(lambda connection: connection.scalar(setting)) == other
    assert (immediate, deferred) == ((1, 0) if mode == "immediate" else (0, 1))
    assert caller.call(SERVICE, access_log.count, made.id).access_count == 1


@pytest.mark.parametrize("function", [reports.open, reports.check])
def test_refusals_are_those_of_a_transaction(
    function: "type[reports.open]", caller: Caller, owner: psycopg.Connection
) -> None:
    ended = ended_report(owner, start_session(caller).id)
    with pytest.raises(errors.ReportExpired) as expired:
        caller.alone(function, ended.token)
    assert expired.value.expired_at == ended.expires_at
    unknown = "ab" * 32
    with pytest.raises(errors.ReportNotFound) as refused:
        caller.alone(function, unknown)
    assert unknown not in "".join(traceback.format_exception(refused.value))
    with pytest.raises(errors.ReportNotFound):
        caller.alone(function, "' OR true --")
    assert one(owner, "SELECT count(*) FROM public.report_access_log") == 0


def test_bad_client_metadata_costs_nothing(caller: Caller, owner: psycopg.Connection) -> None:
    made = issue_report(caller)
    caller.alone(reports.open, made.access_token, ip_address="unknown", user_agent="\ud800 \x00")
    assert one(owner, "SELECT count(*) FROM public.report_access_log WHERE ip_address IS NULL") == 1


def test_the_pool_s_connections_serve_both_ways_in_turn(caller: Caller, owner: psycopg.Connection) -> None:
    """A connection left in autocommit would keep what a transaction takes back."""
    made = issue_report(caller)
    with type(caller)(caller.database.engine.url, settings=Settings(pool_size=1, max_overflow=0)) as single:
        single.alone(reports.open, made.access_token)
        with pytest.raises(errors.ReportNotFound):
            single.alone(reports.open, "ab" * 32)

        def taken_back(tx: object) -> None:
            reports.open(tx, made.access_token)  # type: ignore[arg-type]
            raise LookupError

        with pytest.raises(LookupError):
            single.run(VISITOR, taken_back)
        single.alone(reports.open, made.access_token)
    assert one(owner, "SELECT count(*) FROM public.report_access_log") == 2


def test_a_connection_that_the_server_closed_is_replaced(caller: Caller, owner: psycopg.Connection) -> None:
    made = issue_report(caller)
    for opening in (
        lambda: caller.alone(reports.open, made.access_token),
        lambda: caller.call(VISITOR, reports.open, made.access_token),
    ):
        caller.alone(reports.check, made.access_token)  # the pool has a connection
        assert one(owner, LOST) == 1
        assert opening().id == made.id
    assert one(owner, COUNTED) == 2


def test_a_pool_that_has_no_connection_left_is_busy(empty_database: TestDatabase) -> None:
    database = Database(empty_database.app_url, settings=Settings(pool_size=1, max_overflow=0))
    database.engine.pool._timeout = 0.01  # type: ignore[attr-defined]
    with database.transaction(VISITOR), pytest.raises(errors.Busy):
        reports.check(database.autocommit, "ab" * 32)
    database.close()


def test_a_server_that_is_not_there_is_unavailable(caller: Caller) -> None:
    nowhere = caller.database.engine.url.set(port=1)
    with type(caller)(nowhere) as lost, pytest.raises(errors.Unavailable):
        lost.alone(reports.check, "ab" * 32)


def test_a_statement_that_is_cancelled_leaves_a_usable_pool(
    caller: Caller, empty_database: TestDatabase, owner: psycopg.Connection
) -> None:
    """The report is locked by somebody else: the database's own limit ends the wait, and nothing is kept."""
    made = issue_report(caller, valid_for=timedelta(days=1))
    with (
        given(owner, empty_database, "lock_timeout", "20"),
        type(caller)(empty_database.app_url) as limited,
    ):
        with owner.transaction():
            owner.execute("SELECT FROM public.generated_reports FOR UPDATE")
            with pytest.raises(errors.Busy):
                limited.alone(reports.open, made.access_token)
        assert limited.alone(reports.open, made.access_token).id == made.id
    assert one(owner, COUNTED) == 1


def test_tasks_open_reports_at_once(empty_database: TestDatabase, owner: psycopg.Connection) -> None:
    """More tasks than connections, with one database: each has its own answer."""
    with AsyncCaller(empty_database.app_url) as caller:
        made = [issue_report(caller, html=f"<p>{number}</p>") for number in range(4)]

    async def open_all() -> list[str]:
        database = AsyncDatabase(empty_database.app_url, settings=Settings(pool_size=2, max_overflow=0))
        calls = [database.autocommit.run_sync(reports.open, made[n % 4].access_token) for n in range(40)]
        opened = await asyncio.gather(*calls)
        await database.close()
        return [report.html for report in opened]

    assert asyncio.run(open_all()) == [f"<p>{n % 4}</p>" for n in range(40)]
    assert one(owner, "SELECT count(*) FROM public.report_access_log") == 40
