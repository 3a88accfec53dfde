"""The scheduled jobs that the installed areas registered in `carnivore.jobs`: run there, and noted there."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.errors import Diagnostic
from sqlalchemy import Connection, Engine, text

from carnivore_db.errors import JobFailed
from carnivore_db.settings import Settings

_REGISTERED = text("""
    SELECT job, description, due IS NOT NULL AS deletes, archives
    FROM carnivore.jobs ORDER BY position, job
""")
_COUNT = text("SELECT carnivore.count_due(:job, CAST(:options AS jsonb), :held)")
_RUN = text("""
    CALL carnivore.run_job(:job, CAST(:batch AS integer),
        make_interval(secs => CAST(:pause AS double precision)), CAST(:options AS jsonb), 0, NULL)
""")
_RECORD = text("""
    SELECT carnivore.record_job(
        :job, clock_timestamp() - make_interval(secs => :seconds), :error, CAST(:result AS jsonb))
""")


@dataclass(frozen=True)
class Registered:
    """A job of the platform or an installed area. `deletes`: it deletes old rows, and `count_due` counts them
    beforehand. `archives`: they may have to be archived first."""

    job: str
    description: str
    deletes: bool
    archives: bool


def registered(connection: Connection) -> list[Registered]:
    """All jobs, in the order in which they run; as the migrating role."""
    return [Registered(*row) for row in connection.execute(_REGISTERED)]


def options(settings: Settings) -> dict[str, Any]:
    """What the settings say to the jobs."""
    return {
        "reports_grace": f"{settings.reports_grace_days} days",
        "pages_grace": f"{settings.report_pages_grace_days} days",
        "months_ahead": settings.partition_months_ahead,
        "keep_old": settings.archive_logs,
        "lock_timeout": f"{settings.partition_lock_timeout_ms}ms",
    }


def count_due(engine: Engine, job: str, settings: Settings, *, held: bool = False) -> int:
    """How many rows a job would delete now, or (`held`) would if nothing held them; as the migrating role.

    Raises JobNotFound.
    """
    with engine.connect() as connection:
        values = {"job": job, "options": json.dumps(options(settings)), "held": held}
        return int(connection.execute(_COUNT, values).scalar_one())


def run(
    engine: Engine,
    job: str,
    settings: Settings,
    *,
    batch: int,
    pause: float = 0,
    on_progress: Callable[[int], None] = lambda handled: None,
) -> int:
    """Run a job to its end: `batch` rows a transaction, `pause` seconds between two; as the migrating role.

    `engine` is a Database's, on a direct connection: `carnivore.run_job` commits each batch by itself and
    notes the run. `on_progress` is called with the rows handled so far. Returns how many. Raises JobFailed,
    JobNotFound, and Unavailable when the connection is lost: then the run is not noted.
    """
    values = {"job": job, "batch": batch, "pause": pause, "options": json.dumps(options(settings))}
    with (
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        _progress(connection, on_progress),
    ):
        handled, error = connection.execute(_RUN, values).one()
    if error is not None:
        raise JobFailed(job, error)
    return int(handled)


@contextmanager
def _progress(connection: Connection, on_progress: Callable[[int], None]) -> Iterator[None]:
    """The procedure reports its progress as debug messages."""
    driver: Any = connection.connection.driver_connection

    def told(diag: Diagnostic) -> None:
        if diag.constraint_name == "job_progress":
            on_progress(int(diag.message_detail or 0))

    connection.execute(text("SET client_min_messages = debug1"))
    driver.add_notice_handler(told)
    try:
        yield
    finally:
        driver.remove_notice_handler(told)
        if not driver.closed:
            connection.execute(text("RESET client_min_messages"))


def record(
    engine: Engine, job: str, *, seconds: float, error: BaseException | None, result: dict[str, Any]
) -> None:
    """Note a run that ends now and took `seconds`, well when `error` is None; as the migrating role.

    For what the package does itself. In its own transaction: what the run did may have been rolled back.
    Raises JobNotFound.
    """
    values = {
        "job": job,
        "seconds": seconds,
        "error": None if error is None else code(error),
        "result": json.dumps(result),
    }
    with engine.begin() as connection:
        connection.execute(_RECORD, values)


def code(error: BaseException) -> str:
    """What may be kept of an error: its SQLSTATE and rule, or its kind; never its text."""
    cause = error.__cause__
    if isinstance(cause, psycopg.Error) and cause.sqlstate:
        return " ".join(filter(None, (cause.sqlstate, cause.diag.constraint_name)))
    return type(error).__name__
