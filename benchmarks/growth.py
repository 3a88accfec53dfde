"""Growth: the same operation with few reports and with many, and with few partitions and with many.

One client, the statement alone, on data that is in memory: each side asks about the same number of reports.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg

from benchmarks import asynchronous, check, opening, synchronous
from benchmarks.bench import Bench, kept
from benchmarks.mature import World
from benchmarks.queries import EXPIRED, HISTORY, LISTED, asked
from benchmarks.rivals import RECORD
from benchmarks.rounds import Comparison, Side

EMAILS = """
    SELECT email FROM public.generated_reports WHERE expires_at > now() ORDER BY md5(id::text) LIMIT 200
"""
MONTH = """
    SELECT (accessed_at AT TIME ZONE 'UTC')::date AS day, count(*) FROM public.report_access_log
    WHERE accessed_at >= %s AND accessed_at < %s GROUP BY day
"""
# So few that the smallest system has them too.
FEW_EXPIRED = EXPIRED.format("public").replace("LIMIT 1000", "LIMIT 20")
DELETE = "DELETE FROM public.generated_reports WHERE id = %s"
Make = Callable[[World], Side]


def recorded(world: World, keys: list[Any]) -> Any:
    """One access at a time, counted at once."""

    def one(connection: psycopg.Connection, report: Any) -> None:
        connection.execute(
            RECORD.format(log="public"), [report, opening.ADDRESS, opening.AGENT], prepare=True
        )

    return synchronous.through_psycopg(world, asynchronous.turns(keys), one)


def deleted(world: World, keys: list[Any]) -> Any:
    """A report with its accesses, given back."""

    def do(connection: psycopg.Connection, key: Any) -> None:
        with connection.transaction(force_rollback=True):
            connection.execute(DELETE, [key], prepare=True)

    return synchronous.through_psycopg(world, asynchronous.turns(keys), do)


def sides(worlds: dict[str, World]) -> dict[str, list[Side]]:
    """Each operation, once in each world."""
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    made: dict[str, list[Side]] = {}
    for name, world in worlds.items():
        tokens, keys = world.tokens(200), world.report_ids(200)
        rows = [(key,) for key in keys]
        counted = partial(kept, world, log="public", reports="public")
        opens = synchronous.through_psycopg(
            world, asynchronous.turns(tokens), partial(opening.whole, opening.OURS)
        )
        operations = {
            "check": Side(name, check.prepared(world, check.FUNCTION, tokens)),
            "open": Side(name, opens, counted),
            "record": Side(name, recorded(world, keys), counted),
            "access history": Side(name, asked(world, HISTORY.format("public"), rows, some=False)),
            "e-mail lookup": Side(name, asked(world, LISTED, world.rows(EMAILS))),
            "expiry scan": Side(name, asked(world, FEW_EXPIRED, [()])),
            "month by day": Side(
                name,
                asked(world, MONTH, [(month - timedelta(days=1), month + timedelta(days=31))], some=False),
            ),
            "delete of a report": Side(name, deleted(world, keys)),
        }
        for operation, side in operations.items():
            made.setdefault(operation, []).append(side)
    return made


def run(bench: Bench) -> None:
    """By reports, then by partitions. The first side is the smallest."""
    worlds = {f"{number:,} reports": bench.grown(number) for number in bench.scale.growth}
    for operation, made in sides(worlds).items():
        bench.compare(Comparison(f"growth: {operation}", made), seconds=0.5)
    bench.forget(*(f"grown_{number}" for number in bench.scale.growth))
    few = bench.scale.growth[0]
    worlds = {
        f"{number} partitions": bench.world(f"months_{number}", few, few * 10, partitions=number)
        for number in bench.scale.partitions
    }
    for operation, made in sides(worlds).items():
        if operation not in {"expiry scan", "e-mail lookup"}:  # these read no partition
            bench.compare(Comparison(f"partitions: {operation}", made), seconds=0.5)
