"""The platform: what every area stands on, in the package's own schema `carnivore`.

Why: the documents leave partitions, retention, cold storage and "monitor partition size" to a person with a
calendar, and in production the calendar was forgotten. Areas register here: their schemas, their jobs and their
partitioned tables. Whatever runs over all that is installed reads these tables, and knows no area by name. What is
scheduled must be seen to run: each job leaves its last run in `carnivore.jobs`, failures too, and `verify` reads it.
"""

from alembic import op

revision = "platform"
down_revision = "roles"
branch_labels = None
depends_on = None

AREAS = """
CREATE TABLE carnivore.areas (
    area text NOT NULL,
    schemas text[] NOT NULL,
    CONSTRAINT areas_pkey PRIMARY KEY (area)
);
COMMENT ON TABLE carnivore.areas IS 'The areas that are installed, and the platform itself; an area''s first revision adds it.';
COMMENT ON COLUMN carnivore.areas.area IS 'Its name.';
COMMENT ON COLUMN carnivore.areas.schemas IS 'The schemas that its tables are in.';
COMMENT ON INDEX carnivore.areas_pkey IS 'Identity.';
ALTER TABLE carnivore.areas ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON carnivore.areas FROM PUBLIC, anon, authenticated, service_role;
INSERT INTO carnivore.areas (area, schemas) VALUES ('platform', '{carnivore}');
"""


# An area's partitioned tables have a month (UTC) a partition, and a DEFAULT partition.
PARTITIONED = """
CREATE TABLE carnivore.partitioned_tables (
    parent text NOT NULL,
    area text NOT NULL,
    holds text NOT NULL,
    kept interval,
    CONSTRAINT partitioned_tables_pkey PRIMARY KEY (parent),
    CONSTRAINT partitioned_tables_area_fkey FOREIGN KEY (area) REFERENCES carnivore.areas (area) ON DELETE CASCADE
);
CREATE INDEX idx_partitioned_tables_area ON carnivore.partitioned_tables (area);
COMMENT ON TABLE carnivore.partitioned_tables IS 'The tables with a partition a month; an area registers its own.';
COMMENT ON COLUMN carnivore.partitioned_tables.parent IS 'The table, with its schema.';
COMMENT ON COLUMN carnivore.partitioned_tables.area IS 'Whose it is.';
COMMENT ON COLUMN carnivore.partitioned_tables.holds IS 'What its rows are, for the partitions'' comments: Accesses, Events.';
COMMENT ON COLUMN carnivore.partitioned_tables.kept IS 'A month that ended longer ago is deleted by a job of the area; NULL: never.';
COMMENT ON INDEX carnivore.partitioned_tables_pkey IS 'Identity.';
COMMENT ON INDEX carnivore.idx_partitioned_tables_area IS 'Serves the foreign key.';
ALTER TABLE carnivore.partitioned_tables ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON carnivore.partitioned_tables FROM PUBLIC, anon, authenticated, service_role;
"""

# A partition inherits neither row security nor grants, and a statement's trigger fires for the table that the
# statement names: whoever writes into the partition itself must meet the same rules.
CLOSE = """
CREATE FUNCTION carnivore.close_partition(partition regclass, parent regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rule text;
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', partition);
    EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, anon, authenticated, service_role', partition);
    -- Triggers for each row it inherits; bit 0 of tgtype marks them.
    FOR rule IN
        SELECT replace(pg_get_triggerdef(t.oid), format(' ON %s ', parent), format(' ON %s ', partition))
        FROM pg_trigger AS t WHERE t.tgrelid = parent AND NOT t.tgisinternal AND t.tgtype & 1 = 0
        ORDER BY t.tgname
    LOOP
        EXECUTE rule;
    END LOOP;
END
$$;
COMMENT ON FUNCTION carnivore.close_partition(regclass, regclass) IS 'Gives a partition the row security, grants and triggers that it does not inherit from its parent.';
"""

