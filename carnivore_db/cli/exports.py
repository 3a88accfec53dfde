"""Commands about learners' exports: work, list, expire."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, timedelta
from types import ModuleType
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Column, Table

from carnivore_db import identity
from carnivore_db.cli.terminal import bars, console, explained, problems
from carnivore_db.database import Database
from carnivore_db.kit.extras import extra
from carnivore_db.vocabulary import exports
from carnivore_db.vocabulary.models import Export, ExportStatus

app = typer.Typer(help="Learners' exports.", no_args_is_help=True)

Location = Annotated[
    str | None, typer.Option(help="A folder or fsspec URL; CARNIVORE_DB_EXPORT_LOCATION when not given.")
]


@app.command()
def work(
    location: Location = None,
    lease: Annotated[
        int | None, typer.Option(min=30, max=86_400, help="Seconds of silence that make a worker lost.")
    ] = None,
    max_retries: Annotated[
        int | None, typer.Option(min=0, max=100, help="How often a lost export is retaken.")
    ] = None,
    wait: Annotated[
        int | None, typer.Option(min=1, help="Look again after so many seconds, for ever; else end.")
    ] = None,
) -> None:
    """Make the files of the exports that wait; any number of workers may run.

    Exit status: 0, or 1 when an export failed, 2 could not look.
    """
    failed = 0
    with explained(), _stopped_cleanly(), closing(Database()) as db:
        worker = _worker()
        storage = worker.Storage(location or db.settings.export_location)
        options: dict[str, Any] = {
            "lease": timedelta(seconds=lease or db.settings.export_lease_seconds),
            "max_retries": db.settings.export_max_retries if max_retries is None else max_retries,
        }
        while True:
            with bars() as progress:
                shown = _Shown(progress)
                for outcome in worker.work(db, storage, on_progress=shown, **options):
                    failed += outcome.status == "failed"
                    shown.finish(outcome.export, outcome.status)
            if wait is None:
                break
            time.sleep(wait)
    raise typer.Exit(1 if failed else 0)


@contextmanager
def _stopped_cleanly() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: what is half written is removed, and the export is another
    worker's after its lease."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Shown:
    """A bar for the export that is being made, and a line when it is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar: TaskID | None = None

    def __call__(self, export: Export, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = self._progress.add_task(_title(export))
        self._progress.update(self._bar, completed=done, total=total)

    def finish(self, export: Export, status: str) -> None:
        if self._bar is not None:
            self._progress.remove_task(self._bar)
            self._bar = None
        line = _line(export, status)
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _title(export: Export) -> str:
    return f"{export.export_type} {export.id}"


def _line(export: Export, status: str) -> str:
    if status == "completed":
        return (
            f"{_title(export)}: {export.records_count} records, {export.file_size_bytes} bytes,"
            f" {export.processing_time_seconds} s: {export.file_url}"
        )
    return f"{_title(export)}: {status}" + (f", {export.error_message}" if status == "failed" else "")


@app.command(name="list")
def list_(
    status: Annotated[ExportStatus | None, typer.Option(help="Of this state only.")] = None,
    learner: Annotated[UUID | None, typer.Option("--user", help="Of this learner only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show exports, newest first, with their progress."""
    with explained(), closing(Database()) as db, db.transaction(identity.service()) as tx:
        if learner is None:
            found = exports.list_by_status(tx, status, limit=limit)
        else:
            found = exports.list_by_user(tx, learner, status=status, limit=limit)
    if as_json:
        columns = Export.__table__.columns.keys()
        rows = [{column: getattr(export, column) for column in columns} for export in found]
        typer.echo(json.dumps(rows, indent=2, default=str))
        return
    table = Table(
        Column("id", no_wrap=True, min_width=36),
        "learner",
        "type",
        "status",
        "records",
        "bytes",
        "retries",
        "asked (UTC)",
        "outcome",
    )
    for export in found:
        whole = export.data.get("total")
        records = "" if export.records_count is None else str(export.records_count)
        if export.status == "processing" and whole is not None:
            records = f"{export.data.get('done')} of {whole}"
        table.add_row(
            str(export.id),
            str(export.user_id),
            export.export_type,
            export.status,
            records,
            str(export.file_size_bytes or ""),
            str(export.retry_count),
            f"{export.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            escape((export.error_message if export.status == "failed" else export.file_url) or ""),
        )
    console.print(table)


@app.command()
def expire() -> None:
    """Delete files whose time has come, with their URLs, and those that no export has any more.

    Exit status: 0, or 1 when a file could not be deleted, 2 could not look.
    """
    with explained(), closing(Database()) as db:
        worker = _worker()
        with console.status("Deleting expired files"):
            result = worker.expire(db)
    console.print(f"Exports expired: {result.exports}. Files of no export deleted: {result.abandoned}.")
    for name, why in result.failed.items():
        problems.print(f"{name}: {why}", style="red", markup=False, soft_wrap=True)
    raise typer.Exit(1 if result.failed else 0)


def _worker() -> ModuleType:
    with extra("exports"):
        from carnivore_db.vocabulary.exports import worker  # noqa: PLC0415
    return worker
