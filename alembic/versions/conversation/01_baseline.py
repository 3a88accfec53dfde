"""The role-play chat as it stood before its refinement: profiles, scenarios, sessions, messages, logs.

Why: the document "Database Refinement - Critical Fixes" repairs a schema that exists and holds data. This is
that schema, its flaws included, so that the refinement is a real migration, up and down; nothing that runs
stays at this revision. People who could log in before get their profile here.
"""

from alembic import op

revision = "conversation_baseline"
down_revision = "platform"
branch_labels = ("conversation",)
depends_on = None

TABLES = """
INSERT INTO carnivore.areas (area, schemas) VALUES ('conversation', '{conversation}');
CREATE SCHEMA conversation;
COMMENT ON SCHEMA conversation IS 'The role-play chat (20251110150000).';
REVOKE ALL ON SCHEMA conversation FROM PUBLIC, anon, authenticated, service_role;
GRANT USAGE ON SCHEMA conversation TO anon, authenticated, service_role;

CREATE TABLE conversation.profiles (
    id uuid NOT NULL,
    email text NOT NULL,
    completed_scenario_count integer DEFAULT 0 NOT NULL,
    current_week_completion_count integer DEFAULT 0 NOT NULL,
    week_reset_date timestamptz NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT profiles_pkey PRIMARY KEY (id),
    CONSTRAINT completed_scenario_count_not_negative CHECK (completed_scenario_count >= 0),
    CONSTRAINT current_week_completion_count_not_negative CHECK (current_week_completion_count >= 0),
    CONSTRAINT profiles_id_fkey FOREIGN KEY (id) REFERENCES auth.users (id) ON DELETE CASCADE
);
CREATE INDEX idx_profiles_email ON conversation.profiles (email);

CREATE TABLE conversation.scenarios (
    id integer NOT NULL,
    title text NOT NULL,
    emoji text NOT NULL,
    initial_message_main text NOT NULL,
    initial_message_helper text NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT scenarios_pkey PRIMARY KEY (id)
);
INSERT INTO conversation.scenarios (id, title, emoji, initial_message_main, initial_message_helper) VALUES
    (1, 'At the marketplace', '🥕',
        'Guten Morgen! Heute sind die Äpfel besonders süß. Was darf ich Ihnen einpacken?',
        'You are shopping at a weekly market. Ask me whenever a word or a price puzzles you.'),
    (2, 'At a party', '🎉',
        'Hallo! Wir kennen uns noch nicht, oder? Woher kennst du denn die Gastgeberin?',
        'You are at a birthday party and meet somebody new. I can suggest questions and polite answers.'),
    (3, 'At the kebab shop', '🥙',
        'Servus! Einmal mit allem? Und welche Soße darf es sein?',
        'You are ordering food in a hurry. Ask me what is on the menu, or how to say what you want.');

CREATE TABLE conversation.sessions (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id uuid NOT NULL,
    scenario_id integer NOT NULL,
    is_completed boolean DEFAULT false NOT NULL,
    started_at timestamptz DEFAULT now() NOT NULL,
    last_activity_at timestamptz DEFAULT now() NOT NULL,
    completed_at timestamptz,
    message_count_main integer DEFAULT 0 NOT NULL,
    message_count_helper integer DEFAULT 0 NOT NULL,
    duration_seconds integer,
    updated_at timestamptz DEFAULT now() NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT sessions_pkey PRIMARY KEY (id),
    CONSTRAINT sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES conversation.profiles (id) ON DELETE CASCADE,
    CONSTRAINT sessions_scenario_id_fkey FOREIGN KEY (scenario_id) REFERENCES conversation.scenarios (id) ON DELETE RESTRICT
);
CREATE UNIQUE INDEX idx_sessions_active_per_user ON conversation.sessions (user_id) WHERE NOT is_completed;
CREATE INDEX idx_sessions_history ON conversation.sessions (user_id, completed_at DESC) WHERE is_completed;
CREATE INDEX idx_sessions_user_lookup ON conversation.sessions (user_id, is_completed);
CREATE INDEX idx_sessions_expiration_cleanup ON conversation.sessions (last_activity_at) WHERE NOT is_completed;

CREATE TABLE conversation.messages (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    session_id uuid NOT NULL,
    role text NOT NULL,
    chat_type text NOT NULL,
    content text NOT NULL,
    "timestamp" timestamptz DEFAULT now() NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT messages_pkey PRIMARY KEY (id),
    CONSTRAINT messages_role_valid CHECK (role IN ('user', 'scenario', 'helper')),
    CONSTRAINT messages_chat_type_valid CHECK (chat_type IN ('main', 'helper')),
    CONSTRAINT messages_session_id_fkey FOREIGN KEY (session_id) REFERENCES conversation.sessions (id) ON DELETE CASCADE
);
CREATE INDEX idx_messages_session_chronological ON conversation.messages (session_id, "timestamp");
CREATE INDEX idx_messages_chat_type ON conversation.messages (session_id, chat_type, "timestamp");

CREATE TABLE conversation.logs (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    level text NOT NULL,
    event_type text NOT NULL,
    user_id uuid,
    session_id uuid,
    metadata jsonb,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT logs_pkey PRIMARY KEY (id),
    CONSTRAINT level_valid CHECK (level IN ('error', 'warn', 'info', 'debug')),
    CONSTRAINT event_type_valid CHECK (event_type IN (
        'api_call_started', 'api_call_completed', 'api_call_failed', 'api_call_timeout', 'api_retry_attempted',
        'user_registered', 'user_login_success', 'user_login_failed', 'user_logout', 'session_expired',
        'account_deleted', 'scenario_started', 'scenario_completed', 'scenario_abandoned', 'session_created',
        'session_restored', 'session_expiration_cleanup', 'rate_limit_checked', 'rate_limit_exceeded',
        'weekly_limit_reset', 'database_error', 'cleanup_job_executed', 'unknown_error')),
    CONSTRAINT logs_user_id_fkey FOREIGN KEY (user_id) REFERENCES conversation.profiles (id) ON DELETE SET NULL,
    CONSTRAINT logs_session_id_fkey FOREIGN KEY (session_id) REFERENCES conversation.sessions (id) ON DELETE SET NULL
);
CREATE INDEX idx_logs_level ON conversation.logs (level);
CREATE INDEX idx_logs_event_type ON conversation.logs (event_type);
CREATE INDEX idx_logs_created_at ON conversation.logs (created_at DESC);
CREATE INDEX idx_logs_level_created ON conversation.logs (level, created_at DESC);
CREATE INDEX idx_logs_user ON conversation.logs (user_id) WHERE user_id IS NOT NULL;
"""