# Partitions are attached, not made in place. A month is prepared beside its parent, where nobody waits for it, with
# the rows of the DEFAULT partition copied (PostgreSQL refuses a partition whose rows lie there); then everything that
# it needs is locked at once, or nothing, and it is attached. Whoever is refused a lock tries again later.
ATTACH = """
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
    holds text;
    copied bigint;
BEGIN
    SELECT known.holds INTO holds FROM carnivore.partitioned_tables AS known
    WHERE to_regclass(known.parent) = prepare_partition.parent;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no area has registered this table'
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
    EXECUTE format('COMMENT ON TABLE %s IS %L', address, holds || to_char(first, ' "of" YYYY-MM') || ' (UTC).');
    SELECT string_agg(format('%I', attname), ', ' ORDER BY attnum) INTO columns
    FROM pg_attribute WHERE attrelid = parent AND attnum > 0 AND NOT attisdropped;
    -- Before it is closed: its triggers would count the rows once more.
    EXECUTE format('INSERT INTO %s (%s) SELECT %2$s FROM %s WHERE %s', address, columns, spare, within);
    GET DIAGNOSTICS copied = ROW_COUNT;
    PERFORM carnivore.close_partition(address::regclass, parent);
    RETURN copied;
END
$$;
COMMENT ON FUNCTION carnivore.prepare_partition(regclass, date) IS 'Makes a month (UTC) as a closed table beside its parent, with the rows of the DEFAULT partition copied; no writer waits for it. Returns how many, or NULL when the month has a partition. Then attach_partition, in the same transaction.';

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
            USING ERRCODE = 'internal_error', CONSTRAINT = 'rows_moved';
    END IF;
    EXECUTE format('ALTER TABLE %s ENABLE TRIGGER USER', address);
    EXECUTE format('ALTER TABLE %s ENABLE TRIGGER USER', spare);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', parent, address, lower, upper);
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT prepared', address);
    RETURN moved;
END
$$;
COMMENT ON FUNCTION carnivore.attach_partition(regclass, date) IS 'Makes the prepared month (UTC) a partition and moves its rows out of the DEFAULT partition, all of them or none; returns how many. Fails at once (55P03) when a lock but the first is not to be had: roll back and try again.';

CREATE FUNCTION carnivore.create_partition(parent regclass, month date) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF carnivore.prepare_partition(parent, month) IS NULL THEN
        RETURN false;
    END IF;
    PERFORM carnivore.attach_partition(parent, month);
    RETURN true;
END
$$;
COMMENT ON FUNCTION carnivore.create_partition(regclass, date) IS 'Makes the partition of a month (UTC), closed; returns whether it was missing.';
"""

