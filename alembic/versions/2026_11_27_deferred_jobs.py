"""Deferred issues: jobs in batches, and failures that are seen.

Why: the document leaves "bulk update risk in weekly reset" (31) and "error monitoring for cleanup functions" (45) for
later. Each job takes a batch, goes around what others have locked, and may be stopped and run again at any time.
`conversation.run_job` commits batch by batch; when one fails it records that in a transaction of its own, where the
failure cannot take it back, and raises it again. What is scheduled inside the database calls it too.
"""

from alembic import op

revision = "deferred_jobs"
down_revision = "deferred_profiles"
branch_labels = None
depends_on = None

INDEX = """
-- Small: one row a person.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX idx_profiles_week_reset ON conversation.profiles (week_reset_date);
COMMENT ON INDEX conversation.idx_profiles_week_reset IS 'People whose week is over.';
"""

JOBS = """
-- Each comes back with arguments that have defaults: the same call finds it.
-- squawk-ignore-file ban-drop-function
DROP FUNCTION conversation.reset_weekly_limits();
CREATE FUNCTION conversation.reset_weekly_limits(batch integer DEFAULT 500, job_id uuid DEFAULT gen_random_uuid())
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    began timestamptz := clock_timestamp();
    due uuid[];
BEGIN
    -- Whoever holds a row is completing a session, and begins the new week by that.
    due := ARRAY(SELECT p.id FROM conversation.profiles AS p WHERE p.week_reset_date <= now()
        ORDER BY p.week_reset_date, p.id LIMIT batch FOR NO KEY UPDATE SKIP LOCKED);
    PERFORM carnivore.count_completions(id) FROM unnest(due) AS id;
    INSERT INTO conversation.logs (level, event_type, metadata) VALUES ('info', 'weekly_limit_reset',
        jsonb_build_object('job', 'reset_weekly_limits', 'job_id', job_id, 'started_at', began,
            'finished_at', clock_timestamp(), 'before', now(), 'reset', cardinality(due)));
    RETURN cardinality(due);
END
$$;
COMMENT ON FUNCTION conversation.reset_weekly_limits(integer, uuid) IS 'Begins a new week for up to batch people whose week is over, however long ago; returns how many.';

DROP FUNCTION conversation.delete_expired_sessions();
CREATE FUNCTION conversation.delete_expired_sessions(batch integer DEFAULT 500, job_id uuid DEFAULT gen_random_uuid())
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    began timestamptz := clock_timestamp();
    cutoff timestamptz := now() - interval '7 days';
    due uuid[];
BEGIN
    -- Idle since then means begun before: the index is on started_at, which no message moves.
    due := ARRAY(SELECT s.id FROM conversation.sessions AS s
        WHERE NOT s.is_completed AND s.started_at < cutoff AND s.last_activity_at < cutoff
        ORDER BY s.started_at, s.id LIMIT batch FOR UPDATE SKIP LOCKED);
    DELETE FROM conversation.sessions AS s WHERE s.id = ANY (due);
    INSERT INTO conversation.logs (level, event_type, metadata) VALUES ('info', 'session_expiration_cleanup',
        jsonb_build_object('job', 'delete_expired_sessions', 'job_id', job_id, 'started_at', began,
            'finished_at', clock_timestamp(), 'before', cutoff, 'deleted', cardinality(due)));
    RETURN cardinality(due);
END
$$;
COMMENT ON FUNCTION conversation.delete_expired_sessions(integer, uuid) IS 'Deletes up to batch open sessions that nobody touched for 7 days; returns how many.';

DROP FUNCTION conversation.delete_old_logs();
CREATE FUNCTION conversation.delete_old_logs(batch integer DEFAULT 1000, job_id uuid DEFAULT gen_random_uuid())
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    began timestamptz := clock_timestamp();
    cutoff timestamptz := now() - interval '30 days';
    month record;
    months text[] := '{}';
    counted integer;
    dropped integer := 0;
    deleted integer;
BEGIN
    -- One at a time: the second would wait for tables that the first has dropped, and leaves the work to it.
    IF NOT pg_try_advisory_xact_lock('conversation.logs'::regclass::oid::bigint) THEN
        RETURN 0;
    END IF;
    FOR month IN
        SELECT part.oid::regclass AS partition, part.relname AS name
        FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class AS part ON part.oid = inhrelid
        WHERE inhparent = 'conversation.logs'::regclass
            AND substring(pg_get_expr(part.relpartbound, part.oid) FROM 'TO \\(''([^'']+)''\\)')::timestamptz <= cutoff
        ORDER BY part.relname
    LOOP
        EXECUTE format('SELECT count(*) FROM %s', month.partition) INTO counted;
        EXECUTE format('DROP TABLE %s', month.partition);
        dropped := dropped + counted;
        months := months || month.name::text;
    END LOOP;
    DELETE FROM conversation.logs_default AS l WHERE l.ctid = ANY (ARRAY(
        SELECT old.ctid FROM conversation.logs_default AS old WHERE old.created_at < cutoff
        ORDER BY old.created_at LIMIT batch FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    INSERT INTO conversation.logs (level, event_type, metadata) VALUES ('info', 'cleanup_job_executed',
        jsonb_build_object('job', 'delete_old_logs', 'job_id', job_id, 'started_at', began,
            'finished_at', clock_timestamp(), 'before', cutoff, 'deleted', dropped + deleted, 'partitions', months));
    RETURN deleted;
END
$$;
COMMENT ON FUNCTION conversation.delete_old_logs(integer, uuid) IS 'Drops the months that ended 30 days ago, and up to batch rows of no month; returns how many of the latter.';

REVOKE ALL ON FUNCTION conversation.reset_weekly_limits(integer, uuid),
    conversation.delete_expired_sessions(integer, uuid), conversation.delete_old_logs(integer, uuid)
    FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION conversation.reset_weekly_limits(integer, uuid),
    conversation.delete_expired_sessions(integer, uuid), conversation.delete_old_logs(integer, uuid) TO service_role;

-- Without a search path of its own, with which it could not commit: it has its caller's rights, and every name is
-- qualified.
CREATE PROCEDURE conversation.run_job(job text, batch integer DEFAULT 500, INOUT handled integer DEFAULT 0)
LANGUAGE plpgsql AS $$
DECLARE
    run uuid := pg_catalog.gen_random_uuid();
    began timestamptz := pg_catalog.clock_timestamp();
    done integer;
    state text;
    rule text;
BEGIN
    IF batch IS NULL OR batch < 1 THEN
        RAISE EXCEPTION 'a batch has one row or more' USING ERRCODE = 'check_violation', CONSTRAINT = 'batch_positive';
    END IF;
    handled := 0;
    LOOP
        BEGIN
            CASE job
                WHEN 'reset_weekly_limits' THEN done := conversation.reset_weekly_limits(batch, run);
                WHEN 'delete_expired_sessions' THEN done := conversation.delete_expired_sessions(batch, run);
                WHEN 'delete_old_logs' THEN done := conversation.delete_old_logs(batch, run);
                WHEN 'archive_messages' THEN done := conversation.archive_messages(batch, run);
                ELSE RAISE EXCEPTION 'no job has this name' USING ERRCODE = 'PT404', CONSTRAINT = 'job_not_found';
            END CASE;
        EXCEPTION WHEN OTHERS OR query_canceled THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, rule = CONSTRAINT_NAME;
        END;
        EXIT WHEN state IS NOT NULL;
        COMMIT;
        handled := handled + done;
        EXIT WHEN done < batch;
    END LOOP;
    IF state IS NOT NULL THEN
        -- Neither the message nor the row: they may quote what people wrote.
        INSERT INTO conversation.logs (level, event_type, metadata) VALUES ('error', 'cleanup_job_failed',
            pg_catalog.jsonb_build_object('job', pg_catalog.left(job, 100), 'job_id', run, 'started_at', began,
                'finished_at', pg_catalog.clock_timestamp(), 'sqlstate', state, 'rule', rule));
        COMMIT;
        RAISE EXCEPTION 'the job % failed', job USING ERRCODE = state, CONSTRAINT = rule;
    END IF;
END
$$;
COMMENT ON PROCEDURE conversation.run_job(text, integer, integer) IS 'Runs a job batch by batch, each committed; a failure is logged for good and raised again. Returns how many rows it handled. Call it outside a transaction.';
REVOKE ALL ON PROCEDURE conversation.run_job(text, integer, integer) FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON PROCEDURE conversation.run_job(text, integer, integer) TO service_role;
"""


