"""Where the migrating role is no superuser, and where the platform was there before us."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from carnivore_db import Database, errors, identity
from carnivore_db.operations import maintenance
from carnivore_db.operations.verify.checks import verify
from carnivore_db.schema import migrations
from carnivore_db.schema.snapshot import Snapshot
from carnivore_db.weekly import access_log, calculator, reports, sessions
from tests.migrations.helpers import RELEASE, assert_same, drop, fingerprint, heads, opened, put_rows
from tests.support.databases import Shape, TestDatabase

DATABASE = "deployed"
LOGIN = "INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), %s)"
ROLES = """
    SELECT to_jsonb(r) - 'oid', (SELECT jsonb_agg(g.rolname ORDER BY g.rolname) FROM pg_auth_members AS m
        JOIN pg_roles AS g ON g.oid = m.roleid WHERE m.member = r.oid)
    FROM pg_roles AS r WHERE rolname IN ('anon', 'authenticated', 'service_role', 'reporting')
    ORDER BY rolname
"""


@pytest.fixture
def deployed(spare_shape: Shape) -> Iterator[TestDatabase]:
    """A database whose owner migrates: a role that may make roles, but no superuser."""
    server = spare_shape.server
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        connection.execute("CREATE ROLE deployer LOGIN CREATEROLE CREATEDB NOSUPERUSER")
        connection.execute(f"CREATE DATABASE {DATABASE} OWNER deployer")
        yield TestDatabase(replace(spare_shape, migrator="deployer", login="app"), DATABASE)
        drop(server, DATABASE)
        connection.execute("DROP ROLE deployer; DROP ROLE IF EXISTS app")


@pytest.fixture
def app(deployed: TestDatabase) -> Iterator[Database]:
    """The package's way into a database that `deployed` has migrated."""
    migrations.upgrade(deployed.migrator_url)
    with deployed.connect() as connection:
        connection.execute("CREATE ROLE app LOGIN NOINHERIT")
        connection.execute("GRANT anon, authenticated, service_role TO app")
    database = Database(deployed.app_url)
    yield database
    database.close()


def query(database: TestDatabase, statement: str) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        return connection.execute(statement).fetchall()


def test_an_owner_without_superuser_migrates_up_down_and_up(deployed: TestDatabase) -> None:
    migrations.upgrade(deployed.migrator_url)
    first = fingerprint(deployed)
    put_rows(deployed)
    migrations.downgrade(deployed.migrator_url, "base")
    assert query(deployed, "SELECT FROM pg_namespace WHERE nspname IN ('auth', 'extensions')") == []
    migrations.upgrade(deployed.migrator_url)
    put_rows(deployed)
    assert_same(first, fingerprint(deployed))


def test_an_owner_who_may_not_make_roles_migrates_where_they_exist(deployed: TestDatabase) -> None:
    with deployed.connect() as connection:
        connection.execute("ALTER ROLE deployer NOCREATEROLE NOCREATEDB")
        for role in ("anon", "authenticated", "service_role", "reporting"):
            connection.execute(f"CREATE ROLE {role}")
    with pytest.raises(errors.ConfigurationError, match="GRANT service_role TO deployer"):
        migrations.upgrade(deployed.migrator_url)
    with deployed.connect() as connection:
        connection.execute("GRANT service_role TO deployer")
    migrations.upgrade(deployed.migrator_url)
    assert heads(deployed) == (RELEASE,)


def test_what_is_missing_is_named_before_anything_is_made(deployed: TestDatabase) -> None:
    with deployed.connect() as connection:
        connection.execute("ALTER ROLE deployer NOCREATEROLE")
        connection.execute(f"ALTER DATABASE {DATABASE} OWNER TO CURRENT_USER")
        connection.execute("CREATE SCHEMA analytics; CREATE TABLE public.stripe_events (id integer)")
        connection.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
        connection.execute("CREATE SCHEMA auth; CREATE TABLE auth.users (id uuid)")
    before = fingerprint(deployed)
    with pytest.raises(errors.ConfigurationError) as refused:
        migrations.upgrade(deployed.migrator_url)
    told = str(refused.value)
    for remedy in (
        f"GRANT CREATE ON DATABASE {DATABASE} TO deployer",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        "CREATE ROLE reporting NOLOGIN",
        "GRANT USAGE ON SCHEMA auth TO deployer; GRANT SELECT, REFERENCES, TRIGGER ON auth.users TO deployer",
        "the schema analytics is there already",
        "the table public.stripe_events is there already",
    ):
        assert remedy in told
    assert_same(before, fingerprint(deployed))