# What is missing is told once: `carnivore-db partitions plan` prints it, the job makes it.
PLAN = """
CREATE FUNCTION carnivore.partition_plan(
    months_ahead integer, keep_old boolean DEFAULT false, at timestamptz DEFAULT now())
RETURNS TABLE (parent text, month date, kind text, reason text, rows bigint, rank integer)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, MDY' AS $$
DECLARE
    known carnivore.partitioned_tables;
    key name;
    spare regclass;
BEGIN
    IF months_ahead < 0 THEN
        RAISE EXCEPTION 'this month has a partition at least'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'months_ahead_not_negative';
    END IF;
    FOR known IN SELECT * FROM carnivore.partitioned_tables ORDER BY partitioned_tables.parent LOOP
        SELECT a.attname, p.partdefid INTO STRICT key, spare
        FROM pg_partitioned_table AS p JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
        WHERE p.partrelid = known.parent::regclass;
        RETURN QUERY EXECUTE format($query$
            WITH settings AS (
                SELECT date_trunc('month', $5)::date AS this
            ), waiting AS (
                SELECT date_trunc('month', row.%1$I)::date AS month, count(*) AS rows
                FROM %2$s AS row WHERE row.%1$I >= '2000-01-01' AND row.%1$I < '2100-01-01' GROUP BY 1
            ), outside AS (
                SELECT count(*) AS rows FROM %2$s AS row
                WHERE NOT (row.%1$I >= '2000-01-01' AND row.%1$I < '2100-01-01')
            ), ranges AS (
                SELECT bound.lower, bound.upper, tstzrange(bound.lower, bound.upper) AS span
                FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid,
                    LATERAL pg_get_expr(part.relpartbound, part.oid) AS expression,
                    LATERAL (SELECT substring(expression FROM 'FROM \\(''([^'']+)''\\)')::timestamptz AS lower,
                        substring(expression FROM 'TO \\(''([^'']+)''\\)')::timestamptz AS upper) AS bound
                WHERE inhparent = $1::regclass AND expression <> 'DEFAULT'
            ), aged AS (
                -- Months before this one are deleted where they are.
                SELECT coalesce(date_trunc('month', $5 - $2)::date, '-infinity') AS before
            ), there AS (
                -- The months that are drained count as there, or the next plan would find gaps that this one made.
                SELECT date_trunc('month', r.lower)::date AS first,
                    date_trunc('month', r.upper - interval '1 microsecond')::date AS last
                FROM ranges AS r WHERE r.lower >= '2000-01-01' AND isfinite(r.upper)
                UNION ALL
                SELECT w.month, w.month FROM waiting AS w, aged WHERE $4 OR w.month >= aged.before
            ), gaps AS (
                SELECT gap::date AS month FROM settings, generate_series(
                    greatest(coalesce((SELECT min(t.first) FROM there AS t), settings.this),
                        settings.this - interval '12 months'),
                    settings.this - interval '1 month', interval '1 month') AS gap
                WHERE gap::date NOT IN (SELECT w.month FROM waiting AS w)
                    AND gap::date >= (SELECT aged.before FROM aged)
                    AND gap::date NOT IN (SELECT a.month FROM carnivore.archived_partitions AS a WHERE a.parent = $1)
            ), wanted AS (
                SELECT w.month, 0 AS rank, w.rows,
                    format('%%s row%%s in the DEFAULT partition', btrim(to_char(w.rows, '999,999,999,999')),
                        CASE WHEN w.rows = 1 THEN '' ELSE 's' END) AS reason
                FROM waiting AS w
                UNION ALL
                SELECT ahead.month, 1, 0,
                    CASE ahead.number WHEN 0 THEN 'this month' WHEN 1 THEN 'next month'
                        ELSE ahead.number || ' months ahead' END
                FROM settings, LATERAL (
                    SELECT number, (settings.this + make_interval(months => number))::date AS month
                    FROM generate_series(0, $3) AS number) AS ahead
                WHERE ahead.month NOT IN (SELECT w.month FROM waiting AS w)
                UNION ALL
                SELECT g.month, 2, 0, CASE WHEN side.before IS NULL THEN 'gap before ' || side.after
                    ELSE 'gap between ' || side.before || ' and ' || side.after END
                FROM gaps AS g, settings, LATERAL (
                    SELECT to_char(max(t.last) FILTER (WHERE t.last < g.month), 'YYYY-MM') AS before,
                        to_char(coalesce(min(t.first) FILTER (WHERE t.first > g.month), settings.this), 'YYYY-MM') AS after
                    FROM there AS t) AS side
            ), judged AS (
                SELECT w.month, w.rank, w.rows, w.reason, met.covered, met.overlap,
                    w.rows > 0 AND NOT $4 AND w.month < aged.before AS goes
                FROM wanted AS w, aged, LATERAL (
                    SELECT coalesce(range_agg(r.span) @> m.span, false) AS covered,
                        min(CASE WHEN r.span && m.span THEN format('a partition from %%s to %%s has a part of it',
                            coalesce(to_char(r.lower, 'YYYY-MM-DD HH24:MI'), 'the beginning'),
                            coalesce(to_char(r.upper, 'YYYY-MM-DD HH24:MI'), 'the end')) END) AS overlap
                    FROM (SELECT tstzrange(w.month, w.month + interval '1 month') AS span) AS m LEFT JOIN ranges AS r ON true
                    GROUP BY m.span) AS met
            ), found AS (
                SELECT j.month, CASE WHEN j.goes THEN 4 WHEN j.overlap IS NOT NULL THEN 3 ELSE j.rank END AS rank,
                    CASE WHEN j.goes THEN 'left' WHEN j.overlap IS NOT NULL THEN 'conflict'
                        WHEN j.rows > 0 THEN 'drain' ELSE 'create' END AS kind,
                    CASE WHEN j.goes THEN replace(j.reason, ' in the DEFAULT partition', '')
                            || ' older than the table''s are kept: deleted where they are'
                        WHEN j.overlap IS NOT NULL THEN j.reason || '; ' || replace(j.overlap, ' 00:00', '')
                        ELSE j.reason END AS reason,
                    j.rows
                FROM judged AS j WHERE j.goes OR NOT j.covered
                UNION ALL
                SELECT NULL, 5, 'left', format('%%s row%%s of no month from 2000 to 2099',
                    btrim(to_char(o.rows, '999,999,999,999')), CASE WHEN o.rows = 1 THEN '' ELSE 's' END), o.rows
                FROM outside AS o WHERE o.rows > 0
            )
            SELECT $1, f.month, f.kind, f.reason, f.rows, f.rank FROM found AS f ORDER BY f.rank, f.month
            $query$, key, spare)
        USING known.parent, known.kept, months_ahead, keep_old, at;
    END LOOP;
END
$$;
COMMENT ON FUNCTION carnivore.partition_plan(integer, boolean, timestamptz) IS 'The months (UTC) that partitioned tables lack at a timestamp, and why: drain, create (this month, those ahead, gaps after the first month, of the last 12 months), conflict (a person must settle it), left (rows that stay in the DEFAULT partition). keep_old: also months whose rows are about to be deleted by age. rank: what comes first.';

CREATE FUNCTION carnivore.create_next_partition(months_ahead integer, keep_old boolean) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wanted record;
    state text;
    rule text;
BEGIN
    FOR wanted IN SELECT * FROM carnivore.partition_plan(months_ahead, keep_old) AS plan
        WHERE plan.kind <> 'left' ORDER BY plan.rank, plan.month, plan.parent
    LOOP
        BEGIN
            IF wanted.kind = 'conflict' THEN
                RAISE EXCEPTION 'a partition has a part of the month'
                    USING ERRCODE = 'check_violation', CONSTRAINT = 'month_overlaps';
            ELSIF carnivore.create_partition(wanted.parent::regclass, wanted.month) THEN
                RETURN 1;
            END IF;
        EXCEPTION
            WHEN lock_not_available OR deadlock_detected THEN RAISE;
            -- The other months must not wait for this one.
            WHEN OTHERS THEN GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, rule = CONSTRAINT_NAME;
        END;
    END LOOP;
    IF state IS NOT NULL THEN
        RAISE EXCEPTION 'a month could not be made' USING ERRCODE = state, CONSTRAINT = rule;
    END IF;
    RETURN 0;
END
$$;
COMMENT ON FUNCTION carnivore.create_next_partition(integer, boolean) IS 'Makes the first month of the plan that can be made; returns 1, or 0 when nothing is missing. Raises when only months are left that cannot be made.';

REVOKE ALL ON FUNCTION carnivore.close_partition(regclass, regclass), carnivore.lock_partitioned(regclass, boolean),
    carnivore.prepare_partition(regclass, date), carnivore.attach_partition(regclass, date),
    carnivore.create_partition(regclass, date),
    carnivore.partition_plan(integer, boolean, timestamptz), carnivore.create_next_partition(integer, boolean)
    FROM PUBLIC, anon, authenticated, service_role;
"""


