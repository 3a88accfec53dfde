"""A run of everything that is scheduled, in order: each step is noted, and none waits for another's success.

Safe at any time, in any number at once: one run works, the others find it at work and leave it to it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from sqlalchemy import Engine, text

from carnivore_db import health, retention
from carnivore_db.base import AUTH_USERS, Base
from carnivore_db.conversation import jobs
from carnivore_db.database import Database
from carnivore_db.errors import CarnivoreError
from carnivore_db.retention import Pace, Rule

_FOLD = text("SELECT public.fold_report_access(:batch)")
_MONTHS = text("""
    SELECT CAST(date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead) AS date)
    FROM generate_series(0, CAST(:ahead AS integer)) AS ahead ORDER BY 1
""")
# The function that makes a partition of each partitioned table, closed as its revision says.
_CREATE = {
    "report_access_log": text("SELECT carnivore.create_access_log_partition(CAST(:month AS date))"),
    "logs": text("SELECT carnivore.create_logs_partition(CAST(:month AS date))"),
}
# The lock of carnivore.maintain too.
_TRY = text("SELECT pg_try_advisory_lock(CAST(CAST('carnivore.jobs' AS regclass) AS oid)::bigint)")
_CHAT: dict[str, jobs.Job] = {"weekly_limits": "reset_weekly_limits", "message_archive": "archive_messages"}

Status = Literal["done", "skipped", "failed"]
Did = dict[str, int]
# Called with what was done since the last call, and the whole where it is known.
OnProgress = Callable[[int, int | None], None]


class Skipped(Exception):
    """The step does not apply here; the text says why."""


class Partly(CarnivoreError):
    """A part of the step failed. `did` is what was done all the same, `first` the first failure."""

    def __init__(self, did: Did, failed: dict[str, CarnivoreError]) -> None:
        self.did = did
        self.first = next(iter(failed.values()))
        super().__init__("; ".join(f"{name}: {error}" for name, error in failed.items()))


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
    the chat's own jobs, and last what looks at the rest."""
    return [
        Step("partitions", "coming months' partitions", lambda _: _partitions(db)),
        Step("fold", "access counts folded", lambda _: {"folded": fold_access_counts(db.engine)}),
        *(_retention(db, rule, pace) for rule in retention.RULES),
        *(_chat(db, name, job, pace) for name, job in _CHAT.items()),
        Step("analytics", "rollup of accesses", lambda _: _function(db, "analytics.refresh()")),
        Step("sizes", "sizes sampled", lambda _: _function(db, "carnivore.record_partition_sizes()")),
    ]


def _partitions(db: Database) -> Did:
    made, failed = create_partitions(db.engine, months_ahead=db.settings.partition_months_ahead)
    if failed:
        raise Partly({"made": len(made)}, failed)
    return {"made": len(made)}


def _retention(db: Database, rule: Rule, pace: Pace) -> Step:
    def run(on_progress: OnProgress) -> Did:
        on_progress(0, rule.due(db))
        return {"deleted": rule.delete(db, pace, lambda deleted: on_progress(deleted, None))}

    return Step(rule.name, rule.title, run)


def _chat(db: Database, name: str, job: jobs.Job, pace: Pace) -> Step:
    title = job.replace("_", " ")
    return Step(name, title, lambda _: {"rows": jobs.run(db.engine, job, batch=pace.batch)})


def _function(db: Database, signature: str) -> Did:
    """Call a function that a later revision brings."""
    with db.engine.begin() as connection:
        if not connection.scalar(text("SELECT to_regprocedure(:name) IS NOT NULL"), {"name": signature}):
            raise Skipped("not in this database")
        connection.execute(text(f"SELECT FROM {signature}"))
    return {}


@contextmanager
def turn(engine: Engine) -> Iterator[bool]:
    """Whether this run may work; until the block ends no other may, however this one dies.

    The lock is the session's: it needs a direct connection, not a pooling proxy in transaction mode.
    """
    # The connection ends with the block, not in the pool: with it the lock goes.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try:
            yield bool(connection.scalar(_TRY))
        finally:
            connection.invalidate()


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
        did = caught.did if isinstance(caught, Partly) else {}
    seconds = time.monotonic() - began
    problem = None if error is None else _shown(error)
    try:
        noted = error.first if isinstance(error, Partly) else error
        health.record(db.engine, step.job, seconds=seconds, error=noted, result=did)
    except CarnivoreError as caught:
        problem = f"{problem or 'done'}; not noted: {caught}"
    return Outcome(step.job, "failed" if problem else "done", did, problem, seconds)


def _shown(error: Exception) -> str:
    """Our own errors quote no row; of others only their kind is known not to."""
    ours = isinstance(error, CarnivoreError | LookupError)
    return str(error) if ours else type(error).__name__


def create_partitions(
    engine: Engine, *, months_ahead: int = 3
) -> tuple[list[str], dict[str, CarnivoreError]]:
    """Make the missing partitions from this month (UTC) to `months_ahead` later, as the migrating role.

    `engine` is a Database's. Returns the partitions made and those that could not be, with the reason: Busy
    (a lock was not to be had within two seconds), InvalidInput (the DEFAULT partition holds rows of that
    month).
    """
    with engine.connect() as connection:
        months = connection.scalars(_MONTHS, {"ahead": months_ahead}).all()
    made: list[str] = []
    failed: dict[str, CarnivoreError] = {}
    wanted: list[tuple[str, date]] = [(table, month) for table in _CREATE for month in months]
    for table, month in wanted:
        partition = f"{table}_{month:%Y_%m}"
        try:
            with engine.begin() as connection:
                connection.execute(text("SET LOCAL lock_timeout = '2s'"))
                if connection.scalar(_CREATE[table], {"month": month}):
                    made.append(partition)
        except CarnivoreError as error:
            failed[partition] = error  # the other months must not wait for this one
    return made, failed


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
