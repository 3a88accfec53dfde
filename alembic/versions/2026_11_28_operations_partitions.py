"""Partitions that are attached, not made in place, and rows of the DEFAULT partition that find their month.

Why: the documents leave this to a person with a calendar. When it was forgotten the rows went to the DEFAULT
partition, and the month could not be made any more: PostgreSQL refuses a partition whose rows lie there. And what
made or dropped a partition took its locks in no order, each waiting for the next: it and a writer could wait for
each other until PostgreSQL ended one of them.

Now a month is prepared beside its parent, where nobody waits for it, with the rows copied; then everything that
it needs is locked at once, or nothing, and it is attached. Whoever is refused a lock tries again later.
"""

from alembic import op

revision = "operations_partitions"
down_revision = "deferred_sessions"
branch_labels = None
depends_on = None

LOCKS = """
CREATE FUNCTION carnivore.lock_partitioned(parent regclass, dropping boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parent_first boolean := coalesce(current_setting('carnivore.parent_first', true) = 'on', false);
    target record;
    waited boolean := false;
BEGIN
    -- Some writers lock a referenced table first and the parent after it, others the other way. Only the first lock
    -- is waited for, while nothing is held that they want; with it held, a wait could be for one who waits for us.
    -- Under writers of one kind only one order finds a gap: who tries again changes it. Those who lock several
    -- referenced tables begin with the last by name (sessions, profiles), so we do.
    FOR target IN
        SELECT found.oid::regclass::text AS address, found.mode FROM (
            SELECT confrelid AS oid, 2 AS rank,
                CASE WHEN dropping THEN 'ACCESS EXCLUSIVE' ELSE 'SHARE ROW EXCLUSIVE' END AS mode
            FROM pg_constraint WHERE conrelid = parent AND contype = 'f'
            -- No weaker: an INSERT that has chosen the DEFAULT partition and waits for it would be refused there
            -- once the month is attached. It waits for the parent instead, and has not chosen yet.
            UNION ALL SELECT parent, CASE WHEN parent_first THEN 1 ELSE 3 END,
                CASE WHEN dropping THEN 'ACCESS EXCLUSIVE' ELSE 'SHARE ROW EXCLUSIVE' END
            UNION ALL SELECT partdefid, 4, 'ACCESS EXCLUSIVE' FROM pg_partitioned_table
            WHERE partrelid = parent AND partdefid <> 0
        ) AS found ORDER BY found.rank, address DESC
    LOOP
        EXECUTE format('LOCK TABLE ONLY %s IN %s MODE', target.address, target.mode)
            || CASE WHEN waited THEN ' NOWAIT' ELSE '' END;
        waited := true;
    END LOOP;
END
$$;
COMMENT ON FUNCTION carnivore.lock_partitioned(regclass, boolean) IS 'Locks a partitioned table, what it refers to and its DEFAULT partition, for attaching or dropping a partition; waits for the first of them alone (lock_timeout). carnivore.parent_first = on: which is the parent.';
"""

PREPARE = """
CREATE FUNCTION carnivore.prepare_partition(parent regclass, month date) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    first timestamp := date_trunc('month', month::timestamp);
    -- The offset is written out: a bare date means another moment in another session's time zone.
    lower text := to_char(first, 'YYYY-MM-DD 00:00:00+00');
    upper text := to_char(first + interval '1 month', 'YYYY-MM-DD 00:00:00+00');
    name text;
    address text;
    key name;
    spare regclass;
    within text;
    columns text;
    copied bigint;
BEGIN
    IF parent IS NULL OR parent NOT IN ('public.report_access_log'::regclass, 'conversation.logs'::regclass) THEN
        RAISE EXCEPTION 'only report_access_log and logs have partitions'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'parent_valid';
    END IF;
    -- One caller at a time: the second finds the partition that the first has made. Nobody else waits.
    PERFORM pg_advisory_xact_lock(parent::oid::bigint);
    SELECT c.relname || to_char(first, '_YYYY_MM'), format('%I.%I', n.nspname, c.relname || to_char(first, '_YYYY_MM')),
        a.attname, p.partdefid
    INTO name, address, key, spare
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_partitioned_table AS p ON p.partrelid = c.oid
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
    WHERE c.oid = parent;
    IF EXISTS (SELECT FROM pg_inherits WHERE inhparent = parent AND inhrelid = to_regclass(address)) THEN
        RETURN NULL;
    ELSIF to_regclass(address) IS NOT NULL THEN
        RAISE EXCEPTION '% is not a partition of %', address, parent
            USING ERRCODE = 'check_violation', CONSTRAINT = 'partition_valid', TABLE = name;
    END IF;
    within := format('%I >= %L AND %1$I < %3$L', key, lower, upper);
    -- What PARTITION OF gives too. The bounds as a check save ATTACH a scan.
    EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING CONSTRAINTS INCLUDING DEFAULTS INCLUDING INDEXES'
        ' INCLUDING STORAGE INCLUDING COMPRESSION, CONSTRAINT prepared CHECK (%s))', address, parent, within);
    EXECUTE format('COMMENT ON TABLE %s IS %L', address, CASE parent WHEN 'conversation.logs'::regclass
        THEN 'Events of ' ELSE 'Accesses of ' END || to_char(first, 'YYYY-MM') || ' (UTC).');
    SELECT string_agg(format('%I', attname), ', ' ORDER BY attnum) INTO columns
    FROM pg_attribute WHERE attrelid = parent AND attnum > 0 AND NOT attisdropped;
    -- Before it is closed: its triggers would count the rows once more.
    EXECUTE format('INSERT INTO %s (%s) SELECT %2$s FROM %s WHERE %s', address, columns, spare, within);
    GET DIAGNOSTICS copied = ROW_COUNT;
    IF parent = 'conversation.logs'::regclass THEN
        PERFORM carnivore.close_logs_partition(address::regclass);
    ELSE
        PERFORM carnivore.close_access_log_partition(address::regclass);
    END IF;
    RETURN copied;
END
$$;
COMMENT ON FUNCTION carnivore.prepare_partition(regclass, date) IS 'Makes a month (UTC) as a closed table beside its parent, with the rows of the DEFAULT partition copied; no writer waits for it. Returns how many, or NULL when the month has a partition. Then attach_partition, in the same transaction.';
"""

