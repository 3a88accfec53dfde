"""The catalog read: snapshot and fingerprint find every hand edit, nothing else, and leave nothing behind."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from rich.console import Console

from carnivore_db.operations.partitions.findings import partition_findings
from carnivore_db.operations.verify.checks import Report, verify
from carnivore_db.operations.verify.render import render
from carnivore_db.schema import areas
from carnivore_db.schema.diff import Difference, compare
from carnivore_db.schema.reader import plain_privileges
from carnivore_db.schema.reference import pages
from carnivore_db.schema.snapshot import INSTANCES, PARTITIONS, Snapshot, committable, fingerprint, take
from tests.migrations.helpers import driver
from tests.support import rows
from tests.support.databases import Shape, TestDatabase

BODY = "public.increment_report_access()"
COUNTS = "public.report_access_counts"
LOG = "public.report_access_log"
USERS = "public.user_sessions"
REPORTS = "public.generated_reports"
TIERS = "public.pricing_tiers"
PARTITION = "public.report_access_log_2026_01"
FIRST_INDEX = f"{PARTITION}_report_id_accessed_at_idx"
# (kind, identity) -> {edit: the field that differs, None where the object is gone or new}
EDITS: dict[tuple[str, str], dict[str, str | None]] = {
    ("policies", f"{USERS}.auth_user_sessions_read"): {
        f"DROP POLICY auth_user_sessions_read ON {USERS}": None,
        f"ALTER POLICY auth_user_sessions_read ON {USERS} USING (true)": "using",
        f"ALTER POLICY auth_user_sessions_read ON {USERS} TO PUBLIC": "roles",
        f"COMMENT ON POLICY auth_user_sessions_read ON {USERS} IS 'x'": "comment",
    },
    ("triggers", f"{LOG}.trg_increment_report_access"): {
        f"ALTER TABLE {LOG} DISABLE TRIGGER trg_increment_report_access": "state",
        f"DROP TRIGGER trg_increment_report_access ON {LOG}": None,
        f"COMMENT ON TRIGGER trg_increment_report_access ON {LOG} IS 'x'": "comment",
    },
    ("triggers", "auth.users.on_auth_user_created"): {
        "ALTER TABLE auth.users DISABLE TRIGGER USER": "state",
    },
    ("rules", f"{USERS}.hide"): {
        f"CREATE RULE hide AS ON DELETE TO {USERS} DO INSTEAD NOTHING": None,
    },
    ("grants", USERS): {
        f"GRANT SELECT ON {USERS} TO anon WITH GRANT OPTION": "anon",
        f"GRANT SELECT ON {USERS} TO PUBLIC": "PUBLIC",
    },
    ("grants", LOG): {f"GRANT SELECT ON {LOG} TO anon": "anon"},
    ("grants", f"{LOG}.id"): {f"GRANT SELECT (id) ON {LOG} TO anon": None},
    ("grants", f"{USERS}.updated_at"): {f"REVOKE SELECT (updated_at) ON {USERS} FROM authenticated": None},
    ("grants", "carnivore.alembic_version"): {
        "GRANT SELECT ON carnivore.alembic_version TO service_role": "service_role",
    },
    ("schemas", "public"): {"GRANT CREATE ON SCHEMA public TO anon": "acl"},
    ("schemas", "carnivore"): {"GRANT USAGE ON SCHEMA carnivore TO anon": "acl"},
    ("sequences", "public.user_sessions_id_seq"): {
        "GRANT USAGE ON SEQUENCE public.user_sessions_id_seq TO anon": "acl",
    },
    ("tables", USERS): {
        f"ALTER TABLE {USERS} DISABLE ROW LEVEL SECURITY": "row_security",
        f"ALTER TABLE {USERS} FORCE ROW LEVEL SECURITY": "row_security_forced",
        f"ALTER TABLE {USERS} SET (fillfactor = 50)": "options",
        f"ALTER TABLE {USERS} OWNER TO service_role": "owner",
        f"COMMENT ON TABLE {USERS} IS NULL": "comment",
    },
    ("tables", COUNTS): {
        f"ALTER VIEW {COUNTS} RESET (security_invoker)": "options",
        f"COMMENT ON VIEW {COUNTS} IS 'x'": "comment",
        f"CREATE OR REPLACE VIEW {COUNTS} AS SELECT id AS report_id, access_count, last_accessed_at"
        f" FROM {REPORTS}": "definition",
    },
    ("tables", "public.report_access_pending"): {
        "ALTER TABLE public.report_access_pending SET UNLOGGED": "persistence",
    },
    ("tables", "carnivore.more"): {"CREATE TABLE carnivore.more (id integer)": None},
    ("columns", f"{COUNTS}.access_count"): {f"COMMENT ON COLUMN {COUNTS}.access_count IS 'x'": "comment"},
    ("columns", f"{USERS}.extra"): {f"ALTER TABLE {USERS} ADD COLUMN extra text": None},
    ("columns", f"{USERS}.id"): {f"ALTER TABLE {USERS} ALTER id SET GENERATED ALWAYS": "identity"},
    ("columns", "vocabulary.users.last_login"): {
        "ALTER TABLE vocabulary.users DROP COLUMN last_login": None,
        "ALTER TABLE vocabulary.users ALTER last_login SET DEFAULT now()": "default",
        "ALTER TABLE vocabulary.users ALTER last_login TYPE date": "type",
        "ALTER TABLE vocabulary.users ALTER last_login SET NOT NULL": "not_null",
        "ALTER TABLE vocabulary.users ALTER last_login SET STATISTICS 500": "statistics",
        "COMMENT ON COLUMN vocabulary.users.last_login IS 'x'": "comment",
    },
    ("indexes", f"{USERS}.idx_user_sessions_email"): {
        "DROP INDEX public.idx_user_sessions_email": None,
        "COMMENT ON INDEX public.idx_user_sessions_email IS 'x'": "comment",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid ="
        " 'public.idx_user_sessions_email'::regclass": "valid",
    },
    ("constraints", f"{USERS}.late"): {
        f"ALTER TABLE {USERS} ADD CONSTRAINT late CHECK (id > -9) NOT VALID": None,
    },
    ("constraints", f"{USERS}.email_valid"): {
        f"UPDATE pg_constraint SET convalidated = false WHERE conrelid = '{USERS}'::regclass": "validated",
        f"COMMENT ON CONSTRAINT email_valid ON {USERS} IS 'x'": "comment",
    },
    ("foreign_keys", f"{REPORTS}.generated_reports_session_id_fkey"): {
        f"ALTER TABLE {REPORTS} DROP CONSTRAINT generated_reports_session_id_fkey": None,
        f"ALTER TABLE {REPORTS} ALTER CONSTRAINT generated_reports_session_id_fkey DEFERRABLE": "deferrable",
    },
    ("functions", BODY): {
        f"ALTER FUNCTION {BODY} RESET search_path": "settings",
        f"ALTER FUNCTION {BODY} SECURITY INVOKER": "security_definer",
        f"ALTER FUNCTION {BODY} OWNER TO service_role": "owner",
        f"GRANT EXECUTE ON FUNCTION {BODY} TO PUBLIC": "acl",
        f"COMMENT ON FUNCTION {BODY} IS 'x'": "comment",
        f"CREATE OR REPLACE FUNCTION {BODY} RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
        " SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN NULL; END $$": "definition",
    },
    ("functions", "carnivore.fold_email()"): {"DROP FUNCTION carnivore.fold_email() CASCADE": None},
    ("functions", "public.new()"): {
        "CREATE FUNCTION public.new() RETURNS int LANGUAGE sql AS 'SELECT 1'": None,
    },
    ("types", "public.calculator_state"): {"COMMENT ON TYPE public.calculator_state IS 'x'": "comment"},
    ("types", "vocabulary.theme"): {"ALTER TYPE vocabulary.theme ADD VALUE 'odd' BEFORE 'auto'": "labels"},
    (INSTANCES, PARTITION): {
        f"ALTER TABLE {PARTITION} DISABLE ROW LEVEL SECURITY": "row_security",
        f"ALTER TABLE {PARTITION} OWNER TO service_role": "owner",
        f"GRANT SELECT ON {PARTITION} TO anon": "grant to anon",
        f"GRANT SELECT (id) ON {PARTITION} TO PUBLIC": "grant on column id to PUBLIC",
        f"ALTER TABLE {PARTITION} DISABLE TRIGGER trg_increment_report_access": (
            "trigger trg_increment_report_access"
        ),
        f"CREATE POLICY p ON {PARTITION} TO PUBLIC USING (true)": "policy p",
        f"CREATE INDEX on_report_access_log_2026_01 ON {PARTITION} (accessed_at)": "index on_{partition}",
        f"ALTER TABLE {PARTITION} ADD CONSTRAINT few CHECK (report_id < 5)": "constraint few",
        f"ALTER TABLE {PARTITION} ALTER report_id SET DEFAULT 7": "column report_id",
        f"COMMENT ON TABLE {PARTITION} IS NULL": "has_comment",
        f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{FIRST_INDEX}'::regclass": (
            "index public.idx_report_access_log_report_id_accessed"
        ),
    },
    (PARTITIONS, LOG): {f"DROP TABLE {LOG}_default": "default"},
}
CASES = [(*at, field, edit) for at, edits in EDITS.items() for edit, field in edits.items()]
# What belongs to no schema of ours: the fingerprint alone sees it, of the kind given here.
ELSEWHERE = {
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO anon, PUBLIC": "default_privileges",
    "CREATE EXTENSION pg_trgm": "extensions",
    "COMMENT ON EXTENSION citext IS 'x'": "extensions",
    "CREATE SCHEMA left_behind": "schemas",
    "COMMENT ON SCHEMA extensions IS 'x'": "schemas",
    "COMMENT ON TABLE public.report_access_log_default IS 'x'": "tables",
    "ALTER TABLE auth.users DISABLE ROW LEVEL SECURITY": "tables",
    "ALTER TABLE auth.users ADD COLUMN x text": "columns",
    "COMMENT ON COLUMN auth.users.email IS 'x'": "columns",
    "ALTER TABLE auth.users ALTER email SET DEFAULT 'x'": "columns",
    "GRANT SELECT ON auth.users TO anon": "grants",
    "CREATE POLICY left_behind ON auth.users FOR SELECT TO anon USING (true)": "policies",
    "CREATE INDEX left_behind ON auth.users (created_at)": "indexes",
    "COMMENT ON FUNCTION auth.uid() IS 'x'": "functions",
    "CREATE FUNCTION auth.left_behind() RETURNS int LANGUAGE sql AS 'SELECT 1'": "functions",
    "CREATE DOMAIN extensions.left_behind AS text": "types",
    "CREATE SEQUENCE auth.left_behind": "sequences",
}


@pytest.fixture(scope="module")
def database(plain_shape: Shape, plain_template: str) -> Iterator[TestDatabase]:
    with plain_shape.clone(plain_template) as made:
        yield made


@pytest.fixture(scope="module")
def engine(database: TestDatabase) -> Iterator[sa.Engine]:
    made = sa.create_engine(database.migrator_url)
    yield made
    made.dispose()


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A superuser's connection; what a test changes is rolled back."""
    with engine.connect() as opened:
        yield opened


