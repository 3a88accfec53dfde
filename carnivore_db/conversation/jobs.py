"""The chat's scheduled jobs (document 20251110150000), batch by batch; a failure is logged and raised.

Safe at any time, in any number at once, and to stop and run again. They run as the migrating role, on a
direct connection: `conversation.run_job` commits each batch by itself.
"""

import random
import time
from typing import Literal, get_args
from uuid import UUID

import psycopg
from sqlalchemy import Engine, text

from carnivore_db.errors import Busy, CarnivoreError, Unavailable
from carnivore_db.kit.inputs import BatchSize, validated

Cleanup = Literal["delete_expired_sessions", "delete_old_logs"]
Job = Literal["reset_weekly_limits", "delete_expired_sessions", "delete_old_logs", "archive_messages"]
JOBS: tuple[Job, ...] = get_args(Job)

_RUN = text("CALL conversation.run_job(:job, CAST(:batch AS integer), 0)")
_LOST = text("""
    INSERT INTO conversation.logs (level, event_type, metadata)
    VALUES ('error', 'cleanup_job_failed',
        jsonb_build_object('job', CAST(:job AS text), 'rule', 'connection_lost'))
""")
_FAILED = text("""
    INSERT INTO conversation.logs (level, event_type, metadata)
    VALUES ('error', 'cleanup_job_failed', jsonb_build_object('job', CAST(:job AS text),
        'job_id', CAST(:run AS text), 'sqlstate', CAST(:sqlstate AS text), 'rule', CAST(:rule AS text)))
""")
_BATCH = {
    "delete_expired_sessions": text("SELECT conversation.delete_expired_sessions(:batch, :run)"),
    "delete_old_logs": text("SELECT conversation.delete_old_logs(:batch, :run)"),
}
# In which order a month's locks are taken: under writers of one kind only one finds a gap.
_ORDER = text("SELECT set_config('carnivore.parent_first', :parent_first, true)")
_ATTEMPTS = 20
# A job logs what it did in its own transaction, months that it dropped included.
_DELETED = text("""
    SELECT CAST(metadata ->> 'deleted' AS integer) FROM conversation.logs
    WHERE created_at = now() AND metadata ->> 'job_id' = CAST(:run AS text)
""")
_OLD_LOGS = r"""
    SELECT count(*) FROM conversation.logs AS l WHERE l.created_at < now() - interval '30 days' AND (
        l.tableoid = CAST('conversation.logs_default' AS regclass)
        OR l.tableoid IN (
            SELECT part.oid FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class AS part
                ON part.oid = inhrelid
            WHERE inhparent = CAST('conversation.logs' AS regclass) AND CAST(substring(
                pg_get_expr(part.relpartbound, part.oid) FROM 'TO \(''([^'']+)''\)') AS timestamptz)
                <= now() - interval '30 days'))
"""
# As the jobs' functions have it.
_DUE = {
    "delete_expired_sessions": text("""
        SELECT count(*) FROM conversation.sessions AS s WHERE NOT s.is_completed
            AND s.started_at < now() - interval '7 days' AND s.last_activity_at < now() - interval '7 days'
    """),
    "delete_old_logs": text(_OLD_LOGS),
}
# A month that was restored from cold storage is in it too, and stays for its time.
_UNARCHIVED = text(f"""{_OLD_LOGS} AND l.tableoid <> ALL (ARRAY(
    SELECT CAST(restored_as AS oid) FROM carnivore.archived_partitions
    WHERE restored_as IS NOT NULL AND keep_until > now()))""")


@validated
def run(engine: Engine, job: Job, *, batch: BatchSize = 500) -> int:
    """Run a job to its end, `batch` rows a transaction; `engine` is a Database's. Returns how many rows.

    reset_weekly_limits begins a new week for those whose week is over; delete_expired_sessions deletes open
    sessions that nobody touched for 7 days; delete_old_logs drops the months that ended 30 days ago;
    archive_messages moves messages of sessions that were completed a year ago.

    A failure is an error in the log, with the job and the SQLSTATE and no text, and is raised: as Busy when
    it may succeed later.
    """
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            handled: int = connection.execute(_RUN, {"job": job, "batch": batch}).scalar_one()
            return handled
    except Unavailable:
        # Whoever ended that connection left the procedure no time to log it.
        with engine.begin() as connection:
            connection.execute(_LOST, {"job": job})
        raise


@validated
def run_batch(engine: Engine, job: Cleanup, run_id: UUID, *, batch: BatchSize = 500) -> tuple[int, int]:
    """Run one batch of a deletion, for who pauses between them; `run_id` is the same for all of a run.

    Returns how many rows count against the batch (fewer than `batch`: it is done) and how many went with
    them, whole months of logs included. A refused lock is asked for again, for half a minute. A failure is
    logged and raised as `run` does.
    """
    try:
        for attempt in range(_ATTEMPTS):
            try:
                return _batch(engine, job, run_id, batch, parent_first=attempt % 2 == 1)
            except Busy:
                # Two that try again must not meet again.
                time.sleep(random.uniform(0, min(0.05 * 2**attempt, 2)))  # noqa: S311 - no secret
        return _batch(engine, job, run_id, batch, parent_first=False)
    except CarnivoreError as error:
        cause = error.__cause__
        state = cause.sqlstate if isinstance(cause, psycopg.Error) else None
        rule = cause.diag.constraint_name if isinstance(cause, psycopg.Error) else None
        if isinstance(error, Unavailable):
            state, rule = None, "connection_lost"
        with engine.begin() as connection:
            connection.execute(_FAILED, {"job": job, "run": run_id, "sqlstate": state, "rule": rule})
        raise


def _batch(engine: Engine, job: Cleanup, run_id: UUID, batch: int, *, parent_first: bool) -> tuple[int, int]:
    with engine.begin() as connection:
        connection.execute(_ORDER, {"parent_first": "on" if parent_first else "off"})
        handled = connection.execute(_BATCH[job], {"batch": batch, "run": run_id}).scalar_one()
        # None where another run had the logs in hand.
        return handled, connection.scalar(_DELETED, {"run": run_id}) or 0


@validated
def count_due(engine: Engine, job: Cleanup) -> int:
    """How many rows a deletion would delete now; as the migrating role."""
    with engine.connect() as connection:
        return int(connection.execute(_DUE[job]).scalar_one())


def count_unarchived(engine: Engine) -> int:
    """How many old logs are in no archive; as the migrating role."""
    with engine.connect() as connection:
        return int(connection.execute(_UNARCHIVED).scalar_one())
