"""What a run of jobs does. The procedures commit, which a promise cannot take back: theirs have no COMMIT."""

import json
from typing import Any

from tests.security.evil import PATH, evil_is_untouched, prepare_evil
from tests.security.personas import OWNERS, SERVICES, Asker, Session
from tests.security.promises_conversation_jobs import JOBS as CHATS
from tests.security.registry import promise
from tests.security.seed import NO_ONE

NOT_FOUND = {"sqlstate": "PT404", "constraint": "job_not_found"}
NO_ROW = {"sqlstate": "23514", "constraint": "batch_positive"}
# Jobs that note how they are called, and do what they were told: how many rows each time, and how often they
# are refused first. What a sequence counts, no failure takes back.
STEPS = """
DELETE FROM carnivore.jobs;
CREATE SEQUENCE public.turns;
CREATE TABLE public.steps (number serial, job text, batch bigint, run uuid, options jsonb, settings text[]);
CREATE FUNCTION public.step(
    job text, batch bigint, run uuid, options jsonb, rows bigint[], state text, times int, rule text)
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    turn bigint := nextval('public.turns');
BEGIN
    -- A run that goes on for ever: zero ends it, or the sum of what it handled is out of range.
    IF turn > 200 THEN
        RETURN CASE turn % 3 WHEN 0 THEN 0 ELSE 9223372036854775807 END;
    END IF;
    PERFORM setval('public.at_' || job, turn);
    IF nextval('public.tries_' || job) <= times THEN
        RAISE EXCEPTION 'x' USING ERRCODE = state, CONSTRAINT = rule;
    END IF;
    INSERT INTO public.steps (job, batch, run, options, settings) VALUES (job, batch, run, options, ARRAY[
        current_setting('lock_timeout'), current_setting('carnivore.parent_first'),
        (SELECT count(*)::text FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory')]);
    RETURN rows[(SELECT count(*) FROM public.steps AS s WHERE s.job = step.job)];
END $$;
CREATE FUNCTION public.fail(state text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'x' USING ERRCODE = state;
END $$;
CREATE TABLE public.failures (job text, run uuid, began timestamptz, state text, rule text);
"""
RUN = "CALL carnivore.run_job('ours', 5, '0', '{}')"


def _uncommitted(s: Session, *procedures: str) -> None:
    for procedure in procedures:
        text = s.superuser.value("SELECT pg_get_functiondef(%s::text::regproc)", [procedure])
        s.superuser.allows(text.replace("COMMIT;", ""))


def _prepared(s: Session) -> Asker:
    _uncommitted(s, "carnivore.run_job", "carnivore.maintain")
    asker = s.as_("owner", time_zone="Asia/Tokyo")
    asker.allows(STEPS)
    return asker


def _register(
    s: Session, job: str, *rows: int, state: str = "", times: int = 0, rule: str = "", **columns: Any
) -> None:
    asker = s.as_("owner")
    asker.allows(f"CREATE SEQUENCE public.tries_{job}; CREATE SEQUENCE public.at_{job}")
    given = f"ARRAY{list(rows)}::bigint[], '{state}', {times}, '{rule}'"
    row = {
        "job": job,
        "area": "weekly",
        "position": 0,
        "description": "ours",
        "call": f"SELECT public.step('{job}', $1, $2, $3, {given})",
        "on_failure": "INSERT INTO public.failures VALUES ($1, $2, $3, $4, $5)",
        **columns,
    }
    places = ", ".join(["%s"] * len(row))
    asker.allows(f"INSERT INTO carnivore.jobs ({', '.join(row)}) VALUES ({places})", list(row.values()))


def _noted(s: Session, job: str) -> tuple[Any, ...]:
    return s.superuser.row(
        "SELECT last_error, last_result, last_succeeded_at IS NOT NULL, last_started_at > now(),"
        " last_finished_at > last_started_at FROM carnivore.jobs WHERE job = %s",
        [job],
    )


