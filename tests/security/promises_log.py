"""The access log: append-only for everybody, counted exactly, closed in every partition."""

from datetime import datetime, timedelta
from functools import partial
from secrets import token_hex

from tests.security.objects import partitions
from tests.security.personas import OWNERS, SERVICES, Session
from tests.security.registry import add, promise
from tests.security.rows import NOW, insert

COUNT = "SELECT access_count FROM public.generated_reports WHERE id = %s"
LATEST = "SELECT last_accessed_at FROM public.generated_reports WHERE id = %s"
PENDING = "SELECT coalesce(sum(access_count), 0)::int FROM public.report_access_pending WHERE report_id = %s"
TOTAL = "SELECT access_count, last_accessed_at FROM public.report_access_counts WHERE report_id = %s"
FOLD = "SELECT public.fold_report_access()"
APPEND_ONLY = {"sqlstate": "23000", "constraint": "append_only"}
TRIGGERS = "clause trg_increment_report_access increment_report_access public.report_access_log"


def the_law(s: Session) -> None:
    """At any moment: what is counted and what is pending make what is logged."""
    s.superuser.sees_nothing(
        "SELECT FROM public.generated_reports AS report WHERE access_count + ("
        " SELECT coalesce(sum(access_count), 0) FROM public.report_access_pending WHERE report_id = report.id"
        ") <> (SELECT count(*) FROM public.report_access_log WHERE report_id = report.id)"
    )


def log(
    s: Session, *moments: datetime, report: int = 9001, persona: str = "service", counting: str = ""
) -> None:
    """One statement that logs these accesses."""
    values = ", ".join(["(%s, %s)"] * len(moments))
    s.as_(persona, access_counting=counting).allows(
        f"INSERT INTO public.report_access_log (report_id, accessed_at) VALUES {values}",
        [value for moment in moments for value in (report, moment)],
        rows=len(moments),
    )


def _first_moments(s: Session) -> list[tuple[str, datetime]]:
    """A moment in each partition, taken from the row that was planted there."""
    return [
        (name, s.superuser.value(f"SELECT accessed_at FROM {name} WHERE report_id = 9002 LIMIT 1"))
        for name in partitions(s)
    ]


def _the_log_stays(s: Session, *, table: str, change: str) -> None:
    """Not even for the owner, nor where the report is gone: an error names the table, not the partition."""
    name = table.split(".")[1]
    for persona in OWNERS:
        for place in (table, *partitions(s, table)):
            for attempt in (f"UPDATE {place} SET {change}", f"DELETE FROM {place}", f"TRUNCATE {place}"):
                assert s.as_(persona).refused(attempt, **APPEND_ONLY).diag.table_name == name
        s.as_(persona).refused("TRUNCATE public.generated_reports CASCADE", **APPEND_ONLY)
    with s.undone():
        s.as_("superuser", triggers="replica").allows("DELETE FROM public.generated_reports")
        s.superuser.refused(f"UPDATE {table} SET {change}", **APPEND_ONLY)
    for place in partitions(s, table):
        s.superuser.allows(f"DROP TRIGGER IF EXISTS trg_{name}_no_truncate ON {place}")
    for persona in OWNERS:
        s.as_(persona).refused(f"TRUNCATE {table}", **APPEND_ONLY)


for _name, _change in (("report_access_log", "user_agent = 'x'"), ("report_expiry_changes", "reason = 'x'")):
    add(
        f"no row of {_name} is ever rewritten, deleted or truncated",
        partial(_the_log_stays, table=f"public.{_name}", change=_change),
        f"public.{_name} append_only trg_{_name}_append_only trg_{_name}_no_truncate refuse_rewriting"
        " refuse_truncate table_of",
    )


@promise("refuse_rewriting")
def a_report_hidden_by_a_policy_is_not_taken_for_a_deleted_one(s: Session) -> None:
    s.superuser.allows("GRANT SELECT, DELETE ON public.report_access_log TO anon")
    s.superuser.allows("CREATE POLICY mine ON public.report_access_log TO anon USING (true)")
    s.as_("anon").refused("DELETE FROM public.report_access_log WHERE report_id = 9002", **APPEND_ONLY)


