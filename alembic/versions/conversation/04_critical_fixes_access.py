"""Critical fixes, third part: who may do what, one time of each event, keys that follow.

Why: changes 5, 26, 27, 32, 38 and 40 of the document. A person could write their own counters, reset date and
e-mail address and add a profile by hand; functions with their owner's rights took names from the caller's search
path; a cleanup left no trace of what it did. Now a person's row is the database's and the service's to write, and
a session's only change by its person is its completion.

The downgrade rebuilds sessions.created_at from started_at, as the document's authors would have to.
"""

from alembic import context, op

revision = "critical_fixes_access"
down_revision = "critical_fixes_messages"
branch_labels = None
depends_on = None

# In the order in which a message takes them, and a deletion the logs.
COLUMNS = """
LOCK TABLE conversation.messages, conversation.sessions, conversation.scenarios, conversation.profiles,
    conversation.logs IN ACCESS EXCLUSIVE MODE;
-- The document removes it: started_at says the same.
-- squawk-ignore ban-drop-column
ALTER TABLE conversation.sessions DROP COLUMN created_at;
ALTER TABLE conversation.scenarios ADD COLUMN updated_at timestamptz DEFAULT now() NOT NULL;
-- The document's type.
-- squawk-ignore prefer-bigint-over-smallint
ALTER TABLE conversation.scenarios ADD COLUMN sort_order smallint DEFAULT 0 NOT NULL;
COMMENT ON COLUMN conversation.scenarios.updated_at IS 'When the row last changed; a trigger''s.';
COMMENT ON COLUMN conversation.scenarios.sort_order IS 'Its place in lists, smallest first.';
UPDATE conversation.scenarios SET sort_order = id WHERE id BETWEEN 1 AND 3;
CREATE TRIGGER update_scenarios_updated_at BEFORE UPDATE ON conversation.scenarios
    FOR EACH ROW EXECUTE FUNCTION conversation.update_updated_at_column();
COMMENT ON TRIGGER update_scenarios_updated_at ON conversation.scenarios IS 'Keeps updated_at.';
"""

# They are validated in the revision behind this one, while everybody works.
KEYS = """
-- Each is added again at once.
-- squawk-ignore-file ban-drop-constraint
ALTER TABLE conversation.profiles DROP CONSTRAINT profiles_id_fkey;
ALTER TABLE conversation.profiles ADD CONSTRAINT profiles_id_fkey
    FOREIGN KEY (id) REFERENCES auth.users (id) ON UPDATE CASCADE ON DELETE CASCADE NOT VALID;
ALTER TABLE conversation.sessions DROP CONSTRAINT sessions_user_id_fkey, DROP CONSTRAINT sessions_scenario_id_fkey;
ALTER TABLE conversation.sessions ADD CONSTRAINT sessions_user_id_fkey
    FOREIGN KEY (user_id) REFERENCES conversation.profiles (id) ON UPDATE CASCADE ON DELETE CASCADE NOT VALID;
ALTER TABLE conversation.sessions ADD CONSTRAINT sessions_scenario_id_fkey
    FOREIGN KEY (scenario_id) REFERENCES conversation.scenarios (id) ON UPDATE CASCADE ON DELETE RESTRICT NOT VALID;
ALTER TABLE conversation.messages DROP CONSTRAINT messages_session_id_fkey;
ALTER TABLE conversation.messages ADD CONSTRAINT messages_session_id_fkey
    FOREIGN KEY (session_id) REFERENCES conversation.sessions (id) ON UPDATE CASCADE ON DELETE CASCADE NOT VALID;
ALTER TABLE conversation.logs DROP CONSTRAINT logs_user_id_fkey, DROP CONSTRAINT logs_session_id_fkey;
ALTER TABLE conversation.logs ADD CONSTRAINT logs_user_id_fkey
    FOREIGN KEY (user_id) REFERENCES conversation.profiles (id) ON UPDATE CASCADE ON DELETE SET NULL NOT VALID;
ALTER TABLE conversation.logs ADD CONSTRAINT logs_session_id_fkey
    FOREIGN KEY (session_id) REFERENCES conversation.sessions (id) ON UPDATE CASCADE ON DELETE SET NULL NOT VALID;

CREATE FUNCTION carnivore.keep_session_owner() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- A key follows its person's (ON UPDATE CASCADE): the old one is gone then.
    IF NOT EXISTS (SELECT FROM conversation.profiles AS p WHERE p.id = OLD.user_id) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'user_id cannot change any more'
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'immutable',
              SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, COLUMN = 'user_id';
END
$$;
COMMENT ON FUNCTION carnivore.keep_session_owner() IS 'A session stays its person''s, and its messages with it.';
REVOKE ALL ON FUNCTION carnivore.keep_session_owner() FROM PUBLIC, anon, authenticated, service_role;
CREATE TRIGGER keep_session_owner BEFORE UPDATE OF user_id ON conversation.sessions
    FOR EACH ROW WHEN (OLD.user_id <> NEW.user_id) EXECUTE FUNCTION carnivore.keep_session_owner();
COMMENT ON TRIGGER keep_session_owner ON conversation.sessions IS 'A session stays its person''s.';
"""

