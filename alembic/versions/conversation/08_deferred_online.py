"""Deferred issue: a message no longer moves its session in any index.

Why: the document leaves "hot row updates on sessions" (22) for later. Every message counts in its session's row; and
because an index held last_activity_at, each time all of the row's indexes got a new entry. The cleanup finds idle
sessions by started_at as well, so nothing that a message changes is indexed any more, and with room left in each
page the update stays in it (a heap-only tuple). Built CONCURRENTLY.
"""

from alembic import op

revision = "deferred_online"
down_revision = "deferred_issues"
branch_labels = None
depends_on = None


CLEANUP = "idx_sessions_expiration_cleanup"


def _build(index: str, definition: str, comment: str) -> None:
    """Build an index while everybody works; what an earlier run left half built is begun anew."""
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS conversation.{index}")
        op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {index} ON conversation.{definition}")
        op.execute(f"COMMENT ON INDEX conversation.{index} IS '{comment}'")


def upgrade() -> None:
    op.execute("ALTER TABLE conversation.sessions SET (fillfactor = 80)")
    _build(
        CLEANUP,
        "sessions (started_at) WHERE NOT is_completed",
        "Open sessions, oldest first: those that nobody touched for long are among them.",
    )
    # A few pages, whatever the table: what is old lies together.
    _build(
        "idx_messages_sent_at",
        "messages USING brin (sent_at)",
        "Messages old enough for the archive.",
    )


def downgrade() -> None:
    # Months in cold storage stop the way back before anything is forgotten: deferred_logs could not go on.
    op.execute("SELECT carnivore.refuse_archived('conversation.logs')")
    op.execute("DROP INDEX conversation.idx_messages_sent_at")
    op.execute("ALTER TABLE conversation.sessions RESET (fillfactor)")
    _build(
        CLEANUP,
        "sessions (last_activity_at) WHERE NOT is_completed",
        "Open sessions that nobody touched for long.",
    )
