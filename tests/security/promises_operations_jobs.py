"""A run of everything: what is expired goes and nothing else, and each run is noted, by the owner alone."""

from datetime import UTC, datetime, timedelta

from tests.security.personas import OWNERS, SERVICES, Session
from tests.security.registry import promise
from tests.security.rows import Row
from tests.security.rules import CHECK, FOREIGN, UNIQUE, counter_examples, defaults, good_rows, required

CALCULATORS, REPORTS, JOBS = "public.calculator2_sessions", "public.generated_reports", "carnivore.jobs"
DEFAULTS = {"access_log": "public.report_access_log_default", "logs": "conversation.logs_default"}
KEYS = "SELECT id FROM {} ORDER BY id"

AREAS, PARTITIONED = "carnivore.areas", "carnivore.partitioned_tables"
BAD: dict[tuple[str, str, str], list[Row]] = {
    (JOBS, "jobs_pkey", UNIQUE): [{"job": "fold"}],
    (JOBS, "every_in_range", CHECK): [{"every": every} for every in ("0", "-1 day", "1001 days")],
    (JOBS, "batch_not_negative", CHECK): [{"batch": -1}],
    (JOBS, "jobs_area_fkey", FOREIGN): [{"area": "nothing"}],
    (AREAS, "areas_pkey", UNIQUE): [{"area": "weekly"}],
    (PARTITIONED, "partitioned_tables_pkey", UNIQUE): [{"parent": "conversation.logs"}],
    (PARTITIONED, "partitioned_tables_area_fkey", FOREIGN): [{"area": "nothing"}],
}
counter_examples(BAD)
good_rows(
    {
        JOBS: [{"every": "1 microsecond"}, {"last_error": None, "last_result": None}, {"batch": 0}],
        PARTITIONED: [{"kept": None}],
    }
)
required(
    {
        JOBS: "every created_at area position description options archives",
        AREAS: "schemas",
        PARTITIONED: "area holds",
    }
)
defaults(
    {
        JOBS: (
            ("job", "area", "position", "description"),
            (
                "every = '2 days' AND created_at = now() AND options = '{}' AND NOT archives"
                " AND num_nonnulls(call, batch, due, on_failure, last_error) = 0"
            ),
        )
    }
)


@promise(f"{AREAS} {PARTITIONED} {JOBS} jobs_area_fkey partitioned_tables_area_fkey DELETE")
def what_an_area_registered_goes_with_it(s: Session) -> None:
    for persona in OWNERS:
        with s.undone():
            s.as_(persona).allows(f"DELETE FROM {AREAS} WHERE area = 'weekly'", rows=1)
            for table in (JOBS, PARTITIONED):
                left = {area for (area,) in s.superuser.rows(f"SELECT area FROM {table}")}
                assert "weekly" not in left
                assert "conversation" in left


def _keys(s: Session, table: str) -> list[int]:
    return [key for (key,) in s.superuser.rows(KEYS.format(table))]


@promise(
    f"{CALCULATORS} delete_expired_calculator_sessions carnivore.due_calculator_sessions clause EXECUTE"
    " service_role"
)
def expired_calculator_sessions_go_oldest_first_and_paid_ones_stay(s: Session) -> None:
    aged = (
        f"INSERT INTO {CALCULATORS} (id, session_token, payment_status, pricing_tier, amount_paid,"
        " created_at, last_active_at, expires_at)"
        " SELECT %s, 'calculatorTokenOfX_0123456789-' || %s, %s, %s, %s,"
        " now() - interval '99 days', now() - interval '99 days', now() - %s * interval '1 day'"
    )
    for key, status, days in (
        (21, "pending", 5),
        (22, "failed", 9),
        (23, "completed", 30),
        (24, "refunded", 30),
    ):
        paid = ("bundle", 29.90) if status in {"completed", "refunded"} else (None, None)
        s.superuser.allows(aged, [key, key, status, *paid, days], rows=1)
    # Expires in this very moment: it has not.
    s.superuser.allows(aged, [25, 25, "pending", None, None, 0], rows=1)
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            call = "SELECT public.delete_expired_calculator_sessions(%s)"
            left = _keys(s, CALCULATORS)
            for batch, gone in ((1, {22}), (1, {21}), (5, {9003}), (5, set())):
                assert s.as_(persona).value(call, [batch]) == len(gone)
                left = [key for key in left if key not in gone]
                assert _keys(s, CALCULATORS) == left
            assert {23, 24, 25, 9001, 9002} == set(left)
        with s.undone():
            assert s.as_(persona).value("SELECT public.delete_expired_calculator_sessions()") == 3
            assert {23, 24, 25, 9001, 9002} == set(_keys(s, CALCULATORS))


