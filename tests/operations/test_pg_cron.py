"""pg_cron runs the maintenance inside the database, as docs/scheduling.md says."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from carnivore_db.dev.local import LocalPostgres, Server
from carnivore_db.dev.postgres_install import find_postgres
from carnivore_db.schema import migrations
from tests.support import processes

DOCUMENT = Path(__file__).parents[2] / "docs/scheduling.md"
DATABASE = "postgres"  # where pg_cron's own table is, by its setting's default
LIBRARY = find_postgres().parent / "lib/pg_cron.so"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not LIBRARY.exists(), reason="pg_cron is not installed (postgresql-15-cron)"),
]


@pytest.fixture(scope="module")
def scheduler() -> Iterator[Server]:
    settings = {"shared_preload_libraries": "pg_cron", "cron.use_background_workers": "on"}
    with LocalPostgres(settings=settings) as running:
        migrations.upgrade(running.url(DATABASE))
        yield running


def test_pg_cron_runs_the_maintenance(scheduler: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    (statement,) = re.findall(r"```sql\n(SELECT cron\.schedule.+?)\n```", DOCUMENT.read_text(), re.DOTALL)
    # Its shortest interval is a minute.
    every_minute = re.sub(r"'\d+ \d+ \* \* \*'", "'* * * * *'", statement)
    assert every_minute != statement
    monkeypatch.setattr(processes, "DEADLINE", 150)
    with psycopg.connect(scheduler.dsn(DATABASE), autocommit=True) as owner:
        owner.execute("CREATE EXTENSION pg_cron")
        missing = owner.execute(
            "SELECT max(inhrelid::regclass::text) FROM pg_inherits"
            " WHERE inhparent = 'public.report_access_log'::regclass"
            " AND inhrelid::regclass::text !~ 'default'"
        ).fetchone()
        assert missing is not None
        owner.execute(f"DROP TABLE {missing[0]}")
        owner.execute(every_minute)

        def ended() -> bool:
            return bool(
                owner.execute(
                    "SELECT FROM cron.job_run_details WHERE status IN ('succeeded', 'failed')"
                ).fetchall()
            )

        assert processes.eventually(ended)
        ((status, message),) = owner.execute(
            "SELECT status, return_message FROM cron.job_run_details WHERE end_time IS NOT NULL"
            " ORDER BY runid LIMIT 1"
        ).fetchall()
        assert status == "succeeded", message
        ((made,),) = owner.execute("SELECT to_regclass(%s) IS NOT NULL", [missing[0]]).fetchall()
        assert made
        failed = owner.execute(
            "SELECT job FROM carnivore.jobs WHERE last_started_at IS NOT NULL AND last_error IS NOT NULL"
        ).fetchall()
        ((ran,),) = owner.execute(
            "SELECT count(*) FROM carnivore.jobs WHERE last_succeeded_at IS NOT NULL"
        ).fetchall()
    assert failed == []
    assert ran >= 8
