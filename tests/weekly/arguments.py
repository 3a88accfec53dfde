"""For every repository function that takes input, arguments that it accepts."""

from datetime import UTC, date, datetime, timedelta

from carnivore_db.weekly import access_log, assessments, calculator, payments, reports, sessions
from tests.support.bad_input import Good
from tests.support.callers import Caller
from tests.weekly.samples import issue_report, start_calculator, start_session, submit_assessment
from tests.weekly.stripe_payloads import checkout, new_payment


def good_arguments(caller: Caller) -> Good:
    """Arguments by function, for rows that are made here."""
    now = datetime.now(UTC)
    session, form, assessment = (
        start_session(caller),
        start_calculator(caller),
        submit_assessment(caller),
    )
    report = issue_report(caller, session.id)
    macros, day = {"protein": 1}, timedelta(days=1)
    return {
        sessions.start: {
            "email": "ada@example.com",
            "path_choice": "keto",
            "macro_data": macros,
            "is_test": False,
        },
        sessions.get: {"session_id": session.id},
        sessions.list_by_email: {"email": "ada@example.com", "limit": 1},
        sessions.find_by_payment: {"stripe_payment_id": "pi_1"},
        sessions.record_payment: {
            "session_id": session.id,
            "status": "failed",
            "stripe_payment_id": new_payment(),
        },
        sessions.mark_test: {"session_id": session.id, "is_test": False},
        reports.issue: {
            "session_id": session.id,
            "html": "<p>page</p>",
            "questionnaire": {},
            "valid_for": day,
            "email": "ada@example.com",
        },
        reports.open: {"token": report.access_token, "ip_address": None, "user_agent": None},
        reports.check: {"token": report.access_token},
        reports.list_by_email: {"email": "ada@example.com", "limit": 1},
        reports.extend: {"report_id": report.id, "expires_at": now + 100 * day, "reason": "x"},
        reports.revoke: {"report_id": issue_report(caller).id, "reason": "x"},
        reports.purge_expired: {"grace": day, "batch": 1},
        access_log.record: {
            "report_id": report.id,
            "accessed_at": now,
            "ip_address": None,
            "user_agent": None,
        },
        access_log.record_many: {"accesses": []},
        access_log.history: {"report_id": report.id, "limit": 1, "after": None},
        access_log.count: {"report_id": report.id},
        access_log.counts_per_day: {"month": date(2026, 2, 1), "report_id": None, "include_test": True},
        access_log.unusual: {
            "since": now,
            "addresses": 2,
            "burst": 2,
            "after_end": 1,
            "limit": 1,
            "include_test": True,
        },
        access_log.fold: {"batch": 1},
        calculator.start: {"form_state": {}, "pricing_tier": "bundle"},
        calculator.resume: {"token": form.session_token},
        calculator.save: {"token": form.session_token, "form_state": {}, "pricing_tier": "bundle"},
        calculator.choose_tier: {"token": form.session_token, "pricing_tier": "bundle"},
        calculator.link_report: {"session_id": form.id, "report_token": report.access_token},
        calculator.record_payment: {"session_id": form.id, "status": "failed", "amount_paid": 1},
        calculator.purge_expired: {"batch": 1},
        assessments.submit: {
            "email": "ada@example.com",
            "first_name": "Ada",
            "form_data": {},
            "assessment_id": None,
            "is_test": False,
        },
        assessments.get: {"assessment_id": assessment.id},
        assessments.find_by_checkout: {"stripe_session_id": "cs_1"},
        assessments.merge_form: {"assessment_id": assessment.id, "form_data": {}},
        assessments.attach_checkout: {
            "assessment_id": assessment.id,
            "stripe_session_id": new_payment(),
            "stripe_payment_intent_id": None,
        },
        assessments.complete: {"assessment_id": assessment.id},
        payments.apply_event: {
            "event": checkout("completed", {}, new_payment()),
            "revoke_on_refund": False,
        },
        payments.begin_checkout: {
            "table": "user_sessions",
            "key": session.id,
            "amount": 4900,
            "currency": "usd",
            "tier": None,
        },
        payments.reconcile: {"within": day, "include_test": True},
    }