def snapshot(connection: sa.Connection) -> Snapshot:
    return take(connection, areas.schemas(connection))


@pytest.fixture(scope="module")
def before(engine: sa.Engine) -> dict[str, Snapshot]:
    with engine.connect() as connection:
        return {"snapshot": snapshot(connection), "fingerprint": fingerprint(connection)}


@pytest.fixture(scope="module")
def expected(before: dict[str, Snapshot]) -> Snapshot:
    found: Snapshot = json.loads(json.dumps(committable(before["snapshot"])))
    return found


def run(connection: sa.Connection, script: str) -> None:
    connection.exec_driver_sql(script.replace("%", "%%"))


def edited(connection: sa.Connection, expected: Snapshot, edit: str) -> list[Difference]:
    run(connection, edit)
    return compare(expected, snapshot(connection))


@pytest.mark.parametrize("case", CASES, ids=[case[3] for case in CASES])
def test_a_hand_edit_is_found(
    connection: sa.Connection,
    before: dict[str, Snapshot],
    expected: Snapshot,
    case: tuple[str, str, str | None, str],
) -> None:
    kind, identity, field, edit = case
    found = edited(connection, expected, edit)
    assert (kind, identity, field) in [(d.kind, d.identity, d.field) for d in found]
    assert all(d.identity in d.describe() for d in found)
    traces = {d.kind for d in compare(before["fingerprint"], fingerprint(connection))}
    # It has partitions as tables like others.
    assert traces if kind in {PARTITIONS, INSTANCES} else kind in traces


