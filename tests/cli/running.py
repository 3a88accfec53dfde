"""The command line as an operator types it."""

from unittest.mock import patch

from click.testing import Result
from sqlalchemy import URL
from typer.testing import CliRunner

from carnivore_db.cli import app
from carnivore_db.cli.terminal import console


def run(*arguments: str, url: URL | None = None, width: int = 500, **environment: str | None) -> Result:
    """Run `carnivore-db` on the database at `url`, in a terminal of this width: it cuts nothing."""
    if url is not None:
        environment["DATABASE_URL"] = url.render_as_string(hide_password=False)
    with patch.object(console, "_width", width):
        return CliRunner().invoke(app, arguments, env={"DATABASE_URL": None, **environment})
