"""Open a report (validate, log, count, return the page): ours beside separate statements and row triggers."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session

from benchmarks import asynchronous, synchronous
from benchmarks.bench import Bench, kept, relaxed
from benchmarks.check import found
from benchmarks.mature import AGENTS, World
from benchmarks.rivals import OPEN_AND_LOG, Access, Report
from benchmarks.rounds import Comparison, Operation, Side, Turns
from carnivore_db.connection.autocommit import Autocommit
from carnivore_db.weekly import reports

ADDRESS, AGENT = "10.1.2.3", AGENTS[0]
OURS = "SELECT report_id, report_html, created_at, expires_at FROM public.open_report(%s, %s, %s)"
FIND = (
    "SELECT id, report_html, created_at, expires_at FROM {}.generated_reports"
    " WHERE access_token = %s AND expires_at > now()"
)
LOG = "INSERT INTO {}.report_access_log (report_id, ip_address, user_agent) VALUES (%s, %s::inet, %s)"
COUNT = (
    "UPDATE public.generated_reports SET access_count = access_count + 1, last_accessed_at = now()"
    " WHERE id = %s"
)


def whole(statement: str, connection: psycopg.Connection, token: str) -> None:
    found(connection.execute(statement, [token, ADDRESS, AGENT], prepare=True).fetchone())


def separate(connection: psycopg.Connection, token: str) -> None:
    with connection.transaction():
        report = connection.execute(FIND.format("public"), [token]).fetchone()
        found(report)
        connection.execute(LOG.format("rivals_bare"), [report[0], ADDRESS, AGENT])
        connection.execute(COUNT, [report[0]])


def row_trigger(connection: psycopg.Connection, token: str) -> None:
    report = connection.execute(FIND.format("rivals_document"), [token]).fetchone()
    found(report)
    connection.execute(LOG.format("rivals_document"), [report[0], ADDRESS, AGENT])


def orm(world: World, tokens: list[str]) -> Any:
    """A session: find the report, add the access, count, commit."""

    @contextmanager
    def connect(clients: range) -> Iterator[list[Operation]]:
        engine = create_engine(world.server.url(world.name), pool_size=len(clients))

        def operation(client: int) -> Operation:
            turns = Turns(tokens, client)

            def run() -> None:
                with Session(engine) as session:
                    wanted = select(Report).where(
                        Report.access_token == turns.next(), Report.expires_at > func.now()
                    )
                    report = session.scalars(wanted).one()
                    session.add(Access(report_id=report.id, ip_address=ADDRESS, user_agent=AGENT))
                    # In SQL: read, add and write back would lose what others counted meanwhile.
                    report.access_count = Report.access_count + 1
                    report.last_accessed_at = func.now()
                    session.commit()

            return run

        yield [operation(client) for client in clients]
        engine.dispose()

    return connect


def opened(tx: Autocommit, token: str) -> None:
    found(reports.open(tx, token, ip_address=ADDRESS, user_agent=AGENT))


def run(bench: Bench) -> None:
    """With one client and with eight, with durable commits and with ones that do not wait for the disk."""
    world = bench.system
    tokens = world.tokens()
    draws = asynchronous.turns(tokens)
    floor = OPEN_AND_LOG.format(reports="public", log="rivals_bare")
    ours = partial(kept, world, log="public", reports="public")
    nothing = partial(kept, world, log="rivals_bare", reports=None)
    separately = partial(kept, world, log="rivals_bare", reports="public")
    deferred = "SET carnivore.access_counting = 'deferred'"
    sides = [
        Side(
            "no counting, one statement",
            synchronous.through_psycopg(world, draws, partial(whole, floor)),
            nothing,
        ),
        Side("open_report, psycopg", synchronous.through_psycopg(world, draws, partial(whole, OURS)), ours),
        Side(
            "open_report, psycopg, deferred",
            synchronous.through_psycopg(world, draws, partial(whole, OURS), deferred),
            ours,
        ),
        Side("the package", synchronous.called(world, None, opened, draws), ours),
        Side(
            "the package, deferred",
            synchronous.called(world, None, opened, draws, access_counting="deferred"),
            ours,
        ),
        Side(
            "the package, statements prepared",
            synchronous.called(world, None, opened, draws, prepare_threshold=5),
            ours,
        ),
        Side("separate statements, psycopg", synchronous.through_psycopg(world, draws, separate), separately),
        Side("separate statements, SQLAlchemy ORM", orm(world, tokens), separately),
        Side(
            "the document's row trigger, psycopg",
            synchronous.through_psycopg(world, draws, row_trigger),
            partial(kept, world, log="rivals_document", reports="rivals_document"),
        ),
    ]
    for name, durability in (("durable", nullcontext()), ("commits not awaited", relaxed(world))):
        with durability:
            for clients in (1, 8):
                bench.compare(Comparison(f"open: {name}", sides, clients))
    values = [(token, ADDRESS, AGENT) for token in tokens]
    asynchronous.compare(
        bench,
        "open",
        Side("no counting, psycopg", asynchronous.asked(world, floor, asynchronous.turns(values)), nothing),
        Side("the package", asynchronous.called(world, None, opened, draws), ours),
        Side(
            "the package, deferred",
            asynchronous.called(world, None, opened, draws, access_counting="deferred"),
            ours,
        ),
    )
    with world.connect() as owner:
        owner.execute("SELECT public.fold_report_access(100000)")
        owner.execute("SELECT pg_sleep(0.1), pg_stat_force_next_flush()")
        updates = owner.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
            " WHERE relid = 'public.generated_reports'::regclass"
        ).fetchone()
    if updates and updates[0]:
        bench.note("HOT share of the counters' updates", round(updates[1] / updates[0], 3))
