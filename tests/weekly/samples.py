"""Rows that tests begin with: made by the repositories, or by SQL where these refuse (the past)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from carnivore_db import identity
from carnivore_db.weekly import access_log, assessments, calculator, reports, sessions, tokens
from carnivore_db.weekly.models import AssessmentSession, UserSession
from tests.support.callers import Caller
from tests.support.databases import one
from tests.support.factories import put

SERVICE = identity.service()
VISITOR = identity.anonymous()
NOBODY = 2**40  # an id that no row has
HTML = "<h1>Dein Plan \N{EN DASH} 100 % für Ada</h1>"
# Whoever else is connected, cut off.
LOST = """
    SELECT count(*) FROM (SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend') AS t
"""


def start_session(caller: Caller, **changes: Any) -> UserSession:
    given = {"email": "ada@example.com", "path_choice": "keto", "macro_data": {"protein": 120}, **changes}
    return caller.call(SERVICE, sessions.start, **given)


def issue_report(caller: Caller, session_id: int | None = None, **changes: Any) -> reports.IssuedReport:
    given = {"html": HTML, "questionnaire": {"age": 36}, "valid_for": timedelta(days=30), **changes}
    return caller.call(SERVICE, reports.issue, session_id=session_id or start_session(caller).id, **given)


def start_calculator(caller: Caller, **changes: Any) -> calculator.StartedSession:
    return caller.call(SERVICE, calculator.start, **changes)


def submit_assessment(caller: Caller, **changes: Any) -> AssessmentSession:
    given = {"email": "ada@example.com", "first_name": "Ada", "form_data": {"age": 36}, **changes}
    return caller.call(SERVICE, assessments.submit, **given)


@dataclass(frozen=True)
class Ended:
    """A row whose time is over."""

    id: int
    token: str
    expires_at: datetime


def ended_report(owner: psycopg.Connection, session_id: int, ago: timedelta = timedelta(hours=1)) -> Ended:
    """A report whose access ended `ago`."""
    token, end = tokens.new_report_token(), one(owner, "SELECT now()") - ago
    given = {"session_id": session_id, "report_html": "<p>old</p>", "questionnaire_data": {}}
    times = {"created_at": end - timedelta(days=1), "expires_at": end}
    return Ended(
        put(owner, "public.generated_reports", access_token=token, **given, **times)["id"], token, end
    )


def ended_calculator(owner: psycopg.Connection, ago: timedelta = timedelta(hours=1)) -> Ended:
    """A calculator session that ended `ago`."""
    token, end = tokens.new_calculator_token(), one(owner, "SELECT now()") - ago
    times = dict.fromkeys(("created_at", "last_active_at"), end - timedelta(days=2))
    row = put(owner, "public.calculator2_sessions", session_token=token, expires_at=end, **times)
    return Ended(row["id"], token, end)


def record(caller: Caller, report_id: int, *moments: datetime, **metadata: Any) -> None:
    """Log an access at each of the moments."""
    rows = [access_log.Access(report_id=report_id, accessed_at=moment, **metadata) for moment in moments]
    caller.call(SERVICE, access_log.record_many, rows)
