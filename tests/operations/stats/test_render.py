"""The terminal chart: a bar for each partition, whatever the terminal is and however many there are."""

import io
from datetime import timedelta

import pytest
from rich.console import Console

from carnivore_db.operations.stats.read import Growth, Months
from carnivore_db.operations.stats.render import render
from carnivore_db.operations.stats.units import readable
from tests.cli.running import run
from tests.operations.stats.looking import LOG, NOON, made
from tests.support import reports
from tests.support.databases import TestDatabase

FULL, HALF = "█", "▌"


def shown(stats: object, width: int = 80, encoding: str = "utf-8") -> list[str]:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    render(stats, Console(file=file, width=width))  # type: ignore[arg-type]
    return raw.getvalue().decode(encoding).splitlines()


def chart(lines: list[str]) -> list[str]:
    """The lines below the headings of the accesses' chart."""
    start = next(place for place, line in enumerate(lines) if line.startswith(f"{LOG}: "))
    rest = lines[start + 2 :]
    return rest[: rest.index("")]


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("months", [0, 1, 15, 120])
def test_every_partition_has_a_line_that_fits(months: int, width: int) -> None:
    lines = shown(made(months), width)
    bars = chart(lines)
    assert len(bars) == months + 1
    assert max(map(len, bars)) <= width
    labels = [line.split()[0] for line in bars]
    assert labels == [part.label for part in made(months).partitions]


def test_bars_are_as_long_as_the_partitions_are_large() -> None:
    bars = chart(shown(made(8), 80))
    lengths = [line.count(FULL) for line in bars]
    whole = lengths[7]
    assert whole >= 20
    for number, length in enumerate(lengths[:8]):
        assert abs(length - whole * (number + 1) / 8) <= 1
    assert lengths[8] == 0
    assert [line.split()[-3:-1] for line in bars[:2]] == [["1.0", "MiB"], ["2.0", "MiB"]]


def test_a_terminal_without_blocks_gets_number_signs() -> None:
    lines = shown(made(8), 80, encoding="ascii")
    lengths = [line.count("#") for line in chart(lines)]
    assert lengths[3] == pytest.approx(lengths[7] / 2, abs=1)
    assert lengths[7] >= 20
    assert lengths[8] == 0


def test_rows_without_a_month_are_marked() -> None:
    raw = io.StringIO()
    console = Console(file=raw, width=100, force_terminal=True, color_system="standard")
    render(made(2, default_rows=12), console)
    (line,) = [
        line for line in raw.getvalue().splitlines() if "default" in line and "12" in line and "KiB" in line
    ]
    assert "\x1b[1;31m" in line
    calm = io.StringIO()
    render(made(2), Console(file=calm, width=100, force_terminal=True, color_system="standard"))
    assert "\x1b[1;31m" not in calm.getvalue()


def test_growth_and_its_absence_are_said() -> None:
    growth = Growth(NOON.date() - timedelta(days=30), 30, 30 * 3 * 2**20)
    lines = shown(made(2, growth=growth))
    table = next(line for line in lines if line.startswith(LOG))
    assert table.split()[-4:] == ["+3.0", "MiB", "30", "d"]
    other = next(line for line in lines if line.startswith("conversation.logs "))
    assert other.rstrip().endswith("no sample yet")


def test_months_ahead_are_said_with_none_and_without_end() -> None:
    stats = made(2)
    stats.months[:] = [Months("conversation.logs", -1, []), Months(LOG, 120, [])]
    lines = shown(stats)
    assert "conversation.logs: 0 partitions, months ahead: none" in lines
    assert f"{LOG}: 3 partitions, months ahead: 120 or more" in lines


def test_names_are_no_markup() -> None:
    assert shown(made(1))[0] == "Database shop[red]$x$, 2026-11-28 12:00 UTC"


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (-2048, "-2.0 KiB"),
        (1.5 * 2**30, "1.5 GiB"),
        (3000 * 2**40, "3,000.0 TiB"),
    ],
)
def test_sizes_as_people_read_them(size: float, said: str) -> None:
    assert readable(size) == said


def test_a_pipe_gets_no_colours(plain_database: TestDatabase) -> None:
    with plain_database.connect(autocommit=True) as connection:
        (report,) = reports.make(connection, 1)
        connection.execute(
            "INSERT INTO public.report_access_log (report_id, accessed_at) VALUES (%s, '2001-01-01')",
            [report],
        )
        outcome = run("stats", url=plain_database.migrator_url, width=60)
        count = connection.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = %s::regclass", [LOG])
        number = count.fetchone()
    assert outcome.exit_code == 1
    assert "\x1b" not in outcome.output
    lines = outcome.output.splitlines()
    assert (len(chart(lines)),) == number
    assert lines[-1] == f"default_partition_rows {LOG}_default: rows that belong to a month: 1"