COMMENTS = """
COMMENT ON TABLE conversation.profiles IS 'A person of the chat; id is what auth.uid() returns for them.';
COMMENT ON COLUMN conversation.profiles.id IS 'Identity: auth.uid() of the person.';
COMMENT ON COLUMN conversation.profiles.email IS 'The person''s address.';
COMMENT ON COLUMN conversation.profiles.completed_scenario_count IS 'Completed sessions.';
COMMENT ON COLUMN conversation.profiles.current_week_completion_count IS 'Completed sessions of the week that ends at week_reset_date.';
COMMENT ON COLUMN conversation.profiles.week_reset_date IS 'When the week''s count begins anew.';
COMMENT ON COLUMN conversation.profiles.created_at IS 'When the row was made.';
COMMENT ON COLUMN conversation.profiles.updated_at IS 'When the row last changed; a trigger''s.';
COMMENT ON INDEX conversation.profiles_pkey IS 'Identity.';
COMMENT ON INDEX conversation.idx_profiles_email IS 'Lookup by address.';
COMMENT ON TABLE conversation.scenarios IS 'A scene to play.';
COMMENT ON COLUMN conversation.scenarios.id IS 'Identity.';
COMMENT ON COLUMN conversation.scenarios.title IS 'What the scene is called.';
COMMENT ON COLUMN conversation.scenarios.emoji IS 'Its picture.';
COMMENT ON COLUMN conversation.scenarios.initial_message_main IS 'The partner''s opening line, in German.';
COMMENT ON COLUMN conversation.scenarios.initial_message_helper IS 'The helper''s opening line, in English.';
COMMENT ON COLUMN conversation.scenarios.is_active IS 'It is offered.';
COMMENT ON COLUMN conversation.scenarios.created_at IS 'When the row was made.';
COMMENT ON INDEX conversation.scenarios_pkey IS 'Identity.';
COMMENT ON TABLE conversation.sessions IS 'A scene as one person plays it.';
COMMENT ON COLUMN conversation.sessions.id IS 'Identity.';
COMMENT ON COLUMN conversation.sessions.user_id IS 'The person who plays.';
COMMENT ON COLUMN conversation.sessions.scenario_id IS 'The scene.';
COMMENT ON COLUMN conversation.sessions.is_completed IS 'The scene was played to its end.';
COMMENT ON COLUMN conversation.sessions.started_at IS 'When it began.';
COMMENT ON COLUMN conversation.sessions.last_activity_at IS 'When its latest message came.';
COMMENT ON COLUMN conversation.sessions.completed_at IS 'When it was completed.';
COMMENT ON COLUMN conversation.sessions.message_count_main IS 'Messages of the main chat; a trigger''s.';
COMMENT ON COLUMN conversation.sessions.message_count_helper IS 'Messages of the helper''s chat; a trigger''s.';
COMMENT ON COLUMN conversation.sessions.duration_seconds IS 'From start to completion; a trigger''s.';
COMMENT ON COLUMN conversation.sessions.updated_at IS 'When the row last changed; a trigger''s.';
COMMENT ON COLUMN conversation.sessions.created_at IS 'When the row was made.';
COMMENT ON INDEX conversation.sessions_pkey IS 'Identity.';
COMMENT ON INDEX conversation.idx_sessions_active_per_user IS 'One open session a person.';
COMMENT ON INDEX conversation.idx_sessions_history IS 'Completed sessions of a person, newest first.';
COMMENT ON INDEX conversation.idx_sessions_user_lookup IS 'Sessions of a person; the foreign key.';
COMMENT ON INDEX conversation.idx_sessions_expiration_cleanup IS 'Open sessions that nobody touched for long.';
COMMENT ON TABLE conversation.messages IS 'What was said in a session.';
COMMENT ON COLUMN conversation.messages.id IS 'Identity.';
COMMENT ON COLUMN conversation.messages.session_id IS 'The session.';
COMMENT ON COLUMN conversation.messages.role IS 'Who said it.';
COMMENT ON COLUMN conversation.messages.chat_type IS 'The chat that it was said in: main or helper.';
COMMENT ON COLUMN conversation.messages.content IS 'What was said.';
COMMENT ON COLUMN conversation.messages."timestamp" IS 'When it was said.';
COMMENT ON COLUMN conversation.messages.created_at IS 'When the row was made.';
COMMENT ON INDEX conversation.messages_pkey IS 'Identity.';
COMMENT ON INDEX conversation.idx_messages_session_chronological IS 'A session in order; the foreign key.';
COMMENT ON INDEX conversation.idx_messages_chat_type IS 'One chat of a session in order.';
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
"""

