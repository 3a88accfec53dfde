"""A run of everything that is scheduled, in order: each step is noted, and none waits for another's success.

Safe at any time, in any number at once, within `partitions.locks.turn`: one run works, the others find it at
work and leave it to it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Engine, text

from carnivore_db.conversation import jobs
from carnivore_db.database import Database
from carnivore_db.errors import CarnivoreError, StepFailed
from carnivore_db.kit.extras import extra
from carnivore_db.operations import analytics, retention, stats
from carnivore_db.operations import jobs as health
from carnivore_db.operations.partitions.apply import apply
from carnivore_db.operations.partitions.plan import Policy
from carnivore_db.operations.retention import Pace, Rule
from carnivore_db.schema.base import AUTH_USERS, Base

_FOLD = text("SELECT public.fold_report_access(:batch)")
_CHAT: dict[str, jobs.Job] = {"weekly_limits": "reset_weekly_limits", "message_archive": "archive_messages"}

Status = Literal["done", "skipped", "failed"]
Did = dict[str, int]
# Called with what is done so far, and the whole where it is known.
OnProgress = Callable[[int, int | None], None]


class Skipped(Exception):
    """The step does not apply here; the text says why."""


@dataclass(frozen=True)
class Step:
    """A job of `carnivore.jobs`, and what it does here: returns counts, raises Skipped or an error."""

    job: str
    title: str
    run: Callable[[OnProgress], Did]


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


def steps(db: Database, pace: Pace) -> list[Step]:
    """Everything, in the order in which it runs: room for what comes, what was counted late, what is old,
    the chat's own jobs, and last a look at what is left."""
    return [
        Step("partitions", "months that are missing", lambda on: _partitions(db, on)),
        Step("fold", "access counts folded", lambda _: {"folded": fold_access_counts(db.engine)}),
        # Before the archive, which counts each month that it takes once more.
        Step("analytics", "rollup of accesses", lambda _: {"days": analytics.refresh(db.engine)}),
        Step("archive", "old months into cold storage", lambda on: _archive(db, on)),
        *(_retention(db, rule, pace) for rule in retention.RULES),
        *(_chat(db, name, job, pace) for name, job in _CHAT.items()),
        Step("sizes", "sizes sampled", lambda _: {"relations": stats.record(db.engine)}),
    ]


def _partitions(db: Database, on_progress: OnProgress) -> Did:
    settings = db.settings
    outcome = apply(
        db.engine,
        now=datetime.now(UTC),
        policy=Policy.of(settings),
        lock_timeout_ms=settings.partition_lock_timeout_ms,
        on_step=lambda _, number, total: on_progress(number, total),
    )
    if outcome.busy:
        raise Skipped("another run of the partitions is at work")
    did = {"made": len(outcome.done), "rows moved": sum(month.rows for month in outcome.done)}
    if outcome.failed:
        raise StepFailed(did, outcome.failed)
    return did


def _retention(db: Database, rule: Rule, pace: Pace) -> Step:
    def run(on_progress: OnProgress) -> Did:
        due, gone = rule.due(db), 0

        def on_deleted(deleted: int) -> None:
            nonlocal gone
            gone += deleted
            on_progress(gone, due)

        on_progress(0, due)
        return {"deleted": rule.delete(db, pace, on_deleted)}

    return Step(rule.name, rule.title, run)


def _chat(db: Database, name: str, job: jobs.Job, pace: Pace) -> Step:
    title = job.replace("_", " ")
    return Step(name, title, lambda _: {"rows": jobs.run(db.engine, job, batch=pace.batch)})


def _archive(db: Database, on_progress: OnProgress) -> Did:
    settings = db.settings
    if settings.archive_location is None:
        raise Skipped("CARNIVORE_DB_ARCHIVE_LOCATION is not set: old months stay")
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
        raise Skipped("another run of the archive is at work")
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
    except Skipped as reason:
        return Outcome(step.job, "skipped", problem=str(reason))
    except Exception as caught:  # noqa: BLE001 - whatever it is, the other steps must not wait for it
        error = caught
        did = caught.did if isinstance(caught, StepFailed) else {}
    seconds = time.monotonic() - began
    problem = None if error is None else _shown(error)
    try:
        noted = error.first if isinstance(error, StepFailed) else error
        health.record(db.engine, step.job, seconds=seconds, error=noted, result=did)
    except CarnivoreError as caught:
        problem = f"{problem or 'done'}; not noted: {caught}"
    return Outcome(step.job, "failed" if problem else "done", did, problem, seconds)


def _shown(error: Exception) -> str:
    """Our own errors quote no row; of others only their kind is known not to."""
    return str(error) if isinstance(error, CarnivoreError) else type(error).__name__


def fold_access_counts(engine: Engine, *, batch: int = 1000) -> int:
    """Add pending accesses to their reports' counters, `batch` reports a transaction, until none is left
    whose report nobody else has locked.

    Returns how many deltas were folded. Any number may run at once: each takes what the others left.
    """
    total = 0
    while True:
        with engine.begin() as connection:
            folded = connection.scalar(_FOLD, {"batch": batch}) or 0
        if folded == 0:
            return total
        total += folded


def analyze(engine: Engine, on_table: Callable[[str], None] = lambda _: None) -> int:
    """Renew the statistics of every table of ours, partitions included, as the migrating role; returns how
    many tables. Autovacuum never does it for a partitioned table as a whole."""
    tables = [table for table in Base.metadata.sorted_tables if table is not AUTH_USERS]
    quote = engine.dialect.identifier_preparer.quote
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in tables:
            name = f"{quote(table.schema or 'public')}.{quote(table.name)}"
            on_table(name)
            connection.execute(text(f"ANALYZE {name}"))
    return len(tables)
