"""Put back what the revisions state: rights, policies, triggers, functions, comments, ids and counters.

What a restore, another Supabase project or a hand can have lost or added. Tables, columns, constraints and
indexes are not touched: what differs there is told, for a person.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

from carnivore_db.operations.verify import probes
from carnivore_db.operations.verify.probes import Refused
from carnivore_db.schema import files
from carnivore_db.schema.areas import Area
from carnivore_db.schema.diff import Difference, compare
from carnivore_db.schema.session import set_local
from carnivore_db.schema.snapshot import INSTANCES, Snapshot, take

_COMMENTED = {
    "columns": "COLUMN",
    "functions": "ROUTINE",
    "indexes": "INDEX",
    "schemas": "SCHEMA",
    "tables": "TABLE",
}
# Identities of which the next id was given away already, as after a load of rows.
_IDENTITIES = text("""
    SELECT format('%I.%I', n.nspname, c.relname) AS table, quote_ident(a.attname) AS column,
        pg_get_serial_sequence(format('%I.%I', n.nspname, c.relname), a.attname) AS sequence
    FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE a.attidentity <> '' AND NOT a.attisdropped AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND format('%s.%s', n.nspname, c.relname) = ANY(:tables)
    ORDER BY 1
""")
# What triggers count once more when rows are loaded with them on. Each corrects, and returns how many it did.
_COUNTERS: dict[Area, dict[str, str]] = {
    "weekly": {
        # Accesses in cold storage are counted and not here to be counted again.
        "public.generated_reports.access_count": """
            WITH counted AS (
                SELECT r.id, (SELECT count(*) FROM public.report_access_log AS l WHERE l.report_id = r.id)
                    - (SELECT coalesce(sum(p.access_count), 0) FROM public.report_access_pending AS p
                        WHERE p.report_id = r.id) AS accesses
                FROM public.generated_reports AS r
                WHERE NOT EXISTS (SELECT FROM carnivore.archived_partitions
                    WHERE parent = 'public.report_access_log' AND detached_at IS NOT NULL)
            ), corrected AS (
                UPDATE public.generated_reports AS r SET access_count = counted.accesses FROM counted
                WHERE counted.id = r.id AND counted.accesses >= 0 AND r.access_count <> counted.accesses
                RETURNING 1
            ) SELECT count(*) FROM corrected
        """,
    },
    "vocabulary": {
        "vocabulary.user_progress": """
            SELECT count(DISTINCT u.id) FROM vocabulary.users AS u, vocabulary.recompute_user_progress(u.id)
        """,
    },
    "conversation": {
        "conversation.sessions.message_count": """
            WITH counted AS (
                SELECT s.id, count(m.id) FILTER (WHERE m.chat_type = 'main') AS main,
                    count(m.id) FILTER (WHERE m.chat_type = 'helper') AS helper
                FROM conversation.sessions AS s
                LEFT JOIN conversation.message_history AS m ON m.session_id = s.id
                GROUP BY s.id
            ), corrected AS (
                UPDATE conversation.sessions AS s SET message_count_main = main, message_count_helper = helper
                FROM counted WHERE counted.id = s.id
                    AND (s.message_count_main, s.message_count_helper) IS DISTINCT FROM (main, helper)
                RETURNING 1
            ) SELECT count(*) FROM corrected
        """,
        "conversation.profiles.completed_scenario_count": """
            WITH wrong AS MATERIALIZED (
                SELECT p.id FROM conversation.profiles AS p WHERE p.completed_scenario_count <> (
                    SELECT count(*) FROM conversation.sessions AS s WHERE s.user_id = p.id AND s.is_completed)
            ) SELECT count(*) FROM (SELECT carnivore.count_completions(id) FROM wrong OFFSET 0) AS corrected
        """,
    },
}


@dataclass(frozen=True)
class Repair:
    """What was wrong, and the statement that mends it."""

    what: str
    statement: str


@dataclass
class Repaired:
    """Everything that was mended, and what differs still and is a person's to mend."""

    done: list[Repair] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def repair(connection: Connection, *, ignore: Sequence[str] = ()) -> Repaired:
    """Mend what can be, as the migrating role, in the connection's transaction: the caller commits.

    Reads every row of the tables that are counted. Raises what the database raises where a right is missing.
    """
    set_local(connection, {"search_path": ""})
    areas = probes.areas(connection)
    installed = [] if isinstance(areas, Refused) else [state.area for state in areas]
    model = files.expected(*installed)
    live = take(connection, probes.schemas(connection, model))
    result = Repaired()
    for found in _statements(compare(model, live, ignore=ignore), model):
        connection.exec_driver_sql(found.statement.replace("%", "%%"))
        result.done.append(found)
    result.done += _identities(connection, model)
    for area in installed:
        for what, statement in _COUNTERS[area].items():
            if corrected := connection.execute(text(statement)).scalar_one():
                result.done.append(
                    Repair(f"{what}: {corrected} rows were wrong", " ".join(statement.split()))
                )
    again = take(connection, probes.schemas(connection, model))
    result.left = [difference.describe() for difference in compare(model, again, ignore=ignore)]
    return result


