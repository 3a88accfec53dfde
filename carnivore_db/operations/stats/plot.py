"""The statistics as a picture: the size of each partition, and how the tables grew."""

import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from carnivore_db.operations.stats.alerts import at_most
from carnivore_db.operations.stats.read import Partition, Stats, Table
from carnivore_db.operations.stats.units import readable, unit

T = TypeVar("T")

# Lines that can be told apart, and how large a part of the largest table a table is that has one.
_LINES = 6
_VISIBLE = 0.03
# So many bars have room for a month below each, and so many for a size above; so many days below lines.
_LABELS = 26
_SIZES = 18
_DAYS = 8
# A single bar is not as wide as the picture.
_ROOM = 6
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
    title = f"Database {stats.database}, {stats.taken_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    made.suptitle(title, parse_math=False)
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
    largest = max(part.bytes for part in partitions)
    divisor, name = unit(largest)
    colours = [_MONTH if part.rows is None else _ALARM if part.rows else _DEFAULT for part in partitions]
    places = range(len(partitions))
    bars = axes.bar(places, [part.bytes / divisor for part in partitions], color=colours)
    if len(partitions) <= _SIZES:
        axes.bar_label(bars, [readable(part.bytes) for part in partitions], padding=2, fontsize=7)
    axes.set_ylabel(f"size ({name})")
    labelled = _thinned(places, _LABELS)
    axes.set_xticks(labelled, [partitions[place].label for place in labelled], rotation=45, ha="right")
    for place, label in zip(labelled, axes.get_xticklabels(), strict=True):
        if partitions[place].rows:
            label.set_color(_ALARM)  # the bar may be too small to be seen
    axes.set_xlim(-0.8, max(len(partitions), _ROOM) - 0.2)
    _from_zero(axes, largest / divisor)
    meanings = [Patch(color=_MONTH, label="a month")] if _MONTH in colours else []
    for part in partitions:
        if part.rows is not None:
            held = f"{at_most(part.rows)} rows" if part.rows else "empty"
            meanings.append(
                Patch(color=_ALARM if part.rows else _DEFAULT, label=f"DEFAULT partition: {held}")
            )
    axes.legend(handles=meanings, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)


def _lines(axes: Axes, stats: Stats) -> None:
    axes.set_title("Size of the tables over time", loc="left")
    today = stats.taken_at.astimezone(UTC).date()
    lines = {name: dict(sizes) for name, sizes in _histories(stats.tables, today).items() if len(sizes) > 1}
    if not lines:
        _say(axes, "no sample of an earlier day yet: `carnivore-db maintain` takes one a day")
        return
    largest = max(size for sizes in lines.values() for size in sizes.values())
    divisor, name = unit(largest)
    for label, sizes in lines.items():
        days = sorted(sizes)
        heights = [sizes[day] / divisor for day in days]
        axes.plot(days, heights, marker=".", markersize=4, label=label)  # type: ignore[arg-type]
    axes.set_ylabel(f"size ({name})")
    axes.set_xlabel("day (UTC)")
    marked = sorted({day for sizes in lines.values() for day in sizes})
    axes.set_xticks(_thinned(marked, _DAYS))  # type: ignore[arg-type]
    axes.xaxis.set_major_formatter(DateFormatter("%Y-%m-%d"))  # type: ignore[no-untyped-call]
    _from_zero(axes, largest / divisor)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)


def _histories(tables: list[Table], today: date) -> dict[str, Counter[date]]:
    """The bytes of each large table day by day, and of the small ones together; today's as they are now."""
    large = [table for table in tables[:_LINES] if table.bytes >= _VISIBLE * tables[0].bytes]
    found: dict[str, Counter[date]] = {}
    for table in tables:
        name = table.name if table in large else f"{len(tables) - len(large)} smaller tables together"
        found.setdefault(name, Counter()).update({**dict(table.samples), today: table.bytes})
    return found


def _thinned(marks: Sequence[T], room: int) -> Sequence[T]:
    """Every n-th of them, so that `room` is enough; from the last backwards, so that the last is there."""
    step = max(1, -(-len(marks) // room))
    return marks[::-1][::step]


def _from_zero(axes: Axes, top: float) -> None:
    # Room above, where sizes are written.
    axes.set_ylim(0, 1.12 * top)
    axes.grid(axis="y", alpha=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _say(axes: Axes, what: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, what, ha="center", va="center", transform=axes.transAxes)
