"""When each job ran last, and the retention of expired rows in batches.

Why: the documents leave this to a person with a calendar.
"""

from alembic import op

revision = "operations_jobs"
down_revision = "operations_archive"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SELECT 1")


def downgrade() -> None:
    op.execute("SELECT 1")
