"""Counting an access, with less beside the row that it counts.

Why: document 012 has each access counted. Measured, a deferred count cost half as much as the access itself: an
aggregate of one row, two indexes, a foreign key that asked what the log's had asked in the same statement. A count at
once took a second lock on the report that open_report had locked, and had no room in its page, so that it wrote to five
indexes.
"""

from alembic import op

revision = "012_counting"
down_revision = "012_speed"
branch_labels = None
depends_on = None

# One report, as open_report and record have it, needs no order of locks, and where open_report has locked it no second
# lock. Batches are counted as before. Deferred, each access is a delta: to sum up one row costs more than to keep it.
INCREMENT_REPORT_ACCESS = """
CREATE OR REPLACE FUNCTION public.increment_report_access() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    added record;
BEGIN
    IF current_setting('carnivore.access_counting', true) = 'deferred' THEN
        INSERT INTO public.report_access_pending (report_id, access_count, last_accessed_at)
        SELECT access.report_id, 1, access.accessed_at FROM new_accesses AS access;
        RETURN NULL;
    END IF;
    SELECT min(access.report_id) AS report_id, min(access.report_id) = max(access.report_id) AS alone,
        count(*) AS accesses, max(access.accessed_at) AS latest
    INTO added FROM new_accesses AS access;
    IF added.alone THEN
        UPDATE public.generated_reports AS report
        SET access_count = report.access_count + added.accesses,
            last_accessed_at = greatest(report.last_accessed_at, added.latest, report.created_at)
        WHERE report.id = added.report_id;
        RETURN NULL;
    END IF;
    -- Two batches that share reports meet them in the same order, so neither waits for the other in a
    -- circle. The update is a statement of its own: its snapshot then shows the rows as they were locked,
    -- where an older one would queue at the rows' old versions, behind whoever waits for this transaction.
    PERFORM FROM public.generated_reports AS report
    WHERE report.id IN (SELECT access.report_id FROM new_accesses AS access)
    ORDER BY report.id FOR NO KEY UPDATE;
    UPDATE public.generated_reports AS report
    SET access_count = report.access_count + delta.accesses,
        last_accessed_at = greatest(report.last_accessed_at, delta.latest, report.created_at)
    FROM (
        SELECT access.report_id, count(*) AS accesses, max(access.accessed_at) AS latest
        FROM new_accesses AS access GROUP BY access.report_id
    ) AS delta
    WHERE report.id = delta.report_id;
    RETURN NULL;
END
$$;
"""

# As before, folders lock the reports first, in id order, and skip what is locked: they go around each other, and around a
# report being deleted. New is that deltas of a report that is gone are forgotten, as no foreign key does it.
FOLD_REPORT_ACCESS = """
CREATE OR REPLACE FUNCTION public.fold_report_access(batch integer DEFAULT 1000) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    due bigint[];
    folded bigint;
    left_behind bigint;
BEGIN
    SELECT array_agg(locked.id) INTO due FROM (
        SELECT report.id FROM public.generated_reports AS report
        WHERE report.id IN (SELECT pending.report_id FROM public.report_access_pending AS pending)
        ORDER BY report.id LIMIT batch FOR NO KEY UPDATE SKIP LOCKED
    ) AS locked;
    WITH taken AS (
        DELETE FROM public.report_access_pending AS pending
        WHERE pending.report_id = ANY (due)
        RETURNING pending.report_id, pending.access_count, pending.last_accessed_at
    ), delta AS (
        SELECT taken.report_id, sum(taken.access_count)::bigint AS accesses,
            max(taken.last_accessed_at) AS latest, count(*) AS deltas
        FROM taken GROUP BY taken.report_id
    ), added AS (
        UPDATE public.generated_reports AS report
        SET access_count = report.access_count + delta.accesses,
            last_accessed_at = greatest(report.last_accessed_at, delta.latest, report.created_at)
        FROM delta WHERE report.id = delta.report_id
        RETURNING delta.deltas
    )
    SELECT coalesce(sum(added.deltas), 0)::bigint INTO folded FROM added;
    -- The last batch: what is still there belongs to reports that somebody else has locked, or to none.
    IF coalesce(cardinality(due), 0) < batch THEN
        DELETE FROM public.report_access_pending AS pending
        WHERE (pending.report_id, pending.id) IN (
            SELECT orphan.report_id, orphan.id FROM public.report_access_pending AS orphan
            WHERE NOT EXISTS (SELECT FROM public.generated_reports AS report WHERE report.id = orphan.report_id)
            FOR UPDATE SKIP LOCKED
        );
        GET DIAGNOSTICS left_behind = ROW_COUNT;
        folded := folded + left_behind;
    END IF;
    RETURN folded;
END
$$;
"""

