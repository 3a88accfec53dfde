"""The command line as an operator types it."""

from unittest.mock import patch

from click.testing import Result
from sqlalchemy import URL
from typer.testing import CliRunner

from carnivore_db.cli import app
from carnivore_db.cli.terminal import console

PASSWORD = "hunter2"
NOWHERE = f"postgresql://ada:{PASSWORD}@127.0.0.1:9/none"


def run(*arguments: str, url: URL | None = None, width: int = 500, **environment: str | None) -> Result:
    """Run `carnivore-db` on the database at `url`, in a terminal of this width: it cuts nothing.

    Whatever happens, nobody sees a traceback, nor the password.
    """
    if url is not None:
        environment["DATABASE_URL"] = url.render_as_string(hide_password=False)
    with patch.object(console, "_width", width):
        outcome = CliRunner().invoke(app, arguments, env={"DATABASE_URL": None, **environment})
    assert "Traceback" not in outcome.output
    assert PASSWORD not in outcome.output
    return outcome
