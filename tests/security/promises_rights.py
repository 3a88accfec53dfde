"""Rights: what rights.py does not list is refused, in every table, partition and function of a schema."""

from functools import partial

from tests.security.objects import SCHEMAS, functions, relations, sequences
from tests.security.personas import Session
from tests.security.registry import add
from tests.security.rights import (
    CALLS,
    DELETES,
    INSERTS,
    OFFERED,
    READS,
    READS_WHOLE,
    ROLES,
    UPDATES,
    USAGE,
    VIEWED,
    columns,
)

# So that each table and function of a schema that is closed to a role must refuse by itself.
LOOK_INSIDE = f"GRANT USAGE ON SCHEMA {', '.join(SCHEMAS)} TO {', '.join(ROLES.values())}"
# Row security, which has the same SQLSTATE, would refuse a row: the grant alone must refuse this.
NO_ROW = "SELECT NULL WHERE false"


def _reads_no_other_column(s: Session, *, persona: str, schema: str) -> None:
    s.superuser.allows(LOOK_INSIDE)
    s.superuser.allows("SET LOCAL lc_messages TO 'C'")
    role = ROLES[persona]
    for table in relations(s, schema):
        if table.name not in READS_WHOLE[role]:
            known = columns(READS, role, table.name)
            for column in table.columns:
                if column not in known:
                    error = s.as_(persona).refused(f"SELECT {column} FROM {table.name}")
                    # Not for what a view reads.
                    assert str(error.diag.message_primary).endswith(f" {table.name.split('.')[1]}")


def _inserts_nothing_else(s: Session, *, persona: str, schema: str) -> None:
    s.superuser.allows(LOOK_INSIDE)
    for table in relations(s, schema):
        known = columns(INSERTS, ROLES[persona], table.name)
        for column in () if table.view else table.written:
            if column not in known:
                s.as_(persona).refused(f"INSERT INTO {table.name} ({column}) {NO_ROW}")


def _updates_nothing_else(s: Session, *, persona: str, schema: str) -> None:
    s.superuser.allows(LOOK_INSIDE)
    for table in relations(s, schema):
        known = columns(UPDATES, ROLES[persona], table.name)
        for column in () if table.view else table.written:
            if column not in known:
                s.as_(persona).refused(f"UPDATE {table.name} SET {column} = DEFAULT")


def _deletes_nothing_else(s: Session, *, persona: str, schema: str) -> None:
    s.superuser.allows(LOOK_INSIDE)
    for table in relations(s, schema):
        if not table.view and table.name not in DELETES[ROLES[persona]]:
            s.as_(persona).refused(f"DELETE FROM {table.name}")


def _empties_nothing(s: Session, *, persona: str, schema: str) -> None:
    s.superuser.allows(LOOK_INSIDE)
    for table in relations(s, schema):
        if not table.view:
            s.as_(persona).refused(f"TRUNCATE {table.name}")
            s.as_(persona).refused(f"TRUNCATE {table.name} CASCADE")


def _locks_nothing_else(s: Session, *, persona: str, schema: str) -> None:
    """With a right to a whole table PostgreSQL gives its locks: with DELETE all of them."""
    s.superuser.allows(LOOK_INSIDE)
    role = ROLES[persona]
    for table in relations(s, schema):
        if table.name not in DELETES[role]:
            mode = "ROW EXCLUSIVE" if table.name in READS_WHOLE[role] else "ACCESS SHARE"
            s.as_(persona).refused(f"LOCK TABLE {table.name} IN {mode} MODE")


def _copies_nothing_else(s: Session, *, persona: str, schema: str) -> None:
    s.superuser.allows(LOOK_INSIDE)
    for table in relations(s, schema):
        if table.name not in READS_WHOLE[ROLES[persona]]:
            s.as_(persona).refused(f"COPY {table.name} TO STDOUT")
        if not table.view:
            s.as_(persona).refused(f"COPY {table.name} ({', '.join(table.written)}) FROM STDIN")


def _moves_no_sequence(s: Session, *, persona: str, schema: str) -> None:
    s.superuser.allows(LOOK_INSIDE)
    for name in sequences(s, schema):
        for attempt in (
            f"SELECT nextval('{name}')",
            f"SELECT setval('{name}', 1)",
            f"SELECT currval('{name}')",
            f"SELECT last_value FROM {name}",
        ):
            s.as_(persona).refused(attempt)