@promise("run_job record_job clause")
def a_job_runs_batch_by_batch_until_there_is_less_than_one(s: Session) -> None:
    for rows, own, batches in (
        ((5, 5, 3, 5), None, [5, 5, 5]),
        ((5, 0, 5), None, [5, 5]),
        ((5,), None, [5, 5]),  # then NULL
        ((2, 1, 2), 2, [2, 2]),
        ((7, 7), 0, [0]),
    ):
        with s.undone():
            asker = _prepared(s)
            _register(s, "ours", *rows, batch=own)
            total = sum(rows[: len(batches)])
            assert asker.rows(RUN.format('{"a": 1}')) == [(total, None)]
            steps = s.superuser.rows("SELECT batch::int, options, settings FROM public.steps ORDER BY number")
            assert steps == [(batch, {"a": 1}, ["2s", "off", "0"]) for batch in batches]
            assert _noted(s, "ours") == (None, {"handled": total}, True, True, True)
            s.superuser.sees_nothing("SELECT FROM public.failures")
            # A run has one id, and its defaults.
            assert asker.allows("CALL carnivore.run_job('ours')")
            runs = "SELECT count(DISTINCT run), max(batch)::int FROM public.steps"
            assert s.superuser.row(runs) == (2, 1000 if own is None else own)


@promise("run_job record_job clause")
def a_job_that_fails_is_noted_and_logged_where_it_belongs(s: Session) -> None:
    for state, rule in (("23514", "a_rule"), ("22012", ""), ("57014", ""), ("P0004", "")):
        with s.undone():
            asker = _prepared(s)
            _register(s, "ours", 5, 5, state=state, times=99, rule=rule)
            error = f"{state} {rule}".strip()
            assert asker.rows(RUN.format("{}")) == [(0, error)]
            assert _noted(s, "ours") == (error, {"handled": 0}, False, True, True)
            failed = (
                "SELECT f.job, state, rule, began = last_started_at, began > now(), run IS NOT NULL"
                " FROM public.failures AS f JOIN carnivore.jobs USING (job)"
            )
            assert s.superuser.rows(failed) == [("ours", state, rule, True, True, True)]
            # One that cannot be logged is noted all the same.
            fails = (f"SELECT public.fail('{how}')" for how in ("22012", "57014", "P0004"))
            for on_failure in (None, *fails):
                asker.allows("UPDATE carnivore.jobs SET on_failure = %s", [on_failure])
                assert asker.rows(RUN.format("{}")) == [(0, error)]
            assert len(s.superuser.rows(failed)) == 1


@promise("run_job clause lock_partitioned")
def a_job_that_is_refused_a_lock_tries_again_in_the_other_order(s: Session) -> None:
    for state, times, order in (("55P03", 1, "on"), ("40P01", 2, "off")):
        with s.undone():
            asker = _prepared(s)
            _register(s, "ours", 1, state=state, times=times)
            assert asker.rows(RUN.format('{"lock_timeout": "7s"}')) == [(1, None)]
            assert s.superuser.rows("SELECT settings FROM public.steps") == [(["7s", order, "0"],)]


@promise("run_job maintain clause")
def what_is_no_job_is_not_run(s: Session) -> None:
    asker = _prepared(s)
    _register(s, "files", call=None)
    for job in ("files", "nothing"):
        asker.refused(f"CALL carnivore.run_job('{job}')", **NOT_FOUND)
    _register(s, "ours", 1)
    for batch in (0, -1, None):
        asker.refused("CALL carnivore.run_job('ours', %s)", [batch], **NO_ROW)
        asker.refused("CALL carnivore.maintain(%s)", [batch], **NO_ROW)
    asker.allows("CALL carnivore.run_job('ours', 1); CALL carnivore.maintain(1)")
    asker.allows("DELETE FROM carnivore.jobs")
    for batch in (0, None):
        asker.refused("CALL carnivore.maintain(%s)", [batch], **NO_ROW)