# A row is written before the first byte of its file, and says at every moment how far its month has come: a run that
# was stopped is finished by the next one. Between detaching and dropping, a month's table stands in the schema
# carnivore, where no partition to come can take its name.
ARCHIVE = """
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

CREATE FUNCTION carnivore.refuse_archived(parent text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM carnivore.archived_partitions AS a WHERE a.parent = $1 AND a.detached_at IS NOT NULL) THEN
        RAISE EXCEPTION 'the archive holds months of %; nothing was changed', parent
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'needs_decision',
                  HINT = 'Restore them, or empty carnivore.archived_partitions: which files there are, it alone knows.';
    END IF;
END
$$;
COMMENT ON FUNCTION carnivore.refuse_archived(text) IS 'Refuses to take a partitioned table back while months of it are in cold storage; for downgrades.';
REVOKE ALL ON FUNCTION carnivore.refuse_archived(text) FROM PUBLIC, anon, authenticated, service_role;
"""


JOBS = """
CREATE TABLE carnivore.jobs (
    job text NOT NULL,
    area text NOT NULL,
    position integer NOT NULL,
    description text NOT NULL,
    call text,
    batch integer,
    options jsonb DEFAULT '{}' NOT NULL,
    archives boolean DEFAULT false NOT NULL,
    due text,
    held text,
    on_failure text,
    every interval DEFAULT '2 days'::interval NOT NULL,
    last_started_at timestamptz,
    last_finished_at timestamptz,
    last_succeeded_at timestamptz,
    last_error text,
    last_result jsonb,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT jobs_pkey PRIMARY KEY (job),
    CONSTRAINT every_in_range CHECK (every > '00:00:00'::interval AND every <= '1000 days'::interval),
    CONSTRAINT batch_not_negative CHECK (batch >= 0),
    CONSTRAINT jobs_area_fkey FOREIGN KEY (area) REFERENCES carnivore.areas (area) ON DELETE CASCADE
);
CREATE INDEX idx_jobs_area ON carnivore.jobs (area);
COMMENT ON TABLE carnivore.jobs IS 'The scheduled jobs and the last run of each; an area registers its own.';
COMMENT ON COLUMN carnivore.jobs.job IS 'Its name.';
COMMENT ON COLUMN carnivore.jobs.area IS 'Whose it is.';
COMMENT ON COLUMN carnivore.jobs.position IS 'Its place in a run of all jobs, smallest first.';
COMMENT ON COLUMN carnivore.jobs.description IS 'What it does.';
COMMENT ON COLUMN carnivore.jobs.call IS 'A statement that handles a batch and returns how many rows: $1 the batch, $2 the run''s id, $3 options. NULL where the package does it, which writes files.';
COMMENT ON COLUMN carnivore.jobs.batch IS 'Its own batch in place of the run''s; 0: it is called once.';
COMMENT ON COLUMN carnivore.jobs.options IS 'Its options where a run gives none.';
COMMENT ON COLUMN carnivore.jobs.archives IS 'What it deletes may have to be archived first: a run may leave it out.';
COMMENT ON COLUMN carnivore.jobs.due IS 'A query that counts the rows it would delete; NULL where it deletes none, or where the package counts them.';
COMMENT ON COLUMN carnivore.jobs.held IS 'A query that counts the rows that are old enough and held; NULL where nothing holds them.';
COMMENT ON COLUMN carnivore.jobs.on_failure IS 'A statement that logs a failed run elsewhere too: $1 the job, $2 the run''s id, $3 when it began, $4 SQLSTATE, $5 the rule.';
COMMENT ON COLUMN carnivore.jobs.every IS 'How long it may go without success: then it is overdue.';
COMMENT ON COLUMN carnivore.jobs.last_started_at IS 'When the last run began.';
COMMENT ON COLUMN carnivore.jobs.last_finished_at IS 'When the last run ended, well or not.';
COMMENT ON COLUMN carnivore.jobs.last_succeeded_at IS 'When a run last ended well.';
COMMENT ON COLUMN carnivore.jobs.last_error IS 'SQLSTATE and rule, or the kind of error, of the last run; NULL when it ended well. Never a text: that could quote a row.';
COMMENT ON COLUMN carnivore.jobs.last_result IS 'What the last run did, as counts.';
COMMENT ON COLUMN carnivore.jobs.created_at IS 'Since when the job is known; a job of the database that never ran is overdue from then on.';
COMMENT ON INDEX carnivore.jobs_pkey IS 'One row a job.';
COMMENT ON INDEX carnivore.idx_jobs_area IS 'Serves the foreign key.';
ALTER TABLE carnivore.jobs ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON carnivore.jobs FROM PUBLIC, anon, authenticated, service_role;

CREATE FUNCTION carnivore.record_job(job text, started_at timestamptz, error text, result jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ended timestamptz := clock_timestamp();
BEGIN
    UPDATE carnivore.jobs AS known SET
        last_started_at = $2,
        last_finished_at = ended,
        last_succeeded_at = CASE WHEN $3 IS NULL THEN ended ELSE known.last_succeeded_at END,
        last_error = $3,
        last_result = $4
    WHERE known.job = $1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no job has this name' USING ERRCODE = 'PT404', CONSTRAINT = 'job_not_found';
    END IF;
END
$$;
COMMENT ON FUNCTION carnivore.record_job(text, timestamptz, text, jsonb) IS 'Notes a run of a job that ends now, well when error is NULL. Call it in a transaction of its own.';

CREATE FUNCTION carnivore.count_due(job text, options jsonb DEFAULT '{}', held boolean DEFAULT false) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    known carnivore.jobs;
    counted bigint;
BEGIN
    SELECT * INTO known FROM carnivore.jobs AS j WHERE j.job = $1 AND j.due IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no job of this name deletes rows' USING ERRCODE = 'PT404', CONSTRAINT = 'job_not_found';
    END IF;
    options := known.options || options;
    PERFORM set_config('carnivore.reports_grace', coalesce(options ->> 'reports_grace', ''), true),
        set_config('carnivore.pages_grace', coalesce(options ->> 'pages_grace', ''), true);
    EXECUTE CASE WHEN held THEN coalesce(known.held, 'SELECT 0') ELSE known.due END INTO counted;
    PERFORM set_config('carnivore.reports_grace', '', true), set_config('carnivore.pages_grace', '', true);
    RETURN counted;
END
$$;
COMMENT ON FUNCTION carnivore.count_due(text, jsonb, boolean) IS 'How many rows a job would delete now, or would and may not yet: what `carnivore-db cleanup --dry-run` prints.';
REVOKE ALL ON FUNCTION carnivore.record_job(text, timestamptz, text, jsonb), carnivore.count_due(text, jsonb, boolean)
    FROM PUBLIC, anon, authenticated, service_role;
"""