@promise(TRIGGERS)
def every_access_is_counted_at_once_singly_and_in_batches(s: Session) -> None:
    before = {report: s.superuser.value(COUNT, [report]) for report in (9001, 9002)}
    log(s, NOW)
    assert s.superuser.value(COUNT, [9001]) == before[9001] + 1
    log(s, NOW, NOW, NOW - timedelta(days=400), persona="bound service")
    log(s, NOW, NOW, report=9002)
    assert s.superuser.value(COUNT, [9001]) == before[9001] + 4
    assert s.superuser.value(COUNT, [9002]) == before[9002] + 2
    assert s.superuser.value(PENDING, [9001]) == 0
    the_law(s)


@promise(f"{TRIGGERS} public.report_access_pending public.report_access_counts")
def accesses_logged_in_deferred_mode_are_pending_until_they_are_folded(s: Session) -> None:
    before, pending = s.superuser.value(COUNT, [9001]), s.superuser.value(PENDING, [9001])
    log(s, NOW, NOW, counting="deferred")
    log(s, NOW, counting="deferred", persona="bound service")
    s.as_("anon", access_counting="deferred").allows("SELECT public.open_report(%s)", ["a1" * 32], rows=1)
    assert s.superuser.value(COUNT, [9001]) == before
    assert s.superuser.value(PENDING, [9001]) == pending + 4
    count, latest = s.as_("service").row(TOTAL, [9001])
    assert (count, latest >= NOW) == (before + 4, True)
    for moment in (NOW + timedelta(hours=2), NOW + timedelta(hours=1)):
        log(s, moment, counting="deferred")
        assert s.as_("service").row(TOTAL, [9001])[1] == NOW + timedelta(hours=2)
    the_law(s)


@promise("clause fold_report_access public.report_access_pending EXECUTE service_role")
def the_service_folds_what_is_pending_exactly_once(s: Session) -> None:
    log(s, NOW, NOW, counting="deferred")
    log(s, NOW + timedelta(hours=1), report=9002, counting="deferred")
    before, other = s.superuser.value(COUNT, [9001]), s.superuser.value(COUNT, [9002])
    pending = s.superuser.value("SELECT count(*) FROM public.report_access_pending")
    with s.undone():
        assert s.as_("service").value(FOLD) == pending
    assert s.as_("service").value("SELECT public.fold_report_access(1)") in {1, 2}
    assert s.as_("bound service").value(FOLD) in {pending - 1, pending - 2}
    assert s.as_("service").value(FOLD) == 0
    s.superuser.sees_nothing("SELECT FROM public.report_access_pending")
    assert s.superuser.value(COUNT, [9001]) == before + 2
    assert s.superuser.value(COUNT, [9002]) == other + 2  # one of them was planted
    the_law(s)


@promise("clause fold_report_access public.report_access_pending")
def deltas_of_a_deleted_report_are_forgotten_by_the_last_fold(s: Session) -> None:
    log(s, NOW, NOW, counting="deferred")
    log(s, NOW, NOW, report=9003, counting="deferred")
    before = s.superuser.value(COUNT, [9001])
    there = "SELECT count(*) FROM public.report_access_pending WHERE report_id IN (9002, 9003)"
    gone = s.superuser.value(there)
    s.as_("service").allows("DELETE FROM public.generated_reports WHERE id IN (9002, 9003)", rows=2)
    s.superuser.sees_nothing("SELECT FROM public.report_access_counts WHERE report_id IN (9002, 9003)")
    assert s.as_("service").value("SELECT public.fold_report_access(1)") == 2
    assert s.superuser.value(there) == gone
    assert s.superuser.value(COUNT, [9001]) == before + 2
    assert s.as_("service").value("SELECT public.fold_report_access(1)") == gone
    s.superuser.sees_nothing("SELECT FROM public.report_access_pending")
    the_law(s)