def upgrade() -> None:
    for part in (INDEX, JOBS):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
        DROP PROCEDURE conversation.run_job(text, integer, integer);
        DROP FUNCTION conversation.reset_weekly_limits(integer, uuid);
        DROP FUNCTION conversation.delete_expired_sessions(integer, uuid);
        DROP FUNCTION conversation.delete_old_logs(integer, uuid);
        DROP INDEX conversation.idx_profiles_week_reset;
    """)
    op.execute("""
        CREATE FUNCTION conversation.reset_weekly_limits() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    due uuid[];
BEGIN
    due := ARRAY(SELECT id FROM conversation.profiles WHERE week_reset_date <= now()
        ORDER BY id FOR NO KEY UPDATE);
    PERFORM carnivore.count_completions(id) FROM unnest(due) AS id;
    RETURN cardinality(due);
END
$$;
COMMENT ON FUNCTION conversation.reset_weekly_limits() IS 'Begins a new week for those whose week is over, however long ago.';

CREATE FUNCTION conversation.delete_expired_sessions() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    began timestamptz := clock_timestamp();
    cutoff timestamptz := now() - interval '7 days';
    deleted integer;
BEGIN
    DELETE FROM conversation.sessions WHERE NOT is_completed AND last_activity_at < cutoff;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    INSERT INTO conversation.logs (level, event_type, metadata) VALUES ('info', 'session_expiration_cleanup',
        jsonb_build_object('job', 'delete_expired_sessions', 'job_id', gen_random_uuid(), 'started_at', began,
            'finished_at', clock_timestamp(), 'before', cutoff, 'deleted', deleted));
    RETURN deleted;
END
$$;
COMMENT ON FUNCTION conversation.delete_expired_sessions() IS 'Deletes open sessions that nobody touched for 7 days.';

CREATE FUNCTION conversation.delete_old_logs() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    began timestamptz := clock_timestamp();
    cutoff timestamptz := now() - interval '30 days';
    deleted integer;
BEGIN
    DELETE FROM conversation.logs WHERE created_at < cutoff;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    INSERT INTO conversation.logs (level, event_type, metadata) VALUES ('info', 'cleanup_job_executed',
        jsonb_build_object('job', 'delete_old_logs', 'job_id', gen_random_uuid(), 'started_at', began,
            'finished_at', clock_timestamp(), 'before', cutoff, 'deleted', deleted));
    RETURN deleted;
END
$$;
COMMENT ON FUNCTION conversation.delete_old_logs() IS 'Deletes logs of more than 30 days ago.';
REVOKE ALL ON FUNCTION conversation.reset_weekly_limits(), conversation.delete_expired_sessions(),
    conversation.delete_old_logs() FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION conversation.delete_expired_sessions(), conversation.delete_old_logs(),
    conversation.reset_weekly_limits() TO service_role;
    """)
