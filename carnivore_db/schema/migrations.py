"""Alembic from Python: where the revisions are, and running them with progress."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, create_engine, pool

VERSION_SCHEMA = "carnivore"


def ini_file() -> Path:
    """alembic.ini: inside the installed package, or beside it in a checkout."""
    package = Path(str(files("carnivore_db")))
    packed = package / "alembic.ini"
    return packed if packed.exists() else package.parent / "alembic.ini"


def config(url: URL | None = None, *, on_step: Callable[[str], None] | None = None) -> Config:
    """Alembic's configuration for `url` (DATABASE_URL when None).

    `on_step` is called with each revision's id when its work is done, just before it is committed.
    """
    made = Config(str(ini_file()))
    made.attributes["url"] = url
    if on_step is not None:

        def report(*, step: Any, **_: Any) -> None:
            on_step(step.up_revision_id)

        made.attributes["on_version_apply"] = report
    return made


def upgrade(url: URL, revision: str = "head", *, on_step: Callable[[str], None] | None = None) -> None:
    """Bring the database to `revision`. Does nothing when it is there."""
    command.upgrade(config(url, on_step=on_step), revision)


def downgrade(url: URL, revision: str, *, on_step: Callable[[str], None] | None = None) -> None:
    """Take the database back to `revision` ("base": nothing of ours). Rows of dropped tables go."""
    command.downgrade(config(url, on_step=on_step), revision)


def history() -> list[str]:
    """All revisions, oldest first."""
    scripts = ScriptDirectory.from_config(config())
    return [script.revision for script in reversed(list(scripts.walk_revisions()))]


def current(url: URL) -> str | None:
    """The revision that the database is at; None before the first."""
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table_schema": VERSION_SCHEMA})
        return context.get_current_revision()