@pytest.mark.parametrize("edit", ELSEWHERE)
def test_the_fingerprint_sees_an_edit_elsewhere(
    connection: sa.Connection, before: dict[str, Snapshot], expected: Snapshot, edit: str
) -> None:
    assert edited(connection, expected, edit) == []
    assert ELSEWHERE[edit] in {d.kind for d in compare(before["fingerprint"], fingerprint(connection))}


def test_identical_catalogs_do_not_differ(
    connection: sa.Connection, before: dict[str, Snapshot], expected: Snapshot
) -> None:
    assert compare(expected, snapshot(connection)) == []
    assert compare(before["snapshot"], snapshot(connection)) == []
    assert fingerprint(connection) == before["fingerprint"]


def test_one_edit_is_one_difference(connection: sa.Connection, expected: Snapshot) -> None:
    found = edited(connection, expected, f"ALTER TABLE {USERS} DISABLE ROW LEVEL SECURITY")
    assert found == [Difference("tables", USERS, "changed", "row_security", True, False)]
    assert found[0].describe() == f"table {USERS}: row_security is false, expected true"


def test_a_changed_body_is_shown_as_a_unified_diff(connection: sa.Connection, expected: Snapshot) -> None:
    body = expected["functions"][BODY]["definition"].replace("+ added.accesses", "+ 2")
    (found,) = edited(connection, expected, body)
    (removed,) = [line for line in found.describe().splitlines() if line.startswith("-  ")]
    assert "+ added.accesses" in removed


