"""Deferred issues: logs in a partition a month, event types that grow by INSERT, and who reads and writes them.

Why: the document leaves the hardcoded event types (29), the partitioning of logs (30) and their unclear policy (24)
for later. A new event type needed a migration, and deleting a month's logs row by row left a table full of holes.

The downgrade puts all rows back into one table. An event of a type that came later is kept as 'unknown_error', with
its own type in the metadata: the old check knows no other.
"""

from alembic import context, op

revision = "deferred_logs"
down_revision = "critical_fixes_online"
branch_labels = None
depends_on = None

EVENT_TYPES = """
CREATE TABLE conversation.event_types (
    code varchar(50) NOT NULL,
    description varchar(200) NOT NULL,
    CONSTRAINT event_types_pkey PRIMARY KEY (code),
    CONSTRAINT code_valid CHECK (code ~ '^[a-z][a-z0-9_]*$'),
    CONSTRAINT description_not_empty CHECK (btrim(description) <> '')
);
COMMENT ON TABLE conversation.event_types IS 'What can be logged; a new type is a new row.';
COMMENT ON COLUMN conversation.event_types.code IS 'Identity.';
COMMENT ON COLUMN conversation.event_types.description IS 'What it means.';
COMMENT ON INDEX conversation.event_types_pkey IS 'Identity.';
ALTER TABLE conversation.event_types ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON conversation.event_types FROM PUBLIC, anon, authenticated, service_role;
CREATE POLICY service_role_event_types ON conversation.event_types TO service_role USING (true) WITH CHECK (true);
COMMENT ON POLICY service_role_event_types ON conversation.event_types IS 'The service sees every row; its grants say what it may do.';
GRANT SELECT, INSERT (code, description) ON conversation.event_types TO service_role;
INSERT INTO conversation.event_types (code, description) VALUES
    ('api_call_started', 'A call of the language model began.'),
    ('api_call_completed', 'It was answered.'),
    ('api_call_failed', 'It failed.'),
    ('api_call_timeout', 'It was not answered in time.'),
    ('api_retry_attempted', 'It was tried again.'),
    ('user_registered', 'Somebody signed up.'),
    ('user_login_success', 'Somebody logged in.'),
    ('user_login_failed', 'Somebody could not log in.'),
    ('user_logout', 'Somebody logged out.'),
    ('session_expired', 'A login ended by itself.'),
    ('account_deleted', 'A person deleted their account.'),
    ('account_erased', 'A person''s data were erased; the counts stay.'),
    ('scenario_started', 'A person began to play a scene.'),
    ('scenario_completed', 'A person played one to its end.'),
    ('scenario_abandoned', 'A person gave one up.'),
    ('session_created', 'A session was made.'),
    ('session_restored', 'A person came back to an open session.'),
    ('session_expiration_cleanup', 'Open sessions that nobody touched were deleted.'),
    ('rate_limit_checked', 'A limit was asked for.'),
    ('rate_limit_exceeded', 'A limit was reached.'),
    ('weekly_limit_reset', 'A new week began.'),
    ('messages_archived', 'Old messages went to the archive.'),
    ('database_error', 'The database refused something.'),
    ('cleanup_job_executed', 'A cleanup ran.'),
    ('cleanup_job_failed', 'A cleanup failed.'),
    ('unknown_error', 'Anything else went wrong.');
"""

