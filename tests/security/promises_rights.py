"""Rights: what rights.py lists is allowed, and in every table, partition and function all else is refused."""

from functools import partial

from tests.security.personas import SERVICES, Session
from tests.security.registry import add, promise
from tests.security.rights import (
    CALLS,
    READS,
    SERVICE_DELETES,
    SERVICE_INSERTS,
    SERVICE_READS,
    SERVICE_UPDATES,
    functions,
    relations,
    sequences,
)
from tests.security.rows import GOOD, insertion

ROLES = {"anon": "anon", "stranger": "authenticated"}
# So that each table and function of the private schema must refuse by itself.
LOOK_INSIDE = "GRANT USAGE ON SCHEMA carnivore TO anon, authenticated, service_role"

# Row security, which has the same SQLSTATE, would refuse a row: the grant alone must refuse this.
NO_ROW = "SELECT NULL WHERE false"


def _reads_no_other_column(s: Session, *, persona: str) -> None:
    s.superuser.allows(LOOK_INSIDE)
    for name, table, _, columns in relations(s):
        for column in columns:
            if column not in READS[ROLES[persona]].get(table, ()):
                s.as_(persona).refused(f"SELECT {column} FROM {name}")


def _writes_nothing(s: Session, *, persona: str) -> None:
    s.superuser.allows(LOOK_INSIDE)
    for name, _, view, columns in relations(s):
        if not view:
            s.as_(persona).refused(f"DELETE FROM {name}")
            for column in columns:
                s.as_(persona).refused(f"INSERT INTO {name} ({column}) {NO_ROW}")
                s.as_(persona).refused(f"UPDATE {name} SET {column} = DEFAULT")


def _empties_and_locks_nothing(s: Session, *, persona: str) -> None:
    s.superuser.allows(LOOK_INSIDE)
    for name, _, view, _ in relations(s):
        s.as_(persona).refused(f"LOCK TABLE {name} IN ACCESS SHARE MODE")
        if not view:
            s.as_(persona).refused(f"TRUNCATE {name}")
            s.as_(persona).refused(f"TRUNCATE {name} CASCADE")


def _copies_nothing(s: Session, *, persona: str) -> None:
    s.superuser.allows(LOOK_INSIDE)
    for name, _, view, _ in relations(s):
        s.as_(persona).refused(f"COPY {name} TO STDOUT")
        if not view:
            s.as_(persona).refused(f"COPY {name} FROM STDIN")


def _moves_no_sequence(s: Session, *, persona: str) -> None:
    for name in sequences(s):
        for attempt in (
            f"SELECT nextval('{name}')",
            f"SELECT setval('{name}', 1)",
            f"SELECT currval('{name}')",
            f"SELECT last_value FROM {name}",
        ):
            s.as_(persona).refused(attempt)


def _calls_no_other_function(s: Session, *, persona: str) -> None:
    s.superuser.allows(LOOK_INSIDE)
    # So that no function is refused for what it reads.
    s.superuser.allows("GRANT SELECT ON ALL TABLES IN SCHEMA public TO anon, authenticated, service_role")
    for _, short, _, call in functions(s):
        if short not in CALLS[ROLES.get(persona, "service_role")]:
            s.as_(persona).refused(f"SELECT {call}")


def _hangs_no_function_of_ours_on_a_table_of_its_own(s: Session, *, persona: str) -> None:
    """A counter could be forged by the counting trigger on a table that one fills oneself."""
    s.superuser.allows(LOOK_INSIDE)
    s.as_(persona).allows(
        "CREATE TEMP TABLE bait (id bigint, report_id bigint, accessed_at timestamptz, email text,"
        " payment_status text)"
    )
    for signature, _, trigger, _ in functions(s):
        if trigger:
            s.as_(persona).refused(
                f"CREATE TRIGGER hook AFTER INSERT ON bait REFERENCING NEW TABLE AS new_accesses"
                f" FOR EACH STATEMENT EXECUTE FUNCTION {signature}"
            )


