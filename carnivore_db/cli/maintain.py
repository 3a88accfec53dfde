"""Commands for a scheduler: maintain runs everything, cleanup the retention alone, analyze the statistics."""

import json
from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from carnivore_db.cli.terminal import console, explained, problems
from carnivore_db.database import Database
from carnivore_db.kit.extras import extra
from carnivore_db.operations import maintenance, retention
from carnivore_db.operations.jobs import Registered
from carnivore_db.operations.locks import MAINTENANCE, turn
from carnivore_db.operations.maintenance import Outcome, Step
from carnivore_db.operations.retention import BatchOptions, Due

app = typer.Typer()

Batch = Annotated[
    int | None,
    typer.Option(min=1, max=100_000, help="Rows in a transaction; CARNIVORE_DB_RETENTION_BATCH else."),
]
Pause = Annotated[
    int | None,
    typer.Option(min=0, help="Milliseconds between two batches; CARNIVORE_DB_RETENTION_PAUSE_MS else."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the outcomes as JSON.")]
_STYLES = {"done": "green", "skipped": "yellow", "failed": "bold red"}
_BUSY = "Another run is at work: nothing done."


def _options(db: Database, batch: int | None, pause: int | None) -> BatchOptions:
    settings = db.settings
    waited = settings.retention_pause_ms if pause is None else pause
    return BatchOptions(batch or settings.retention_batch, waited / 1000)


@app.command()
def maintain(batch: Batch = None, pause: Pause = None, as_json: Json = False) -> None:
    """Run everything that is scheduled, in order, and say what it did; for a scheduler, at any time.

    Exit status: 0, also when another run is at work, 1 when a step failed, 2 could not look.
    """
    with explained(), closing(Database()) as db:
        _run(db, maintenance.steps(db, _options(db, batch, pause)), as_json)


@app.command()
def cleanup(
    batch: Batch = None,
    pause: Pause = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what is due, delete nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Delete what is old: the retention part of maintain.

    Exit status: 0, also when another run is at work, 1 when a rule failed, 2 could not look.
    """
    with explained(), closing(Database()) as db:
        if dry_run:
            counted = {rule: retention.count_due(db, rule) for rule in retention.rules(db)}
            if as_json:
                typer.echo(json.dumps({rule.job: asdict(rows) for rule, rows in counted.items()}, indent=2))
            else:
                console.print(_counted(counted))
            return
        names = {rule.job for rule in retention.rules(db)}
        chosen = [step for step in maintenance.steps(db, _options(db, batch, pause)) if step.job in names]
        _run(db, chosen, as_json)


@app.command(name="adopt-files")
def adopt_files(
    location: Annotated[
        list[str] | None,
        typer.Argument(help="Folders or fsspec URLs; the archive's and the exports' when not given."),
    ] = None,
) -> None:
    """Make the files at a location this database's, after a restore that takes the old one's place.

    Not for a copy beside it: that needs locations of its own. Exit status: 0, or 2 when a location cannot be
    written.
    """
    with explained(), closing(Database()) as db:
        with extra("exports"):
            from carnivore_db.kit import storage  # noqa: PLC0415
        configured = (db.settings.archive_location, db.settings.export_location)
        with db.engine.connect() as connection:
            database = storage.database_of(connection)
        for place in location or [place for place in configured if place is not None]:
            storage.Storage(place).adopt(database)
            console.print(f"The files at {place} are this database's now.", markup=False, soft_wrap=True)


def _counted(counted: dict[Registered, Due]) -> Table:
    table = Table("rule", "what goes", "due", "held: not archived")
    for column in table.columns[2:]:
        column.justify = "right"
    for rule, rows in counted.items():
        table.add_row(rule.job, rule.description, f"{rows.due:,}", f"{rows.held:,}" if rows.held else "")
    return table


def _run(db: Database, steps: list[Step], as_json: bool) -> None:
    """Run the steps under the lock, show them, and exit."""
    outcomes: list[Outcome] = []
    with turn(db.engine, MAINTENANCE) as mine:
        if mine is not None:
            with _bars() as progress:
                outcomes = [_shown_running(db, step, progress) for step in steps]
    if as_json:
        found = {"busy": mine is None, "steps": [outcome.to_json() for outcome in outcomes]}
        typer.echo(json.dumps(found, indent=2))
    elif mine is not None:
        console.print(_summary(outcomes))
    else:
        console.print(_BUSY)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        problems.print(f"{outcome.job}: {outcome.problem}", style="red", markup=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def _bars() -> Progress:
    """A line for the step that runs, with a bar where it is known how much there is; gone at the end."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=problems, transient=True)


def _shown_running(db: Database, step: Step, progress: Progress) -> Outcome:
    task = progress.add_task(step.title, total=None)

    def on_progress(done: int, total: int | None) -> None:
        progress.update(task, completed=done, total=total)

    outcome = maintenance.run(db, step, on_progress)
    progress.remove_task(task)
    return outcome


def _summary(outcomes: list[Outcome]) -> Table:
    table = Table("step", "outcome", "what it did", "seconds")
    table.columns[3].justify = "right"
    for outcome in outcomes:
        did = ", ".join(f"{count:,} {what}" for what, count in outcome.did.items())
        if outcome.status == "skipped":
            did = outcome.problem or ""
        status = Text(outcome.status, style=_STYLES[outcome.status])
        table.add_row(outcome.job, status, did, f"{outcome.seconds:.2f}")
    return table


@app.command()
def analyze() -> None:
    """Renew the statistics that queries are planned by, of every table of ours."""
    with explained(), closing(Database()) as db, console.status("ANALYZE") as status:
        number = maintenance.analyze(db.engine, lambda name: status.update(f"ANALYZE {name}"))
    console.print(f"Analyzed: {number} tables.")
