"""Critical fixes, first part: rows that are wrong are repaired, and constraints keep them right.

Why: the document adds its constraints before it repairs the rows that break them, which fails on real data
(changes 1, 2, 6, 8, 9, 10, 12, 15, 16, 17, 25, 42 and 33, the repairs; and 31, the weekly reset in batches). Here everything that no rule can repair
is listed first, and nothing is changed while such a row is there; then rows are repaired; then come the
constraints and the triggers that keep completion, counts and the week true.

The downgrade takes the rules away. Repaired rows stay repaired: nothing needs a wrong count back.
"""

from alembic import context, op

revision = "critical_fixes_rows"
down_revision = "conversation_baseline"
branch_labels = None
depends_on = None

# Nobody writes between the list of what is wrong and the constraints that forbid it. In the order in which a message
# takes these tables: whoever sends one waits, and does not hold what this waits for.
LOCKS = """
-- The tables are locked to the end: a constraint that came NOT VALID would gain nothing.
-- squawk-ignore-file constraint-missing-not-valid, disallowed-unique-constraint, require-concurrent-index-creation, require-concurrent-index-deletion
LOCK TABLE conversation.messages, conversation.sessions, conversation.scenarios, conversation.profiles
    IN ACCESS EXCLUSIVE MODE;
"""

# The mark in the comment tells the downgrade that this revision made it.
CITEXT = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citext') THEN
        CREATE EXTENSION citext WITH SCHEMA extensions;
        COMMENT ON EXTENSION citext IS 'carnivore_db: installed for the conversation.';
    END IF;