ATTACH = """
CREATE FUNCTION carnivore.attach_partition(parent regclass, month date) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    first timestamp := date_trunc('month', month::timestamp);
    lower text := to_char(first, 'YYYY-MM-DD 00:00:00+00');
    upper text := to_char(first + interval '1 month', 'YYYY-MM-DD 00:00:00+00');
    address text;
    key name;
    spare regclass;
    within text;
    columns text;
    of_prepared text;
    of_spare text;
    deleted bigint;
    moved bigint;
BEGIN
    SELECT format('%I.%I', n.nspname, c.relname || to_char(first, '_YYYY_MM')), a.attname, p.partdefid
    INTO address, key, spare
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_partitioned_table AS p ON p.partrelid = c.oid
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
    WHERE c.oid = parent;
    within := format('%I >= %L AND %1$I < %3$L', key, lower, upper);
    SELECT string_agg(format('%I', attname), ', ' ORDER BY attnum),
        string_agg(format('prepared.%I', attname), ', ' ORDER BY attnum),
        string_agg(format('spare.%I', attname), ', ' ORDER BY attnum)
    INTO columns, of_prepared, of_spare
    FROM pg_attribute WHERE attrelid = parent AND attnum > 0 AND NOT attisdropped;
    PERFORM carnivore.lock_partitioned(parent, false);
    -- No row is new and none is rewritten: moved rows are not counted again, and their guard lets them go.
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', address);
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', spare);
    -- Each statement sees what was committed before the locks: first what went or changed, then what came.
    EXECUTE format('DELETE FROM %s AS prepared WHERE NOT EXISTS (SELECT FROM %s AS spare'
        ' WHERE spare.id = prepared.id AND spare.%I = prepared.%3$I AND ROW(%4$s)::record *= ROW(%5$s)::record)',
        address, spare, key, of_spare, of_prepared);
    EXECUTE format('INSERT INTO %s (%s) SELECT %2$s FROM %3$s AS spare WHERE %4$s'
        ' AND NOT EXISTS (SELECT FROM %1$s AS prepared WHERE prepared.id = spare.id AND prepared.%5$I = spare.%5$I)',
        address, columns, spare, within, key);
    EXECUTE format('DELETE FROM %s WHERE %s', spare, within);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    EXECUTE format('SELECT count(*) FROM %s', address) INTO moved;
    IF moved <> deleted THEN
        RAISE EXCEPTION '% rows left the DEFAULT partition and % are in %', deleted, moved, address
            USING ERRCODE = 'assert_failure', CONSTRAINT = 'rows_moved';
    END IF;
    EXECUTE format('ALTER TABLE %s ENABLE TRIGGER USER', address);
    EXECUTE format('ALTER TABLE %s ENABLE TRIGGER USER', spare);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', parent, address, lower, upper);
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT prepared', address);
    RETURN moved;
END
$$;
COMMENT ON FUNCTION carnivore.attach_partition(regclass, date) IS 'Makes the prepared month (UTC) a partition and moves its rows out of the DEFAULT partition, all of them or none; returns how many. Fails at once (55P03) when a lock but the first is not to be had: roll back and try again.';
"""