def _calls_no_other_function(s: Session, *, persona: str, schema: str) -> None:
    s.superuser.allows(LOOK_INSIDE)
    s.superuser.allows("SET LOCAL lc_messages TO 'C'")
    for function in functions(s, schema):
        if function.name not in CALLS[ROLES[persona]]:
            error = s.as_(persona).refused(function.call)
            # Not for what it reads, writes or calls.
            kind, name = "procedure" if function.procedure else "function", function.name.split(".")[1]
            assert error.diag.message_primary == f"permission denied for {kind} {name}"


def _hangs_no_function_of_ours_on_a_table_of_its_own(s: Session, *, persona: str, schema: str) -> None:
    """A counter could be forged by the counting trigger on a table that one fills oneself."""
    s.superuser.allows(LOOK_INSIDE)
    s.as_(persona).allows(
        "CREATE TEMP TABLE bait (id bigint, report_id bigint, accessed_at timestamptz, email text,"
        " payment_status text, user_id uuid, ended_at timestamptz)"
    )
    for function in functions(s, schema):
        if function.trigger:
            for name in ("new_accesses", "after_change"):
                s.as_(persona).refused(
                    f"CREATE TRIGGER hook AFTER INSERT ON bait REFERENCING NEW TABLE AS {name}"
                    f" FOR EACH STATEMENT EXECUTE FUNCTION {function.signature}"
                )


def _hangs_nothing_on_a_table_of_ours(s: Session, *, persona: str, schema: str) -> None:
    s.superuser.allows(LOOK_INSIDE)
    s.superuser.allows("CREATE SCHEMA lair; GRANT ALL ON SCHEMA lair TO PUBLIC")
    for table in relations(s, schema):
        # A row trigger on a partitioned table would ask for rights on the partitions too.
        moment, scope = ("INSTEAD OF", "ROW") if table.view else ("BEFORE", "STATEMENT")
        s.as_(persona).refused(
            f"CREATE TRIGGER mine {moment} UPDATE ON {table.name} FOR EACH {scope}"
            " EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()"
        )
        if not table.view:
            s.as_(persona).refused(f"CREATE TABLE lair.mine (one int REFERENCES {table.name})")


def _makes_no_object(s: Session, *, persona: str, schema: str) -> None:
    for attempt in (
        f"CREATE TABLE {schema}.mine (id int)",
        f"CREATE VIEW {schema}.mine AS SELECT 1 AS one",
        f"CREATE FUNCTION {schema}.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        f"CREATE TYPE {schema}.mine AS (id int)",
        f"CREATE SEQUENCE {schema}.mine",
        f'CREATE COLLATION {schema}.mine FROM "C"',
        "CREATE SCHEMA mine",
    ):
        s.as_(persona).refused(attempt)


