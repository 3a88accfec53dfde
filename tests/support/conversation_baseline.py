"""A living chat at revision conversation_baseline: many people, and the flaws that its refinement repairs."""

import psycopg

# One draw for each session; messages, counts and logs refer to it. People are drawn with a skew: a few play
# all the time, some never. The first session of each third person is open, all others are completed.
DRAWN = """
    CREATE TEMPORARY TABLE drawn ON COMMIT DROP AS
    WITH week AS (
        SELECT date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS monday
    ), lots AS MATERIALIZED (
        SELECT n, floor(random() ^ 3 * %(profiles)s)::integer + 1 AS person,
            random() AS past, random() AS took, floor(random() * 20)::integer AS flaw
        FROM generate_series(1, %(sessions)s) AS n
    ), placed AS (
        SELECT lots.*, CASE WHEN n %% 10 = 0 THEN monday + past * (now() - monday)
                ELSE monday - past * interval '400 days' END AS started_at,
            person %% 3 <> 0 OR row_number() OVER (PARTITION BY person ORDER BY n) > 1 AS is_completed
        FROM lots, week
    )
    SELECT n, md5('session ' || n)::uuid AS id, md5('person ' || person)::uuid AS user_id, flaw, is_completed,
        started_at, least(started_at + took * interval '3 hours', now()) AS ended_at
    FROM placed
"""
# Several messages of a session have the same time. Some are empty, some as long as they may become.
MESSAGES = """
    INSERT INTO conversation.messages (id, session_id, role, chat_type, content, "timestamp", created_at)
    WITH lots AS MATERIALIZED (
        SELECT n, floor(random() ^ 2 * %(sessions)s)::integer + 1 AS session,
            floor(random() * 4)::integer + 1 AS kind, floor(random() * 20) / 20 AS moment, random() AS delay
        FROM generate_series(1, %(messages)s) AS n
    )
    SELECT md5('message ' || lots.n)::uuid, drawn.id, (ARRAY['scenario', 'user', 'user', 'helper'])[kind],
        (ARRAY['main', 'main', 'helper', 'helper'])[kind],
        CASE WHEN lots.n %% 1000 = 0 THEN '' WHEN lots.n %% 1000 = 500 THEN repeat('ß', 8000)
            ELSE 'Satz ' || lots.n || E':\\n' || repeat('Grüß Gott! 🥨 ', lots.n %% 13) END,
        said.at, said.at + delay * interval '1 second'
    FROM lots JOIN drawn ON drawn.n = lots.session,
        LATERAL (SELECT started_at + moment * (ended_at - started_at) AS at) AS said
"""
# Of twenty sessions twelve are as they should be.
SESSIONS = """
    INSERT INTO conversation.sessions (id, user_id, scenario_id, is_completed, started_at, last_activity_at,
        completed_at, message_count_main, message_count_helper, duration_seconds, created_at, updated_at)
    WITH counted AS (
        SELECT session_id, count(*) FILTER (WHERE chat_type = 'main') AS main,
            count(*) FILTER (WHERE chat_type = 'helper') AS helper
        FROM conversation.messages GROUP BY session_id
    )
    SELECT id, user_id, (ARRAY[1, 1, 1, 1, 2, 2, 3])[n %% 7 + 1], is_completed, started_at,
        CASE flaw WHEN 1 THEN started_at - interval '1 minute' ELSE ended_at END,
        CASE WHEN is_completed <> (flaw IN (0, 1)) THEN
            CASE flaw WHEN 2 THEN started_at - interval '1 hour' ELSE ended_at END END,
        coalesce(main, 0) + (CASE flaw WHEN 6 THEN 3 WHEN 7 THEN -5 ELSE 0 END),
        coalesce(helper, 0) + (CASE flaw WHEN 6 THEN -1 WHEN 7 THEN 2 ELSE 0 END),
        CASE WHEN is_completed THEN
            CASE WHEN flaw IN (0, 1, 3) THEN NULL WHEN flaw = 2 THEN -3600
                WHEN flaw = 4 THEN floor(extract(epoch FROM ended_at - started_at)) + 60
                WHEN flaw = 5 THEN ceil(extract(epoch FROM ended_at - started_at))
                ELSE floor(extract(epoch FROM ended_at - started_at)) END
            WHEN flaw = 4 THEN 90 END,
        started_at + n %% 3 * interval '1 second', ended_at
    FROM drawn LEFT JOIN counted ON counted.session_id = drawn.id
"""
LOGINS = """
    INSERT INTO auth.users (id, email)
    SELECT md5('person ' || n)::uuid, CASE n %% 4 WHEN 0 THEN 'person.' || n || '@example.com'
        WHEN 1 THEN 'Person.' || n || '@Example.com' WHEN 2 THEN 'PERSON.' || n || '@EXAMPLE.COM'
        ELSE 'pErSoN.' || n || '@exAmple.com' END
    FROM generate_series(1, %(profiles)s) AS n
"""
# Of six people one is as they should be. The others' counts have drifted, or their week was set seven days
# ahead, or nobody has reset it for weeks.
PROFILES = """
    INSERT INTO conversation.profiles (id, email, completed_scenario_count, current_week_completion_count,
        week_reset_date, created_at, updated_at)
    WITH week AS (
        SELECT date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS monday
    ), ended AS (
        SELECT user_id, CASE WHEN completed_at >= started_at THEN completed_at
            ELSE greatest(started_at, last_activity_at) END AS at
        FROM conversation.sessions WHERE is_completed
    ), counted AS (
        SELECT user_id, count(*) AS total, count(*) FILTER (WHERE at >= monday) AS this_week
        FROM ended, week GROUP BY user_id
    )
    SELECT person.id, person.email, coalesce(total, 0) + (CASE n %% 6 WHEN 1 THEN 2 ELSE 0 END),
        coalesce(this_week, 0) + (CASE WHEN n %% 6 IN (2, 4) THEN 1 ELSE 0 END),
        CASE n %% 6 WHEN 3 THEN now() + interval '7 days' WHEN 4 THEN monday - interval '14 days'
            WHEN 5 THEN monday - interval '20 days 3 hours' ELSE monday + interval '7 days' END,
        monday - interval '500 days', monday - interval '1 day'
    FROM generate_series(1, %(profiles)s) AS n
        JOIN auth.users AS person ON person.id = md5('person ' || n)::uuid
        LEFT JOIN counted ON counted.user_id = person.id, week
"""
# The document's; those of later revisions are none of the baseline's.
EVENT_TYPES = (
    *("api_call_started", "api_call_completed", "api_call_failed", "api_call_timeout", "api_retry_attempted"),
    *("user_registered", "user_login_success", "user_login_failed", "user_logout", "session_expired"),
    *("account_deleted", "scenario_started", "scenario_completed", "scenario_abandoned", "session_created"),
    *("session_restored", "session_expiration_cleanup", "rate_limit_checked", "rate_limit_exceeded"),
    *("weekly_limit_reset", "database_error", "cleanup_job_executed", "unknown_error"),
)
# Over fourteen months and a few of long ago; with metadata of every kind.
LOGS = """
    INSERT INTO conversation.logs (id, level, event_type, user_id, session_id, metadata, created_at)
    WITH lots AS MATERIALIZED (
        SELECT n, floor(random() * %(sessions)s)::integer + 1 AS session, random() AS past,
            floor(random() * 23)::integer + 1 AS event
        FROM generate_series(1, %(logs)s) AS n
    )
    SELECT md5('log ' || lots.n)::uuid, (ARRAY['info', 'info', 'debug', 'warn', 'error'])[lots.n %% 5 + 1],
        (%(types)s::text[])[event],
        CASE WHEN lots.n %% 4 <> 0 THEN drawn.user_id END, CASE WHEN lots.n %% 8 < 6 THEN drawn.id END,
        CASE lots.n %% 9 WHEN 0 THEN NULL WHEN 1 THEN '[1, "zwei"]'::jsonb WHEN 2 THEN '"text"'::jsonb
            ELSE jsonb_build_object('attempt', lots.n %% 3, 'model', 'model-' || lots.n %% 5,
                'request', md5(lots.n::text)) END,
        CASE lots.n %% 1000 WHEN 1 THEN '2001-01-01 00:00+00' ELSE now() - past * interval '425 days' END
    FROM lots JOIN drawn ON drawn.n = lots.session
"""


def fill(connection: psycopg.Connection, *, profiles: int, sessions: int, messages: int, logs: int) -> None:
    """Put so many rows into each table, in one transaction; the same at every call, as seen from the present.

    The connection is a superuser's: no trigger counts the messages one by one, and no key is looked up.
    """
    values = {"profiles": profiles, "sessions": sessions, "messages": messages, "logs": logs}
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("SELECT setseed(0.2026)")
        for statement in (DRAWN, MESSAGES, SESSIONS, LOGINS, PROFILES, LOGS):
            connection.execute(statement, values | {"types": list(EVENT_TYPES)})
        for table in values:
            connection.execute(f"ANALYZE conversation.{table}")
