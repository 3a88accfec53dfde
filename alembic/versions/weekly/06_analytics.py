"""Document 012, last part: views for dashboards, for the role reporting alone.

Why: document 012 promises a month of accesses by day in 50 ms and leaves the queries, and the alerts for abnormal
access, to whoever has the time. Counting ten million accesses takes seconds, and whoever may count them in the log may
read addresses, tokens and pages too. Here the days are counted beforehand and say when; the views show counts, ids of
reports and days, nothing of a person, and run with their owner's rights: the role needs none on any table.
"""

from alembic import op

revision = "012_analytics"
down_revision = "stripe_events"
branch_labels = None
depends_on = None

# Of the cluster, as the platform's roles are: another database may use it, so the downgrade keeps it.
ROLE = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'reporting') THEN
        CREATE ROLE reporting NOLOGIN NOINHERIT;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    RAISE NOTICE 'role reporting was made by another migration just now';
END
$$;
"""

SCHEMA = """
CREATE SCHEMA analytics;
COMMENT ON SCHEMA analytics IS 'Counts for dashboards, without test data and without anything of a person.';
GRANT USAGE ON SCHEMA analytics TO reporting, service_role;
"""

ACCESS_DAYS = """
CREATE TABLE analytics.access_days (
    day date NOT NULL,
    accesses bigint NOT NULL,
    reports bigint NOT NULL,
    counted_at timestamptz NOT NULL,
    CONSTRAINT access_days_pkey PRIMARY KEY (day),
    CONSTRAINT reports_within_accesses CHECK (reports >= 1 AND reports <= accesses)
);
COMMENT ON TABLE analytics.access_days IS 'Accesses by day, counted beforehand; analytics.refresh counts again.';
COMMENT ON COLUMN analytics.access_days.day IS 'The day, in UTC; one without accesses has no row.';
COMMENT ON COLUMN analytics.access_days.accesses IS 'How often reports were opened.';
COMMENT ON COLUMN analytics.access_days.reports IS 'How many different reports.';
COMMENT ON COLUMN analytics.access_days.counted_at IS 'What was logged by this moment is counted.';
COMMENT ON INDEX analytics.access_days_pkey IS 'Identity.';
-- No policy: the owner alone reads and writes it.
ALTER TABLE analytics.access_days ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON analytics.access_days FROM PUBLIC, anon, authenticated, service_role, reporting;

-- With its caller's rights, who is the owner. Months in cold storage keep their days: their rows are not here to be
-- counted, and late ones alone would replace them.
CREATE FUNCTION analytics.refresh(month date DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    first timestamp := date_trunc('month', month::timestamp);
    since timestamptz := coalesce(first AT TIME ZONE 'UTC', '-infinity');
    until timestamptz := coalesce((first + interval '1 month') AT TIME ZONE 'UTC', 'infinity');
    changed integer;
BEGIN
    -- One at a time: the second counts when the first has committed.
    PERFORM pg_advisory_xact_lock('analytics.access_days'::regclass::oid::bigint);
    -- No month leaves the table between a look into the ledger and the counting.
    LOCK TABLE public.report_access_log IN ACCESS SHARE MODE;
    WITH away AS MATERIALIZED (
        SELECT ledger.month FROM carnivore.archived_partitions AS ledger
        WHERE ledger.parent = 'public.report_access_log' AND ledger.detached_at IS NOT NULL
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_class AS restored WHERE restored.oid = ledger.restored_as)
    ), counted AS MATERIALIZED (
        SELECT opened.day, sum(opened.accesses)::bigint AS accesses, count(*) AS reports
        FROM (
            SELECT (access.accessed_at AT TIME ZONE 'UTC')::date AS day, access.report_id, count(*) AS accesses
            FROM public.report_access_log AS access
            WHERE access.accessed_at >= since AND access.accessed_at < until
                AND NOT EXISTS (
                    SELECT FROM public.generated_reports AS report
                    JOIN public.user_sessions AS session ON session.id = report.session_id
                    WHERE report.id = access.report_id AND session.is_test)
            GROUP BY day, access.report_id
        ) AS opened
        WHERE date_trunc('month', opened.day::timestamp)::date NOT IN (SELECT away.month FROM away)
        GROUP BY opened.day
    ), gone AS (
        DELETE FROM analytics.access_days AS d
        WHERE d.day::timestamp AT TIME ZONE 'UTC' >= since AND d.day::timestamp AT TIME ZONE 'UTC' < until
            AND date_trunc('month', d.day::timestamp)::date NOT IN (SELECT away.month FROM away)
            AND NOT EXISTS (SELECT FROM counted WHERE counted.day = d.day)
        RETURNING d.day
    ), written AS (
        INSERT INTO analytics.access_days AS d (day, accesses, reports, counted_at)
        SELECT counted.day, counted.accesses, counted.reports, now() FROM counted
        ON CONFLICT (day) DO UPDATE SET accesses = excluded.accesses, reports = excluded.reports,
            counted_at = excluded.counted_at
        RETURNING d.day
    )
    SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM written) INTO changed;
    RETURN changed;