CLEANUP = """
-- Idle since then means begun before: the index is on started_at, which no message moves.
CREATE VIEW carnivore.due_sessions WITH (security_invoker = true) AS
SELECT s.id, s.started_at FROM conversation.sessions AS s
WHERE NOT s.is_completed AND s.started_at < now() - interval '7 days' AND s.last_activity_at < now() - interval '7 days';
COMMENT ON VIEW carnivore.due_sessions IS 'Open sessions that nobody touched for 7 days.';
COMMENT ON COLUMN carnivore.due_sessions.id IS 'The session.';
COMMENT ON COLUMN carnivore.due_sessions.started_at IS 'When it began.';
REVOKE ALL ON carnivore.due_sessions FROM PUBLIC, anon, authenticated, service_role;

-- It comes back with arguments that have defaults, in batches: the same call finds it.
-- squawk-ignore ban-drop-function
DROP FUNCTION conversation.delete_expired_sessions();
CREATE FUNCTION conversation.delete_expired_sessions(batch integer DEFAULT 500, job_id uuid DEFAULT gen_random_uuid())
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    began timestamptz := clock_timestamp();
    cutoff timestamptz := now() - interval '7 days';
    due uuid[];
BEGIN
    due := ARRAY(SELECT idle.id FROM carnivore.due_sessions AS idle
        ORDER BY idle.started_at, idle.id LIMIT batch FOR UPDATE SKIP LOCKED);
    DELETE FROM conversation.sessions AS s WHERE s.id = ANY (due);
    INSERT INTO conversation.logs (level, event_type, metadata) VALUES ('info', 'session_expiration_cleanup',
        jsonb_build_object('job', 'delete_expired_sessions', 'job_id', job_id, 'started_at', began,
            'finished_at', clock_timestamp(), 'before', cutoff, 'deleted', cardinality(due)));
    RETURN cardinality(due);
END
$$;
COMMENT ON FUNCTION conversation.delete_expired_sessions(integer, uuid) IS 'Deletes up to batch open sessions that nobody touched for 7 days; returns how many.';
REVOKE ALL ON FUNCTION conversation.delete_expired_sessions(integer, uuid) FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION conversation.delete_expired_sessions(integer, uuid) TO service_role;
-- It records what it did once logs are partitions.
ALTER FUNCTION conversation.delete_old_logs() SET search_path = pg_catalog, pg_temp;
"""

