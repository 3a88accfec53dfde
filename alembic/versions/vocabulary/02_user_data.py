"""Document 001: API keys, progress and exports.

Why: the document's progress counted a session again whenever it was corrected and began at zero for those who
were there before; its keys were plain text; its exports could be rewritten. Here progress equals the sum of the
ended sessions at every commit, those from before included; the columns for keys take the package's ciphertext
alone; and an export's states, moments and attempts are the database's to note.
"""

from alembic import op

revision = "001_user_data"
down_revision = "vocabulary_baseline"
branch_labels = None
depends_on = None

USER_API_KEYS = r"""
CREATE TABLE vocabulary.user_api_keys (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id uuid NOT NULL,
    openai_api_key text,
    unsplash_api_key text,
    anthropic_api_key text,
    last_validated_at timestamptz,
    is_active boolean DEFAULT true NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT user_api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT openai_api_key_valid CHECK (openai_api_key ~ '^enc:v1:[a-z0-9_-]{1,32}:[A-Za-z0-9_-]{39,}$' AND char_length(openai_api_key) <= 2000),
    CONSTRAINT unsplash_api_key_valid CHECK (unsplash_api_key ~ '^enc:v1:[a-z0-9_-]{1,32}:[A-Za-z0-9_-]{39,}$' AND char_length(unsplash_api_key) <= 2000),
    CONSTRAINT anthropic_api_key_valid CHECK (anthropic_api_key ~ '^enc:v1:[a-z0-9_-]{1,32}:[A-Za-z0-9_-]{39,}$' AND char_length(anthropic_api_key) <= 2000),
    CONSTRAINT last_validated_at_in_range CHECK (last_validated_at >= '2000-01-01 00:00:00+00'::timestamptz AND last_validated_at < '2100-01-01 00:00:00+00'::timestamptz),
    CONSTRAINT unique_user_api_keys UNIQUE (user_id),
    CONSTRAINT user_api_keys_user_id_fkey FOREIGN KEY (user_id) REFERENCES vocabulary.users (id) ON DELETE CASCADE
);
COMMENT ON TABLE vocabulary.user_api_keys IS 'A learner''s keys of other services, encrypted (001).';
COMMENT ON COLUMN vocabulary.user_api_keys.id IS 'Identity.';
COMMENT ON COLUMN vocabulary.user_api_keys.user_id IS 'The learner, who has one row.';
COMMENT ON COLUMN vocabulary.user_api_keys.openai_api_key IS 'Encrypted by the package for this user and OpenAI alone.';
COMMENT ON COLUMN vocabulary.user_api_keys.unsplash_api_key IS 'Encrypted by the package for this user and Unsplash alone.';
COMMENT ON COLUMN vocabulary.user_api_keys.anthropic_api_key IS 'Encrypted by the package for this user and Anthropic alone.';
COMMENT ON COLUMN vocabulary.user_api_keys.last_validated_at IS 'When the services last took these keys; a changed or removed key empties it.';
COMMENT ON COLUMN vocabulary.user_api_keys.is_active IS 'False once a service refused a key or somebody disabled them.';
COMMENT ON COLUMN vocabulary.user_api_keys.created_at IS 'When the row was made; never changes.';
COMMENT ON COLUMN vocabulary.user_api_keys.updated_at IS 'When the row last changed; a trigger''s.';
"""

USER_PROGRESS = r"""
CREATE TABLE vocabulary.user_progress (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id uuid NOT NULL,
    total_descriptions integer DEFAULT 0 NOT NULL,
    total_images integer DEFAULT 0 NOT NULL,
    total_questions_answered integer DEFAULT 0 NOT NULL,
    total_questions_correct integer DEFAULT 0 NOT NULL,
    total_vocabulary_learned integer DEFAULT 0 NOT NULL,
    total_phrases_saved integer DEFAULT 0 NOT NULL,
    total_sessions integer DEFAULT 0 NOT NULL,
    total_time_spent_minutes integer DEFAULT 0 NOT NULL,
    current_streak_days integer DEFAULT 0 NOT NULL,
    longest_streak_days integer DEFAULT 0 NOT NULL,
    last_streak_date date,
    total_points integer DEFAULT 0 NOT NULL,
    average_accuracy numeric(5, 2) GENERATED ALWAYS AS (round(100.0 * total_questions_correct / greatest(total_questions_answered, 1), 2)) STORED NOT NULL,
    average_completion_time_seconds integer GENERATED ALWAYS AS (round(60.0 * total_time_spent_minutes / greatest(total_sessions, 1))) STORED NOT NULL,
    mastered_words_count integer DEFAULT 0 NOT NULL,
    learning_words_count integer DEFAULT 0 NOT NULL,
    new_words_count integer DEFAULT 0 NOT NULL,
    last_activity_at timestamptz,
    last_description_at timestamptz,
    last_qa_session_at timestamptz,
    last_vocabulary_practice_at timestamptz,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT user_progress_pkey PRIMARY KEY (id),
    CONSTRAINT total_descriptions_not_negative CHECK (total_descriptions >= 0),
    CONSTRAINT total_images_not_negative CHECK (total_images >= 0),
    CONSTRAINT total_questions_answered_not_negative CHECK (total_questions_answered >= 0),
    CONSTRAINT total_questions_correct_not_negative CHECK (total_questions_correct >= 0),
    CONSTRAINT total_vocabulary_learned_not_negative CHECK (total_vocabulary_learned >= 0),
    CONSTRAINT total_phrases_saved_not_negative CHECK (total_phrases_saved >= 0),
    CONSTRAINT total_sessions_not_negative CHECK (total_sessions >= 0),
    CONSTRAINT total_time_spent_minutes_not_negative CHECK (total_time_spent_minutes >= 0),
    CONSTRAINT current_streak_days_not_negative CHECK (current_streak_days >= 0),
    CONSTRAINT longest_streak_days_not_negative CHECK (longest_streak_days >= 0),
    CONSTRAINT total_points_not_negative CHECK (total_points >= 0),
    CONSTRAINT mastered_words_count_not_negative CHECK (mastered_words_count >= 0),
    CONSTRAINT learning_words_count_not_negative CHECK (learning_words_count >= 0),
    CONSTRAINT new_words_count_not_negative CHECK (new_words_count >= 0),
    CONSTRAINT unique_user_progress UNIQUE (user_id),
    CONSTRAINT user_progress_user_id_fkey FOREIGN KEY (user_id) REFERENCES vocabulary.users (id) ON DELETE CASCADE
);
CREATE INDEX idx_user_progress_last_activity ON vocabulary.user_progress (last_activity_at DESC);
COMMENT ON TABLE vocabulary.user_progress IS 'What a learner''s ended sessions add up to; kept by triggers, a row a learner (001).';
COMMENT ON COLUMN vocabulary.user_progress.id IS 'Identity.';
COMMENT ON COLUMN vocabulary.user_progress.user_id IS 'The learner.';
COMMENT ON COLUMN vocabulary.user_progress.total_descriptions IS 'Descriptions written.';
COMMENT ON COLUMN vocabulary.user_progress.total_images IS 'Pictures looked at.';
COMMENT ON COLUMN vocabulary.user_progress.total_questions_answered IS 'Questions answered.';
COMMENT ON COLUMN vocabulary.user_progress.total_questions_correct IS 'Questions answered correctly.';
COMMENT ON COLUMN vocabulary.user_progress.total_vocabulary_learned IS 'Words learned.';
COMMENT ON COLUMN vocabulary.user_progress.total_phrases_saved IS 'Phrases saved.';
COMMENT ON COLUMN vocabulary.user_progress.total_sessions IS 'Ended sessions.';
COMMENT ON COLUMN vocabulary.user_progress.total_time_spent_minutes IS 'Their duration.';
COMMENT ON COLUMN vocabulary.user_progress.current_streak_days IS 'Days in a row (UTC) with an ended session, up to last_streak_date.';
COMMENT ON COLUMN vocabulary.user_progress.longest_streak_days IS 'The longest such row there ever was.';
COMMENT ON COLUMN vocabulary.user_progress.last_streak_date IS 'The latest day (UTC) with an ended session.';
COMMENT ON COLUMN vocabulary.user_progress.total_points IS 'Points that the service awarded.';
COMMENT ON COLUMN vocabulary.user_progress.average_accuracy IS 'Per cent of the answers that were correct, 0 without any.';
COMMENT ON COLUMN vocabulary.user_progress.average_completion_time_seconds IS 'Mean duration of an ended session, 0 without any.';
COMMENT ON COLUMN vocabulary.user_progress.mastered_words_count IS 'Words that the app holds for mastered; the learner''s to write.';
COMMENT ON COLUMN vocabulary.user_progress.learning_words_count IS 'Words being learned; the learner''s to write.';
COMMENT ON COLUMN vocabulary.user_progress.new_words_count IS 'Words not yet begun; the learner''s to write.';
COMMENT ON COLUMN vocabulary.user_progress.last_activity_at IS 'End of the latest ended session.';
COMMENT ON COLUMN vocabulary.user_progress.last_description_at IS 'End of the latest one for describing, or with a description.';
COMMENT ON COLUMN vocabulary.user_progress.last_qa_session_at IS 'End of the latest one for questions, or with an answer.';
COMMENT ON COLUMN vocabulary.user_progress.last_vocabulary_practice_at IS 'End of the latest one for vocabulary, or with a word learned.';
COMMENT ON COLUMN vocabulary.user_progress.created_at IS 'When the row was made; never changes.';
COMMENT ON COLUMN vocabulary.user_progress.updated_at IS 'When the row last changed; a trigger''s.';
"""