END
$$;
"""

# citext's own operators are found only where its schema is in the search path; elsewhere `=` is that of text,
# which asks the column's collation. With this one both say the same.
COLLATION = """
CREATE COLLATION conversation.case_insensitive (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
COMMENT ON COLLATION conversation.case_insensitive IS 'Upper and lower case are equal.';
"""

UNDECIDED = """
DO $$
DECLARE
    undecided text;
BEGIN
    WITH found AS (
        SELECT 'profiles ' || string_agg(id::text, ', ' ORDER BY created_at, id)
            || ': the same e-mail address but for case' AS line
        FROM conversation.profiles GROUP BY email COLLATE conversation.case_insensitive HAVING count(*) > 1
        UNION ALL
        SELECT 'profile ' || id || ': no e-mail address' FROM conversation.profiles WHERE btrim(email) = ''
        UNION ALL
        SELECT 'profile ' || id || ': an e-mail address with other characters than printable ASCII'
        FROM conversation.profiles WHERE email COLLATE "C" !~ '^[!-~]*$'
        UNION ALL
        SELECT 'profile ' || id || ': an e-mail address of more than 255 characters'
        FROM conversation.profiles WHERE char_length(email) > 255
        UNION ALL
        SELECT 'message ' || id || ': more than 8,000 characters'
        FROM conversation.messages WHERE char_length(content) > 8000
        UNION ALL
        SELECT 'message ' || id || ': role ' || role || ' in chat ' || chat_type
        FROM conversation.messages
        WHERE (role, chat_type) NOT IN (('scenario', 'main'), ('helper', 'helper'), ('user', 'main'), ('user', 'helper'))
        UNION ALL
        SELECT 'scenarios ' || string_agg(id::text, ', ' ORDER BY id) || ': the same title'
        FROM conversation.scenarios GROUP BY title HAVING count(*) > 1
        UNION ALL
        SELECT 'scenario ' || id || ': an emoji of more than 16 bytes'
        FROM conversation.scenarios WHERE octet_length(emoji) > 16
    ), numbered AS (
        SELECT line, row_number() OVER (ORDER BY line COLLATE "C") AS number, count(*) OVER () AS total FROM found
    )
    SELECT string_agg(line, E'\\n' ORDER BY number) || CASE WHEN max(total) > 1000
        THEN E'\\n... and ' || max(total) - 1000 || ' more' ELSE '' END
    INTO undecided FROM numbered WHERE number <= 1000;
    IF undecided IS NOT NULL THEN
        RAISE EXCEPTION 'rows of the schema conversation need a person''s decision; nothing was changed'
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'needs_decision', DETAIL = undecided,
                  HINT = 'Correct these rows, then run the migration again.';
    END IF;
END
$$;
"""

FUNCTIONS = """
CREATE FUNCTION carnivore.next_monday(moment timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (date_trunc('week', moment AT TIME ZONE 'UTC') + interval '7 days') AT TIME ZONE 'UTC'
$$;
COMMENT ON FUNCTION carnivore.next_monday(timestamptz) IS 'The first Monday 00:00 UTC after a moment.';

CREATE FUNCTION carnivore.begin_profile() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.completed_scenario_count := 0;
    NEW.current_week_completion_count := 0;
    NEW.week_reset_date := carnivore.next_monday(now());
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION carnivore.begin_profile() IS 'A new profile has no completed session, whatever was given, and its week ends on Monday.';

ALTER FUNCTION conversation.update_updated_at_column() SET search_path = pg_catalog, pg_temp;

CREATE OR REPLACE FUNCTION conversation.create_profile_for_new_user() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Logins belong to the whole project: by telephone or without a name, one is none of the chat's.
    INSERT INTO conversation.profiles (id, email)
    SELECT NEW.id, NEW.email WHERE NEW.email COLLATE "C" ~ '^[!-~]+$' ON CONFLICT DO NOTHING;
    IF NOT FOUND AND current_setting('carnivore.profile_required', true) = 'on' THEN
        RAISE EXCEPTION 'a profile needs an e-mail address of its own'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'email_not_empty',
                  SCHEMA = 'conversation', TABLE = 'profiles', COLUMN = 'email';
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION conversation.calculate_session_duration() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.is_completed THEN
        -- The clock's, not the transaction's: no message that it waited for is later.
        NEW.completed_at := coalesce(NEW.completed_at, greatest(clock_timestamp(), NEW.started_at));
        NEW.duration_seconds := least(floor(extract(epoch FROM NEW.completed_at - NEW.started_at)), 2147483647);
    ELSE
        IF TG_OP = 'UPDATE' AND OLD.is_completed THEN
            NEW.completed_at := NULL; -- it goes on
        END IF;
        NEW.duration_seconds := NULL;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION conversation.calculate_session_duration() IS 'Notes when a session was completed, and derives how long it took.';

CREATE FUNCTION carnivore.count_completions(person uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    reset timestamptz;
BEGIN
    -- Locked first: the count is a statement of its own and sees what others committed meanwhile.
    SELECT greatest(week_reset_date, carnivore.next_monday(now())) INTO reset
    FROM conversation.profiles WHERE id = person FOR NO KEY UPDATE;
    -- 168 hours: 7 days are an hour more or less where the caller's clocks change in that week.
    UPDATE conversation.profiles SET
        completed_scenario_count = counted.total,
        current_week_completion_count = counted.this_week,
        week_reset_date = reset
    FROM (
        SELECT count(*) AS total, count(*) FILTER (WHERE s.completed_at >= reset - interval '168 hours') AS this_week
        FROM conversation.sessions AS s WHERE s.user_id = person AND s.is_completed
    ) AS counted
    WHERE id = person;
END
$$;
COMMENT ON FUNCTION carnivore.count_completions(uuid) IS 'Counts a person''s completed sessions: all, and those since the last Monday (UTC).';

CREATE FUNCTION conversation.update_profile_completion_counts() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    people uuid[] := '{}';
    person uuid;
BEGIN
    IF TG_OP IN ('DELETE', 'UPDATE') AND OLD.is_completed THEN
        people := ARRAY[OLD.user_id];
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') AND NEW.is_completed THEN
        people := people || NEW.user_id;
    END IF;
    IF TG_OP = 'UPDATE'
        AND (OLD.user_id, OLD.is_completed, OLD.completed_at) IS NOT DISTINCT FROM (NEW.user_id, NEW.is_completed, NEW.completed_at)
    THEN
        RETURN NULL;
    END IF;
    FOR person IN SELECT DISTINCT id FROM unnest(people) AS id ORDER BY id LOOP
        PERFORM carnivore.count_completions(person);
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION conversation.update_profile_completion_counts() IS 'Keeps a person''s counts equal to their completed sessions.';

-- It comes back with arguments that have defaults, in batches: the same call finds it.
-- squawk-ignore ban-drop-function
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
REVOKE ALL ON FUNCTION conversation.reset_weekly_limits(integer, uuid) FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION conversation.reset_weekly_limits(integer, uuid) TO service_role;

REVOKE ALL ON FUNCTION carnivore.next_monday(timestamptz), carnivore.begin_profile(), carnivore.count_completions(uuid),
    conversation.update_profile_completion_counts() FROM PUBLIC, anon, authenticated, service_role;
"""

# Only rows that are wrong are touched.
REPAIRS = """
UPDATE conversation.sessions SET completed_at = CASE WHEN is_completed THEN greatest(started_at, last_activity_at) END
WHERE is_completed <> (completed_at IS NOT NULL) OR completed_at < started_at;
UPDATE conversation.sessions AS s SET duration_seconds = derived.seconds
FROM (
    SELECT id, CASE WHEN is_completed
        THEN least(floor(extract(epoch FROM completed_at - started_at)), 2147483647) END AS seconds
    FROM conversation.sessions
) AS derived
WHERE derived.id = s.id AND s.duration_seconds IS DISTINCT FROM derived.seconds;
UPDATE conversation.sessions AS s
SET message_count_main = counted.main, message_count_helper = counted.helper
FROM (
    SELECT one.id, count(*) FILTER (WHERE m.chat_type = 'main') AS main,
        count(*) FILTER (WHERE m.chat_type = 'helper') AS helper
    FROM conversation.sessions AS one LEFT JOIN conversation.messages AS m ON m.session_id = one.id
    GROUP BY one.id
) AS counted
WHERE counted.id = s.id AND (s.message_count_main, s.message_count_helper) <> (counted.main, counted.helper);
UPDATE conversation.profiles AS p
SET completed_scenario_count = counted.total, current_week_completion_count = counted.this_week,
    week_reset_date = carnivore.next_monday(now())
FROM (
    SELECT one.id, count(s.id) AS total,
        count(s.id) FILTER (WHERE s.completed_at >= carnivore.next_monday(now()) - interval '168 hours') AS this_week
    FROM conversation.profiles AS one LEFT JOIN conversation.sessions AS s ON s.user_id = one.id AND s.is_completed
    GROUP BY one.id
) AS counted
WHERE counted.id = p.id
    AND (p.completed_scenario_count, p.current_week_completion_count, p.week_reset_date)
        <> (counted.total, counted.this_week, carnivore.next_monday(now()));
"""

# The extension citext may live in any schema.
CONSTRAINTS = """
DO $$
BEGIN
    EXECUTE format('ALTER TABLE conversation.profiles ALTER COLUMN email TYPE %s COLLATE conversation.case_insensitive',
        (SELECT t.oid::regtype FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_extension AS e
            ON e.extnamespace = t.typnamespace WHERE e.extname = 'citext' AND t.typname = 'citext'));
END
$$;
DROP INDEX conversation.idx_profiles_email;
ALTER TABLE conversation.profiles ADD CONSTRAINT profiles_email_key UNIQUE (email);
COMMENT ON INDEX conversation.profiles_email_key IS 'One person, one address, in whatever case.';
-- citext folds case by the database's own locale, where a Turkish I is no i; text asks the column's collation.
CREATE UNIQUE INDEX idx_profiles_email ON conversation.profiles (email text_ops);
COMMENT ON INDEX conversation.idx_profiles_email IS 'The same in every locale; lookup where = is that of text.';
COMMENT ON COLUMN conversation.profiles.email IS 'The person''s address; case does not matter.';
COMMENT ON COLUMN conversation.profiles.week_reset_date IS 'The Monday (00:00 UTC) when the week''s count begins anew.';
COMMENT ON COLUMN conversation.profiles.completed_scenario_count IS 'Completed sessions; a trigger''s.';
COMMENT ON COLUMN conversation.profiles.current_week_completion_count IS 'Completed sessions since the Monday before week_reset_date; a trigger''s.';
COMMENT ON COLUMN conversation.sessions.completed_at IS 'When it was completed; set by a trigger when not given.';

ALTER TABLE conversation.profiles ADD CONSTRAINT email_not_empty CHECK (btrim(email::text) <> '');
-- The collation takes letters of another width, and what is not seen, for equal: addresses have neither.
ALTER TABLE conversation.profiles ADD CONSTRAINT email_printable CHECK (email::text COLLATE "C" ~ '^[!-~]*$');
ALTER TABLE conversation.profiles ADD CONSTRAINT email_length CHECK (char_length(email::text) <= 255);
ALTER TABLE conversation.profiles ADD CONSTRAINT week_reset_date_valid
    CHECK (week_reset_date = date_trunc('week', week_reset_date AT TIME ZONE 'UTC') AT TIME ZONE 'UTC');
ALTER TABLE conversation.sessions ADD CONSTRAINT completed_at_with_completed
    CHECK (is_completed = (completed_at IS NOT NULL));
ALTER TABLE conversation.sessions ADD CONSTRAINT completed_at_in_range
    CHECK (completed_at IS NULL OR completed_at >= started_at);
ALTER TABLE conversation.sessions ADD CONSTRAINT message_counts_not_negative
    CHECK (message_count_main >= 0 AND message_count_helper >= 0);
ALTER TABLE conversation.sessions ADD CONSTRAINT duration_seconds_not_negative
    CHECK (duration_seconds IS NULL OR duration_seconds >= 0);
ALTER TABLE conversation.messages ADD CONSTRAINT content_length CHECK (char_length(content) <= 8000);
ALTER TABLE conversation.messages ADD CONSTRAINT messages_role_chat_type_valid
    CHECK ((role, chat_type) IN (('scenario', 'main'), ('helper', 'helper'), ('user', 'main'), ('user', 'helper')));
ALTER TABLE conversation.scenarios ADD CONSTRAINT emoji_length CHECK (octet_length(emoji) <= 16);
ALTER TABLE conversation.scenarios ADD CONSTRAINT scenarios_title_key UNIQUE (title);
COMMENT ON INDEX conversation.scenarios_title_key IS 'No two scenes of one name.';
"""

TRIGGERS = """
CREATE TRIGGER begin_profile BEFORE INSERT ON conversation.profiles
    FOR EACH ROW EXECUTE FUNCTION carnivore.begin_profile();
COMMENT ON TRIGGER begin_profile ON conversation.profiles IS 'Counts begin at nothing.';
DROP TRIGGER calculate_session_duration ON conversation.sessions;
CREATE TRIGGER calculate_session_duration
    BEFORE INSERT OR UPDATE OF is_completed, started_at, completed_at, duration_seconds ON conversation.sessions
    FOR EACH ROW EXECUTE FUNCTION conversation.calculate_session_duration();
COMMENT ON TRIGGER calculate_session_duration ON conversation.sessions IS 'Notes the completion, derives the duration.';
CREATE TRIGGER maintain_profile_counts
    AFTER INSERT OR DELETE OR UPDATE OF user_id, is_completed, completed_at ON conversation.sessions
    FOR EACH ROW EXECUTE FUNCTION conversation.update_profile_completion_counts();
COMMENT ON TRIGGER maintain_profile_counts ON conversation.sessions IS 'Counts completed sessions.';
"""


def upgrade() -> None:
    for part in (LOCKS, CITEXT, COLLATION, UNDECIDED, FUNCTIONS, REPAIRS, CONSTRAINTS, TRIGGERS):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
        LOCK TABLE conversation.messages, conversation.sessions, conversation.scenarios, conversation.profiles
            IN ACCESS EXCLUSIVE MODE;
        DROP TRIGGER maintain_profile_counts ON conversation.sessions;
        DROP TRIGGER calculate_session_duration ON conversation.sessions;
        DROP TRIGGER begin_profile ON conversation.profiles;

        ALTER TABLE conversation.scenarios DROP CONSTRAINT scenarios_title_key, DROP CONSTRAINT emoji_length;
        ALTER TABLE conversation.messages DROP CONSTRAINT messages_role_chat_type_valid, DROP CONSTRAINT content_length;
        ALTER TABLE conversation.sessions DROP CONSTRAINT duration_seconds_not_negative,
            DROP CONSTRAINT message_counts_not_negative, DROP CONSTRAINT completed_at_in_range,
            DROP CONSTRAINT completed_at_with_completed;
        DROP INDEX conversation.idx_profiles_email;
        ALTER TABLE conversation.profiles DROP CONSTRAINT week_reset_date_valid, DROP CONSTRAINT email_length,
            DROP CONSTRAINT email_printable, DROP CONSTRAINT email_not_empty, DROP CONSTRAINT profiles_email_key,
            ALTER COLUMN email TYPE text COLLATE "default";
        CREATE INDEX idx_profiles_email ON conversation.profiles (email);
        DROP COLLATION conversation.case_insensitive;
        DROP FUNCTION conversation.update_profile_completion_counts();
        DROP FUNCTION conversation.reset_weekly_limits(integer, uuid);
        DROP FUNCTION carnivore.count_completions(uuid);
        DROP FUNCTION carnivore.begin_profile();
        ALTER FUNCTION conversation.update_updated_at_column() RESET search_path;
        COMMENT ON INDEX conversation.idx_profiles_email IS 'Lookup by address.';
        COMMENT ON COLUMN conversation.profiles.email IS 'The person''s address.';
        COMMENT ON COLUMN conversation.profiles.week_reset_date IS 'When the week''s count begins anew.';
        COMMENT ON COLUMN conversation.profiles.completed_scenario_count IS 'Completed sessions.';
        COMMENT ON COLUMN conversation.profiles.current_week_completion_count IS 'Completed sessions of the week that ends at week_reset_date.';
        COMMENT ON COLUMN conversation.sessions.completed_at IS 'When it was completed.';
    """)
    baseline = context.script.get_revision("conversation_baseline").module
    for part in (
        baseline.CREATE_PROFILE,
        baseline.CALCULATE_DURATION,
        baseline.CALCULATE_DURATION_TRIGGER,
        baseline.RESET_WEEKLY_LIMITS,
        baseline.CLEANUP_RIGHTS,
    ):
        op.execute(part)
    op.execute("""
        DROP FUNCTION carnivore.next_monday(timestamptz);
        DO $$
        BEGIN
            IF EXISTS (SELECT FROM pg_catalog.pg_extension
                -- A superuser who restored the database owns it: it stays.
                WHERE extname = 'citext' AND obj_description(oid, 'pg_extension') LIKE 'carnivore_db:%'
                    AND pg_has_role(extowner, 'USAGE'))
            THEN
                DROP EXTENSION citext;
            END IF;
        END
        $$;
    """)
