"""Reports: read by who presents the token, until they expire, and never changed."""

import json

from tests.security.personas import OWNERS, SERVICES, Session
from tests.security.registry import promise
from tests.security.rights import BY_TOKEN
from tests.security.rows import insertion
from tests.security.seed import REPORT_A, REPORT_B, REPORT_EXPIRED

READ = "SELECT id FROM public.generated_reports"
OPEN = "SELECT report_id, report_html FROM public.open_report(%s)"
CHECK = "SELECT report_id FROM public.check_report(%s)"
ACCESSES = "SELECT count(*) FROM public.report_access_log"
LAST = "SELECT {} FROM public.report_access_log WHERE report_id = 9001 ORDER BY id DESC LIMIT 1"
LATER = "UPDATE public.generated_reports SET expires_at = expires_at + interval '1 day' WHERE id = 9001"
GUESSES = (
    "",
    " ",
    "%",
    "_" * 64,
    REPORT_A[:63],
    REPORT_A[:32] + "%",
    REPORT_A.upper(),
    REPORT_A[::-1],
    REPORT_A + " ",
    " " + REPORT_A,
    REPORT_A + "\n",
    REPORT_A + REPORT_A,
    "0" * 64,
    "null",
    "' OR true --",
    "*",
)


@promise("public.generated_reports anon authenticated SELECT policy")
def nobody_lists_reports_without_a_token(s: Session) -> None:
    for persona in ("anon", "stranger", "ada", "calculator holder"):
        s.as_(persona).sees_nothing(READ)
        assert s.as_(persona).value("SELECT count(*) FROM public.generated_reports") == 0


@promise(
    "public.generated_reports presented_report_token anon authenticated SELECT EXECUTE"
    " public_generated_reports_read"
)
def the_holder_of_a_token_reads_its_report_and_no_other(s: Session) -> None:
    columns = ", ".join(BY_TOKEN["public.generated_reports"].split())
    for persona in ("report holder", "report browser", "member with a report"):
        row = s.as_(persona).row(f"SELECT {columns} FROM public.generated_reports")
        assert {9001, "<p>ada</p>"} <= set(row)
        s.as_(persona).sees_nothing(f"{READ} WHERE id = 9002")
    s.as_("report holder").refused("SELECT * FROM public.generated_reports")


@promise("public.generated_reports presented_report_token policy")
def a_guessed_token_reads_nothing(s: Session) -> None:
    for guess in GUESSES:
        for persona in ("anon", "stranger"):
            s.as_(persona, report_token=guess).sees_nothing(READ)
            s.as_(persona, headers=json.dumps({"x-report-token": guess})).sees_nothing(READ)
    for headers in ("{}", "[]", '"x-report-token"', json.dumps({"x-report-token": None}), "null"):
        s.as_("anon", headers=headers).sees_nothing(READ)
    for condition in ("access_token LIKE 'a1%'", f"access_token = '{REPORT_A}'", "access_token IS NOT NULL"):
        s.as_("anon").refused(f"{READ} WHERE {condition}")


@promise("public.generated_reports open_report check_report refuse_report")
def a_guessed_token_opens_nothing_and_logs_nothing(s: Session) -> None:
    before = s.superuser.value(ACCESSES)
    unknown = {"sqlstate": "PT404", "constraint": "report_not_found"}
    for persona in ("anon", "stranger", "report holder"):
        for guess in (*GUESSES, None):
            for call in (OPEN, CHECK):
                s.as_(persona).refused(call, [guess], **unknown)
            s.as_(persona, access_counting="deferred").refused(OPEN, [guess], **unknown)
    assert s.superuser.value(ACCESSES) == before


@promise("public.generated_reports COPY anon SELECT policy")
def copying_out_shows_a_holder_their_own_report_only(s: Session) -> None:
    copy = "COPY public.generated_reports (id, report_html) TO STDOUT"
    assert s.as_("report holder").rows(copy) == [(b"9001\t<p>ada</p>\n",)]
    for persona in ("anon", "stranger", "late report holder"):
        s.as_(persona).sees_nothing(copy)