def _all_jobs(s: Session) -> Asker:
    asker = _prepared(s)
    for position, job in ((9, "third"), (1, "first"), (8, "old_logs"), (5, "second")):
        _register(s, job, 1, position=position, archives=job == "old_logs", options='{"own": 1}')
    _register(s, "files", call=None)
    return asker


@promise("maintain run_job clause")
def a_run_of_all_jobs_takes_them_in_their_order(s: Session) -> None:
    for old in (True, False):
        with s.undone():
            _all_jobs(s).allows(f"CALL carnivore.maintain(5, '7 days', 4, {old})")
            steps = s.superuser.rows("SELECT job, batch::int, options FROM public.steps ORDER BY number")
            options = {"reports_grace": "7 days", "months_ahead": 4, "keep_old": not old, "own": 1}
            jobs = ("first", "second", *(["old_logs"] if old else []), "third")
            assert steps == [(job, 5, options) for job in jobs]
    _all_jobs(s).allows("CALL carnivore.maintain()")
    options = {"own": 1, "keep_old": False}
    step = "SELECT batch::int, options, settings[3] FROM public.steps WHERE job = 'old_logs'"
    assert s.superuser.row(step) == (1000, options, "1")
    s.superuser.sees_nothing("SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'")


@promise("maintain run_job clause")
def a_run_of_all_jobs_goes_on_after_a_failure_and_tells_it_at_the_end(s: Session) -> None:
    """But not after a cancellation."""
    ran = "SELECT substr(sequencename, 4) FROM pg_sequences WHERE sequencename ~ '^at_' AND last_value > 0"
    for state, jobs in (("23514", "first fail second old_logs third"), ("57014", "first fail")):
        with s.undone():
            asker = _all_jobs(s)
            s.superuser.allows("SET LOCAL lc_messages TO 'C'")
            _register(s, "fail", 1, state=state, times=99, rule="a_rule", position=2)
            error = asker.refused("CALL carnivore.maintain()", sqlstate="P0001", constraint="jobs_failed")
            assert error.diag.message_primary == "jobs failed: fail"
            assert [job for (job,) in s.superuser.rows(f"{ran} ORDER BY last_value")] == jobs.split()


@promise(
    "count_due carnivore.due_reports carnivore.due_calculator_sessions carnivore.due_sessions"
    " carnivore.due_log_months carnivore.due_log_rows clause"
)
def what_is_due_is_counted_beforehand_and_then_deleted(s: Session) -> None:
    """Every job that deletes, by what its call returns afterwards."""
    s.superuser.allows(
        "UPDATE conversation.sessions SET started_at = now() - interval '9 days',"
        " last_activity_at = now() - interval '8 days' WHERE NOT is_completed"
    )
    s.as_("owner").allows("SELECT carnivore.create_partition('conversation.logs', '2021-03-01')")
    event = "INSERT INTO conversation.logs (level, event_type, created_at) VALUES ('info', 'user_logout', %s)"
    s.superuser.allows(event, ["2021-03-31 00:00+00"])
    due = dict(s.superuser.rows("SELECT job, call FROM carnivore.jobs WHERE due IS NOT NULL"))
    assert set(due) == {"reports", "report_pages", "calculator_sessions", "idle_conversations", "old_logs"}
    options = json.dumps({"reports_grace": "1 hour", "pages_grace": "1 hour"})
    count = "SELECT carnivore.count_due(%s, %s)"
    for job, call in due.items():
        found = s.as_("owner").value(count, [job, options])
        assert found > 0, job
        with s.undone():
            deleted = s.as_("owner").value(
                call.replace("$1", "100").replace("$2", f"'{NO_ONE}'").replace("$3", f"'{options}'::jsonb")
            )
            assert deleted == found, job
            assert s.as_("owner").value(count, [job, options]) == 0
    assert s.as_("owner").value("SELECT carnivore.count_due('reports')") == 0
    for job in ("fold", "nothing", None):
        s.as_("owner").refused(count, [job, options], **NOT_FOUND)