EXPORT_HISTORY = r"""
CREATE TABLE vocabulary.export_history (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id uuid NOT NULL,
    export_type varchar(50) NOT NULL,
    export_format varchar(20) NOT NULL,
    status varchar(20) DEFAULT 'pending' NOT NULL,
    records_count integer,
    file_size_bytes bigint,
    file_url text,
    filters jsonb DEFAULT '{}'::jsonb NOT NULL,
    data jsonb DEFAULT '{}'::jsonb NOT NULL,
    error_message text,
    retry_count integer DEFAULT 0 NOT NULL,
    started_at timestamptz,
    completed_at timestamptz,
    processing_time_seconds numeric(12, 3) GENERATED ALWAYS AS (EXTRACT(epoch FROM (completed_at - started_at))) STORED,
    expires_at timestamptz,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT export_history_pkey PRIMARY KEY (id),
    CONSTRAINT export_type_valid CHECK (export_type IN ('csv', 'json', 'anki', 'pdf')),
    CONSTRAINT export_format_valid CHECK ((export_type, export_format) IN (('csv', 'csv'), ('json', 'json'), ('anki', 'apkg'), ('pdf', 'pdf'))),
    CONSTRAINT status_valid CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'expired')),
    CONSTRAINT expires_at_in_range CHECK (expires_at >= '2000-01-01 00:00:00+00'::timestamptz AND expires_at < '2100-01-01 00:00:00+00'::timestamptz),
    CONSTRAINT records_count_not_negative CHECK (records_count >= 0),
    CONSTRAINT file_size_bytes_not_negative CHECK (file_size_bytes >= 0),
    CONSTRAINT retry_count_not_negative CHECK (retry_count >= 0),
    CONSTRAINT file_url_length CHECK (char_length(file_url) <= 2048),
    CONSTRAINT error_message_length CHECK (char_length(error_message) <= 500),
    CONSTRAINT filters_valid CHECK (jsonb_typeof(filters) = 'object' AND octet_length(filters::text) <= 4096 AND NOT jsonb_path_exists(filters, '$.**{65}') AND NOT jsonb_path_exists(filters, '$.** ? (@ > 1e308 || @ < -1e308)')),
    CONSTRAINT data_valid CHECK (jsonb_typeof(data) = 'object' AND octet_length(data::text) <= 4096 AND NOT jsonb_path_exists(data, '$.**{65}') AND NOT jsonb_path_exists(data, '$.** ? (@ > 1e308 || @ < -1e308)')),
    CONSTRAINT file_with_completed CHECK (status <> 'completed' OR (records_count IS NOT NULL AND file_size_bytes IS NOT NULL AND file_url IS NOT NULL AND expires_at IS NOT NULL)),
    CONSTRAINT file_url_with_completed CHECK (status = 'completed' OR file_url IS NULL),
    CONSTRAINT error_message_with_failed CHECK (status <> 'failed' OR error_message IS NOT NULL),
    CONSTRAINT export_history_user_id_fkey FOREIGN KEY (user_id) REFERENCES vocabulary.users (id) ON DELETE CASCADE
);
CREATE INDEX idx_export_history_created_at ON vocabulary.export_history (created_at DESC);
CREATE INDEX idx_export_history_export_type ON vocabulary.export_history (export_type);
CREATE INDEX idx_export_history_queue ON vocabulary.export_history (created_at, id) WHERE status IN ('pending', 'processing');
CREATE INDEX idx_export_history_status ON vocabulary.export_history (status);
CREATE INDEX idx_export_history_user_id ON vocabulary.export_history (user_id);
COMMENT ON TABLE vocabulary.export_history IS 'Audit trail and queue of the exports that learners asked for (001).';
COMMENT ON COLUMN vocabulary.export_history.id IS 'Identity.';
COMMENT ON COLUMN vocabulary.export_history.user_id IS 'The learner who asked and whose data it is.';
COMMENT ON COLUMN vocabulary.export_history.export_type IS 'csv, json, anki or pdf.';
COMMENT ON COLUMN vocabulary.export_history.export_format IS 'The file''s ending: csv, json, apkg or pdf; follows from the type.';
COMMENT ON COLUMN vocabulary.export_history.status IS 'pending, processing, completed, failed or expired.';
COMMENT ON COLUMN vocabulary.export_history.records_count IS 'Records written so far, and at the end all of them.';
COMMENT ON COLUMN vocabulary.export_history.file_size_bytes IS 'Size of the file.';
COMMENT ON COLUMN vocabulary.export_history.file_url IS 'Where the file lies; NULL before it is whole and after it expired.';
COMMENT ON COLUMN vocabulary.export_history.filters IS 'What the learner chose, a JSON object of at most 4 KiB.';
COMMENT ON COLUMN vocabulary.export_history.data IS 'What the worker notes: sessions done and in total, the file begun, workers lost.';
COMMENT ON COLUMN vocabulary.export_history.error_message IS 'Why it last failed, at most 500 characters.';
COMMENT ON COLUMN vocabulary.export_history.retry_count IS 'How often it was begun again; a trigger counts.';
COMMENT ON COLUMN vocabulary.export_history.started_at IS 'When a worker last took it; a trigger''s.';
COMMENT ON COLUMN vocabulary.export_history.completed_at IS 'When it was completed or failed; a trigger''s.';
COMMENT ON COLUMN vocabulary.export_history.processing_time_seconds IS 'From the one to the other.';
COMMENT ON COLUMN vocabulary.export_history.expires_at IS 'When the file is deleted.';
COMMENT ON COLUMN vocabulary.export_history.created_at IS 'When it was asked for; never changes.';
COMMENT ON COLUMN vocabulary.export_history.updated_at IS 'When the row last changed, a sign of life of its worker; a trigger''s.';
"""