def test_ignored_tables_are_ignored_with_all_their_parts(
    connection: sa.Connection, expected: Snapshot
) -> None:
    run(connection, "CREATE TABLE public.blog_posts (id integer PRIMARY KEY CHECK (id > 0))")
    live = snapshot(connection)
    assert {d.kind for d in compare(expected, live)} >= {"tables", "columns", "indexes"}
    assert compare(expected, live, ignore=["public.blog_posts"]) == []
    assert compare(expected, live, ignore=["public.blog_*"]) == []


def test_a_new_month_is_no_difference_when_it_follows_the_pattern(
    connection: sa.Connection, expected: Snapshot
) -> None:
    assert edited(connection, expected, f"SELECT carnivore.create_partition('{LOG}', '2098-12-01')") == []
    run(connection, f"ALTER TABLE {LOG}_2098_12 DISABLE ROW LEVEL SECURITY")
    (found,) = compare(expected, snapshot(connection))
    assert found.describe() == f"partition {LOG}_2098_12: row_security is false, expected true"


def test_partitions_that_disagree_cannot_be_committed(connection: sa.Connection) -> None:
    run(connection, f"GRANT SELECT ON {PARTITION} TO anon")
    with pytest.raises(ValueError, match=f"{PARTITION} differs"):
        committable(snapshot(connection))


def test_the_session_neither_shows_nor_changes(connection: sa.Connection) -> None:
    plain = json.dumps(snapshot(connection))
    run(connection, "SET search_path = public, extensions; SET TimeZone = 'Asia/Kolkata'")
    run(connection, "SET quote_all_identifiers = on")
    shown = sa.text('SELECT name, setting FROM pg_settings ORDER BY name COLLATE "C"')
    settings = connection.execute(shown).all()
    assert json.dumps(snapshot(connection)) == plain
    assert connection.execute(shown).all() == settings


def test_autocommit_is_refused(engine: sa.Engine) -> None:
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        with pytest.raises(RuntimeError, match="autocommit"):
            take(connection, ["public"])
        with pytest.raises(RuntimeError, match="autocommit"):
            looked_at(connection)


def test_extension_members_are_left_out_and_partitions_are_a_pattern(before: dict[str, Snapshot]) -> None:
    live = before["snapshot"]
    assert not any("citext" in name for name in live["functions"])
    assert not any("_2026_" in name for kind in ("tables", "columns") for name in live[kind])
    assert live[INSTANCES][f"{LOG}_default"]["bounds"] == "DEFAULT"
    assert live["tables"][USERS]["owner"] == "migrator"
    whole = before["fingerprint"]
    assert whole["extensions"]["citext"]["schema"] == "extensions"
    assert whole["tables"][PARTITION]["bounds"].startswith("FOR VALUES FROM")
    assert whole["tables"][PARTITION]["part_of"] == LOG


