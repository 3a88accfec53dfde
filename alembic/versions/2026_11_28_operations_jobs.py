"""When each job ran last, the retention of expired rows in batches, and a run of everything inside the database.

Why: the documents leave this to a person with a calendar, and in production the calendar was forgotten. What is
scheduled must be seen to run: each job leaves its last run in `carnivore.jobs`, failures too, and `verify` reads it.
Expired calculator sessions and reports were deleted by Python alone; a scheduler in the database needs them in SQL.
"""

from alembic import op

revision = "operations_jobs"
down_revision = "operations_archive"
branch_labels = None
depends_on = None

JOBS = """
CREATE TABLE carnivore.jobs (
    job text NOT NULL,
    every interval DEFAULT '2 days'::interval NOT NULL,
    last_started_at timestamptz,
    last_finished_at timestamptz,
    last_succeeded_at timestamptz,
    last_error text,
    last_result jsonb,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT jobs_pkey PRIMARY KEY (job),
    CONSTRAINT every_positive CHECK (every > '00:00:00'::interval)
);
COMMENT ON TABLE carnivore.jobs IS 'The scheduled jobs and the last run of each.';
COMMENT ON COLUMN carnivore.jobs.job IS 'Its name.';
COMMENT ON COLUMN carnivore.jobs.every IS 'How long it may go without success: then it is overdue.';
COMMENT ON COLUMN carnivore.jobs.last_started_at IS 'When the last run began.';
COMMENT ON COLUMN carnivore.jobs.last_finished_at IS 'When the last run ended, well or not.';
COMMENT ON COLUMN carnivore.jobs.last_succeeded_at IS 'When a run last ended well.';
COMMENT ON COLUMN carnivore.jobs.last_error IS 'SQLSTATE and rule, or the kind of error, of the last run; NULL when it ended well. Never a text: that could quote a row.';
COMMENT ON COLUMN carnivore.jobs.last_result IS 'What the last run did, as counts.';
COMMENT ON COLUMN carnivore.jobs.created_at IS 'Since when the job is known; a job that never ran is overdue from then on.';
COMMENT ON INDEX carnivore.jobs_pkey IS 'One row a job.';
ALTER TABLE carnivore.jobs ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON carnivore.jobs FROM PUBLIC, anon, authenticated, service_role;

-- Those that any scheduler runs. The others come with their first run: not everybody archives or exports.
INSERT INTO carnivore.jobs (job) VALUES ('partitions'), ('fold'), ('calculator_sessions'), ('reports'),
    ('idle_conversations'), ('old_logs'), ('weekly_limits'), ('message_archive');

CREATE FUNCTION carnivore.record_job(job text, started_at timestamptz, error text, result jsonb) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO carnivore.jobs AS known
        (job, last_started_at, last_finished_at, last_succeeded_at, last_error, last_result)
    SELECT $1, $2, ended, CASE WHEN $3 IS NULL THEN ended END, $3, $4 FROM clock_timestamp() AS ended
    ON CONFLICT (job) DO UPDATE SET
        last_started_at = excluded.last_started_at,
        last_finished_at = excluded.last_finished_at,
        last_succeeded_at = coalesce(excluded.last_succeeded_at, known.last_succeeded_at),
        last_error = excluded.last_error,
        last_result = excluded.last_result
$$;
COMMENT ON FUNCTION carnivore.record_job(text, timestamptz, text, jsonb) IS 'Notes a run of a job that ends now, well when error is NULL. Call it in a transaction of its own.';
REVOKE ALL ON FUNCTION carnivore.record_job(text, timestamptz, text, jsonb) FROM PUBLIC, anon, authenticated, service_role;
"""

