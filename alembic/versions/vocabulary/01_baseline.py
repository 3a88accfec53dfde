"""The picture-vocabulary app before document 001: learners and their sessions.

Why: the document adds its tables to a database that has these two, and its progress is what the ended sessions
add up to. A learner's own rows are theirs by row security; a guest's session is the service's alone. A learner
signs up under the address that they logged in with: any other could be somebody else's.
"""

from alembic import op

revision = "vocabulary_baseline"
down_revision = "platform"
branch_labels = ("vocabulary",)
depends_on = None

TYPES = """
CREATE SCHEMA vocabulary;
INSERT INTO carnivore.areas (area, schemas) VALUES ('vocabulary', '{vocabulary}');
COMMENT ON SCHEMA vocabulary IS 'The picture-vocabulary app (001).';
REVOKE ALL ON SCHEMA vocabulary FROM PUBLIC, anon, authenticated, service_role;
GRANT USAGE ON SCHEMA vocabulary TO authenticated, service_role;

CREATE TYPE vocabulary.spanish_level AS ENUM ('beginner', 'intermediate', 'advanced');
CREATE TYPE vocabulary.theme AS ENUM ('light', 'dark', 'auto');
CREATE TYPE vocabulary.language AS ENUM ('en', 'es');
CREATE TYPE vocabulary.description_style AS ENUM
    ('narrativo', 'poetico', 'academico', 'conversacional', 'infantil', 'creativo', 'tecnico');
CREATE TYPE vocabulary.difficulty AS ENUM ('beginner', 'intermediate', 'advanced');
CREATE TYPE vocabulary.session_type AS ENUM ('description', 'qa', 'vocabulary', 'mixed');
COMMENT ON TYPE vocabulary.spanish_level IS 'How well a learner speaks Spanish.';
COMMENT ON TYPE vocabulary.theme IS 'Colours of the app.';
COMMENT ON TYPE vocabulary.language IS 'Languages of the app itself.';
COMMENT ON TYPE vocabulary.description_style IS 'Styles in which pictures are described.';
COMMENT ON TYPE vocabulary.difficulty IS 'Difficulty of material.';
COMMENT ON TYPE vocabulary.session_type IS 'What a session is for.';
"""

USERS = r"""
CREATE TABLE vocabulary.users (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    email varchar(255) NOT NULL,
    username varchar(50),
    full_name varchar(255),
    avatar_url text,
    spanish_level vocabulary.spanish_level DEFAULT 'beginner' NOT NULL,
    is_authenticated boolean DEFAULT false NOT NULL,
    profile_completed boolean DEFAULT false NOT NULL,
    theme vocabulary.theme DEFAULT 'light' NOT NULL,
    language vocabulary.language DEFAULT 'en' NOT NULL,
    default_description_style vocabulary.description_style DEFAULT 'conversacional' NOT NULL,
    target_words_per_day integer DEFAULT 10 NOT NULL,
    preferred_difficulty vocabulary.difficulty DEFAULT 'beginner' NOT NULL,
    enable_notifications boolean DEFAULT true NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    last_login timestamptz,
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT email_format CHECK (email ~ '^[a-z0-9._%+''-]+@([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$'),
    CONSTRAINT username_valid CHECK (username ~ '^[A-Za-z0-9_]{3,}$'),
    CONSTRAINT full_name_length CHECK (char_length(btrim(full_name)) >= 2),
    CONSTRAINT avatar_url_valid CHECK (avatar_url ~ '^https?://[^[:space:]]+$' AND char_length(avatar_url) <= 2048),
    CONSTRAINT target_words_per_day_in_range CHECK (target_words_per_day BETWEEN 1 AND 100),
    CONSTRAINT last_login_in_range CHECK (last_login >= '2000-01-01 00:00:00+00'::timestamptz AND last_login < '2100-01-01 00:00:00+00'::timestamptz),
    CONSTRAINT users_email_key UNIQUE (email),
    CONSTRAINT users_username_key UNIQUE (username)
);
COMMENT ON TABLE vocabulary.users IS 'A learner; id is what auth.uid() returns for the person (001).';
COMMENT ON COLUMN vocabulary.users.id IS 'Identity: auth.uid() of the person.';
COMMENT ON COLUMN vocabulary.users.email IS 'The person''s address; stored in lower case.';
COMMENT ON COLUMN vocabulary.users.username IS 'Public name: 3 to 50 letters, digits and underscores of ASCII.';
COMMENT ON COLUMN vocabulary.users.full_name IS 'The person''s name, 2 characters or more.';
COMMENT ON COLUMN vocabulary.users.avatar_url IS 'http or https, at most 2,048 characters.';
COMMENT ON COLUMN vocabulary.users.spanish_level IS 'How well the person speaks Spanish.';
COMMENT ON COLUMN vocabulary.users.is_authenticated IS 'The service has seen a verified login.';
COMMENT ON COLUMN vocabulary.users.profile_completed IS 'The person has filled in the profile.';
COMMENT ON COLUMN vocabulary.users.theme IS 'Colours of the app.';
COMMENT ON COLUMN vocabulary.users.language IS 'Language of the app itself.';
COMMENT ON COLUMN vocabulary.users.default_description_style IS 'Style in which pictures are described.';
COMMENT ON COLUMN vocabulary.users.target_words_per_day IS 'The person''s goal, 1 to 100.';
COMMENT ON COLUMN vocabulary.users.preferred_difficulty IS 'Difficulty of new material.';
COMMENT ON COLUMN vocabulary.users.enable_notifications IS 'The person wants to be reminded.';
COMMENT ON COLUMN vocabulary.users.created_at IS 'When the row was made; never changes.';
COMMENT ON COLUMN vocabulary.users.updated_at IS 'When the row last changed; a trigger''s.';
COMMENT ON COLUMN vocabulary.users.last_login IS 'The latest login; the service''s.';
"""