def test_months_are_counted_in_utc_from_the_earliest_partition() -> None:
    months = [f"FOR VALUES FROM ('2026-0{n}-01 00:00+00') TO ('2026-0{n + 1}-01 00:00+00')" for n in (1, 2)]

    def missing(bounds: list[str], now: str, ahead: int) -> list[tuple[int, bool]]:
        instances = {name: {"parent": LOG, "bounds": name} for name in [*bounds, "DEFAULT"]}
        live = {PARTITIONS: {LOG: {"by_time": True}}, INSTANCES: instances}
        return [
            (finding.month.month, finding.past)
            for finding in partition_findings(live, datetime.fromisoformat(now), ahead)
        ]

    assert missing(months, "2026-02-14T00:00Z", 2) == [(3, False), (4, False)]
    assert missing(months, "2026-02-28T23:30-05:00", 0) == [(3, False)]
    assert missing(months[:1], "2026-04-01T00:00Z", 0) == [(2, True), (3, True), (4, False)]
    assert missing([], "2026-02-14T00:00Z", 0) == [(2, False)]
    with pytest.raises(ValueError, match="time zone"):
        missing(months, "2026-02-14T00:00", 0)


def looked_at(
    connection: sa.Connection, now: datetime | None = None, expected: Snapshot | None = None
) -> Report:
    return verify(connection, now=now or datetime.now(UTC), months_ahead=0, expected=expected)


def test_verify_of_a_good_database(connection: sa.Connection) -> None:
    report = looked_at(connection)
    assert report.ok
    assert [s.number for s in report.sections] == list(range(1, 13))
    assert {s.status for s in report.sections} == {"ok"}
    insert, statistics, _ = report.sections[9:]
    assert insert.facts["access_count"] == 1
    assert {t["table"] for t in statistics.facts["tables"]} >= {USERS, LOG}
    assert statistics.facts["pending"] == {"public.report_access_pending": 0}
    assert json.loads(json.dumps(report.to_json()))["ok"] is True


def test_verify_leaves_nothing(engine: sa.Engine) -> None:
    kept = sa.text(
        "SELECT (SELECT count(*) FROM public.user_sessions),"
        " (SELECT count(*) FROM public.generated_reports),"
        " (SELECT last_value FROM public.user_sessions_id_seq),"
        " (SELECT is_called FROM public.report_access_log_id_seq),"
        " current_setting('statement_timeout'), current_setting('lock_timeout'), current_user"
    )
    with engine.connect() as connection:
        before = connection.execute(kept).one()
        connection.rollback()
        looked_at(connection)
        assert not connection.in_transaction()
        assert connection.execute(kept).one() == before


def test_verify_puts_each_problem_where_a_reader_looks_for_it(connection: sa.Connection) -> None:
    run(connection, f"ALTER TABLE {USERS} DISABLE ROW LEVEL SECURITY")
    rows.fill(driver(connection))  # accesses in months without a partition among them
    run(connection, f"ALTER TABLE {LOG} DISABLE TRIGGER trg_increment_report_access")
    run(connection, f"ALTER FUNCTION {BODY} RESET search_path")
    report = looked_at(connection, datetime(2099, 3, 1, tzinfo=UTC))
    assert not report.ok
    differing = {s.number for s in report.sections if s.status == "differs"}
    assert differing == {3, 5, 6, 7, 10, 12}
    partitions, insert = report.sections[2].differences, report.sections[9].differences
    assert f"partitioned table {LOG}: no partition for 2099-03" in partitions
    assert f"partition {LOG}_default: 2 rows that belong to a month" in partitions
    assert insert == ["one access was logged, and access_count is 0"]
    output = io.StringIO()
    render(report, Console(file=output, width=120))
    assert f"table {USERS}: row_security is false, expected true" in output.getvalue()


VOID = {
    "ALTER ROLE anon BYPASSRLS": "role anon: BYPASSRLS",
    "ALTER ROLE service_role CREATEROLE": "role service_role: CREATEROLE",
    "ALTER ROLE authenticated SUPERUSER": "role authenticated: SUPERUSER",
    "GRANT pg_read_all_data TO anon": "role anon: is a member of pg_read_all_data",
    "CREATE ROLE reader LOGIN INHERIT IN ROLE service_role": "login reader: inherits service_role",
    "ALTER ROLE anon SET row_security = off": "setting row_security: has a default for role anon",
    "ALTER ROLE ALL SET carnivore.report_token = 'x'": "setting carnivore.report_token: has a default",
    "ALTER ROLE ALL SET request.jwt.claims = '{}'": "setting request.jwt.claims: has a default for all roles",
    "GRANT SET ON PARAMETER session_replication_role TO service_role": (
        "parameter session_replication_role: service_role has SET"
    ),
    "GRANT SET ON PARAMETER session_replication_role TO PUBLIC": "replication_role: PUBLIC has SET",
}


@pytest.mark.parametrize("change", VOID)
def test_verify_sees_what_makes_row_security_void(connection: sa.Connection, change: str) -> None:
    connection.exec_driver_sql(change)
    assert any(VOID[change] in line for line in looked_at(connection).sections[6].differences)


