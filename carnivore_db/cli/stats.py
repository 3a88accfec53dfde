"""The command that shows how large the tables are, how they grow, and what needs attention."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from carnivore_db.cli.terminal import COULD_NOT_LOOK, console, explained, problems
from carnivore_db.connection.requirements import unpooled
from carnivore_db.kit.extras import extra
from carnivore_db.operations.stats.alerts import alerts
from carnivore_db.operations.stats.read import Stats, read
from carnivore_db.operations.stats.render import render
from carnivore_db.settings import Settings

app = typer.Typer()


def _picture(path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() != ".png":
        raise typer.BadParameter("the picture is a PNG: give it a name that ends in .png")
    return path


@app.command()
def stats(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Write a picture (PNG) of it.", callback=_picture, dir_okay=False)
    ] = None,
    prometheus: Annotated[
        Path | None,
        typer.Option(help="Write Prometheus text, for node_exporter's textfile collector.", dir_okay=False),
    ] = None,
) -> None:
    """Show sizes, growth, partitions, jobs and unusual accesses; read-only, safe on production.

    DATABASE_URL is the migrating role's. Exit status: 0 all well, 1 something needs attention (rows in a
    DEFAULT partition, a month ahead without partition, a job overdue or failed, unusual accesses), 2 could
    not look or not write.
    """
    with explained():
        settings = Settings()
        engine = unpooled(settings.url)
        with engine.connect() as connection:
            seen = read(connection, settings, now=datetime.now(UTC))
        if plot is not None:
            with extra("operations"):
                from carnivore_db.operations.stats import plot as picture  # noqa: PLC0415

            _write(picture.write, seen, plot)
        if prometheus is not None:
            with extra("operations"):
                from carnivore_db.operations.stats import prometheus as textfile  # noqa: PLC0415

            _write(textfile.write, seen, prometheus)
    if as_json:
        typer.echo(json.dumps(_plain(seen), indent=2, default=_text))
    else:
        render(seen, console)
    raise typer.Exit(1 if alerts(seen) else 0)


def _write(write: Callable[[Stats, Path], None], seen: Stats, path: Path) -> None:
    try:
        write(seen, path)
    except OSError as error:
        problems.print(f"{path}: {error.strerror}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(COULD_NOT_LOOK) from None


def _plain(seen: Stats) -> dict[str, Any]:
    """Everything but the samples, which the picture shows; `growth` is made of them."""
    found = asdict(seen)
    for table, plain in zip(seen.tables, found["tables"], strict=True):
        del plain["samples"]
        if table.growth is not None:
            plain["growth"]["bytes_per_day"] = round(table.growth.bytes_per_day)
    attention = [asdict(alert) for alert in alerts(seen)]
    return {"ok": not attention, "alerts": attention, **found}


def _text(value: object) -> object:
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    raise TypeError(type(value).__name__)
