"""Commands about money: what Stripe's events and the reports say of each other."""

import json
from contextlib import closing
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table

from carnivore_db import identity
from carnivore_db.cli.terminal import console, explained
from carnivore_db.database import Database
from carnivore_db.weekly import payments

app = typer.Typer(help="Payments of Carnivore Weekly.", no_args_is_help=True)


@app.command()
def reconcile(
    days: Annotated[int, typer.Option(min=1, max=36_500, help="Sessions that began so many days ago.")] = 30,
    include_test: Annotated[bool, typer.Option("--include-test", help="Test data too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what needs a hand: paid without report, report without payment, events that did not count.

    Exit status: 0 nothing does, 1 something does, 2 could not look.
    """
    with explained(), closing(Database()) as db, db.transaction(identity.service()) as tx:
        found = payments.reconcile(tx, within=timedelta(days=days), include_test=include_test)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        table = Table("what", "which")
        for target in found.paid_without_report:
            table.add_row("paid without report", f"{target.table} {target.key}")
        for report in found.report_without_payment:
            table.add_row("report without payment", str(report))
        for event in found.unsettled_events:
            table.add_row(f"event: {event.outcome}", f"{event.id} {event.type} {event.error or ''}".rstrip())
        console.print(table if table.row_count else "Nothing needs a hand.")
    raise typer.Exit(1 if any(asdict(found).values()) else 0)