def _identities(connection: Connection, model: Snapshot) -> Iterator[Repair]:
    for found in connection.execute(_IDENTITIES, {"tables": list(model["tables"])}).all():
        highest = connection.execute(text(f"SELECT max({found.column}) FROM {found.table}")).scalar()
        last = connection.execute(text(f"SELECT last_value FROM {found.sequence}")).scalar_one()
        if highest is not None and highest > last:
            statement = f"SELECT setval('{found.sequence}', {highest})"
            connection.execute(text(statement))
            yield Repair(
                f"sequence {found.sequence}: is at {last}, and {found.table} has {highest}", statement
            )


def _statements(differences: Iterable[Difference], model: Snapshot) -> Iterator[Repair]:
    """Functions first: triggers and policies call them. Rights last: what was made anew has its defaults."""
    found = list(differences)
    for kind in ("functions", "tables", INSTANCES, "policies", "triggers", "schemas", "sequences"):
        for difference in (each for each in found if each.kind == kind):
            for statement in _MENDERS[kind](difference, model):
                yield Repair(difference.describe().partition("\n")[0], statement)
    for difference in found:
        if difference.what == "changed" and difference.field == "comment" and difference.kind in _COMMENTED:
            kind = _COMMENTED[difference.kind]
            if kind == "TABLE" and model["tables"][difference.identity]["kind"] == "view":
                kind = "VIEW"
            statement = f"COMMENT ON {kind} {difference.identity} IS {_literal(difference.expected)}"
            yield Repair(difference.describe().partition("\n")[0], statement)
    yield from _grants(found, model)


def _grants(differences: Iterable[Difference], model: Snapshot) -> Iterator[Repair]:
    """All rights of a role on a table at once: REVOKE on a table takes those on its columns too."""
    wrong: dict[tuple[str, str], str] = {}
    for difference in differences:
        if difference.kind == "grants":
            table = ".".join(difference.identity.split(".")[:2])
            roles = [difference.field] if difference.field else {**(difference.live or difference.expected)}
            if table in model["tables"]:
                wrong |= {(table, str(role)): difference.describe() for role in roles}
    for (table, role), what in wrong.items():
        yield Repair(what, f"REVOKE ALL ON {table} FROM {_role(role)} CASCADE")
        if held := model["grants"].get(table, {}).get(role):
            yield Repair(what, f"GRANT {', '.join(held)} ON {table} TO {_role(role)}")
        columns: dict[str, list[str]] = {}
        for identity, grants in model["grants"].items():
            if identity.startswith(f"{table}."):
                for privilege in grants.get(role, ()):
                    columns.setdefault(privilege, []).append(identity.removeprefix(f"{table}."))
        for privilege, names in columns.items():
            yield Repair(what, f"GRANT {privilege} ({', '.join(names)}) ON {table} TO {_role(role)}")


def _function(found: Difference, _: Snapshot) -> Iterator[str]:
    if found.what == "missing":
        yield found.expected["definition"]
        yield f"COMMENT ON ROUTINE {found.identity} IS {_literal(found.expected.get('comment'))}"
        yield from _acl("ROUTINE", found.identity, found.expected["acl"], {"PUBLIC": [], "anon": []})
    elif found.field == "definition":
        yield found.expected
    elif found.field == "acl":
        yield from _acl("ROUTINE", found.identity, found.expected, found.live)