# The rows are written once, into their months; indexes come after them. Whoever logs waits, no longer than the
# migration's timeouts say.
TABLE = """
-- squawk-ignore-file ban-drop-constraint, ban-drop-table, renaming-table, require-concurrent-index-deletion
-- With sessions and profiles, to which its keys refer: the old table's go with it.
LOCK TABLE conversation.sessions, conversation.profiles, conversation.logs IN ACCESS EXCLUSIVE MODE;
DROP INDEX conversation.idx_logs_level, conversation.idx_logs_event_type, conversation.idx_logs_created_at,
    conversation.idx_logs_level_created, conversation.idx_logs_user, conversation.idx_logs_session,
    conversation.idx_logs_metadata;
ALTER TABLE conversation.logs DROP CONSTRAINT logs_pkey;
ALTER TABLE conversation.logs RENAME TO logs_before;
CREATE TABLE conversation.logs (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    level text NOT NULL,
    event_type varchar(50) NOT NULL,
    user_id uuid,
    session_id uuid,
    metadata jsonb,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT created_at_in_range CHECK (created_at >= '2000-01-01 00:00:00+00'::timestamptz AND created_at < '2100-01-01 00:00:00+00'::timestamptz),
    CONSTRAINT level_valid CHECK (level IN ('error', 'warn', 'info', 'debug'))
) PARTITION BY RANGE (created_at);
COMMENT ON TABLE conversation.logs IS 'What happened in the application; a partition a month.';
COMMENT ON COLUMN conversation.logs.id IS 'Identity of the event.';
COMMENT ON COLUMN conversation.logs.level IS 'error, warn, info or debug.';
COMMENT ON COLUMN conversation.logs.event_type IS 'What happened.';
COMMENT ON COLUMN conversation.logs.user_id IS 'The person it was about, while there.';
COMMENT ON COLUMN conversation.logs.session_id IS 'The session it was about, while there.';
COMMENT ON COLUMN conversation.logs.metadata IS 'Its facts.';
COMMENT ON COLUMN conversation.logs.created_at IS 'When it happened; partition key, months in UTC.';
"""

PARTITIONS = """
INSERT INTO carnivore.partitioned_tables (parent, area, holds, kept) VALUES ('conversation.logs', 'conversation', 'Events', '30 days');
CREATE TABLE conversation.logs_default PARTITION OF conversation.logs DEFAULT;
COMMENT ON TABLE conversation.logs_default IS 'Events of months that have no partition: none is lost for want of one.';
SELECT carnivore.close_partition('conversation.logs_default', 'conversation.logs');
-- The months of ten years that have events, and those to come.
SELECT carnivore.create_partition('conversation.logs', month)
FROM (
    SELECT DISTINCT date_trunc('month', created_at AT TIME ZONE 'UTC')::date AS month FROM conversation.logs_before
    WHERE created_at > now() - interval '10 years' AND created_at < now() + interval '4 months'
    UNION
    SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead))::date
    FROM generate_series(0, 3) AS ahead
) AS wanted
ORDER BY month;
INSERT INTO conversation.logs (id, level, event_type, user_id, session_id, metadata, created_at)
SELECT id, level, event_type, user_id, session_id, metadata, created_at FROM conversation.logs_before;
-- Its rows are in the table above.
DROP TABLE conversation.logs_before;
"""

RULES = """
ALTER TABLE conversation.logs ADD CONSTRAINT logs_pkey PRIMARY KEY (id, created_at);
ALTER TABLE conversation.logs ADD CONSTRAINT logs_event_type_fkey
    FOREIGN KEY (event_type) REFERENCES conversation.event_types (code) ON UPDATE CASCADE;
ALTER TABLE conversation.logs ADD CONSTRAINT logs_user_id_fkey
    FOREIGN KEY (user_id) REFERENCES conversation.profiles (id) ON UPDATE CASCADE ON DELETE SET NULL;
ALTER TABLE conversation.logs ADD CONSTRAINT logs_session_id_fkey
    FOREIGN KEY (session_id) REFERENCES conversation.sessions (id) ON UPDATE CASCADE ON DELETE SET NULL;
CREATE INDEX idx_logs_event_type ON conversation.logs (event_type);
CREATE INDEX idx_logs_created_at ON conversation.logs (created_at DESC);
CREATE INDEX idx_logs_level_created ON conversation.logs (level, created_at DESC);
CREATE INDEX idx_logs_user ON conversation.logs (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX idx_logs_session ON conversation.logs (session_id, created_at DESC);
CREATE INDEX idx_logs_metadata ON conversation.logs USING gin (metadata);
COMMENT ON INDEX conversation.logs_pkey IS 'Identity; PostgreSQL wants the partition key in it.';
COMMENT ON INDEX conversation.idx_logs_event_type IS 'Events of a type; the foreign key.';
COMMENT ON INDEX conversation.idx_logs_created_at IS 'Newest first.';
COMMENT ON INDEX conversation.idx_logs_level_created IS 'Events of a level, newest first; the baseline''s idx_logs_level too.';
COMMENT ON INDEX conversation.idx_logs_user IS 'Events of a person; the foreign key.';
COMMENT ON INDEX conversation.idx_logs_session IS 'Events of a session, newest first; the foreign key.';
COMMENT ON INDEX conversation.idx_logs_metadata IS 'Events by what their metadata contains.';

ALTER TABLE conversation.logs ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON conversation.logs FROM PUBLIC, anon, authenticated, service_role;
CREATE POLICY logs_select_own ON conversation.logs FOR SELECT TO authenticated USING (user_id = (SELECT auth.uid()));
CREATE POLICY service_role_logs ON conversation.logs TO service_role USING (true) WITH CHECK (true);
COMMENT ON POLICY logs_select_own ON conversation.logs IS 'A person reads what was logged about them, and writes nothing.';
COMMENT ON POLICY service_role_logs ON conversation.logs IS 'The service reads and appends; its grants allow no more.';
GRANT SELECT ON conversation.logs TO authenticated, service_role;
GRANT INSERT (level, event_type, user_id, session_id, metadata, created_at) ON conversation.logs TO service_role;
"""