def test_nobody_else_makes_anything_in_public_any_more(empty: TestDatabase) -> None:
    """As on clusters that came from PostgreSQL 14."""
    with empty.connect() as connection:
        connection.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    migrations.upgrade(empty.migrator_url, "platform")
    may = "SELECT bool_or(has_schema_privilege(oid, 'public', 'CREATE')) FROM pg_roles WHERE rolname = 'anon'"
    assert query(empty, may) == [(False,)]


def test_who_migrates_runs_every_job_too(deployed: TestDatabase) -> None:
    migrations.upgrade(deployed.migrator_url)
    with closing(Database(deployed.migrator_url)) as database:
        steps = maintenance.steps(database, maintenance.BatchOptions(2))
        outcomes = {step.job: maintenance.run(database, step).status for step in steps}
    assert len(outcomes) > 10
    assert {job for job, status in outcomes.items() if status == "failed"} == set()


def test_logins_that_can_have_no_profile_stop_nothing(empty: TestDatabase) -> None:
    """Neither a trigger of the name in Supabase's guide, nor addresses that are none or somebody else's."""
    url = empty.migrator_url
    migrations.upgrade(url, "platform")
    with empty.connect() as connection:
        connection.execute(
            "CREATE FUNCTION public.own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
            " CREATE TRIGGER on_auth_user_created AFTER INSERT ON auth.users"
            " FOR EACH ROW EXECUTE FUNCTION public.own()"
        )
        for address in ("m\u00fcller@example.com", "Ada@example.com", "ADA@example.com", None):
            connection.execute(LOGIN, [address])
    migrations.upgrade(url)
    with empty.connect() as connection:
        connection.execute(LOGIN, ["bob@example.com"])
    found = query(empty, "SELECT lower(email::text) FROM conversation.profiles ORDER BY 1")
    assert found == [("ada@example.com",), ("bob@example.com",)]
    with opened(empty) as connection:
        report = verify(connection, now=datetime.now(UTC), months_ahead=3)
    assert [line for section in report.sections for line in section.differences if "auth" in line] == []
    assert len(report.sections[-1].facts["logins_without_profile"]) == 3
    migrations.downgrade(url, "platform")
    left = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND NOT tgisinternal"
    assert query(empty, left) == [("on_auth_user_created",)]


def test_the_service_needs_no_bypassrls(deployed: TestDatabase, app: Database) -> None:
    assert query(deployed, "SELECT rolbypassrls FROM pg_roles WHERE rolname = 'service_role'") == [(False,)]
    with app.transaction(identity.service()) as tx:
        session = sessions.start(tx, email="Ada@Example.com", path_choice="keto", macro_data={"protein": 120})
        sessions.record_payment(tx, session.id, "completed", stripe_payment_id="pi_1")
        report = reports.issue(
            tx,
            session_id=session.id,
            html="<h1>Report</h1>",
            questionnaire={"age": 36},
            valid_for=timedelta(days=30),
        )
        form = calculator.start(tx)
    with app.transaction(identity.anonymous()) as tx:
        assert reports.open(tx, report.access_token).html == "<h1>Report</h1>"
        assert calculator.save(tx, form.session_token, form_state={"step": 2}).form_state == {"step": 2}
    with app.transaction(identity.service()) as tx:
        assert access_log.count(tx, report.id).access_count == 1
        assert [found.id for found in sessions.list_by_email(tx, "ada@example.com")] == [session.id]
        reports.revoke(tx, report.id, reason="refund")
    with pytest.raises(errors.ReportExpired), app.transaction(identity.anonymous()) as tx:
        reports.open(tx, report.access_token)