ABANDONED_EXPORT_FILES = r"""
CREATE TABLE vocabulary.abandoned_export_files (
    file_url text NOT NULL,
    abandoned_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT abandoned_export_files_pkey PRIMARY KEY (file_url)
);
COMMENT ON TABLE vocabulary.abandoned_export_files IS 'Files that no export has any more, to be deleted.';
COMMENT ON COLUMN vocabulary.abandoned_export_files.file_url IS 'Where the file lies.';
COMMENT ON COLUMN vocabulary.abandoned_export_files.abandoned_at IS 'When that was noted.';
"""

PROGRESS = """
CREATE FUNCTION carnivore.count_user_sessions(learner uuid) RETURNS TABLE (
    total_descriptions integer, total_images integer, total_questions_answered integer,
    total_questions_correct integer, total_vocabulary_learned integer, total_phrases_saved integer,
    total_time_spent_minutes integer, total_sessions integer, last_activity_at timestamptz,
    last_description_at timestamptz, last_qa_session_at timestamptz,
    last_vocabulary_practice_at timestamptz, current_streak_days integer, longest_streak_days integer,
    last_streak_date date)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH ended AS (
        -- Without session_data: a learner's whole history is counted at once.
        SELECT session.session_type, session.ended_at, session.descriptions_generated, session.images_processed, session.qa_attempts, session.qa_correct,
            session.vocabulary_learned, session.phrases_saved, session.duration_minutes
        FROM vocabulary.sessions AS session
        WHERE session.user_id = learner AND session.ended_at IS NOT NULL
    ), days AS (
        -- Days in a row have the same date when each goes back by its own number.
        SELECT day, day - (row_number() OVER (ORDER BY day))::integer AS streak
        FROM (SELECT DISTINCT (session.ended_at AT TIME ZONE 'UTC')::date AS day FROM ended AS session) AS each
    ), streaks AS (
        SELECT count(*)::integer AS length, max(day) AS last_day FROM days GROUP BY streak
    )
    SELECT coalesce(sum(session.descriptions_generated), 0)::integer,
        coalesce(sum(session.images_processed), 0)::integer,
        coalesce(sum(session.qa_attempts), 0)::integer, coalesce(sum(session.qa_correct), 0)::integer,
        coalesce(sum(session.vocabulary_learned), 0)::integer,
        coalesce(sum(session.phrases_saved), 0)::integer,
        coalesce(sum(coalesce(session.duration_minutes, 0)), 0)::integer, count(*)::integer,
        max(session.ended_at),
        max(session.ended_at) FILTER (WHERE session.session_type = 'description' OR session.descriptions_generated > 0),
        max(session.ended_at) FILTER (WHERE session.session_type = 'qa' OR session.qa_attempts > 0),
        max(session.ended_at) FILTER (WHERE session.session_type = 'vocabulary' OR session.vocabulary_learned > 0),
        coalesce((SELECT length FROM streaks ORDER BY last_day DESC LIMIT 1), 0),
        coalesce((SELECT max(length) FROM streaks), 0),
        (SELECT max(last_day) FROM streaks)
    FROM ended AS session
$$;
COMMENT ON FUNCTION carnivore.count_user_sessions(uuid) IS 'The law of user_progress: what a learner''s ended sessions add up to. Days are UTC''s.';

CREATE FUNCTION carnivore.recount_user_progress(learner uuid) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE vocabulary.user_progress AS p SET
        total_descriptions = counted.total_descriptions,
        total_images = counted.total_images,
        total_questions_answered = counted.total_questions_answered,
        total_questions_correct = counted.total_questions_correct,
        total_vocabulary_learned = counted.total_vocabulary_learned,
        total_phrases_saved = counted.total_phrases_saved,
        total_time_spent_minutes = counted.total_time_spent_minutes,
        total_sessions = counted.total_sessions,
        last_activity_at = counted.last_activity_at,
        last_description_at = counted.last_description_at,
        last_qa_session_at = counted.last_qa_session_at,
        last_vocabulary_practice_at = counted.last_vocabulary_practice_at,
        current_streak_days = counted.current_streak_days,
        longest_streak_days = counted.longest_streak_days,
        last_streak_date = counted.last_streak_date
    FROM carnivore.count_user_sessions(learner) AS counted
    WHERE p.user_id = learner
$$;
COMMENT ON FUNCTION carnivore.recount_user_progress(uuid) IS 'Writes what a learner''s ended sessions add up to.';

-- STABLE: it does not see what its own statement brings, which is added by the sessions' trigger.
CREATE FUNCTION carnivore.fill_user_progress() RETURNS trigger
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT (jsonb_populate_record(NEW, to_jsonb(counted))).* INTO NEW
    FROM carnivore.count_user_sessions(NEW.user_id) AS counted;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION carnivore.fill_user_progress() IS 'Counts what is there already when a row of progress begins.';
-- Not inside a trigger: a learner who is new begins at zero, and sessions that came in the same statement are
-- added by their own trigger.
CREATE TRIGGER trigger_user_progress_fill BEFORE INSERT ON vocabulary.user_progress
    FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION carnivore.fill_user_progress();
COMMENT ON TRIGGER trigger_user_progress_fill ON vocabulary.user_progress IS 'Totals are counted, whatever was given.';

CREATE FUNCTION carnivore.create_user_progress() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO vocabulary.user_progress (user_id) VALUES (NEW.id) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION carnivore.create_user_progress() IS 'Every learner has a row of progress from the first moment.';
CREATE TRIGGER trigger_users_create_progress AFTER INSERT ON vocabulary.users
    FOR EACH ROW EXECUTE FUNCTION carnivore.create_user_progress();
COMMENT ON TRIGGER trigger_users_create_progress ON vocabulary.users IS 'A new learner has a row of progress.';

CREATE FUNCTION carnivore.keep_user_progress() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM vocabulary.users WHERE id = OLD.user_id) THEN
        RAISE EXCEPTION 'progress goes with its learner, not alone'
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'user_progress_kept',
                  SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN OLD;
END
$$;
COMMENT ON FUNCTION carnivore.keep_user_progress() IS 'Progress is deleted with its learner only.';
CREATE TRIGGER trigger_user_progress_keep BEFORE DELETE ON vocabulary.user_progress
    FOR EACH ROW EXECUTE FUNCTION carnivore.keep_user_progress();
COMMENT ON TRIGGER trigger_user_progress_keep ON vocabulary.user_progress IS 'Every learner keeps a row.';

CREATE TYPE carnivore.session_change AS (
    way integer, user_id uuid, ended_at timestamptz, described boolean, questioned boolean, practised boolean,
    descriptions_generated integer, images_processed integer, qa_attempts integer, qa_correct integer,
    vocabulary_learned integer, phrases_saved integer, duration_minutes integer);
COMMENT ON TYPE carnivore.session_change IS 'An ended session that comes (way 1) or goes (way -1), as progress counts it.';

CREATE FUNCTION vocabulary.update_user_progress_from_session() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changes carnivore.session_change[] := '{}';
    delta record;
    progress vocabulary.user_progress;
BEGIN
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        changes := ARRAY(
            SELECT ROW(1, session.user_id, session.ended_at,
                session.session_type = 'description' OR session.descriptions_generated > 0,
                session.session_type = 'qa' OR session.qa_attempts > 0,
                session.session_type = 'vocabulary' OR session.vocabulary_learned > 0,
                session.descriptions_generated, session.images_processed, session.qa_attempts, session.qa_correct,
                session.vocabulary_learned, session.phrases_saved, coalesce(session.duration_minutes, 0))::carnivore.session_change
            FROM after_change AS session WHERE session.user_id IS NOT NULL AND session.ended_at IS NOT NULL);
    END IF;
    IF TG_OP IN ('DELETE', 'UPDATE') THEN
        changes := changes || ARRAY(
            SELECT ROW(-1, session.user_id, session.ended_at,
                session.session_type = 'description' OR session.descriptions_generated > 0,
                session.session_type = 'qa' OR session.qa_attempts > 0,
                session.session_type = 'vocabulary' OR session.vocabulary_learned > 0,
                session.descriptions_generated, session.images_processed, session.qa_attempts, session.qa_correct,
                session.vocabulary_learned, session.phrases_saved, coalesce(session.duration_minutes, 0))::carnivore.session_change
            FROM before_change AS session WHERE session.user_id IS NOT NULL AND session.ended_at IS NOT NULL);
    END IF;
    IF changes = '{}' THEN
        RETURN NULL; -- the usual save of a session that goes on
    END IF;
    FOR delta IN
        WITH change AS (
            SELECT * FROM unnest(changes)
        ), sums AS (
            SELECT change.user_id, sum(change.way * change.descriptions_generated) AS total_descriptions,
                sum(change.way * change.images_processed) AS total_images,
                sum(change.way * change.qa_attempts) AS total_questions_answered,
                sum(change.way * change.qa_correct) AS total_questions_correct,
                sum(change.way * change.vocabulary_learned) AS total_vocabulary_learned,
                sum(change.way * change.phrases_saved) AS total_phrases_saved,
                sum(change.way * change.duration_minutes) AS total_time_spent_minutes,
                sum(change.way) AS total_sessions
            FROM change GROUP BY change.user_id
        ), moved AS (
            -- What moments and days are about: a corrected counter takes none away and brings none.
            SELECT change.user_id, change.ended_at, change.described, change.questioned, change.practised,
                (change.ended_at AT TIME ZONE 'UTC')::date AS day, sum(change.way) AS way
            FROM change GROUP BY 1, 2, 3, 4, 5 HAVING sum(change.way) <> 0
        ), marks AS (
            SELECT moved.user_id, bool_or(moved.way < 0) AS taken_away,
                min(moved.day) AS first_day, max(moved.day) AS last_day,
                max(moved.ended_at) AS last_activity_at,
                max(moved.ended_at) FILTER (WHERE moved.described) AS last_description_at,
                max(moved.ended_at) FILTER (WHERE moved.questioned) AS last_qa_session_at,
                max(moved.ended_at) FILTER (WHERE moved.practised) AS last_vocabulary_practice_at
            FROM moved GROUP BY moved.user_id
        )
        SELECT * FROM sums LEFT JOIN marks USING (user_id)
        WHERE marks.user_id IS NOT NULL -- or nothing that counts was changed
            OR (sums.total_descriptions, sums.total_images, sums.total_questions_answered,
                sums.total_questions_correct, sums.total_vocabulary_learned, sums.total_phrases_saved,
                sums.total_time_spent_minutes, sums.total_sessions) <> (0, 0, 0, 0, 0, 0, 0, 0)
        ORDER BY user_id -- so that two statements that share learners meet them in the same order
    LOOP
        -- Two statements: one that locks and updates would update the row as an older snapshot shows it.
        SELECT * INTO progress FROM vocabulary.user_progress AS p WHERE p.user_id = delta.user_id FOR NO KEY UPDATE;
        IF NOT FOUND THEN
            -- Somebody emptied the table, or the learner goes in this very statement.
            INSERT INTO vocabulary.user_progress (user_id)
            SELECT id FROM vocabulary.users WHERE id = delta.user_id ON CONFLICT DO NOTHING;
            PERFORM carnivore.recount_user_progress(delta.user_id);
            CONTINUE;
        END IF;
        progress.total_descriptions := progress.total_descriptions + delta.total_descriptions;
        progress.total_images := progress.total_images + delta.total_images;
        progress.total_questions_answered := progress.total_questions_answered + delta.total_questions_answered;
        progress.total_questions_correct := progress.total_questions_correct + delta.total_questions_correct;
        progress.total_vocabulary_learned := progress.total_vocabulary_learned + delta.total_vocabulary_learned;
        progress.total_phrases_saved := progress.total_phrases_saved + delta.total_phrases_saved;
        progress.total_time_spent_minutes := progress.total_time_spent_minutes + delta.total_time_spent_minutes;
        progress.total_sessions := progress.total_sessions + delta.total_sessions;
        IF delta.taken_away OR delta.first_day <> delta.last_day OR delta.last_day < progress.last_streak_date THEN
            SELECT counted.last_activity_at, counted.last_description_at, counted.last_qa_session_at,
                counted.last_vocabulary_practice_at, counted.current_streak_days, counted.longest_streak_days,
                counted.last_streak_date
            INTO progress.last_activity_at, progress.last_description_at, progress.last_qa_session_at,
                progress.last_vocabulary_practice_at, progress.current_streak_days, progress.longest_streak_days,
                progress.last_streak_date
            FROM carnivore.count_user_sessions(delta.user_id) AS counted;
        ELSIF delta.last_day IS NOT NULL THEN
            -- The usual case: a session ends on the latest day or on a later one.
            progress.current_streak_days := CASE delta.last_day - progress.last_streak_date
                WHEN 0 THEN progress.current_streak_days WHEN 1 THEN progress.current_streak_days + 1 ELSE 1 END;
            progress.longest_streak_days := greatest(progress.longest_streak_days, progress.current_streak_days);
            progress.last_streak_date := delta.last_day;
            progress.last_activity_at := greatest(progress.last_activity_at, delta.last_activity_at);
            progress.last_description_at := greatest(progress.last_description_at, delta.last_description_at);
            progress.last_qa_session_at := greatest(progress.last_qa_session_at, delta.last_qa_session_at);
            progress.last_vocabulary_practice_at := greatest(progress.last_vocabulary_practice_at, delta.last_vocabulary_practice_at);
        END IF;
        UPDATE vocabulary.user_progress AS p SET
            total_descriptions = progress.total_descriptions,
            total_images = progress.total_images,
            total_questions_answered = progress.total_questions_answered,
            total_questions_correct = progress.total_questions_correct,
            total_vocabulary_learned = progress.total_vocabulary_learned,
            total_phrases_saved = progress.total_phrases_saved,
            total_time_spent_minutes = progress.total_time_spent_minutes,
            total_sessions = progress.total_sessions,
            last_activity_at = progress.last_activity_at,
            last_description_at = progress.last_description_at,
            last_qa_session_at = progress.last_qa_session_at,
            last_vocabulary_practice_at = progress.last_vocabulary_practice_at,
            current_streak_days = progress.current_streak_days,
            longest_streak_days = progress.longest_streak_days,
            last_streak_date = progress.last_streak_date
        WHERE p.user_id = delta.user_id;
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION vocabulary.update_user_progress_from_session() IS 'Keeps user_progress equal to what the ended sessions add up to, at every commit: adds the difference that a statement made.';
CREATE TRIGGER trigger_update_user_progress_from_session AFTER UPDATE ON vocabulary.sessions
    REFERENCING OLD TABLE AS before_change NEW TABLE AS after_change FOR EACH STATEMENT
    EXECUTE FUNCTION vocabulary.update_user_progress_from_session();
COMMENT ON TRIGGER trigger_update_user_progress_from_session ON vocabulary.sessions IS 'Counts sessions that end, and corrections of ended ones.';
CREATE TRIGGER trigger_update_user_progress_from_new_session AFTER INSERT ON vocabulary.sessions
    REFERENCING NEW TABLE AS after_change FOR EACH STATEMENT
    EXECUTE FUNCTION vocabulary.update_user_progress_from_session();
COMMENT ON TRIGGER trigger_update_user_progress_from_new_session ON vocabulary.sessions IS 'Counts sessions that come already ended.';
CREATE TRIGGER trigger_update_user_progress_from_deleted_session AFTER DELETE ON vocabulary.sessions
    REFERENCING OLD TABLE AS before_change FOR EACH STATEMENT
    EXECUTE FUNCTION vocabulary.update_user_progress_from_session();
COMMENT ON TRIGGER trigger_update_user_progress_from_deleted_session ON vocabulary.sessions IS 'Takes deleted sessions away.';

CREATE FUNCTION vocabulary.recompute_user_progress(learner uuid)
RETURNS TABLE (name text, stored text, counted text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    progress vocabulary.user_progress;
BEGIN
    SELECT * INTO progress FROM vocabulary.user_progress AS p WHERE p.user_id = learner FOR NO KEY UPDATE;
    IF NOT FOUND AND NOT EXISTS (SELECT FROM vocabulary.users WHERE id = learner) THEN
        RAISE EXCEPTION 'no learner has this id' USING ERRCODE = 'no_data_found', CONSTRAINT = 'user_not_found';
    END IF;
    RETURN QUERY
        SELECT total.key, to_jsonb(progress) ->> total.key, total.value
        FROM carnivore.count_user_sessions(learner) AS truth, jsonb_each_text(to_jsonb(truth)) AS total
        WHERE to_jsonb(progress) ->> total.key IS DISTINCT FROM total.value
        ORDER BY total.key COLLATE "C";
    IF progress.id IS NULL THEN
        INSERT INTO vocabulary.user_progress (user_id) VALUES (learner);
    END IF;
    IF FOUND THEN
        PERFORM carnivore.recount_user_progress(learner);
    END IF;
END
$$;
COMMENT ON FUNCTION vocabulary.recompute_user_progress(uuid) IS 'Proves the law of user_progress for a learner: says what differs from the sessions, and repairs it.';

CREATE FUNCTION carnivore.recompute_after_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM carnivore.recount_user_progress(p.user_id) FROM vocabulary.user_progress AS p;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION carnivore.recompute_after_truncate() IS 'No sessions, no progress.';
CREATE TRIGGER trigger_sessions_truncated AFTER TRUNCATE ON vocabulary.sessions
    FOR EACH STATEMENT EXECUTE FUNCTION carnivore.recompute_after_truncate();
COMMENT ON TRIGGER trigger_sessions_truncated ON vocabulary.sessions IS 'Keeps progress when all sessions go at once.';

REVOKE ALL ON FUNCTION carnivore.count_user_sessions(uuid), carnivore.recount_user_progress(uuid),
    carnivore.fill_user_progress(),
    carnivore.create_user_progress(), carnivore.keep_user_progress(),
    vocabulary.update_user_progress_from_session(), vocabulary.recompute_user_progress(uuid),
    carnivore.recompute_after_truncate()
    FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION vocabulary.recompute_user_progress(uuid) TO service_role;
"""

