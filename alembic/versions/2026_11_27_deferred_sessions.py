"""Deferred issue: a message no longer moves its session in any index.

Why: the document leaves "hot row updates on sessions" (22) for later. Every message counts in its session's row; and
because an index held last_activity_at, each time all of the row's indexes got a new entry. The cleanup finds idle
sessions by started_at as well, so nothing that a message changes is indexed any more, and with room left in each
page the update stays in it (a heap-only tuple). Built CONCURRENTLY.
"""

from alembic import op

revision = "deferred_sessions"
down_revision = "deferred_jobs"
branch_labels = None
depends_on = None


def _index(column: str, comment: str) -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS conversation.idx_sessions_expiration_cleanup")
        op.execute(
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_sessions_expiration_cleanup"
            f" ON conversation.sessions ({column}) WHERE NOT is_completed"
        )
        op.execute(f"COMMENT ON INDEX conversation.idx_sessions_expiration_cleanup IS '{comment}'")


def upgrade() -> None:
    op.execute("ALTER TABLE conversation.sessions SET (fillfactor = 80)")
    _index("started_at", "Open sessions, oldest first: those that nobody touched for long are among them.")


def downgrade() -> None:
    op.execute("ALTER TABLE conversation.sessions RESET (fillfactor)")
    _index("last_activity_at", "Open sessions that nobody touched for long.")
