"""Critical fixes, second part: messages know their person, never change, and meet no completed session.

Why: changes 3, 4 and 37, 7, 11, 13, 14, 15, 18, 21 and 46 of the document. Row security asked the sessions for
every message; a message could enter a session as it was being completed, and a retry stored it twice. The table is
written anew once, with the person of each message; its indexes are built behind that.

The downgrade gives back text, names and indexes, and every message.
"""

from alembic import context, op

revision = "critical_fixes_messages"
down_revision = "critical_fixes_rows"
branch_labels = None
depends_on = None

# One pass over the table: USING takes no subquery, but a function that has one.
COLUMNS = """
-- The table is written anew under its lock: nobody sees it, and nobody could write to it, before it is whole.
-- squawk-ignore-file adding-foreign-key-constraint, adding-not-nullable-field, ban-drop-constraint, ban-drop-function, changing-column-type, constraint-missing-not-valid, disallowed-unique-constraint, renaming-column, require-concurrent-index-creation, require-concurrent-index-deletion
LOCK TABLE conversation.messages IN ACCESS EXCLUSIVE MODE;
LOCK TABLE conversation.sessions, conversation.profiles IN SHARE ROW EXCLUSIVE MODE;
DROP POLICY messages_select_own ON conversation.messages;
DROP POLICY messages_insert_own ON conversation.messages;
DROP TRIGGER increment_message_count ON conversation.messages;
DROP INDEX conversation.idx_messages_session_chronological;
DROP INDEX conversation.idx_messages_chat_type;
ALTER TABLE conversation.messages DROP CONSTRAINT messages_role_chat_type_valid,
    DROP CONSTRAINT messages_role_valid, DROP CONSTRAINT messages_chat_type_valid;

CREATE TYPE conversation.message_role AS ENUM ('user', 'scenario', 'helper');
CREATE TYPE conversation.chat_type_enum AS ENUM ('main', 'helper');
COMMENT ON TYPE conversation.message_role IS 'Who said a message.';
COMMENT ON TYPE conversation.chat_type_enum IS 'The two chats of a session.';

CREATE FUNCTION carnivore.person_of_session(session uuid) RETURNS uuid
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT user_id FROM conversation.sessions WHERE id = session
$$;
ALTER TABLE conversation.messages ADD COLUMN user_id uuid, ADD COLUMN client_message_id uuid;
ALTER TABLE conversation.messages
    ALTER COLUMN role TYPE conversation.message_role USING role::conversation.message_role,
    ALTER COLUMN chat_type TYPE conversation.chat_type_enum USING chat_type::conversation.chat_type_enum,
    ALTER COLUMN user_id TYPE uuid USING carnivore.person_of_session(session_id);
DROP FUNCTION carnivore.person_of_session(uuid);
ALTER TABLE conversation.messages ALTER COLUMN user_id SET NOT NULL;
ALTER TABLE conversation.messages RENAME COLUMN "timestamp" TO sent_at;
-- Not the transaction's: two messages of one transaction have an order.
ALTER TABLE conversation.messages ALTER COLUMN sent_at SET DEFAULT clock_timestamp();
"""

INDEXES = """
ALTER TABLE conversation.messages ADD CONSTRAINT messages_role_chat_type_valid
    CHECK ((role, chat_type) IN (('scenario', 'main'), ('helper', 'helper'), ('user', 'main'), ('user', 'helper')));
ALTER TABLE conversation.messages ADD CONSTRAINT messages_user_id_fkey
    FOREIGN KEY (user_id) REFERENCES conversation.profiles (id) ON UPDATE CASCADE ON DELETE CASCADE;
CREATE INDEX idx_messages_session_time_id ON conversation.messages (session_id, sent_at, id);
CREATE INDEX idx_messages_chat_type ON conversation.messages (session_id, chat_type, sent_at, id);
CREATE INDEX idx_messages_session_user ON conversation.messages (session_id, user_id, sent_at, id);
CREATE INDEX idx_messages_user ON conversation.messages (user_id, sent_at DESC);
CREATE UNIQUE INDEX idx_messages_client_message_id ON conversation.messages (session_id, client_message_id)
    WHERE client_message_id IS NOT NULL;
COMMENT ON COLUMN conversation.messages.user_id IS 'The session''s person; a trigger''s. Row security asks it.';
COMMENT ON COLUMN conversation.messages.client_message_id IS 'The sender''s own identity of the message: sent twice, it is stored once.';
COMMENT ON COLUMN conversation.messages.content IS 'What was said, at most 8,000 characters; never changes.';
COMMENT ON COLUMN conversation.messages.sent_at IS 'When it was said; never in the future.';
COMMENT ON INDEX conversation.idx_messages_session_time_id IS 'A session in order, page by page; the foreign key.';
COMMENT ON INDEX conversation.idx_messages_chat_type IS 'One chat of a session in order, page by page.';
COMMENT ON INDEX conversation.idx_messages_session_user IS 'The same as row security asks for it: the planner takes session and person for independent, and would sort.';
COMMENT ON INDEX conversation.idx_messages_user IS 'Messages of a person, newest first; the foreign key and row security.';
COMMENT ON INDEX conversation.idx_messages_client_message_id IS 'A message that was sent twice is stored once.';
"""

