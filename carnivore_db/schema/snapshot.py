"""Write the live catalog down as plain data that can be committed and compared."""

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import Connection, text

from carnivore_db.schema import instances, queries
from carnivore_db.schema.reader import Definition, Entry, Reader
from carnivore_db.schema.session import PLAIN_SETTINGS, set_local, undone

# kind -> identity -> definition
Snapshot = dict[str, dict[str, Any]]

PARTITIONS = "partitions"
INSTANCES = "partition_instances"

_KINDS = (
    "columns", "constraints", "foreign_keys", "functions", "grants", "indexes", "policies",
    "rules", "schemas", "sequences", "statistics", "tables", "triggers", "types",
)  # fmt: skip


def take(connection: Connection, schemas: Collection[str]) -> Snapshot:
    """The definitions of everything in these schemas, the same for whoever asks and wherever.

    Out: kind -> identity -> definition, JSON-serialisable, in a fixed order. Partitions are not
    among the tables: `partitions` has the pattern common to a table's partitions, and
    `partition_instances` each one's bounds and its definition in the pattern's terms. Left out is
    what differs between installations without meaning anything: the migrating role's name and
    grants, and who owns the schema `public` or may look in.
    The connection's transaction and settings are left as they were.

    Raises RuntimeError on a connection in autocommit mode.
    """
    with undone(connection):
        set_local(connection, PLAIN_SETTINGS)
        reader = Reader(connection, schemas, migrator_grants=False)
        partitions = {oid for oid, r in reader.relations.items() if r.parent is not None}
        whole: list[Entry] = []
        parts: list[Entry] = []
        for entry in (*reader.schemas(), *reader.entries()):
            (parts if entry.relation in partitions else whole).append(entry)
        snapshot = _assemble(reader, whole, _KINDS)
        # The platform made `public`, and says whose it is and who may look in; who may make objects
        # there is ours to watch.
        if (public := snapshot["schemas"].get("public")) is not None:
            acl = public["acl"].items()
            makers = {role: [p for p in held if p.startswith("CREATE")] for role, held in acl}
            snapshot["schemas"]["public"] = {"acl": {role: held for role, held in makers.items() if held}}
        live = instances.describe(reader.relations, parts)
        snapshot[PARTITIONS] = _patterns(snapshot["tables"], live)
        snapshot[INSTANCES] = _ordered(live)
        return _ordered(snapshot)


def fingerprint(connection: Connection) -> Snapshot:
    """Everything in the database that a revision could have left behind, in every schema.

    Unlike `take` it has partitions in full, like any other table, extensions, default privileges,
    and the schemas that are not ours. For comparing one database with itself.
    """
    with undone(connection):
        set_local(connection, PLAIN_SETTINGS)
        schemas = connection.scalars(text(queries.ALL_SCHEMAS)).all()
        reader = Reader(connection, schemas, migrator_grants=True)
        entries = (*reader.schemas(), *reader.surroundings(), *reader.entries())
        return _ordered(_assemble(reader, entries, (*_KINDS, "extensions", "default_privileges")))


def committable(snapshot: Snapshot) -> Snapshot:
    """The snapshot without what comes and goes by itself: the partitions of this month or that.

    Raises ValueError when partitions of one table differ from each other: whichever of them is
    right, such a catalog is no model for others.
    """
    for name, instance in snapshot.get(INSTANCES, {}).items():
        model = snapshot[PARTITIONS].get(instance["parent"], {}).get("pattern")
        if instance["definition"] != model:
            raise ValueError(f"partition {name} differs from the others of {instance['parent']}")
    return {kind: objects for kind, objects in snapshot.items() if kind != INSTANCES}


def _assemble(reader: Reader, entries: Iterable[Entry], kinds: Iterable[str]) -> Snapshot:
    snapshot: Snapshot = {kind: {} for kind in kinds}
    for entry in entries:
        definition = dict(entry.definition)
        if entry.parent:
            definition["part_of"] = entry.parent
        if entry.kind == "tables" and entry.relation is not None:
            parent = reader.relations[entry.relation].parent
            if parent in reader.relations:
                definition["part_of"] = reader.relations[parent].identity
        snapshot[entry.kind][_identity(reader, entry)] = definition
    return {kind: _ordered(objects) for kind, objects in snapshot.items()}


def _identity(reader: Reader, entry: Entry) -> str:
    table = entry.table
    if entry.relation is not None and entry.relation in reader.relations:
        table = reader.relations[entry.relation].identity
    return ".".join(part for part in (table, entry.name) if part)


def _patterns(tables: dict[str, Definition], live: dict[str, dict[str, Any]]) -> dict[str, Definition]:
    found: dict[str, Definition] = {}
    for identity, table in tables.items():
        by_time = table.pop("by_time", False)
        if "partition_key" not in table:
            continue
        own = [i for i in live.values() if i["parent"] == identity]
        found[identity] = {
            "strategy": table["partition_key"],
            "by_time": by_time,
            "default": any(i["bounds"] == "DEFAULT" for i in own),
        }
        model = instances.pattern(own)
        if model is not None:
            found[identity]["pattern"] = model
    return found


def _ordered(objects: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _ordered(value) if isinstance(value, dict) else value for name, value in sorted(objects.items())
    }