def test_a_visitor_sees_nothing(deployed: TestDatabase, app: Database) -> None:
    put_rows(deployed)
    with app.transaction(identity.anonymous()) as tx:
        assert tx.execute(text("SELECT id FROM public.generated_reports")).all() == []
        assert tx.execute(text("SELECT payment_status FROM public.calculator2_sessions")).all() == []
    closed = query(
        deployed,
        """
        SELECT c.oid::regclass::text FROM pg_class AS c
        WHERE c.relkind IN ('r', 'p', 'v')
            AND c.relnamespace IN ('public'::regnamespace, 'carnivore'::regnamespace)
            AND c.relname NOT IN ('generated_reports', 'calculator2_sessions')
        """,
    )
    assert len(closed) > 10
    for (table,) in closed:
        with pytest.raises(errors.PermissionRefused), app.transaction(identity.anonymous()) as tx:
            tx.execute(text(f"SELECT FROM {table}"))


def test_roles_that_exist_already_are_left_as_they_are(deployed: TestDatabase) -> None:
    with deployed.connect() as connection:
        connection.execute("CREATE ROLE anon LOGIN INHERIT CONNECTION LIMIT 3")
        connection.execute("CREATE ROLE authenticated NOINHERIT VALID UNTIL '2099-01-01 00:00+00'")
        connection.execute("CREATE ROLE service_role NOBYPASSRLS IN ROLE authenticated")
        connection.execute("CREATE ROLE reporting LOGIN INHERIT IN ROLE anon")
        connection.execute("ALTER ROLE anon SET statement_timeout = '3s'")
    before = query(deployed, ROLES)
    # As the superuser, who could change each of them.
    as_superuser = replace(deployed, shape=replace(deployed.shape, migrator=deployed.shape.server.user))
    migrations.upgrade(as_superuser.migrator_url)
    assert query(deployed, ROLES) == before
    migrations.downgrade(as_superuser.migrator_url, "base")
    assert query(deployed, ROLES) == before


def test_an_incomplete_auth_schema_is_refused(deployed: TestDatabase) -> None:
    message = r"schema auth exists but lacks auth\.uid\(\) or auth\.email\(\)"
    for script in (
        "CREATE SCHEMA auth",
        "CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
        "ALTER FUNCTION auth.uid() RENAME TO email",
    ):
        with opened(deployed) as connection:
            connection.exec_driver_sql(script)
            connection.commit()
        before = fingerprint(deployed)
        before["schemas"].pop("carnivore", None)  # which is to hold the version table
        with pytest.raises(DBAPIError, match=message):
            migrations.upgrade(deployed.migrator_url)
        assert heads(deployed) == ()
        after = fingerprint(deployed)
        del after["schemas"]["carnivore"]
        assert_same(before, after)


def test_extensions_that_exist_already_stay_where_and_as_they_are(deployed: TestDatabase) -> None:
    with opened(deployed) as connection:
        connection.exec_driver_sql("CREATE EXTENSION pgcrypto WITH SCHEMA public")
        connection.commit()
    extensions = """
        SELECT extname, extnamespace::regnamespace::text, obj_description(oid, 'pg_extension')
        FROM pg_extension WHERE extname <> 'citext' ORDER BY extname
    """
    before = query(deployed, extensions)
    migrations.upgrade(deployed.migrator_url)
    assert query(deployed, extensions) == before
    migrations.downgrade(deployed.migrator_url, "base")
    assert query(deployed, extensions) == before


def test_the_defaults_of_a_database_do_not_show_in_its_schema(
    plain_empty: TestDatabase, at: dict[str, Snapshot]
) -> None:
    """Months begin in UTC and names mean ours, whatever the sessions are set to."""
    with plain_empty.connect() as connection:
        for setting in (
            "TimeZone = 'Pacific/Auckland'",
            "DateStyle = 'SQL, DMY'",
            "IntervalStyle = 'sql_standard'",
            "search_path = 'nowhere'",
            "default_transaction_isolation = 'serializable'",
        ):
            connection.execute(f"ALTER DATABASE {plain_empty.name} SET {setting}")
    migrations.upgrade(plain_empty.migrator_url)
    assert_same(at[RELEASE], fingerprint(plain_empty))
    migrations.downgrade(plain_empty.migrator_url, "base")


def test_alembic_itself_needs_nothing_but_the_url(plain_empty: TestDatabase, at: dict[str, Snapshot]) -> None:
    url = plain_empty.migrator_url.set(drivername="postgresql").render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=migrations.ini_file().parent,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert_same(at[RELEASE], fingerprint(plain_empty))
