"""A sample a day of every table and partition: what is noted is what PostgreSQL says."""

from collections.abc import Iterator
from datetime import date, timedelta

import psycopg
import pytest

from tests.operations.partitions.months import one
from tests.support import reports
from tests.support.databases import TestDatabase
from tests.support.rows import fill

SAMPLES = "SELECT relation, bytes, rows FROM carnivore.partition_sizes WHERE day = %s"
RELATIONS = """
    SELECT nspname || '.' || relname, relkind::text, c.oid
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'p')
        AND nspname IN ('public', 'vocabulary', 'conversation', 'carnivore', 'analytics')
"""


@pytest.fixture
def owner(database: TestDatabase) -> Iterator[psycopg.Connection]:
    with database.connect(database.shape.migrator, autocommit=True) as connection:
        connection.execute("SET timezone = 'Pacific/Auckland'")
        yield connection


def record(owner: psycopg.Connection) -> int:
    return int(one(owner, "SELECT carnivore.record_partition_sizes()"))


def today(owner: psycopg.Connection) -> date:
    found = one(owner, "SELECT (now() AT TIME ZONE 'UTC')::date")
    assert isinstance(found, date)
    return found


def size(connection: psycopg.Connection, oid: int) -> int:
    """Added up leaf by leaf, each asked for by itself."""
    leaves = connection.execute(
        "SELECT relid FROM pg_partition_tree(%s) WHERE isleaf UNION SELECT %s WHERE NOT EXISTS"
        " (SELECT FROM pg_partition_tree(%s))",
        [oid, oid, oid],
    ).fetchall()
    return sum(one(connection, "SELECT pg_total_relation_size(%s)", leaf) for (leaf,) in leaves)


def test_every_table_and_partition_is_noted_with_its_size(
    database: TestDatabase, owner: psycopg.Connection
) -> None:
    with database.connect(autocommit=True) as superuser:
        fill(superuser)
    before = {name: (kind, size(owner, oid)) for name, kind, oid in owner.execute(RELATIONS)}
    noted = record(owner)
    found = {name: number for name, number, _ in owner.execute(SAMPLES, [today(owner)])}
    assert noted == len(found) == len(before)
    # The samples' own table grew by them.
    own = "carnivore.partition_sizes"
    assert {name: number for name, (_, number) in before.items() if name != own} == {
        name: number for name, number in found.items() if name != own
    }
    assert {kind for kind, _ in before.values()} == {"r", "p"}
    assert found["public.report_access_log"] > found["public.report_access_log_default"] > 0


def test_rows_are_the_planners_estimate_and_unknown_before_any(
    owner: psycopg.Connection,
) -> None:
    reports.make(owner, 1)
    owner.execute(
        "INSERT INTO public.report_access_log (report_id, accessed_at)"
        " SELECT id, moment::timestamptz FROM public.generated_reports,"
        " unnest(ARRAY['2026-01-10', '2026-01-11', '2026-02-10', '2001-01-01']) AS moment"
    )
    record(owner)
    rows = {name: number for name, _, number in owner.execute(SAMPLES, [today(owner)])}
    assert rows["public.report_access_log"] is None
    assert rows["public.report_access_log_2026_01"] is None
    owner.execute("ANALYZE public.report_access_log_2026_01")
    owner.execute("ANALYZE public.report_access_log_2026_02")
    owner.execute("ANALYZE public.report_access_log_2026_03")
    record(owner)
    rows = {name: number for name, _, number in owner.execute(SAMPLES, [today(owner)])}
    assert rows["public.report_access_log_2026_01"] == 2
    assert rows["public.report_access_log_2026_02"] == 1
    assert rows["public.report_access_log_2026_03"] == 0
    assert rows["public.report_access_log_default"] is None
    assert rows["public.report_access_log"] == 3


def test_again_on_the_same_day_replaces_the_sample(owner: psycopg.Connection) -> None:
    first = record(owner)
    owner.execute("UPDATE carnivore.partition_sizes SET bytes = -1, rows = -1")
    assert record(owner) == first
    found = owner.execute("SELECT count(*), min(bytes) > 0, min(rows) FROM carnivore.partition_sizes")
    number, measured, rows = found.fetchone() or (0, False, -1)
    assert (number, measured) == (first, True)
    assert rows is None or rows >= 0


def test_samples_older_than_400_days_go(owner: psycopg.Connection) -> None:
    now = today(owner)
    days = [now - timedelta(days=age) for age in (1, 399, 400, 401, 900)]
    for day in days:
        owner.execute("INSERT INTO carnivore.partition_sizes VALUES (%s, 'public.gone', 1, 1)", [day])
    record(owner)
    kept = owner.execute("SELECT day FROM carnivore.partition_sizes WHERE relation = 'public.gone'")
    assert {day for (day,) in kept} == set(days[:3])


@pytest.mark.slow  # it waits for the two seconds
def test_a_locked_table_makes_it_busy_and_notes_nothing(
    database: TestDatabase, owner: psycopg.Connection
) -> None:
    with database.connect() as other:
        other.execute("LOCK TABLE public.stripe_events IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            record(owner)
    assert owner.execute("SELECT FROM carnivore.partition_sizes").fetchall() == []
