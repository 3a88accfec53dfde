"""Commands about cold storage: run, list, verify, restore."""

import json
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from types import ModuleType
from typing import Annotated, Any

import typer
from rich.progress import Progress, TaskID
from rich.table import Table
from sqlalchemy import Connection, text

from carnivore_db.cli.terminal import bars, console, explained, problems
from carnivore_db.database import Database
from carnivore_db.kit.extras import extra

app = typer.Typer(help="Old months in cold storage.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Location = Annotated[
    str | None, typer.Option(help="A folder or fsspec URL; CARNIVORE_DB_ARCHIVE_LOCATION when not given.")
]
TABLES = {
    "report_access_log": "public.report_access_log",
    "public.report_access_log": "public.report_access_log",
    "logs": "conversation.logs",
    "conversation.logs": "conversation.logs",
}
_LIST = text("""
    SELECT parent AS table, to_char(month, 'YYYY-MM') AS month, part,
        CASE WHEN detached_at IS NULL THEN 'begun' WHEN dropped_at IS NULL THEN 'detached'
            WHEN EXISTS (SELECT FROM pg_inherits WHERE inhrelid = restored_as) THEN 'restored'
            ELSE 'archived' END AS state,
        rows, bytes_before, bytes_after, begun_at, detached_at, dropped_at, keep_until, sha256, file_url
    FROM carnivore.archived_partitions ORDER BY parent, month, part
""")


class _Shown:
    """A bar for the step that is being taken."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar: TaskID | None = None
        self._title = ""

    def __call__(self, step: Any) -> None:
        title = f"{step.name}: {step.what}"
        if title != self._title and self._bar is not None:
            self._progress.remove_task(self._bar)
            self._bar = None
        if self._bar is None:
            self._bar = self._progress.add_task(title, total=None)
            self._title = title
        self._progress.update(self._bar, completed=step.done, total=step.total or None)


@contextmanager
def _progress(as_json: bool) -> Iterator[Any]:
    """Called with each step; JSON stands alone."""
    if as_json:
        yield lambda step: None
        return
    with bars() as progress:
        yield _Shown(progress)


@app.command()
def run(
    location: Location = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is due, and do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Archive the months that are old enough, and finish what an earlier run began; safe at any time.

    Exit status: 0 (also when another run is at work), 1 when a month could not be archived, 2 could not look.
    """
    now = datetime.now(UTC)
    with explained(), closing(Database()) as db:
        archive, settings = _module("archive"), db.settings
        options: dict[str, Any] = {
            "now": now,
            "access_log_after_days": settings.archive_access_log_after_days,
            "logs": settings.archive_logs,
        }
        location = location or settings.archive_location
        if dry_run:
            with db.engine.connect() as connection:
                due = archive.due(connection, **options)
            _say_due(due, location, as_json)
            return
        with _progress(as_json) as on_step:
            outcome = archive.archive_due(
                db.engine,
                location,
                lock_timeout_ms=settings.partition_lock_timeout_ms,
                on_step=on_step,
                **options,
            )
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "busy": outcome.busy,
                    "archived": [vars(done) for done in outcome.done],
                    "waiting": outcome.waiting,
                    "failed": {name: str(error) for name, error in outcome.failed.items()},
                },
                indent=2,
            )
        )
    else:
        _say(outcome, location)
    raise typer.Exit(1 if outcome.failed else 0)


