"""Release 0.1.0: where the branches of the three areas meet.

Why: `alembic upgrade head` is the whole installation. Each later release adds one such merge.
"""

revision = "0.1.0"
down_revision = ("012_analytics", "001_user_data", "deferred_online")
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing of its own."""


def downgrade() -> None:
    """Nothing of its own."""
