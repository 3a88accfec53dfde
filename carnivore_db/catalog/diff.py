"""Compare two snapshots, and say which months a partitioned table lacks; no database needed."""

import difflib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from typing import Any, Literal

from carnivore_db import months
from carnivore_db.catalog.snapshot import INSTANCES, PARTITIONS, Snapshot

_NOUNS = {
    "columns": "column",
    "constraints": "constraint",
    "default_privileges": "default privileges of",
    "extensions": "extension",
    "foreign_keys": "foreign key",
    "functions": "function",
    "grants": "grants on",
    "indexes": "index",
    INSTANCES: "partition",
    PARTITIONS: "partitioning of",
    "policies": "policy",
    "rules": "rule",
    "schemas": "schema",
    "sequences": "sequence",
    "statistics": "statistics",
    "tables": "table",
    "triggers": "trigger",
    "types": "type",
}
_BOUND = re.compile(r"^FOR VALUES FROM \((.+)\) TO \((.+)\)$")


@dataclass(frozen=True, slots=True)
class Difference:
    """One object that is missing or extra, or one field of one object that has changed."""

    kind: str
    identity: str
    what: Literal["missing", "extra", "changed"]
    field: str | None
    expected: Any
    live: Any

    def describe(self) -> str:
        """One line, or a unified diff below one line where a text of several lines changed."""
        subject = f"{_NOUNS.get(self.kind, self.kind)} {self.identity}"
        if self.what == "missing":
            return f"{subject}: missing"
        if self.what == "extra":
            detail = f" ({_shown(self.live)})" if self.kind == "grants" else ""
            return f"{subject}: not expected{detail}"
        if "\n" in f"{self.expected}{self.live}":
            lines = difflib.unified_diff(
                _lines(self.expected), _lines(self.live), "expected", "live", lineterm="", n=2
            )
            return "\n".join((f"{subject}: {self.field} differs", *lines))
        return f"{subject}: {self.field} is {_shown(self.live)}, expected {_shown(self.expected)}"


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


def compare(expected: Snapshot, live: Snapshot, *, ignore: Sequence[str] = ()) -> list[Difference]:
    """Everything in which the live catalog departs from the expected one, sorted.

    In: two snapshots made by `take` (or two by `fingerprint`), and fnmatch patterns of identities
    to leave out; a pattern that names a table covers its columns, indexes and so on.
    Each live partition is compared with the *expected* pattern, and with nothing else: partitions
    come and go.
    """
    found: list[Difference] = []
    for kind in (expected.keys() | live.keys()) - {INSTANCES}:
        of_instances = kind == PARTITIONS and INSTANCES in live
        found += _kind(
            kind,
            expected.get(kind, {}),
            live.get(kind, {}),
            without={"pattern"} if of_instances else (),
        )
    for name, instance in live.get(INSTANCES, {}).items():
        model = expected.get(PARTITIONS, {}).get(instance["parent"], {}).get("pattern")
        if model is not None:
            found += _fields(INSTANCES, name, model, instance["definition"])
    return sorted(
        (d for d in found if not ignored(d.identity, ignore)),
        key=lambda d: (d.kind, d.identity, d.field or "", d.what),
    )


def ignored(identity: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern covers this object, or the table or the function name it belongs to."""
    return any(fnmatchcase(identity, pattern + rest) for pattern in patterns for rest in ("", ".*", "(*"))


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


def _kind(
    kind: str,
    expected: Mapping[str, Any],
    live: Mapping[str, Any],
    without: Collection[str],
) -> Iterator[Difference]:
    for identity in expected.keys() | live.keys():
        before, after = expected.get(identity), live.get(identity)
        if before is not None and after is not None:
            yield from _fields(kind, identity, before, after, without)
        elif after:
            yield Difference(kind, identity, "extra", None, None, after)
        elif before:
            yield Difference(kind, identity, "missing", None, before, None)


def _fields(
    kind: str,
    identity: str,
    expected: Mapping[str, Any],
    live: Mapping[str, Any],
    without: Collection[str] = (),
) -> Iterator[Difference]:
    for field in (expected.keys() | live.keys()) - set(without):
        before, after = expected.get(field), live.get(field)
        if before != after:
            yield Difference(kind, identity, "changed", field, before, after)


def _shown(value: Any) -> str:
    if value is None:
        return "absent"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _lines(value: Any) -> list[str]:
    return [] if value is None else str(value).splitlines()


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
