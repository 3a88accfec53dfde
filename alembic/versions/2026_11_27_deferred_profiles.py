"""Deferred issues: people who leave, data that is erased, and limits that the database keeps.

Why: the document leaves soft deletion (35) and protection by rate limits (43) for later. A person who leaves sees
and writes nothing any more, and can come back; a person who asks for erasure loses what they said and their
address, while counts stay. A person sends so many messages a minute and completes three scenes a week, whatever
the application does; both refusals say how long to wait.

The downgrade forgets who left. What was erased stays erased.
"""

from alembic import op

revision = "deferred_profiles"
down_revision = "deferred_messages"
branch_labels = None
depends_on = None

LEAVING = """
LOCK TABLE conversation.messages, conversation.messages_archive, conversation.sessions, conversation.profiles,
    conversation.logs IN ACCESS EXCLUSIVE MODE;
ALTER TABLE conversation.profiles ADD COLUMN deleted_at timestamptz, ADD COLUMN erased_at timestamptz;
-- Of two columns that were just added: nothing to scan for.
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE conversation.profiles ADD CONSTRAINT deleted_at_with_erased
    CHECK (erased_at IS NULL OR deleted_at IS NOT NULL);
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE conversation.profiles ADD CONSTRAINT email_with_erased
    CHECK (erased_at IS NULL OR email::text COLLATE "C" LIKE 'erased-%@erased.invalid');
COMMENT ON COLUMN conversation.profiles.deleted_at IS 'When the person left; NULL while they are there.';
COMMENT ON COLUMN conversation.profiles.erased_at IS 'When what they said was erased, for good.';
GRANT UPDATE (deleted_at) ON conversation.profiles TO service_role;

CREATE FUNCTION carnivore.active_user() RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- In PL/pgSQL, whose plan is kept: every statement of a person asks this once.
    RETURN (SELECT p.id FROM conversation.profiles AS p WHERE p.id = auth.uid() AND p.deleted_at IS NULL);
END
$$;
COMMENT ON FUNCTION carnivore.active_user() IS 'The caller''s id, or NULL for somebody who has left.';
REVOKE ALL ON FUNCTION carnivore.active_user() FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION carnivore.active_user() TO authenticated;
ALTER POLICY profiles_select_own ON conversation.profiles USING (id = (SELECT carnivore.active_user()));
ALTER POLICY sessions_select_own ON conversation.sessions USING (user_id = (SELECT carnivore.active_user()));
ALTER POLICY sessions_insert_own ON conversation.sessions WITH CHECK (user_id = (SELECT carnivore.active_user()));
ALTER POLICY sessions_update_own ON conversation.sessions USING (user_id = (SELECT carnivore.active_user()))
    WITH CHECK (user_id = (SELECT carnivore.active_user()) AND is_completed);
ALTER POLICY sessions_delete_own ON conversation.sessions
    USING (user_id = (SELECT carnivore.active_user()) AND NOT is_completed);
ALTER POLICY messages_select_own ON conversation.messages USING (user_id = (SELECT carnivore.active_user()));
ALTER POLICY messages_insert_own ON conversation.messages WITH CHECK (user_id = (SELECT carnivore.active_user()));
ALTER POLICY messages_archive_select_own ON conversation.messages_archive USING (user_id = (SELECT carnivore.active_user()));
ALTER POLICY logs_select_own ON conversation.logs USING (user_id = (SELECT carnivore.active_user()));

CREATE FUNCTION conversation.delete_own_profile() RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment timestamptz;
BEGIN
    UPDATE conversation.profiles SET deleted_at = now() WHERE id = auth.uid() AND deleted_at IS NULL
    RETURNING deleted_at INTO moment;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no profile is yours' USING ERRCODE = 'PT404', CONSTRAINT = 'profile_not_found';
    END IF;
    RETURN moment;
END
$$;
COMMENT ON FUNCTION conversation.delete_own_profile() IS 'The caller leaves: nothing of theirs is seen or written any more, and the service can undo it.';

CREATE FUNCTION conversation.erase_profile(person uuid) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    redacted integer;
    archived integer;
BEGIN
    -- Sessions first, as whoever completes one does; a message on its way into one comes before or is refused.
    PERFORM FROM conversation.sessions AS s WHERE s.user_id = person ORDER BY s.id FOR NO KEY UPDATE;
    PERFORM FROM conversation.profiles AS p WHERE p.id = person FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no profile has this id' USING ERRCODE = 'PT404', CONSTRAINT = 'profile_not_found';
    END IF;
    UPDATE conversation.profiles AS p SET deleted_at = coalesce(p.deleted_at, now()), erased_at = coalesce(p.erased_at, now()),
        email = 'erased-' || p.id || '@erased.invalid'
    WHERE p.id = person;
    UPDATE conversation.messages AS m SET content = '[erased]' WHERE m.user_id = person AND m.content <> '[erased]';
    GET DIAGNOSTICS redacted = ROW_COUNT;
    -- The archive after the messages: what is just being moved is met in one of the two.
    UPDATE conversation.messages_archive AS a SET content = '[erased]' WHERE a.user_id = person AND a.content <> '[erased]';
    GET DIAGNOSTICS archived = ROW_COUNT;
    -- What an earlier erasure logged stays: it quotes nothing.
    UPDATE conversation.logs AS l SET metadata = '{}'
    WHERE (l.user_id = person OR l.session_id = ANY (ARRAY(SELECT s.id FROM conversation.sessions AS s WHERE s.user_id = person)))
        AND l.metadata <> '{}' AND l.event_type <> 'account_erased';
    INSERT INTO conversation.logs (level, event_type, user_id, metadata)
    VALUES ('info', 'account_erased', person, jsonb_build_object('messages', redacted + archived));
    RETURN redacted + archived;
END
$$;
COMMENT ON FUNCTION conversation.erase_profile(uuid) IS 'Erases what a person said, their address and what was logged of them; counts stay, and that it was done is logged. Returns how many messages.';

CREATE OR REPLACE FUNCTION conversation.prevent_message_updates() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- A key follows its session's or its person's (ON UPDATE CASCADE): the old one is gone then.
    IF to_jsonb(NEW) - 'session_id' - 'user_id' = to_jsonb(OLD) - 'session_id' - 'user_id'
        AND (NEW.session_id <> OLD.session_id OR NEW.user_id <> OLD.user_id)
        AND (NEW.session_id = OLD.session_id OR NOT EXISTS (SELECT FROM conversation.sessions AS s WHERE s.id = OLD.session_id))
        AND (NEW.user_id = OLD.user_id OR NOT EXISTS (SELECT FROM conversation.profiles AS p WHERE p.id = OLD.user_id))
    THEN
        RETURN NEW;
    END IF;
    -- And what an erased person said is erased: erase_profile() alone sets erased_at.
    IF NEW.content = '[erased]' AND to_jsonb(NEW) - 'content' = to_jsonb(OLD) - 'content' AND OLD.content <> '[erased]'
        AND EXISTS (SELECT FROM conversation.profiles AS p WHERE p.id = OLD.user_id AND p.erased_at IS NOT NULL)
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'messages never change'
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'messages_immutable',
              SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
END
$$;
COMMENT ON FUNCTION conversation.prevent_message_updates() IS 'Refuses every change of a message, whoever asks; erasure alone redacts.';

CREATE OR REPLACE FUNCTION conversation.increment_message_count() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM new_messages AS m WHERE m.chat_type::text NOT IN ('main', 'helper')) THEN
        RAISE EXCEPTION 'messages of this chat are not counted: it is neither main nor helper'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'chat_type_valid',
                  SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, COLUMN = 'chat_type';
    END IF;
    -- Here and not before: the foreign key has waited for an erasure that was under way.
    IF EXISTS (SELECT FROM new_messages AS m JOIN conversation.profiles AS p ON p.id = m.user_id
        WHERE p.deleted_at IS NOT NULL)
    THEN
        RAISE EXCEPTION 'the person has left'
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'profile_deleted',
                  SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
    END IF;
    UPDATE conversation.sessions AS s SET
        message_count_main = s.message_count_main + counted.main,
        message_count_helper = s.message_count_helper + counted.helper,
        last_activity_at = greatest(s.last_activity_at, counted.latest)
    FROM (
        SELECT m.session_id, count(*) FILTER (WHERE m.chat_type = 'main') AS main,
            count(*) FILTER (WHERE m.chat_type = 'helper') AS helper, max(m.sent_at) AS latest
        FROM new_messages AS m GROUP BY m.session_id
    ) AS counted
    WHERE counted.session_id = s.id;
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION conversation.delete_own_profile(), conversation.erase_profile(uuid)
    FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION conversation.delete_own_profile() TO authenticated;
GRANT EXECUTE ON FUNCTION conversation.erase_profile(uuid) TO service_role;
"""

