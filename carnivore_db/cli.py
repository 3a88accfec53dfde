"""The command `carnivore-db`: migrate, verify, maintain, a private PostgreSQL, the demo."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from alembic.util import CommandError
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import URL, create_engine, pool, text
from sqlalchemy.exc import DBAPIError

from carnivore_db import local, local_persistent, maintenance, migrations, postgres_install
from carnivore_db.catalog import files, reference
from carnivore_db.catalog.render import render
from carnivore_db.catalog.snapshot import take
from carnivore_db.catalog.verify import verify as run_verify
from carnivore_db.database import Database
from carnivore_db.demo import story
from carnivore_db.errors import CarnivoreError, Unavailable
from carnivore_db.settings import Settings

COULD_NOT_LOOK = 2
LOCAL_DATABASE = "carnivore"

# Tracebacks would show local variables, and those hold URLs with passwords.
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
local_app = typer.Typer(help="A private PostgreSQL for development.", no_args_is_help=True)
app.add_typer(local_app, name="local")
console = Console()
problems = Console(stderr=True)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what an operator can mend into one line and exit status 2."""
    try:
        yield
    except Unavailable as error:
        problem = str(error.__cause__ or error).partition("\n")[0]
    except (LookupError, TimeoutError, CommandError, CarnivoreError, local.LocalServerError) as error:
        problem = str(error)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        problem = f"{fault['loc'][0]}: {fault['msg']}"
    except DBAPIError as error:
        # The driver's first line names host and reason; the rest may quote data.
        problem = str(error.orig).partition("\n")[0]
    else:
        return
    problems.print(problem, style="red", markup=False)
    raise typer.Exit(COULD_NOT_LOOK)


def _url() -> URL:
    return Settings().url


def _with_progress(title: str, url: URL, revision: str, *, down: bool = False) -> None:
    order = migrations.history()
    at = migrations.current(url)
    if at is not None and at not in order:
        raise LookupError(f"the database is at revision {at}, which this package does not know")
    done = 0 if at is None else order.index(at) + 1
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=done if down else len(order) - done)

        def step(name: str) -> None:
            progress.update(task, advance=1, description=f"{title}: {name}")

        run = migrations.downgrade if down else migrations.upgrade
        run(url, revision, on_step=step)
        progress.update(task, total=progress.tasks[task].completed, description=title)


@app.command()
def upgrade(revision: Annotated[str, typer.Argument(help="Where to go.")] = "head") -> None:
    """Install the schema, or bring it up to date. Twice, or two at once, does no harm."""
    with _explained():
        _with_progress("Upgrade", _url(), revision)


@app.command()
def downgrade(
    revision: Annotated[str, typer.Argument(help="Where to go back to; base takes back everything.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take revisions back. The rows of dropped tables go with them."""
    if not yes:
        typer.confirm(f"Go back to {revision} and drop what came after, rows included?", abort=True)
    with _explained():
        _with_progress("Downgrade", _url(), revision, down=True)


@app.command()
def verify(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    months_ahead: Annotated[int, typer.Option(min=0, help="Months that must have a partition.")] = 3,
) -> None:
    """Compare the database with what this package makes; read-only, safe on production.

    Exit status: 0 as it should be, 1 differences, 2 could not look.
    """
    with _explained():
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
def maintain() -> None:
    """Make the coming months' partitions and fold pending access counts; for a scheduler."""
    with _explained():
        engine = Database(_url()).engine
        months, failed = maintenance.create_partitions(engine)
        folded = maintenance.fold_access_counts(engine)
        engine.dispose()
    made = ", ".join(f"{month:%Y-%m}" for month in months) or "none missing"
    console.print(f"Partitions made: {made}. Access deltas folded: {folded}.")
    for month, error in failed.items():
        problems.print(f"No partition for {month:%Y-%m}: {error}", style="red", markup=False)
    raise typer.Exit(1 if failed else 0)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server running.")] = False,
) -> None:
    """A report sold, opened by its token and refused after expiry, on a real PostgreSQL."""
    with _explained():
        ok = story.tell(console, keep=keep)
    raise typer.Exit(0 if ok else 1)


@app.command()
def psql() -> None:
    """Open psql on DATABASE_URL."""
    with _explained():
        url = _url()
        found = shutil.which("psql")
        if found is None:
            raise LookupError("psql is not installed")
    # The password goes through the environment: everybody may read the arguments of a process.
    secret = {"PGPASSWORD": str(url.password)} if url.password else {}
    dsn = url._replace(drivername="postgresql", password=None).render_as_string(hide_password=False)
    os.execve(found, [found, dsn], {**os.environ, **secret})  # noqa: S606 - the operator's own psql


@app.command(hidden=True)
def snapshot(
    docs: Annotated[Path, typer.Option(help="Where the schema reference goes.")] = Path("docs/schema.md"),
) -> None:
    """Write the catalog snapshot and the schema reference from a fresh database."""
    with _explained(), local.server() as server, story.scratch_database(server) as dbname:
        migrations.upgrade(server.url(dbname))
        engine = create_engine(server.url(dbname), poolclass=pool.NullPool)
        with engine.connect() as connection:
            made = take(connection)
    files.write_expected(made, Path(files.__file__).with_name("expected.json"))
    docs.parent.mkdir(exist_ok=True)
    docs.write_text(reference.markdown(files.load_expected()), encoding="utf-8")


@local_app.command()
def check(
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing when it fails.")] = False,
) -> None:
    """Say which PostgreSQL would be used, or what to install."""
    try:
        found = postgres_install.find_postgres()
    except postgres_install.PostgreSQLNotFound as error:
        if not quiet:
            problems.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    if not quiet:
        console.print(str(found))


@local_app.command()
def start(
    print_url: Annotated[bool, typer.Option("--print-url", help="Print DATABASE_URL alone.")] = False,
) -> None:
    """Start it (or find it running), with an empty database `carnivore`."""
    with _explained():
        server = local_persistent.start()
        admin = create_engine(server.url("postgres"), poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            wanted = {"name": LOCAL_DATABASE}
            if not connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), wanted):
                connection.execute(text(f"CREATE DATABASE {LOCAL_DATABASE}"))
    url = server.url(LOCAL_DATABASE).set(drivername="postgresql")
    shown = url.render_as_string(hide_password=False)
    typer.echo(shown if print_url else f"export DATABASE_URL='{shown}'")


@local_app.command()
def stop(
    remove: Annotated[bool, typer.Option("--remove", help="Delete its data too.")] = False,
) -> None:
    """Stop it; its data stays unless removed."""
    with _explained():
        stopped = local_persistent.stop(remove=remove)
    console.print("Stopped." if stopped else "It was not running.")


@local_app.command()
def status() -> None:
    """Say whether it runs and where."""
    with _explained():
        server = local_persistent.status()
    if server is None:
        console.print("Not running.")
        raise typer.Exit(1)
    console.print(f"Running: psql '{server.dsn(LOCAL_DATABASE)}'", soft_wrap=True)