# The first two run with the sender's rights: a stranger's session is no session.
RULES = """
CREATE FUNCTION conversation.prevent_messages_in_completed_sessions() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    completed boolean;
BEGIN
    -- The lock is held to the end of the transaction: a completion comes before this message or after it. And it
    -- is taken before the foreign key's, which would make a multixact of the two.
    SELECT s.is_completed INTO completed FROM conversation.sessions AS s WHERE s.id = NEW.session_id
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no session has this id'
            USING ERRCODE = 'PT404', CONSTRAINT = 'conversation_not_found',
                  SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, COLUMN = 'session_id';
    END IF;
    IF NOT completed THEN
        -- Under the lock, whatever waited for it: in a session no message becomes visible behind a later one, and
        -- a reader who goes on from the last one seen misses none. An earlier moment is an import's.
        IF NEW.sent_at >= statement_timestamp() THEN
            NEW.sent_at := clock_timestamp();
        END IF;
        RETURN NEW;
    END IF;
    IF EXISTS (SELECT FROM conversation.messages AS m
        WHERE m.session_id = NEW.session_id AND m.client_message_id = NEW.client_message_id)
    THEN
        RETURN NULL; -- a retry of one that came in time
    END IF;
    RAISE EXCEPTION 'the session is completed: no message enters it any more'
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'conversation_completed',
              SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
END
$$;
COMMENT ON FUNCTION conversation.prevent_messages_in_completed_sessions() IS 'No message enters a completed session, also when the two race; in a session the moments follow the commits.';
CREATE TRIGGER check_session_not_completed BEFORE INSERT ON conversation.messages
    FOR EACH ROW EXECUTE FUNCTION conversation.prevent_messages_in_completed_sessions();
COMMENT ON TRIGGER check_session_not_completed ON conversation.messages IS 'No message enters a completed session.';

CREATE FUNCTION conversation.populate_message_user_id() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT s.user_id INTO NEW.user_id FROM conversation.sessions AS s WHERE s.id = NEW.session_id;
    IF NOT FOUND THEN
        -- Its person left while this message waited for it.
        RAISE EXCEPTION 'no session has this id'
            USING ERRCODE = 'PT404', CONSTRAINT = 'conversation_not_found',
                  SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, COLUMN = 'session_id';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION conversation.populate_message_user_id() IS 'Gives a message the person of its session, whatever was given.';
CREATE TRIGGER populate_user_id_on_insert BEFORE INSERT ON conversation.messages
    FOR EACH ROW EXECUTE FUNCTION conversation.populate_message_user_id();
COMMENT ON TRIGGER populate_user_id_on_insert ON conversation.messages IS 'A message is its session''s person''s.';

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
COMMENT ON FUNCTION conversation.increment_message_count() IS 'Counts the messages that a statement brought to its sessions.';
CREATE TRIGGER increment_message_count AFTER INSERT ON conversation.messages
    REFERENCING NEW TABLE AS new_messages FOR EACH STATEMENT EXECUTE FUNCTION conversation.increment_message_count();
COMMENT ON TRIGGER increment_message_count ON conversation.messages IS 'Counts messages.';

CREATE FUNCTION conversation.prevent_message_updates() RETURNS trigger
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

REVOKE ALL ON FUNCTION conversation.prevent_messages_in_completed_sessions(), conversation.populate_message_user_id(),
    conversation.prevent_message_updates() FROM PUBLIC, anon, authenticated, service_role;

CREATE POLICY messages_select_own ON conversation.messages FOR SELECT TO authenticated
    USING (user_id = (SELECT auth.uid()));
CREATE POLICY messages_insert_own ON conversation.messages FOR INSERT TO authenticated
    WITH CHECK (user_id = (SELECT auth.uid()));
CREATE POLICY service_role_messages ON conversation.messages TO service_role USING (true) WITH CHECK (true);
COMMENT ON POLICY messages_select_own ON conversation.messages IS 'A person reads their own messages.';
COMMENT ON POLICY messages_insert_own ON conversation.messages IS 'A person adds messages to their own sessions.';
COMMENT ON POLICY service_role_messages ON conversation.messages IS 'The service sees every row; its grants say what it may do.';
REVOKE ALL ON conversation.messages FROM authenticated, service_role;
GRANT SELECT ON conversation.messages TO authenticated, service_role;
GRANT INSERT (id, session_id, role, chat_type, content, client_message_id) ON conversation.messages
    TO authenticated, service_role;
GRANT INSERT (sent_at) ON conversation.messages TO service_role;
"""

