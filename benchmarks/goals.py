"""The goals, each beside what was measured; and the documents' own promises."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Side = dict[str, Any]
MOST_BYTES = 2_000_000_000
PATTERNS = (
    "open, any report",
    "open, one hot report",
    "record, any report",
    "record, one hot report",
    "overlapping batches of 1,000",
)
FUNCTION = "check_report (plpgsql)"
# What the documents promise, in ms: the comparison, our side, and the side of the document's design.
LATENCIES = (
    ("012: token validation", "check: statements not prepared", "the package", "", 1),
    (
        "012: token validation, the function itself",
        "check: the function",
        FUNCTION,
        "the document's table",
        1,
    ),
    ("012: e-mail lookup", "e-mail lookup", "the package", "obvious query", 5),
    ("012: expiry check", "expiry scan, 1,000 rows", "ours, the statement", "obvious query", 10),
    ("012: access history", "access history, 100 rows", "the package", "obvious query", 20),
    ("012: month analytics", "month by day", "the rollup", "obvious query", 50),
    ("001: a learner's progress", "a learner's progress", "the package", "obvious query", 1),
    ("001: recent activity", "recent activity", "the package", "obvious query", 5),
    ("001: exports of a learner", "exports of a learner", "the package", "obvious query", 1),
    ("001: exports of a state", "exports of a state", "the package", "obvious query", 5),
    ("001: session trigger", "progress update at a session's end", "ours", "the document's row trigger", 10),
    ("020: an assessment's insert", "an assessment's insert", "the package", "the document's table", 5),
)
COMPONENTS = {"user_sessions": 25e6, "generated_reports": 500e6, "report_access_log": 400e6}  # the document's


@dataclass(frozen=True)
class Goal:
    """One line: what is wanted, what was measured, and whether that is enough (None: not measured)."""

    name: str
    wanted: str
    measured: str
    reached: bool | None

    @property
    def verdict(self) -> str:
        if self.reached is None:
            return "no goal" if self.measured else "not measured"
        return "met" if self.reached else "not met"


class _Results:
    """Finds a side's figures by the comparison's name, its clients and the side's name."""

    def __init__(self, results: dict[str, Any]) -> None:
        self._sides: dict[tuple[str, int, str], Side] = {}
        self._first: dict[tuple[str, int], str] = {}
        self.facts: dict[str, Any] = {}
        for group in results.get("groups", {}).values():
            self.facts |= group.get("facts", {})
            for comparison in group.get("comparisons", []):
                where = (comparison["name"], comparison["clients"])
                self._first[where] = comparison["sides"][0]["name"]
                for side in comparison["sides"]:
                    self._sides[*where, side["name"]] = side

    def side(self, comparison: str, clients: int, name: str) -> Side | None:
        return self._sides.get((comparison, clients, name))

    def names(self) -> list[tuple[str, int, str]]:
        """Comparison, clients and side of all that was measured."""
        return list(self._sides)

    def all_of(self, comparison: str) -> dict[str, Side]:
        """The sides of a comparison with one client, in order."""
        return {key[2]: side for key, side in self._sides.items() if key[:2] == (comparison, 1)}


def _at_most(name: str, limit: float, side: Side | None, key: str = "time_ratio", unit: str = "x") -> Goal:
    wanted = f"at most {limit:g} {unit}"
    if side is None:
        return Goal(name, wanted, "", None)
    return Goal(name, wanted, f"{side[key]:.3g} {unit}", side[key] <= limit)


def _at_least(name: str, limit: float, value: float | None, unit: str = "x", more: str = "") -> Goal:
    wanted = f"at least {limit:g} {unit}"
    if value is None:
        return Goal(name, wanted, "", None)
    return Goal(name, wanted, f"{value:.3g} {unit}{more}", value >= limit)


def _quotient(one: Side | None, other: Side | None, key: str = "per_second") -> float | None:
    return one[key] / other[key] if one and other and other[key] else None


def _shown(name: str, side: Side | None) -> Goal:
    """What nothing is wanted of: how many times the floor's throughput."""
    return Goal(name, "", f"{side['throughput_ratio']:.3g} x" if side else "", None)


def _many(clients: int) -> str:
    return "1 client" if clients == 1 else f"{clients} clients"


