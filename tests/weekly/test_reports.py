"""Reports: issued once, opened and checked by token, listed by address."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from carnivore_db import errors
from carnivore_db.weekly import access_log, reports
from carnivore_db.weekly.payloads import Questionnaire
from tests.support.callers import Caller
from tests.support.databases import one
from tests.support.factories import put
from tests.weekly.samples import (
    HTML,
    NOBODY,
    SERVICE,
    VISITOR,
    ended_report,
    issue_report,
    record,
    start_session,
)


def test_a_report_is_stored_as_it_was_sold(caller: Caller, owner: psycopg.Connection) -> None:
    session = start_session(caller, email="Ada@example.com")
    answers = {"age": 36, "allergies": ["Nüsse"], "note": "\\u0000 as text", "deep": {"a": [None, 1.5]}}
    made = issue_report(caller, session.id, questionnaire=answers)
    row = owner.execute("SELECT * FROM public.generated_reports").fetchone()
    assert row is not None
    assert re.fullmatch("[0-9a-f]{64}", made.access_token)
    assert (row["id"], row["access_token"], row["session_id"]) == (made.id, made.access_token, session.id)
    assert (row["report_html"], row["questionnaire_data"]) == (HTML, answers)
    assert row["email"] == "ada@example.com"
    assert (row["created_at"], row["expires_at"]) == (made.created_at, made.expires_at)
    assert made.expires_at - made.created_at == timedelta(days=30)
    assert (row["access_count"], row["last_accessed_at"]) == (0, None)


def test_an_address_of_its_own_is_folded(caller: Caller, owner: psycopg.Connection) -> None:
    issue_report(caller, email="Eve@Example.COM", questionnaire=Questionnaire(first_name="Eve"))
    assert one(owner, "SELECT email FROM public.generated_reports") == "eve@example.com"
    assert one(owner, "SELECT questionnaire_data FROM public.generated_reports") == {"first_name": "Eve"}


@pytest.mark.parametrize("table", ["user_sessions", "generated_reports", "cw_assessment_sessions"])
def test_the_database_folds_addresses_whoever_writes(owner: psycopg.Connection, table: str) -> None:
    given: dict[str, Any] = {
        "user_sessions": {"path_choice": "keto", "macro_data": {}},
        "cw_assessment_sessions": {"first_name": "Eve", "form_data": {}},
    }
    if table == "generated_reports":
        session = put(owner, "public.user_sessions", email="ada@example.com", **given["user_sessions"])["id"]
        given[table] = {"session_id": session, "report_html": "x", "questionnaire_data": {}}
        given[table] |= {
            "access_token": "0" * 64,
            "expires_at": one(owner, "SELECT now() + interval '1 day'"),
        }
    assert (
        put(owner, f"public.{table}", email="Eve@Example.COM", **given[table])["email"] == "eve@example.com"
    )


@pytest.mark.parametrize(
    "valid", [timedelta(microseconds=1), timedelta(days=3653), timedelta(days=3652, microseconds=999_999)]
)
def test_the_shortest_and_the_longest_validity(caller: Caller, valid: timedelta) -> None:
    made = issue_report(caller, valid_for=valid)
    assert made.expires_at - made.created_at == valid


def test_every_report_has_a_token_of_its_own(caller: Caller) -> None:
    session = start_session(caller)
    assert len({issue_report(caller, session.id).access_token for _ in range(5)}) == 5


@pytest.mark.parametrize("given", [{"email": "eve@example.com"}, {}])
def test_a_report_of_no_session_is_refused(caller: Caller, given: dict[str, str]) -> None:
    with pytest.raises(errors.SessionNotFound):
        issue_report(caller, NOBODY, **given)


def test_validity_does_not_depend_on_the_time_zone(caller_in: Callable[[str], Caller]) -> None:
    caller = caller_in("Pacific/Auckland")
    valid = [timedelta(days=days) for days in (90, 180, 270)]  # the clock changes before at least one
    made = [issue_report(caller, valid_for=one_of) for one_of in valid]
    assert [r.expires_at.astimezone(UTC) - r.created_at.astimezone(UTC) for r in made] == valid


def test_anyone_with_the_token_reads_the_report(caller_of_each_shape: Caller) -> None:
    made = issue_report(caller_of_each_shape)
    opened = caller_of_each_shape.call(
        VISITOR, reports.open, made.access_token, ip_address=" 2001:db8::1 ", user_agent="Browser/1.0"
    )
    assert (opened.id, opened.html) == (made.id, HTML)
    assert (opened.created_at, opened.expires_at) == (made.created_at, made.expires_at)
    counted = caller_of_each_shape.call(SERVICE, access_log.count, made.id)
    (access,) = caller_of_each_shape.call(SERVICE, access_log.history, made.id).rows
    assert (counted.access_count, counted.last_accessed_at) == (1, access.accessed_at)
    assert (str(access.ip_address), access.user_agent) == ("2001:db8::1", "Browser/1.0")


@pytest.mark.parametrize("function", [reports.open, reports.check])
def test_what_no_report_has_is_not_found(caller: Caller, function: object) -> None:
    issue_report(caller)
    with pytest.raises(errors.ReportNotFound):
        caller.call(VISITOR, function, "0" * 64)


@pytest.mark.parametrize("function", [reports.open, reports.check])
def test_an_expired_report_says_since_when(
    caller_in: Callable[[str], Caller], owner: psycopg.Connection, function: object
) -> None:
    caller = caller_in("Asia/Kolkata")
    old = ended_report(owner, start_session(caller).id)
    with pytest.raises(errors.ReportExpired) as caught:
        caller.call(VISITOR, function, old.token)
    assert caught.value.expired_at == old.expires_at
    assert caught.value.expired_at.utcoffset() == timedelta(0)
    assert caller.call(SERVICE, access_log.count, old.id).access_count == 0
    assert caller.call(SERVICE, access_log.history, old.id).rows == []


def test_checking_logs_nothing(caller: Caller) -> None:
    made = issue_report(caller)
    checked = caller.call(VISITOR, reports.check, made.access_token)
    assert (checked.id, checked.expires_at) == (made.id, made.expires_at)
    assert caller.call(SERVICE, access_log.count, made.id).access_count == 0


@pytest.mark.parametrize(
    ("ip_address", "user_agent", "kept"),
    [
        ("unknown", "\n \t", (None, None)),
        ("203.0.113.7:443", "", (None, None)),
        ("x" * 10_000, "ä" * 10_000, (None, "ä" * 1000)),
        ("", "a\0b", (None, "ab")),
        (7, 7, (None, None)),
        ("203.0.113.7", "\ud800x", ("203.0.113.7", "?x")),
        (" 203.0.113.7\n", " x ", ("203.0.113.7", " x ")),
        (None, None, (None, None)),
    ],
)
def test_bad_client_metadata_never_costs_a_reader_the_report(
    caller: Caller, ip_address: object, user_agent: object, kept: tuple[str | None, str | None]
) -> None:
    made = issue_report(caller)
    caller.call(VISITOR, reports.open, made.access_token, ip_address=ip_address, user_agent=user_agent)
    (access,) = caller.call(SERVICE, access_log.history, made.id).rows
    assert (access.ip_address and str(access.ip_address), access.user_agent) == kept


def test_reports_of_an_address_longest_valid_first(caller: Caller, owner: psycopg.Connection) -> None:
    session = start_session(caller)
    short, long = (issue_report(caller, session.id, valid_for=timedelta(days=days)) for days in (1, 9))
    old = ended_report(owner, session.id)
    issue_report(caller, session.id, email="eve@example.com")
    latest = datetime.now(UTC) + timedelta(minutes=1)
    record(caller, short.id, latest)  # still pending
    caller.call(VISITOR, reports.open, short.access_token)

    listed = caller.call(SERVICE, reports.list_by_email, "ADA@example.com")
    assert [report.id for report in listed] == [long.id, short.id, old.id]
    assert listed[1] == reports.ReportSummary(
        short.id, session.id, short.created_at, short.expires_at, access_count=2, last_accessed_at=latest
    )
    assert (listed[0].access_count, listed[0].last_accessed_at) == (0, None)
    limited = caller.call(SERVICE, reports.list_by_email, "ada@example.com", limit=1)
    assert [report.id for report in limited] == [long.id]
    assert caller.call(SERVICE, reports.list_by_email, "nobody@example.com") == []


def test_what_comes_back_does_not_print_secrets(caller: Caller) -> None:
    made = issue_report(caller)
    opened = caller.call(VISITOR, reports.open, made.access_token)
    assert made.access_token not in f"{made!r} {made}"
    assert HTML not in f"{opened!r} {opened}"


def test_only_the_service_issues_lists_and_purges(caller: Caller) -> None:
    made = issue_report(caller)
    for function, given in (
        (reports.list_by_email, {"email": "ada@example.com"}),
        (reports.revoke, {"report_id": made.id, "reason": "x"}),
        (reports.purge_expired, {"grace": timedelta(0)}),
    ):
        with pytest.raises(errors.PermissionRefused):
            caller.call(VISITOR, function, **given)
