"""What a restore or a hand took or gave is put back as the revisions state it; rows are counted anew."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from carnivore_db.operations.verify.repair import Repaired, repair
from tests.operations.conftest import Run
from tests.support import rows
from tests.support.databases import TestDatabase

LOG = "public.report_access_log"
PARTITION = f"{LOG}_default"
DAMAGES = {
    "a grant to a stranger": "GRANT ALL ON public.generated_reports, conversation.logs TO anon, PUBLIC",
    "a column's": "GRANT SELECT (email) ON public.generated_reports TO anon",
    "a right that went": "REVOKE ALL ON public.user_sessions, vocabulary.users FROM service_role",
    "everything in a schema": "GRANT ALL ON ALL TABLES IN SCHEMA public TO anon, authenticated, service_role",
    "every function": "GRANT EXECUTE ON ALL ROUTINES IN SCHEMA public, carnivore TO PUBLIC, anon",
    "a function's that went": "REVOKE EXECUTE ON FUNCTION public.open_report(text, text, text) FROM PUBLIC",
    "a schema": "GRANT ALL ON SCHEMA carnivore TO anon; REVOKE USAGE ON SCHEMA vocabulary FROM authenticated",
    "a sequence": "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO anon",
    "row security": "ALTER TABLE public.generated_reports DISABLE ROW LEVEL SECURITY;"
    " ALTER TABLE conversation.profiles FORCE ROW LEVEL SECURITY",
    "a policy that went": "DROP POLICY public_generated_reports_read ON public.generated_reports",
    "a policy too many": "CREATE POLICY everybody ON public.user_sessions TO anon USING (true)",
    "another policy": "ALTER POLICY public_generated_reports_read ON public.generated_reports USING (true)",
    "a trigger": "DROP TRIGGER trg_generated_reports_immutable ON public.generated_reports",
    "a trigger that rests": "ALTER TABLE public.user_sessions DISABLE TRIGGER trg_user_sessions_payment",
    "the sign-up's": "DROP TRIGGER on_auth_user_created ON auth.users",
    "a function": "CREATE OR REPLACE FUNCTION carnivore.refuse_change() RETURNS trigger LANGUAGE plpgsql"
    " SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NEW; END'",
    "a function that went": "DROP FUNCTION analytics.refresh(date)",
    "comments": f"COMMENT ON TABLE {LOG} IS NULL; COMMENT ON COLUMN public.user_sessions.email IS 'x';"
    " COMMENT ON VIEW public.report_access_counts IS NULL; COMMENT ON SCHEMA conversation IS NULL",
    "an open partition": f"GRANT ALL ON {PARTITION} TO anon; GRANT SELECT (id) ON {PARTITION} TO PUBLIC;"
    f" ALTER TABLE {PARTITION} DISABLE ROW LEVEL SECURITY; CREATE POLICY p ON {PARTITION} USING (true)",
    "a partition's triggers": f"DROP TRIGGER trg_report_access_log_no_truncate ON {PARTITION};"
    f" ALTER TABLE {PARTITION} DISABLE TRIGGER trg_report_access_log_append_only",
}


def opened(database: TestDatabase) -> sa.Engine:
    """As the superuser, who may damage everything."""
    url = database.shape.url(database.name, database.shape.server.user)
    return sa.create_engine(url, poolclass=sa.NullPool)


@pytest.fixture
def connection(plain_database: TestDatabase) -> Iterator[sa.Connection]:
    with opened(plain_database).connect() as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_damaged_is_as_it_was(connection: sa.Connection, damage: str) -> None:
    connection.exec_driver_sql(DAMAGES[damage])
    found = repair(connection)
    assert found.done
    assert found.left == []
    assert repair(connection) == Repaired()


def test_the_migrating_role_mends_all_of_it_at_once(database: TestDatabase) -> None:
    with opened(database).connect() as connection:
        for name, damage in DAMAGES.items():
            if name != "another policy":  # which is gone by then
                connection.exec_driver_sql(damage)
        connection.exec_driver_sql(f"SET LOCAL ROLE {database.shape.migrator}")
        assert repair(connection).left == []


def test_what_is_a_persons_to_mend_is_told_and_left(connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE public.user_sessions ADD COLUMN own text")
    connection.exec_driver_sql("DROP INDEX public.idx_user_sessions_email")
    found = repair(connection)
    assert found.done == []
    assert [line.partition(":")[0] for line in found.left] == [
        "column public.user_sessions.own",
        "index public.user_sessions.idx_user_sessions_email",
    ]


def test_rows_that_were_loaded_with_triggers_on_are_counted_once(connection: sa.Connection) -> None:
    rows.fill(connection.connection.driver_connection)
    connection.exec_driver_sql("SELECT public.fold_report_access()")
    counters = (
        "SELECT jsonb_agg(access_count ORDER BY id) FROM public.generated_reports",
        "SELECT jsonb_agg((message_count_main, message_count_helper) ORDER BY id) FROM conversation.sessions",
        "SELECT jsonb_agg(completed_scenario_count ORDER BY id) FROM conversation.profiles",
        "SELECT jsonb_agg(total_sessions ORDER BY user_id) FROM vocabulary.user_progress",
    )

    def counted() -> list[object]:
        return [connection.exec_driver_sql(query).scalar() for query in counters]

    repair(connection)
    before = counted()
    for table, column in (
        ("public.generated_reports", "access_count"),
        ("conversation.sessions", "message_count_main"),
        ("conversation.profiles", "completed_scenario_count"),
        ("vocabulary.user_progress", "total_sessions"),
    ):
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.exec_driver_sql(f"UPDATE {table} SET {column} = 2 * {column} + 1")
        connection.exec_driver_sql("SET LOCAL session_replication_role = origin")
    assert all(now != then for now, then in zip(counted(), before, strict=True))
    assert len(repair(connection).done) == len(counters)
    assert counted() == before


def test_ids_that_were_given_away_are_not_given_again(connection: sa.Connection) -> None:
    insert = (
        "INSERT INTO public.user_sessions ({}email, path_choice, macro_data)"
        " VALUES ({}'ada@example.com', 'keto', '{{}}')"
    )
    connection.exec_driver_sql(insert.format("id, ", "1000, "))
    assert [found.what.partition(":")[0] for found in repair(connection).done] == [
        "sequence public.user_sessions_id_seq"
    ]
    made = connection.exec_driver_sql(insert.format("", "") + " RETURNING id").scalar()
    assert made == 1001
    assert repair(connection).done == []


def test_a_dry_run_says_it_and_does_nothing(run: Run, database: TestDatabase) -> None:
    with database.connect(autocommit=True) as connection:
        connection.execute("GRANT SELECT ON public.user_sessions TO anon")
    told = run("repair", "--dry-run")
    assert 'REVOKE ALL ON public.user_sessions FROM "anon"' in told.output
    assert run("verify").exit_code == 1
    assert run("repair").exit_code == 0
    assert run("verify").exit_code == 0