# What is due is told once, for the job and for the count beforehand.
CLEANUP = """
CREATE VIEW carnivore.due_log_months WITH (security_invoker = true) AS
SELECT part.oid::regclass AS partition, part.relname AS name
FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class AS part ON part.oid = inhrelid
    JOIN carnivore.partitioned_tables AS known ON known.parent = 'conversation.logs'
WHERE inhparent = 'conversation.logs'::regclass
    AND substring(pg_get_expr(part.relpartbound, part.oid) FROM 'TO \\(''([^'']+)''\\)')::timestamptz <= now() - known.kept
    -- Somebody brought it back to look at it.
    AND NOT EXISTS (SELECT FROM carnivore.archived_partitions AS a WHERE a.restored_as = part.oid AND a.keep_until > now());
COMMENT ON VIEW carnivore.due_log_months IS 'Partitions of logs that ended longer ago than logs are kept.';
COMMENT ON COLUMN carnivore.due_log_months.partition IS 'The partition.';
COMMENT ON COLUMN carnivore.due_log_months.name IS 'Its name.';
CREATE VIEW carnivore.due_log_rows WITH (security_invoker = true) AS
SELECT l.ctid AS place, l.created_at FROM conversation.logs_default AS l
WHERE l.created_at < now() - (SELECT known.kept FROM carnivore.partitioned_tables AS known WHERE known.parent = 'conversation.logs');
COMMENT ON VIEW carnivore.due_log_rows IS 'Rows of no month that are older than logs are kept.';
COMMENT ON COLUMN carnivore.due_log_rows.place IS 'Where the row is.';
COMMENT ON COLUMN carnivore.due_log_rows.created_at IS 'When it happened.';
REVOKE ALL ON carnivore.due_log_months, carnivore.due_log_rows FROM PUBLIC, anon, authenticated, service_role;

-- It comes back with arguments that have defaults, in batches: the same call finds it.
-- squawk-ignore ban-drop-function
DROP FUNCTION conversation.delete_old_logs();
CREATE FUNCTION conversation.delete_old_logs(batch integer DEFAULT 1000, job_id uuid DEFAULT gen_random_uuid())
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    began timestamptz := clock_timestamp();
    cutoff timestamptz := now() - (SELECT known.kept FROM carnivore.partitioned_tables AS known WHERE known.parent = 'conversation.logs');
    month record;
    months text[] := '{}';
    locked boolean := false;
    counted integer;
    dropped integer := 0;
    deleted integer;
BEGIN
    -- One at a time: the second would wait for tables that the first has dropped, and leaves the work to it.
    IF NOT pg_try_advisory_xact_lock('conversation.logs'::regclass::oid::bigint) THEN
        RETURN 0;
    END IF;
    FOR month IN
        SELECT due.partition::text AS address, due.name FROM carnivore.due_log_months AS due ORDER BY due.name
    LOOP
        IF NOT locked THEN
            -- Writers wait behind the first lock: not for longer than this, where the caller sets no limit.
            IF current_setting('lock_timeout') = '0' THEN
                PERFORM set_config('lock_timeout', '2s', true);
            END IF;
            PERFORM carnivore.lock_partitioned('conversation.logs', true);
            locked := true;
        END IF;
        -- Whoever had those locks before may have dropped it.
        CONTINUE WHEN to_regclass(month.address) IS NULL;
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', month.address);
        EXECUTE format('SELECT count(*) FROM %s', month.address) INTO counted;
        EXECUTE format('DROP TABLE %s', month.address);
        dropped := dropped + counted;
        months := months || month.name::text;
    END LOOP;
    DELETE FROM conversation.logs_default AS l WHERE l.ctid = ANY (ARRAY(
        SELECT old.place FROM carnivore.due_log_rows AS old ORDER BY old.created_at LIMIT batch FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    INSERT INTO conversation.logs (level, event_type, metadata) VALUES ('info', 'cleanup_job_executed',
        jsonb_build_object('job', 'delete_old_logs', 'job_id', job_id, 'started_at', began,
            'finished_at', clock_timestamp(), 'before', cutoff, 'deleted', dropped + deleted, 'partitions', months));
    RETURN dropped + deleted;
END
$$;
COMMENT ON FUNCTION conversation.delete_old_logs(integer, uuid) IS 'Drops the months that ended longer ago than logs are kept, and up to batch rows of no month; returns how many rows went.';
REVOKE ALL ON FUNCTION conversation.delete_old_logs(integer, uuid) FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION conversation.delete_old_logs(integer, uuid) TO service_role;
"""


