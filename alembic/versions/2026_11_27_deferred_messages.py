"""Deferred issues: plain names of roles, and an archive for old messages.

Why: the document leaves "confusing message role naming" (36) and a retention plan for messages (33) for later. Old
messages of completed sessions move to a table of their own, and are read back through one view with the others.
A message goes with its session, or into the archive; so the session's counts stay true.

The downgrade moves archived messages back and gives the roles their old names.
"""

from alembic import op

revision = "deferred_messages"
down_revision = "deferred_logs"
branch_labels = None
depends_on = None

ROLES = """
-- The document's own complaint: clients change with it.
-- squawk-ignore-file renaming-object
ALTER TYPE conversation.message_role RENAME VALUE 'scenario' TO 'main_assistant';
ALTER TYPE conversation.message_role RENAME VALUE 'helper' TO 'helper_assistant';
"""

ARCHIVE = """
LOCK TABLE conversation.messages, conversation.sessions, conversation.profiles IN SHARE ROW EXCLUSIVE MODE;
CREATE TABLE conversation.messages_archive (
    id uuid NOT NULL,
    session_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role conversation.message_role NOT NULL,
    chat_type conversation.chat_type_enum NOT NULL,
    content text NOT NULL,
    sent_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    client_message_id uuid,
    archived_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT messages_archive_pkey PRIMARY KEY (id),
    CONSTRAINT messages_archive_session_id_fkey
        FOREIGN KEY (session_id) REFERENCES conversation.sessions (id) ON UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT messages_archive_user_id_fkey
        FOREIGN KEY (user_id) REFERENCES conversation.profiles (id) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX idx_messages_archive_session_time_id ON conversation.messages_archive (session_id, sent_at, id);
CREATE INDEX idx_messages_archive_user ON conversation.messages_archive (user_id, sent_at DESC);
COMMENT ON TABLE conversation.messages_archive IS 'Old messages of completed sessions; message_history shows them with the others.';
COMMENT ON COLUMN conversation.messages_archive.id IS 'Identity, as it was.';
COMMENT ON COLUMN conversation.messages_archive.session_id IS 'The session.';
COMMENT ON COLUMN conversation.messages_archive.user_id IS 'The session''s person.';
COMMENT ON COLUMN conversation.messages_archive.role IS 'Who said it.';
COMMENT ON COLUMN conversation.messages_archive.chat_type IS 'The chat that it was said in.';
COMMENT ON COLUMN conversation.messages_archive.content IS 'What was said; never changes.';
COMMENT ON COLUMN conversation.messages_archive.sent_at IS 'When it was said.';
COMMENT ON COLUMN conversation.messages_archive.created_at IS 'When the message was stored.';
COMMENT ON COLUMN conversation.messages_archive.client_message_id IS 'The sender''s own identity of the message.';
COMMENT ON COLUMN conversation.messages_archive.archived_at IS 'When it came here.';
COMMENT ON INDEX conversation.messages_archive_pkey IS 'Identity.';
COMMENT ON INDEX conversation.idx_messages_archive_session_time_id IS 'A session in order, page by page; the foreign key.';
COMMENT ON INDEX conversation.idx_messages_archive_user IS 'Archived messages of a person; the foreign key and row security.';
-- A few pages, whatever the table: what is old lies together.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX idx_messages_sent_at ON conversation.messages USING brin (sent_at);
COMMENT ON INDEX conversation.idx_messages_sent_at IS 'Messages old enough for the archive.';

CREATE VIEW conversation.message_history WITH (security_invoker = true) AS
SELECT m.id, m.session_id, m.user_id, m.role, m.chat_type, m.content, m.sent_at, m.created_at, m.client_message_id,
    NULL::timestamptz AS archived_at
FROM conversation.messages AS m
UNION ALL
SELECT a.id, a.session_id, a.user_id, a.role, a.chat_type, a.content, a.sent_at, a.created_at, a.client_message_id,
    a.archived_at
FROM conversation.messages_archive AS a;
COMMENT ON VIEW conversation.message_history IS 'All messages, archived ones among them.';
COMMENT ON COLUMN conversation.message_history.id IS 'The message.';
COMMENT ON COLUMN conversation.message_history.session_id IS 'The session.';
COMMENT ON COLUMN conversation.message_history.user_id IS 'The session''s person.';
COMMENT ON COLUMN conversation.message_history.role IS 'Who said it.';
COMMENT ON COLUMN conversation.message_history.chat_type IS 'The chat that it was said in.';
COMMENT ON COLUMN conversation.message_history.content IS 'What was said.';
COMMENT ON COLUMN conversation.message_history.sent_at IS 'When it was said.';
COMMENT ON COLUMN conversation.message_history.created_at IS 'When it was stored.';
COMMENT ON COLUMN conversation.message_history.client_message_id IS 'The sender''s own identity of the message.';
COMMENT ON COLUMN conversation.message_history.archived_at IS 'When it was archived; NULL when it was not.';
"""

