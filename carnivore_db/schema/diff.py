"""Compare two snapshots; no database needed."""

import difflib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from carnivore_db.schema.snapshot import INSTANCES, PARTITIONS, Snapshot

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
