"""The ledger of months that went to cold storage.

Why: the documents leave this to a person with a calendar.
"""

from alembic import op

revision = "operations_archive"
down_revision = "operations_partitions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SELECT 1")


def downgrade() -> None:
    op.execute("SELECT 1")