@promise("public.generated_reports policy")
def an_expired_report_is_not_read_by_its_token(s: Session) -> None:
    for persona in ("late report holder", "report holder"):
        s.as_(persona).sees_nothing(f"{READ} WHERE id = 9003")
    headers = json.dumps({"x-report-token": REPORT_EXPIRED})
    s.as_("anon", headers=headers).sees_nothing(READ)
    s.as_("stranger", report_token=REPORT_EXPIRED).sees_nothing(READ)


@promise("public.generated_reports open_report check_report refuse_report")
def an_expired_report_is_not_opened_and_nothing_is_logged(s: Session) -> None:
    before = s.superuser.value(ACCESSES)
    expiry = "SELECT expires_at FROM public.generated_reports WHERE id = 9003"
    ended = s.superuser.value(expiry).isoformat(timespec="microseconds")
    for persona in ("anon", "stranger", "service"):
        for call in (OPEN, CHECK):
            for counting in ("", "deferred"):
                # The moment that the error tells is UTC's, wherever the client is.
                asker = s.as_(persona, access_counting=counting, time_zone="Asia/Tokyo")
                gone = {"sqlstate": "PT410", "constraint": "report_expired"}
                assert asker.refused(call, [REPORT_EXPIRED], **gone).diag.message_detail == ended
    assert s.superuser.value(ACCESSES) == before


@promise("public.generated_reports open_report policy")
def a_revoked_report_closes_at_once(s: Session) -> None:
    s.as_("service").allows("UPDATE public.generated_reports SET expires_at = now() WHERE id = 9001", rows=1)
    s.as_("report holder").sees_nothing(READ)
    s.as_("anon").refused(OPEN, [REPORT_A], sqlstate="PT410")


@promise("public.generated_reports open_report EXECUTE PUBLIC")
def anybody_opens_a_report_by_its_token_and_it_is_logged_and_counted(s: Session) -> None:
    counter = "SELECT access_count FROM public.generated_reports WHERE id = 9001"
    logged = f"{ACCESSES} WHERE report_id = 9001"
    for persona in ("anon", "stranger", "login", *SERVICES):
        count, rows = s.superuser.value(counter), s.superuser.value(logged)
        assert s.as_(persona).rows(OPEN, [REPORT_A]) == [(9001, "<p>ada</p>")]
        assert (s.superuser.value(counter), s.superuser.value(logged)) == (count + 1, rows + 1)


@promise("public.generated_reports check_report EXECUTE PUBLIC")
def anybody_checks_a_token_and_nothing_is_logged(s: Session) -> None:
    before = s.superuser.value(ACCESSES)
    for persona in ("anon", "stranger", "login", *SERVICES):
        assert s.as_(persona).value(CHECK, [REPORT_B]) == 9002
    assert s.superuser.value(ACCESSES) == before


@promise("open_report")
def a_browser_cannot_choose_the_address_that_is_logged(s: Session) -> None:
    headers = json.dumps({"x-forwarded-for": "203.0.113.9, 10.0.0.1", "user-agent": "Real/1.0"})
    asker = s.as_("anon", headers=headers)
    asker.allows("SELECT public.open_report(%s, '6.6.6.6', 'Forged/1.0')", [REPORT_A])
    logged = LAST.format("host(ip_address), user_agent")
    assert s.superuser.rows(logged) == [("203.0.113.9", "Real/1.0")]


@promise("open_report public.report_access_log")
def bad_client_metadata_costs_no_reader_the_report(s: Session) -> None:
    logged = LAST.format("ip_address, char_length(user_agent)")
    for address, agent, length in (
        ("unknown", " \t\n", None),
        ("", "x" * 5000, 1000),
        ("1.2.3.4/99", "", None),
    ):
        s.as_("anon").allows("SELECT public.open_report(%s, %s, %s)", [REPORT_A, address, agent], rows=1)
        assert s.superuser.rows(logged) == [(None, length)]
    s.as_("anon").allows("SELECT public.open_report(%s, ' 192.0.2.7 ')", [REPORT_A], rows=1)
    assert s.superuser.value(LAST.format("host(ip_address)")) == "192.0.2.7"


@promise("public.generated_reports")
def a_reader_cannot_lock_a_report(s: Session) -> None:
    for persona in ("report holder", "member with a report"):
        for strength in ("KEY SHARE", "SHARE", "NO KEY UPDATE", "UPDATE"):
            s.as_(persona).refused(f"{READ} FOR {strength}")