RULES = """
CREATE FUNCTION carnivore.keep_message() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_TABLE_NAME = 'messages' AND EXISTS (SELECT FROM conversation.messages_archive AS a WHERE a.id = OLD.id) THEN
        RETURN OLD;
    END IF;
    IF EXISTS (SELECT FROM conversation.sessions AS s JOIN conversation.profiles AS p ON p.id = s.user_id
        WHERE s.id = OLD.session_id)
    THEN
        RAISE EXCEPTION 'a message goes with its session, or into the archive'
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'append_only',
                  SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN OLD;
END
$$;
COMMENT ON FUNCTION carnivore.keep_message() IS 'A message goes with its session or its person, or into the archive, and in no other way.';
CREATE TRIGGER messages_kept BEFORE DELETE ON conversation.messages
    FOR EACH ROW EXECUTE FUNCTION carnivore.keep_message();
CREATE TRIGGER messages_archive_kept BEFORE DELETE ON conversation.messages_archive
    FOR EACH ROW EXECUTE FUNCTION carnivore.keep_message();
CREATE TRIGGER messages_no_truncate BEFORE TRUNCATE ON conversation.messages
    FOR EACH STATEMENT EXECUTE FUNCTION carnivore.refuse_rewriting();
CREATE TRIGGER messages_archive_no_truncate BEFORE TRUNCATE ON conversation.messages_archive
    FOR EACH STATEMENT EXECUTE FUNCTION carnivore.refuse_rewriting();
CREATE TRIGGER messages_archive_immutable BEFORE UPDATE ON conversation.messages_archive
    FOR EACH ROW EXECUTE FUNCTION conversation.prevent_message_updates();
COMMENT ON TRIGGER messages_kept ON conversation.messages IS 'A message goes with its session, or into the archive.';
COMMENT ON TRIGGER messages_archive_kept ON conversation.messages_archive IS 'An archived message goes with its session.';
COMMENT ON TRIGGER messages_no_truncate ON conversation.messages IS 'Nor do all go at once.';
COMMENT ON TRIGGER messages_archive_no_truncate ON conversation.messages_archive IS 'Nor do all go at once.';
COMMENT ON TRIGGER messages_archive_immutable ON conversation.messages_archive IS 'Messages never change.';

CREATE OR REPLACE FUNCTION conversation.prevent_messages_in_completed_sessions() RETURNS trigger
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
    IF EXISTS (SELECT FROM conversation.messages_archive AS a WHERE a.id = NEW.id) THEN
        RAISE EXCEPTION 'an archived message has this id'
            USING ERRCODE = 'unique_violation', CONSTRAINT = 'messages_archive_pkey',
                  SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
    END IF;
    IF NEW.client_message_id IS NOT NULL AND EXISTS (SELECT FROM conversation.messages_archive AS a
        WHERE a.session_id = NEW.session_id AND a.client_message_id = NEW.client_message_id)
    THEN
        RETURN NULL; -- a retry of one that was archived meanwhile
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

CREATE FUNCTION conversation.archive_messages(
    batch integer DEFAULT 1000, job_id uuid DEFAULT gen_random_uuid(), older_than interval DEFAULT '1 year')
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    began timestamptz := clock_timestamp();
    cutoff timestamptz := now() - older_than;
    due uuid[];
BEGIN
    due := ARRAY(
        -- Session and person too, as the archive's keys will: an erasure, which holds them, is gone around.
        SELECT m.id FROM conversation.messages AS m JOIN conversation.sessions AS s ON s.id = m.session_id
            JOIN conversation.profiles AS p ON p.id = m.user_id
        WHERE m.sent_at < cutoff AND s.is_completed AND s.completed_at < cutoff
        ORDER BY m.sent_at, m.id LIMIT batch
        FOR UPDATE OF m SKIP LOCKED FOR KEY SHARE OF s, p SKIP LOCKED);
    INSERT INTO conversation.messages_archive
        (id, session_id, user_id, role, chat_type, content, sent_at, created_at, client_message_id)
    SELECT m.id, m.session_id, m.user_id, m.role, m.chat_type, m.content, m.sent_at, m.created_at, m.client_message_id
    FROM conversation.messages AS m WHERE m.id = ANY (due);
    DELETE FROM conversation.messages AS m WHERE m.id = ANY (due);
    INSERT INTO conversation.logs (level, event_type, metadata) VALUES ('info', 'messages_archived',
        jsonb_build_object('job', 'archive_messages', 'job_id', job_id, 'started_at', began,
            'finished_at', clock_timestamp(), 'before', cutoff, 'archived', cardinality(due)));
    RETURN cardinality(due);
END
$$;
COMMENT ON FUNCTION conversation.archive_messages(integer, uuid, interval) IS 'Moves up to batch messages of sessions that were completed long ago to the archive; returns how many.';

REVOKE ALL ON FUNCTION carnivore.keep_message(), conversation.archive_messages(integer, uuid, interval)
    FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION conversation.archive_messages(integer, uuid, interval) TO service_role;

ALTER TABLE conversation.messages_archive ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON conversation.messages_archive, conversation.message_history
    FROM PUBLIC, anon, authenticated, service_role;
CREATE POLICY messages_archive_select_own ON conversation.messages_archive FOR SELECT TO authenticated
    USING (user_id = (SELECT auth.uid()));
CREATE POLICY service_role_messages_archive ON conversation.messages_archive FOR SELECT TO service_role USING (true);
COMMENT ON POLICY messages_archive_select_own ON conversation.messages_archive IS 'A person reads their own messages.';
COMMENT ON POLICY service_role_messages_archive ON conversation.messages_archive IS 'The service reads every row.';
GRANT SELECT ON conversation.messages_archive, conversation.message_history TO authenticated, service_role;
"""


