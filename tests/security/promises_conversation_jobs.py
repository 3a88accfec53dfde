"""Jobs: each touches what is due and nothing else, keeps to its batch, and notes what it did and when."""

from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

from tests.security.objects import partitions
from tests.security.personas import OWNERS, SERVICES, Session
from tests.security.promises_conversation_counting import (
    MONDAY,
    PROFILES,
    SESSIONS,
    WEEK,
    completed,
    the_law,
)
from tests.security.registry import add, promise
from tests.security.seed import ADA, BOB, EVE, NO_ONE, SCENE_A, SCENE_B, SCENE_B_OPEN, SCENE_OPEN

MESSAGES, ARCHIVE, LOGS = "conversation.messages", "conversation.messages_archive", "conversation.logs"
DEFAULT = "conversation.logs_default"
# The event that a job logs, what it calls the number of rows, and how old must be what is due.
JOBS = {
    "reset_weekly_limits": ("weekly_limit_reset", "reset", "0"),
    "delete_expired_sessions": ("session_expiration_cleanup", "deleted", "7 days"),
    "delete_old_logs": ("cleanup_job_executed", "deleted", "30 days"),
    "archive_messages": ("messages_archived", "archived", "1 year"),
}
KEYS = {"job", "job_id", "started_at", "finished_at", "before"}
PARTITIONING = "create_partition close_partition"


def run(s: Session, job: str, batch: int, persona: str = "service") -> tuple[int, dict[str, Any]]:
    """Run a job once: what it returns, and what it logs of itself."""
    key = str(uuid4())
    call = f"SELECT conversation.{job}(%s, %s)"
    found = s.as_(persona, time_zone="Asia/Tokyo").value(call, [batch, key])
    metadata = s.superuser.value(f"SELECT metadata FROM {LOGS} WHERE metadata ->> 'job_id' = %s", [key])
    return found, metadata


def _a_job_notes_what_it_did_and_when(s: Session, *, job: str) -> None:
    event, counted, age = JOBS[job]
    logged = "SELECT level, event_type, user_id, session_id, created_at, metadata"
    for persona in (*SERVICES, *OWNERS):
        for arguments in ("", f"10, '{NO_ONE}'", f"job_id => '{NO_ONE}'"):
            with s.undone():
                known = [key for (key,) in s.superuser.rows(f"SELECT id FROM {LOGS}")]
                before = s.superuser.value("SELECT clock_timestamp()")
                s.as_(persona).allows(f"SELECT conversation.{job}({arguments})", rows=1)
                after, now, due = s.superuser.row(
                    f"SELECT clock_timestamp(), now(), now() - interval '{age}'"
                )
                level, kind, person, session, moment, metadata = s.superuser.row(
                    f"{logged} FROM {LOGS} WHERE id <> ALL (%s)", [known]
                )
                assert (level, kind, person, session, moment) == ("info", event, None, None, now)
                assert {*KEYS, counted} <= set(metadata) <= {*KEYS, counted, "partitions"}
                window = [datetime.fromisoformat(metadata[name]) for name in ("started_at", "finished_at")]
                assert before < window[0] < window[1] < after
                assert datetime.fromisoformat(metadata["before"]) == due
                assert metadata["job"] == job
                assert metadata["job_id"] is not None
                assert (metadata["job_id"] == NO_ONE) is bool(arguments)


for _job in JOBS:
    add(
        f"{_job} notes what it did and when",
        partial(_a_job_notes_what_it_did_and_when, job=_job),
        f"{_job} {LOGS} clause",
    )