RULES = """
COMMENT ON INDEX vocabulary.user_api_keys_pkey IS 'Identity.';
COMMENT ON INDEX vocabulary.unique_user_api_keys IS 'One row a learner; lookups and the foreign key. 001 calls it idx_user_api_keys_user_id.';
COMMENT ON INDEX vocabulary.user_progress_pkey IS 'Identity.';
COMMENT ON INDEX vocabulary.unique_user_progress IS 'One row a learner; lookups and the foreign key. 001 calls it idx_user_progress_user_id.';
COMMENT ON INDEX vocabulary.idx_user_progress_last_activity IS 'Recently active learners.';
COMMENT ON INDEX vocabulary.export_history_pkey IS 'Identity.';
COMMENT ON INDEX vocabulary.idx_export_history_user_id IS 'Exports of a learner; the foreign key.';
COMMENT ON INDEX vocabulary.idx_export_history_status IS 'Exports of a state: those whose time may have come, for one.';
COMMENT ON INDEX vocabulary.idx_export_history_created_at IS 'Newest first.';
COMMENT ON INDEX vocabulary.idx_export_history_export_type IS 'Exports of a kind.';
COMMENT ON INDEX vocabulary.idx_export_history_queue IS 'The queue, oldest first: workers ask it all day.';
COMMENT ON INDEX vocabulary.abandoned_export_files_pkey IS 'Identity.';

CREATE FUNCTION vocabulary.update_user_api_keys_updated_at() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION vocabulary.update_user_api_keys_updated_at() IS 'Keeps user_api_keys.updated_at.';
REVOKE ALL ON FUNCTION vocabulary.update_user_api_keys_updated_at() FROM PUBLIC, anon, authenticated, service_role;
CREATE TRIGGER trigger_user_api_keys_updated_at BEFORE UPDATE ON vocabulary.user_api_keys
    FOR EACH ROW EXECUTE FUNCTION vocabulary.update_user_api_keys_updated_at();
COMMENT ON TRIGGER trigger_user_api_keys_updated_at ON vocabulary.user_api_keys IS 'Keeps updated_at.';
CREATE TRIGGER trigger_user_api_keys_immutable BEFORE UPDATE OF id, user_id, created_at ON vocabulary.user_api_keys
    FOR EACH ROW WHEN ((OLD.id, OLD.user_id, OLD.created_at) IS DISTINCT FROM (NEW.id, NEW.user_id, NEW.created_at))
    EXECUTE FUNCTION carnivore.refuse_change('id', 'user_id', 'created_at');
COMMENT ON TRIGGER trigger_user_api_keys_immutable ON vocabulary.user_api_keys IS 'id, user_id and created_at never change.';

CREATE FUNCTION vocabulary.update_user_progress_updated_at() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION vocabulary.update_user_progress_updated_at() IS 'Keeps user_progress.updated_at.';
REVOKE ALL ON FUNCTION vocabulary.update_user_progress_updated_at() FROM PUBLIC, anon, authenticated, service_role;
CREATE TRIGGER trigger_user_progress_updated_at BEFORE UPDATE ON vocabulary.user_progress
    FOR EACH ROW EXECUTE FUNCTION vocabulary.update_user_progress_updated_at();
COMMENT ON TRIGGER trigger_user_progress_updated_at ON vocabulary.user_progress IS 'Keeps updated_at.';
CREATE TRIGGER trigger_user_progress_immutable BEFORE UPDATE OF id, user_id, created_at ON vocabulary.user_progress
    FOR EACH ROW WHEN ((OLD.id, OLD.user_id, OLD.created_at) IS DISTINCT FROM (NEW.id, NEW.user_id, NEW.created_at))
    EXECUTE FUNCTION carnivore.refuse_change('id', 'user_id', 'created_at');
COMMENT ON TRIGGER trigger_user_progress_immutable ON vocabulary.user_progress IS 'id, user_id and created_at never change.';

CREATE FUNCTION vocabulary.update_export_history_updated_at() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION vocabulary.update_export_history_updated_at() IS 'Keeps export_history.updated_at.';
REVOKE ALL ON FUNCTION vocabulary.update_export_history_updated_at() FROM PUBLIC, anon, authenticated, service_role;
CREATE TRIGGER trigger_export_history_updated_at BEFORE UPDATE ON vocabulary.export_history
    FOR EACH ROW EXECUTE FUNCTION vocabulary.update_export_history_updated_at();
COMMENT ON TRIGGER trigger_export_history_updated_at ON vocabulary.export_history IS 'Keeps updated_at.';
CREATE TRIGGER trigger_export_history_immutable BEFORE UPDATE OF id, user_id, created_at ON vocabulary.export_history
    FOR EACH ROW WHEN ((OLD.id, OLD.user_id, OLD.created_at) IS DISTINCT FROM (NEW.id, NEW.user_id, NEW.created_at))
    EXECUTE FUNCTION carnivore.refuse_change('id', 'user_id', 'created_at');
COMMENT ON TRIGGER trigger_export_history_immutable ON vocabulary.export_history IS 'id, user_id and created_at never change.';

CREATE FUNCTION carnivore.forget_validation() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.last_validated_at := NULL;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION carnivore.forget_validation() IS 'A key that was changed is not a validated one.';
CREATE TRIGGER trigger_user_api_keys_forget_validation
    BEFORE UPDATE OF openai_api_key, unsplash_api_key, anthropic_api_key ON vocabulary.user_api_keys
    FOR EACH ROW WHEN ((OLD.openai_api_key, OLD.unsplash_api_key, OLD.anthropic_api_key)
        IS DISTINCT FROM (NEW.openai_api_key, NEW.unsplash_api_key, NEW.anthropic_api_key))
    EXECUTE FUNCTION carnivore.forget_validation();
COMMENT ON TRIGGER trigger_user_api_keys_forget_validation ON vocabulary.user_api_keys IS 'A new key is not validated yet.';

CREATE FUNCTION carnivore.enforce_export_transition() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (OLD.status, NEW.status) NOT IN (
        ('pending', 'processing'), ('processing', 'processing'), ('processing', 'completed'),
        ('processing', 'failed'), ('failed', 'pending'), ('completed', 'expired'))
    THEN
        RAISE EXCEPTION 'an export cannot go from % to %', OLD.status, NEW.status
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'export_transition',
                  DETAIL = OLD.status || ' -> ' || NEW.status, SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
    END IF;
    IF NEW.status = 'processing' THEN
        NEW.started_at := clock_timestamp();
    END IF;
    IF NEW.status IN ('completed', 'failed') THEN
        NEW.completed_at := clock_timestamp();
    ELSIF NEW.status <> 'expired' THEN
        NEW.completed_at := NULL;
    END IF;
    -- A second worker takes what a lost one had, or somebody asks again: both are a new attempt.
    IF NEW.status = 'pending' OR OLD.status = 'processing' AND NEW.status = 'processing' THEN
        NEW.retry_count := OLD.retry_count + 1;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION carnivore.enforce_export_transition() IS 'Allows the ways of an export through its states, and notes when it was begun, ended and begun again.';
CREATE TRIGGER trigger_export_history_transition BEFORE UPDATE OF status ON vocabulary.export_history
    FOR EACH ROW EXECUTE FUNCTION carnivore.enforce_export_transition();
COMMENT ON TRIGGER trigger_export_history_transition ON vocabulary.export_history IS 'Allowed transitions only.';
CREATE TRIGGER trigger_export_history_finished
    BEFORE UPDATE OF records_count, file_size_bytes, file_url, data, error_message, expires_at,
        retry_count, started_at, completed_at
    ON vocabulary.export_history FOR EACH ROW
    WHEN (OLD.status IN ('completed', 'failed', 'expired') AND (
        (OLD.records_count, OLD.file_size_bytes, OLD.data, OLD.error_message, OLD.expires_at,
                OLD.retry_count, OLD.started_at, OLD.completed_at)
            IS DISTINCT FROM (NEW.records_count, NEW.file_size_bytes, NEW.data, NEW.error_message, NEW.expires_at,
                NEW.retry_count, NEW.started_at, NEW.completed_at)
        OR NEW.status = 'completed' AND NEW.file_url IS DISTINCT FROM OLD.file_url))
    EXECUTE FUNCTION carnivore.refuse_change('records_count', 'file_size_bytes', 'file_url', 'data', 'error_message',
        'expires_at', 'retry_count', 'started_at', 'completed_at');
COMMENT ON TRIGGER trigger_export_history_finished ON vocabulary.export_history IS 'A finished export stays as it was; its file may expire.';
CREATE TRIGGER trigger_export_history_request BEFORE UPDATE OF export_type, export_format, filters
    ON vocabulary.export_history FOR EACH ROW
    WHEN ((OLD.export_type, OLD.export_format, OLD.filters)
        IS DISTINCT FROM (NEW.export_type, NEW.export_format, NEW.filters))
    EXECUTE FUNCTION carnivore.refuse_change('export_type', 'export_format', 'filters');
COMMENT ON TRIGGER trigger_export_history_request ON vocabulary.export_history IS 'What was asked for never changes.';

CREATE FUNCTION carnivore.keep_export_file() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO vocabulary.abandoned_export_files (file_url)
    VALUES (coalesce(OLD.file_url, OLD.data ->> 'file')) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION carnivore.keep_export_file() IS 'Notes a file that no export will have any more, so that it is deleted.';
CREATE TRIGGER trigger_export_history_keep_file AFTER DELETE ON vocabulary.export_history
    FOR EACH ROW WHEN (OLD.file_url IS NOT NULL OR OLD.status = 'processing' AND OLD.data ? 'file')
    EXECUTE FUNCTION carnivore.keep_export_file();
COMMENT ON TRIGGER trigger_export_history_keep_file ON vocabulary.export_history IS 'No file outlives its learner unnoticed.';
CREATE TRIGGER trigger_export_history_keep_attempt AFTER UPDATE OF status ON vocabulary.export_history
    FOR EACH ROW WHEN (OLD.status = 'processing' AND OLD.data ? 'file'
        AND (NEW.status = 'processing' OR NEW.status = 'failed' AND NEW.data ? 'file'))
    EXECUTE FUNCTION carnivore.keep_export_file();
COMMENT ON TRIGGER trigger_export_history_keep_attempt ON vocabulary.export_history IS 'Nor does the file of an attempt that came to nothing, unless its worker says that it is gone.';
REVOKE ALL ON FUNCTION carnivore.forget_validation(), carnivore.enforce_export_transition(),
    carnivore.keep_export_file()
    FROM PUBLIC, anon, authenticated, service_role;
"""

