"""Critical fixes, last part: what needs no lock, the new indexes and the check of the new foreign keys.

Why: changes 19, 20, 23 and 41 of the document, and the rest of 40. Indexes are built CONCURRENTLY and keys are
validated, outside a transaction, while the application goes on. A run that is killed midway leaves an index that is
not whole; the next run begins it anew.
"""

from alembic import op

revision = "critical_fixes_online"
down_revision = "critical_fixes_access"
branch_labels = None
depends_on = None

INDEXES = {
    "idx_logs_session": (
        "logs (session_id, created_at DESC)",
        "Events of a session, newest first; the foreign key.",
    ),
    "idx_logs_metadata": ("logs USING gin (metadata)", "Events by what their metadata contains."),
    "idx_sessions_scenario_history": (
        "sessions (user_id, scenario_id, completed_at DESC) WHERE is_completed",
        "Completed sessions of a person in one scene, newest first.",
    ),
    "idx_sessions_user_scenario": (
        "sessions (user_id, scenario_id)",
        "How often a person plays which scene.",
    ),
    "idx_sessions_scenario": (
        "sessions (scenario_id, is_completed)",
        "How often a scene is played, and to its end; the foreign key.",
    ),
}
KEYS = {
    "profiles_id_fkey": ("profiles", "id", "auth.users (id)", "CASCADE"),
    "sessions_user_id_fkey": ("sessions", "user_id", "conversation.profiles (id)", "CASCADE"),
    "sessions_scenario_id_fkey": ("sessions", "scenario_id", "conversation.scenarios (id)", "RESTRICT"),
    "messages_session_id_fkey": ("messages", "session_id", "conversation.sessions (id)", "CASCADE"),
    "logs_user_id_fkey": ("logs", "user_id", "conversation.profiles (id)", "SET NULL"),
    "logs_session_id_fkey": ("logs", "session_id", "conversation.sessions (id)", "SET NULL"),
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, (definition, comment) in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS conversation.{name}")
            op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON conversation.{definition}")
            op.execute(f"COMMENT ON INDEX conversation.{name} IS '{comment}'")
        for name, (table, *_) in KEYS.items():
            op.execute(f"ALTER TABLE conversation.{table} VALIDATE CONSTRAINT {name}")


def downgrade() -> None:
    op.execute(f"DROP INDEX {', '.join(f'conversation.{name}' for name in INDEXES)}")
    for name, (table, column, target, on_delete) in KEYS.items():
        op.execute(
            f"ALTER TABLE conversation.{table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} FOREIGN KEY ({column})"
            f" REFERENCES {target} ON UPDATE CASCADE ON DELETE {on_delete} NOT VALID"
        )
