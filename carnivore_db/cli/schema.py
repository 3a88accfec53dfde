"""Commands about the database: migrate, areas, verify, the demo, psql."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy import URL

from carnivore_db.cli.terminal import bars, console, explained
from carnivore_db.connection.requirements import unpooled
from carnivore_db.errors import ConfigurationError
from carnivore_db.operations.verify.checks import verify as run_verify
from carnivore_db.operations.verify.render import render
from carnivore_db.operations.verify.repair import repair as run_repair
from carnivore_db.schema import migrations
from carnivore_db.schema.areas import AREAS, Area
from carnivore_db.settings import Settings

app = typer.Typer()


def _url() -> URL:
    return Settings().url


def _known(given: list[str] | None) -> list[str] | None:
    for name in given or ():
        if name not in AREAS:
            raise typer.BadParameter(f"{name} is none of {', '.join(AREAS)}")
    return given


Areas = Annotated[
    list[str] | None,
    typer.Option(
        "--area",
        help=f"This area alone: {', '.join(AREAS)}; may be given several times. All when not given.",
        callback=_known,
    ),
]


def _chosen(given: list[str] | None) -> tuple[Area, ...]:
    """The areas that were given, or all."""
    return tuple(area for area in AREAS if not given or area in given)


def _with_bar(run: Callable[[Callable[[str], None]], None], total: int, title: str) -> None:
    with bars() as progress:
        task = progress.add_task(title, total=total)
        run(lambda name: progress.update(task, advance=1, description=f"{title}: {name}"))
        progress.update(task, total=progress.tasks[task].completed, description=title)


@app.command()
def upgrade(
    revision: Annotated[str | None, typer.Argument(help="Where to go; head when not given.")] = None,
    area: Areas = None,
) -> None:
    """Install the schema, or bring it up to date. Twice, or two at once, does no harm."""
    if revision is not None and area:
        raise typer.BadParameter("either a revision or --area")
    with explained():
        url = _url()
        if area:
            wanted = _chosen(area)
            total = migrations.missing(url, wanted)
            _with_bar(lambda step: migrations.upgrade_areas(url, wanted, on_step=step), total, "Upgrade")
        else:
            total = migrations.missing(url)
            to = revision or "head"
            _with_bar(lambda step: migrations.upgrade(url, to, on_step=step), total, "Upgrade")


@app.command()
def downgrade(
    revision: Annotated[
        str | None, typer.Argument(help="Where to go back to; base takes back everything.")
    ] = None,
    area: Areas = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take revisions back, or whole areas. The rows of dropped tables are deleted with them."""
    if (revision is None) == (not area):
        raise typer.BadParameter("either a revision or --area")
    what = f"Take back {' and '.join(area)}" if area else f"Go back to {revision} and drop what came after"
    if not yes:
        typer.confirm(f"{what}, rows included?", abort=True)
    with explained():
        url = _url()
        back = _chosen(area) if area else ()
        applied = set(migrations.applied(url))
        total = sum(len(applied.intersection(migrations.of_area(one))) for one in back) or len(applied)

        def run(step: Callable[[str], None]) -> None:
            for one in back:
                migrations.downgrade_area(url, one, on_step=step)
            if revision is not None:
                migrations.downgrade(url, revision, on_step=step)

        _with_bar(run, total, "Downgrade")


@app.command()
def areas(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show which areas are installed, at which revision, and what this package has."""
    with explained():
        found = migrations.states(_url()).values()
    if as_json:
        rows = [asdict(state) | {"current": state.current} for state in found]
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("area", "installed", "latest", "")
    for state in found:
        what = "" if state.current else "not installed" if state.revision is None else "behind"
        table.add_row(state.area, state.revision or "", state.latest, what)
    console.print(table)


@app.command()
def verify(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    months_ahead: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Months beyond this one that must have a partition;"
            " CARNIVORE_DB_PARTITION_MONTHS_AHEAD when not given.",
        ),
    ] = None,
) -> None:
    """Compare the database with what this package makes; read-only, safe on production.

    Exit status: 0 as it should be, 1 differences, 2 could not look.
    """
    with explained():
        settings = Settings()
        engine = unpooled(settings.url)
        with engine.connect() as connection:
            report = run_verify(
                connection,
                now=datetime.now(UTC),
                months_ahead=settings.partition_months_ahead if months_ahead is None else months_ahead,
                ignore=settings.verify_ignore,
            )
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2, default=str))
    else:
        render(report, console)
    raise typer.Exit(0 if report.ok else 1)


@app.command()
def repair(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be mended, and do nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put back rights, policies, triggers, functions, comments, ids and counters as the revisions state them.

    For a restored database. All or nothing; tables, columns, constraints and indexes are told and left.
    Exit status: 0 as it should be now, 1 differences are left, 2 could not be mended.
    """
    with explained():
        settings = Settings()
        with unpooled(settings.url).connect() as connection:
            found = run_repair(connection, ignore=settings.verify_ignore)
            if not dry_run:
                connection.commit()
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        for one in found.done:
            typer.echo(f"{one.what}\n    {one.statement}")
        typer.echo(
            f"{'Would be mended' if dry_run else 'Mended'}: {len(found.done)}. Left: {len(found.left)}."
        )
        for line in found.left:
            typer.echo(f"  {line}")
    raise typer.Exit(1 if found.left else 0)


@app.command()
def demo(
    area: Areas = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server running.")] = False,
) -> None:
    """A report sold, a learner's progress and exports, a scene played; on a real PostgreSQL."""
    with explained():
        # Not at the top: what operators run needs neither the demo nor the areas that it shows.
        from carnivore_db.dev.demo import story  # noqa: PLC0415

        ok = story.tell(console, areas=_chosen(area), keep=keep)
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
    docs: Annotated[Path, typer.Option(help="Where the schema reference goes.")] = Path("docs/schema"),
) -> None:
    """Write the catalog snapshots and the schema reference from fresh databases."""
    from carnivore_db.dev import local, snapshots  # noqa: PLC0415

    with explained(), local.server() as server:
        snapshots.write(snapshots.take_all(server), docs)