SECURITY = """
ALTER TABLE vocabulary.user_api_keys ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON vocabulary.user_api_keys FROM PUBLIC, anon, authenticated, service_role;
CREATE POLICY service_role_user_api_keys ON vocabulary.user_api_keys TO service_role USING (true) WITH CHECK (true);
COMMENT ON POLICY service_role_user_api_keys ON vocabulary.user_api_keys IS 'The service sees every row; its grants say what it may do.';
CREATE POLICY select_own_user_api_keys ON vocabulary.user_api_keys FOR SELECT TO authenticated
    USING (user_id = (SELECT auth.uid()));
COMMENT ON POLICY select_own_user_api_keys ON vocabulary.user_api_keys IS 'A learner reads their own row: ciphertext.';
CREATE POLICY insert_own_user_api_keys ON vocabulary.user_api_keys FOR INSERT TO authenticated
    WITH CHECK (user_id = (SELECT auth.uid()));
COMMENT ON POLICY insert_own_user_api_keys ON vocabulary.user_api_keys IS 'A learner adds their own row.';
CREATE POLICY update_own_user_api_keys ON vocabulary.user_api_keys FOR UPDATE TO authenticated
    USING (user_id = (SELECT auth.uid()))
    WITH CHECK (user_id = (SELECT auth.uid()));
COMMENT ON POLICY update_own_user_api_keys ON vocabulary.user_api_keys IS 'A learner changes their own row.';
CREATE POLICY delete_own_user_api_keys ON vocabulary.user_api_keys FOR DELETE TO authenticated
    USING (user_id = (SELECT auth.uid()));
COMMENT ON POLICY delete_own_user_api_keys ON vocabulary.user_api_keys IS 'A learner deletes their own keys.';
GRANT SELECT, DELETE ON vocabulary.user_api_keys TO authenticated, service_role;
GRANT INSERT (user_id, openai_api_key, unsplash_api_key, anthropic_api_key, is_active), UPDATE (openai_api_key, unsplash_api_key, anthropic_api_key, is_active)
    ON vocabulary.user_api_keys TO authenticated, service_role;
GRANT UPDATE (last_validated_at) ON vocabulary.user_api_keys TO service_role;

ALTER TABLE vocabulary.user_progress ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON vocabulary.user_progress FROM PUBLIC, anon, authenticated, service_role;
CREATE POLICY service_role_user_progress ON vocabulary.user_progress TO service_role USING (true) WITH CHECK (true);
COMMENT ON POLICY service_role_user_progress ON vocabulary.user_progress IS 'The service sees every row; its grants say what it may do.';
CREATE POLICY select_own_user_progress ON vocabulary.user_progress FOR SELECT TO authenticated
    USING (user_id = (SELECT auth.uid()));
COMMENT ON POLICY select_own_user_progress ON vocabulary.user_progress IS 'A learner reads their own progress.';
CREATE POLICY insert_own_user_progress ON vocabulary.user_progress FOR INSERT TO authenticated
    WITH CHECK (user_id = (SELECT auth.uid()));
COMMENT ON POLICY insert_own_user_progress ON vocabulary.user_progress IS 'A learner writes the words that the app counts for them.';
CREATE POLICY update_own_user_progress ON vocabulary.user_progress FOR UPDATE TO authenticated
    USING (user_id = (SELECT auth.uid()))
    WITH CHECK (user_id = (SELECT auth.uid()));
COMMENT ON POLICY update_own_user_progress ON vocabulary.user_progress IS 'A learner writes the words that the app counts for them.';
GRANT SELECT ON vocabulary.user_progress TO authenticated, service_role;
GRANT INSERT (user_id, mastered_words_count, learning_words_count, new_words_count), UPDATE (mastered_words_count, learning_words_count, new_words_count)
    ON vocabulary.user_progress TO authenticated, service_role;
GRANT UPDATE (total_points) ON vocabulary.user_progress TO service_role;

ALTER TABLE vocabulary.export_history ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON vocabulary.export_history FROM PUBLIC, anon, authenticated, service_role;
CREATE POLICY service_role_export_history ON vocabulary.export_history TO service_role USING (true) WITH CHECK (true);
COMMENT ON POLICY service_role_export_history ON vocabulary.export_history IS 'The service sees every row; its grants say what it may do.';
CREATE POLICY select_own_export_history ON vocabulary.export_history FOR SELECT TO authenticated
    USING (user_id = (SELECT auth.uid()));
COMMENT ON POLICY select_own_export_history ON vocabulary.export_history IS 'A learner reads their own exports.';
CREATE POLICY insert_own_export_history ON vocabulary.export_history FOR INSERT TO authenticated
    WITH CHECK (user_id = (SELECT auth.uid()));
COMMENT ON POLICY insert_own_export_history ON vocabulary.export_history IS 'A learner asks for an export of their own data.';
CREATE POLICY update_own_export_history ON vocabulary.export_history FOR UPDATE TO authenticated
    USING (user_id = (SELECT auth.uid()) AND status = 'failed')
    WITH CHECK (user_id = (SELECT auth.uid()) AND status = 'pending');
COMMENT ON POLICY update_own_export_history ON vocabulary.export_history IS 'A learner asks again for an export of theirs that failed, and changes nothing else.';
GRANT SELECT ON vocabulary.export_history TO authenticated, service_role;
GRANT INSERT (user_id, export_type, export_format, filters), UPDATE (status)
    ON vocabulary.export_history TO authenticated, service_role;
GRANT UPDATE (records_count, file_size_bytes, file_url, data, error_message, expires_at)
    ON vocabulary.export_history TO service_role;

ALTER TABLE vocabulary.abandoned_export_files ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON vocabulary.abandoned_export_files FROM PUBLIC, anon, authenticated, service_role;
CREATE POLICY service_role_abandoned_export_files ON vocabulary.abandoned_export_files TO service_role USING (true) WITH CHECK (true);
COMMENT ON POLICY service_role_abandoned_export_files ON vocabulary.abandoned_export_files IS 'The service sees every row; its grants say what it may do.';
GRANT SELECT, DELETE ON vocabulary.abandoned_export_files TO service_role;
"""