def goals(results: dict[str, Any]) -> Iterator[Goal]:
    """All of them in order."""
    found = _Results(results)
    for clients in (1, 8):
        side = found.side("check: the function", clients, FUNCTION)
        yield _at_most(
            f"check, the function itself, {_many(clients)}, time beside the bare statement", 1.15, side
        )
    for clients in (1, 8):
        side = found.side("check: through the layers", clients, "the package, statements prepared")
        yield _at_most(f"check, the package, prepared, {_many(clients)}, time beside psycopg", 1.5, side)
        side = found.side("check: statements not prepared", clients, "the package")
        yield _at_most(f"check, the package, not prepared, {_many(clients)}, time beside psycopg", 1.5, side)
        side = found.side("check: asynchronous", clients, "the package")
        yield _at_most(f"check, the package, asynchronous, {_many(clients)}, time beside psycopg", 1.5, side)
    for durability in ("durable", "commits not awaited"):
        for clients in (1, 8):
            where = f"open: {durability}"
            for rival in ("separate statements, SQLAlchemy ORM", "separate statements, psycopg"):
                value = _quotient(
                    found.side(where, clients, "the package"), found.side(where, clients, rival)
                )
                yield _at_least(
                    f"open, {durability}, the package beside {rival}, {_many(clients)}", 2.5, value
                )
    for clients in (1, 8):
        for name in ("the package", "the package, deferred"):
            yield _shown(
                f"open, asynchronous, {name}, {_many(clients)}, beside no counting through psycopg",
                found.side("open: asynchronous", clients, name),
            )
    for name, how in (("record: batches of 1,000", 8), ("record: batches of 1,000: asynchronous", 8)):
        yield _shown(
            f"{name}, record_many, 8 clients, beside its floor",
            found.side(name, how, "record_many of the package"),
        )
    yield from _counting(found)
    yield from _counting_asynchronously(found)
    yield from _queries(found)
    yield from _growth(found)
    yield from _storage(found)


def _counting(found: _Results) -> Iterator[Goal]:
    for durability in ("durable", "commits not awaited"):

        def side(pattern: str, design: str, durability: str = durability) -> Side | None:
            return found.side(f"counting: {pattern}, {durability}", 8, design)

        row = "the document's row trigger"
        for pattern in ("open, any report", "record, any report"):
            one = side(pattern, "immediate")
            yield _at_least(
                f"counting, {durability}, immediate: {pattern}, beside no counting",
                0.7,
                one and one["throughput_ratio"],
            )
        for pattern in ("open, one hot report", "record, one hot report"):
            value = _quotient(side(pattern, "immediate"), side(pattern, row))
            name = f"counting, {durability}, immediate: {pattern}, beside a row trigger just vacuumed"
            yield _at_least(name, 3, value)
        one = side("overlapping batches of 1,000", "immediate")
        name = f"counting, {durability}, immediate: overlapping batches"
        if one is None:
            yield Goal(name, "none lost", "", None)
        else:
            failed = sum(one["failed"].values())
            said = f"{failed} failed, {one['throughput_ratio']:.3g} x no counting"
            yield Goal(name, "none lost", said, failed == 0)
        for design in ("deferred", "deferred, folded meanwhile"):
            for pattern in PATTERNS:
                one = side(pattern, design)
                failed = sum(one["failed"].values()) if one else 0
                goal = _at_least(
                    f"counting, {durability}, {design}: {pattern}, beside no counting",
                    0.75,
                    one and one["throughput_ratio"],
                    more=f", {failed} failed",
                )
                yield Goal(goal.name, goal.wanted, goal.measured, goal.reached and not failed)
    yield from _stable(found)


def _counting_asynchronously(found: _Results) -> Iterator[Goal]:
    """Beside the statement through asynchronous psycopg that counts nothing: the layers are in it too."""
    for design in ("immediate", "deferred"):
        for pattern in PATTERNS:
            side = found.side(f"counting: {pattern}: asynchronous", 8, f"the package, {design}")
            name = f"counting, the package, asynchronous, {design}: {pattern}, beside no counting"
            if pattern.startswith("overlapping"):
                failed = sum(side["failed"].values()) if side else 0
                said = f"{failed} failed, {side['throughput_ratio']:.3g} x" if side else ""
                yield Goal(name, "none lost", said, failed == 0 if side else None)
            else:
                yield _shown(name, side)