def _looks_not_inside(s: Session, *, persona: str, schema: str) -> None:
    """Where the schema is closed, whatever was granted inside."""
    if schema not in USAGE[ROLES[persona]]:
        s.superuser.allows(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {ROLES[persona]}")
        s.superuser.allows(f"GRANT EXECUTE ON ALL ROUTINES IN SCHEMA {schema} TO {ROLES[persona]}")
        for table in relations(s, schema):
            s.as_(persona).refused(f"SELECT FROM {table.name}")
        for function in functions(s, schema):
            s.as_(persona).refused(function.call)


def _alters_nothing(s: Session, *, persona: str, schema: str) -> None:
    s.superuser.allows(LOOK_INSIDE)
    for table in relations(s, schema):
        kind = "VIEW" if table.view else "TABLE"
        s.as_(persona).refused(f"DROP {kind} {table.name} CASCADE")
        s.as_(persona).refused(f"ALTER {kind} {table.name} RENAME TO mine")
        s.as_(persona).refused(f"CREATE RULE mine AS ON INSERT TO {table.name} DO NOTHING")
        if not table.view:
            s.as_(persona).refused(f"ALTER TABLE {table.name} DISABLE ROW LEVEL SECURITY")
            s.as_(persona).refused(f"ALTER TABLE {table.name} DISABLE TRIGGER USER")
            s.as_(persona).refused(f"CREATE POLICY mine ON {table.name} USING (true)")
            s.as_(persona).refused(f"CREATE INDEX ON {table.name} ({table.columns[0]})")
        if table.name in DELETES[ROLES[persona]]:  # where LOCK TABLE tells nothing
            s.as_(persona).refused(f"REINDEX TABLE {table.name}")
    for function in functions(s, schema):
        s.as_(persona).refused(f"ALTER ROUTINE {function.signature} RESET ALL")
    s.as_(persona).refused("SET LOCAL session_replication_role = replica")


# So that every view of what is due has a row: an open session that was left, a month of logs that is over.
DUE = """
    UPDATE conversation.sessions
    SET started_at = now() - interval '9 days', last_activity_at = now() - interval '9 days'
    WHERE NOT is_completed;
    SELECT carnivore.create_partition('conversation.logs', '2021-03-01');
    INSERT INTO conversation.logs (level, event_type, created_at)
    VALUES ('info', 'user_logout', '2021-03-01 00:00:00+00');
"""


def _a_grant_by_mistake_shows_nothing(s: Session, *, persona: str, schema: str) -> None:
    """Row security holds by itself: with every privilege, no row is seen but those that are offered to
    everybody, and none is added, changed or deleted."""
    given = f"GRANT ALL ON ALL TABLES IN SCHEMA {', '.join(SCHEMAS)} TO anon, authenticated, reporting"
    for statement in (DUE, given, LOOK_INSIDE):
        s.superuser.allows(statement)
    superuser = s.as_("superuser", reports_grace="0", pages_grace="0")
    for table in relations(s, schema):
        if table.name in VIEWED:
            continue  # made to be seen without row security
        assert superuser.rows(f"SELECT FROM {table.name} LIMIT 1"), f"nothing was planted in {table.name}"
        offered = OFFERED.get(ROLES[persona], {}).get(table.name, "false")
        count = f"SELECT count(*) FROM {table.name}"
        found = s.as_(persona, reports_grace="0", pages_grace="0").value(count)
        assert found == superuser.value(f"{count} WHERE {offered}"), table.name
        if not table.view:
            # Without triggers, which could refuse it, and without a condition, which would ask to see it.
            asker = s.as_(persona, triggers="replica")
            asker.refused(f"INSERT INTO {table.name} DEFAULT VALUES")
            asker.allows(f"UPDATE {table.name} SET {table.written[0]} = DEFAULT", rows=0)
            asker.allows(f"DELETE FROM {table.name}", rows=0)


REFUSALS = {
    "reads no other column than promised": (_reads_no_other_column, "SELECT"),
    "inserts nothing else than promised": (_inserts_nothing_else, "INSERT"),
    "updates nothing else than promised": (_updates_nothing_else, "UPDATE"),
    "deletes nothing else than promised": (_deletes_nothing_else, "DELETE"),
    "empties nothing": (_empties_nothing, "TRUNCATE"),
    "locks nothing else than promised": (_locks_nothing_else, "UPDATE DELETE"),
    "copies nothing else than promised": (_copies_nothing_else, "COPY"),
    "moves no sequence": (_moves_no_sequence, "sequence"),
    "calls no other function than promised": (_calls_no_other_function, "EXECUTE"),
    "hangs no function of ours on a table of its own": (
        _hangs_no_function_of_ours_on_a_table_of_its_own,
        "EXECUTE",
    ),
    "hangs nothing on a table of ours": (_hangs_nothing_on_a_table_of_ours, "TRIGGER REFERENCES"),
    "makes no object": (_makes_no_object, "schema"),
    "looks not inside where it is closed": (_looks_not_inside, "schema USAGE"),
    "alters nothing": (_alters_nothing, ""),
    "sees nothing by a grant made by mistake": (
        _a_grant_by_mistake_shows_nothing,
        "mistake rowsecurity view",
    ),
}
# The service reads every row, and copies rows in where it may write.
NOT_FOR_THE_SERVICE = {_copies_nothing_else, _a_grant_by_mistake_shows_nothing}
for _schema in SCHEMAS:
    for _persona, _role in ROLES.items():
        for _sentence, (_check, _words) in REFUSALS.items():
            if _persona != "service" or _check not in NOT_FOR_THE_SERVICE:
                add(
                    f"in {_schema} {_persona} {_sentence}",
                    partial(_check, persona=_persona, schema=_schema),
                    f"{_schema} {_role} {_words} additive",
                )