END
$$;
COMMENT ON FUNCTION analytics.refresh(date) IS 'Counts the days of a month (UTC) anew, or of all months; returns how many days it wrote or took out.';
"""

ACCESSES = """
CREATE VIEW analytics.accesses_per_day WITH (security_barrier = true) AS
SELECT days.day, days.accesses, days.reports, days.counted_at
FROM analytics.access_days AS days;
COMMENT ON VIEW analytics.accesses_per_day IS 'Accesses by day.';
COMMENT ON COLUMN analytics.accesses_per_day.day IS 'The day, in UTC; one without accesses has no row.';
COMMENT ON COLUMN analytics.accesses_per_day.accesses IS 'How often reports were opened.';
COMMENT ON COLUMN analytics.accesses_per_day.reports IS 'How many different reports.';
COMMENT ON COLUMN analytics.accesses_per_day.counted_at IS 'What was logged by this moment is counted.';

-- By way of a timestamp: weeks are UTC's in any session.
CREATE VIEW analytics.accesses_per_week WITH (security_barrier = true) AS
SELECT days.week,
    sum(days.accesses)::bigint AS accesses,
    sum(days.reports)::bigint AS report_days,
    min(days.counted_at) AS counted_at
FROM (
    SELECT date_trunc('week', d.day::timestamp)::date AS week, d.accesses, d.reports, d.counted_at
    FROM analytics.access_days AS d
) AS days
GROUP BY days.week;
COMMENT ON VIEW analytics.accesses_per_week IS 'Accesses by week.';
COMMENT ON COLUMN analytics.accesses_per_week.week IS 'The Monday, in UTC.';
COMMENT ON COLUMN analytics.accesses_per_week.accesses IS 'How often reports were opened.';
COMMENT ON COLUMN analytics.accesses_per_week.report_days IS 'Different reports of each day, added up: one opened on two days counts twice.';
COMMENT ON COLUMN analytics.accesses_per_week.counted_at IS 'What was logged by this moment is counted.';

-- As report_access_counts has it, which asks with its caller's rights, however it is asked.
CREATE VIEW analytics.accesses_per_report WITH (security_barrier = true) AS
SELECT report.id AS report_id,
    session.path_choice,
    (report.created_at AT TIME ZONE 'UTC')::date AS created_on,
    (report.expires_at AT TIME ZONE 'UTC')::date AS expires_on,
    report.access_count + coalesce(pending.accesses, 0) AS accesses,
    (
        SELECT CASE WHEN count(*) = report.access_count + coalesce(pending.accesses, 0)
            THEN (min(access.accessed_at) AT TIME ZONE 'UTC')::date END
        FROM public.report_access_log AS access WHERE access.report_id = report.id
    ) AS first_access,
    (CASE WHEN pending.latest IS NULL THEN report.last_accessed_at
        ELSE greatest(report.last_accessed_at, pending.latest, report.created_at)
    END AT TIME ZONE 'UTC')::date AS last_access
