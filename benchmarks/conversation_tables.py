"""How the benchmark of the chat shows what it found: times beside each other, and the plans behind them."""

import re
import statistics
from collections.abc import Iterator
from typing import Any

from rich.table import Table

from benchmarks.conversation_questions import Case, Side

PARTITION = re.compile(r"logs_(\d{4}_\d{2}|default)")


def times(cases: list[Case], rows: dict[str, int]) -> Table:
    filled = ", ".join(f"{number:,} {name}" for name, number in rows.items())
    table = Table(title=f"Milliseconds on the same rows ({filled}), all sides in turn")
    table.add_column("question")
    table.add_column("schema")
    for heading in ("rows", "runs", "median", "p99", "ratio", "less time"):
        table.add_column(heading, justify="right")
    table.add_column("promised")
    for case in cases:
        for side in case.sides:
            table.add_row(case.name if side is case.sides[0] else "", *_line(case, side))
        table.add_section()
    return table


def _line(case: Case, side: Side) -> Iterator[str]:
    median = statistics.median(side.took)
    yield side.name
    yield f"{statistics.median(side.rows):,.0f}"
    yield str(len(side.took))
    yield f"{median:.3f}"
    yield f"{statistics.quantiles(side.took, n=100)[98]:.3f}"
    if side is case.sides[0]:
        return
    before = statistics.median(case.sides[0].took)
    less = (1 - median / before) * 100
    yield f"{median / before:.3f}"
    yield f"{less:+.1f} %"
    if case.promised:
        low, high = case.promised
        verdict = "no" if less < low else "yes" if less <= high else "yes, and more"
        yield f"{low} to {high} %: {verdict}"


def plans(cases: list[Case]) -> Table:
    table = Table(
        title="The plans (EXPLAIN ANALYZE of the first sample): what was read, how, and in how many pages"
    )
    for heading in ("question", "schema", "read by"):
        table.add_column(heading)
    for heading in ("pages", "planning", "execution"):
        table.add_column(heading, justify="right")
    for case in cases:
        for side in case.sides:
            plan, top = side.plan, side.plan["Plan"]
            table.add_row(
                case.name if side is case.sides[0] else "",
                side.name,
                "\n".join(_reads(top)),
                f"{top['Shared Hit Blocks'] + top['Shared Read Blocks']:,}",
                f"{plan['Planning Time']:.2f} ms",
                f"{plan['Execution Time']:.2f} ms",
            )
        table.add_section()
    return table


def _reads(plan: dict[str, Any]) -> Iterator[str]:
    """What was scanned, how often, and how many rows it gave and threw away; partitions count as one."""
    found: dict[str, list[float]] = {}
    for node in _nodes(plan):
        what = node.get("Index Name") or node.get("Relation Name")
        if node["Node Type"] in {"Sort", "Incremental Sort"}:
            yield f"{node['Node Type']} of {node['Plans'][0]['Actual Rows']:,.0f} rows"
        elif what and node["Actual Loops"] and node["Node Type"] != "Bitmap Heap Scan":
            name = f"{node['Node Type']} {PARTITION.sub('logs_*', what)}"
            loops = node["Actual Loops"]
            seen = (loops, loops * node["Actual Rows"], loops * node.get("Rows Removed by Filter", 0))
            found[name] = [sum(pair) for pair in zip(found.get(name, [0, 0, 0]), seen, strict=True)]
    for name, (loops, rows, removed) in found.items():
        often = f", {loops:,.0f} times" if loops > 1 else ""
        thrown = f", {removed:,.0f} thrown away" if removed else ""
        yield f"{name}{often}: {rows:,.0f} rows{thrown}"


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)