# What a later revision replaces stands by itself: its downgrade runs this text again.
UPDATE_UPDATED_AT = """
CREATE FUNCTION conversation.update_updated_at_column() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION conversation.update_updated_at_column() IS 'Keeps updated_at.';
"""

INCREMENT_MESSAGE_COUNT = """
CREATE OR REPLACE FUNCTION conversation.increment_message_count() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NEW.chat_type = 'main' THEN
        UPDATE conversation.sessions SET message_count_main = message_count_main + 1, last_activity_at = now()
        WHERE id = NEW.session_id;
    ELSIF NEW.chat_type = 'helper' THEN
        UPDATE conversation.sessions SET message_count_helper = message_count_helper + 1, last_activity_at = now()
        WHERE id = NEW.session_id;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION conversation.increment_message_count() IS 'Counts the messages of a session.';
"""

CALCULATE_DURATION = """
CREATE OR REPLACE FUNCTION conversation.calculate_session_duration() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.is_completed AND NOT OLD.is_completed THEN
        NEW.duration_seconds := extract(epoch FROM NEW.completed_at - NEW.started_at)::integer;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION conversation.calculate_session_duration() IS 'Derives a completed session''s duration.';
"""

CREATE_PROFILE = """
CREATE OR REPLACE FUNCTION conversation.create_profile_for_new_user() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO conversation.profiles (id, email, week_reset_date)
    VALUES (NEW.id, NEW.email, now() + interval '7 days');
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION conversation.create_profile_for_new_user() IS 'Gives a new login its profile.';
"""

DELETE_EXPIRED_SESSIONS = """
CREATE OR REPLACE FUNCTION conversation.delete_expired_sessions() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    deleted integer;
BEGIN
    DELETE FROM conversation.sessions WHERE NOT is_completed AND last_activity_at < now() - interval '7 days';
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END
$$;
COMMENT ON FUNCTION conversation.delete_expired_sessions() IS 'Deletes open sessions that nobody touched for 7 days.';
"""

DELETE_OLD_LOGS = """
CREATE OR REPLACE FUNCTION conversation.delete_old_logs() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    deleted integer;
BEGIN
    DELETE FROM conversation.logs WHERE created_at < now() - interval '30 days';
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END
$$;
COMMENT ON FUNCTION conversation.delete_old_logs() IS 'Deletes logs of more than 30 days ago.';
"""