@promise("run_job partition clause")
def every_registered_job_runs(s: Session) -> None:
    _uncommitted(s, "carnivore.run_job", "carnivore.maintain")
    jobs = [job for (job,) in s.superuser.rows("SELECT job FROM carnivore.jobs WHERE call IS NOT NULL")]
    assert len(jobs) == 11
    for persona in OWNERS:
        with s.undone():
            s.as_(persona).allows("CALL carnivore.maintain()")
            for job in jobs:
                assert _noted(s, job)[0] is None, job


@promise("run_job log_failed_job clause EXECUTE service_role")
def a_job_of_the_chat_runs_by_its_own_procedure_too(s: Session) -> None:
    """With stubs for the jobs: five rows twice, then two, or a failure."""
    stub = (
        "CREATE FUNCTION conversation.{job}(batch integer, job_id uuid) RETURNS integer LANGUAGE plpgsql"
        " SECURITY DEFINER AS $$ DECLARE turn bigint := nextval('public.turns_{job}'); BEGIN"
        # Nothing else would end a run that goes on for ever.
        " ASSERT turn < 99;"
        " IF batch IN (3, 4) THEN RAISE EXCEPTION 'x' USING CONSTRAINT = 'a_rule',"
        " ERRCODE = CASE batch WHEN 3 THEN '57014' ELSE '22012' END; END IF;"
        " RETURN CASE WHEN turn < 3 THEN 5 WHEN turn < 5 THEN 2 ELSE 0 END; END $$"
    )
    _uncommitted(s, "conversation.run_job")
    for job in CHATS:
        signature = s.superuser.value("SELECT %s::text::regproc::regprocedure::text", [f"conversation.{job}"])
        s.superuser.allows(f"DROP FUNCTION {signature}; CREATE SEQUENCE public.turns_{job}")
        s.superuser.allows(stub.format(job=job))
    s.superuser.allows(
        "CREATE SEQUENCE public.logged; GRANT ALL ON SEQUENCE public.logged TO PUBLIC;"
        " CREATE OR REPLACE FUNCTION conversation.log_failed_job(job text, job_id uuid,"
        " started_at timestamptz, sqlstate text, rule text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN"
        " IF job_id IS NOT NULL AND started_at > now() AND $4 IN ('57014', '22012') AND rule = 'a_rule'"
        " THEN PERFORM nextval('public.logged'); END IF; END $$"
    )
    s.superuser.allows("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA conversation TO service_role")
    number = 0
    for persona in (*SERVICES, *OWNERS):
        asker = s.as_(persona)
        for job in CHATS:
            s.superuser.allows(f"ALTER SEQUENCE public.turns_{job} RESTART")
            assert asker.rows(f"CALL conversation.run_job('{job}', 5)") == [(12,)]
            assert asker.rows(f"CALL conversation.run_job('{job}')") == [(2,)]
            assert asker.rows(f"CALL conversation.run_job('{job}', 1)") == [(0,)]
            for batch, state in ((3, "57014"), (4, "22012")):
                wrong = {"sqlstate": state, "constraint": "a_rule"}
                asker.refused(f"CALL conversation.run_job('{job}', {batch})", **wrong)
                number += 1
                assert s.superuser.value("SELECT last_value FROM public.logged") == number
        asker.refused("CALL conversation.run_job('nothing')", **NOT_FOUND)
        for batch in (0, -1, None):
            asker.refused("CALL conversation.run_job('archive_messages', %s)", [batch], **NO_ROW)


@promise("maintain run_job search_path")
def no_run_is_made_of_what_the_owners_search_path_names(s: Session) -> None:
    prepare_evil(s)
    _uncommitted(s, "carnivore.run_job", "carnivore.maintain")
    s.as_("owner", search_path=PATH).allows("CALL carnivore.maintain()")
    evil_is_untouched(s)
