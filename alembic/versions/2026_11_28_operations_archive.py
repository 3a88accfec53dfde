"""The ledger of months that went to cold storage, and restored logs that stay for their time.

Why: the documents leave "yearly: archive old partitions to cold storage" to a person with a calendar. A row is written
before the first byte of its file, and says at every moment how far its month has come: a run that was stopped is
finished by the next one. Between detaching and dropping, a month's table stands in the schema carnivore, where no
partition to come can take its name.
"""

from alembic import op

revision = "operations_archive"
down_revision = "operations_partitions"
branch_labels = None
depends_on = None

LEDGER = """
CREATE TABLE carnivore.archived_partitions (
    parent text NOT NULL,
    month date NOT NULL,
    part integer NOT NULL,
    file_url text NOT NULL,
    rows bigint,
    sha256 text,
    bytes_before bigint,
    bytes_after bigint,
    begun_at timestamptz DEFAULT now() NOT NULL,
    detached_at timestamptz,
    dropped_at timestamptz,
    restored_as regclass,
    keep_until timestamptz,
    CONSTRAINT archived_partitions_pkey PRIMARY KEY (parent, month, part),
    CONSTRAINT facts_with_dropped CHECK (dropped_at IS NULL OR num_nulls(rows, sha256, bytes_before, bytes_after, detached_at) = 0)
);
COMMENT ON TABLE carnivore.archived_partitions IS 'Months in cold storage: one row a file, and how far each has come.';
COMMENT ON COLUMN carnivore.archived_partitions.parent IS 'The partitioned table, with its schema.';
COMMENT ON COLUMN carnivore.archived_partitions.month IS 'The first of the month (UTC).';
COMMENT ON COLUMN carnivore.archived_partitions.part IS 'Which of the month''s files, from 1: rows that came after the month was archived have one of their own.';
COMMENT ON COLUMN carnivore.archived_partitions.file_url IS 'The file; its manifest lies beside it.';
COMMENT ON COLUMN carnivore.archived_partitions.rows IS 'Rows in the file; NULL until the month is dropped, as are the next three.';
COMMENT ON COLUMN carnivore.archived_partitions.sha256 IS 'Of the file, in lower-case hex.';
COMMENT ON COLUMN carnivore.archived_partitions.bytes_before IS 'What the partition took, indexes included.';
COMMENT ON COLUMN carnivore.archived_partitions.bytes_after IS 'What the file takes.';
COMMENT ON COLUMN carnivore.archived_partitions.begun_at IS 'When it was begun.';
COMMENT ON COLUMN carnivore.archived_partitions.detached_at IS 'When the partition left its table for the schema carnivore, the file once read back and found right.';
COMMENT ON COLUMN carnivore.archived_partitions.dropped_at IS 'When it was dropped: from then on the file alone has the rows.';
COMMENT ON COLUMN carnivore.archived_partitions.restored_as IS 'The partition into which the rows came back; while it exists, the file is a copy.';
COMMENT ON COLUMN carnivore.archived_partitions.keep_until IS 'Until when a restored month is left alone.';
COMMENT ON INDEX carnivore.archived_partitions_pkey IS 'Identity.';
ALTER TABLE carnivore.archived_partitions ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON carnivore.archived_partitions FROM PUBLIC, anon, authenticated, service_role;
"""


# The one condition more is the last.
DELETE = """
CREATE OR REPLACE FUNCTION conversation.delete_old_logs(batch integer DEFAULT 1000, job_id uuid DEFAULT gen_random_uuid())
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    began timestamptz := clock_timestamp();
    cutoff timestamptz := now() - interval '30 days';
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
        SELECT part.oid::regclass::text AS address, part.relname AS name
        FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class AS part ON part.oid = inhrelid
        WHERE inhparent = 'conversation.logs'::regclass
            AND substring(pg_get_expr(part.relpartbound, part.oid) FROM 'TO \\(''([^'']+)''\\)')::timestamptz <= cutoff
            -- Somebody brought it back to look at it.
            AND NOT EXISTS (SELECT FROM carnivore.archived_partitions AS a
                WHERE a.restored_as = part.oid AND a.keep_until > now())
        ORDER BY part.relname
    LOOP
        IF NOT locked THEN
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
        SELECT old.ctid FROM conversation.logs_default AS old WHERE old.created_at < cutoff
        ORDER BY old.created_at LIMIT batch FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    INSERT INTO conversation.logs (level, event_type, metadata) VALUES ('info', 'cleanup_job_executed',
        jsonb_build_object('job', 'delete_old_logs', 'job_id', job_id, 'started_at', began,
            'finished_at', clock_timestamp(), 'before', cutoff, 'deleted', dropped + deleted, 'partitions', months));
    RETURN deleted;
END
$$;
"""

BEFORE = """
CREATE OR REPLACE FUNCTION conversation.delete_old_logs(batch integer DEFAULT 1000, job_id uuid DEFAULT gen_random_uuid())
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    began timestamptz := clock_timestamp();
    cutoff timestamptz := now() - interval '30 days';
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
        SELECT part.oid::regclass::text AS address, part.relname AS name
        FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class AS part ON part.oid = inhrelid
        WHERE inhparent = 'conversation.logs'::regclass
            AND substring(pg_get_expr(part.relpartbound, part.oid) FROM 'TO \\(''([^'']+)''\\)')::timestamptz <= cutoff
        ORDER BY part.relname
    LOOP
        IF NOT locked THEN
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
        SELECT old.ctid FROM conversation.logs_default AS old WHERE old.created_at < cutoff
        ORDER BY old.created_at LIMIT batch FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    INSERT INTO conversation.logs (level, event_type, metadata) VALUES ('info', 'cleanup_job_executed',
        jsonb_build_object('job', 'delete_old_logs', 'job_id', job_id, 'started_at', began,
            'finished_at', clock_timestamp(), 'before', cutoff, 'deleted', dropped + deleted, 'partitions', months));
    RETURN deleted;
END
$$;
"""


def upgrade() -> None:
    op.execute(LEDGER)
    op.execute(DELETE)


def downgrade() -> None:
    op.execute("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM carnivore.archived_partitions WHERE detached_at IS NOT NULL) THEN
                RAISE EXCEPTION 'the archive holds months; nothing was changed'
                    USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'needs_decision',
                        HINT = 'Restore them, or empty carnivore.archived_partitions: which files there are, it alone knows.';
            END IF;
        END $$
    """)
    op.execute(BEFORE)
    op.execute("DROP TABLE carnivore.archived_partitions")