def _hangs_nothing_on_a_table_of_ours(s: Session, *, persona: str) -> None:
    s.superuser.allows(LOOK_INSIDE)
    s.superuser.allows("CREATE SCHEMA lair; GRANT ALL ON SCHEMA lair TO PUBLIC")
    for name, _, view, _ in relations(s):
        # A row trigger on a partitioned table would ask for rights on the partitions too.
        moment, scope = ("INSTEAD OF", "ROW") if view else ("BEFORE", "STATEMENT")
        s.as_(persona).refused(
            f"CREATE TRIGGER mine {moment} UPDATE ON {name} FOR EACH {scope}"
            " EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()"
        )
        if not view:
            s.as_(persona).refused(f"CREATE TABLE lair.mine (one int REFERENCES {name})")


def _makes_no_object(s: Session, *, persona: str) -> None:
    for schema in ("public", "carnivore"):
        for attempt in (
            f"CREATE TABLE {schema}.mine (id int)",
            f"CREATE VIEW {schema}.mine AS SELECT 1 AS one",
            f"CREATE FUNCTION {schema}.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            f"CREATE TYPE {schema}.mine AS (id int)",
            f"CREATE SEQUENCE {schema}.mine",
        ):
            s.as_(persona).refused(attempt)
    s.as_(persona).refused("CREATE SCHEMA mine")


def _looks_not_into_the_private_schema(s: Session, *, persona: str) -> None:
    s.as_(persona).refused("SELECT FROM carnivore.alembic_version")
    s.as_(persona).refused("SELECT carnivore.parse_ip('192.0.2.1')")