@promise(f"{PROFILES} reset_weekly_limits count_completions clause")
def the_weekly_reset_begins_a_week_for_those_whose_week_is_over(s: Session) -> None:
    ends = f"UPDATE {PROFILES} SET week_reset_date = {{}}, current_week_completion_count = 2 WHERE id = %s"
    state = f"SELECT current_week_completion_count, week_reset_date = {MONDAY} + {WEEK} FROM {PROFILES}"
    state += " WHERE id = %s"
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            s.as_("service").allows(completed(MONDAY), rows=1)
            for key, moment in ((ADA, MONDAY), (BOB, f"{MONDAY} - 3 * {WEEK}"), (EVE, f"{MONDAY} + {WEEK}")):
                s.superuser.allows(ends.format(moment), [key], rows=1)
            # Whoever has waited longest comes first.
            found, metadata = run(s, "reset_weekly_limits", 1, persona)
            assert (found, metadata["reset"]) == (1, 1)
            assert s.superuser.row(state, [BOB]) == (0, True)
            assert s.superuser.row(state, [ADA]) == (2, False)
            found, metadata = run(s, "reset_weekly_limits", 5, persona)
            assert (found, metadata["reset"]) == (1, 1)
            assert s.superuser.row(state, [ADA]) == (1, True)
            # Eve's week goes on, right or wrong.
            assert s.superuser.row(state, [EVE]) == (2, True)
            assert run(s, "reset_weekly_limits", 5, persona)[0] == 0
            s.superuser.allows(ends.format(f"{MONDAY} + {WEEK}"), [EVE])
            s.superuser.allows(
                f"UPDATE {PROFILES} SET current_week_completion_count = 0 WHERE id = %s", [EVE]
            )
            the_law(s)


@promise(f"{SESSIONS} delete_expired_sessions carnivore.due_sessions clause")
def the_cleanup_deletes_open_sessions_that_nobody_touched_for_seven_days(s: Session) -> None:
    s.superuser.allows(f"INSERT INTO {SESSIONS} (id, user_id, scenario_id) VALUES ('{NO_ONE}', '{EVE}', 1)")
    moved = (
        f"UPDATE {SESSIONS} SET started_at = now() - interval '{{}}',"
        " last_activity_at = now() - interval '{}' WHERE id = '{}'"
    )
    old = "7 days 00:00:01"
    kept = f"SELECT id::text FROM {SESSIONS} ORDER BY id"
    for begun, active, goes in (
        (old, old, True),
        ("9 days", old, True),
        ("9 days", "7 days", False),
        ("9 days", "1 day", False),
        ("7 days", old, False),
        ("1 day", "9 days", False),
    ):
        with s.undone():
            s.superuser.allows(moved.format(begun, active, SCENE_OPEN), rows=1)
            found, metadata = run(s, "delete_expired_sessions", 10)
            assert (found, metadata["deleted"]) == (goes, goes), (begun, active)
            assert ((SCENE_OPEN,) not in s.superuser.rows(kept)) is goes
            assert len(s.superuser.rows(kept)) == 5 - goes
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            for days, scene in ((9, SCENE_OPEN), (11, SCENE_B_OPEN), (10, NO_ONE)):
                s.superuser.allows(moved.format(f"{days} days", f"{days} days", scene), rows=1)
            for batch, left in ((2, {SCENE_OPEN}), (5, set()), (5, set())):
                before = len(s.superuser.rows(kept))
                found, metadata = run(s, "delete_expired_sessions", batch, persona)
                assert found == metadata["deleted"] == before - len(left) - 2
                assert {key for (key,) in s.superuser.rows(kept)} == {*left, SCENE_A, SCENE_B}
            the_law(s)


@promise(f"{' '.join(JOBS)} log_failed_job EXECUTE service_role")
def a_job_needs_no_right_of_the_services_but_to_run_it(s: Session) -> None:
    tables = f"{PROFILES}, {SESSIONS}, {MESSAGES}, {ARCHIVE}, {LOGS}"
    s.superuser.allows(f"REVOKE ALL ON {tables} FROM service_role")
    failed = f"log_failed_job('fold', '{NO_ONE}', now(), '55P03', NULL)"
    for call in (*(f"{job}()" for job in JOBS), failed):
        for persona in SERVICES:
            with s.undone():
                s.as_(persona).allows(f"SELECT conversation.{call}", rows=1)
        s.as_("ada").refused(f"SELECT conversation.{call}")