FROM public.generated_reports AS report
JOIN public.user_sessions AS session ON session.id = report.session_id
LEFT JOIN LATERAL (
    SELECT sum(delta.access_count)::bigint AS accesses, max(delta.last_accessed_at) AS latest
    FROM public.report_access_pending AS delta WHERE delta.report_id = report.id
) AS pending ON true
WHERE NOT session.is_test;
COMMENT ON VIEW analytics.accesses_per_report IS 'Accesses by report, exact at every moment, those in cold storage included.';
COMMENT ON COLUMN analytics.accesses_per_report.report_id IS 'The report.';
COMMENT ON COLUMN analytics.accesses_per_report.path_choice IS 'The diet that its session chose.';
COMMENT ON COLUMN analytics.accesses_per_report.created_on IS 'The day (UTC) when it was made.';
COMMENT ON COLUMN analytics.accesses_per_report.expires_on IS 'The day (UTC) when access ends or ended.';
COMMENT ON COLUMN analytics.accesses_per_report.accesses IS 'How often it was opened.';
COMMENT ON COLUMN analytics.accesses_per_report.first_access IS 'The day (UTC) of the first access; NULL without any, and where some are in cold storage.';
COMMENT ON COLUMN analytics.accesses_per_report.last_access IS 'The day (UTC) of the latest, never before the report''s creation.';
"""

SALES = """
CREATE VIEW analytics.paths WITH (security_barrier = true) AS
SELECT session.path_choice,
    count(*) AS sessions,
    count(*) FILTER (WHERE session.payment_status IN ('completed', 'refunded')) AS paid,
    count(*) FILTER (WHERE session.payment_status = 'refunded') AS refunded,
    coalesce(sum(made.reports), 0)::bigint AS reports,
    coalesce(sum(made.opened), 0)::bigint AS opened
FROM public.user_sessions AS session
LEFT JOIN (
    SELECT report.session_id, count(*) AS reports,
        count(*) FILTER (WHERE report.access_count > 0 OR report.id IN (
            SELECT pending.report_id FROM public.report_access_pending AS pending)) AS opened
    FROM public.generated_reports AS report
    GROUP BY report.session_id
) AS made ON made.session_id = session.id
WHERE NOT session.is_test
GROUP BY session.path_choice;
COMMENT ON VIEW analytics.paths IS 'What became of the sessions of each diet.';
COMMENT ON COLUMN analytics.paths.path_choice IS 'The chosen diet.';
COMMENT ON COLUMN analytics.paths.sessions IS 'How many sessions.';
COMMENT ON COLUMN analytics.paths.paid IS 'How many of them were paid, those refunded since included.';
COMMENT ON COLUMN analytics.paths.refunded IS 'How many of the paid ones were refunded.';
COMMENT ON COLUMN analytics.paths.reports IS 'How many reports they have; those that expired and were deleted do not count.';
COMMENT ON COLUMN analytics.paths.opened IS 'How many of the reports were opened.';

CREATE VIEW analytics.conversion WITH (security_barrier = true) AS
SELECT steps.month, steps.path_choice, steps.sessions, steps.paid, steps.refunded, steps.with_report, steps.opened,
    round(steps.paid::numeric / steps.sessions, 4) AS paid_share,
    round(steps.with_report::numeric / nullif(steps.paid, 0), 4) AS report_share,
    round(steps.opened::numeric / nullif(steps.with_report, 0), 4) AS opened_share
