"""The goals, each beside what was measured; and the documents' own promises."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Side = dict[str, Any]
MOST_BYTES = 2_000_000_000
LATENCIES = (
    ("012: token validation", "check: through the layers", "the package", 1),
    ("012: e-mail lookup", "e-mail lookup", "the package", 5),
    ("012: expiry check", "expiry scan, 1,000 rows", "ours, the statement", 10),
    ("012: access history", "access history, 100 rows", "the package", 20),
    ("012: month analytics", "month by day", "", 50),
    ("001: a learner's progress", "a learner's progress", "the package", 1),
    ("001: recent activity", "recent activity", "the package", 5),
    ("001: exports of a learner", "exports of a learner", "the package", 1),
    ("001: exports of a state", "exports of a state", "the package", 5),
    ("001: session trigger", "progress update at a session's end", "ours", 10),
)


@dataclass(frozen=True)
class Goal:
    """One line: what is wanted, what was measured, and whether that is enough (None: not measured)."""

    name: str
    wanted: str
    measured: str
    reached: bool | None

    @property
    def verdict(self) -> str:
        return "not measured" if self.reached is None else "reached" if self.reached else "NOT reached"


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

    def last(self, comparison: str) -> tuple[str, Side] | None:
        """The last side of a comparison with one client: of growth, the largest."""
        found = [(key[2], side) for key, side in self._sides.items() if key[:2] == (comparison, 1)]
        return found[-1] if found else None


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


def _many(clients: int) -> str:
    return "1 client" if clients == 1 else f"{clients} clients"


def goals(results: dict[str, Any]) -> Iterator[Goal]:
    """All of them in order."""
    found = _Results(results)
    for clients in (1, 8):
        side = found.side("check: the function", clients, "check_report (plpgsql)")
        yield _at_most(
            f"check, the function itself, {_many(clients)}, time beside the bare statement", 1.15, side
        )
    for clients in (1, 8):
        for name in ("the package", "the package, statements prepared"):
            side = found.side("check: through the layers", clients, name)
            yield _at_most(f"check, {name}, {_many(clients)}, time beside psycopg", 1.5, side)
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
    yield from _counting(found)
    yield from _queries(found)
    yield from _growth(found)
    yield _storage(found)


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
            yield _at_least(f"counting, {durability}, immediate: {pattern}, beside the row trigger", 3, value)
        one = side("overlapping batches of 1,000", "immediate")
        name = f"counting, {durability}, immediate: overlapping batches"
        if one is None:
            yield Goal(name, "none lost", "", None)
        else:
            failed = sum(one["failed"].values())
            said = f"{failed} failed, {one['throughput_ratio']:.3g} x no counting"
            yield Goal(name, "none lost", said, failed == 0)
        for design in ("deferred", "deferred, folded meanwhile"):
            for pattern in (
                "open, any report",
                "open, one hot report",
                "record, any report",
                "record, one hot report",
                "overlapping batches of 1,000",
            ):
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


def _stable(found: _Results) -> Iterator[Goal]:
    """The row trigger is fast at first: what counts is what is left of each design at the end."""
    speeds: dict[str, list[float]] = {}
    for comparison, _, design in found.names():
        if comparison.startswith("counting: one hot report for"):
            side = found.side(comparison, 8, design)
            speeds[design] = side["rounds_per_second"] if side else []
    ours = speeds.get("immediate")
    theirs = speeds.get("the document's row trigger")
    name, wanted = "one hot report for a minute, immediate: the last part beside the first", "at least 0.8 x"
    if not ours or not theirs:
        yield Goal(name, wanted, "", None)
        return
    share = ours[-1] / ours[0]
    yield Goal(name, wanted, f"{share:.2f} x: {_rates(ours)}", share >= 0.8)
    times = ours[-1] / theirs[-1]
    name = "one hot report for a minute, immediate: the last part beside the row trigger's"
    yield Goal(name, "at least 3 x", f"{times:.2f} x: {_rates(ours)} and {_rates(theirs)}", times >= 3)


def _rates(speeds: list[float]) -> str:
    return ", ".join(f"{speed:,.0f}" for speed in speeds) + " /s"


def _queries(found: _Results) -> Iterator[Goal]:
    plain = found.side("month by day", 1, "obvious query")
    fast = found.side("month by day", 1, "the rollup")
    rows = found.facts.get("rows", {}).get("report_access_log", 0)
    said = f"month by day at {rows:,} accesses" if rows else "month by day"
    yield _at_most(
        said, 50, fast or found.side("month by day", 1, "the package, counted when asked"), "median_ms", "ms"
    )
    yield _at_least(
        "month by day, the rollup beside the plain query", 20, _quotient(plain, fast, "median_ms")
    )
    for name, comparison, side_name, limit in LATENCIES:
        side = found.side(comparison, 1, side_name or "the rollup")
        if side is None and not side_name:
            side = found.side(comparison, 1, "the package, counted when asked")
        goal = _at_most(f"document {name}", limit, side, "median_ms", "ms")
        more = f" (p99 {side['p99_ms']:.3g} ms)" if side else ""
        yield Goal(goal.name, f"under {limit} ms", goal.measured + more, goal.reached)


def _growth(found: _Results) -> Iterator[Goal]:
    for operation in ("check", "open", "record", "access history", "e-mail lookup", "expiry scan"):
        last = found.last(f"growth: {operation}")
        name = f"growth, {operation}, with {last[0]}" if last else f"growth, {operation}"
        yield _at_most(name, 1.25, last[1] if last else None)
    for operation in ("open", "record"):
        last = found.last(f"partitions: {operation}")
        name = f"partitions, {operation}, with {last[0]}" if last else f"partitions, {operation}"
        yield _at_most(name, 1.1, last[1] if last else None)


def _storage(found: _Results) -> Goal:
    totals = found.facts.get("total bytes")
    if totals is None:
        return Goal("storage", "under 2 GB", "", None)
    said = f"{totals['ours'] / 1e9:.3g} GB (the document's design {totals['document'] / 1e9:.3g} GB)"
    return Goal("storage of the mature system", "under 2 GB", said, totals["ours"] < MOST_BYTES)
