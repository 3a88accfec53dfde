"""What is kept: results.json, into which each group is merged, the README made of it, and the chart."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import indexes, storage
from benchmarks.bench import Bench
from benchmarks.goals import goals

SETTINGS = (
    "server_version",
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "max_connections",
    "max_parallel_workers_per_gather",
    "wal_level",
    "jit",
    "autovacuum",
    "deadlock_timeout",
    "default_toast_compression",
    "server_encoding",
    "lc_collate",
)
CHARTED = (
    ("check: through the layers", 8),
    ("open: durable", 8),
    ("open: commits not awaited", 8),
    ("counting: open, any report, durable", 8),
    ("counting: open, one hot report, durable", 8),
    ("counting: overlapping batches of 1,000, durable", 8),
)


def environment(bench: Bench, scale: str) -> dict[str, Any]:
    """The machine, the server and the settings that a group ran with."""
    with bench.worlds[next(iter(bench.worlds))].connect() as owner:
        settings = {}
        for name in SETTINGS:
            ((value,),) = owner.execute("SELECT current_setting(%s, true)", [name]).fetchall()
            settings[name] = value
    return {
        "scale": scale,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {_memory()} GB, {_processor()}, {platform.platform()}",
        "python": platform.python_version(),
        "settings": settings,
    }


def _memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def load(folder: Path) -> dict[str, Any]:
    """What earlier runs left there."""
    file = folder / "results.json"
    return json.loads(file.read_text()) if file.exists() else {"groups": {}}


def save(folder: Path, results: dict[str, Any]) -> None:
    """Write all three files; the chart only where matplotlib is."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "README.md").write_text(_markdown(results))
    _chart(folder / "chart.png", results)


def _markdown(results: dict[str, Any]) -> str:
    lines = [
        "# Measured",
        "",
        "Written by `make bench`; `python -m benchmarks --help` runs parts of it. All sides of a",
        "comparison ran in turn, in one run. Time x and throughput x are to the first side, the median of",
        "the rounds: below 1, time is faster; above 1, throughput is. No figure here is asserted by a test.",
        "",
    ]
    for scale, facts in _environments(results):
        settings = ", ".join(
            f"{name} {value}" for name, value in facts["settings"].items() if value is not None
        )
        lines += [
            f"Scale `{scale}`: {facts['machine']}; Python {facts['python']}; PostgreSQL: {settings}.",
            "",
        ]
    lines += ["![Throughput beside the rivals](chart.png)", "", "## Goals", ""]
    lines += ["| goal | wanted | measured | |", "|---|---|---|---|"]
    lines += [f"| {g.name} | {g.wanted} | {g.measured} | {g.verdict} |" for g in goals(results)]
    for name, group in results["groups"].items():
        facts = group["environment"]
        lines += ["", f"## {name}", "", f"Measured {facts['measured_at']} at scale `{facts['scale']}`."]
        for comparison in group.get("comparisons", []):
            lines += ["", *_table(comparison)]
        lines += _facts(group.get("facts", {}))
    return "\n".join(lines) + "\n"


def _environments(results: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = {}
    for group in results["groups"].values():
        found[group["environment"]["scale"]] = group["environment"]
    return sorted(found.items())


def _table(comparison: dict[str, Any]) -> list[str]:
    clients = comparison["clients"]
    who = "1 client" if clients == 1 else f"{clients} {comparison['how']}"
    lines = [
        f"**{comparison['name']}**, {who}, {comparison['rounds']} rounds of {comparison['seconds']:g} s",
        "",
        f"| side | median ms | p99 ms | {comparison['unit']}s/s | time x | throughput x | failed |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for side in comparison["sides"]:
        failed = ", ".join(f"{number} {name}" for name, number in side["failed"].items())
        lines.append(
            f"| {side['name']} | {side['median_ms']:.3f} | {side['p99_ms']:.3f} | {side['per_second']:,.0f}"
            f" | {side['time_ratio']:.2f} | {side['throughput_ratio']:.2f} | {failed} |"
        )
    return lines


def _facts(facts: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    if sizes := facts.get("bytes"):
        lines += ["", "| table | part | ours, bytes | a row | the document's, bytes | a row |"]
        lines += ["|---|---|--:|--:|--:|--:|"]
        lines += [f"| {' | '.join(row)} |" for row in storage.side_by_side(sizes, facts["rows"])]
    if lines_of := facts.get("indexes"):
        lines += [
            "",
            "What an index costs an insert (beside all but this one), and the query that pays it back:",
            "",
            f"| {' | '.join(indexes.HEADINGS)} |",
            "|---|--:|--:|--:|--:|---|--:|--:|---|",
            *(f"| {' | '.join(indexes.cells(line))} |" for line in lines_of),
        ]
    if choices := facts.get("choices"):
        lines += ["", "| setting | what | measured |", "|---|---|---|"]
        lines += [f"| {' | '.join(choice)} |" for choice in choices]
    shown = {"bytes", "indexes", "choices"}
    rest = {name: value for name, value in facts.items() if name not in shown}
    if rest:
        lines += ["", *(f"- {name}: {value}" for name, value in rest.items())]
    return lines


def _chart(file: Path, results: dict[str, Any]) -> None:
    """Bars of throughput beside the floor, a panel for each of the main comparisons."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - only the chart needs it
    except ImportError:
        return
    found = {
        (comparison["name"], comparison["clients"]): comparison
        for group in results["groups"].values()
        for comparison in group.get("comparisons", [])
    }
    charted = [found[key] for key in CHARTED if key in found]
    if not charted:
        return
    figure = Figure(figsize=(11, 2.6 * len(charted) + 0.3), layout="constrained")
    for axes, comparison in zip(figure.subplots(len(charted), squeeze=False)[:, 0], charted, strict=True):
        names = [side["name"] for side in comparison["sides"]]
        values = [side["per_second"] for side in comparison["sides"]]
        colours = ["#303030", *("#2f6db0" if _ours(name) else "#b0b0b0" for name in names[1:])]
        bars = axes.barh(names, values, color=colours)
        labels = [
            f"{side['per_second']:,.0f}  ({side['throughput_ratio']:.2f} x)" for side in comparison["sides"]
        ]
        axes.bar_label(bars, labels, padding=3, fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.18)
        title = f"{comparison['name']}, {comparison['clients']} {comparison['how']}"
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
        axes.set_xlabel(f"{comparison['unit']}s a second", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        "Throughput: the floor (black), ours (blue), rivals (grey); x is to the floor, in the same rounds",
        fontsize=9,
    )
    figure.savefig(file, dpi=110)


def _ours(name: str) -> bool:
    return name.startswith(("the package", "immediate", "deferred", "open_report", "ours"))
