"""`python -m benchmarks`: all comparisons or some, at any scale, on a private PostgreSQL.

The server is a throw-away one with fsync on; `DATABASE_URL` (a superuser's) names another, which gets
databases of its own for the time and is otherwise left alone. Each group's results are merged into
results.json as it ends: a run that was stopped goes on with `--only` and the groups that are missing.
"""

import os
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import check, counting, growth, opening, queries, record, results, storage
from benchmarks.bench import SCALES, Bench, Scale
from benchmarks.goals import goals
from carnivore_db.dev.local import LocalPostgres, server

# The module, and how many times the scale's seconds one round of all its comparisons takes.
GROUPS: dict[str, tuple[Any, float]] = {
    "storage": (storage, 0),
    "check": (check, 34),
    "open": (opening, 35),
    "record": (record, 22),
    "queries": (queries, 52),
    "counting": (counting, 60),
    "growth": (growth, 21),
}
ON_SYSTEM = {"storage", "check", "open", "record", "queries"}
ACCESSES_A_SECOND = 60_000  # that fill a world and its twin; for the estimate alone
SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "checkpoint_timeout": "15min",
    "max_wal_size": "8GB",
}
ScaleName = StrEnum("ScaleName", {name: name for name in SCALES})
GroupName = StrEnum("GroupName", {name: name for name in GROUPS})
console = Console(width=min(Console().width, 160) if sys.stdout.isatty() else 140)


def main(
    scale: Annotated[ScaleName, typer.Option(help="quick, small or full: rows and rounds.")] = ScaleName.full,
    only: Annotated[
        list[GroupName] | None, typer.Option(help="A group; may be given more than once.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.01, help="Seconds a side runs in a round.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, max=100, help="Rounds of a comparison.")] = None,
    minutes: Annotated[float, typer.Option(help="Behind these, a comparison has one short round.")] = 42,
    output: Annotated[Path, typer.Option(help="Where results.json, README.md and chart.png go.")] = Path(
        "benchmarks"
    ),
) -> None:
    """Measure, print and keep. Exit status 1 when rows were lost or a comparison failed."""
    chosen = replace(
        SCALES[scale],
        **{name: value for name, value in (("seconds", seconds), ("rounds", rounds)) if value is not None},
    )
    names = [str(name) for name in only or GROUPS]
    console.print(
        f"Scale {scale}: {', '.join(names)}; about {_estimate(names, chosen) / 60:.0f} min,"
        f" bounded near {minutes:g}."
    )
    began = time.monotonic()
    # A run that is told to stop drops its databases and its server first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    kept = results.load(output)
    failed = False
    with ExitStack() as stack:
        if os.environ.get("DATABASE_URL"):
            running = stack.enter_context(server())
        else:
            settings = {
                **SETTINGS,
                "shared_buffers": chosen.shared_buffers,
                "deadlock_timeout": chosen.deadlock_timeout,
            }
            running = stack.enter_context(LocalPostgres(settings=settings))
        bench = Bench(running, chosen, console, began + minutes * 60, stack)
        for number, name in enumerate(names):
            failed = not _group(bench, name, str(scale), kept, output) or failed
            if not ON_SYSTEM.intersection(names[number + 1 :]):
                bench.forget("mature")
    table = Table(title="Goals", title_justify="left")
    for heading in ("goal", "wanted", "measured", ""):
        table.add_column(heading)
    for goal in goals(kept):
        colour = {None: "dim", True: "green", False: "yellow"}[goal.reached]
        table.add_row(goal.name, goal.wanted, goal.measured, f"[{colour}]{goal.verdict}")
    console.print(table)
    console.print(f"{bench.runs} runs in {(time.monotonic() - began) / 60:.1f} min; kept in {output}.")
    raise typer.Exit(1 if failed else 0)


def _group(bench: Bench, name: str, scale: str, kept: dict[str, Any], output: Path) -> bool:
    """One group, merged into what is kept as soon as it ends. Returns whether it went well."""
    console.rule(name)
    began = time.monotonic()
    bench.found = {}
    try:
        GROUPS[name][0].run(bench)
    except Exception:  # noqa: BLE001 - the other groups are measured all the same, and the status tells
        console.print_exception(show_locals=False)
        console.print(f"{name} FAILED: its earlier results stay as they were.", style="bold red")
        return False
    took = time.monotonic() - began
    console.print(f"{name} took {took:.0f} s.")
    kept["groups"][name] = {
        "environment": results.environment(bench, scale),
        "took_seconds": round(took),
        **bench.found,
    }
    # In the order of the groups, whichever ran last.
    kept["groups"] = {known: kept["groups"][known] for known in GROUPS if known in kept["groups"]}
    results.save(output, kept)
    return True


def _estimate(names: list[str], scale: Scale) -> float:
    """Seconds, roughly: the runs with a quarter for connecting, warming up and checking, and the filling."""
    runs = sum(GROUPS[name][1] for name in names) * scale.rounds * scale.seconds * 1.25
    rows = scale.accesses if set(names) - {"counting"} else 0
    if "growth" in names:
        rows += sum(scale.growth) * scale.accesses // max(scale.growth)
    stable = 7 * scale.stable if "counting" in names else 0
    return runs + stable + rows / ACCESSES_A_SECOND + 10 * len(names)


if __name__ == "__main__":
    typer.run(main)
