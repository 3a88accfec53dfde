"""The chat's scheduled jobs (document 20251110150000), batch by batch; a failure is logged and raised.

Safe at any time, in any number at once, and to stop and run again. They run as the migrating role, on a
direct connection: `conversation.run_job` commits each batch by itself.
"""

from typing import Literal, get_args

from sqlalchemy import Engine, text

from carnivore_db.errors import Unavailable
from carnivore_db.kit.inputs import BatchSize, validated

Job = Literal["reset_weekly_limits", "delete_expired_sessions", "delete_old_logs", "archive_messages"]
JOBS: tuple[Job, ...] = get_args(Job)

_RUN = text("CALL conversation.run_job(:job, CAST(:batch AS integer), 0)")
_LOST = text("""
    INSERT INTO conversation.logs (level, event_type, metadata)
    VALUES ('error', 'cleanup_job_failed',
        jsonb_build_object('job', CAST(:job AS text), 'rule', 'connection_lost'))
""")


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