@promise("public.generated_reports trg_generated_reports_immutable refuse_change")
def a_report_never_changes_not_even_for_the_owner(s: Session) -> None:
    changes = {
        "id": "id + 10000",
        "session_id": "9002",
        "email": "'eve@example.com'",
        "access_token": f"'{'f0' * 32}'",
        "report_html": "report_html || ' '",
        "questionnaire_data": "questionnaire_data || '{\"age\": 1}'",
        "created_at": "created_at - interval '1 second'",
    }
    for column, value in changes.items():
        statement = f"UPDATE public.generated_reports SET {column} = {value} WHERE id = 9003"
        for persona in OWNERS:
            error = s.as_(persona).refused(statement, sqlstate="23000", constraint="immutable")
            assert error.diag.column_name == column
            s.as_(persona).allows(f"UPDATE public.generated_reports SET {column} = {column}", rows=3)
        s.as_("service").refused(statement)


@promise(
    "public.generated_reports public.report_expiry_changes trg_generated_reports_expiry"
    " record_expiry_change UPDATE"
)
def a_change_of_the_expiry_is_recorded_with_role_and_reason(s: Session) -> None:
    login = s.superuser.value("SELECT session_user::text")
    roles = {"service": "service_role", "bound service": s.bound_role, "superuser": login}
    last = (
        "SELECT changed_by, reason, new_expires_at - old_expires_at = interval '1 day',"
        " changed_at <= clock_timestamp()"
        " FROM public.report_expiry_changes WHERE report_id = 9001 ORDER BY id DESC LIMIT 1"
    )
    for persona, role in roles.items():
        for reason in ("extended", ""):
            s.as_(persona, expiry_reason=reason).allows(LATER, rows=1)
            assert s.superuser.rows(last) == [(role, reason or None, True, True)]
    recorded = "SELECT count(*) FROM public.report_expiry_changes"
    before = s.superuser.value(recorded)
    s.as_("service").allows("UPDATE public.generated_reports SET expires_at = expires_at", rows=3)
    assert s.superuser.value(recorded) == before


@promise("public.generated_reports trg_generated_reports_email fill_report_email fold_email")
def a_report_takes_its_sessions_address_or_the_one_given_in_lower_case(s: Session) -> None:
    address = "SELECT email FROM public.generated_reports WHERE access_token = %s"
    for token, given, stored in (("d4" * 32, None, "ada@example.com"), ("d5" * 32, "EVE@X.com", "eve@x.com")):
        s.as_("service").allows(
            *insertion("public.generated_reports", access_token=token, email=given), rows=1
        )
        assert s.superuser.value(address, [token]) == stored


@promise("public.generated_reports fill_report_email")
def a_report_for_an_unknown_session_is_refused_as_such_without_an_address_too(s: Session) -> None:
    rule = "generated_reports_session_id_fkey"
    for address in ("ada@example.com", None):
        statement = insertion("public.generated_reports", session_id=404, email=address)
        s.as_("service").refused(*statement, sqlstate="23503", constraint=rule)
    statement = insertion("public.generated_reports", session_id=None, email=None)
    s.as_("service").refused(*statement, sqlstate="23502")


@promise("public.generated_reports public.report_access_log public.report_expiry_changes DELETE service_role")
def deleting_a_report_takes_its_accesses_and_changes_with_it(s: Session) -> None:
    tables = ("public.report_access_log", "public.report_expiry_changes")
    for persona in (*SERVICES, "owner"):
        with s.undone():
            s.as_(persona).allows("DELETE FROM public.generated_reports WHERE id IN (9002, 9003)", rows=2)
            for table in tables:
                s.superuser.sees_nothing(f"SELECT FROM {table} WHERE report_id IN (9002, 9003)")
            left = "SELECT report_token FROM public.calculator2_sessions WHERE id = 9002"
            assert s.superuser.value(left) is None


@promise("public.user_sessions public.generated_reports DELETE generated_reports_session_id_fkey")
def deleting_a_session_takes_its_reports_with_it(s: Session) -> None:
    s.as_("owner").allows("DELETE FROM public.user_sessions WHERE id = 9002", rows=1)
    s.superuser.sees_nothing("SELECT FROM public.generated_reports WHERE session_id = 9002")
    s.superuser.sees_nothing("SELECT FROM public.report_access_log WHERE report_id = 9002")
