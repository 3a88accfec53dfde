"""The rollup of the access log behind the views of the schema analytics, and its refresh."""

from collections.abc import Callable
from datetime import date

from sqlalchemy import Connection, Engine, text

_MONTHS = text("""
    SELECT DISTINCT CAST(date_trunc('month', accessed_at AT TIME ZONE 'UTC') AS date) AS month
    FROM public.report_access_log
    UNION SELECT CAST(date_trunc('month', CAST(day AS timestamp)) AS date) FROM analytics.access_days
    ORDER BY month
""")
_REFRESH = text("SELECT analytics.refresh(CAST(:month AS date))")
# As analytics.refresh counts, of a table that has left the log. Where other files have rows of the month too,
# the days are theirs already, and a report may have been opened in both: no sum is right.
_SETTLE = """
    WITH counted AS MATERIALIZED (
        SELECT opened.day, CAST(sum(opened.accesses) AS bigint) AS accesses, count(*) AS reports
        FROM (
            SELECT CAST(access.accessed_at AT TIME ZONE 'UTC' AS date) AS day, access.report_id,
                count(*) AS accesses
            FROM {table} AS access
            WHERE NOT EXISTS (
                SELECT FROM public.generated_reports AS report
                JOIN public.user_sessions AS session ON session.id = report.session_id
                WHERE report.id = access.report_id AND session.is_test)
            GROUP BY day, access.report_id
        ) AS opened
        GROUP BY opened.day
    ), whole AS MATERIALIZED (
        SELECT NOT EXISTS (
            SELECT FROM carnivore.archived_partitions AS other
            WHERE other.parent = 'public.report_access_log' AND other.month = :month
                AND other.rows > 0
                AND other.restored_as IS DISTINCT FROM CAST(:table AS regclass)) AS is_whole
    ), gone AS (
        DELETE FROM analytics.access_days AS d USING whole
        WHERE whole.is_whole AND d.day >= :month AND d.day < :month + interval '1 month'
            AND NOT EXISTS (SELECT FROM counted WHERE counted.day = d.day)
    )
    INSERT INTO analytics.access_days (day, accesses, reports, counted_at)
    SELECT counted.day, counted.accesses, counted.reports, now() FROM counted JOIN whole ON whole.is_whole
    ON CONFLICT (day) DO UPDATE SET accesses = excluded.accesses, reports = excluded.reports,
        counted_at = excluded.counted_at
"""


def refresh(engine: Engine, *, on_step: Callable[[date, int], None] | None = None) -> int:
    """Count the days of every month anew, each month in a transaction of its own, as the migrating role.

    `on_step` is told each month (UTC) and how many days were written or taken out. Returns how many in all.
    Any number may run at once: each waits for the other's month. A month in cold storage keeps its days.
    """
    # The ledger and the log must be seen as they are when the lock is had.
    committed = engine.execution_options(isolation_level="READ COMMITTED")
    with committed.connect() as connection:
        months = connection.scalars(_MONTHS).all()
    total = 0
    for month in months:
        with committed.begin() as connection:
            days: int = connection.execute(_REFRESH, {"month": month}).scalar_one()
        total += days
        if on_step is not None:
            on_step(month, days)
    return total


def settle(connection: Connection, month: date, table: str) -> None:
    """Count the days of a month (its first day, UTC) for the last time, from `table`: the qualified name of
    the partition that has left the log, to which nobody can add any more. Call it in a transaction, as the
    migrating role. Nothing changes when other files in the archive have rows of the month.
    """
    connection.execute(text(_SETTLE.format(table=table)), {"month": month, "table": table})