@promise(f"{REPORTS} delete_expired_reports carnivore.due_reports clause EXECUTE service_role")
def reports_expired_longer_than_the_grace_go_oldest_first(s: Session) -> None:
    aged = (
        f"INSERT INTO {REPORTS} (id, session_id, email, access_token, report_html, questionnaire_data,"
        " created_at, expires_at) SELECT %s, 9001, 'ada@example.com', repeat(%s, 64), 'x', '{{}}',"
        " now() - interval '900 days', now() - interval '{}'"
    )
    for key, age in ((21, "91 days"), (22, "400 days"), (23, "90 days"), (24, "90 days 00:00:01")):
        s.superuser.allows(aged.format(age), [key, str(key % 10)], rows=1)
    accesses = "INSERT INTO public.report_access_log (report_id) VALUES (21), (23)"
    s.superuser.allows(accesses)
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            call = "SELECT public.delete_expired_reports(%s, '90 days')"
            left = _keys(s, REPORTS)
            for batch, gone in ((1, {22}), (5, {24}), (5, set())):
                assert s.as_(persona).value(call, [batch]) == len(gone)
                left = [key for key in left if key not in gone]
                assert _keys(s, REPORTS) == left
            assert {21, 23, 9001, 9002, 9003} == set(left)
            log = "SELECT report_id FROM public.report_access_log WHERE report_id < 9000 ORDER BY report_id"
            assert s.superuser.rows(log) == [(21,), (23,)]
        for grace, gone in (("1 year", {22}), ("1 hour", {22, 24, 9003}), ("500 days", set())):
            with s.undone():
                found = s.as_(persona).value("SELECT public.delete_expired_reports(1000, %s)", [grace])
                assert found == len(gone)
                assert gone.isdisjoint(_keys(s, REPORTS))
    # A day of the grace has 24 hours, wherever the caller's clocks change.
    for zone in ("America/Los_Angeles", "Pacific/Auckland"):
        for days in (90, 180, 270):
            with s.undone():
                hours = days * 24
                s.superuser.allows(aged.format(f"{hours} hours -30 minutes"), [31, "7"], rows=1)
                s.superuser.allows(aged.format(f"{hours} hours 30 minutes"), [32, "8"], rows=1)
                s.as_("service", time_zone=zone).allows(
                    "SELECT public.delete_expired_reports(100, %s)", [timedelta(days=days)]
                )
                assert (31 in _keys(s, REPORTS), 32 in _keys(s, REPORTS)) == (True, False)


@promise(
    f"{REPORTS} delete_report_pages carnivore.due_report_pages trg_generated_reports_page"
    " trg_generated_reports_immutable clause EXECUTE service_role"
)
def pages_go_after_a_grace_of_their_own_and_nothing_else_of_a_report_does(s: Session) -> None:
    aged = (
        f"INSERT INTO {REPORTS} (id, session_id, email, access_token, report_html, questionnaire_data,"
        " created_at, expires_at) SELECT %s, 9001, 'ada@example.com', repeat(%s, 64), 'x', '{{}}',"
        " now() - interval '900 days', now() - interval '{}'"
    )
    for key, age in ((21, "91 days"), (22, "400 days"), (23, "90 days")):
        s.superuser.allows(aged.format(age), [key, str(key % 10)], rows=1)
    s.superuser.allows("INSERT INTO public.report_access_log (report_id) VALUES (21)")
    pages = f"SELECT id FROM {REPORTS} WHERE report_html = '(deleted)' ORDER BY id"
    everything = f"SELECT jsonb_agg(to_jsonb(r) - 'report_html' ORDER BY id) FROM {REPORTS} AS r"
    before = s.superuser.value(everything)
    call = "SELECT public.delete_report_pages(%s, '90 days')"
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            for batch, gone in ((1, [22]), (5, [21, 22]), (5, [21, 22])):
                s.as_(persona).value(call, [batch])
                assert [key for (key,) in s.superuser.rows(pages)] == gone
            assert s.superuser.value(everything) == before
            later = f"UPDATE {REPORTS} SET expires_at = %s WHERE id = 21"
            refused = {"sqlstate": "23000", "constraint": "immutable"}
            s.as_(persona).refused(later, ["2031-01-01Z"], **refused)
        for grace in (None, "-1 second"):
            wrong = {"sqlstate": "23514", "constraint": "grace_not_negative"}
            s.as_(persona).refused("SELECT public.delete_report_pages(5, %s)", [grace], **wrong)
    # Neither of a report that goes on, nor by anything but this word.
    for key, page in ((9001, "(deleted)"), (22, "(gone)")):
        change = f"UPDATE {REPORTS} SET report_html = %s WHERE id = {key}"
        s.as_("owner").refused(change, [page], sqlstate="23000", constraint="immutable")
    for zone in ("America/Los_Angeles", "Pacific/Auckland"):
        for days in (90, 180, 270):
            with s.undone():
                s.superuser.allows(aged.format(f"{days * 24} hours -30 minutes"), [31, "7"], rows=1)
                s.superuser.allows(aged.format(f"{days * 24} hours 30 minutes"), [32, "8"], rows=1)
                s.as_("service", time_zone=zone).allows(
                    "SELECT public.delete_report_pages(100, %s)", [timedelta(days=days)]
                )
                gone = [key for (key,) in s.superuser.rows(pages)]
                assert (31 in gone, 32 in gone) == (False, True)