SECURITY = """
DROP POLICY profiles_insert_own ON conversation.profiles;
DROP POLICY profiles_update_own ON conversation.profiles;
DROP POLICY profiles_delete_own ON conversation.profiles;
DROP POLICY profiles_select_own ON conversation.profiles;
CREATE POLICY profiles_select_own ON conversation.profiles FOR SELECT TO authenticated
    USING (id = (SELECT auth.uid()));
COMMENT ON POLICY profiles_select_own ON conversation.profiles IS 'A person reads their own row.';
CREATE POLICY service_role_profiles ON conversation.profiles TO service_role USING (true) WITH CHECK (true);
COMMENT ON POLICY service_role_profiles ON conversation.profiles IS 'The service sees every row; its grants say what it may do.';
REVOKE ALL ON conversation.profiles FROM authenticated, service_role;
GRANT SELECT ON conversation.profiles TO authenticated, service_role;
GRANT UPDATE (email) ON conversation.profiles TO service_role;

DROP POLICY sessions_select_own ON conversation.sessions;
DROP POLICY sessions_insert_own ON conversation.sessions;
DROP POLICY sessions_update_own ON conversation.sessions;
DROP POLICY sessions_delete_own ON conversation.sessions;
CREATE POLICY sessions_select_own ON conversation.sessions FOR SELECT TO authenticated
    USING (user_id = (SELECT auth.uid()));
CREATE POLICY sessions_insert_own ON conversation.sessions FOR INSERT TO authenticated
    WITH CHECK (user_id = (SELECT auth.uid()));
CREATE POLICY sessions_update_own ON conversation.sessions FOR UPDATE TO authenticated
    USING (user_id = (SELECT auth.uid())) WITH CHECK (user_id = (SELECT auth.uid()) AND is_completed);
CREATE POLICY sessions_delete_own ON conversation.sessions FOR DELETE TO authenticated
    USING (user_id = (SELECT auth.uid()) AND NOT is_completed);
CREATE POLICY service_role_sessions ON conversation.sessions TO service_role USING (true) WITH CHECK (true);
COMMENT ON POLICY sessions_select_own ON conversation.sessions IS 'A person reads their own sessions.';
COMMENT ON POLICY sessions_insert_own ON conversation.sessions IS 'A person begins sessions of their own.';
COMMENT ON POLICY sessions_update_own ON conversation.sessions IS 'A person completes their own sessions, and opens none again.';
COMMENT ON POLICY sessions_delete_own ON conversation.sessions IS 'A person abandons an open session of theirs.';
COMMENT ON POLICY service_role_sessions ON conversation.sessions IS 'The service sees every row; its grants say what it may do.';
REVOKE ALL ON conversation.sessions FROM authenticated, service_role;
GRANT SELECT, DELETE ON conversation.sessions TO authenticated, service_role;
GRANT INSERT (id, user_id, scenario_id), UPDATE (is_completed) ON conversation.sessions TO authenticated, service_role;
GRANT INSERT (is_completed, started_at, last_activity_at, completed_at), UPDATE (started_at, last_activity_at, completed_at)
    ON conversation.sessions TO service_role;

DROP POLICY logs_select_own ON conversation.logs;
CREATE POLICY logs_select_own ON conversation.logs FOR SELECT TO authenticated USING (user_id = (SELECT auth.uid()));
CREATE POLICY service_role_logs ON conversation.logs TO service_role USING (true) WITH CHECK (true);
COMMENT ON POLICY logs_select_own ON conversation.logs IS 'A person reads what was logged about them.';
COMMENT ON POLICY service_role_logs ON conversation.logs IS 'The service reads and appends; its grants allow no more.';
REVOKE ALL ON conversation.logs FROM service_role;
GRANT SELECT ON conversation.logs TO service_role;
GRANT INSERT (level, event_type, user_id, session_id, metadata, created_at) ON conversation.logs TO service_role;
CREATE POLICY service_role_scenarios ON conversation.scenarios TO service_role USING (true) WITH CHECK (true);
COMMENT ON POLICY service_role_scenarios ON conversation.scenarios IS 'The service sees every row; its grants say what it may do.';
"""