@promise(f"{TRIGGERS} partition")
def an_access_written_straight_into_a_partition_is_counted_too(s: Session) -> None:
    for name, moment in _first_moments(s):
        for persona in OWNERS:
            before, pending = s.superuser.value(COUNT, [9001]), s.superuser.value(PENDING, [9001])
            statement = f"INSERT INTO {name} (id, report_id, accessed_at) VALUES (%s, 9001, %s)"
            row = [before + 5000, moment]
            s.as_(persona).allows(statement, row, rows=1)
            # A row that is there already is no access.
            s.as_(persona).allows(f"{statement} ON CONFLICT DO NOTHING", row, rows=0)
            assert s.superuser.value(COUNT, [9001]) == before + 1
            s.as_(persona, access_counting="deferred").allows(statement, [before + 7000, moment], rows=1)
            assert s.superuser.value(PENDING, [9001]) == pending + 1
    the_law(s)


@promise(f"{TRIGGERS} COPY")
def accesses_that_the_service_copies_in_are_counted(s: Session) -> None:
    before = s.superuser.value(COUNT, [9001])
    s.as_("service").allows(
        "COPY public.report_access_log (report_id, accessed_at) FROM STDIN",
        ["9001\t2026-02-03 00:00:00+00\n", "9001\t2044-01-01 00:00:00+00\n"],
        rows=2,
    )
    assert s.superuser.value(COUNT, [9001]) == before + 2
    the_law(s)


@promise(TRIGGERS)
def the_last_access_is_the_latest_and_never_before_the_reports_creation(s: Session) -> None:
    report = insert(s.as_("service"), "public.generated_reports", "id")
    created = s.superuser.value("SELECT created_at FROM public.generated_reports WHERE id = %s", [report])
    later = created + timedelta(hours=2)
    for moment, latest in (
        (created - timedelta(days=3000), created),
        (later, later),
        (created + timedelta(hours=1), later),
    ):
        log(s, moment, report=report)
        assert s.superuser.value(LATEST, [report]) == latest
    log(s, created, later + timedelta(hours=1), report=report)
    assert s.superuser.value(LATEST, [report]) == later + timedelta(hours=1)


@promise(f"{TRIGGERS} public.report_access_pending public.report_access_counts")
def a_batch_counts_each_of_its_reports_by_itself(s: Session) -> None:
    for counting in ("", "deferred"):
        pair = [
            insert(s.as_("service"), "public.generated_reports", "id", access_token=token)
            for token in (token_hex(32), token_hex(32))
        ]
        created = s.superuser.value("SELECT created_at FROM public.generated_reports WHERE id = %s", pair[:1])
        later = created + timedelta(hours=2)
        counted = 0
        for moments, latest in (
            ([created - timedelta(days=30)], created),
            ([later, created + timedelta(hours=1)], later),
            ([created + timedelta(hours=1)], later),
        ):
            values = [value for moment in moments for report in pair for value in (report, moment)]
            s.as_("service", access_counting=counting).allows(
                "INSERT INTO public.report_access_log (report_id, accessed_at) VALUES "
                + ", ".join(["(%s, %s)"] * (len(values) // 2)),
                values,
            )
            counted += len(moments)
            for report in pair:
                assert s.as_("service").row(TOTAL, [report]) == (counted, latest)
                if not counting:
                    assert s.superuser.value(COUNT, [report]) == counted
        the_law(s)


@promise("clause fold_report_access public.report_access_pending public.report_access_counts")
def folding_never_moves_the_last_access_back_or_before_the_creation(s: Session) -> None:
    report = insert(s.as_("service"), "public.generated_reports", "id")
    created = s.superuser.value("SELECT created_at FROM public.generated_reports WHERE id = %s", [report])
    later = created + timedelta(hours=2)
    for moment, latest in (
        (created - timedelta(days=30), created),
        (later, later),
        (created + timedelta(hours=1), later),
    ):
        log(s, moment, moment - timedelta(minutes=1), report=report, counting="deferred")
        assert s.as_("service").row(TOTAL, [report])[1] == latest
        s.as_("service").allows(FOLD)
        assert s.superuser.value(LATEST, [report]) == latest


@promise("public.report_access_log partition")
def an_access_outside_every_month_is_kept_in_the_default_partition(s: Session) -> None:
    for moment in ("2000-01-01 00:00:00+00", "2044-07-01 00:00:00+00", "2099-12-31 23:59:59+00"):
        for persona in SERVICES:
            found = insert(
                s.as_(persona), "public.report_access_log", "tableoid::regclass::text", accessed_at=moment
            )
            assert found.endswith("report_access_log_default"), found
    the_law(s)
