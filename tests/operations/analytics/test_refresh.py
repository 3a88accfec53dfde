"""The rollup of accesses: counted anew, it is what the log holds; a month in cold storage keeps its days."""

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.operations.analytics.planting import (
    MOMENTS,
    Report,
    Sale,
    plant_sale,
    refresh,
    rows,
)
from tests.support import analytics_law
from tests.support.databases import TestDatabase
from tests.support.processes import eventually

JANUARY, FEBRUARY = datetime(2026, 1, 15, 12, tzinfo=UTC), datetime(2026, 2, 14, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAYS = ("accesses_per_day", "accesses_per_week")
ROLLUP = "SELECT day, accesses, reports FROM analytics.access_days ORDER BY day"
AWAY = """
    INSERT INTO carnivore.archived_partitions (parent, month, part, file_url, detached_at)
    VALUES ('public.report_access_log', %s, 1, 'file:///archive/1', now())
"""

Rows = list[tuple[object, ...]]


@pytest.fixture
def owner(module_database: TestDatabase) -> Iterator[psycopg.Connection]:
    """The migrating role, whose changes are taken back."""
    with module_database.connect(module_database.shape.migrator) as connection:
        yield connection
        connection.rollback()


def sold(connection: psycopg.Connection, *moments: datetime, is_test: bool = False) -> None:
    plant_sale(connection, Sale("keto", "completed", JANUARY, (Report(JANUARY, moments),)), is_test=is_test)


def rollup(connection: psycopg.Connection) -> Rows:
    return connection.execute(ROLLUP).fetchall()


def test_a_day_is_written_when_it_is_counted_and_taken_out_when_it_is_empty(
    owner: psycopg.Connection,
) -> None:
    sold(owner, JANUARY, JANUARY + HOUR, FEBRUARY)
    sold(owner, JANUARY)
    assert rollup(owner) == []
    assert refresh(owner) == 2
    assert rollup(owner) == [(JANUARY.date(), 3, 2), (FEBRUARY.date(), 1, 1)]
    owner.execute("DELETE FROM public.generated_reports WHERE id = (SELECT min(id) FROM generated_reports)")
    assert refresh(owner) == 2
    assert rollup(owner) == [(JANUARY.date(), 1, 1)]
    owner.execute("DELETE FROM public.generated_reports")
    assert refresh(owner) == 1
    assert rollup(owner) == []
    assert refresh(owner) == 0


def test_a_month_is_counted_alone(owner: psycopg.Connection) -> None:
    sold(owner, JANUARY, FEBRUARY)
    assert refresh(owner, "2026-02-28") == 1
    assert rollup(owner) == [(FEBRUARY.date(), 1, 1)]
    first, tick = datetime(2026, 2, 1, tzinfo=UTC), timedelta(microseconds=1)
    sold(
        owner, first - tick, first, datetime(2026, 3, 1, tzinfo=UTC) - tick, datetime(2026, 3, 1, tzinfo=UTC)
    )
    owner.execute("SET LOCAL TimeZone = 'Pacific/Auckland'")
    assert refresh(owner, "2026-02-01") == 3
    assert rollup(owner) == [(date(2026, 2, 1), 1, 1), (FEBRUARY.date(), 1, 1), (date(2026, 2, 28), 1, 1)]
    owner.execute("DELETE FROM public.generated_reports")
    assert refresh(owner, "2026-01-01") == 0  # nothing of another month goes
    assert len(rollup(owner)) == 3


@pytest.mark.parametrize("month", ["0001-01-01", "9999-12-31", "infinity"])
def test_the_ends_of_the_calendar_are_months_too(owner: psycopg.Connection, month: str) -> None:
    sold(owner, JANUARY)
    refresh(owner)
    assert refresh(owner, month) == 0
    assert rollup(owner) == [(JANUARY.date(), 1, 1)]


def test_rows_without_a_month_of_their_own_are_counted(owner: psycopg.Connection) -> None:
    sold(owner, datetime(2001, 1, 1, tzinfo=UTC), datetime(2077, 7, 1, tzinfo=UTC))
    refresh(owner)
    assert rollup(owner) == [(date(2001, 1, 1), 1, 1), (date(2077, 7, 1), 1, 1)]


def test_what_turns_out_to_be_test_data_is_taken_out_and_put_back(owner: psycopg.Connection) -> None:
    sold(owner, JANUARY, FEBRUARY)
    sold(owner, JANUARY)
    refresh(owner)
    for is_test, accesses in ((True, []), (False, [(JANUARY.date(), 2, 2), (FEBRUARY.date(), 1, 1)])):
        owner.execute("UPDATE public.user_sessions SET is_test = %s", [is_test])
        refresh(owner)
        assert rollup(owner) == accesses


def test_each_day_says_when_it_was_counted(module_database: TestDatabase) -> None:
    with module_database.connect(module_database.shape.migrator, autocommit=True) as connection:
        sold(connection, JANUARY, FEBRUARY)
        try:
            refresh(connection)
            (before,) = connection.execute("SELECT clock_timestamp()").fetchone() or (None,)
            refresh(connection, "2026-02-01")  # nothing changed, and that is known now
            (after,) = connection.execute("SELECT clock_timestamp()").fetchone() or (None,)
            counted = connection.execute("SELECT counted_at FROM analytics.accesses_per_day ORDER BY day")
            (january,), (february,) = counted.fetchall()
            assert january < before < february < after
            weeks = connection.execute(
                "SELECT week, counted_at FROM analytics.accesses_per_week ORDER BY week"
            )
            assert [moment for _, moment in weeks] == [january, february]
        finally:
            connection.execute("DELETE FROM public.user_sessions; DELETE FROM analytics.access_days")


def test_a_week_is_as_old_as_its_oldest_day(owner: psycopg.Connection) -> None:
    owner.execute(
        "INSERT INTO analytics.access_days VALUES"
        " ('2026-01-31', 1, 1, '2026-03-01'), ('2026-02-01', 2, 1, '2026-04-01')"
    )
    found = owner.execute(
        "SELECT week, accesses, report_days, counted_at::date::text FROM analytics.accesses_per_week"
    )
    assert found.fetchall() == [(date(2026, 1, 26), 3, 2, "2026-03-01")]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(MOMENTS, max_size=6), max_size=5), st.lists(st.booleans(), min_size=5, max_size=5))
