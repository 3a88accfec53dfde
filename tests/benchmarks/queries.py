"""Questions that the documents put a time to: ours beside the obvious query on the document's twin."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from carnivore_db import Identity, identity
from carnivore_db.weekly import access_log, reports
from tests.benchmarks import chat, learning
from tests.benchmarks.bench import Bench, RowsLost, database
from tests.benchmarks.check import Turns
from tests.benchmarks.mature import World, first_of
from tests.benchmarks.rounds import Comparison, Operation, Side

GRACE = timedelta(days=7)
HISTORY = """
    SELECT accessed_at, ip_address, user_agent FROM {}.report_access_log
    WHERE report_id = %s ORDER BY accessed_at DESC LIMIT 100
"""
EMAIL = "SELECT * FROM rivals_document.generated_reports WHERE email = %s AND expires_at > now()"
LISTED = """
    SELECT report.id, report.session_id, report.created_at, report.expires_at, counts.access_count,
        counts.last_accessed_at
    FROM public.generated_reports AS report JOIN public.report_access_counts AS counts
        ON counts.report_id = report.id
    WHERE report.email = %s ORDER BY report.expires_at DESC, report.id DESC LIMIT 100
"""
EXPIRED = """
    SELECT id FROM {}.generated_reports WHERE expires_at < now() - interval '7 days'
    ORDER BY expires_at LIMIT 1000
"""
MONTH = """
    SELECT date_trunc('day', accessed_at AT TIME ZONE 'UTC') AS day, count(*)
    FROM rivals_document.report_access_log WHERE accessed_at >= %s AND accessed_at < %s
    GROUP BY day ORDER BY day
"""
ROLLUP = "SELECT day, accesses FROM analytics.accesses_per_day WHERE day >= %s AND day < %s ORDER BY day"


def asked(world: World, statement: str, values: list[tuple[Any, ...]], *, some: bool = True) -> Any:
    """A statement through psycopg, prepared, as the superuser. `some`: it must find rows."""

    @contextmanager
    def connect(clients: range) -> Iterator[list[Operation]]:
        with ExitStack() as stack:

            def operation(client: int) -> Operation:
                connection = stack.enter_context(world.connect())
                turns = Turns(values, client)

                def run() -> None:
                    rows = connection.execute(statement, turns.next(), prepare=True).fetchall()
                    if some and not rows:
                        raise LookupError(f"nothing was found by {statement}")

                return run

            yield [operation(client) for client in clients]

    return connect


def called(world: World, who: Identity, verb: Callable[..., object], values: list[Any]) -> Any:
    """A verb of the package, in a transaction of `who`."""

    @contextmanager
    def connect(clients: range) -> Iterator[list[Operation]]:
        db = database(world, len(clients))

        def operation(client: int) -> Operation:
            turns = Turns(values, client)

            def run() -> None:
                with db.transaction(as_=who) as tx:
                    verb(tx, turns.next())

            return run

        yield [operation(client) for client in clients]
        db.close()

    return connect


def purged(tx: Session, batch: int) -> None:
    """What the purge deletes, given back: the next run finds it again."""
    with tx.begin_nested() as savepoint:
        reports.purge_expired(tx, grace=GRACE, batch=batch)
        savepoint.rollback()


def run(bench: Bench) -> None:
    """One client each: what counts here is the time of an answer."""
    world = bench.system
    service = identity.service()
    keys = [(key,) for key in world.report_ids()]
    emails = world.rows(
        "SELECT DISTINCT email FROM (SELECT email FROM public.generated_reports WHERE expires_at > now()"
        " ORDER BY md5(id::text) LIMIT 300) AS drawn"
    )
    middle = first_of(datetime.now(UTC).date(), 2)
    after = first_of(middle, -1)
    bench.compare(
        Comparison(
            "access history, 100 rows",
            [
                Side("obvious query", asked(world, HISTORY.format("rivals_document"), keys, some=False)),
                Side("ours, the statement", asked(world, HISTORY.format("public"), keys, some=False)),
                Side("the package", called(world, service, access_log.history, [key for (key,) in keys])),
            ],
        )
    )
    bench.compare(
        Comparison(
            "e-mail lookup",
            [
                Side("obvious query", asked(world, EMAIL, emails)),
                Side("ours, the statement", asked(world, LISTED, emails)),
                Side(
                    "the package", called(world, service, reports.list_by_email, [one for (one,) in emails])
                ),
            ],
        )
    )
    bench.compare(
        Comparison(
            "expiry scan, 1,000 rows",
            [
                Side("obvious query", asked(world, EXPIRED.format("rivals_document"), [()], some=False)),
                Side("ours, the statement", asked(world, EXPIRED.format("public"), [()], some=False)),
                Side("purge of 10, given back", called(world, service, purged, [10])),
            ],
        )
    )
    _month(bench, world, middle, after)
    learning.run(bench)
    chat.run(bench)


def _month(bench: Bench, world: World, middle: date, after: date) -> None:
    bounds = [
        (
            datetime.combine(middle, datetime.min.time(), UTC),
            datetime.combine(after, datetime.min.time(), UTC),
        )
    ]
    sides = [
        Side("obvious query", asked(world, MONTH, bounds)),
        Side(
            "the package, counted when asked",
            called(world, identity.service(), access_log.counts_per_day, [middle]),
        ),
    ]
    if world.rows("SELECT FROM pg_class WHERE oid = to_regclass('analytics.accesses_per_day')"):
        began = time.perf_counter()
        world.rows("SELECT analytics.refresh()")
        bench.note("rebuilding the rollup took, s", round(time.perf_counter() - began, 2))
        with database(world, 1).transaction(as_=identity.service()) as tx:
            counted = access_log.counts_per_day(tx, middle)
        if dict(world.rows(ROLLUP, middle, after)) != counted:
            raise RowsLost("the rollup does not say what the log does")
        sides.append(Side("the rollup", asked(world, ROLLUP, [(middle, after)])))
    bench.compare(Comparison("month by day", sides))