@promise("delete_expired_reports delete_expired_calculator_sessions delete_report_pages SECURITY DEFINER")
def who_deletes_what_is_expired_needs_no_right_to_the_rows(s: Session) -> None:
    """A scheduler's role has EXECUTE and nothing else; and no grace reaches what has not expired."""
    calls = (
        "delete_expired_calculator_sessions(10)",
        "delete_expired_reports(10, '0')",
        "delete_report_pages(10, '0')",
    )
    for persona in ("anon", "ada", "report holder"):
        for call in calls:
            s.as_(persona).refused(f"SELECT public.{call}")
    s.superuser.allows(f"REVOKE ALL ON {REPORTS}, {CALCULATORS} FROM service_role")
    for persona in (*SERVICES, *OWNERS):
        for call in calls:
            with s.undone():
                assert s.as_(persona).value(f"SELECT public.{call}") == 1
        for grace in ("-1 microsecond", "-40 days", None):
            wrong = {"sqlstate": CHECK, "constraint": "grace_not_negative"}
            s.as_(persona).refused("SELECT public.delete_expired_reports(10, %s)", [grace], **wrong)


@promise(f"{JOBS} record_job clause")
def a_run_is_noted_and_a_failure_keeps_the_last_success(s: Session) -> None:
    record = "SELECT carnivore.record_job(%s, %s, %s, %s)"
    state = (
        "SELECT last_started_at, last_finished_at, last_succeeded_at, last_error, last_result"
        f" FROM {JOBS} WHERE job = %s"
    )
    others = (
        f"SELECT to_jsonb(j) FROM {JOBS} AS j WHERE job NOT IN ('fold', 'archive', 'exports') ORDER BY job"
    )
    began = datetime(2026, 5, 5, tzinfo=UTC)
    for persona in OWNERS:
        with s.undone():
            before = s.superuser.rows(others)
            for job in ("fold", "archive"):
                earlier = s.superuser.value("SELECT clock_timestamp()")
                s.as_(persona).allows(record, [job, began, None, '{"rows": 1}'], rows=1)
                started, finished, succeeded, error, result = s.superuser.row(state, [job])
                assert (started, error, result) == (began, None, {"rows": 1})
                assert earlier < finished == succeeded < s.superuser.value("SELECT clock_timestamp()")
                later = began + timedelta(days=1)
                s.as_(persona).allows(record, [job, later, "55P03", '{"rows": 0}'], rows=1)
                started, failed, kept, error, result = s.superuser.row(state, [job])
                assert (started, kept, error, result) == (later, succeeded, "55P03", {"rows": 0})
                assert failed > finished
                s.as_(persona).allows(record, [job, later, None, None], rows=1)
                _, ended, again, error, result = s.superuser.row(state, [job])
                assert (again, error, result) == (ended, None, None)
                assert ended > failed
            # One that never ended well.
            s.as_(persona).allows(record, ["exports", began, "LookupError", "{}"], rows=1)
            assert s.superuser.row(state, ["exports"])[2:4] == (None, "LookupError")
            assert s.superuser.rows(others) == before
            not_found = {"sqlstate": "PT404", "constraint": "job_not_found"}
            s.as_(persona).refused(record, ["nothing", began, None, None], **not_found)


@promise("maintain clause")
def no_run_has_batches_without_a_row(s: Session) -> None:
    """It would never end. What a run commits is beyond what one transaction can show."""
    for persona in OWNERS:
        for batch in (0, -1, None):
            wrong = {"sqlstate": "23514", "constraint": "batch_positive"}
            s.as_(persona).refused("CALL carnivore.maintain(%s)", [batch], **wrong)
