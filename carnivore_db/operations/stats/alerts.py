"""What needs an operator's attention, with codes that an alert may rely on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from carnivore_db.operations.stats.read import Stats
from carnivore_db.operations.verify.probes import COUNT_LIMIT

Code = Literal["default_partition_rows", "month_missing", "job_overdue", "job_failed", "unusual_access"]
CODES: tuple[Code, ...] = get_args(Code)


@dataclass(frozen=True, slots=True)
class Alert:
    """What is wrong (`code`, `subject`), and a sentence for whoever reads it. Nothing personal in it."""

    code: Code
    subject: str
    detail: str


def alerts(stats: Stats) -> list[Alert]:
    """All of them, in the order of CODES; none when all is well."""
    found = (*_partitions(stats), *_jobs(stats), *_unusual(stats))
    return sorted(found, key=lambda alert: (CODES.index(alert.code), alert.subject))


def at_most(count: int) -> str:
    """A count that stopped one beyond COUNT_LIMIT says so."""
    return f"{count:,}" if count <= COUNT_LIMIT else f"more than {COUNT_LIMIT:,}"


def _partitions(stats: Stats) -> Iterator[Alert]:
    for partition in stats.partitions:
        if partition.rows:
            detail = f"rows that belong to a month: {at_most(partition.rows)}"
            yield Alert("default_partition_rows", partition.name, detail)
    for months in stats.months:
        for month in months.missing:
            yield Alert("month_missing", months.table, f"{month:%Y-%m} has no partition")


def _jobs(stats: Stats) -> Iterator[Alert]:
    for job in stats.jobs:
        if job.overdue:
            last = job.last_succeeded_at
            when = f"last succeeded {last:%Y-%m-%d %H:%M} UTC" if last else "never succeeded"
            yield Alert("job_overdue", job.name, f"{when}, expected every {job.every}")
        if job.last_error is not None:
            yield Alert("job_failed", job.name, f"the last run failed: {job.last_error}")


def _unusual(stats: Stats) -> Iterator[Alert]:
    for kind, reports in stats.unusual.items():
        if reports:
            yield Alert("unusual_access", kind, f"reports in {stats.unusual_days} days: {reports:,}")
