"""The statistics as Prometheus text, for the textfile collector of node_exporter."""

from collections import Counter
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from carnivore_db.operations.stats.alerts import CODES, alerts
from carnivore_db.operations.stats.read import Stats


def write(stats: Stats, path: Path) -> None:
    """Write the file at once: whoever reads it sees the old one or the new. Raises OSError."""
    write_to_textfile(str(path), registry(stats))


def registry(stats: Stats) -> CollectorRegistry:
    """The metrics, in a registry of their own. What is not known has no sample."""
    made = CollectorRegistry()

    def gauge(name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"carnivore_db_{name}", meaning, labels, registry=made)

    gauge("stats_timestamp_seconds", "When these statistics were read.").set(stats.taken_at.timestamp())
    size = gauge("table_bytes", "On disk, indexes and partitions included.", "table")
    rows = gauge("table_rows_estimated", "As the planner estimates; none when never analysed.", "table")
    for table in stats.tables:
        size.labels(table.name).set(table.bytes)
        if table.rows_estimated is not None:
            rows.labels(table.name).set(table.rows_estimated)

    size = gauge("partition_bytes", "On disk, indexes included.", "table", "partition")
    rows = gauge("default_partition_rows", "Rows in no month's partition, counted up to 10001.", "table")
    for partition in stats.partitions:
        size.labels(partition.table, partition.name).set(partition.bytes)
        if partition.rows is not None:
            rows.labels(partition.table).set(partition.rows)

    ahead = gauge("months_ahead", "Months after this one that have a partition; -1: not even this.", "table")
    missing = gauge("months_missing", "Months that should have a partition, and have none.", "table")
    for months in stats.months:
        ahead.labels(months.table).set(months.ahead)
        missing.labels(months.table).set(len(months.missing))

    # Not `job`: Prometheus gives every sample a label of that name, and would rename ours.
    succeeded = gauge("job_last_success_timestamp_seconds", "When a job last succeeded.", "job_name")
    overdue = gauge("job_overdue", "1: the job went too long without success.", "job_name")
    failed = gauge("job_failed", "1: the job's last run failed.", "job_name")
    for job in stats.jobs:
        if job.last_succeeded_at is not None:
            succeeded.labels(job.name).set(job.last_succeeded_at.timestamp())
        overdue.labels(job.name).set(job.overdue)
        failed.labels(job.name).set(job.last_error is not None)

    if stats.pending is not None:
        gauge("pending_deltas", "Accesses not yet added to their reports, counted up to 10001.").set(
            stats.pending
        )
    unusual = gauge("unusual_reports", "Reports opened in an unusual way of late.", "kind")
    for kind, count in stats.unusual.items():
        unusual.labels(kind).set(count)
    found = gauge("alerts", "What needs attention, by what it is.", "code")
    number = Counter(alert.code for alert in alerts(stats))
    for code in CODES:
        found.labels(code).set(number[code])
    return made
