"""Questions that the documents put a time to: ours beside the obvious query on the document's twin."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from benchmarks import asynchronous, chat, learning, synchronous
from benchmarks.bench import Bench, RowsLost, database
from benchmarks.mature import World, first_of
from benchmarks.rounds import Comparison, Side
from carnivore_db import identity
from carnivore_db.weekly import access_log, assessments, reports
from carnivore_db.weekly.models import GeneratedReport

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
    FROM {}.report_access_log WHERE accessed_at >= %s AND accessed_at < %s
    GROUP BY day ORDER BY day
"""
LOGGED = "public.report_access_log WHERE accessed_at >= %s AND accessed_at < %s"
SUBMIT = """
    INSERT INTO {}.cw_assessment_sessions (email, first_name, form_data) VALUES (%s, %s, %s) RETURNING id
"""
ROLLUP = "SELECT day, accesses FROM analytics.accesses_per_day WHERE day >= %s AND day < %s ORDER BY day"


def asked(world: World, statement: str, values: list[tuple[Any, ...]], *, some: bool = True) -> Any:
    """A statement through psycopg, prepared, as the superuser. `some`: it must find rows."""

    def do(connection: psycopg.Connection, given: tuple[Any, ...]) -> None:
        if not connection.execute(statement, given, prepare=True).fetchall() and some:
            raise LookupError(f"nothing was found by {statement}")

    return synchronous.through_psycopg(world, asynchronous.turns(values), do)


def purged(tx: Session, batch: int) -> None:
    """What the purge deletes, given back: the next run finds it again."""
    with tx.begin_nested() as savepoint:
        reports.purge_expired(tx, grace=GRACE, batch=batch)
        savepoint.rollback()


def compare(
    bench: Bench,
    name: str,
    obvious: str,
    ours: str,
    values: list[Any],
    verb: Callable[..., object],
    given: list[Any],
    *,
    some: bool = True,
) -> None:
    """The query that a team would write, our statement where that is another, and the package's verb as the
    service: with one client, with eight, and in tasks."""
    world, service = bench.system, identity.service()
    sides = [Side("obvious query", asked(world, obvious, values, some=some))]
    if ours != obvious:
        sides.append(Side("ours, the statement", asked(world, ours, values, some=some)))
    sides.append(Side("the package", synchronous.called(world, service, verb, asynchronous.turns(given))))
    for clients in (1, 8):
        bench.compare(Comparison(name, sides, clients), seconds=1 if clients == 1 else 0.5)
    turns = asynchronous.turns
    asynchronous.compare(
        bench,
        name,
        Side("ours, psycopg", asynchronous.asked(world, ours, turns(values), some=some)),
        Side("the package", asynchronous.called(world, service, verb, turns(given))),
    )


def run(bench: Bench) -> None:
    """With one client, whose time of an answer the documents speak of, and with eight."""
    world = bench.system
    keys = [(key,) for key in world.report_ids()]
    ids = [key for (key,) in keys]
    emails = world.rows(
        "SELECT DISTINCT email FROM (SELECT email FROM public.generated_reports WHERE expires_at > now()"
        " ORDER BY md5(id::text) LIMIT 300) AS drawn"
    )
    addresses = [address for (address,) in emails]
    theirs, ours = HISTORY.format("rivals_document"), HISTORY.format("public")
    compare(bench, "access history, 100 rows", theirs, ours, keys, access_log.history, ids, some=False)
    compare(bench, "e-mail lookup", EMAIL, LISTED, emails, reports.list_by_email, addresses)
    theirs, ours = EXPIRED.format("rivals_document"), EXPIRED.format("public")
    compare(bench, "expiry scan, 1,000 rows", theirs, ours, [()], counted, [GRACE])
    # One client: of two at once, the second would wait for the first one's rows.
    purge = Side(
        "the package", synchronous.called(world, identity.service(), purged, asynchronous.turns([10]))
    )
    bench.compare(Comparison("purge of 10 expired reports, given back", [purge]))
    _month(bench, world)
    _assessment(bench, world)
    learning.run(bench)
    chat.run(bench)