# A procedure that commits cannot fix its search_path. These set it again at the beginning of each transaction, so that
# no name or operator resolves where others may write, and name their variables' types in full; both run with their
# caller's rights, who is the owner.
MAINTAIN = """
CREATE PROCEDURE carnivore.run_job(
    job text, batch integer DEFAULT 1000, pause interval DEFAULT '0', options jsonb DEFAULT '{}',
    INOUT handled bigint DEFAULT 0, INOUT error text DEFAULT NULL
) LANGUAGE plpgsql AS $$
DECLARE
    known carnivore.jobs;
    run pg_catalog.uuid;
    began pg_catalog.timestamptz;
    done bigint;
    tries integer;
    again boolean;
    state pg_catalog.text;
    rule pg_catalog.text;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF batch IS NULL OR batch < 1 THEN
        RAISE EXCEPTION 'a batch has one row or more' USING ERRCODE = 'check_violation', CONSTRAINT = 'batch_positive';
    END IF;
    SELECT * INTO known FROM carnivore.jobs AS j WHERE j.job = run_job.job AND j.call IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no job has this name' USING ERRCODE = 'PT404', CONSTRAINT = 'job_not_found';
    END IF;
    batch := coalesce(known.batch, batch);
    options := known.options || jsonb_strip_nulls(options);
    run := gen_random_uuid();
    began := clock_timestamp();
    handled := 0;
    error := NULL;
    tries := 0;
    LOOP
        state := NULL;
        BEGIN
            -- No writer waits behind a change of partitions for longer. Under writers of one kind only one order of
            -- locks finds a gap: whoever tries again changes it.
            PERFORM set_config('lock_timeout', coalesce(options ->> 'lock_timeout', '2s'), true),
                set_config('carnivore.parent_first', CASE tries % 2 WHEN 0 THEN 'off' ELSE 'on' END, true);
            EXECUTE known.call INTO done USING batch, run, options;
            done := coalesce(done, 0);
        EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, rule = CONSTRAINT_NAME;
            done := 0;
        END;
        COMMIT;
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        handled := handled + done;
        again := coalesce(state IN ('55P03', '40P01') AND tries < 20, false);
        -- For whoever asked for this level of messages: `carnivore-db maintain` shows it as a bar.
        RAISE DEBUG 'job %: % handled', job, handled USING CONSTRAINT = 'job_progress', DETAIL = handled::text;
        EXIT WHEN NOT again AND (state IS NOT NULL OR done = 0 OR done < batch OR batch = 0);
        tries := CASE WHEN again THEN tries + 1 ELSE 0 END;
        BEGIN
            PERFORM pg_sleep(CASE WHEN again THEN random() * tries / 10 ELSE extract(epoch FROM pause) END);
        EXCEPTION WHEN query_canceled THEN
            state := '57014';
            rule := '';
            EXIT;
        END;
    END LOOP;
    IF state IS NOT NULL THEN
        error := rtrim(state || ' ' || rule);
    END IF;
    PERFORM carnivore.record_job(job, began, error, jsonb_build_object('handled', handled));
    COMMIT;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF state IS NOT NULL AND known.on_failure IS NOT NULL THEN
        BEGIN
            PERFORM set_config('lock_timeout', coalesce(options ->> 'lock_timeout', '2s'), true);
            EXECUTE known.on_failure USING job, run, began, state, rule;
        EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
            -- The run is noted already, and the next job must have its turn.
            RAISE WARNING 'job %: its failure could not be logged (%)', job, SQLSTATE;
        END;
        COMMIT;
    END IF;
END
$$;
COMMENT ON PROCEDURE carnivore.run_job(text, integer, interval, jsonb, bigint, text) IS 'Runs a job batch by batch, each committed, with a pause between two, and notes the run in carnivore.jobs. Options: reports_grace, months_ahead, keep_old, lock_timeout. Returns how many rows it handled, and SQLSTATE and rule of a failure. Call it outside a transaction.';

CREATE PROCEDURE carnivore.maintain(
    batch integer DEFAULT 1000, reports_grace interval DEFAULT NULL, months_ahead integer DEFAULT NULL,
    old_logs boolean DEFAULT true
) LANGUAGE plpgsql AS $$
DECLARE
    turn bigint := 'carnivore.jobs'::pg_catalog.regclass::pg_catalog.oid::bigint;
    options pg_catalog.jsonb;
    jobs pg_catalog.text[];
    job pg_catalog.text;
    handled bigint;
    error pg_catalog.text;
    failed pg_catalog.text[] := '{}';
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF batch IS NULL OR batch < 1 THEN
        RAISE EXCEPTION 'a batch has one row or more' USING ERRCODE = 'check_violation', CONSTRAINT = 'batch_positive';
    END IF;
    IF NOT pg_try_advisory_lock(turn) THEN
        RAISE NOTICE 'another run is at work: nothing done';
        RETURN;
    END IF;
    options := jsonb_build_object('reports_grace', reports_grace, 'months_ahead', months_ahead, 'keep_old', NOT old_logs);
    jobs := ARRAY(SELECT known.job FROM carnivore.jobs AS known
        WHERE known.call IS NOT NULL AND (old_logs OR NOT known.archives) ORDER BY known.position, known.job);
    FOREACH job IN ARRAY jobs LOOP
        CALL carnivore.run_job(job, batch, '0', options, handled, error);
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        IF error IS NOT NULL THEN
            failed := failed || job;
        END IF;
        -- Whoever cancels wants the run to end, not its next job to begin.
        EXIT WHEN error LIKE '57014%';
    END LOOP;
    PERFORM pg_advisory_unlock(turn);
    IF failed <> '{}' THEN
        RAISE EXCEPTION 'jobs failed: %', array_to_string(failed, ', ')
            USING HINT = 'carnivore.jobs has their SQLSTATEs.', CONSTRAINT = 'jobs_failed';
    END IF;
END
$$;
COMMENT ON PROCEDURE carnivore.maintain(integer, interval, integer, boolean) IS 'Runs every job of the installed areas that needs the database alone, for its own scheduler: each batch committed, each run noted in carnivore.jobs, a failure kept from the others and raised at the end. NULL: as carnivore.jobs.options says. old_logs: false where they are archived first. Call it outside a transaction, and end a session in which it was cancelled: it may still hold the lock that keeps a second run out.';
REVOKE ALL ON PROCEDURE carnivore.run_job(text, integer, interval, jsonb, bigint, text),
    carnivore.maintain(integer, interval, integer, boolean) FROM PUBLIC, anon, authenticated, service_role;
INSERT INTO carnivore.jobs (job, area, position, description, batch, options, call) VALUES
    ('partitions', 'platform', 100, 'months that are missing', 1, '{"months_ahead": 3, "keep_old": false}',
        'SELECT carnivore.create_next_partition(($3 ->> ''months_ahead'')::integer, ($3 ->> ''keep_old'')::boolean)'),
    ('archive', 'platform', 300, 'old months into cold storage', NULL, '{}', NULL);
"""