SESSIONS = r"""
CREATE TABLE vocabulary.sessions (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id uuid,
    session_type vocabulary.session_type NOT NULL,
    started_at timestamptz DEFAULT now() NOT NULL,
    ended_at timestamptz,
    duration_minutes integer,
    images_processed integer DEFAULT 0 NOT NULL,
    descriptions_generated integer DEFAULT 0 NOT NULL,
    qa_attempts integer DEFAULT 0 NOT NULL,
    qa_correct integer DEFAULT 0 NOT NULL,
    vocabulary_learned integer DEFAULT 0 NOT NULL,
    phrases_saved integer DEFAULT 0 NOT NULL,
    session_data jsonb DEFAULT '{}'::jsonb NOT NULL,
    user_agent text,
    ip_address inet,
    device_type varchar(50),
    engagement_score numeric(3, 2) DEFAULT 0 NOT NULL,
    completion_rate numeric(3, 2) DEFAULT 0 NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT sessions_pkey PRIMARY KEY (id),
    CONSTRAINT started_at_in_range CHECK (started_at >= '2000-01-01 00:00:00+00'::timestamptz AND started_at < '2100-01-01 00:00:00+00'::timestamptz),
    CONSTRAINT ended_at_in_range CHECK (ended_at >= started_at AND ended_at < '2100-01-01 00:00:00+00'::timestamptz),
    CONSTRAINT duration_minutes_in_range CHECK (duration_minutes BETWEEN 0 AND 100000),
    CONSTRAINT images_processed_in_range CHECK (images_processed BETWEEN 0 AND 100000),
    CONSTRAINT descriptions_generated_in_range CHECK (descriptions_generated BETWEEN 0 AND 100000),
    CONSTRAINT qa_attempts_in_range CHECK (qa_attempts BETWEEN 0 AND 100000),
    CONSTRAINT vocabulary_learned_in_range CHECK (vocabulary_learned BETWEEN 0 AND 100000),
    CONSTRAINT phrases_saved_in_range CHECK (phrases_saved BETWEEN 0 AND 100000),
    CONSTRAINT qa_correct_in_range CHECK (qa_correct BETWEEN 0 AND qa_attempts),
    CONSTRAINT session_data_valid CHECK (jsonb_typeof(session_data) = 'object' AND octet_length(session_data::text) <= 65536 AND NOT jsonb_path_exists(session_data, '$.**{65}') AND NOT jsonb_path_exists(session_data, '$.** ? (@ > 1e308 || @ < -1e308)')),
    CONSTRAINT user_agent_length CHECK (char_length(user_agent) <= 1000),
    CONSTRAINT engagement_score_in_range CHECK (engagement_score BETWEEN 0 AND 1),
    CONSTRAINT completion_rate_in_range CHECK (completion_rate BETWEEN 0 AND 1),
    CONSTRAINT sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES vocabulary.users (id) ON DELETE CASCADE
);
CREATE INDEX idx_sessions_user_id_started_at ON vocabulary.sessions (user_id, started_at DESC);
COMMENT ON TABLE vocabulary.sessions IS 'A sitting of a learner or guest; it has ended when it has ended_at (001).';
COMMENT ON COLUMN vocabulary.sessions.id IS 'Identity.';
COMMENT ON COLUMN vocabulary.sessions.user_id IS 'The learner; NULL for a guest.';
COMMENT ON COLUMN vocabulary.sessions.session_type IS 'description, qa, vocabulary or mixed.';
COMMENT ON COLUMN vocabulary.sessions.started_at IS 'When it began.';
COMMENT ON COLUMN vocabulary.sessions.ended_at IS 'When it ended; NULL while it goes on.';
COMMENT ON COLUMN vocabulary.sessions.duration_minutes IS 'How long it took; derived from the two moments when not given.';
COMMENT ON COLUMN vocabulary.sessions.images_processed IS 'Pictures looked at.';
COMMENT ON COLUMN vocabulary.sessions.descriptions_generated IS 'Descriptions written.';
COMMENT ON COLUMN vocabulary.sessions.qa_attempts IS 'Questions answered.';
COMMENT ON COLUMN vocabulary.sessions.qa_correct IS 'Questions answered correctly.';
COMMENT ON COLUMN vocabulary.sessions.vocabulary_learned IS 'Words learned.';
COMMENT ON COLUMN vocabulary.sessions.phrases_saved IS 'Phrases saved.';
COMMENT ON COLUMN vocabulary.sessions.session_data IS 'What was learned, a JSON object of at most 64 KiB.';
COMMENT ON COLUMN vocabulary.sessions.user_agent IS 'The client''s own name, at most 1,000 characters.';
COMMENT ON COLUMN vocabulary.sessions.ip_address IS 'The client''s address; the service''s to note.';
COMMENT ON COLUMN vocabulary.sessions.device_type IS 'phone, tablet, desktop, ...';
COMMENT ON COLUMN vocabulary.sessions.engagement_score IS '0 to 1, the app''s own measure.';
COMMENT ON COLUMN vocabulary.sessions.completion_rate IS 'Share of the sitting''s material that was done, 0 to 1.';
COMMENT ON COLUMN vocabulary.sessions.created_at IS 'When the row was made; never changes.';
"""