def _assessment(bench: Bench, world: World) -> None:
    """The one insert that a document puts a time to; rows stay, as they would."""
    with world.connect() as owner:
        owner.execute(
            "CREATE TABLE rivals_document.cw_assessment_sessions"
            " (LIKE public.cw_assessment_sessions INCLUDING ALL)"
        )
    form = {"goal": "energy", "age": 40, "notes": "eats eggs, no liver", "answers": list(range(40))}
    given = [(f"ada{number}@example.com", form) for number in range(500)]
    values = [(email, "Ada", json.dumps(form)) for email, form in given]
    draws, service = asynchronous.turns(given), identity.service()
    sides = [
        Side("the document's table", asked(world, SUBMIT.format("rivals_document"), values)),
        Side("ours, the statement", asked(world, SUBMIT.format("public"), values)),
        Side("the package", synchronous.called(world, service, submitted, asynchronous.turns(given))),
    ]
    name = "an assessment's insert"
    for clients in (1, 8):
        bench.compare(Comparison(name, sides, clients), seconds=0.5)
    floor = asynchronous.asked(world, SUBMIT.format("public"), asynchronous.turns(values))
    package = asynchronous.called(world, service, submitted, draws)
    asynchronous.compare(bench, name, Side("ours, psycopg", floor), Side("the package", package))


def submitted(tx: Session, given: tuple[str, dict[str, object]]) -> None:
    email, form = given
    assessments.submit(tx, email=email, first_name="Ada", form_data=form)


def counted(tx: Session, grace: timedelta) -> None:
    tx.scalars(select(func.count()).where(GeneratedReport.expires_at < func.now() - grace)).one()


def _month(bench: Bench, world: World) -> None:
    """The query over the log takes too long for eight at once; the rollup does not."""
    middle = first_of(datetime.now(UTC).date(), 2)
    after = first_of(middle, -1)
    bounds = [tuple(datetime.combine(day, datetime.min.time(), UTC) for day in (middle, after))]
    service, rolled = identity.service(), [(middle, after)]
    began = time.perf_counter()
    world.rows("SELECT analytics.refresh()")
    bench.note("rebuilding the rollup took, s", round(time.perf_counter() - began, 2))
    with database(world, 1).transaction(as_=service) as tx:
        expected = access_log.counts_per_day(tx, middle)
    if not expected or dict(world.rows(ROLLUP, middle, after)) != expected:
        raise RowsLost("the rollup does not say what the log does")
    ((number,),) = world.rows(f"SELECT count(*) FROM {LOGGED}", *bounds[0])
    bench.note("accesses in the month by day", number)
    ((number,),) = world.rows("SELECT count(*) FROM public.report_access_log")
    bench.note("accesses in the log", number)
    bench.compare(
        Comparison(
            "month by day",
            [
                Side("plain query", asked(world, MONTH.format("public"), bounds)),
                Side("obvious query", asked(world, MONTH.format("rivals_document"), bounds)),
                Side(
                    "the package, counted when asked",
                    synchronous.called(
                        world, service, access_log.counts_per_day, asynchronous.turns([middle])
                    ),
                ),
                Side("the rollup", asked(world, ROLLUP, rolled)),
            ],
        )
    )
    bench.compare(
        Comparison("month by day, the rollup", [Side("the rollup", asked(world, ROLLUP, rolled))], 8)
    )
    turns = asynchronous.turns
    asynchronous.compare(
        bench,
        "month by day",
        Side("the rollup, psycopg", asynchronous.asked(world, ROLLUP, turns(rolled))),
        Side(
            "the package, counted when asked",
            asynchronous.called(world, service, access_log.counts_per_day, turns([middle])),
        ),
        clients=(1,),
    )
    asynchronous.compare(
        bench,
        "month by day, the rollup",
        Side("the rollup, psycopg", asynchronous.asked(world, ROLLUP, turns(rolled))),
        clients=(8,),
    )
