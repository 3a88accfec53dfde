"""The fingerprint that the round trip relies on sees a change of every kind, in every schema."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, create_engine, pool

from carnivore_db.schema.diff import compare
from carnivore_db.schema.snapshot import Snapshot, fingerprint
from tests.support.databases import Shape

CHANGES = {
    "grants": (
        "GRANT SELECT ON public.user_sessions TO anon",
        "GRANT UPDATE (email) ON public.user_sessions TO anon",
        "GRANT SELECT ON public.report_access_log_default TO anon",
        "GRANT SELECT ON carnivore.alembic_version TO service_role",
        "GRANT SELECT ON auth.users TO anon",
    ),
    "schemas": (
        "GRANT USAGE ON SCHEMA carnivore TO anon",
        "COMMENT ON SCHEMA extensions IS 'x'",
        "CREATE SCHEMA left_behind",
    ),
    "functions": (
        "GRANT EXECUTE ON FUNCTION carnivore.fold_email() TO anon",
        "ALTER FUNCTION carnivore.fold_email() SECURITY DEFINER",
        "COMMENT ON FUNCTION auth.uid() IS 'x'",
        "CREATE FUNCTION auth.left_behind() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION public.open_report(text, text, text)",
    ),
    "triggers": (
        "ALTER TABLE public.user_sessions DISABLE TRIGGER trg_user_sessions_payment",
        "COMMENT ON TRIGGER trg_user_sessions_payment ON public.user_sessions IS 'x'",
        "CREATE TRIGGER t BEFORE INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION carnivore.fold_email()",
    ),
    "policies": (
        "ALTER POLICY auth_user_sessions_read ON public.user_sessions USING (true)",
        "COMMENT ON POLICY auth_user_sessions_read ON public.user_sessions IS 'x'",
        "CREATE POLICY left_behind ON auth.users FOR SELECT TO anon USING (true)",
    ),
    "tables": (
        "COMMENT ON TABLE public.report_access_log_default IS 'x'",
        "COMMENT ON VIEW public.report_access_counts IS 'x'",
        "ALTER TABLE auth.users DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE public.user_sessions OWNER TO service_role",
    ),
    "columns": (
        "COMMENT ON COLUMN auth.users.email IS 'x'",
        "COMMENT ON COLUMN public.report_access_counts.access_count IS 'x'",
        "ALTER TABLE auth.users ALTER email SET DEFAULT 'x'",
    ),
    "indexes": (
        "COMMENT ON INDEX public.idx_user_sessions_email IS 'x'",
        "CREATE INDEX left_behind ON auth.users (created_at)",
    ),
    "constraints": ("COMMENT ON CONSTRAINT email_valid ON public.user_sessions IS 'x'",),
    "types": (
        "COMMENT ON TYPE public.calculator_state IS 'x'",
        "CREATE DOMAIN extensions.left_behind AS text",
    ),
    "sequences": (
        "GRANT USAGE ON SEQUENCE public.user_sessions_id_seq TO anon",
        "CREATE SEQUENCE auth.left_behind",
    ),
    "default_privileges": (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO anon, PUBLIC",
    ),
    "extensions": ("CREATE EXTENSION pg_trgm", "COMMENT ON EXTENSION citext IS 'x'"),
}


def changes() -> Iterator[object]:
    for kind, scripts in CHANGES.items():
        for script in scripts:
            yield pytest.param(kind, script, id=script)


@pytest.fixture(scope="module")
def connection(plain_shape: Shape, plain_template: str) -> Iterator[Connection]:
    with plain_shape.clone(plain_template) as made:
        engine = create_engine(made.migrator_url, poolclass=pool.NullPool)
        with engine.connect() as opened:
            yield opened


@pytest.fixture(scope="module")
def before(connection: Connection) -> Snapshot:
    return fingerprint(connection)


@pytest.mark.parametrize(("kind", "script"), changes())
def test_a_change_is_seen(connection: Connection, before: Snapshot, kind: str, script: str) -> None:
    with connection.begin() as transaction:
        connection.exec_driver_sql(script)
        found = compare(before, fingerprint(connection))
        transaction.rollback()
    assert kind in {difference.kind for difference in found}
