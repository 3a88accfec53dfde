"""The end of a report's access: extended, revoked and purged, each change recorded."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from carnivore_db import errors
from carnivore_db.weekly import access_log, calculator, reports
from tests.support.callers import Caller
from tests.support.databases import one
from tests.weekly.samples import (
    HTML,
    SERVICE,
    VISITOR,
    ended_report,
    issue_report,
    record,
    start_calculator,
    start_session,
)


def changes(owner: psycopg.Connection) -> list[tuple[Any, ...]]:
    rows = owner.execute("SELECT * FROM public.report_expiry_changes ORDER BY id").fetchall()
    return [
        (row["report_id"], row["changed_by"], row["reason"], row["old_expires_at"], row["new_expires_at"])
        for row in rows
    ]


def stored(owner: psycopg.Connection, report_id: int) -> datetime:
    return one(owner, "SELECT expires_at FROM public.generated_reports WHERE id = %s", report_id)


def test_an_extension_is_stored_and_recorded(caller: Caller, owner: psycopg.Connection) -> None:
    made = issue_report(caller)
    later = made.expires_at + timedelta(days=1)
    assert caller.call(SERVICE, reports.extend, made.id, expires_at=later, reason="it was slow") == later
    assert stored(owner, made.id) == later
    assert caller.call(VISITOR, reports.check, made.access_token).expires_at == later
    assert changes(owner) == [(made.id, "service_role", "it was slow", made.expires_at, later)]


def test_an_extension_opens_an_expired_report_again(caller: Caller, owner: psycopg.Connection) -> None:
    old = ended_report(owner, start_session(caller).id)
    later = datetime.now(UTC) + timedelta(days=1)
    caller.call(SERVICE, reports.extend, old.id, expires_at=later, reason="paid again")
    assert caller.call(VISITOR, reports.open, old.token).id == old.id


def test_an_extension_goes_forward_only(caller: Caller, owner: psycopg.Connection) -> None:
    made, old = issue_report(caller), ended_report(owner, start_session(caller).id, ago=timedelta(days=2))
    for report_id, expires_at, rule in (
        (made.id, made.expires_at, "later"),
        (made.id, made.expires_at - timedelta(microseconds=1), "later"),
        (old.id, old.expires_at + timedelta(days=1), "later"),  # later than before, but over already
        (made.id, made.created_at + timedelta(days=3653, microseconds=1), "expiry_within_ten_years"),
        (made.id, datetime(9999, 12, 31, tzinfo=UTC), "expiry_within_ten_years"),
        (made.id, datetime(1, 1, 1, tzinfo=UTC), "later"),
    ):
        with pytest.raises(errors.InvalidInput) as caught:
            caller.call(SERVICE, reports.extend, report_id, expires_at=expires_at, reason="x")
        assert (caught.value.field, caught.value.rule) == ("expires_at", rule)
    assert stored(owner, made.id) == made.expires_at
    assert changes(owner) == []


def test_an_extension_reaches_ten_years(caller: Caller) -> None:
    made = issue_report(caller)
    last = made.created_at + timedelta(days=3653)
    assert caller.call(SERVICE, reports.extend, made.id, expires_at=last, reason="x") == last


def test_a_revoked_report_is_closed_and_the_change_recorded(
    caller_of_each_shape: Caller,
) -> None:
    caller = caller_of_each_shape
    made = issue_report(caller)
    ended = caller.call(SERVICE, reports.revoke, made.id, reason="refund")
    assert made.created_at < ended < made.expires_at
    with pytest.raises(errors.ReportExpired) as caught:
        caller.call(VISITOR, reports.open, made.access_token)
    assert caught.value.expired_at == ended
    rows = caller.run(
        SERVICE, lambda tx: tx.execute(text("SELECT * FROM public.report_expiry_changes")).all()
    )
    assert [(row.report_id, row.changed_by, row.reason) for row in rows] == [
        (made.id, "service_role", "refund")
    ]
    assert [(row.old_expires_at, row.new_expires_at) for row in rows] == [(made.expires_at, ended)]


def test_revoking_twice_is_revoking_once(caller: Caller, owner: psycopg.Connection) -> None:
    made, old = issue_report(caller), ended_report(owner, start_session(caller).id)
    ended = caller.call(SERVICE, reports.revoke, made.id, reason="first")
    assert caller.call(SERVICE, reports.revoke, made.id, reason="second") == ended
    assert caller.call(SERVICE, reports.revoke, old.id, reason="over") == old.expires_at
    assert [change[2] for change in changes(owner)] == ["first"]


def test_a_report_is_revoked_in_the_transaction_that_issued_it(
    caller: Caller, owner: psycopg.Connection
) -> None:
    session = start_session(caller)

    def body(tx: Session) -> tuple[reports.IssuedReport, datetime]:
        made = reports.issue(
            tx, session_id=session.id, html=HTML, questionnaire={}, valid_for=timedelta(days=1)
        )
        ended = reports.revoke(tx, made.id, reason="changed their mind")
        with pytest.raises(errors.ReportExpired), tx.begin_nested():
            reports.open(tx, made.access_token)
        return made, ended

    made, ended = caller.run(SERVICE, body)
    assert stored(owner, made.id) == ended > made.created_at
    assert changes(owner) == [(made.id, "service_role", "changed their mind", made.expires_at, ended)]


def test_a_reason_is_for_its_own_change_alone(caller: Caller, owner: psycopg.Connection) -> None:
    made = issue_report(caller)

    def body(tx: Session) -> None:
        reports.extend(tx, made.id, expires_at=made.expires_at + timedelta(days=1), reason="first")
        tx.execute(text("UPDATE public.generated_reports SET expires_at = expires_at + interval '1 day'"))

    caller.run(SERVICE, body)
    assert [change[2] for change in changes(owner)] == ["first", None]


def test_purging_takes_what_expired_longer_ago_than_the_grace(
    caller: Caller, owner: psycopg.Connection
) -> None:
    session = start_session(caller)
    kept = issue_report(caller, session.id)
    day, week = (ended_report(owner, session.id, ago=timedelta(days=days)) for days in (1, 7))

    def purge(days: int) -> tuple[int, list[int]]:
        gone = caller.call(SERVICE, reports.purge_expired, grace=timedelta(days=days))
        left = owner.execute("SELECT id FROM public.generated_reports ORDER BY id").fetchall()
        return gone, [row["id"] for row in left]

    assert purge(8) == (0, [kept.id, day.id, week.id])
    assert purge(2) == (1, [kept.id, day.id])
    assert purge(0) == (1, [kept.id])
    assert purge(0) == (0, [kept.id])


@pytest.mark.parametrize("days", [90, 180, 270])  # the clock changed since at least one
def test_the_grace_does_not_depend_on_the_time_zone(
    caller_in: Callable[[str], Caller], owner: psycopg.Connection, days: int
) -> None:
    caller, session = caller_in("Pacific/Auckland"), start_session(caller_in("UTC"))
    grace, half_an_hour = timedelta(days=days), timedelta(minutes=30)
    kept = ended_report(owner, session.id, ago=grace - half_an_hour)
    ended_report(owner, session.id, ago=grace + half_an_hour)
    assert caller.call(SERVICE, reports.purge_expired, grace=grace) == 1
    assert one(owner, "SELECT id FROM public.generated_reports") == kept.id


def test_purging_goes_by_batches_oldest_first(caller: Caller, owner: psycopg.Connection) -> None:
    session = start_session(caller)
    made = [ended_report(owner, session.id, ago=timedelta(days=days)).id for days in (2, 4, 1, 3, 5)]
    by_age = [made[4], made[1], made[3], made[0], made[2]]
    for expected in (2, 2, 1, 0):
        assert caller.call(SERVICE, reports.purge_expired, grace=timedelta(0), batch=2) == expected
        by_age = by_age[expected:]
        left = owner.execute("SELECT id FROM public.generated_reports ORDER BY expires_at").fetchall()
        assert [row["id"] for row in left] == by_age


def test_purging_keeps_to_its_batch_whatever_the_plan(caller: Caller, owner: psycopg.Connection) -> None:
    """A plan that joins by loops runs a subquery once for each row."""
    session = start_session(caller)
    for days in range(5):
        ended_report(owner, session.id, ago=timedelta(days=days + 1))

    def purge(tx: Session) -> int:
        for method in ("hashjoin", "mergejoin", "material", "hashagg", "sort"):
            tx.execute(text(f"SET LOCAL enable_{method} = off"))
        return reports.purge_expired(tx, grace=timedelta(0), batch=2)

    assert [caller.run(SERVICE, purge) for _ in range(4)] == [2, 2, 1, 0]


def test_what_hangs_on_a_purged_report_goes_with_it(caller: Caller, owner: psycopg.Connection) -> None:
    session = start_session(caller)
    kept, made, form = (
        issue_report(caller, session.id),
        issue_report(caller, session.id),
        start_calculator(caller),
    )
    caller.call(SERVICE, calculator.link_report, form.id, made.access_token)
    for report in (kept, made):
        caller.call(VISITOR, reports.open, report.access_token)
        record(caller, report.id, datetime(2026, 2, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC))
        caller.call(SERVICE, reports.revoke, report.id, reason="x")
    later = datetime.now(UTC) + timedelta(days=1)
    caller.call(SERVICE, reports.extend, kept.id, expires_at=later, reason="y")

    # Its accesses hold it, until they are in the archive.
    assert caller.call(SERVICE, reports.purge_expired, grace=timedelta(0)) == 0
    owner.execute("SET session_replication_role = replica")
    owner.execute("DELETE FROM public.report_access_log WHERE report_id = %s", [made.id])
    owner.execute("RESET session_replication_role")
    assert caller.call(SERVICE, reports.purge_expired, grace=timedelta(0)) == 1
    assert caller.call(SERVICE, access_log.fold) == 4
    for table, left in (
        ("report_access_log", 3),
        ("report_access_pending", 0),
        ("report_expiry_changes", 2),
        ("generated_reports", 1),
    ):
        column = "id" if table == "generated_reports" else "report_id"
        rows = owner.execute(f"SELECT {column} AS report FROM public.{table}").fetchall()
        assert [row["report"] for row in rows] == [kept.id] * left
    assert one(owner, "SELECT report_token FROM public.calculator2_sessions") is None
    with pytest.raises(errors.ReportNotFound):
        caller.call(VISITOR, reports.open, made.access_token)
    with pytest.raises(errors.ReportNotFound):
        caller.call(SERVICE, access_log.count, made.id)