# The log's foreign key has locked the report when a delta comes, so the delta needs none of its own; and one index finds
# what two found.
PENDING = """
-- The table is short whenever maintenance has run: locked, it is changed at once.
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX public.idx_report_access_pending_report_id;
-- squawk-ignore-file ban-drop-constraint, constraint-missing-not-valid, adding-serial-primary-key-field
ALTER TABLE public.report_access_pending
    DROP CONSTRAINT report_access_pending_report_id_fkey,
    DROP CONSTRAINT report_access_pending_pkey,
    ADD CONSTRAINT report_access_pending_pkey PRIMARY KEY (report_id, id);
COMMENT ON INDEX public.report_access_pending_pkey IS 'Deltas of a report.';
COMMENT ON COLUMN public.report_access_pending.report_id IS 'The report that the accesses belong to; deltas of one that is gone are forgotten.';
"""

# Where a page has room, a count is one tuple beside the old one and touches no index. Pages written before fill up as
# they are; VACUUM FULL, in a quiet hour, makes room in them all.
ROOM = "ALTER TABLE public.generated_reports SET (fillfactor = 80)"

BEFORE = """
CREATE OR REPLACE FUNCTION public.increment_report_access() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('carnivore.access_counting', true) = 'deferred' THEN
        INSERT INTO public.report_access_pending (report_id, access_count, last_accessed_at)
        SELECT access.report_id, count(*), max(access.accessed_at)
        FROM new_accesses AS access GROUP BY access.report_id;
        RETURN NULL;
    END IF;
    -- Two batches that share reports meet them in the same order, so neither waits for the other in a
    -- circle. The update is a statement of its own: its snapshot then shows the rows as they were locked,
    -- where an older one would queue at the rows' old versions, behind whoever waits for this transaction.
    PERFORM FROM public.generated_reports AS report
    WHERE report.id IN (SELECT access.report_id FROM new_accesses AS access)
    ORDER BY report.id FOR NO KEY UPDATE;
    UPDATE public.generated_reports AS report
    SET access_count = report.access_count + delta.accesses,
        last_accessed_at = greatest(report.last_accessed_at, delta.latest, report.created_at)
    FROM (
        SELECT access.report_id, count(*) AS accesses, max(access.accessed_at) AS latest
        FROM new_accesses AS access GROUP BY access.report_id
    ) AS delta
    WHERE report.id = delta.report_id;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION public.fold_report_access(batch integer DEFAULT 1000) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    due bigint[];
    folded bigint;
BEGIN
    SELECT array_agg(locked.id) INTO due FROM (
        SELECT report.id FROM public.generated_reports AS report
        WHERE report.id IN (SELECT pending.report_id FROM public.report_access_pending AS pending)
        ORDER BY report.id LIMIT batch FOR NO KEY UPDATE SKIP LOCKED
    ) AS locked;
    WITH taken AS (
        DELETE FROM public.report_access_pending AS pending
        WHERE pending.report_id = ANY (due)
        RETURNING pending.report_id, pending.access_count, pending.last_accessed_at
    ), delta AS (
        SELECT taken.report_id, sum(taken.access_count)::bigint AS accesses,
            max(taken.last_accessed_at) AS latest, count(*) AS deltas
        FROM taken GROUP BY taken.report_id
    ), added AS (
        UPDATE public.generated_reports AS report
        SET access_count = report.access_count + delta.accesses,
            last_accessed_at = greatest(report.last_accessed_at, delta.latest, report.created_at)
        FROM delta WHERE report.id = delta.report_id
        RETURNING delta.deltas
    )
    SELECT coalesce(sum(added.deltas), 0)::bigint INTO folded FROM added;
    RETURN folded;
END
$$;

ALTER TABLE public.generated_reports RESET (fillfactor);
DELETE FROM public.report_access_pending AS pending
WHERE NOT EXISTS (SELECT FROM public.generated_reports AS report WHERE report.id = pending.report_id);
ALTER TABLE public.report_access_pending
    DROP CONSTRAINT report_access_pending_pkey,
    ADD CONSTRAINT report_access_pending_pkey PRIMARY KEY (id),
    ADD CONSTRAINT report_access_pending_report_id_fkey FOREIGN KEY (report_id) REFERENCES public.generated_reports (id) ON DELETE CASCADE;
CREATE INDEX idx_report_access_pending_report_id ON public.report_access_pending (report_id);
COMMENT ON INDEX public.report_access_pending_pkey IS 'Identity.';
COMMENT ON INDEX public.idx_report_access_pending_report_id IS 'Deltas of a report; serves the foreign key.';
COMMENT ON COLUMN public.report_access_pending.report_id IS 'The report that the accesses belong to.';
"""


def upgrade() -> None:
    op.execute(INCREMENT_REPORT_ACCESS)
    op.execute(FOLD_REPORT_ACCESS)
    op.execute(PENDING)
    op.execute(ROOM)


def downgrade() -> None:
    op.execute(BEFORE)
