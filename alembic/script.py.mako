"""${message}.

Why: (what breaks without this revision, and which source document asks for it)

Revision: ${up_revision}, after ${down_revision | comma,n}. Created ${create_date}.

Before you commit, see that
- every object has a COMMENT, every function qualified names and `SET search_path = pg_catalog, pg_temp`
  (with '' a caller's temporary type would be found before PostgreSQL's own),
- what PUBLIC, anon, authenticated and service_role got by default privileges is revoked, and only
  what is needed is granted back,
- an index on a table with rows is built CONCURRENTLY (in `op.get_context().autocommit_block()`),
  a constraint comes NOT VALID and is then validated,
- the downgrade removes what the upgrade made and gives back what it changed, rows included,
- `carnivore_db` is not imported: history is frozen, the package is not.
"""

from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
