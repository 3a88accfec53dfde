"""The rollup of the access log behind the views of the schema analytics: a month's last count.

`analytics.refresh` counts all others; a job of the database calls it.
"""

from datetime import date

from sqlalchemy import Connection, text

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


def settle(connection: Connection, month: date, table: str) -> None:
    """Count the days of a month (its first day, UTC) for the last time, from `table`: the qualified name of
    the partition that has left the log, to which nobody can add any more. Call it in a transaction, as the
    migrating role. Nothing changes when other files in the archive have rows of the month.
    """
    connection.execute(text(_SETTLE.format(table=table)), {"month": month, "table": table})