FROM (
    SELECT session.month,
        session.path_choice,
        count(*) AS sessions,
        count(*) FILTER (WHERE session.paid) AS paid,
        count(*) FILTER (WHERE session.refunded) AS refunded,
        count(made.session_id) FILTER (WHERE session.paid) AS with_report,
        count(*) FILTER (WHERE session.paid AND made.opened) AS opened
    FROM (
        SELECT s.id, date_trunc('month', s.created_at AT TIME ZONE 'UTC')::date AS month, s.path_choice,
            s.payment_status IN ('completed', 'refunded') AS paid, s.payment_status = 'refunded' AS refunded
        FROM public.user_sessions AS s WHERE NOT s.is_test
    ) AS session
    LEFT JOIN (
        SELECT report.session_id,
            bool_or(report.access_count > 0 OR report.id IN (
                SELECT pending.report_id FROM public.report_access_pending AS pending)) AS opened
        FROM public.generated_reports AS report
        GROUP BY report.session_id
    ) AS made ON made.session_id = session.id
    GROUP BY session.month, session.path_choice
) AS steps;
COMMENT ON VIEW analytics.conversion IS 'From session to paid to report to opened, by the month of the session and by diet; each step is a part of the one before.';
COMMENT ON COLUMN analytics.conversion.month IS 'The first day (UTC) of the month in which the sessions began.';
COMMENT ON COLUMN analytics.conversion.path_choice IS 'The chosen diet.';
COMMENT ON COLUMN analytics.conversion.sessions IS 'How many sessions.';
COMMENT ON COLUMN analytics.conversion.paid IS 'How many of them were paid, those refunded since included.';
COMMENT ON COLUMN analytics.conversion.refunded IS 'How many of the paid ones were refunded.';
COMMENT ON COLUMN analytics.conversion.with_report IS 'How many of the paid ones have a report; those that expired and were deleted do not count.';
COMMENT ON COLUMN analytics.conversion.opened IS 'How many of these opened one.';
COMMENT ON COLUMN analytics.conversion.paid_share IS 'Paid, of the sessions: 0 to 1.';
COMMENT ON COLUMN analytics.conversion.report_share IS 'With a report, of the paid ones: 0 to 1; NULL when none was paid.';
COMMENT ON COLUMN analytics.conversion.opened_share IS 'Opened, of those with a report: 0 to 1; NULL when there is none.';

-- These sessions have no mark of their own: Stripe's test mode and the report's session tell.
CREATE VIEW analytics.calculator_funnel WITH (security_barrier = true) AS
SELECT form.day,
    count(*) AS started,
    count(form.pricing_tier) AS tier_chosen,
    count(*) FILTER (WHERE form.payment_status IN ('completed', 'refunded')) AS paid,
    count(*) FILTER (WHERE form.payment_status = 'refunded') AS refunded,
    count(form.report_token) AS with_report
FROM (
    SELECT (f.created_at AT TIME ZONE 'UTC')::date AS day, f.pricing_tier, f.payment_status, f.report_token
    FROM public.calculator2_sessions AS f
    WHERE NOT EXISTS (
            SELECT FROM public.stripe_events AS event
            WHERE event.session_table = 'calculator2_sessions' AND event.session_key = f.id::text
                AND NOT event.livemode)
        AND NOT EXISTS (
            SELECT FROM public.generated_reports AS report
            JOIN public.user_sessions AS session ON session.id = report.session_id
            WHERE report.access_token = f.report_token AND session.is_test)
) AS form
GROUP BY form.day;
COMMENT ON VIEW analytics.calculator_funnel IS 'What became of the calculator''s sessions, by the day when they began, as long as they are kept.';
COMMENT ON COLUMN analytics.calculator_funnel.day IS 'The day, in UTC.';
COMMENT ON COLUMN analytics.calculator_funnel.started IS 'How many sessions began.';
COMMENT ON COLUMN analytics.calculator_funnel.tier_chosen IS 'How many of them chose a tier.';
COMMENT ON COLUMN analytics.calculator_funnel.paid IS 'How many were paid, those refunded since included.';
COMMENT ON COLUMN analytics.calculator_funnel.refunded IS 'How many of the paid ones were refunded.';
COMMENT ON COLUMN analytics.calculator_funnel.with_report IS 'How many have a report.';

CREATE VIEW analytics.assessments WITH (security_barrier = true) AS
SELECT session.month,
    session.payment_status,
    count(*) AS assessments
FROM (
    SELECT date_trunc('month', s.created_at AT TIME ZONE 'UTC')::date AS month, s.payment_status
    FROM public.cw_assessment_sessions AS s WHERE NOT s.is_test
) AS session
GROUP BY session.month, session.payment_status;
COMMENT ON VIEW analytics.assessments IS 'Assessments by the month of their submission and the state of their payment.';
COMMENT ON COLUMN analytics.assessments.month IS 'The first day (UTC) of the month.';
COMMENT ON COLUMN analytics.assessments.payment_status IS 'pending, completed, failed or refunded; the last were paid before.';
COMMENT ON COLUMN analytics.assessments.assessments IS 'How many.';
"""

# The columns that come back are called as the limits are: a limit is $2, $3 or $4.
UNUSUAL = """
CREATE FUNCTION analytics.unusual_access(
    since timestamptz, addresses integer, burst integer, after_end integer, include_test boolean DEFAULT false)
