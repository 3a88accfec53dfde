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


def upgrade() -> None:
    op.execute(LEDGER)


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
    op.execute("DROP TABLE carnivore.archived_partitions")