RESET_WEEKLY_LIMITS = """
CREATE OR REPLACE FUNCTION conversation.reset_weekly_limits() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    reset integer;
BEGIN
    UPDATE conversation.profiles
    SET current_week_completion_count = 0, week_reset_date = week_reset_date + interval '7 days'
    WHERE week_reset_date <= now();
    GET DIAGNOSTICS reset = ROW_COUNT;
    RETURN reset;
END
$$;
COMMENT ON FUNCTION conversation.reset_weekly_limits() IS 'Begins a new week for those whose week is over.';
"""

INCREMENT_MESSAGE_COUNT_TRIGGER = """
CREATE TRIGGER increment_message_count AFTER INSERT ON conversation.messages
    FOR EACH ROW EXECUTE FUNCTION conversation.increment_message_count();
COMMENT ON TRIGGER increment_message_count ON conversation.messages IS 'Counts messages.';
"""

CALCULATE_DURATION_TRIGGER = """
CREATE TRIGGER calculate_session_duration BEFORE UPDATE ON conversation.sessions
    FOR EACH ROW EXECUTE FUNCTION conversation.calculate_session_duration();
COMMENT ON TRIGGER calculate_session_duration ON conversation.sessions IS 'Derives the duration.';
"""

CLEANUP_RIGHTS = """
REVOKE ALL ON FUNCTION conversation.delete_expired_sessions(), conversation.delete_old_logs(),
    conversation.reset_weekly_limits() FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION conversation.delete_expired_sessions(), conversation.delete_old_logs(),
    conversation.reset_weekly_limits() TO service_role;
"""

RIGHTS = """
REVOKE ALL ON FUNCTION conversation.update_updated_at_column(), conversation.increment_message_count(),
    conversation.calculate_session_duration(), conversation.create_profile_for_new_user()
    FROM PUBLIC, anon, authenticated, service_role;
"""

TRIGGERS = """
CREATE TRIGGER update_profiles_updated_at BEFORE UPDATE ON conversation.profiles
    FOR EACH ROW EXECUTE FUNCTION conversation.update_updated_at_column();
CREATE TRIGGER update_sessions_updated_at BEFORE UPDATE ON conversation.sessions
    FOR EACH ROW EXECUTE FUNCTION conversation.update_updated_at_column();
COMMENT ON TRIGGER update_profiles_updated_at ON conversation.profiles IS 'Keeps updated_at.';
COMMENT ON TRIGGER update_sessions_updated_at ON conversation.sessions IS 'Keeps updated_at.';

-- Without a comment: on Supabase nobody but its own role may comment on a trigger of this table.
-- Supabase's guide calls one's own trigger so too: one that is there keeps the name.
DO $$
BEGIN
    EXECUTE format('CREATE TRIGGER %I AFTER INSERT ON auth.users
        FOR EACH ROW EXECUTE FUNCTION conversation.create_profile_for_new_user()',
        CASE WHEN EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND tgname = 'on_auth_user_created')
            THEN 'conversation_on_auth_user_created' ELSE 'on_auth_user_created' END);
END
$$;
-- Of logins whose addresses differ in case alone the first has the profile; verify tells who has none.
INSERT INTO conversation.profiles (id, email, week_reset_date)
SELECT DISTINCT ON (lower(email COLLATE "C")) id, email, now() + interval '7 days'
FROM auth.users WHERE email COLLATE "C" ~ '^[!-~]+$' ORDER BY lower(email COLLATE "C"), created_at, id;
"""

SECURITY = """
ALTER TABLE conversation.profiles ENABLE ROW LEVEL SECURITY;
ALTER TABLE conversation.scenarios ENABLE ROW LEVEL SECURITY;
ALTER TABLE conversation.sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE conversation.messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE conversation.logs ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON conversation.profiles, conversation.scenarios, conversation.sessions, conversation.messages,
    conversation.logs FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON conversation.scenarios TO anon, authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON conversation.scenarios TO service_role;
CREATE POLICY scenarios_select_all ON conversation.scenarios FOR SELECT TO authenticated, anon USING (true);
COMMENT ON POLICY scenarios_select_all ON conversation.scenarios IS 'Everybody reads the scenes.';
"""

# Grants and policies of each table, which the refinement replaces.
PROFILES_ACCESS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON conversation.profiles TO authenticated, service_role;
CREATE POLICY profiles_select_own ON conversation.profiles FOR SELECT TO authenticated USING (auth.uid() = id);
CREATE POLICY profiles_insert_own ON conversation.profiles FOR INSERT TO authenticated WITH CHECK (auth.uid() = id);
CREATE POLICY profiles_update_own ON conversation.profiles FOR UPDATE TO authenticated
    USING (auth.uid() = id) WITH CHECK (auth.uid() = id);