LIMITS = """
CREATE TABLE conversation.rate_limits (
    code varchar(50) NOT NULL,
    allowed integer NOT NULL,
    per interval NOT NULL,
    enforced boolean DEFAULT true NOT NULL,
    CONSTRAINT rate_limits_pkey PRIMARY KEY (code),
    CONSTRAINT code_valid CHECK (code IN ('messages', 'completed_scenarios')),
    CONSTRAINT allowed_in_range CHECK (allowed BETWEEN 1 AND 100000),
    CONSTRAINT per_in_range CHECK (per BETWEEN interval '1 second' AND interval '7 days'),
    CONSTRAINT per_is_the_week CHECK (code <> 'completed_scenarios' OR per = interval '7 days')
);
COMMENT ON TABLE conversation.rate_limits IS 'How much a person may do in which time; the service''s to change.';
COMMENT ON COLUMN conversation.rate_limits.code IS 'Identity: messages that a person sends, or scenes that they complete.';
COMMENT ON COLUMN conversation.rate_limits.allowed IS 'How many.';
COMMENT ON COLUMN conversation.rate_limits.per IS 'In how long; for scenes the week that begins on Monday 00:00 UTC.';
COMMENT ON COLUMN conversation.rate_limits.enforced IS 'False lets everybody do as they like.';
COMMENT ON INDEX conversation.rate_limits_pkey IS 'Identity.';
INSERT INTO conversation.rate_limits (code, allowed, per) VALUES
    ('messages', 30, '1 minute'), ('completed_scenarios', 3, '7 days');
ALTER TABLE conversation.rate_limits ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON conversation.rate_limits FROM PUBLIC, anon, authenticated, service_role;
CREATE POLICY rate_limits_select_enforced ON conversation.rate_limits FOR SELECT TO authenticated USING (enforced);
CREATE POLICY service_role_rate_limits ON conversation.rate_limits TO service_role USING (true) WITH CHECK (true);
COMMENT ON POLICY rate_limits_select_enforced ON conversation.rate_limits IS 'A person may know the limits that they meet.';
COMMENT ON POLICY service_role_rate_limits ON conversation.rate_limits IS 'The service sees every row; its grants say what it may do.';
GRANT SELECT ON conversation.rate_limits TO authenticated, service_role;
GRANT UPDATE (allowed, per, enforced) ON conversation.rate_limits TO service_role;

-- Whether a session may begin, and its scene is on offer. With the caller's rights: of a stranger it sees nothing, and the policy refuses.
CREATE FUNCTION carnivore.begin_session() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    person conversation.profiles;
BEGIN
    SELECT * INTO person FROM conversation.profiles AS p WHERE p.id = NEW.user_id;
    IF person.deleted_at IS NOT NULL THEN
        RAISE EXCEPTION 'the person has left'
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'profile_deleted',
                  SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
    END IF;
    IF NOT NEW.is_completed
        AND NOT EXISTS (SELECT FROM conversation.scenarios AS c WHERE c.id = NEW.scenario_id AND c.is_active)
    THEN
        RAISE EXCEPTION 'the scene is not on offer'
            USING ERRCODE = 'PT404', CONSTRAINT = 'scenario_not_found',
                  SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, COLUMN = 'scenario_id';
    END IF;
    IF NOT NEW.is_completed AND person.week_reset_date > now()
        AND person.current_week_completion_count >= (
            SELECT l.allowed FROM conversation.rate_limits AS l WHERE l.code = 'completed_scenarios' AND l.enforced)
        -- Whoever has an open session meets that instead.
        AND NOT EXISTS (SELECT FROM conversation.sessions AS s WHERE s.user_id = NEW.user_id AND NOT s.is_completed)
    THEN
        RAISE EXCEPTION 'the week''s scenes are completed: wait until %', person.week_reset_date
            USING ERRCODE = 'PT429', CONSTRAINT = 'weekly_limit',
                  DETAIL = to_char(person.week_reset_date AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"'),
                  SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION carnivore.begin_session() IS 'Refuses a session of a retired scene, of somebody who has left, or whose week''s scenes are completed.';
CREATE TRIGGER begin_session BEFORE INSERT ON conversation.sessions
    FOR EACH ROW EXECUTE FUNCTION carnivore.begin_session();
COMMENT ON TRIGGER begin_session ON conversation.sessions IS 'Nobody begins what they could not complete.';

CREATE OR REPLACE FUNCTION conversation.update_profile_completion_counts() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    people uuid[] := '{}';
    person uuid;
    reset timestamptz;
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
    -- The person's row is locked now, and its count is exact. Sessions of other weeks are nobody's limit.
    IF TG_OP = 'INSERT' AND NEW.is_completed OR TG_OP = 'UPDATE' AND NEW.is_completed AND NOT OLD.is_completed THEN
        SELECT p.week_reset_date INTO reset
        FROM conversation.profiles AS p JOIN conversation.rate_limits AS l ON l.code = 'completed_scenarios' AND l.enforced
        WHERE p.id = NEW.user_id AND NEW.completed_at >= p.week_reset_date - interval '168 hours'
            AND p.current_week_completion_count > l.allowed;
        IF FOUND THEN
            RAISE EXCEPTION 'the week''s scenes are completed: wait until %', reset
                USING ERRCODE = 'PT429', CONSTRAINT = 'weekly_limit',
                      DETAIL = to_char(reset AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"'),
                      SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
        END IF;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION conversation.update_profile_completion_counts() IS 'Keeps a person''s counts equal to their completed sessions, and those of a week within the limit.';

-- With the sender's rights. The session is locked already, and a person has one open session: nobody else counts.
CREATE FUNCTION carnivore.limit_messages() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rule conversation.rate_limits;
    span interval;
    earlier timestamptz;
    wait numeric;
BEGIN
    SELECT * INTO rule FROM conversation.rate_limits AS l WHERE l.code = 'messages' AND l.enforced;
    -- In seconds: a day is an hour more or less where the caller's clocks change.
    span := make_interval(secs => extract(epoch FROM rule.per)::double precision);
    IF NOT FOUND OR NEW.sent_at < clock_timestamp() - span
        -- A retry that has waited for the message itself is stored no second time.
        OR EXISTS (SELECT FROM conversation.messages AS m
            WHERE m.session_id = NEW.session_id AND m.client_message_id = NEW.client_message_id)
    THEN
        RETURN NEW;
    END IF;
    SELECT m.sent_at INTO earlier FROM conversation.messages AS m
    WHERE m.user_id = NEW.user_id AND m.role = 'user' ORDER BY m.sent_at DESC OFFSET rule.allowed - 1 LIMIT 1;
    wait := ceil(extract(epoch FROM earlier + span - clock_timestamp()));
    IF wait > 0 THEN
        RAISE EXCEPTION 'too many messages: wait % seconds', wait
            USING ERRCODE = 'PT429', CONSTRAINT = 'message_rate_limit', DETAIL = wait::text,
                  SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION carnivore.limit_messages() IS 'Refuses a person''s message when the latest ones came too fast; the detail is the time to wait in seconds.';
-- Its name comes after populate_user_id_on_insert: it needs the person.
CREATE TRIGGER rate_limit_messages BEFORE INSERT ON conversation.messages
    FOR EACH ROW WHEN (NEW.role = 'user') EXECUTE FUNCTION carnivore.limit_messages();
COMMENT ON TRIGGER rate_limit_messages ON conversation.messages IS 'A person sends so many messages in so long a time.';
REVOKE ALL ON FUNCTION carnivore.begin_session(), carnivore.limit_messages()
    FROM PUBLIC, anon, authenticated, service_role;
"""