def upgrade() -> None:
    for part in (ROLES, ARCHIVE, RULES):
        op.execute(part)


def downgrade() -> None:
    # They are counted already, and their sessions are completed: no trigger has anything to say. An identity that was
    # taken again since, in a session that was opened again, is the newer message's.
    op.execute("""
        LOCK TABLE conversation.messages, conversation.messages_archive IN ACCESS EXCLUSIVE MODE;
        ALTER TABLE conversation.messages DISABLE TRIGGER USER;
        INSERT INTO conversation.messages
            (id, session_id, user_id, role, chat_type, content, sent_at, created_at, client_message_id)
        SELECT CASE WHEN EXISTS (SELECT FROM conversation.messages AS m WHERE m.id = a.id)
                THEN gen_random_uuid() ELSE a.id END,
            a.session_id, a.user_id, a.role, a.chat_type, a.content, a.sent_at, a.created_at,
            CASE WHEN NOT EXISTS (SELECT FROM conversation.messages AS m WHERE m.session_id = a.session_id
                AND m.client_message_id = a.client_message_id) THEN a.client_message_id END
        FROM conversation.messages_archive AS a;
        ALTER TABLE conversation.messages ENABLE TRIGGER USER;
        DROP VIEW conversation.message_history;
        DROP FUNCTION conversation.archive_messages(integer, uuid, interval);
        DROP TRIGGER messages_no_truncate ON conversation.messages;
        DROP TRIGGER messages_kept ON conversation.messages;
        DROP TABLE conversation.messages_archive;
        DROP FUNCTION carnivore.keep_message();
        DROP INDEX conversation.idx_messages_sent_at;
        ALTER TYPE conversation.message_role RENAME VALUE 'main_assistant' TO 'scenario';
        ALTER TYPE conversation.message_role RENAME VALUE 'helper_assistant' TO 'helper';
    """)
    op.execute("""
        CREATE OR REPLACE FUNCTION conversation.prevent_messages_in_completed_sessions() RETURNS trigger
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
    """)
