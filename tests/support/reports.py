"""Reports made by plain SQL, for tests that count accesses."""

import psycopg

# The law of the counters, in one snapshot: every report whose column and pending deltas do not add up
# to its rows, or whose latest access is not the latest row's.
BROKEN = """
    SELECT report.id, counts.access_count, coalesce(log.rows, 0) AS rows,
        counts.last_accessed_at, greatest(log.latest, report.created_at) AS latest
    FROM public.generated_reports AS report
    JOIN public.report_access_counts AS counts ON counts.report_id = report.id
    LEFT JOIN (
        SELECT report_id, count(*) AS rows, max(accessed_at) AS latest
        FROM public.report_access_log GROUP BY report_id
    ) AS log ON log.report_id = report.id
    WHERE counts.access_count <> coalesce(log.rows, 0)
        OR counts.last_accessed_at IS DISTINCT FROM
            CASE WHEN log.rows > 0 THEN greatest(log.latest, report.created_at) END
"""


def make(connection: psycopg.Connection, number: int) -> dict[int, str]:
    """`number` reports of one session; returns their tokens by id."""
    row = connection.execute(
        "INSERT INTO public.user_sessions (email, path_choice, macro_data)"
        " VALUES ('ada@example.com', 'keto', '{}') RETURNING id"
    ).fetchone()
    assert row is not None
    made = connection.execute(
        "INSERT INTO public.generated_reports"
        " (session_id, access_token, report_html, questionnaire_data, expires_at)"
        " SELECT %s, encode(extensions.gen_random_bytes(32), 'hex'), '<p>page</p>', '{}',"
        " now() + interval '1 day' FROM generate_series(1, %s) RETURNING id, access_token",
        [row[0], number],
    )
    return dict(made.fetchall())
