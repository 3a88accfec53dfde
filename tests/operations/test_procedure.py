"""`CALL carnivore.maintain()`: the same run for a scheduler inside the database."""

import threading
from pathlib import Path

import psycopg
import pytest

from tests.operations import old
from tests.support.databases import TestDatabase
from tests.support.processes import eventually

CALL = "CALL carnivore.maintain()"
# In the order of their runs; files are beyond the database.
JOBS = [
    "partitions",
    "fold",
    "analytics",
    "calculator_sessions",
    "reports",
    "idle_conversations",
    "old_logs",
    "weekly_limits",
    "message_archive",
    "sizes",
]
RUNS = "SELECT job, last_error, last_result FROM carnivore.jobs WHERE last_finished_at IS NOT NULL"
PARTS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass"


def runs(owner: psycopg.Connection) -> dict[str, tuple[str | None, int]]:
    return {job: (error, result["handled"]) for job, error, result in owner.execute(RUNS)}


def parts(owner: psycopg.Connection, table: str) -> set[str]:
    return {name for (name,) in owner.execute(PARTS, [table])}


def last(names: set[str]) -> str:
    """The latest month of these partitions."""
    return max(name for name in names if not name.endswith("_default"))


def migrating(database: TestDatabase) -> psycopg.Connection:
    return database.connect(database.shape.migrator, autocommit=True)


def test_every_job_runs_and_is_noted(
    database: TestDatabase, owner: psycopg.Connection, tmp_path: Path
) -> None:
    files = old.fill(owner, tmp_path)
    before = {name: len(rows) for name, rows in old.kept(owner).items()}
    months = {table: parts(owner, table) for table in ("public.report_access_log", "conversation.logs")}
    for names in months.values():
        owner.execute(f"DROP TABLE {last(names)}")
    owner.execute("SET carnivore.access_counting = 'deferred'")
    owner.execute(
        "INSERT INTO public.report_access_log (report_id) SELECT max(id) FROM public.generated_reports"
    )
    with migrating(database) as connection:
        connection.execute("CALL carnivore.maintain(batch => 2)")
    after = {name: len(rows) for name, rows in old.kept(owner).items()}
    assert {name: before[name] - after[name] for name in before} == {
        **dict.fromkeys(old.DUE, 6),
        "exports": 0,
    }
    assert all(file.exists() for file in files)
    found = runs(owner)
    assert set(found) == set(JOBS)
    assert all(error is None for error, _ in found.values())
    for job in ("calculator_sessions", "reports", "idle_conversations"):
        assert found[job] == (None, 6)
    # One of each table, and the month of the logs that lay in none.
    assert found["partitions"] == (None, 3)
    assert found["fold"] == (None, 1)
    assert parts(owner, "public.report_access_log") == months["public.report_access_log"]
    assert parts(owner, "conversation.logs") == months["conversation.logs"] - {"conversation.logs_2024_05"}
    ages = owner.execute(
        "SELECT bool_and(last_started_at <= last_finished_at AND last_succeeded_at = last_finished_at)"
        " FROM carnivore.jobs WHERE last_finished_at IS NOT NULL"
    ).fetchone()
    assert ages == (True,)


def test_rows_of_no_month_find_theirs(
    database: TestDatabase, owner: psycopg.Connection, tmp_path: Path
) -> None:
    old.fill(owner, tmp_path)
    owner.execute(
        "INSERT INTO public.report_access_log (report_id, accessed_at) SELECT max(id), moment"
        " FROM public.generated_reports, unnest('{2031-01-31 23:30+00, 2025-02-01 00:00+00}'::timestamptz[])"
        " AS moment GROUP BY moment"
    )
    with migrating(database) as connection:
        connection.execute("SET timezone = 'Asia/Tokyo'")
        connection.execute("CALL carnivore.maintain(months_ahead => 1)")
    where = "SELECT tableoid::regclass::text FROM public.report_access_log WHERE accessed_at {} ORDER BY 1"
    assert owner.execute(where.format("> '2030-01-01'")).fetchall() == [("report_access_log_2031_01",)]
    assert owner.execute(where.format("< '2025-06-01'")).fetchall() == [("report_access_log_2025_02",)]
    assert owner.execute("SELECT count(*) FROM public.report_access_log_default").fetchone() == (0,)


def test_old_logs_stay_when_the_caller_says_so(
    database: TestDatabase, owner: psycopg.Connection, tmp_path: Path
) -> None:
    old.fill(owner, tmp_path)
    before = old.kept(owner)["old_logs"]
    with migrating(database) as connection:
        connection.execute("CALL carnivore.maintain(old_logs => false)")
    assert old.kept(owner)["old_logs"] == before
    assert set(runs(owner)) == set(JOBS) - {"old_logs"}