RULES = """
COMMENT ON INDEX vocabulary.users_pkey IS 'Identity.';
COMMENT ON INDEX vocabulary.users_email_key IS 'One person, one address; logins look here.';
COMMENT ON INDEX vocabulary.users_username_key IS 'A public name belongs to one person.';
COMMENT ON INDEX vocabulary.sessions_pkey IS 'Identity.';
COMMENT ON INDEX vocabulary.idx_sessions_user_id_started_at IS 'Sessions of a learner, newest first; the foreign key.';

CREATE FUNCTION vocabulary.update_users_updated_at() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION vocabulary.update_users_updated_at() IS 'Keeps users.updated_at.';
REVOKE ALL ON FUNCTION vocabulary.update_users_updated_at() FROM PUBLIC, anon, authenticated, service_role;
CREATE TRIGGER trigger_users_updated_at BEFORE UPDATE ON vocabulary.users
    FOR EACH ROW EXECUTE FUNCTION vocabulary.update_users_updated_at();
COMMENT ON TRIGGER trigger_users_updated_at ON vocabulary.users IS 'Keeps updated_at.';

CREATE FUNCTION carnivore.derive_duration() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.duration_minutes = OLD.duration_minutes
        AND OLD.duration_minutes = least(round(extract(epoch FROM OLD.ended_at - OLD.started_at) / 60), 100000)
    THEN
        NEW.duration_minutes := NULL; -- it was derived of moments that may have been corrected since
    END IF;
    -- Moments that no session can have derive nothing: their own checks shall speak. And a session that
    -- nobody ended for months can be ended.
    IF NEW.duration_minutes IS NULL AND NEW.ended_at >= NEW.started_at
        AND isfinite(NEW.ended_at) AND isfinite(NEW.started_at)
    THEN
        NEW.duration_minutes := least(round(extract(epoch FROM NEW.ended_at - NEW.started_at) / 60), 100000);
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION carnivore.derive_duration() IS 'Derives duration_minutes of a session''s two moments when nobody gave it.';
REVOKE ALL ON FUNCTION carnivore.derive_duration() FROM PUBLIC, anon, authenticated, service_role;
CREATE TRIGGER trigger_sessions_derive_duration BEFORE INSERT OR UPDATE OF started_at, ended_at, duration_minutes
    ON vocabulary.sessions FOR EACH ROW EXECUTE FUNCTION carnivore.derive_duration();
COMMENT ON TRIGGER trigger_sessions_derive_duration ON vocabulary.sessions IS 'Derives the duration when nobody gave it.';
CREATE TRIGGER trigger_users_fold_email BEFORE INSERT OR UPDATE OF email ON vocabulary.users
    FOR EACH ROW EXECUTE FUNCTION carnivore.fold_email();
COMMENT ON TRIGGER trigger_users_fold_email ON vocabulary.users IS 'Lower-case addresses.';
CREATE TRIGGER trigger_users_immutable BEFORE UPDATE OF id, created_at ON vocabulary.users
    FOR EACH ROW WHEN ((OLD.id, OLD.created_at) IS DISTINCT FROM (NEW.id, NEW.created_at))
    EXECUTE FUNCTION carnivore.refuse_change('id', 'created_at');
COMMENT ON TRIGGER trigger_users_immutable ON vocabulary.users IS 'id and created_at never change.';
CREATE TRIGGER trigger_sessions_immutable BEFORE UPDATE OF id, created_at ON vocabulary.sessions
    FOR EACH ROW WHEN ((OLD.id, OLD.created_at) IS DISTINCT FROM (NEW.id, NEW.created_at))
    EXECUTE FUNCTION carnivore.refuse_change('id', 'created_at');
COMMENT ON TRIGGER trigger_sessions_immutable ON vocabulary.sessions IS 'id and created_at never change.';
"""