SIZES = """
CREATE TABLE carnivore.partition_sizes (
    day date NOT NULL,
    relation text NOT NULL,
    bytes bigint NOT NULL,
    rows bigint,
    CONSTRAINT partition_sizes_pkey PRIMARY KEY (day, relation)
);
ALTER TABLE carnivore.partition_sizes ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON TABLE carnivore.partition_sizes FROM PUBLIC, anon, authenticated, service_role;
COMMENT ON TABLE carnivore.partition_sizes IS 'How large each table and each partition was, a sample a day; the migrating role''s.';
COMMENT ON COLUMN carnivore.partition_sizes.day IS 'The day of the sample (UTC).';
COMMENT ON COLUMN carnivore.partition_sizes.relation IS 'The table or the partition, with its schema.';
COMMENT ON COLUMN carnivore.partition_sizes.bytes IS 'On disk, indexes and TOAST included; of a partitioned table, its partitions added up.';
COMMENT ON COLUMN carnivore.partition_sizes.rows IS 'The planner''s estimate; NULL when nothing was ever analysed.';
COMMENT ON INDEX carnivore.partition_sizes_pkey IS 'One sample a day and relation.';
"""


RECORD_SIZES = """
CREATE FUNCTION carnivore.record_partition_sizes() RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    sampled integer;
BEGIN
    INSERT INTO carnivore.partition_sizes AS sample (day, relation, bytes, rows)
    SELECT today, format('%s.%s', space.nspname, relation.relname), sum(size.bytes),
        sum(leaf.reltuples) FILTER (WHERE leaf.reltuples >= 0)
    FROM pg_class AS relation
    JOIN pg_namespace AS space ON space.oid = relation.relnamespace
    CROSS JOIN LATERAL (
        SELECT relation.oid WHERE relation.relkind = 'r'
        UNION ALL
        SELECT tree.relid FROM pg_partition_tree(relation.oid) AS tree
        WHERE relation.relkind = 'p' AND tree.isleaf
    ) AS part
    JOIN pg_class AS leaf ON leaf.oid = part.oid
    CROSS JOIN LATERAL (SELECT pg_total_relation_size(leaf.oid) AS bytes) AS size
    WHERE space.nspname IN (SELECT unnest(areas.schemas) FROM carnivore.areas)
        AND relation.relkind IN ('r', 'p')
        -- A partition that is dropped meanwhile has no size any more.
        AND size.bytes IS NOT NULL
    GROUP BY space.nspname, relation.relname
    ON CONFLICT (day, relation) DO UPDATE SET bytes = excluded.bytes, rows = excluded.rows;
    GET DIAGNOSTICS sampled = ROW_COUNT;
    DELETE FROM carnivore.partition_sizes AS sample WHERE sample.day < today - 400;
    RETURN sampled;
END
$$;
COMMENT ON FUNCTION carnivore.record_partition_sizes() IS 'Notes the size of every table and partition for today (UTC), and deletes samples older than 400 days; returns how many it noted.';
REVOKE ALL ON FUNCTION carnivore.record_partition_sizes() FROM PUBLIC, anon, authenticated, service_role;
INSERT INTO carnivore.jobs (job, area, position, description, batch, call)
VALUES ('sizes', 'platform', 1100, 'sizes sampled', 0, 'SELECT carnivore.record_partition_sizes()');
"""