@promise(f"log_failed_job {LOGS} clause")
def a_failed_job_is_logged_with_its_rule_and_no_row(s: Session) -> None:
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            known = [key for (key,) in s.superuser.rows(f"SELECT id FROM {LOGS}")]
            before = s.superuser.value("SELECT clock_timestamp()")
            given = "repeat('x', 101), %s, '2026-01-01 00:00+00', '55P03', 'a_rule'"
            s.as_(persona).allows(f"SELECT conversation.log_failed_job({given})", [NO_ONE], rows=1)
            level, kind, metadata = s.superuser.row(
                f"SELECT level, event_type, metadata FROM {LOGS} WHERE id <> ALL (%s)", [known]
            )
            assert (level, kind) == ("error", "cleanup_job_failed")
            finished = datetime.fromisoformat(metadata.pop("finished_at"))
            assert before < finished < s.superuser.value("SELECT clock_timestamp()")
            assert metadata == {
                "job": "x" * 100,
                "job_id": NO_ONE,
                "started_at": "2026-01-01T00:00:00+00:00",
                "sqlstate": "55P03",
                "rule": "a_rule",
            }


@promise("run_job clause EXECUTE service_role")
def a_job_is_not_run_in_batches_without_a_row(s: Session) -> None:
    """It would never end. What a job commits is beyond what one transaction can show."""
    for persona in (*SERVICES, *OWNERS):
        for job in JOBS:
            for batch in (0, -1, None):
                wrong = {"sqlstate": "23514", "constraint": "batch_positive"}
                s.as_(persona).refused("CALL conversation.run_job(%s, %s)", [job, batch], **wrong)


def _old_messages(s: Session) -> None:
    """Two of eve's sessions, and ada's open one, with messages of different ages; no other is completed."""
    s.superuser.allows(f"DELETE FROM {SESSIONS} WHERE is_completed")
    for number, (ended, sent) in enumerate(((400, (400, 402, 401, 10)), (300, (399, 398)))):
        key = f"00000000-0000-4000-8000-00000000110{number}"
        s.as_("service").allows(
            f"INSERT INTO {SESSIONS} (id, user_id, scenario_id, started_at)"
            " VALUES (%s, %s, 1, now() - interval '2 years')",
            [key, EVE],
        )
        for days in sent:
            _said(s, key, days)
        s.as_("service").allows(
            f"UPDATE {SESSIONS} SET is_completed = true, completed_at = now() - %s * interval '1 day'"
            " WHERE id = %s",
            [ended, key],
        )
    _said(s, SCENE_OPEN, 500)


def _said(s: Session, session: str, days: int) -> None:
    statement = f"INSERT INTO {MESSAGES} (session_id, role, chat_type, content, sent_at, client_message_id)"
    values = "VALUES (%s, 'user', 'helper', %s, now() - %s * interval '1 day', gen_random_uuid())"
    s.as_("service").allows(f"{statement} {values}", [session, f"of {days} days ago", days], rows=1)


@promise(f"{MESSAGES} {ARCHIVE} archive_messages keep_message clause")
def the_archive_takes_old_messages_of_sessions_completed_long_ago(s: Session) -> None:
    _old_messages(s)
    whole = (
        f"SELECT to_jsonb(m) FROM {MESSAGES} AS m"
        f" UNION ALL SELECT to_jsonb(a) - 'archived_at' FROM {ARCHIVE} AS a"
    )
    archived = f"SELECT content FROM {ARCHIVE} ORDER BY content"
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            everything = sorted(map(repr, s.superuser.rows(whole)))
            names: list[tuple[str]] = []
            for batch, taken in ((1, (402,)), (1, (401,)), (5, (400,)), (5, ())):
                found, metadata = run(s, "archive_messages", batch, persona)
                assert found == metadata["archived"] == len(taken)
                names = sorted([*names, *((f"of {days} days ago",) for days in taken)])
                assert s.superuser.rows(archived) == names
                assert sorted(map(repr, s.superuser.rows(whole))) == everything
                the_law(s)
            assert s.superuser.value(f"SELECT bool_and(archived_at = now()) FROM {ARCHIVE}") is True


