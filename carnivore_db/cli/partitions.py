"""Commands about partitions: what would be done and why, and doing it."""

import json
from contextlib import closing
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from carnivore_db.cli.terminal import bars, console, explained, problems
from carnivore_db.database import Database
from carnivore_db.operations.partitions.apply import Outcome, apply, statements
from carnivore_db.operations.partitions.plan import Action, Policy, plan

app = typer.Typer(help="Partitions by month.", no_args_is_help=True)

Ahead = Annotated[
    int | None,
    typer.Option(
        min=1, max=24, help="Months beyond this one; CARNIVORE_DB_PARTITION_MONTHS_AHEAD if not given."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(name="plan")
def show(
    as_json: AsJson = False,
    as_sql: Annotated[bool, typer.Option("--sql", help="Print the SQL that would do it.")] = False,
    months_ahead: Ahead = None,
) -> None:
    """Show which months `apply` would make, and why; changes nothing.

    Exit status: 0, or 2 when it could not look.
    """
    if as_json and as_sql:
        raise typer.BadParameter("either --json or --sql")
    with explained(), closing(Database()) as db, db.engine.connect() as connection:
        actions = plan(connection, Policy.of(db.settings, months_ahead))
    if as_json:
        typer.echo(json.dumps([action.to_json() for action in actions], indent=2))
    elif as_sql:
        for action in actions:
            told = f"-- {action.partition}: {action.kind}, {action.reason}"
            typer.echo(statements(action, db.settings.partition_lock_timeout_ms) if action.doable else told)
    elif actions:
        console.print(_table(actions))
    else:
        console.print("Nothing to do.")


@app.command(name="apply")
def run(as_json: AsJson = False, months_ahead: Ahead = None) -> None:
    """Make the months that are missing, and move rows of the DEFAULT partitions into theirs.

    Safe at any time, beside writers and beside itself.
    Exit status: 0 done, or another run is at work; 1 a month could not be made; 2 could not look.
    """
    with explained(), closing(Database()) as db, bars() as progress:
        task = progress.add_task("Partitions", total=None, visible=not as_json)

        def step(action: Action, number: int, total: int) -> None:
            progress.update(task, completed=number, total=total, description=action.partition)

        outcome = apply(
            db.engine,
            policy=Policy.of(db.settings, months_ahead),
            lock_timeout_ms=db.settings.partition_lock_timeout_ms,
            on_step=step,
        )
        whole = progress.tasks[task].total or 1
        progress.update(task, completed=whole, total=whole, description="Partitions")
    if as_json:
        typer.echo(json.dumps(summary(outcome), indent=2))
    elif outcome.busy:
        console.print("Another run is at work; nothing done.")
    else:
        for action in outcome.done:
            console.print(_line(action), highlight=False, soft_wrap=True)
        for action in outcome.left:
            console.print(f"{action.partition}: {action.reason}", highlight=False, soft_wrap=True)
        moved = sum(action.rows for action in outcome.done)
        console.print(f"Partitions made: {len(outcome.done) or 'none missing'}. Rows moved: {moved:,}.")
    for name, problem in outcome.failed.items():
        problems.print(f"{name}: {problem}", style="red", markup=False, soft_wrap=True)
    raise typer.Exit(1 if outcome.failed else 0)


def summary(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain data for `json.dumps`."""
    return {
        "busy": outcome.busy,
        "done": [action.to_json() for action in outcome.done],
        "failed": {name: str(problem) for name, problem in outcome.failed.items()},
        "left": [action.to_json() for action in outcome.left],
    }


def _line(action: Action) -> str:
    moved = f", {action.rows:,} moved" if action.rows else ""
    return f"{action.partition}: {action.reason}{moved}"


def _table(actions: list[Action]) -> Table:
    table = Table("table", "month", "what", "why", Column("rows", justify="right"))
    for action in actions:
        month = f"{action.month:%Y-%m}" if action.month else ""
        rows = f"{action.rows:,}" if action.rows else ""
        table.add_row(action.table, month, action.kind, action.reason, rows)
    return table