def upgrade() -> None:
    for part in (
        AREAS,
        PARTITIONED,
        CLOSE,
        ATTACH,
        ARCHIVE,
        PLAN,
        JOBS,
        MAINTAIN,
        SIZES,
        RECORD_SIZES,
    ):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
        DROP FUNCTION carnivore.record_partition_sizes();
        DROP TABLE carnivore.partition_sizes;
        DROP PROCEDURE carnivore.maintain(integer, interval, integer, boolean);
        DROP PROCEDURE carnivore.run_job(text, integer, interval, jsonb, bigint, text);
        DROP FUNCTION carnivore.count_due(text, jsonb, boolean);
        DROP FUNCTION carnivore.record_job(text, timestamptz, text, jsonb);
        DROP TABLE carnivore.jobs;
        DROP FUNCTION carnivore.create_next_partition(integer, boolean);
        DROP FUNCTION carnivore.partition_plan(integer, boolean, timestamptz);
        DROP FUNCTION carnivore.refuse_archived(text);
        DROP TABLE carnivore.archived_partitions;
        DROP FUNCTION carnivore.create_partition(regclass, date);
        DROP FUNCTION carnivore.attach_partition(regclass, date);
        DROP FUNCTION carnivore.prepare_partition(regclass, date);
        DROP FUNCTION carnivore.lock_partitioned(regclass, boolean);
        DROP FUNCTION carnivore.close_partition(regclass, regclass);
        DROP TABLE carnivore.partitioned_tables;
        DROP TABLE carnivore.areas;
    """)