def upgrade() -> None:
    for part in (EVENT_TYPES, TABLE, PARTITIONS, RULES, CLEANUP):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
        SELECT carnivore.refuse_archived('conversation.logs');
        LOCK TABLE conversation.sessions, conversation.profiles, conversation.logs IN ACCESS EXCLUSIVE MODE;
        DROP FUNCTION conversation.delete_old_logs(integer, uuid);
        DROP VIEW carnivore.due_log_rows, carnivore.due_log_months;
        DELETE FROM carnivore.archived_partitions WHERE parent = 'conversation.logs';
        CREATE TABLE conversation.logs_after (
            id uuid DEFAULT gen_random_uuid() NOT NULL,
            level text NOT NULL,
            event_type text NOT NULL,
            user_id uuid,
            session_id uuid,
            metadata jsonb,
            created_at timestamptz DEFAULT now() NOT NULL,
            CONSTRAINT level_valid CHECK (level IN ('error', 'warn', 'info', 'debug')),
            CONSTRAINT event_type_valid CHECK (event_type IN (
                'api_call_started', 'api_call_completed', 'api_call_failed', 'api_call_timeout', 'api_retry_attempted',
                'user_registered', 'user_login_success', 'user_login_failed', 'user_logout', 'session_expired',
                'account_deleted', 'scenario_started', 'scenario_completed', 'scenario_abandoned', 'session_created',
                'session_restored', 'session_expiration_cleanup', 'rate_limit_checked', 'rate_limit_exceeded',
                'weekly_limit_reset', 'database_error', 'cleanup_job_executed', 'unknown_error'))
        );
        WITH old AS (
            SELECT ARRAY['api_call_started', 'api_call_completed', 'api_call_failed', 'api_call_timeout',
                'api_retry_attempted', 'user_registered', 'user_login_success', 'user_login_failed', 'user_logout',
                'session_expired', 'account_deleted', 'scenario_started', 'scenario_completed', 'scenario_abandoned',
                'session_created', 'session_restored', 'session_expiration_cleanup', 'rate_limit_checked',
                'rate_limit_exceeded', 'weekly_limit_reset', 'database_error', 'cleanup_job_executed',
                'unknown_error'] AS types
        )
        INSERT INTO conversation.logs_after (id, level, event_type, user_id, session_id, metadata, created_at)
        SELECT id, level, CASE WHEN event_type = ANY (old.types) THEN event_type ELSE 'unknown_error' END,
            user_id, session_id, CASE WHEN event_type = ANY (old.types) THEN metadata
                WHEN jsonb_typeof(metadata) = 'object' AND NOT metadata ? 'event_type' THEN metadata || jsonb_build_object('event_type', event_type)
                ELSE jsonb_build_object('event_type', event_type, 'metadata', metadata) END, created_at
        FROM conversation.logs, old;
        DROP TABLE conversation.logs;
        DROP TABLE conversation.event_types;
        DELETE FROM carnivore.partitioned_tables WHERE parent = 'conversation.logs';
        ALTER TABLE conversation.logs_after RENAME TO logs;
        ALTER TABLE conversation.logs ADD CONSTRAINT logs_pkey PRIMARY KEY (id),
            ADD CONSTRAINT logs_user_id_fkey
                FOREIGN KEY (user_id) REFERENCES conversation.profiles (id) ON UPDATE CASCADE ON DELETE SET NULL,
            ADD CONSTRAINT logs_session_id_fkey
                FOREIGN KEY (session_id) REFERENCES conversation.sessions (id) ON UPDATE CASCADE ON DELETE SET NULL;
        CREATE INDEX idx_logs_level ON conversation.logs (level);
        CREATE INDEX idx_logs_event_type ON conversation.logs (event_type);
        CREATE INDEX idx_logs_created_at ON conversation.logs (created_at DESC);
        CREATE INDEX idx_logs_level_created ON conversation.logs (level, created_at DESC);
        CREATE INDEX idx_logs_user ON conversation.logs (user_id) WHERE user_id IS NOT NULL;
        CREATE INDEX idx_logs_session ON conversation.logs (session_id, created_at DESC);
        CREATE INDEX idx_logs_metadata ON conversation.logs USING gin (metadata);
        COMMENT ON TABLE conversation.logs IS 'What happened in the application.';
        COMMENT ON COLUMN conversation.logs.id IS 'Identity.';
        COMMENT ON COLUMN conversation.logs.level IS 'error, warn, info or debug.';
        COMMENT ON COLUMN conversation.logs.event_type IS 'What happened.';
        COMMENT ON COLUMN conversation.logs.user_id IS 'The person it was about, while there.';
        COMMENT ON COLUMN conversation.logs.session_id IS 'The session it was about, while there.';
        COMMENT ON COLUMN conversation.logs.metadata IS 'Its facts.';
        COMMENT ON COLUMN conversation.logs.created_at IS 'When it happened.';
        COMMENT ON INDEX conversation.logs_pkey IS 'Identity.';
        COMMENT ON INDEX conversation.idx_logs_level IS 'Events of a level.';
        COMMENT ON INDEX conversation.idx_logs_event_type IS 'Events of a type.';
        COMMENT ON INDEX conversation.idx_logs_created_at IS 'Newest first.';
        COMMENT ON INDEX conversation.idx_logs_level_created IS 'Events of a level, newest first.';
        COMMENT ON INDEX conversation.idx_logs_user IS 'Events of a person; the foreign key.';
        COMMENT ON INDEX conversation.idx_logs_session IS 'Events of a session, newest first; the foreign key.';
        COMMENT ON INDEX conversation.idx_logs_metadata IS 'Events by what their metadata contains.';
        ALTER TABLE conversation.logs ENABLE ROW LEVEL SECURITY;
        REVOKE ALL ON conversation.logs FROM PUBLIC, anon, authenticated, service_role;
        CREATE POLICY logs_select_own ON conversation.logs FOR SELECT TO authenticated USING (user_id = (SELECT auth.uid()));
        CREATE POLICY service_role_logs ON conversation.logs TO service_role USING (true) WITH CHECK (true);
        COMMENT ON POLICY logs_select_own ON conversation.logs IS 'A person reads what was logged about them.';
        COMMENT ON POLICY service_role_logs ON conversation.logs IS 'The service reads and appends; its grants allow no more.';
        GRANT SELECT ON conversation.logs TO authenticated, service_role;
        GRANT INSERT (level, event_type, user_id, session_id, metadata, created_at) ON conversation.logs TO service_role;
    """)
    op.execute(context.script.get_revision("conversation_baseline").module.DELETE_OLD_LOGS)
    op.execute("""
        ALTER FUNCTION conversation.delete_old_logs() SET search_path = pg_catalog, pg_temp;
        REVOKE ALL ON FUNCTION conversation.delete_old_logs() FROM PUBLIC, anon, authenticated, service_role;
        GRANT EXECUTE ON FUNCTION conversation.delete_old_logs() TO service_role;
    """)