@promise(f"{MESSAGES} {ARCHIVE} archive_messages clause")
def the_archive_takes_what_is_as_old_as_the_service_says(s: Session) -> None:
    _old_messages(s)
    call = "SELECT conversation.archive_messages(older_than => interval '{}')"
    for age, count in (
        ("500 days", 0),
        ("400 days", 0),
        ("399 days", 3),
        ("299 days", 5),
        ("10 days", 5),
        ("1 day", 6),
    ):
        with s.undone():
            assert s.as_("service").value(call.format(age)) == count, age
            the_law(s)


@promise(f"{LOGS} {DEFAULT} delete_old_logs carnivore.due_log_months carnivore.due_log_rows clause partition")
def old_logs_go_with_their_month_and_those_of_no_month_in_batches(s: Session) -> None:
    month = "date_trunc('month', now() AT TIME ZONE 'UTC' - interval '{} days')"
    for days in (100, 30):
        s.as_("owner").allows(f"SELECT carnivore.create_partition('{LOGS}', {month.format(days)}::date)")
    s.as_("owner").allows("SELECT carnivore.create_partition('public.report_access_log', '2021-01-01')")
    # How long another table's rows are kept is nothing to this one.
    others = "UPDATE carnivore.partitioned_tables SET kept = '0' WHERE parent = 'public.report_access_log'"
    s.as_("owner").allows(others, rows=1)
    ended = s.superuser.value(f"SELECT 'logs_' || to_char({month.format(100)}, 'YYYY_MM')")
    event = f"INSERT INTO {LOGS} (level, event_type, created_at) VALUES ('debug', 'user_logout', {{}})"
    oldest = f"{month.format(30)} AT TIME ZONE 'UTC'"
    for moment in (
        (f"{month.format(100)} AT TIME ZONE 'UTC'",) * 2 + ("'2021-06-01'",) * 3 + ("'2044-01-01'", oldest)
    ):
        s.as_("service").allows(event.format(moment), rows=1)
    ours, accesses = set(partitions(s, LOGS)), partitions(s)
    kept = f"SELECT count(*) FROM {LOGS} WHERE event_type = 'user_logout' AND created_at = {{}}"
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            every = s.superuser.value(f"SELECT count(*) FROM {LOGS}")
            # Of no month are these three and the two that were planted.
            for batch, deleted, months in ((3, 3, [ended]), (3, 2, []), (3, 0, [])):
                found, metadata = run(s, "delete_old_logs", batch, persona)
                dropped = 2 * len(months)
                assert found == metadata["deleted"] == deleted + dropped
                assert metadata["partitions"] == months
                every += 1 - deleted - dropped
                assert s.superuser.value(f"SELECT count(*) FROM {LOGS}") == every
                if batch == deleted:  # the oldest first
                    s.superuser.sees_nothing(f"SELECT FROM {DEFAULT} WHERE created_at < '2021-01-01'")
            assert set(partitions(s, LOGS)) == ours - {f"conversation.{ended}"}
            assert partitions(s) == accesses
            for moment in ("'2044-01-01'", oldest):
                assert s.superuser.value(kept.format(moment)) == 1


@promise(f"{LOGS} {DEFAULT} carnivore.due_log_rows view")
def rows_of_no_month_stay_as_long_as_logs_are_kept(s: Session) -> None:
    month = s.superuser.value("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')")
    s.superuser.allows(f"DROP TABLE conversation.logs_{month}")
    event = f"INSERT INTO {LOGS} (level, event_type, created_at) VALUES ('debug', 'user_logout', now())"
    s.as_("service").allows(event, rows=1)
    s.superuser.allows(f"SELECT FROM {DEFAULT} WHERE created_at = now()", rows=1)
    s.as_("owner").sees_nothing("SELECT FROM carnivore.due_log_rows WHERE created_at = now()")