IMMUTABLE = """
CREATE TRIGGER messages_immutable BEFORE UPDATE ON conversation.messages
    FOR EACH ROW EXECUTE FUNCTION conversation.prevent_message_updates();
COMMENT ON TRIGGER messages_immutable ON conversation.messages IS 'Messages never change.';
"""


def upgrade() -> None:
    for part in (COLUMNS, INDEXES, RULES, IMMUTABLE):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
        LOCK TABLE conversation.messages IN ACCESS EXCLUSIVE MODE;
        LOCK TABLE conversation.sessions IN SHARE ROW EXCLUSIVE MODE;
        DROP POLICY service_role_messages ON conversation.messages;
        DROP POLICY messages_insert_own ON conversation.messages;
        DROP POLICY messages_select_own ON conversation.messages;
        DROP TRIGGER messages_immutable ON conversation.messages;
        DROP TRIGGER increment_message_count ON conversation.messages;
        DROP TRIGGER populate_user_id_on_insert ON conversation.messages;
        DROP TRIGGER check_session_not_completed ON conversation.messages;
        DROP FUNCTION conversation.prevent_message_updates();
        DROP FUNCTION conversation.populate_message_user_id();
        DROP FUNCTION conversation.prevent_messages_in_completed_sessions();
        DROP INDEX conversation.idx_messages_client_message_id;
        DROP INDEX conversation.idx_messages_user;
        DROP INDEX conversation.idx_messages_session_user;
        DROP INDEX conversation.idx_messages_chat_type;
        DROP INDEX conversation.idx_messages_session_time_id;
        -- The columns' grants go with them, the table's come back below.
        REVOKE ALL ON conversation.messages FROM authenticated, service_role;
        ALTER TABLE conversation.messages DROP CONSTRAINT messages_role_chat_type_valid,
            DROP COLUMN client_message_id, DROP COLUMN user_id;
        ALTER TABLE conversation.messages ALTER COLUMN sent_at SET DEFAULT now();
        ALTER TABLE conversation.messages RENAME COLUMN sent_at TO "timestamp";
        ALTER TABLE conversation.messages
            ALTER COLUMN role TYPE text USING role::text, ALTER COLUMN chat_type TYPE text USING chat_type::text;
        DROP TYPE conversation.message_role;
        DROP TYPE conversation.chat_type_enum;
        ALTER TABLE conversation.messages
            ADD CONSTRAINT messages_role_valid CHECK (role IN ('user', 'scenario', 'helper')),
            ADD CONSTRAINT messages_chat_type_valid CHECK (chat_type IN ('main', 'helper')),
            ADD CONSTRAINT messages_role_chat_type_valid CHECK ((role, chat_type)
                IN (('scenario', 'main'), ('helper', 'helper'), ('user', 'main'), ('user', 'helper')));
        CREATE INDEX idx_messages_session_chronological ON conversation.messages (session_id, "timestamp");
        CREATE INDEX idx_messages_chat_type ON conversation.messages (session_id, chat_type, "timestamp");
        COMMENT ON INDEX conversation.idx_messages_session_chronological IS 'A session in order; the foreign key.';
        COMMENT ON INDEX conversation.idx_messages_chat_type IS 'One chat of a session in order.';
        COMMENT ON COLUMN conversation.messages.content IS 'What was said.';
        COMMENT ON COLUMN conversation.messages."timestamp" IS 'When it was said.';
    """)
    baseline = context.script.get_revision("conversation_baseline").module
    op.execute(baseline.INCREMENT_MESSAGE_COUNT)
    op.execute(baseline.INCREMENT_MESSAGE_COUNT_TRIGGER)
    op.execute(baseline.MESSAGES_ACCESS)