SECURITY = """
ALTER TABLE vocabulary.users ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON vocabulary.users FROM PUBLIC, anon, authenticated, service_role;
CREATE POLICY service_role_users ON vocabulary.users TO service_role USING (true) WITH CHECK (true);
COMMENT ON POLICY service_role_users ON vocabulary.users IS 'The service sees every row; its grants say what it may do.';
CREATE POLICY select_own_users ON vocabulary.users FOR SELECT TO authenticated
    USING (id = (SELECT auth.uid()));
COMMENT ON POLICY select_own_users ON vocabulary.users IS 'A person reads their own row.';
CREATE POLICY insert_own_users ON vocabulary.users FOR INSERT TO authenticated
    WITH CHECK (id = (SELECT auth.uid())
        AND email = lower((SELECT auth.email()) COLLATE "C"));
COMMENT ON POLICY insert_own_users ON vocabulary.users IS 'A person adds their own row, under the address that they logged in with.';
CREATE POLICY update_own_users ON vocabulary.users FOR UPDATE TO authenticated
    USING (id = (SELECT auth.uid()))
    WITH CHECK (id = (SELECT auth.uid()));
COMMENT ON POLICY update_own_users ON vocabulary.users IS 'A person changes their own row.';
GRANT SELECT ON vocabulary.users TO authenticated, service_role;
GRANT INSERT (id, email, username, full_name, avatar_url, spanish_level, profile_completed, theme, language,
        default_description_style, target_words_per_day, preferred_difficulty, enable_notifications),
    UPDATE (username, full_name, avatar_url, spanish_level, profile_completed, theme, language,
        default_description_style, target_words_per_day, preferred_difficulty, enable_notifications)
    ON vocabulary.users TO authenticated;
GRANT INSERT (id, email, username, full_name, avatar_url, spanish_level, profile_completed, theme, language,
        default_description_style, target_words_per_day, preferred_difficulty, enable_notifications,
        is_authenticated, last_login),
    UPDATE (email, username, full_name, avatar_url, spanish_level, profile_completed, theme, language,
        default_description_style, target_words_per_day, preferred_difficulty, enable_notifications,
        is_authenticated, last_login),
    DELETE
    ON vocabulary.users TO service_role;

ALTER TABLE vocabulary.sessions ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON vocabulary.sessions FROM PUBLIC, anon, authenticated, service_role;
CREATE POLICY service_role_sessions ON vocabulary.sessions TO service_role USING (true) WITH CHECK (true);
COMMENT ON POLICY service_role_sessions ON vocabulary.sessions IS 'The service sees every row; its grants say what it may do.';
CREATE POLICY select_own_sessions ON vocabulary.sessions FOR SELECT TO authenticated
    USING (user_id = (SELECT auth.uid()));
COMMENT ON POLICY select_own_sessions ON vocabulary.sessions IS 'A learner reads their own sessions; guests have none to read.';
CREATE POLICY insert_own_sessions ON vocabulary.sessions FOR INSERT TO authenticated
    WITH CHECK (user_id = (SELECT auth.uid()));
COMMENT ON POLICY insert_own_sessions ON vocabulary.sessions IS 'A learner begins sessions of their own.';
CREATE POLICY update_own_sessions ON vocabulary.sessions FOR UPDATE TO authenticated
    USING (user_id = (SELECT auth.uid()))
    WITH CHECK (user_id = (SELECT auth.uid()));
COMMENT ON POLICY update_own_sessions ON vocabulary.sessions IS 'A learner changes their own sessions.';
CREATE POLICY delete_own_sessions ON vocabulary.sessions FOR DELETE TO authenticated
    USING (user_id = (SELECT auth.uid()));
COMMENT ON POLICY delete_own_sessions ON vocabulary.sessions IS 'A learner deletes their own sessions; progress follows.';
GRANT SELECT, DELETE ON vocabulary.sessions TO authenticated, service_role;
GRANT INSERT (id, user_id, session_type, started_at, ended_at, duration_minutes, images_processed,
        descriptions_generated, qa_attempts, qa_correct, vocabulary_learned, phrases_saved, session_data,
        user_agent, device_type, engagement_score, completion_rate),
    UPDATE (session_type, started_at, ended_at, duration_minutes, images_processed,
        descriptions_generated, qa_attempts, qa_correct, vocabulary_learned, phrases_saved, session_data,
        user_agent, device_type, engagement_score, completion_rate)
    ON vocabulary.sessions TO authenticated;
GRANT INSERT (id, user_id, session_type, started_at, ended_at, duration_minutes, images_processed,
        descriptions_generated, qa_attempts, qa_correct, vocabulary_learned, phrases_saved, session_data,
        user_agent, device_type, engagement_score, completion_rate, ip_address),
    UPDATE (user_id, session_type, started_at, ended_at, duration_minutes, images_processed,
        descriptions_generated, qa_attempts, qa_correct, vocabulary_learned, phrases_saved, session_data,
        user_agent, device_type, engagement_score, completion_rate, ip_address)
    ON vocabulary.sessions TO service_role;
"""


def upgrade() -> None:
    for part in (TYPES, USERS, SESSIONS, RULES, SECURITY):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
        DROP TABLE vocabulary.sessions;
        DROP TABLE vocabulary.users;
        DROP FUNCTION carnivore.derive_duration();
        DROP FUNCTION vocabulary.update_users_updated_at();
        DROP TYPE vocabulary.session_type;
        DROP TYPE vocabulary.difficulty;
        DROP TYPE vocabulary.description_style;
        DROP TYPE vocabulary.language;
        DROP TYPE vocabulary.theme;
        DROP TYPE vocabulary.spanish_level;
        DROP SCHEMA vocabulary;
        DELETE FROM carnivore.partition_sizes WHERE relation LIKE 'vocabulary.%';
        DELETE FROM carnivore.areas WHERE area = 'vocabulary';
    """)
