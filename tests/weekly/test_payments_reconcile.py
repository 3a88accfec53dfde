"""Reconciling: where money and reports do not match."""

import json
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from carnivore_db.weekly import calculator, payments, reports, sessions
from carnivore_db.weekly.payments import Reconciliation, Target
from tests.cli import running
from tests.support.callers import Caller
from tests.support.databases import TestDatabase
from tests.weekly.samples import (
    NOBODY,
    SERVICE,
    ended_report,
    issue_report,
    start_calculator,
    start_session,
    submit_assessment,
)
from tests.weekly.stripe_payloads import buy, checkout, deliver, new_payment, refund


def reconcile(caller: Caller, **options: Any) -> Reconciliation:
    return caller.call(SERVICE, payments.reconcile, **options)


def unsettled(caller: Caller) -> list[tuple[str, str]]:
    return [(event.id, event.outcome) for event in reconcile(caller).unsettled_events]


def paid_session(caller: Caller, **given: Any) -> int:
    made = start_session(caller, **given)
    caller.call(SERVICE, sessions.record_payment, made.id, "completed", stripe_payment_id=new_payment())
    return made.id


def paid_calculator(caller: Caller) -> int:
    made = start_calculator(caller)
    caller.call(SERVICE, calculator.record_payment, made.id, "completed")
    return made.id


def test_nothing_is_missing_where_nothing_is_wrong(caller: Caller, owner: psycopg.Connection) -> None:
    assert reconcile(caller) == Reconciliation([], [], [])
    issue_report(caller, paid_session(caller))
    start_session(caller)  # unpaid and without a report
    start_calculator(caller)
    submit_assessment(caller)
    bought = buy(caller, "user_sessions")
    deliver(caller, checkout("completed", bought.metadata, new_payment()))
    deliver(caller, checkout("completed", {}, new_payment()))
    ended_report(owner, start_session(caller).id)  # unpaid, but nobody can read it
    assert reconcile(caller) == Reconciliation([], [], [])


def test_who_paid_and_has_no_report(caller: Caller) -> None:
    session, form = paid_session(caller), paid_calculator(caller)
    other = paid_session(caller)
    assert reconcile(caller).paid_without_report == [
        Target("user_sessions", str(session)),
        Target("user_sessions", str(other)),
        Target("calculator2_sessions", str(form)),
    ]
    issue_report(caller, session)
    report = issue_report(caller, other)
    caller.call(SERVICE, calculator.link_report, form, report.access_token)
    assert reconcile(caller).paid_without_report == []


def test_what_is_read_and_was_not_paid(caller: Caller) -> None:
    made = [issue_report(caller) for _ in range(3)]
    assert reconcile(caller).report_without_payment == [report.id for report in made]
    caller.call(SERVICE, reports.revoke, made[0].id, reason="by mistake")
    form = paid_calculator(caller)
    caller.call(SERVICE, calculator.link_report, form, made[1].access_token)
    assert reconcile(caller).report_without_payment == [made[2].id]


def test_a_refund_that_left_the_report_open_is_shown(caller: Caller) -> None:
    bought, payment = buy(caller, "user_sessions"), new_payment()
    deliver(caller, checkout("completed", bought.metadata, payment), refund(payment), revoke_on_refund=False)
    assert reconcile(caller).report_without_payment == [bought.report_id]
    caller.call(SERVICE, reports.revoke, bought.report_id, reason="refund")
    assert reconcile(caller) == Reconciliation([], [], [])


def test_events_that_need_a_hand(caller: Caller) -> None:
    bought, payment = buy(caller, "user_sessions"), new_payment()
    waiting = refund(payment)
    missing = checkout("completed", payments.checkout_metadata("user_sessions", NOBODY), new_payment())
    deliver(caller, waiting, missing)
    assert unsettled(caller) == [(waiting["id"], "waiting"), (missing["id"], "failed")]
    deliver(caller, checkout("completed", bought.metadata, payment))
    assert unsettled(caller) == [(missing["id"], "failed")]
    wrong = checkout("completed", buy(caller, "user_sessions").metadata, new_payment(), mode="setup")
    deliver(caller, wrong)
    assert unsettled(caller)[1:] == [(wrong["id"], "mismatch")]


def test_test_data_is_left_out_unless_asked_for(caller: Caller) -> None:
    paid = paid_session(caller, is_test=True)
    report = issue_report(caller, start_session(caller, is_test=True).id, valid_for=timedelta(days=1))
    assert reconcile(caller) == Reconciliation([], [], [])
    assert reconcile(caller, include_test=True) == Reconciliation(
        [Target("user_sessions", str(paid))], [report.id], []
    )


@pytest.mark.parametrize("what", ["events", "calculator"])
def test_stripes_test_mode_is_test_data_too(caller: Caller, what: str) -> None:
    if what == "events":
        deliver(caller, refund(new_payment(), livemode=False))
    else:
        metadata = payments.checkout_metadata("calculator2_sessions", start_calculator(caller).id)
        deliver(caller, checkout("completed", metadata, new_payment(), livemode=False))
    assert reconcile(caller) == Reconciliation([], [], [])


def test_a_purged_report_is_not_missed(caller: Caller, owner: psycopg.Connection) -> None:
    """Older sessions are not looked at: their report may have been purged."""
    session = paid_session(caller)
    owner.execute("ALTER TABLE public.user_sessions DISABLE TRIGGER trg_user_sessions_immutable")
    owner.execute("UPDATE public.user_sessions SET created_at = now() - interval '40 days'")
    assert reconcile(caller).paid_without_report == []
    missing = reconcile(caller, within=timedelta(days=50)).paid_without_report
    assert missing == [Target("user_sessions", str(session))]


def test_the_command_says_what_needs_a_hand(caller: Caller, empty_database: TestDatabase) -> None:
    nothing = running.run("payments", "reconcile", url=empty_database.app_url)
    assert (nothing.exit_code, nothing.output) == (0, "Nothing needs a hand.\n")
    session, report = paid_session(caller), issue_report(caller)
    wrong = checkout("completed", buy(caller, "calculator2_sessions").metadata, new_payment(), mode="setup")
    deliver(caller, wrong)
    told = running.run("payments", "reconcile", url=empty_database.app_url)
    assert told.exit_code == 1
    for words in (f"user_sessions {session}", f"report without payment │ {report.id}", wrong["id"], "mode"):
        assert words in told.output
    found = json.loads(running.run("payments", "reconcile", "--json", url=empty_database.app_url).output)
    assert found["paid_without_report"] == [{"table": "user_sessions", "key": str(session)}]
    assert [event["error"] for event in found["unsettled_events"]] == ["mode"]
