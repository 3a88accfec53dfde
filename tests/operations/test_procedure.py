"""`CALL carnivore.maintain()` and `run_job`: the same run for a scheduler inside the database."""

import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.operations import old
from tests.operations.partitions.months import LOG, LOGS, month, name, one, partitions
from tests.support.databases import TestDatabase
from tests.support.processes import eventually

# In the order of their runs; files are beyond the database.
JOBS = [
    "partitions",
    "fold",
    "analytics",
    "calculator_sessions",
    "reports",
    "report_pages",
    "idle_conversations",
    "old_logs",
    "weekly_limits",
    "message_archive",
    "sizes",
]
RUNS = "SELECT job, last_error, last_result FROM carnivore.jobs WHERE last_finished_at IS NOT NULL"
MISSING = "SELECT count(*) FROM carnivore.partition_plan(3) WHERE kind <> 'left'"
LAST = [name(LOG, month(3)), name(LOGS, month(3))]
Call = Callable[..., psycopg.errors.RaiseException | None]


def runs(owner: psycopg.Connection) -> dict[str, tuple[str | None, int]]:
    return {job: (error, result["handled"]) for job, error, result in owner.execute(RUNS)}


@pytest.fixture
def filled(owner: psycopg.Connection, tmp_path: Path) -> list[Path]:
    """Rows that are due, and files that are; the last month of each table is missing."""
    owner.execute(f"DROP TABLE {', '.join(LAST)}")
    return old.fill(owner, tmp_path)


@pytest.fixture
def call(database: TestDatabase) -> Call:
    """Maintain, as the migrating role and with these arguments and settings; returns what it raises."""

    def run(arguments: str = "", *settings: str) -> psycopg.errors.RaiseException | None:
        with database.connect(database.shape.migrator, autocommit=True) as connection:
            for setting in settings:
                connection.execute(f"SET {setting}")
            try:
                connection.execute(f"CALL carnivore.maintain({arguments})")
            except psycopg.errors.RaiseException as error:
                return error
        return None

    return run


def test_every_job_runs_and_is_noted(filled: list[Path], owner: psycopg.Connection, call: Call) -> None:
    before = {rule: len(rows) for rule, rows in old.kept(owner).items()}
    missing = one(owner, MISSING)
    owner.execute("SET carnivore.access_counting = 'deferred'")
    owner.execute(f"INSERT INTO {LOG} (report_id) SELECT max(id) FROM public.generated_reports")
    assert call("batch => 2") is None
    after = {rule: len(rows) for rule, rows in old.kept(owner).items()}
    assert {rule: before[rule] - after[rule] for rule in before} == {**old.DELETED, "exports": 0}
    assert all(file.exists() for file in filled)
    found = runs(owner)
    assert set(found) == set(JOBS)
    assert all(error is None for error, _ in found.values())
    assert {found[job] for job in ("calculator_sessions", "reports", "idle_conversations")} == {(None, 6)}
    assert found["partitions"] == (None, missing)
    assert found["fold"] == (None, 1)
    assert set(LAST) <= partitions(owner, LOG) | partitions(owner, LOGS)
    assert f"{LOGS}_2024_05" not in partitions(owner, LOGS)
    assert one(
        owner,
        "SELECT bool_and(last_started_at <= last_finished_at AND last_succeeded_at = last_finished_at)"
        " FROM carnivore.jobs WHERE last_finished_at IS NOT NULL",
    )


@pytest.mark.usefixtures("filled")
def test_rows_of_no_month_find_theirs(owner: psycopg.Connection, call: Call) -> None:
    owner.execute(
        f"INSERT INTO {LOG} (report_id, accessed_at) SELECT max(id), moment FROM public.generated_reports,"
        " unnest('{2031-01-31 23:30+00, 2025-02-01 00:00+00}'::timestamptz[]) AS moment GROUP BY moment"
    )
    assert call("months_ahead => 1", "timezone = 'Asia/Tokyo'", "datestyle = 'German'") is None
    found = owner.execute(
        f"SELECT tableoid::regclass::text FROM {LOG} WHERE accessed_at > '2030-01-01Z'"
        " OR accessed_at < '2025-06-01Z' ORDER BY 1"
    )
    assert found.fetchall() == [("report_access_log_2025_02",), ("report_access_log_2031_01",)]
    assert one(owner, f"SELECT count(*) FROM {LOG}_default") == 0
    assert not {*LAST} & (partitions(owner, LOG) | partitions(owner, LOGS))


@pytest.mark.usefixtures("filled")
def test_old_logs_and_the_grace_are_as_the_caller_says(owner: psycopg.Connection, call: Call) -> None:
    before = old.kept(owner)["old_logs"]
    assert call("old_logs => false, reports_grace => '1 year'") is None
    assert old.kept(owner)["old_logs"] == before
    assert runs(owner).keys() == set(JOBS) - {"old_logs"}
    assert runs(owner)["reports"] == (None, 3)


@pytest.mark.usefixtures("filled")
def test_a_failure_is_noted_raised_at_the_end_and_stops_no_other(
    owner: psycopg.Connection, call: Call
) -> None:
    owner.execute(f"CREATE TABLE {LAST[0]} ()")
    old.stumble(owner)
    # Twice: its turn is over.
    for _ in range(2):
        error = call()
        assert error is not None
        assert error.diag.message_primary == "jobs failed: partitions, idle_conversations"
    found = runs(owner)
    assert set(found) == set(JOBS)
    # The month of the logs was made all the same.
    assert found["partitions"][0] == "23514 partition_valid"
    assert LAST[1] in partitions(owner, LOGS)
    assert found["idle_conversations"] == ("23514 a_rule", 0)
    assert found["reports"][0] is None
    assert len(old.kept(owner)["reports"]) == 3
    assert old.failures(owner) == [{"job": "idle_conversations", "sqlstate": "23514", "rule": "a_rule"}] * 2


