"""Partitions as instances of a pattern: the same definition, apart from their own name.

Partitions come every month, so the committed snapshot cannot name them. Each one is written down
with its name replaced by `{partition}`, and its parts under the names of the parent's parts.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from carnivore_db.schema.reader import Definition, Entry, Relation

PLACEHOLDER = "{partition}"

# Parts of a partition, and what a part is called in its definition.
_PARTS = {
    "constraints": "constraint",
    "foreign_keys": "foreign key",
    "indexes": "index",
    "triggers": "trigger",
    "policies": "policy",
    "rules": "rule",
    "statistics": "statistics",
}
_OF_THE_TABLE = (
    "kind", "persistence", "owner", "row_security", "row_security_forced", "partition_key",
    "options", "toast_options", "replica_identity",
)  # fmt: skip
# A partition has its own column order; since PostgreSQL 17 it shows the parent's identity too.
_NOT_OF_A_PARTITION = frozenset(("position", "identity", "comment"))
_INDEX_NAME = re.compile(r"^(CREATE (?:UNIQUE )?INDEX) .+? ON (ONLY )?")


def describe(relations: Mapping[int, Relation], entries: Iterable[Entry]) -> dict[str, dict[str, Any]]:
    """Every partition's parent, bounds and normalised definition, by the partition's name.

    In: all relations by oid, and the entries that belong to partitions.
    """
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if entry.relation is None:
            continue
        relation = relations[entry.relation]
        instance = found.setdefault(
            relation.identity,
            {"parent": _parent_name(relations, relation), "bounds": None, "definition": {}},
        )
        if entry.kind == "tables":
            instance["bounds"] = entry.definition.get("bounds")
        for field, value in _fields(entry):
            name = field if entry.parent else field.replace(relation.name, PLACEHOLDER)
            instance["definition"][name] = _without_name(value, relation.name)
    return found


def pattern(instances: Iterable[Mapping[str, Any]]) -> Definition | None:
    """The definition that most of these instances have; None if there are none."""
    votes = Counter(json.dumps(i["definition"], sort_keys=True) for i in instances)
    if not votes:
        return None
    # Ties are broken by the text, so that the same catalog always gives the same answer.
    winner = min(votes, key=lambda definition: (-votes[definition], definition))
    chosen: Definition = json.loads(winner)
    return chosen


def _fields(entry: Entry) -> Iterable[tuple[str, Any]]:
    """What one entry says about its partition, as fields of one flat definition."""
    definition = entry.definition
    if entry.kind == "tables":
        yield from ((f, definition[f]) for f in _OF_THE_TABLE if f in definition)
        yield "has_comment", "comment" in definition
    elif entry.kind == "columns":
        kept = {f: v for f, v in definition.items() if f not in _NOT_OF_A_PARTITION}
        yield f"column {entry.name}", kept
    elif entry.kind == "grants":
        place = f"grant on column {entry.name}" if entry.name else "grant"
        yield from ((f"{place} to {role}", held) for role, held in definition.items())
    else:
        kept = {f: v for f, v in definition.items() if f != "comment"}
        if entry.kind == "indexes":
            kept["definition"] = _INDEX_NAME.sub(r"\1 {index} ON \2", kept["definition"])
        yield f"{_PARTS[entry.kind]} {entry.parent or entry.name}", kept


def _without_name(value: Any, name: str) -> Any:
    if isinstance(value, str):
        return value.replace(name, PLACEHOLDER)
    if isinstance(value, list):
        return [_without_name(item, name) for item in value]
    if isinstance(value, dict):
        return {key: _without_name(item, name) for key, item in value.items()}
    return value


def _parent_name(relations: Mapping[int, Relation], relation: Relation) -> str | None:
    parent = relations.get(relation.parent) if relation.parent is not None else None
    return parent.identity if parent else None