CREATE = """
CREATE OR REPLACE FUNCTION carnivore.create_access_log_partition(month date) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF carnivore.prepare_partition('public.report_access_log', month) IS NULL THEN
        RETURN false;
    END IF;
    PERFORM carnivore.attach_partition('public.report_access_log', month);
    RETURN true;
END
$$;

CREATE OR REPLACE FUNCTION carnivore.create_logs_partition(month date) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF carnivore.prepare_partition('conversation.logs', month) IS NULL THEN
        RETURN false;
    END IF;
    PERFORM carnivore.attach_partition('conversation.logs', month);
    RETURN true;
END
$$;
"""

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

RIGHTS = """
REVOKE ALL ON FUNCTION carnivore.lock_partitioned(regclass, boolean), carnivore.prepare_partition(regclass, date),
    carnivore.attach_partition(regclass, date) FROM PUBLIC, anon, authenticated, service_role;
"""

BEFORE = """
CREATE OR REPLACE FUNCTION carnivore.create_access_log_partition(month date) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    first timestamp := date_trunc('month', month::timestamp);
    name text := 'report_access_log_' || to_char(first, 'YYYY_MM');
BEGIN
    -- One caller at a time: the second finds the partition that the first has made. Nobody else waits.
    PERFORM pg_advisory_xact_lock('public.report_access_log'::regclass::oid::bigint);
    IF to_regclass(format('public.%I', name)) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- The offset is written out: a bare date means another moment in another session's time zone.
    EXECUTE format('CREATE TABLE public.%I PARTITION OF public.report_access_log FOR VALUES FROM (%L) TO (%L)',
        name, to_char(first, 'YYYY-MM-DD 00:00:00+00'), to_char(first + interval '1 month', 'YYYY-MM-DD 00:00:00+00'));
    EXECUTE format('COMMENT ON TABLE public.%I IS %L', name, 'Accesses of ' || to_char(first, 'YYYY-MM') || ' (UTC).');
    PERFORM carnivore.close_access_log_partition(format('public.%I', name)::regclass);
    RETURN true;
END
$$;
CREATE OR REPLACE FUNCTION carnivore.create_logs_partition(month date) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    first timestamp := date_trunc('month', month::timestamp);
    name text := 'logs_' || to_char(first, 'YYYY_MM');
BEGIN
    -- One caller at a time: the second finds the partition that the first has made. Nobody else waits.
    PERFORM pg_advisory_xact_lock('conversation.logs'::regclass::oid::bigint);
    IF to_regclass(format('conversation.%I', name)) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- The offset is written out: a bare date means another moment in another session's time zone.
    EXECUTE format('CREATE TABLE conversation.%I PARTITION OF conversation.logs FOR VALUES FROM (%L) TO (%L)',
        name, to_char(first, 'YYYY-MM-DD 00:00:00+00'), to_char(first + interval '1 month', 'YYYY-MM-DD 00:00:00+00'));
    EXECUTE format('COMMENT ON TABLE conversation.%I IS %L', name, 'Events of ' || to_char(first, 'YYYY-MM') || ' (UTC).');
    PERFORM carnivore.close_logs_partition(format('conversation.%I', name)::regclass);
    RETURN true;
END
$$;
CREATE OR REPLACE FUNCTION conversation.delete_old_logs(batch integer DEFAULT 1000, job_id uuid DEFAULT gen_random_uuid())
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    began timestamptz := clock_timestamp();
    cutoff timestamptz := now() - interval '30 days';
    month record;
    months text[] := '{}';
    counted integer;
    dropped integer := 0;
    deleted integer;
BEGIN
    -- One at a time: the second would wait for tables that the first has dropped, and leaves the work to it.
    IF NOT pg_try_advisory_xact_lock('conversation.logs'::regclass::oid::bigint) THEN
        RETURN 0;
    END IF;
    FOR month IN
        SELECT part.oid::regclass AS partition, part.relname AS name
        FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class AS part ON part.oid = inhrelid
        WHERE inhparent = 'conversation.logs'::regclass
            AND substring(pg_get_expr(part.relpartbound, part.oid) FROM 'TO \\(''([^'']+)''\\)')::timestamptz <= cutoff
        ORDER BY part.relname
    LOOP
        EXECUTE format('SELECT count(*) FROM %s', month.partition) INTO counted;
        EXECUTE format('DROP TABLE %s', month.partition);
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
    for part in (LOCKS, PREPARE, ATTACH, CREATE, DELETE, RIGHTS):
        op.execute(part)


def downgrade() -> None:
    op.execute(BEFORE)
    op.execute("""
        DROP FUNCTION carnivore.attach_partition(regclass, date);
        DROP FUNCTION carnivore.prepare_partition(regclass, date);
        DROP FUNCTION carnivore.lock_partitioned(regclass, boolean);
    """)