@pytest.mark.usefixtures("filled")
def test_a_table_that_is_missing_fails_its_own_job_alone(owner: psycopg.Connection, call: Call) -> None:
    owner.execute("ALTER TABLE public.report_access_pending RENAME TO away")
    error = call()
    assert error is not None
    assert error.diag.message_primary == "jobs failed: fold"
    assert {job: found for job, found in runs(owner).items() if found[0]} == {"fold": ("42P01", 0)}


def test_a_lock_that_is_refused_is_asked_for_again(
    database: TestDatabase, owner: psycopg.Connection, call: Call
) -> None:
    """Somebody reads the DEFAULT partition, whose lock is not waited for."""
    owner.execute(f"DROP TABLE {LAST[0]}")
    missing = one(owner, MISSING)
    with database.connect() as reader:
        reader.execute(f"SELECT FROM {LOG}_default")
        thread = threading.Thread(target=call)
        thread.start()
        tried = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        assert eventually(lambda: one(owner, tried))
        reader.rollback()
        thread.join()
    assert runs(owner)["partitions"] == (None, missing)


@pytest.mark.usefixtures("filled")
def test_a_cancel_ends_the_run(database: TestDatabase, owner: psycopg.Connection, call: Call) -> None:
    with database.connect() as holder:
        # The jobs before this one go on.
        holder.execute("LOCK TABLE public.calculator2_sessions IN ACCESS EXCLUSIVE MODE")
        assert call("", "statement_timeout = '1s'") is not None
    found = runs(owner)
    assert found["calculator_sessions"][0] == "57014"
    assert "reports" not in found


def test_nobody_but_the_migrating_role_runs_it(owner: psycopg.Connection) -> None:
    for role in ("anon", "authenticated", "service_role"):
        owner.execute(f"SET ROLE {role}")
        for statement in ("CALL carnivore.maintain()", "CALL carnivore.run_job('fold')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                owner.execute(statement)
        owner.execute("RESET ROLE")


# Whatever the procedures call, under a name that a search_path may find first. Whoever calls it is noted.
TRAPS = """
    CREATE SCHEMA trap;
    CREATE TABLE trap.used (what text);
    CREATE FUNCTION trap.note(what text) RETURNS boolean LANGUAGE sql AS
        $$ INSERT INTO trap.used VALUES ($1) RETURNING true $$;
    DO $do$
    DECLARE
        made record;
    BEGIN
        FOR made IN
            SELECT p.oid::regprocedure::text AS address, format_type(prorettype, NULL) AS returns,
                NULL AS operator
            FROM pg_proc AS p
            WHERE pronamespace = 'pg_catalog'::regnamespace AND NOT proretset AND proname = ANY (
                '{set_config,gen_random_uuid,clock_timestamp,pg_sleep,random,rtrim,array_to_string,
                array_append,pg_try_advisory_lock,pg_advisory_unlock}')
            UNION ALL
            SELECT format('"%s"(%s,%2$s)', name, kind), CASE WHEN name ~ '[<=>]' THEN 'boolean' ELSE kind END,
                format('%s (FUNCTION = trap."%1$s", LEFTARG = %s, RIGHTARG = %2$s)', name, kind)
            FROM unnest('{<,=,<>,%,+,||}'::text[]) AS name,
                unnest('{integer,bigint,text,interval}'::text[]) AS kind
        LOOP
            EXECUTE format('CREATE FUNCTION trap.%s RETURNS %s LANGUAGE plpgsql AS'
                ' $$ BEGIN PERFORM trap.note(%1$L); RETURN %3$s; END $$', made.address, made.returns,
                CASE WHEN made.returns <> 'void' THEN 'NULL' END);
            EXECUTE coalesce('CREATE OPERATOR trap.' || made.operator, '');
        END LOOP;
        CREATE DOMAIN trap.text AS pg_catalog.text CHECK (trap.note('text'));
        CREATE DOMAIN trap.uuid AS pg_catalog.uuid CHECK (trap.note('uuid'));
        CREATE DOMAIN trap.jsonb AS pg_catalog.jsonb CHECK (trap.note('jsonb'));
        CREATE DOMAIN trap.timestamptz AS pg_catalog.timestamptz CHECK (trap.note('timestamptz'));
    END
    $do$;
"""


@pytest.mark.usefixtures("filled")
def test_nothing_of_a_search_path_is_used(
    database: TestDatabase, owner: psycopg.Connection, call: Call
) -> None:
    """The migrating role's rights are not for whoever may make an operator somewhere."""
    old.stumble(owner)
    owner.execute(TRAPS)
    owner.execute("GRANT ALL ON SCHEMA trap TO PUBLIC; GRANT ALL ON trap.used TO PUBLIC")
    path = "search_path = trap, pg_catalog, public"
    with database.connect(database.shape.migrator, autocommit=True) as connection:
        connection.execute(f"SET {path}")
        connection.execute("SELECT 1 < 2, random(), 'x'::text")  # they would be found
        trapped = {'"<"(integer,integer)', "random()", "text"}
        assert {what for (what,) in owner.execute("DELETE FROM trap.used RETURNING what")} == trapped
        connection.execute("CALL carnivore.run_job('fold', 2, '1 millisecond')")
    assert call("batch => 2", path) is not None
    assert set(runs(owner)) == set(JOBS)
    assert owner.execute("SELECT DISTINCT what FROM trap.used").fetchall() == []
