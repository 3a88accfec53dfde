"""The schema reference, `docs/schema/`: a page for each table and each function, written from a snapshot."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from carnivore_db.schema.snapshot import PARTITIONS, Snapshot

_INDEX = """\
# Schema reference

Generated from the catalog of a fresh database by `make snapshot`: edit models, revisions and their
comments, not these pages. Each page shows its object as it stands at head. Owners hold every privilege on
what they own, and are not listed; a `*` after a privilege means that its holder may pass it on.
"""
_PARTS = (
    ("constraints", "Constraints"),
    ("foreign_keys", "Foreign keys"),
    ("indexes", "Indexes"),
    ("triggers", "Triggers"),
    ("rules", "Rules"),
    ("statistics", "Statistics"),
)
_VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE")


def pages(snapshot: Snapshot) -> dict[str, str]:
    """All pages by their path below `docs/schema/`; one snapshot, one text.

    In: a snapshot made by `take`, or the committed ones.
    """
    found: dict[str, str] = {}
    lines = [_INDEX]
    for schema, definition in snapshot["schemas"].items():
        lines.append(f"## Schema `{schema}`\n")
        lines += _comment(definition)
        lines += _grid("Who may do what", ("role", "privileges"), _held(definition.get("acl", {})))
        index: list[Sequence[str]] = []
        for identity in _inside(snapshot["tables"], schema):
            table = snapshot["tables"][identity]
            path = f"{schema}/{_name(identity, schema)}.md"
            found[path] = _text(_table(snapshot, identity))
            index.append((f"[{_name(identity, schema)}]({path})", table["kind"], _cell(table.get("comment"))))
        for name, overloads in _functions(snapshot, schema).items():
            path = f"{schema}/{name}.md"
            if path in found:  # a function may have a table's name
                path = f"{schema}/{name}-function.md"
            found[path] = _text(
                line for each in overloads for line in _function(each, snapshot["functions"][each])
            )
            first = snapshot["functions"][overloads[0]]
            index.append((f"[{name}]({path})", first["kind"], _cell(first.get("comment"))))
        lines += _grid("Objects", ("name", "kind", "comment"), index)
        for identity in _inside(snapshot["types"], schema):
            lines += _type(identity, snapshot["types"][identity])
    found["README.md"] = _text(iter(lines))
    return found


def _text(lines: Iterator[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"


def _name(identity: str, schema: str) -> str:
    return identity.removeprefix(f"{schema}.")


def _functions(snapshot: Snapshot, schema: str) -> dict[str, list[str]]:
    """The functions of a schema by their bare names, each with its overloads."""
    found: dict[str, list[str]] = {}
    for identity in _inside(snapshot["functions"], schema):
        found.setdefault(_name(identity, schema).partition("(")[0], []).append(identity)
    return found


def _table(snapshot: Snapshot, table: str) -> Iterator[str]:
    definition = snapshot["tables"][table]
    kind = definition["kind"]
    yield f"# {kind.capitalize()} `{table}`\n"
    yield from _comment(definition)
    if partitioning := snapshot.get(PARTITIONS, {}).get(table):
        default = "with" if partitioning["default"] else "without"
        yield f"Partitioned by {_code(partitioning['strategy'])}, {default} a DEFAULT partition.\n"
    columns = _parts(snapshot, "columns", table)
    yield from _columns(columns)
    if "definition" in definition:
        yield f"```sql\n{definition['definition'].strip()}\n```\n"
    for part, title in _PARTS:
        rows = [
            (_code(name), _code(_defined(d)), _cell(d.get("comment")))
            for name, d in _parts(snapshot, part, table).items()
        ]
        yield from _grid(title, ("name", "definition", "comment"), rows)
    if kind in ("table", "partitioned table"):
        yield from _policies(definition, _parts(snapshot, "policies", table))
    on_table = snapshot["grants"].get(table, {})
    yield from _rights(on_table, _parts(snapshot, "grants", table), len(columns))


def _columns(columns: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (
            _code(name),
            _code(c["type"]),
            "" if c["not_null"] else "null",
            _default(c),
            _cell(c.get("comment")),
        )
        for name, c in sorted(columns.items(), key=lambda item: item[1]["position"])
    ]
    yield from _grid("Columns", ("column", "type", "null", "default", "comment"), rows)


def _policies(table: Mapping[str, Any], policies: Mapping[str, Any]) -> Iterator[str]:
    state = "enabled" if table["row_security"] else "NOT enabled"
    forced = ", for the owner too" if table["row_security_forced"] else ""
    yield f"Row security is {state}{forced}.\n"
    rows = [
        (
            _code(name),
            p["command"] + ("" if p["permissive"] else " (restrictive)"),
            ", ".join(_code(role) for role in p["roles"]),
            _code(p.get("using")),
            _code(p.get("with_check")),
            _cell(p.get("comment")),
        )
        for name, p in policies.items()
    ]
    yield from _grid("Policies", ("policy", "for", "to", "using", "with check", "comment"), rows)


def _rights(
    on_table: Mapping[str, Sequence[str]], on_columns: Mapping[str, Mapping[str, Sequence[str]]], columns: int
) -> Iterator[str]:
    """Who may do what: a row a role, a column a verb, and in each cell the columns."""
    roles = sorted({*on_table, *(role for held in on_columns.values() for role in held)})
    rows = [
        (
            _code(role),
            *(_cell_of(verb, role, on_table, on_columns, columns) for verb in _VERBS),
            ", ".join(p for p in on_table.get(role, ()) if p.rstrip("*") not in _VERBS),
        )
        for role in roles
    ]
    yield from _grid("Who may do what", ("role", *_VERBS, "other"), rows)
    if not rows:
        yield "No role but the owner may do anything here.\n"


def _cell_of(
    verb: str,
    role: str,
    on_table: Mapping[str, Sequence[str]],
    on_columns: Mapping[str, Mapping[str, Sequence[str]]],
    columns: int,
) -> str:
    whole = [p for p in on_table.get(role, ()) if p.rstrip("*") == verb]
    if whole:
        return "all" + whole[0].removeprefix(verb)
    named = [name for name, held in on_columns.items() if verb in {p.rstrip("*") for p in held.get(role, ())}]
    return "all" if named and len(named) == columns else ", ".join(map(_code, named))


def _held(acl: Mapping[str, Sequence[str]]) -> list[Sequence[str]]:
    return [(_code(role), ", ".join(held)) for role, held in acl.items()]


def _type(identity: str, definition: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {definition['kind'].capitalize()} `{identity}`\n"
    yield from _comment(definition)
    for field in ("labels", "attributes"):
        if field in definition:
            yield ", ".join(_code(value) for value in definition[field]) + "\n"
    if "provider" in definition:
        certain = "deterministic" if definition["deterministic"] else "not deterministic"
        yield f"{definition['provider']}, {_code(definition['locale'])}, {certain}\n"
    if "base" in definition:
        checks = "".join(f" {check}" for check in definition.get("constraints", {}).values())
        yield _code(definition["base"] + checks) + "\n"


def _function(identity: str, definition: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {definition['kind'].capitalize()} `{identity}`\n"
    yield from _comment(definition)
    rights = "its owner" if definition["security_definer"] else "its caller"
    holders = ", ".join(_code(role) for role in definition["acl"]) or "its owner only"
    yield (
        f"{definition['language']}, {definition['volatility']}, with the rights of {rights};"
        f" may be executed by {holders}.\n"
    )
    yield f"```sql\n{definition['definition'].strip()}\n```\n"


def _inside(identities: Mapping[str, Any], schema: str) -> Iterator[str]:
    return (identity for identity in identities if identity.startswith(f"{schema}."))


def _parts(snapshot: Snapshot, kind: str, table: str) -> dict[str, Any]:
    prefix = f"{table}."
    return {
        identity.removeprefix(prefix): definition
        for identity, definition in snapshot.get(kind, {}).items()
        if identity.startswith(prefix)
    }


def _comment(definition: Mapping[str, Any]) -> Iterator[str]:
    if comment := definition.get("comment"):
        yield f"{comment}\n"


def _default(column: Mapping[str, Any]) -> str:
    if "identity" in column:
        return f"identity, {column['identity']}"
    if "generated" in column:
        return f"generated, {column['generated']}: {_code(column.get('default'))}"
    return _code(column.get("default"))


def _defined(part: Mapping[str, Any]) -> str:
    notes = [] if part.get("state", "enabled") == "enabled" else [part["state"]]
    return " -- ".join([part["definition"], *notes])


def _grid(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table under its title, or nothing; a column that is empty throughout is left out."""
    if not rows:
        return
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    yield f"**{title}**\n"
    yield _row([header[i] for i in kept])
    yield _row(["---"] * len(kept))
    yield from (_row([row[i] for i in kept]) for row in rows)
    yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: str | None) -> str:
    """Text that cannot end its cell or its line."""
    return " ".join((value or "").split()).replace("|", r"\|")


def _code(value: str | None) -> str:
    if not value:
        return ""
    fence = "``" if "`" in value else "`"
    pad = " " if "`" in value else ""
    return f"{fence}{pad}{_cell(value)}{pad}{fence}"
