"""A run of everything that is scheduled, in order: each step is noted, and none waits for another's success.

The database's own jobs are run by `carnivore.run_job`, which a scheduler inside the database calls as well.
Here they are joined by what needs more than the database: files (the archive, exports), and partitions, whose
making a client can end in time for the writers, which a procedure cannot.

Safe at any time, in any number at once, within `locks.turn`: one run works, the others find it at work and
leave it to it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Engine, text

from carnivore_db.database import Database
from carnivore_db.errors import CarnivoreError, JobFailed, StepFailed, StepSkipped
from carnivore_db.kit.extras import extra
from carnivore_db.operations import jobs, retention
from carnivore_db.operations.jobs import Registered
from carnivore_db.operations.partitions.apply import apply
from carnivore_db.operations.partitions.plan import Policy
from carnivore_db.operations.retention import BatchOptions
from carnivore_db.schema import models
from carnivore_db.schema.areas import installed

Status = Literal["done", "skipped", "failed"]
Did = dict[str, int]
# Called with what is done so far, and the whole where it is known.
OnProgress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Step:
    """A job of `carnivore.jobs`, and what it does here: returns counts, raises StepSkipped or an error.

    `noted`: the database notes the run itself.
    """

    job: str
    title: str
    run: Callable[[OnProgress], Did]
    noted: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a step went. `problem` is why it failed or was skipped, fit to be shown."""

    job: str
    status: Status
    did: Did = field(default_factory=dict)
    problem: str | None = None
    seconds: float = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {
            "job": self.job,
            "status": self.status,
            "did": self.did,
            "problem": self.problem,
            "seconds": round(self.seconds, 3),
        }


def steps(db: Database, options: BatchOptions) -> list[Step]:
    """The jobs of `carnivore.jobs`, in the order in which they run."""
    with db.engine.connect() as connection:
        return [_step(db, job, options) for job in jobs.registered(connection)]


def _step(db: Database, job: Registered, options: BatchOptions) -> Step:
    match job.job:
        case "partitions":
            return Step(job.job, job.description, lambda on: _partitions(db, on))
        case "archive":
            return Step(job.job, job.description, lambda on: _archive(db, on))
        case retention.EXPORTS:
            return Step(job.job, job.description, lambda on: _exports(db, options, on))
    if job.archives and db.settings.archive_logs:
        return Step(job.job, job.description, lambda _: retention.refuse_unarchived(db, job))
    return _in_database(db, job, options)


def _partitions(db: Database, on_progress: OnProgress) -> Did:
    settings = db.settings
    outcome = apply(
        db.engine,
        policy=Policy.of(settings),
        lock_timeout_ms=settings.partition_lock_timeout_ms,
        on_step=lambda _, number, total: on_progress(number, total),
    )
    if outcome.busy:
        raise StepSkipped("another run of the partitions is at work")
    did = {"made": len(outcome.done), "rows moved": sum(month.rows for month in outcome.done)}
    if outcome.failed:
        raise StepFailed(did, outcome.failed)
    return did


def _in_database(db: Database, job: Registered, options: BatchOptions) -> Step:
    def run(on_progress: OnProgress) -> Did:
        due = jobs.count_due(db.engine, job.job, db.settings) if job.deletes else None
        on_progress(0, due)
        handled = jobs.run(
            db.engine,
            job.job,
            db.settings,
            batch=options.batch,
            pause=options.pause,
            on_progress=lambda handled: on_progress(handled, due),
        )
        return {"deleted" if job.deletes else "handled": handled}

    return Step(job.job, job.description, run, noted=True)


def _exports(db: Database, options: BatchOptions, on_progress: OnProgress) -> Did:
    return {"deleted": retention.delete_exports(db, options, lambda gone: on_progress(gone, None))}


def _archive(db: Database, on_progress: OnProgress) -> Did:
    settings = db.settings
    if settings.archive_location is None:
        raise StepSkipped("CARNIVORE_DB_ARCHIVE_LOCATION is not set: old months stay")
    with extra("operations"):
        from carnivore_db.operations.archive import run as archive  # noqa: PLC0415
        from carnivore_db.operations.archive import steps  # noqa: PLC0415

    def on_step(step: steps.Step) -> None:
        on_progress(step.done, step.total or None)

    outcome = archive.archive_due(
        db.engine,
        settings.archive_location,
        now=datetime.now(UTC),
        access_log_after_days=settings.archive_access_log_after_days,
        logs=settings.archive_logs,
        lock_timeout_ms=settings.partition_lock_timeout_ms,
        on_step=on_step,
    )
    if outcome.busy:
        raise StepSkipped("another run of the archive is at work")
    did = {"months": len(outcome.done), "rows": sum(month.rows for month in outcome.done)}
    if outcome.failed:
        raise StepFailed(did, outcome.failed)
    return did


def run(db: Database, step: Step, on_progress: OnProgress = lambda _done, _total: None) -> Outcome:
    """Run one step and note it in `carnivore.jobs`, unless it is skipped. A failure is an outcome."""
    began = time.monotonic()
    error: Exception | None = None
    did: Did = {}
    try:
        did = step.run(on_progress)
    except StepSkipped as reason:
        return Outcome(step.job, "skipped", problem=str(reason))
    except Exception as caught:  # noqa: BLE001 - whatever it is, the other steps must not wait for it
        error = caught
        did = caught.did if isinstance(caught, StepFailed) else {}
    seconds = time.monotonic() - began
    problem = None if error is None else _shown(error)
    try:
        if not (step.noted and (error is None or isinstance(error, JobFailed))):
            noted = error.first if isinstance(error, StepFailed) else error
            jobs.record(db.engine, step.job, seconds=seconds, error=noted, result=did)
    except CarnivoreError as caught:
        problem = f"{problem or 'done'}; not noted: {caught}"
    return Outcome(step.job, "failed" if problem else "done", did, problem, seconds)


def _shown(error: Exception) -> str:
    """Our own errors quote no row; of others only their kind is known not to."""
    return str(error) if isinstance(error, CarnivoreError) else type(error).__name__


def analyze(engine: Engine, on_table: Callable[[str], None] = lambda _: None) -> int:
    """Renew the statistics of every table of the installed areas, partitions included, as the migrating role;
    returns how many tables. Autovacuum never does it for a partitioned table as a whole."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        tables = models.tables(*installed(connection))
        quote = engine.dialect.identifier_preparer.quote
        for table in tables:
            name = f"{quote(table.schema or 'public')}.{quote(table.name)}"
            on_table(name)
            connection.execute(text(f"ANALYZE {name}"))
    return len(tables)