RETENTION = """
CREATE FUNCTION public.delete_expired_calculator_sessions(batch integer DEFAULT 1000) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    due bigint[];
BEGIN
    -- What was paid for stays: its refund must find it.
    due := ARRAY(SELECT c.id FROM public.calculator2_sessions AS c
        WHERE c.expires_at < now() AND c.payment_status IN ('pending', 'failed')
        ORDER BY c.expires_at, c.id LIMIT batch FOR UPDATE SKIP LOCKED);
    DELETE FROM public.calculator2_sessions AS c WHERE c.id = ANY (due);
    RETURN cardinality(due);
END
$$;
COMMENT ON FUNCTION public.delete_expired_calculator_sessions(integer) IS 'Deletes up to batch expired sessions that nobody paid for, oldest first; returns how many.';

-- In UTC a day of the grace has 24 hours, whatever the session's clocks do.
CREATE FUNCTION public.delete_expired_reports(batch integer DEFAULT 1000, grace interval DEFAULT '90 days') RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    due bigint[];
BEGIN
    due := ARRAY(SELECT r.id FROM public.generated_reports AS r WHERE r.expires_at < now() - grace
        ORDER BY r.expires_at, r.id LIMIT batch FOR UPDATE SKIP LOCKED);
    DELETE FROM public.generated_reports AS r WHERE r.id = ANY (due);
    RETURN cardinality(due);
END
$$;
COMMENT ON FUNCTION public.delete_expired_reports(integer, interval) IS 'Deletes up to batch reports that expired longer than grace ago, with their accesses, oldest first; returns how many.';

REVOKE ALL ON FUNCTION public.delete_expired_calculator_sessions(integer), public.delete_expired_reports(integer, interval)
    FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION public.delete_expired_calculator_sessions(integer),
    public.delete_expired_reports(integer, interval) TO service_role;
"""

