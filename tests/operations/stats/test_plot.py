"""The picture: what its figure holds, asked of matplotlib's objects, and a file that is a picture."""

import itertools
import warnings
from datetime import timedelta
from pathlib import Path

import matplotlib.image
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.dates import date2num, num2date

from carnivore_db.operations.stats import plot
from tests.cli.running import run
from tests.operations.stats.looking import CHAT, LOG, NOON, made, read_at
from tests.support.databases import TestDatabase
from tests.support.rows import fill

TODAY = NOON.date()


def charts(stats: object) -> tuple[Axes, Axes, Axes]:
    """Bars of the chat's log, bars of the accesses, lines."""
    chat, accesses, lines = plot.figure(stats).axes  # type: ignore[arg-type]
    return chat, accesses, lines


def labels(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


def test_bars_are_the_partitions(plain_database: TestDatabase) -> None:
    with plain_database.connect(autocommit=True) as connection:
        fill(connection)
    stats = read_at(plain_database)
    for axes, table in zip(charts(stats), (CHAT, LOG), strict=False):
        own = [part for part in stats.partitions if part.table == table]
        assert table in axes.get_title(loc="left")
        assert axes.get_ylabel() == "size (KiB)"
        heights = [bar.get_height() for bar in axes.patches]
        assert heights == pytest.approx([part.bytes / 1024 for part in own])
        shown = dict(zip(axes.get_xticks(), labels(axes), strict=True))
        # All of them, or some where they would stand on each other.
        assert shown.items() <= dict(enumerate(part.label for part in own)).items()
        assert len(shown) >= min(len(own), 12)
        assert same_color(axes.patches[-1].get_facecolor(), "tab:red")
        assert not any(same_color(bar.get_facecolor(), "tab:red") for bar in axes.patches[:-1])
        alarms = [
            label.get_text() for label in axes.get_xticklabels() if same_color(label.get_color(), "tab:red")
        ]
        assert alarms == ["default"]


def test_an_empty_default_partition_is_no_alarm() -> None:
    _, axes, _ = charts(made(3))
    assert same_color(axes.patches[-1].get_facecolor(), "tab:gray")
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["a month", "DEFAULT partition: empty"]


def test_lines_are_the_samples_and_todays_size() -> None:
    samples = [(TODAY - timedelta(days=age), (60 - age) * 2**20) for age in (50, 40, 3, 0)]
    stats = made(12, samples=samples)
    *_, axes = charts(stats)
    (line,) = axes.lines
    assert line.get_label() == LOG
    days = [num2date(day).date() for day in date2num(line.get_xdata())]
    assert days == [day for day, _ in samples]
    now = stats.tables[0].bytes / 2**20
    assert list(line.get_ydata()) == pytest.approx([10, 20, 57, now])
    assert axes.get_ylabel() == "size (MiB)"
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > 1.1 * now


def test_small_tables_are_one_line_together() -> None:
    day = TODAY - timedelta(days=1)
    stats = made(12, samples=[(day, 70 * 2**20)])
    chat = stats.tables[1]
    chat.samples.append((day, 512))
    stats.tables.append(chat)
    *_, axes = charts(stats)
    large, small = axes.lines
    assert (large.get_label(), small.get_label()) == (LOG, "2 smaller tables together")
    assert list(small.get_ydata()) == pytest.approx([2 * 512 / 2**20, 2 * chat.bytes / 2**20])


def test_without_samples_the_picture_says_so() -> None:
    *_, axes = charts(made(2))
    assert not axes.lines
    assert "no sample of an earlier day yet" in axes.texts[0].get_text()


def test_without_partitions_the_picture_says_so() -> None:
    axes, *_ = charts(made(2))
    assert not axes.patches
    assert [text.get_text() for text in axes.texts] == ["no partitions"]


@pytest.mark.parametrize("months", [0, 1, 15, 120])
def test_labels_do_not_overlap_nor_leave_the_picture(months: int) -> None:
    samples = [(TODAY - timedelta(days=age), 2**30) for age in range(60, 0, -1)]
    figure = plot.figure(made(months, default_rows=10_001, samples=samples))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as matplotlib warns of what has no room
        figure.draw_without_rendering()
    whole = figure.bbox
    for axes in figure.axes[1:]:
        ticks = [label for label in axes.get_xticklabels() if label.get_text()]
        legend = axes.get_legend()
        assert legend is not None
        for part in (*ticks, legend, axes.title):
            box = part.get_window_extent()
            assert whole.x0 <= box.x0
            assert box.x1 <= whole.x1
            assert whole.y0 <= box.y0
            assert box.y1 <= whole.y1
        # Slanted labels overlap as boxes: their ends must keep a line's height apart.
        ends = sorted(label.get_window_extent().x1 for label in ticks)
        height = max(label.get_fontsize() for label in ticks) * figure.dpi / 72
        assert all(right - left > height for left, right in itertools.pairwise(ends))
        assert not axes.get_window_extent().overlaps(legend.get_window_extent())
    marked = labels(figure.axes[1])
    assert marked[0] == "default"
    assert len(marked) <= 26


def test_days_are_marked_once() -> None:
    figure = plot.figure(made(2, samples=[(TODAY - timedelta(days=1), 1)]))
    figure.draw_without_rendering()
    assert sorted(labels(figure.axes[2])) == ["2026-11-27", "2026-11-28"]


def test_the_title_names_database_and_time() -> None:
    (title,) = plot.figure(made(1)).texts
    assert title.get_text() == "Database shop[red]$x$, 2026-11-28 12:00 UTC"
    assert not title.get_parse_math()


def test_the_file_is_a_picture_and_not_blank(plain_database: TestDatabase, tmp_path: Path) -> None:
    file = tmp_path / "stats.png"
    file.write_text("old")
    outcome = run("stats", "--plot", str(file), url=plain_database.migrator_url)
    assert outcome.exit_code == 0
    image = matplotlib.image.imread(file)
    height, width, _ = image.shape
    assert (width, height) == (1320, 1122)
    # Every third of it has something else than white.
    for third in range(3):
        part = image[third * height // 3 : (third + 1) * height // 3, :, :3]
        assert 0.001 < (part < 0.9).any(axis=2).mean() < 0.9
    assert [path.name for path in tmp_path.iterdir()] == ["stats.png"]


def test_a_picture_of_another_kind_is_refused(tmp_path: Path) -> None:
    outcome = run("stats", "--plot", str(tmp_path / "stats.svg"))
    assert outcome.exit_code == 2
    assert "the picture is a PNG" in outcome.output


def test_a_write_that_fails_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "stats.png"
    file.write_text("old")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="No space"):
        plot.write(made(1), file)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("stats.png", "old")]