# The triggers above hold a lock on sessions until the commit: no session ends uncounted meanwhile.
HISTORY = """
INSERT INTO vocabulary.user_progress (user_id) SELECT id FROM vocabulary.users;
"""


# The package deletes files, which the database cannot.
JOBS = """
INSERT INTO carnivore.jobs (job, area, position, description)
VALUES ('exports', 'vocabulary', 600, 'files of exports expired or abandoned');
"""


def upgrade() -> None:
    for part in (
        USER_API_KEYS,
        USER_PROGRESS,
        EXPORT_HISTORY,
        ABANDONED_EXPORT_FILES,
        PROGRESS,
        RULES,
        SECURITY,
        HISTORY,
        JOBS,
    ):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
        DELETE FROM carnivore.jobs WHERE job = 'exports';
        DROP TRIGGER trigger_sessions_truncated ON vocabulary.sessions;
        DROP TRIGGER trigger_update_user_progress_from_deleted_session ON vocabulary.sessions;
        DROP TRIGGER trigger_update_user_progress_from_new_session ON vocabulary.sessions;
        DROP TRIGGER trigger_update_user_progress_from_session ON vocabulary.sessions;
        DROP TRIGGER trigger_users_create_progress ON vocabulary.users;
        DROP TABLE vocabulary.abandoned_export_files;
        DROP TABLE vocabulary.export_history;
        DROP FUNCTION carnivore.keep_export_file();
        DROP FUNCTION carnivore.enforce_export_transition();
        DROP FUNCTION vocabulary.update_export_history_updated_at();
        DROP FUNCTION carnivore.recompute_after_truncate();
        DROP FUNCTION vocabulary.recompute_user_progress(uuid);
        DROP FUNCTION vocabulary.update_user_progress_from_session();
        DROP TYPE carnivore.session_change;
        DROP TABLE vocabulary.user_progress;
        DROP FUNCTION vocabulary.update_user_progress_updated_at();
        DROP FUNCTION carnivore.keep_user_progress();
        DROP FUNCTION carnivore.create_user_progress();
        DROP FUNCTION carnivore.fill_user_progress();
        DROP FUNCTION carnivore.recount_user_progress(uuid);
        DROP FUNCTION carnivore.count_user_sessions(uuid);
        DROP TABLE vocabulary.user_api_keys;
        DROP FUNCTION carnivore.forget_validation();
        DROP FUNCTION vocabulary.update_user_api_keys_updated_at();
    """)