def upgrade() -> None:
    for part in (LEAVING, LIMITS):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
        LOCK TABLE conversation.messages, conversation.messages_archive, conversation.sessions, conversation.profiles,
            conversation.logs IN ACCESS EXCLUSIVE MODE;
        DROP TRIGGER rate_limit_messages ON conversation.messages;
        DROP FUNCTION carnivore.limit_messages();
        DROP TRIGGER begin_session ON conversation.sessions;
        DROP FUNCTION carnivore.begin_session();
        DROP TABLE conversation.rate_limits;
        DROP FUNCTION conversation.erase_profile(uuid);
        DROP FUNCTION conversation.delete_own_profile();
        ALTER POLICY profiles_select_own ON conversation.profiles USING (id = (SELECT auth.uid()));
        ALTER POLICY sessions_select_own ON conversation.sessions USING (user_id = (SELECT auth.uid()));
        ALTER POLICY sessions_insert_own ON conversation.sessions WITH CHECK (user_id = (SELECT auth.uid()));
        ALTER POLICY sessions_update_own ON conversation.sessions USING (user_id = (SELECT auth.uid()))
            WITH CHECK (user_id = (SELECT auth.uid()) AND is_completed);
        ALTER POLICY sessions_delete_own ON conversation.sessions
            USING (user_id = (SELECT auth.uid()) AND NOT is_completed);
        ALTER POLICY messages_select_own ON conversation.messages USING (user_id = (SELECT auth.uid()));
        ALTER POLICY messages_insert_own ON conversation.messages WITH CHECK (user_id = (SELECT auth.uid()));
        ALTER POLICY messages_archive_select_own ON conversation.messages_archive USING (user_id = (SELECT auth.uid()));
        ALTER POLICY logs_select_own ON conversation.logs USING (user_id = (SELECT auth.uid()));
        DROP FUNCTION carnivore.active_user();
        REVOKE UPDATE (deleted_at) ON conversation.profiles FROM service_role;
        ALTER TABLE conversation.profiles DROP CONSTRAINT email_with_erased, DROP CONSTRAINT deleted_at_with_erased,
            DROP COLUMN erased_at, DROP COLUMN deleted_at;
    """)
    op.execute("""
        CREATE OR REPLACE FUNCTION conversation.prevent_message_updates() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- A key follows its session's or its person's (ON UPDATE CASCADE): the old one is gone then.
    IF to_jsonb(NEW) - 'session_id' - 'user_id' = to_jsonb(OLD) - 'session_id' - 'user_id'
        AND (NEW.session_id <> OLD.session_id OR NEW.user_id <> OLD.user_id)
        AND (NEW.session_id = OLD.session_id OR NOT EXISTS (SELECT FROM conversation.sessions AS s WHERE s.id = OLD.session_id))
        AND (NEW.user_id = OLD.user_id OR NOT EXISTS (SELECT FROM conversation.profiles AS p WHERE p.id = OLD.user_id))
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'messages never change'
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'messages_immutable',
              SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
END
$$;
COMMENT ON FUNCTION conversation.prevent_message_updates() IS 'Refuses every change of a message, whoever asks.';

CREATE OR REPLACE FUNCTION conversation.increment_message_count() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM new_messages AS m WHERE m.chat_type::text NOT IN ('main', 'helper')) THEN
        RAISE EXCEPTION 'messages of this chat are not counted: it is neither main nor helper'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'chat_type_valid',
                  SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, COLUMN = 'chat_type';
    END IF;
    UPDATE conversation.sessions AS s SET
        message_count_main = s.message_count_main + counted.main,
        message_count_helper = s.message_count_helper + counted.helper,
        last_activity_at = greatest(s.last_activity_at, counted.latest)
    FROM (
        SELECT m.session_id, count(*) FILTER (WHERE m.chat_type = 'main') AS main,
            count(*) FILTER (WHERE m.chat_type = 'helper') AS helper, max(m.sent_at) AS latest
        FROM new_messages AS m GROUP BY m.session_id
    ) AS counted
    WHERE counted.session_id = s.id;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION conversation.update_profile_completion_counts() RETURNS trigger
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
    """)