RETURNS TABLE (report_id bigint, accesses bigint, addresses bigint, burst bigint, after_end bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH opened AS (
        SELECT access.report_id, access.ip_address,
            count(*) OVER (
                PARTITION BY access.report_id ORDER BY access.accessed_at
                RANGE BETWEEN interval '59.999999 seconds' PRECEDING AND CURRENT ROW
            ) AS within_a_minute,
            -- The end as it was at that moment: what the next change found.
            access.accessed_at >= coalesce((
                SELECT change.old_expires_at FROM public.report_expiry_changes AS change
                WHERE change.report_id = access.report_id AND change.changed_at > access.accessed_at
                ORDER BY change.changed_at, change.id LIMIT 1
            ), report.expires_at) AS too_late
        FROM public.report_access_log AS access
        JOIN public.generated_reports AS report ON report.id = access.report_id
        JOIN public.user_sessions AS session ON session.id = report.session_id
        WHERE access.accessed_at >= $1 AND ($5 OR NOT session.is_test)
    ), totals AS (
        SELECT opened.report_id, count(*) AS accesses, count(DISTINCT opened.ip_address) AS addresses,
            max(opened.within_a_minute) AS burst, count(*) FILTER (WHERE opened.too_late) AS after_end
        FROM opened GROUP BY opened.report_id
    )
    SELECT totals.report_id, totals.accesses, totals.addresses, totals.burst, totals.after_end FROM totals
    WHERE totals.addresses >= $2 OR totals.burst >= $3 OR totals.after_end >= $4
    ORDER BY greatest(totals.addresses / $2::real, totals.burst / $3::real, totals.after_end / $4::real) DESC,
        totals.report_id
$$;
COMMENT ON FUNCTION analytics.unusual_access(timestamptz, integer, integer, integer, boolean) IS 'Reports opened since then from so many addresses, so often within 60 seconds, or so often after their end as it was at that moment; the most unusual first. Opens that were refused are not logged.';
"""

GRANTS = """
REVOKE ALL ON analytics.accesses_per_day, analytics.accesses_per_week, analytics.accesses_per_report, analytics.paths,
    analytics.conversion, analytics.calculator_funnel, analytics.assessments
    FROM PUBLIC, anon, authenticated, service_role, reporting;
GRANT SELECT ON analytics.accesses_per_day, analytics.accesses_per_week, analytics.accesses_per_report, analytics.paths,
    analytics.conversion, analytics.calculator_funnel, analytics.assessments TO reporting;
REVOKE ALL ON FUNCTION analytics.refresh(date),
    analytics.unusual_access(timestamptz, integer, integer, integer, boolean)
    FROM PUBLIC, anon, authenticated, service_role, reporting;
GRANT EXECUTE ON FUNCTION analytics.unusual_access(timestamptz, integer, integer, integer, boolean)
    TO reporting, service_role;
"""

JOBS = """
INSERT INTO carnivore.jobs (job, area, position, description, batch, call)
VALUES ('analytics', 'weekly', 250, 'rollup of accesses', 0, 'SELECT analytics.refresh()');
"""


def upgrade() -> None:
    for part in (ROLE, SCHEMA, ACCESS_DAYS, ACCESSES, SALES, UNUSUAL, GRANTS, JOBS):
        op.execute(part)


def downgrade() -> None:
    # Months in cold storage stop the way back before anything is dropped: 012_access_log could not go on.
    op.execute("""
        SELECT carnivore.refuse_archived('public.report_access_log');
        DELETE FROM carnivore.jobs WHERE job = 'analytics';
        DROP FUNCTION analytics.unusual_access(timestamptz, integer, integer, integer, boolean);
        DROP VIEW analytics.assessments, analytics.calculator_funnel, analytics.conversion, analytics.paths,
            analytics.accesses_per_report, analytics.accesses_per_week, analytics.accesses_per_day;
        DROP FUNCTION analytics.refresh(date);
        DROP TABLE analytics.access_days;
        DROP SCHEMA analytics;
    """)