def upgrade() -> None:
    for part in (COLUMNS, KEYS, CLEANUP, SECURITY):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
        LOCK TABLE conversation.messages, conversation.sessions, conversation.scenarios, conversation.profiles,
            conversation.logs IN ACCESS EXCLUSIVE MODE;
        DROP POLICY service_role_scenarios ON conversation.scenarios;
        DROP POLICY service_role_logs ON conversation.logs;
        DROP POLICY logs_select_own ON conversation.logs;
        DROP POLICY service_role_sessions ON conversation.sessions;
        DROP POLICY sessions_delete_own ON conversation.sessions;
        DROP POLICY sessions_update_own ON conversation.sessions;
        DROP POLICY sessions_insert_own ON conversation.sessions;
        DROP POLICY sessions_select_own ON conversation.sessions;
        DROP POLICY service_role_profiles ON conversation.profiles;
        DROP POLICY profiles_select_own ON conversation.profiles;
        REVOKE ALL ON conversation.profiles, conversation.sessions, conversation.logs FROM authenticated, service_role;
        DROP FUNCTION conversation.delete_expired_sessions(integer, uuid);
        DROP VIEW carnivore.due_sessions;
        ALTER FUNCTION conversation.delete_old_logs() RESET search_path;
    """)
    baseline = context.script.get_revision("conversation_baseline").module
    for part in (
        baseline.PROFILES_ACCESS,
        baseline.SESSIONS_ACCESS,
        baseline.LOGS_ACCESS,
        baseline.DELETE_EXPIRED_SESSIONS,
    ):
        op.execute(part)
    op.execute("""
        REVOKE ALL ON FUNCTION conversation.delete_expired_sessions() FROM PUBLIC, anon, authenticated, service_role;
        GRANT EXECUTE ON FUNCTION conversation.delete_expired_sessions() TO service_role;
    """)
    op.execute("""
        DROP TRIGGER keep_session_owner ON conversation.sessions;
        DROP FUNCTION carnivore.keep_session_owner();
        ALTER TABLE conversation.logs DROP CONSTRAINT logs_session_id_fkey, DROP CONSTRAINT logs_user_id_fkey,
            ADD CONSTRAINT logs_user_id_fkey FOREIGN KEY (user_id) REFERENCES conversation.profiles (id) ON DELETE SET NULL,
            ADD CONSTRAINT logs_session_id_fkey FOREIGN KEY (session_id) REFERENCES conversation.sessions (id) ON DELETE SET NULL;
        ALTER TABLE conversation.messages DROP CONSTRAINT messages_session_id_fkey,
            ADD CONSTRAINT messages_session_id_fkey FOREIGN KEY (session_id) REFERENCES conversation.sessions (id) ON DELETE CASCADE;
        ALTER TABLE conversation.sessions DROP CONSTRAINT sessions_scenario_id_fkey, DROP CONSTRAINT sessions_user_id_fkey,
            ADD CONSTRAINT sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES conversation.profiles (id) ON DELETE CASCADE,
            ADD CONSTRAINT sessions_scenario_id_fkey FOREIGN KEY (scenario_id) REFERENCES conversation.scenarios (id) ON DELETE RESTRICT;
        ALTER TABLE conversation.profiles DROP CONSTRAINT profiles_id_fkey,
            ADD CONSTRAINT profiles_id_fkey FOREIGN KEY (id) REFERENCES auth.users (id) ON DELETE CASCADE;
        DROP TRIGGER update_scenarios_updated_at ON conversation.scenarios;
        ALTER TABLE conversation.scenarios DROP COLUMN sort_order, DROP COLUMN updated_at;
        ALTER TABLE conversation.sessions ADD COLUMN created_at timestamptz DEFAULT now() NOT NULL;
        COMMENT ON COLUMN conversation.sessions.created_at IS 'When the row was made.';
    """)
    # Without the trigger: nothing else of the row changes.
    op.execute("""
        ALTER TABLE conversation.sessions DISABLE TRIGGER update_sessions_updated_at;
        UPDATE conversation.sessions SET created_at = started_at;
        ALTER TABLE conversation.sessions ENABLE TRIGGER update_sessions_updated_at;
    """)
