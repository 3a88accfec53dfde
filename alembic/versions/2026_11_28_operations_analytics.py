"""Views for dashboards, for the role reporting alone.

Why: the documents leave this to a person with a calendar.
"""

from alembic import op

revision = "operations_analytics"
down_revision = "operations_stats"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SELECT 1")


def downgrade() -> None:
    op.execute("SELECT 1")
