"""Show the statistics on a terminal: tables, a bar for each partition, jobs, and what needs attention."""

from datetime import UTC

from rich.bar import Bar
from rich.console import Console, RenderableType
from rich.table import Column, Table
from rich.text import Text

from carnivore_db.operations.stats.alerts import alerts, at_most
from carnivore_db.operations.stats.read import HORIZON, Growth, Partition, Stats
from carnivore_db.operations.stats.units import readable

# The longest bar, and the shortest: a narrow terminal has shorter ones.
_WIDEST = 60
_SHORTEST = 8
# A size as text, and what stands between four columns.
_SIZE = 10
_BETWEEN = 6
_KINDS = {"addresses": "by their addresses", "burst": "by a burst", "after_end": "by opens after their end"}


def render(stats: Stats, console: Console) -> None:
    """Print them. Text from the database is printed as it is, never as markup."""
    console.print(
        Text(f"Database {stats.database}, {stats.taken_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC", style="bold")
    )
    _sizes(stats, console)
    for months in stats.months:
        found = [partition for partition in stats.partitions if partition.table == months.table]
        ahead = "none" if months.ahead < 1 else f"{months.ahead}{' or more' * (months.ahead == HORIZON)}"
        _chart(f"{months.table}: {len(found)} partitions, months ahead: {ahead}", found, console)
    _jobs(stats, console)
    _alerts(stats, console)


def _sizes(stats: Stats, console: Console) -> None:
    shown = Table(
        Column("table", overflow="fold"),
        Column("rows, est.", justify="right", no_wrap=True),
        Column("size", justify="right", no_wrap=True),
        Column("growth/day", justify="right", no_wrap=True),
        Column("over", justify="right", no_wrap=True),
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for table in stats.tables:
        rows = "unknown" if table.rows_estimated is None else f"{table.rows_estimated:,}"
        days = f"{table.growth.days} d" if table.growth else ""
        shown.add_row(Text(table.name), rows, readable(table.bytes), _growth(table.growth), days)
    console.print(shown)


def _growth(growth: Growth | None) -> str:
    if growth is None:
        return "no sample yet"
    a_day = growth.bytes_per_day
    return f"{'+' if a_day > 0 else ''}{readable(a_day)}"


def _chart(title: str, partitions: list[Partition], console: Console) -> None:
    console.print()
    console.print(Text(title, style="bold"))
    rows = [_rows(partition) for partition in partitions]
    labels = [partition.label for partition in partitions]
    beside = max(map(len, ("month", *labels))) + _SIZE + max(map(len, ("rows, est.", *rows))) + _BETWEEN
    width = max(_SHORTEST, min(_WIDEST, console.width - beside))
    largest = max((partition.bytes for partition in partitions), default=0)
    shown = Table(
        Column("month", no_wrap=True),
        Column("", width=width),
        Column("size", justify="right", no_wrap=True),
        Column("rows, est.", justify="right", no_wrap=True),
        box=None,
        pad_edge=False,
        header_style="dim",
    )
    for partition, number in zip(partitions, rows, strict=True):
        style = "bold red" if partition.rows else ""
        bar = _bar(partition, largest, width, console)
        shown.add_row(Text(partition.label, style), bar, readable(partition.bytes), Text(number, style))
    console.print(shown)


def _rows(partition: Partition) -> str:
    if partition.rows is not None:
        return at_most(partition.rows)
    return "" if partition.rows_estimated is None else f"{partition.rows_estimated:,}"


def _bar(partition: Partition, largest: int, width: int, console: Console) -> RenderableType:
    colour = "red" if partition.rows else "cyan"
    if console.options.ascii_only:
        return Text("#" * round(width * partition.bytes / largest), style=colour)
    return Bar(largest, 0, partition.bytes, width=width, color=colour)


def _jobs(stats: Stats, console: Console) -> None:
    console.print()
    if stats.jobs:
        shown = Table(
            Column("job", overflow="fold"),
            Column("expected every", justify="right"),
            Column("last succeeded (UTC)", justify="right"),
            "state",
            box=None,
            pad_edge=False,
            header_style="bold",
        )
        for job in stats.jobs:
            last = job.last_succeeded_at
            states = ["failed"] * (job.last_error is not None) + ["overdue"] * job.overdue
            shown.add_row(
                Text(job.name),
                job.every,
                f"{last.astimezone(UTC):%Y-%m-%d %H:%M}" if last else "never",
                Text(", ".join(states) or "ok", style="bold red" if states else "green"),
            )
        console.print(shown)
    if stats.pending is not None:
        console.print(f"Access deltas pending: {at_most(stats.pending)}.", highlight=False)
    if stats.unusual:
        kinds = ", ".join(f"{count:,} {_KINDS[kind]}" for kind, count in stats.unusual.items())
        console.print(f"Reports unusual within {stats.unusual_days} days: {kinds}.", highlight=False)


def _alerts(stats: Stats, console: Console) -> None:
    found = alerts(stats)
    if not found:
        console.print("Nothing needs attention.", style="green")
    for alert in found:
        line = Text(f"{alert.code} {alert.subject}: {alert.detail}", style="bold red")
        console.print(line, soft_wrap=True)
