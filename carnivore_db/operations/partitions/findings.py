"""Which months a partitioned table lacks, as a snapshot shows it; no database needed."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from carnivore_db.kit import months
from carnivore_db.schema.snapshot import INSTANCES, PARTITIONS, Snapshot

_BOUND = re.compile(r"^FOR VALUES FROM \((.+)\) TO \((.+)\)$")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A month for which a table has no partition of its own.

    `past`: the month is over. New rows do not miss its partition; its old rows may.
    """

    table: str
    month: date
    past: bool

    def describe(self) -> str:
        return f"partitioned table {self.table}: no partition for {self.month:%Y-%m}"


def partition_findings(live: Snapshot, now: datetime, months_ahead: int) -> list[Finding]:
    """The months without a partition, from the earliest monthly one to `months_ahead` from now.

    In: a snapshot made by `take`; `now` with a time zone; months beyond the current one, all of
    them UTC months. A table that has no partition but DEFAULT is judged from the current month.
    Raises ValueError for a `now` without time zone, because its month would be a guess.
    """
    if now.tzinfo is None:
        raise ValueError("now needs a time zone")
    current = months.number(now)
    found: list[Finding] = []
    for table, partitioning in live.get(PARTITIONS, {}).items():
        if not partitioning["by_time"]:
            continue
        ranges = sorted(_ranges(live.get(INSTANCES, {}), table))
        starts = [months.number(start) for start, _ in ranges if start.year > 1]
        found += (
            Finding(table, months.start(month).date(), past=month < current)
            for month in range(min((*starts, current)), current + months_ahead + 1)
            if not months.covered(ranges, month)
        )
    return sorted(found)


def _ranges(instances: Mapping[str, Any], table: str) -> Iterator[tuple[datetime, datetime]]:
    for instance in instances.values():
        bound = _BOUND.match(instance["bounds"] or "") if instance["parent"] == table else None
        if bound:
            yield _moment(bound[1]), _moment(bound[2])


def _moment(bound: str) -> datetime:
    """A bound as the catalog prints it in UTC; a date or a time without zone counts as UTC."""
    if bound == "MINVALUE":
        return datetime.min.replace(tzinfo=UTC)
    if bound == "MAXVALUE":
        return datetime.max.replace(tzinfo=UTC)
    moment = datetime.fromisoformat(bound.strip("'"))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