MAINTAIN = """
CREATE FUNCTION carnivore.job_calls(job text, months_ahead integer DEFAULT 3, at timestamptz DEFAULT now()) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF job = 'partitions' THEN
        RETURN ARRAY(
            SELECT format('SELECT carnivore.create_%s_partition(%L)::integer', wanted.parent, wanted.month::date)
            FROM (
                SELECT parent, date_trunc('month', at AT TIME ZONE 'UTC') + make_interval(months => ahead) AS month
                FROM unnest(ARRAY['access_log', 'logs']) AS parent, generate_series(0, months_ahead) AS ahead
                UNION
                SELECT 'access_log', date_trunc('month', a.accessed_at AT TIME ZONE 'UTC')
                FROM public.report_access_log_default AS a
                UNION
                SELECT 'logs', date_trunc('month', l.created_at AT TIME ZONE 'UTC')
                FROM conversation.logs_default AS l
            ) AS wanted ORDER BY wanted.month, wanted.parent);
    END IF;
    RETURN CASE job
        WHEN 'fold' THEN ARRAY['SELECT public.fold_report_access($1)']
        WHEN 'calculator_sessions' THEN ARRAY['SELECT public.delete_expired_calculator_sessions($1)']
        WHEN 'reports' THEN ARRAY['SELECT public.delete_expired_reports($1, $2)']
        WHEN 'idle_conversations' THEN ARRAY['SELECT conversation.delete_expired_sessions($1, $3)']
        WHEN 'old_logs' THEN ARRAY['SELECT conversation.delete_old_logs($1, $3)']
        WHEN 'weekly_limits' THEN ARRAY['SELECT conversation.reset_weekly_limits($1, $3)']
        WHEN 'message_archive' THEN ARRAY['SELECT conversation.archive_messages($1, $3)']
        -- These come with later revisions.
        WHEN 'analytics' THEN CASE WHEN to_regprocedure('analytics.refresh(date)') IS NOT NULL
            THEN ARRAY['SELECT 0 FROM analytics.refresh()'] END
        WHEN 'sizes' THEN CASE WHEN to_regprocedure('carnivore.record_partition_sizes()') IS NOT NULL
            THEN ARRAY['SELECT 0 FROM carnivore.record_partition_sizes()'] END
    END;
END
$$;
COMMENT ON FUNCTION carnivore.job_calls(text, integer, timestamptz) IS 'What a job of carnivore.maintain runs until it returns less than a batch: $1 the batch, $2 the reports'' grace, $3 the run. NULL where there is no such job.';
REVOKE ALL ON FUNCTION carnivore.job_calls(text, integer, timestamptz) FROM PUBLIC, anon, authenticated, service_role;

-- Without a search path of its own, with which it could not commit: it has its caller's rights, and every name is
-- qualified.
CREATE PROCEDURE carnivore.maintain(
    batch integer DEFAULT 1000, reports_grace interval DEFAULT '90 days', months_ahead integer DEFAULT 3,
    old_logs boolean DEFAULT true
) LANGUAGE plpgsql AS $$
DECLARE
    turn bigint := 'carnivore.jobs'::pg_catalog.regclass::pg_catalog.oid::bigint;
    job text;
    calls text[];
    call text;
    run uuid;
    began timestamptz;
    done integer;
    handled bigint;
    tries integer;
    state text;
    rule text;
    error text;
    failed text[] := '{}';
BEGIN
    IF batch IS NULL OR batch < 1 THEN
        RAISE EXCEPTION 'a batch has one row or more' USING ERRCODE = 'check_violation', CONSTRAINT = 'batch_positive';
    END IF;
    IF NOT pg_catalog.pg_try_advisory_lock(turn) THEN
        RAISE NOTICE 'another run is at work: nothing done';
        RETURN;
    END IF;
    <<jobs>>
    FOREACH job IN ARRAY ARRAY['partitions', 'fold', 'analytics', 'calculator_sessions', 'reports',
        'idle_conversations', 'old_logs', 'weekly_limits', 'message_archive', 'sizes']
    LOOP
        CONTINUE WHEN job = 'old_logs' AND NOT old_logs;
        run := pg_catalog.gen_random_uuid();
        began := pg_catalog.clock_timestamp();
        handled := 0;
        error := NULL;
        BEGIN
            calls := carnivore.job_calls(job, months_ahead);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS error = RETURNED_SQLSTATE;
            calls := '{}';
        END;
        CONTINUE WHEN calls IS NULL;
        FOREACH call IN ARRAY calls LOOP
            tries := 0;
            LOOP
                state := NULL;
                BEGIN
                    -- No writer waits behind a change of partitions for longer.
                    PERFORM pg_catalog.set_config('lock_timeout', '2s', true),
                        pg_catalog.set_config('carnivore.parent_first',
                            CASE tries % 2 WHEN 0 THEN 'off' ELSE 'on' END, true);
                    EXECUTE call INTO done USING batch, reports_grace, run;
                EXCEPTION WHEN OTHERS OR query_canceled THEN
                    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, rule = CONSTRAINT_NAME;
                    done := 0;
                END;
                COMMIT;
                done := coalesce(done, 0);
                handled := handled + done;
                IF state IN ('55P03', '40P01') AND tries < 20 THEN
                    tries := tries + 1;
                    PERFORM pg_catalog.pg_sleep(pg_catalog.random() * tries / 10);
                    CONTINUE;
                END IF;
                EXIT WHEN done < batch;
            END LOOP;
            IF state IS NOT NULL THEN
                error := pg_catalog.rtrim(state || ' ' || rule);
            END IF;
            EXIT WHEN state = '57014';
        END LOOP;
        PERFORM carnivore.record_job(job, began, error, pg_catalog.jsonb_build_object('handled', handled));
        IF error IS NOT NULL THEN
            failed := failed || job;
            IF calls[1] LIKE 'SELECT conversation.%' THEN
                -- As conversation.run_job logs it: neither the message nor the row.
                INSERT INTO conversation.logs (level, event_type, metadata) VALUES ('error', 'cleanup_job_failed',
                    pg_catalog.jsonb_build_object('job', job, 'job_id', run, 'started_at', began,
                        'finished_at', pg_catalog.clock_timestamp(), 'sqlstate', state, 'rule', rule));
            END IF;
        END IF;
        COMMIT;
        -- Whoever cancels wants the run to end, not its next job to begin.
        EXIT jobs WHEN state = '57014';
    END LOOP jobs;
    PERFORM pg_catalog.pg_advisory_unlock(turn);
    IF failed <> '{}' THEN
        RAISE EXCEPTION 'jobs failed: %', pg_catalog.array_to_string(failed, ', ')
            USING HINT = 'carnivore.jobs has their SQLSTATEs.', CONSTRAINT = 'jobs_failed';
    END IF;
END
$$;
COMMENT ON PROCEDURE carnivore.maintain(integer, interval, integer, boolean) IS 'Runs every job that needs the database alone, for its own scheduler: each batch committed, each run noted in carnivore.jobs, a failure kept from the others and raised at the end. old_logs: false where they are archived first. Call it outside a transaction.';
REVOKE ALL ON PROCEDURE carnivore.maintain(integer, interval, integer, boolean) FROM PUBLIC, anon, authenticated, service_role;
"""


def upgrade() -> None:
    for part in (JOBS, RETENTION, MAINTAIN):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
        DROP PROCEDURE carnivore.maintain(integer, interval, integer, boolean);
        DROP FUNCTION carnivore.job_calls(text, integer, timestamptz);
        DROP FUNCTION public.delete_expired_reports(integer, interval);
        DROP FUNCTION public.delete_expired_calculator_sessions(integer);
        DROP FUNCTION carnivore.record_job(text, timestamptz, text, jsonb);
        DROP TABLE carnivore.jobs;
    """)