def test_the_grace_is_the_callers(database: TestDatabase, owner: psycopg.Connection, tmp_path: Path) -> None:
    old.fill(owner, tmp_path)
    with migrating(database) as connection:
        connection.execute("CALL carnivore.maintain(reports_grace => '1 year')")
    assert runs(owner)["reports"] == (None, 3)


def test_a_failure_is_noted_raised_at_the_end_and_stops_no_other(
    database: TestDatabase, owner: psycopg.Connection, tmp_path: Path
) -> None:
    old.fill(owner, tmp_path)
    month = last(parts(owner, "public.report_access_log"))
    owner.execute(f"DROP TABLE {month}; CREATE TABLE {month} ()")
    owner.execute(f"DROP TABLE {last(parts(owner, 'conversation.logs'))}")
    owner.execute(
        "CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'geheim' USING ERRCODE = '23514', CONSTRAINT = 'a_rule'; END $$;"
        "CREATE TRIGGER fail BEFORE DELETE ON conversation.sessions"
        " FOR EACH ROW EXECUTE FUNCTION public.fail()"
    )
    with migrating(database) as connection:
        with pytest.raises(psycopg.errors.RaiseException) as caught:
            connection.execute(CALL)
        assert caught.value.diag.message_primary == "jobs failed: partitions, idle_conversations"
        # Its turn is over, though the session goes on.
        with migrating(database) as other, pytest.raises(psycopg.errors.RaiseException):
            other.execute(CALL)
    found = runs(owner)
    assert set(found) == set(JOBS)
    # The month of the logs was made all the same, and that of the old rows.
    assert found["partitions"][0] == "23514 partition_valid"
    assert found["idle_conversations"] == ("23514 a_rule", 0)
    assert found["reports"][0] is None
    assert len(old.kept(owner)["reports"]) == 2
    logged = owner.execute(
        "SELECT metadata - '{job_id,started_at,finished_at}'::text[] FROM conversation.logs"
        " WHERE level = 'error'"
    ).fetchall()
    assert logged == [({"job": "idle_conversations", "sqlstate": "23514", "rule": "a_rule"},)] * 2


def test_a_lock_that_is_refused_is_asked_for_again(database: TestDatabase, owner: psycopg.Connection) -> None:
    """Somebody reads the DEFAULT partition, whose lock is not waited for."""
    owner.execute(f"DROP TABLE {last(parts(owner, 'public.report_access_log'))}")
    with database.connect() as reader, migrating(database) as connection:
        reader.execute("SELECT FROM public.report_access_log_default")
        call = threading.Thread(target=connection.execute, args=[CALL])
        call.start()
        tried = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        assert eventually(lambda: owner.execute(tried).fetchone() == (True,))
        reader.rollback()
        call.join()
    assert runs(owner)["partitions"] == (None, 1)


def test_a_cancel_ends_the_run(database: TestDatabase, owner: psycopg.Connection, tmp_path: Path) -> None:
    old.fill(owner, tmp_path)
    with database.connect() as holder, migrating(database) as connection:
        # The jobs before this one go on; the second batch of logs waits.
        holder.execute("LOCK TABLE public.calculator2_sessions IN ACCESS EXCLUSIVE MODE")
        failed: list[psycopg.Error] = []

        def call() -> None:
            try:
                connection.execute("SET statement_timeout = '1s'")
                connection.execute(CALL)
            except psycopg.Error as error:
                failed.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        holder.rollback()
        assert [error.sqlstate for error in failed] == ["P0001"]
    found = runs(owner)
    assert found["calculator_sessions"][0] == "57014"
    assert "reports" not in found


def test_a_table_that_is_missing_fails_its_own_job_alone(
    database: TestDatabase, owner: psycopg.Connection, tmp_path: Path
) -> None:
    old.fill(owner, tmp_path)
    owner.execute("ALTER TABLE public.report_access_log_default RENAME TO away")
    with migrating(database) as connection, pytest.raises(psycopg.errors.RaiseException) as caught:
        connection.execute(CALL)
    assert caught.value.diag.message_primary == "jobs failed: partitions"
    assert {job for job, (error, _) in runs(owner).items() if error} == {"partitions"}
    assert runs(owner)["partitions"] == ("42P01", 0)


def test_nobody_but_the_migrating_role_runs_it(database: TestDatabase, owner: psycopg.Connection) -> None:
    for role in ("anon", "authenticated", "service_role"):
        owner.execute(f"SET ROLE {role}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            owner.execute(CALL)
        owner.execute("RESET ROLE")