def _say(outcome: Any, location: str | None) -> None:
    if outcome.busy:
        console.print("Another run is at work; nothing was done.")
        return
    for done in outcome.done:
        console.print(
            f"{done.name}: {done.rows:,} rows, {_size(done.bytes_before)} in the database,"
            f" {_size(done.bytes_after)} in {done.file_url}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if location is None:
        console.print("CARNIVORE_DB_ARCHIVE_LOCATION is not set: nothing is archived.", soft_wrap=True)
    if outcome.waiting:
        console.print(f"Old enough, and still there: {', '.join(outcome.waiting)}.", soft_wrap=True)
    elif location is not None and not outcome.done and not outcome.failed:
        console.print("No month is old enough.")
    for name, error in outcome.failed.items():
        problems.print(f"{name}: {error}", style="red", markup=False, soft_wrap=True)


def _say_due(due: list[Any], location: str | None, as_json: bool) -> None:
    if as_json:
        found = [{"name": one.name, "table": one.parent, "bytes": one.bytes} for one in due]
        typer.echo(json.dumps({"location": location, "due": found}, indent=2))
        return
    table = Table("month", "size", title="Due for the archive")
    for one in due:
        table.add_row(one.name, _size(one.bytes))
    console.print(table)
    if location is None:
        console.print("CARNIVORE_DB_ARCHIVE_LOCATION is not set: nothing is archived.", soft_wrap=True)


@app.command(name="list")
def list_(as_json: Json = False) -> None:
    """Show what is in the archive, with its size before and after."""
    with explained(), closing(Database()) as db, db.engine.connect() as connection:
        found = _ledger(connection)
    if as_json:
        typer.echo(json.dumps(found, indent=2, default=str))
        return
    table = Table("table", "month", "part", "state", "rows", "before", "after", "archived (UTC)", "file")
    for row in found:
        dropped = row["dropped_at"]
        table.add_row(
            row["table"],
            row["month"],
            str(row["part"]),
            row["state"],
            "" if row["rows"] is None else f"{row['rows']:,}",
            _size(row["bytes_before"]),
            _size(row["bytes_after"]),
            f"{dropped.astimezone(UTC):%Y-%m-%d %H:%M}" if dropped else "",
            row["file_url"],
        )
    before, after = (
        sum(row[name] or 0 for row in found if row["dropped_at"]) for name in ("bytes_before", "bytes_after")
    )
    table.caption = f"{_size(before)} before, {_size(after)} after"
    console.print(table)


def _ledger(connection: Connection) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(_LIST).mappings()]


@app.command()
def verify(as_json: Json = False) -> None:
    """Read every file of the archive again and compare it with its manifest and the ledger.

    Exit status: 0 all as they should be, 1 differences, 2 could not look.
    """
    found = []
    with explained(), closing(Database()) as db, _progress(as_json) as on_step:
        for part, problem in _module("archive").verify(db.engine, on_step):
            found.append({"file": part.file_url, "rows": part.rows, "problem": problem and str(problem)})
    bad = [one for one in found if one["problem"]]
    if as_json:
        typer.echo(json.dumps({"ok": not bad, "files": found}, indent=2))
    else:
        console.print(f"Files read: {len(found)}. Not as they should be: {len(bad)}.")
        for one in bad:
            problems.print(f"{one['file']}: {one['problem']}", style="red", markup=False, soft_wrap=True)
    raise typer.Exit(1 if bad else 0)


@app.command()
def restore(
    table: Annotated[str, typer.Argument(help="report_access_log or logs.")],
    month: Annotated[str, typer.Argument(help="YYYY-MM.")],
    keep_days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="How long the archive leaves it alone.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring a month back as a partition, the same as it was.

    Exit status: 0, or 2 when it could not be done; nothing has changed then.
    """
    with explained(), closing(Database()) as db:
        if table not in TABLES:
            raise typer.BadParameter("the archive knows report_access_log and logs")
        if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", month) or month.startswith("0000"):
            raise typer.BadParameter("a month is written YYYY-MM")
        with _progress(as_json) as on_step:
            done = _module("restore").restore(
                db.engine,
                TABLES[table],
                date.fromisoformat(f"{month}-01"),
                now=datetime.now(UTC),
                keep=timedelta(days=keep_days or db.settings.archive_restore_days),
                lock_timeout_ms=db.settings.partition_lock_timeout_ms,
                on_step=on_step,
            )
    if as_json:
        typer.echo(json.dumps(vars(done), indent=2, default=str))
        return
    console.print(
        f"{done.name}: {done.rows:,} rows are back until {done.keep_until:%Y-%m-%d};"
        f" left out, for what they belonged to is gone: {done.left_out:,};"
        f" had come late: {done.came_late:,}.",
        soft_wrap=True,
    )


def _size(number: int | None) -> str:
    if number is None:
        return ""
    for unit, power in (("GB", 30), ("MB", 20), ("kB", 10)):
        if number >= 2**power:
            return f"{number / 2**power:.1f} {unit}"
    return f"{number} B"


def _module(name: str) -> ModuleType:
    with extra("operations"):
        from carnivore_db.operations.archive import restore, run  # noqa: PLC0415
    return {"archive": run, "restore": restore}[name]
