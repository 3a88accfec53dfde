"""The unit of work is the caller's: all of a block or nothing, and nothing that outlives it."""

import asyncio
from contextlib import nullcontext, suppress

import psycopg
import pytest
from sqlalchemy import Connection, make_url, text
from sqlalchemy.orm import Session

from carnivore_db import AsyncDatabase, Database, Identity, Settings, errors, identity
from carnivore_db.weekly import calculator, reports, sessions
from tests.support.callers import KINDS, Caller
from tests.support.databases import TestDatabase, one
from tests.weekly.samples import SERVICE, VISITOR, issue_report, start_calculator, start_session

NEW = {"email": "ada@example.com", "path_choice": "keto", "macro_data": {}}
COUNT = "SELECT count(*) FROM public.user_sessions"
ONE_CONNECTION = Settings(pool_size=1, max_overflow=0)


def test_an_exception_in_the_block_leaves_nothing_behind(caller: Caller, owner: psycopg.Connection) -> None:
    def body(tx: Session) -> None:
        sessions.start(tx, **NEW)
        raise LookupError("the caller's own")

    with pytest.raises(LookupError, match="the caller's own"):
        caller.run(SERVICE, body)
    assert one(owner, COUNT) == 0


def test_a_refused_call_takes_the_calls_before_it_along(caller: Caller, owner: psycopg.Connection) -> None:
    def body(tx: Session) -> None:
        made = sessions.start(tx, **NEW)
        sessions.record_payment(tx, made.id, "refunded")

    with pytest.raises(errors.PaymentTransition):
        caller.run(SERVICE, body)
    assert one(owner, COUNT) == 0


def test_a_repository_function_does_not_commit(caller: Caller, owner: psycopg.Connection) -> None:
    def body(tx: Session) -> int:
        sessions.start(tx, **NEW)
        return one(owner, COUNT)

    assert caller.run(SERVICE, body) == 0
    assert one(owner, COUNT) == 1


@pytest.mark.parametrize("fails", ["statement", "flush"])
def test_a_swallowed_error_does_not_look_like_a_commit(
    caller: Caller, owner: psycopg.Connection, fails: str
) -> None:
    def body(tx: Session) -> None:
        made = sessions.start(tx, **NEW)
        with suppress(errors.CarnivoreError):
            if fails == "statement":
                sessions.record_payment(tx, made.id, "refunded")
            else:
                tx.execute(text("SET LOCAL ROLE anon"))
                sessions.start(tx, **NEW)

    with pytest.raises(errors.CarnivoreError):
        caller.run(SERVICE, body)
    assert one(owner, COUNT) == 0


def test_a_savepoint_undoes_one_call_alone(caller: Caller, owner: psycopg.Connection) -> None:
    def body(tx: Session) -> None:
        made = sessions.start(tx, **NEW)
        with suppress(errors.PaymentTransition), tx.begin_nested():
            sessions.mark_test(tx, made.id)
            sessions.record_payment(tx, made.id, "refunded")
            pytest.fail("a pending payment cannot be refunded")

    caller.run(SERVICE, body)
    assert owner.execute("SELECT is_test, payment_status FROM public.user_sessions").fetchall() == [
        {"is_test": False, "payment_status": "pending"}
    ]


def _left(connection: Connection) -> dict[str, object]:
    names = (
        "request.jwt.claims",
        "carnivore.report_token",
        "carnivore.calculator_token",
        "carnivore.access_counting",
        "carnivore.expiry_reason",
    )
    columns = ", ".join(f"coalesce(current_setting('{name}', true), '') AS \"{name}\"" for name in names)
    query = f"SELECT pg_backend_pid() AS backend, current_user AS role, {columns}"
    return dict(connection.execute(text(query)).one()._mapping)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("fails", [False, True])
def test_the_pooled_connection_carries_nothing(empty_database: TestDatabase, kind: str, fails: bool) -> None:
    with KINDS[kind](empty_database.app_url, settings=ONE_CONNECTION) as caller:
        report, form = issue_report(caller), start_calculator(caller)
        holder = identity.token_holder(report_token=report.access_token, calculator_token=form.session_token)
        user = identity.user("3f0f7c5e-6d0c-4f4f-9a54-5ab2d4c6a111", "ada@example.com")
        backend = caller.outside(_left)["backend"]

        def body(tx: Session, who: Identity) -> None:
            during = _left(tx.connection())
            assert during["backend"] == backend
            assert during["role"] == who.role
            assert during["request.jwt.claims"] != ""
            assert during["carnivore.report_token"] == who.report_token
            reports.open(tx, report.access_token)
            calculator.resume(tx, form.session_token)
            if who is SERVICE:
                reports.revoke(tx, report.id, reason="a reason")
            if fails:
                reports.open(tx, "0" * 64)

        for who in (holder, user, SERVICE):
            with pytest.raises(errors.ReportNotFound) if fails else nullcontext():
                caller.call(who, body, who)
            after = caller.outside(_left)
            assert after.pop("backend") == backend
            assert after.pop("role") == empty_database.shape.login
            assert set(after.values()) == {""}


def test_what_an_identity_presents_serves_its_own_transaction_alone(caller: Caller) -> None:
    report = issue_report(caller)
    rows = text("SELECT id FROM public.generated_reports")
    holder = identity.token_holder(report_token=report.access_token)
    assert caller.run(holder, lambda tx: list(tx.scalars(rows))) == [report.id]
    assert caller.run(VISITOR, lambda tx: list(tx.scalars(rows))) == []


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_database_out_of_reach_is_unavailable(kind: str) -> None:
    nowhere = make_url("postgresql://ada:hunter2@/nothing?host=/nonexistent")
    with KINDS[kind](nowhere) as caller, pytest.raises(errors.Unavailable) as caught:
        start_session(caller)
    assert "hunter2" not in f"{caught.value!r} {caught.value} {caught.value.__cause__}"


def test_no_free_connection_is_busy(empty_database: TestDatabase) -> None:
    db = Database(empty_database.app_url, settings=ONE_CONNECTION)
    db.engine.pool._timeout = 0
    with db.transaction(SERVICE), pytest.raises(errors.Busy), db.transaction(SERVICE):
        pass
    db.close()


def test_no_free_connection_is_busy_for_the_asynchronous_database_too(empty_database: TestDatabase) -> None:
    async def both() -> None:
        db = AsyncDatabase(empty_database.app_url, settings=ONE_CONNECTION)
        db.engine.sync_engine.pool._timeout = 0
        async with db.transaction(SERVICE):
            with pytest.raises(errors.Busy):
                async with db.transaction(SERVICE):
                    pass
        await db.close()

    asyncio.run(both())


def test_a_url_may_be_text_without_a_driver(empty_database: TestDatabase) -> None:
    url = empty_database.app_url.set(drivername="postgres").render_as_string(hide_password=False)
    db = Database(url)
    with db.transaction(VISITOR) as tx:
        assert tx.scalar(text("SELECT current_database()")) == empty_database.name
    db.close()