def test_after_a_refresh_the_sum_is_that_of_the_log(
    owner: psycopg.Connection, reports: list[list[datetime]], trials: list[bool]
) -> None:
    for moments, is_test in zip(reports, trials, strict=False):
        sold(owner, *moments, is_test=is_test)
    refresh(owner)
    counted = [
        moment for moments, is_test in zip(reports, trials, strict=False) if not is_test for moment in moments
    ]
    assert sum(row[1] for row in rollup(owner)) == len(counted)  # type: ignore[misc]
    assert {row[0] for row in rollup(owner)} == {moment.date() for moment in counted}
    assert analytics_law.shown(rows(owner), DAYS) == analytics_law.counted(rows(owner), DAYS)
    owner.rollback()


def archive(connection: psycopg.Connection) -> None:
    """January's partition leaves, as its ledger says."""
    connection.execute(
        "ALTER TABLE public.report_access_log DETACH PARTITION public.report_access_log_2026_01"
    )
    connection.execute(AWAY, ["2026-01-01"])


@pytest.mark.parametrize("month", [None, "2026-01-01"])
def test_a_month_in_cold_storage_keeps_its_days(owner: psycopg.Connection, month: str | None) -> None:
    sold(owner, JANUARY, JANUARY + HOUR, FEBRUARY)
    refresh(owner)
    before = rollup(owner)
    archive(owner)
    refresh(owner, month)
    assert rollup(owner) == before
    owner.execute("DELETE FROM public.generated_reports")
    refresh(owner)
    assert rollup(owner) == before[:1]  # what is in the archive can be counted no more