def _alters_nothing(s: Session, *, persona: str) -> None:
    s.superuser.allows(LOOK_INSIDE)
    for name, _, view, columns in relations(s):
        kind = "VIEW" if view else "TABLE"
        s.as_(persona).refused(f"DROP {kind} {name} CASCADE")
        s.as_(persona).refused(f"ALTER {kind} {name} RENAME TO mine")
        s.as_(persona).refused(f"CREATE RULE mine AS ON INSERT TO {name} DO NOTHING")
        if not view:
            s.as_(persona).refused(f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY")
            s.as_(persona).refused(f"ALTER TABLE {name} DISABLE TRIGGER USER")
            s.as_(persona).refused(f"CREATE POLICY mine ON {name} USING (true)")
            s.as_(persona).refused(f"CREATE INDEX ON {name} ({columns[0]})")
    for signature, _, _, _ in functions(s):
        s.as_(persona).refused(f"ALTER FUNCTION {signature} RESET ALL")
    s.as_(persona).refused("SET LOCAL session_replication_role = replica")


REFUSALS = {
    "reads no other column than promised": (_reads_no_other_column, "SELECT"),
    "writes nothing": (_writes_nothing, "INSERT UPDATE DELETE"),
    "empties and locks nothing": (_empties_and_locks_nothing, "TRUNCATE"),
    "copies nothing": (_copies_nothing, "COPY"),
    "moves no sequence": (_moves_no_sequence, "sequence"),
    "calls no other function than promised": (_calls_no_other_function, "EXECUTE"),
    "hangs no function of ours on a table of its own": (
        _hangs_no_function_of_ours_on_a_table_of_its_own,
        "EXECUTE",
    ),
    "hangs nothing on a table of ours": (_hangs_nothing_on_a_table_of_ours, "TRIGGER REFERENCES"),
    "makes no object": (_makes_no_object, "schema"),
    "looks not into the private schema": (_looks_not_into_the_private_schema, "schema"),
    "alters nothing": (_alters_nothing, ""),
}
for _persona in ("anon", "stranger", "service"):
    for _sentence, (_check, _verbs) in REFUSALS.items():
        if _persona in ROLES or _check not in {
            _reads_no_other_column,
            _writes_nothing,
            _empties_and_locks_nothing,
            _copies_nothing,
        }:
            _role = ROLES.get(_persona, "service_role")
            add(f"{_persona} {_sentence}", partial(_check, persona=_persona), f"{_role} {_verbs} additive")


@promise("service_role SELECT additive")
def the_service_reads_no_other_table(s: Session) -> None:
    s.superuser.allows(LOOK_INSIDE)
    for name, table, _, _ in relations(s):
        if table not in SERVICE_READS:
            s.as_("service").refused(f"SELECT FROM {name}")


@promise("service_role INSERT UPDATE DELETE TRUNCATE additive")
def the_service_writes_no_other_column_and_no_partition(s: Session) -> None:
    s.superuser.allows(LOOK_INSIDE)
    for name, table, view, columns in relations(s):
        for column in () if view else columns:
            if column not in SERVICE_INSERTS.get(table, ()):
                s.as_("service").refused(f"INSERT INTO {name} ({column}) {NO_ROW}")
            if column not in SERVICE_UPDATES.get(table, ()):
                s.as_("service").refused(f"UPDATE {name} SET {column} = DEFAULT")
        if not view:
            s.as_("service").refused(f"TRUNCATE {name}")
            s.as_("service").refused(f"TRUNCATE {name} CASCADE")
            if table not in SERVICE_DELETES:
                s.as_("service").refused(f"DELETE FROM {name}")


def _a_grant_by_mistake_shows_nothing(s: Session, *, persona: str) -> None:
    """Row security holds by itself: with every privilege, no row is seen, changed or deleted."""
    s.superuser.allows("GRANT ALL ON ALL TABLES IN SCHEMA public, carnivore TO anon, authenticated")
    s.superuser.allows(LOOK_INSIDE)
    for name, _, view, columns in relations(s):
        assert s.superuser.rows(f"SELECT FROM {name} LIMIT 1"), f"nothing was planted in {name}"
        s.as_(persona).sees_nothing(f"SELECT FROM {name}")
        if not view:
            s.as_(persona).allows(f"UPDATE {name} SET {columns[0]} = {columns[0]}", rows=0)
            s.as_(persona).allows(f"DELETE FROM {name}", rows=0)


def _the_service_reads(s: Session, *, table: str) -> None:
    for persona in SERVICES:
        assert s.as_(persona).rows(f"SELECT * FROM public.{table}"), f"{persona} sees no row of {table}"


def _the_service_inserts(s: Session, *, table: str) -> None:
    assert set(GOOD[table]) == SERVICE_INSERTS[table]
    for persona in SERVICES:
        with s.undone():
            s.as_(persona).allows(*insertion(table), rows=1)


def _the_service_updates(s: Session, *, table: str) -> None:
    total = s.superuser.value(f"SELECT count(*) FROM public.{table}")
    for column in sorted(SERVICE_UPDATES[table]):
        for persona in SERVICES:
            s.as_(persona).allows(f"UPDATE public.{table} SET {column} = {column}", rows=total)


def _the_service_deletes(s: Session, *, table: str) -> None:
    total = s.superuser.value(f"SELECT count(*) FROM public.{table}")
    for persona in SERVICES:
        with s.undone():
            s.as_(persona).allows(f"DELETE FROM public.{table}", rows=total)


for _persona, _role in ROLES.items():
    _check = partial(_a_grant_by_mistake_shows_nothing, persona=_persona)
    add(f"a grant to {_role} by mistake shows nothing", _check, f"{_role} mistake rowsecurity view")
for _table in sorted(SERVICE_READS):
    add(
        f"the service reads {_table}",
        partial(_the_service_reads, table=_table),
        f"{_table} service_role SELECT",
    )
for _table in SERVICE_INSERTS:
    _check = partial(_the_service_inserts, table=_table)
    add(f"the service inserts into {_table}", _check, f"{_table} service_role INSERT")
for _table in SERVICE_UPDATES:
    _check = partial(_the_service_updates, table=_table)
    add(f"the service updates {_table}", _check, f"{_table} service_role UPDATE")
for _table in sorted(SERVICE_DELETES):
    _check = partial(_the_service_deletes, table=_table)
    add(f"the service deletes from {_table}", _check, f"{_table} service_role DELETE")