CREATE POLICY profiles_delete_own ON conversation.profiles FOR DELETE TO authenticated USING (auth.uid() = id);
COMMENT ON POLICY profiles_select_own ON conversation.profiles IS 'A person reads their own row.';
COMMENT ON POLICY profiles_insert_own ON conversation.profiles IS 'A person adds their own row.';
COMMENT ON POLICY profiles_update_own ON conversation.profiles IS 'A person changes their own row.';
COMMENT ON POLICY profiles_delete_own ON conversation.profiles IS 'A person deletes their own row.';
"""

SESSIONS_ACCESS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON conversation.sessions TO authenticated, service_role;
CREATE POLICY sessions_select_own ON conversation.sessions FOR SELECT TO authenticated USING (auth.uid() = user_id);
CREATE POLICY sessions_insert_own ON conversation.sessions FOR INSERT TO authenticated WITH CHECK (auth.uid() = user_id);
CREATE POLICY sessions_update_own ON conversation.sessions FOR UPDATE TO authenticated
    USING (auth.uid() = user_id) WITH CHECK (auth.uid() = user_id);
CREATE POLICY sessions_delete_own ON conversation.sessions FOR DELETE TO authenticated USING (auth.uid() = user_id);
COMMENT ON POLICY sessions_select_own ON conversation.sessions IS 'A person reads their own sessions.';
COMMENT ON POLICY sessions_insert_own ON conversation.sessions IS 'A person begins sessions of their own.';
COMMENT ON POLICY sessions_update_own ON conversation.sessions IS 'A person changes their own sessions.';
COMMENT ON POLICY sessions_delete_own ON conversation.sessions IS 'A person deletes their own sessions.';
"""

MESSAGES_ACCESS = """
GRANT SELECT, INSERT ON conversation.messages TO authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON conversation.messages TO service_role;
CREATE POLICY messages_select_own ON conversation.messages FOR SELECT TO authenticated USING (EXISTS (
    SELECT FROM conversation.sessions AS s WHERE s.id = messages.session_id AND s.user_id = auth.uid()));
CREATE POLICY messages_insert_own ON conversation.messages FOR INSERT TO authenticated WITH CHECK (EXISTS (
    SELECT FROM conversation.sessions AS s WHERE s.id = messages.session_id AND s.user_id = auth.uid()));
COMMENT ON POLICY messages_select_own ON conversation.messages IS 'A person reads the messages of their sessions.';
COMMENT ON POLICY messages_insert_own ON conversation.messages IS 'A person adds messages to their sessions.';
"""

LOGS_ACCESS = """
GRANT SELECT ON conversation.logs TO authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON conversation.logs TO service_role;
CREATE POLICY logs_select_own ON conversation.logs FOR SELECT TO authenticated USING (auth.uid() = user_id);
COMMENT ON POLICY logs_select_own ON conversation.logs IS 'A person reads what was logged about them.';
"""


def upgrade() -> None:
    for part in (
        TABLES,
        COMMENTS,
        UPDATE_UPDATED_AT,
        INCREMENT_MESSAGE_COUNT,
        CALCULATE_DURATION,
        CREATE_PROFILE,
        DELETE_EXPIRED_SESSIONS,
        DELETE_OLD_LOGS,
        RESET_WEEKLY_LIMITS,
        CLEANUP_RIGHTS,
        RIGHTS,
        INCREMENT_MESSAGE_COUNT_TRIGGER,
        CALCULATE_DURATION_TRIGGER,
        TRIGGERS,
        SECURITY,
        PROFILES_ACCESS,
        SESSIONS_ACCESS,
        MESSAGES_ACCESS,
        LOGS_ACCESS,
    ):
        op.execute(part)


def downgrade() -> None:
    # CASCADE takes the trigger on auth.users along: on Supabase only that table's owner could drop it.
    op.execute("""
        DROP FUNCTION conversation.create_profile_for_new_user() CASCADE;
        DROP TABLE conversation.logs, conversation.messages, conversation.sessions, conversation.scenarios,
            conversation.profiles;
        DROP FUNCTION conversation.reset_weekly_limits();
        DROP FUNCTION conversation.delete_old_logs();
        DROP FUNCTION conversation.delete_expired_sessions();
        DROP FUNCTION conversation.calculate_session_duration();
        DROP FUNCTION conversation.increment_message_count();
        DROP FUNCTION conversation.update_updated_at_column();
        DROP SCHEMA conversation;
        DELETE FROM carnivore.partition_sizes WHERE relation LIKE 'conversation.%';
        DELETE FROM carnivore.areas WHERE area = 'conversation';
    """)