def test_verify_sees_a_library_that_sorts_otherwise_by_now(connection: sa.Connection) -> None:
    connection.exec_driver_sql(
        "UPDATE pg_collation SET collversion = '0' WHERE collname = 'case_insensitive';"
        " UPDATE pg_database SET datcollversion = '0' WHERE datname = current_database()"
    )
    told = "\n".join(looked_at(connection).sections[-1].differences)
    assert "REINDEX INDEX CONCURRENTLY conversation.idx_profiles_email; " in told
    assert "ALTER COLLATION conversation.case_insensitive REFRESH VERSION" in told
    # The C locale has no version that could change.
    versioned = (
        "SELECT pg_database_collation_actual_version(oid) FROM pg_database WHERE datname = 'template1'"
    )
    version = connection.exec_driver_sql(versioned).scalar()
    assert ("REFRESH COLLATION VERSION" in told) == (version is not None)


def test_a_column_that_old_rows_leave_empty_is_not_as_it_should_be(connection: sa.Connection) -> None:
    connection.exec_driver_sql(f"ALTER TABLE {USERS} ALTER email DROP NOT NULL")
    if connection.dialect.server_version_info >= (18,):  # type: ignore[operator]
        connection.exec_driver_sql(f"ALTER TABLE {USERS} ADD CONSTRAINT late NOT NULL email NOT VALID")
    columns = looked_at(connection).sections[1].differences
    assert f"column {USERS}.email: not_null is false, expected true" in columns


def test_a_login_that_inherited_still_does_where_it_does(connection: sa.Connection) -> None:
    """From PostgreSQL 16 on NOINHERIT is for what is granted later."""
    connection.exec_driver_sql("CREATE ROLE reader LOGIN INHERIT; GRANT service_role TO reader")
    connection.exec_driver_sql("ALTER ROLE reader NOINHERIT")
    inherits = connection.exec_driver_sql("SELECT pg_has_role('reader', 'service_role', 'USAGE')").scalar()
    found = [line for line in looked_at(connection).sections[6].differences if "login reader" in line]
    assert bool(found) == inherits


def test_verify_without_rights_says_so(database: TestDatabase) -> None:
    """The catalog is everyone's: it is compared all the same."""
    with sa.create_engine(database.app_url, poolclass=sa.NullPool).connect() as connection:
        report = looked_at(connection)
    assert {s.number: s.status for s in report.sections if s.status != "ok"} == {10: "skipped", 12: "differs"}
    insert, _, status = report.sections[9:]
    assert insert.facts == {"reason": "the connected role may not insert"}
    assert [line for line in status.differences if "what is installed is unknown" in line and "42501" in line]
    assert "42501" in status.facts["jobs"]
    assert "42501" in report.sections[2].facts["default_rows"][f"{LOG}_default"]


def test_a_read_only_server_skips_the_insert(connection: sa.Connection) -> None:
    run(connection, "SET LOCAL transaction_read_only = on")
    report = looked_at(connection)
    assert report.ok
    assert report.sections[9].status == "skipped"
    assert report.sections[9].facts == {"reason": "transactions are read-only"}


def test_the_reference_is_the_same_from_the_file_and_from_the_database(
    connection: sa.Connection, expected: Snapshot
) -> None:
    run(connection, f"COMMENT ON TABLE {USERS} IS 'Who | when'")
    text = pages(snapshot(connection))
    assert pages(expected) == text | {name: pages(expected)[name] for name in USER_PAGES}
    assert "# Table `public.user_sessions`\n\nWho | when\n" in text[USER_PAGES[1]]
    # By its bare name: where an extension lives is the installation's matter.
    assert "| `email` | `citext` |" in text["conversation/profiles.md"]
    log = text["public/report_access_log.md"]
    assert "Partitioned by `RANGE (accessed_at)`, with a DEFAULT partition." in log
    assert "may be executed by its owner only" in text["public/increment_report_access.md"]


USER_PAGES = ("README.md", "public/user_sessions.md")


def test_grant_all_reads_the_same_on_every_version() -> None:
    everything = {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"}
    assert plain_privileges(everything | {"MAINTAIN"}) == sorted(everything)
    assert plain_privileges({"SELECT", "MAINTAIN"}) == ["MAINTAIN", "SELECT"]
    assert plain_privileges({"SELECT", "SELECT*"}) == ["SELECT*"]
