"""How large the tables were, day by day.

Why: the documents leave "monitor partition size" to a person with a calendar. A size says little until it is compared
with an earlier one, and PostgreSQL keeps none: here is one sample a day, of every table and of every partition. What
is archived or dropped later keeps its samples until they are 400 days old, so a year can be compared with the last.
"""

from alembic import op

revision = "operations_stats"
down_revision = "operations_jobs"
branch_labels = None
depends_on = None

SAMPLES = """
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

RECORDING = """
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
    WHERE space.nspname IN ('public', 'vocabulary', 'conversation', 'carnivore', 'analytics')
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
"""


def upgrade() -> None:
    for part in (SAMPLES, RECORDING):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
        DROP FUNCTION carnivore.record_partition_sizes();
        DROP TABLE carnivore.partition_sizes;
    """)
