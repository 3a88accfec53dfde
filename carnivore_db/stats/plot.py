"""The statistics as a picture: the size of each partition, and how the tables grew."""

import os
from datetime import UTC
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from carnivore_db.stats.alerts import at_most
from carnivore_db.stats.read import Partition, Stats
from carnivore_db.stats.units import unit

# Lines that can still be told apart.
_LINES = 6
# Labels that find room below the bars.
_LABELS = 26
_MONTH, _DEFAULT, _ALARM = "tab:blue", "tab:gray", "tab:red"


def write(stats: Stats, path: Path) -> None:
    """Write a PNG at once: whoever reads it sees the old one or the new. Raises OSError."""
    image = BytesIO()
    figure(stats).savefig(image, format="png")
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(image.getvalue())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def figure(stats: Stats) -> Figure:
    """One row of bars for each partitioned table, and a last row of lines."""
    charts = len(stats.months) + 1
    made = Figure(figsize=(12, 3.2 * charts + 0.6), dpi=110, layout="constrained")
    FigureCanvasAgg(made)
    made.suptitle(f"Database {stats.database}, {stats.taken_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
    *bars, lines = made.subplots(charts, squeeze=False)[:, 0]
    for axes, months in zip(bars, stats.months, strict=True):
        _bars(axes, months.table, [part for part in stats.partitions if part.table == months.table])
    _lines(lines, stats)
    return made


def _bars(axes: Axes, table: str, partitions: list[Partition]) -> None:
    axes.set_title(f"{table}: size by month", loc="left")
    if not partitions:
        _say(axes, "no partitions")
        return
    divisor, name = unit(max(part.bytes for part in partitions))
    colours = [_MONTH if part.rows is None else _ALARM if part.rows else _DEFAULT for part in partitions]
    places = range(len(partitions))
    axes.bar(places, [part.bytes / divisor for part in partitions], color=colours)
    axes.set_ylabel(f"size ({name})")
    step = -(-len(partitions) // _LABELS)
    # From the last one backwards: DEFAULT keeps its label.
    labelled = list(places)[::-step]
    axes.set_xticks(labelled, [partitions[place].label for place in labelled], rotation=45, ha="right")
    axes.set_xlim(-0.8, len(partitions) - 0.2)
    _from_zero(axes)
    meanings = [Patch(color=_MONTH, label="a month")]
    for part in partitions:
        if part.rows is not None:
            held = f"{at_most(part.rows)} rows" if part.rows else "empty"
            meanings.append(
                Patch(color=_ALARM if part.rows else _DEFAULT, label=f"DEFAULT partition: {held}")
            )
    axes.legend(handles=meanings, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)


def _lines(axes: Axes, stats: Stats) -> None:
    axes.set_title("Size of the largest tables over time", loc="left")
    today = stats.taken_at.astimezone(UTC).date()
    shown = [table for table in stats.tables if any(day < today for day, _ in table.samples)][:_LINES]
    if not shown:
        _say(axes, "no sample of an earlier day yet: `carnivore-db maintain` takes one a day")
        return
    divisor, name = unit(max(size for table in shown for _, size in (*table.samples, (today, table.bytes))))
    for table in shown:
        points = [*(sample for sample in table.samples if sample[0] < today), (today, table.bytes)]
        days, sizes = zip(*points, strict=True)
        axes.plot(days, [size / divisor for size in sizes], marker=".", markersize=4, label=table.name)
    axes.set_ylabel(f"size ({name})")
    axes.set_xlabel("day (UTC)")
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    _from_zero(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)


def _from_zero(axes: Axes) -> None:
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _say(axes: Axes, what: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, what, ha="center", va="center", transform=axes.transAxes)