@pytest.mark.parametrize("months", [[], ["2026-01-01"]], ids=["in DEFAULT", "in a new partition"])
def test_late_rows_of_a_month_in_cold_storage_do_not_replace_it(
    owner: psycopg.Connection, months: list[str]
) -> None:
    sold(owner, JANUARY, JANUARY + HOUR)
    refresh(owner)
    before = rollup(owner)
    archive(owner)
    owner.execute("ALTER TABLE public.report_access_log_2026_01 RENAME TO gone")
    for month in months:
        owner.execute("SELECT carnivore.create_partition('public.report_access_log', %s)", [month])
    sold(owner, JANUARY, JANUARY + timedelta(days=3), FEBRUARY)
    refresh(owner)
    assert rollup(owner) == [*before, (FEBRUARY.date(), 1, 1)]


def test_a_month_that_came_back_is_counted_again(owner: psycopg.Connection) -> None:
    sold(owner, JANUARY, JANUARY + HOUR)
    refresh(owner)
    archive(owner)
    owner.execute(
        "ALTER TABLE public.report_access_log ATTACH PARTITION public.report_access_log_2026_01"
        " FOR VALUES FROM ('2026-01-01 00:00+00') TO ('2026-02-01 00:00+00');"
        "UPDATE carnivore.archived_partitions SET restored_as = 'public.report_access_log_2026_01'"
    )
    sold(owner, JANUARY)
    refresh(owner)
    assert rollup(owner) == [(JANUARY.date(), 3, 2)]
    archived = "UPDATE carnivore.archived_partitions SET {} WHERE month = '2026-01-01'"
    for still_there in (
        "detached_at = NULL, restored_as = NULL",
        "parent = 'conversation.logs', detached_at = now()",
    ):
        owner.execute(archived.format(still_there))
        sold(owner, JANUARY)
        refresh(owner)
    assert rollup(owner) == [(JANUARY.date(), 5, 4)]


def test_two_at_once_count_one_after_the_other(module_database: TestDatabase) -> None:
    """The second sees what the first has written, and what was logged meanwhile."""
    migrator = module_database.shape.migrator
    with (
        module_database.connect(migrator) as one,
        module_database.connect(migrator, autocommit=True) as other,
        module_database.connect(autocommit=True) as watch,
    ):
        try:
            sold(watch, JANUARY)
            refresh(one)
            days: list[int] = []
            waiting = threading.Thread(target=lambda: days.append(refresh(other)))
            waiting.start()
            blocked = "SELECT FROM pg_locks WHERE NOT granted AND pid = %s AND locktype = 'advisory'"
            assert eventually(lambda: watch.execute(blocked, [other.info.backend_pid]).fetchone() is not None)
            assert not days
            sold(watch, JANUARY, FEBRUARY)
            one.commit()
            waiting.join(30)
            assert days == [2]
            assert rollup(watch) == [(JANUARY.date(), 2, 2), (FEBRUARY.date(), 1, 1)]
        finally:
            watch.execute("DELETE FROM public.user_sessions; DELETE FROM analytics.access_days")


def test_every_month_that_the_log_or_the_rollup_has_is_counted(owner: psycopg.Connection) -> None:
    sold(owner, JANUARY, FEBRUARY)
    owner.execute(
        "INSERT INTO analytics.access_days VALUES ('2025-11-30', 1, 1, now()), ('2026-01-02', 1, 1, now())"
    )
    assert refresh(owner) == 4
    assert rollup(owner) == [(JANUARY.date(), 1, 1), (FEBRUARY.date(), 1, 1)]


@pytest.mark.parametrize("role", ["reporting", "service_role", "authenticated", "anon"])
def test_nobody_but_the_owner_may_have_it_counted(connection: psycopg.Connection, role: str) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute(f"SET LOCAL ROLE {role}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            refresh(connection)
