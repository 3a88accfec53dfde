"""Commands about the database: migrate, verify, the demo, psql."""

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import URL, create_engine, pool

from carnivore_db.cli.terminal import bars, console, explained
from carnivore_db.dev import local
from carnivore_db.dev.demo import story
from carnivore_db.errors import ConfigurationError
from carnivore_db.operations.verify.checks import verify as run_verify
from carnivore_db.operations.verify.render import render
from carnivore_db.schema import files, migrations, reference
from carnivore_db.schema.snapshot import take
from carnivore_db.settings import Settings

app = typer.Typer()


def _url() -> URL:
    return Settings().url


def _with_progress(title: str, url: URL, revision: str, *, down: bool = False) -> None:
    order = migrations.history()
    at = migrations.current(url)
    if at is not None and at not in order:
        raise ConfigurationError(f"the database is at revision {at}, which this package does not know")
    done = 0 if at is None else order.index(at) + 1
    with bars() as progress:
        task = progress.add_task(title, total=done if down else len(order) - done)

        def step(name: str) -> None:
            progress.update(task, advance=1, description=f"{title}: {name}")

        run = migrations.downgrade if down else migrations.upgrade
        run(url, revision, on_step=step)
        progress.update(task, total=progress.tasks[task].completed, description=title)


@app.command()
def upgrade(revision: Annotated[str, typer.Argument(help="Where to go.")] = "head") -> None:
    """Install the schema, or bring it up to date. Twice, or two at once, does no harm."""
    with explained():
        _with_progress("Upgrade", _url(), revision)


@app.command()
def downgrade(
    revision: Annotated[str, typer.Argument(help="Where to go back to; base takes back everything.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take revisions back. The rows of dropped tables go with them."""
    if not yes:
        typer.confirm(f"Go back to {revision} and drop what came after, rows included?", abort=True)
    with explained():
        _with_progress("Downgrade", _url(), revision, down=True)


@app.command()
def verify(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    months_ahead: Annotated[int, typer.Option(min=0, help="Months that must have a partition.")] = 3,
) -> None:
    """Compare the database with what this package makes; read-only, safe on production.

    Exit status: 0 as it should be, 1 differences, 2 could not look.
    """
    with explained():
        settings = Settings()
        engine = create_engine(settings.url, poolclass=pool.NullPool)
        with engine.connect() as connection:
            report = run_verify(
                connection,
                now=datetime.now(UTC),
                months_ahead=months_ahead,
                ignore=settings.verify_ignore,
            )
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2, default=str))
    else:
        render(report, console)
    raise typer.Exit(0 if report.ok else 1)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server running.")] = False,
) -> None:
    """A report sold, a learner's progress and exports, a scene played; on a real PostgreSQL."""
    with explained():
        ok = story.tell(console, keep=keep)
    raise typer.Exit(0 if ok else 1)


@app.command()
def psql() -> None:
    """Open psql on DATABASE_URL."""
    with explained():
        url = _url()
        found = shutil.which("psql")
        if found is None:
            raise ConfigurationError("psql is not installed")
    # The password goes through the environment: everybody may read the arguments of a process.
    secret = {"PGPASSWORD": str(url.password)} if url.password else {}
    dsn = url._replace(drivername="postgresql", password=None).render_as_string(hide_password=False)
    os.execve(found, [found, dsn], {**os.environ, **secret})  # noqa: S606 - the operator's own psql


@app.command(hidden=True)
def snapshot(
    docs: Annotated[Path, typer.Option(help="Where the schema reference goes.")] = Path("docs/schema.md"),
) -> None:
    """Write the catalog snapshot and the schema reference from a fresh database."""
    with explained(), local.server() as server, story.scratch_database(server) as dbname:
        migrations.upgrade(server.url(dbname))
        engine = create_engine(server.url(dbname), poolclass=pool.NullPool)
        with engine.connect() as connection:
            made = take(connection)
    files.write_expected(made, Path(files.__file__).with_name("expected.json"))
    docs.parent.mkdir(exist_ok=True)
    docs.write_text(reference.markdown(files.load_expected()), encoding="utf-8")