def _acl(
    kind: str, name: str, expected: Mapping[str, Collection[str]], live: Mapping[str, Collection[str]]
) -> Iterator[str]:
    for role in sorted(expected.keys() | live.keys()):
        if set(expected.get(role, ())) != set(live.get(role, ())) or not live.get(role):
            yield f"REVOKE ALL ON {kind} {name} FROM {_role(role)}"
            if held := expected.get(role):
                yield f"GRANT {', '.join(held)} ON {kind} {name} TO {_role(role)}"


def _table(found: Difference, _: Snapshot) -> Iterator[str]:
    if found.field == "row_security":
        yield f"ALTER TABLE {found.identity} {'ENABLE' if found.expected else 'DISABLE'} ROW LEVEL SECURITY"
    elif found.field == "row_security_forced":
        yield f"ALTER TABLE {found.identity} {'' if found.expected else 'NO '}FORCE ROW LEVEL SECURITY"


def _partition(found: Difference, _model: Snapshot) -> Iterator[str]:
    """A partition: closed to everybody, with the triggers of its pattern."""
    what, _, name = (found.field or "").partition(" ")
    schema, _, bare = found.identity.partition(".")
    if found.field == "row_security":
        yield f"ALTER TABLE {found.identity} ENABLE ROW LEVEL SECURITY"
    elif what == "grant":
        yield f"REVOKE ALL ON {found.identity} FROM {_role(name.rpartition('to ')[2])}"
    elif what == "policy" and found.expected is None:
        yield f'DROP POLICY "{name}" ON {found.identity}'
    elif what == "trigger" and found.live is None:
        yield found.expected["definition"].replace("{partition}", bare)
    elif what == "trigger" and found.expected is not None:
        yield f'ALTER TABLE {schema}."{bare}" ENABLE TRIGGER "{name}"'


def _policy(found: Difference, model: Snapshot) -> Iterator[str]:
    table, name = found.identity.rsplit(".", 1)
    if found.what != "missing" and found.field != "comment":
        yield f'DROP POLICY IF EXISTS "{name}" ON {table}'
    if found.what == "extra":
        return
    policy: Mapping[str, Any] = model["policies"][found.identity]
    if found.field != "comment":
        using = f" USING ({policy['using']})" if policy.get("using") else ""
        check = f" WITH CHECK ({policy['with_check']})" if policy.get("with_check") else ""
        yield (
            f'CREATE POLICY "{name}" ON {table} AS {"PERMISSIVE" if policy["permissive"] else "RESTRICTIVE"}'
            f" FOR {policy['command']} TO {', '.join(map(_role, policy['roles']))}{using}{check}"
        )
    if policy.get("comment"):
        yield f'COMMENT ON POLICY "{name}" ON {table} IS {_literal(policy["comment"])}'


def _trigger(found: Difference, model: Snapshot) -> Iterator[str]:
    table, name = found.identity.rsplit(".", 1)
    if found.what == "extra":
        return  # perhaps somebody's own: told as left
    trigger: Mapping[str, Any] = model["triggers"][found.identity]
    if found.field == "definition":
        yield f'DROP TRIGGER "{name}" ON {table}'
    if found.what == "missing" or found.field == "definition":
        yield trigger["definition"]
    if found.field == "state":
        yield f'ALTER TABLE {table} ENABLE TRIGGER "{name}"'
    if trigger.get("comment") and found.field != "state":
        yield f'COMMENT ON TRIGGER "{name}" ON {table} IS {_literal(trigger["comment"])}'


def _schema(found: Difference, _: Snapshot) -> Iterator[str]:
    if found.field == "acl":
        yield from _acl("SCHEMA", found.identity, found.expected, found.live)


def _sequence(found: Difference, _: Snapshot) -> Iterator[str]:
    if found.field == "acl":
        yield from _acl("SEQUENCE", found.identity, found.expected, found.live)


_MENDERS = {
    "functions": _function,
    "tables": _table,
    INSTANCES: _partition,
    "policies": _policy,
    "triggers": _trigger,
    "schemas": _schema,
    "sequences": _sequence,
}


def _role(name: str) -> str:
    return name if name == "PUBLIC" else f'"{name.strip(chr(34))}"'


def _literal(value: Any) -> str:
    return "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"