def _stable(found: _Results) -> Iterator[Goal]:
    """The row trigger is fast at first: what counts is the whole minute, and that no part of it is slow."""
    speeds: dict[tuple[str, str], list[float]] = {}
    for comparison, clients, design in found.names():
        if comparison.startswith("counting: ") and comparison.endswith(" s"):
            side = found.side(comparison, clients, design)
            pattern = comparison.removeprefix("counting: ").split(", for ")[0]
            speeds[pattern, design] = side["rounds_per_second"] if side else []
    for pattern in ("open, one hot report", "record, one hot report"):
        theirs = speeds.get((pattern, "the document's row trigger"))
        for design in ("immediate", "deferred, folded meanwhile"):
            ours = speeds.get((pattern, design))
            name = f"counting, {pattern}, for a minute, {design}:"
            if not ours or not theirs:
                yield Goal(f"{name} beside the row trigger", "at least 3 x", "", None)
                continue
            share, times = min(ours) / ours[0], sum(ours) / sum(theirs)
            said = f"{share:.2f} x: {_rates(ours)}"
            yield Goal(f"{name} the slowest part beside the first", "at least 0.8 x", said, share >= 0.8)
            said = f"{times:.2f} x: {_rates(theirs)}"
            yield Goal(f"{name} beside the row trigger", "at least 3 x", said, times >= 3)


def _rates(speeds: list[float]) -> str:
    return ", ".join(f"{speed:,.0f}" for speed in speeds) + " /s"


def _queries(found: _Results) -> Iterator[Goal]:
    plain = found.side("month by day", 1, "plain query")
    fast = found.side("month by day", 1, "the rollup")
    rows = found.facts.get("accesses in the log")
    said = f"month by day at {rows:,} accesses" if rows else "month by day"
    yield _at_most(said, 50, fast, "median_ms", "ms")
    quotient = _quotient(plain, fast, "median_ms")
    more = f": {fast['median_ms']:.3g} ms and {plain['median_ms']:.4g} ms" if plain and fast else ""
    yield _at_least(f"{said}, the rollup beside the plain query", 20, quotient, more=more)
    for name, comparison, side_name, twin_name, limit in LATENCIES:
        side = found.side(comparison, 1, side_name)
        goal = _at_most(f"document {name}", limit, side, "median_ms", "ms")
        said = f"{goal.measured} (p99 {side['p99_ms']:.3g} ms)" if side else ""
        for what, other in (
            ("the document's own", found.side(comparison, 1, twin_name)),
            ("asynchronous", found.side(f"{comparison.split(':')[0]}: asynchronous", 1, side_name)),
        ):
            if side and other:
                said += f"; {what} {other['median_ms']:.3g} ms"
        yield Goal(goal.name, f"under {limit} ms", said, goal.reached)


def _growth(found: _Results) -> Iterator[Goal]:
    for what, limit, operations in (
        ("growth", 1.25, ("check", "open", "record", "access history", "e-mail lookup", "expiry scan")),
        ("partitions", 1.1, ("open", "record")),
    ):
        for operation in operations:
            sides = found.all_of(f"{what}: {operation}")
            name = f"{what}, {operation}"
            if sides:
                name += f", {next(iter(sides))} -> {list(sides)[-1]}"
            goal = _at_most(name, limit, list(sides.values())[-1] if sides else None)
            between = [f"{side['time_ratio']:.3g} x with {key}" for key, side in list(sides.items())[1:-1]]
            more = f" ({', '.join(between)})" if between else ""
            yield Goal(goal.name, goal.wanted, goal.measured + more, goal.reached)


def _storage(found: _Results) -> Iterator[Goal]:
    totals, rows = found.facts.get("total bytes"), found.facts.get("rows")
    if totals is None or rows is None:
        yield Goal("storage", "under 2 GB", "", None)
        return
    said = f"{_size(totals['ours'])} (the document's design {_size(totals['document'])}; it says 1.26 GB)"
    of = ", ".join(f"{number:,} {table}" for table, number in rows.items())
    yield Goal(f"storage, all in all: {of}", "under 2 GB", said, totals["ours"] < MOST_BYTES)
    sizes = found.facts["bytes"]

    def of_table(who: str, table: str, kind: str) -> int:
        return sum(one["bytes"] for one in sizes[who] if one["table"] == table and one["kind"] == kind)

    for table, promised in COMPONENTS.items():
        for kind in ("heap", "index"):
            ours, theirs = (of_table(who, table, kind) for who in ("ours", "document"))
            said = f"{ours / rows[table]:.4g} bytes a row, {_size(ours)}"
            said += f" (the document's design {theirs / rows[table]:.4g}, {_size(theirs)}"
            said += f"; it says {_size(promised)})" if kind == "heap" else ")"
            name = f"storage, {table}, {'rows and TOAST' if kind == 'heap' else 'indexes'}"
            yield Goal(name, "", said, None)


def _size(number: float) -> str:
    return f"{number / 1e9:.3g} GB" if number >= 1e9 else f"{number / 1e6:.4g} MB"
