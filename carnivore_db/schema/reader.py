"""Read the catalog's objects, one entry each, in words instead of oids and one-letter codes."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from carnivore_db.schema import queries
from carnivore_db.schema.expressions import plain, plain_view

Definition = dict[str, Any]

# GRANT ALL gives these; PostgreSQL 17 added MAINTAIN to them.
_ALL_ON_TABLE = frozenset(("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"))
# Where a kind has expressions. A function's text is its author's.
_EXPRESSIONS = {
    "columns": ("default", "generated"),
    "constraints": ("definition",),
    "indexes": ("definition",),
    "policies": ("using", "with_check"),
    "triggers": ("definition",),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One object: what it is, on which table (by oid, if any), its name there, its definition.

    `parent` is the object of the partitioned table that this object of a partition stands for.
    `table` names a table outside the schemas that were read.
    """

    kind: str
    relation: int | None
    name: str
    definition: Definition
    parent: str | None = None
    table: str | None = None


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, view or partition; `parent` is the oid of the table it is a partition of."""

    schema: str
    name: str
    parent: int | None

    @property
    def identity(self) -> str:
        return f"{self.schema}.{self.name}"


class Reader:
    """The catalog of some schemas, read kind by kind over one connection.

    In: a connection whose settings are `session.PLAIN_SETTINGS`, the schemas, and whether the
    migrating role's own grants count (they depend on how the platform set that role up).
    """

    def __init__(self, connection: Connection, schemas: Collection[str], *, migrator_grants: bool) -> None:
        self._connection = connection
        self._schemas = sorted(schemas)
        self._roles = {row["oid"]: row["rolname"] for row in self._rows(queries.ROLES)}
        self._migrator: int = connection.execute(text(queries.MIGRATOR)).scalar_one()
        self._migrator_grants = migrator_grants
        self.relations: dict[int, Relation] = {
            row["oid"]: Relation(row["schema"], row["name"], row["parent"])
            for row in self._rows(queries.RELATIONS, schemas=self._schemas)
        }

    def schemas(self) -> Iterator[Entry]:
        yield from self._entries("schemas", queries.SCHEMAS, schemas=self._schemas)

    def surroundings(self) -> Iterator[Entry]:
        """What belongs to the database rather than to a schema."""
        yield from self._entries("extensions", queries.EXTENSIONS)
        yield from self._entries("default_privileges", queries.DEFAULT_PRIVILEGES)

    def entries(self) -> Iterator[Entry]:
        """Every object of the schemas, partitions and their parts included."""
        tables: dict[str, Any] = {"relations": sorted(self.relations)}
        schemas: dict[str, Any] = {"schemas": self._schemas}
        for entry in self._entries("tables", queries.TABLES, **tables):
            if "definition" in entry.definition:
                entry.definition["definition"] = plain_view(entry.definition["definition"])
            yield entry
        yield from self._entries("columns", queries.COLUMNS, **tables)
        for entry in self._entries("constraints", queries.CONSTRAINTS, **tables):
            is_foreign_key = entry.definition.pop("is_foreign_key")
            yield replace_kind(entry, "foreign_keys") if is_foreign_key else entry
        yield from self._entries("indexes", queries.INDEXES, **tables)
        yield from self._entries("triggers", queries.TRIGGERS, **tables, **schemas)
        yield from self._entries("policies", queries.POLICIES, **tables)
        for entry in self._entries("grants", queries.GRANTS, **tables):
            yield Entry(entry.kind, entry.relation, entry.name, entry.definition["acl"])
        yield from self._entries("rules", queries.RULES, **tables)
        yield from self._entries("statistics", queries.STATISTICS, **tables)
        yield from self._entries("functions", queries.FUNCTIONS, **schemas)
        yield from self._entries("types", queries.TYPES, **schemas)
        yield from self._entries("types", queries.COLLATIONS, **schemas)
        for entry in self._entries("sequences", queries.SEQUENCES, **schemas):
            if entry.definition.get("belongs") == "identity":
                kept = {k: entry.definition.get(k) for k in ("belongs", "column", "acl")}
                yield Entry(entry.kind, None, entry.name, kept)
            else:
                yield entry

    def _rows(self, query: str, **values: Any) -> Iterator[dict[str, Any]]:
        for row in self._connection.execute(text(query), values).mappings():
            yield dict(row)

    def _entries(self, kind: str, query: str, **values: Any) -> Iterator[Entry]:
        for row in self._rows(query, **values):
            relation, name = row.pop("relation", None), row.pop("name", None) or ""
            parent, table = row.pop("parent", None), row.pop("on_table", None)
            if "acl" in row:
                row["acl"] = self._privileges(row["acl"], row.get("owner"))
            if "owner" in row:
                row["owner"] = self._role(row["owner"])
            for field in _EXPRESSIONS.get(kind, ()):
                if row.get(field) is not None:
                    row[field] = plain(row[field])
            definition = {field: value for field, value in row.items() if value is not None}
            yield Entry(kind, relation, name, definition, parent, table)

    def _role(self, oid: int) -> str:
        if oid == 0:
            return "PUBLIC"
        if oid == self._migrator:
            return "migrator"
        name: str = self._roles.get(oid, f"unknown role {oid}")
        # A role that merely calls itself so must not pass for the migrating one.
        return f'"{name}"' if name == "migrator" else name

    def _privileges(
        self, entries: list[tuple[int, str, bool]] | None, owner: int | None
    ) -> dict[str, list[str]]:
        silent = {owner} if self._migrator_grants else {owner, self._migrator}
        held: dict[str, set[str]] = {}
        for grantee, privilege, grantable in entries or ():
            if grantee not in silent:
                held.setdefault(self._role(grantee), set()).add(privilege + ("*" if grantable else ""))
        return {role: plain_privileges(held[role]) for role in sorted(held)}


def plain_privileges(privileges: set[str]) -> list[str]:
    """Privileges on one object as every version lists them; `*` is the right to pass them on."""
    bare = {p.removesuffix("*") for p in privileges}
    if bare >= _ALL_ON_TABLE:
        bare.discard("MAINTAIN")
    return sorted(f"{p}*" if f"{p}*" in privileges else p for p in bare)


def replace_kind(entry: Entry, kind: str) -> Entry:
    """The same entry under another kind."""
    return Entry(kind, entry.relation, entry.name, entry.definition, entry.parent, entry.table)
