"""Record accesses in batches of 1,000: beside the document's row trigger and a COPY into a bare table."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import psycopg
from sqlalchemy.orm import Session

from benchmarks import asynchronous, synchronous
from benchmarks.bench import Bench, RowsLost, kept
from benchmarks.mature import AGENTS, SEED, World
from benchmarks.rivals import BATCH
from benchmarks.rounds import Comparison, Sample, Side
from carnivore_db import identity
from carnivore_db.weekly import access_log

ROWS = 1_000
AGENT = AGENTS[0]
COPY = "COPY rivals_bare.copied (report_id, ip_address, user_agent) FROM STDIN"


def batches(reports: list[int], client: int) -> Callable[[], list[int]]:
    """A batch is of any reports, one of them perhaps twice; each client draws others."""
    choose = random.Random(SEED + client)  # noqa: S311 - the same batches each time
    return lambda: choose.choices(reports, k=ROWS)


def copied(connection: psycopg.Connection, batch: list[int]) -> None:
    with connection.cursor() as cursor, cursor.copy(COPY) as copy:
        for report in batch:
            copy.write_row((report, "10.1.2.3", AGENT))


def inserted(statement: str, connection: psycopg.Connection, batch: list[int]) -> None:
    connection.execute(statement, [AGENT, batch], prepare=True)


def deferred(connection: psycopg.Connection, batch: list[int]) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL carnivore.access_counting = 'deferred'")
        connection.execute(BATCH.format(log="public"), [AGENT, batch])


def recorded(tx: Session, batch: list[int]) -> None:
    access_log.record_many(
        tx, [access_log.Access(report_id=report, ip_address="10.1.2.3", user_agent=AGENT) for report in batch]
    )


@contextmanager
def copies_kept(world: World) -> Iterator[Callable[[Sample], None]]:
    with world.connect() as owner:
        owner.execute("TRUNCATE rivals_bare.copied")

        def check(sample: Sample) -> None:
            ((there,),) = owner.execute("SELECT count(*) FROM rivals_bare.copied").fetchall()
            if there != sample.done * ROWS:
                raise RowsLost(f"{sample.done * ROWS} rows were copied, {there} are there")

        yield check


def run(bench: Bench) -> None:
    """Processes, so that eight clients are not one interpreter; then eight tasks."""
    world = bench.system
    draws = partial(batches, world.report_ids(world.reports))
    ours = partial(kept, world, log="public", reports="public", rows=ROWS)
    copy = Side(
        "COPY into a bare table",
        synchronous.through_psycopg(world, draws, copied),
        partial(copies_kept, world),
    )
    bare = Side(
        "no counting, psycopg",
        synchronous.through_psycopg(world, draws, partial(inserted, BATCH.format(log="rivals_bare"))),
        partial(kept, world, log="rivals_bare", reports=None, rows=ROWS),
    )
    document = Side(
        "the document's row trigger, psycopg",
        synchronous.through_psycopg(world, draws, partial(inserted, BATCH.format(log="rivals_document"))),
        partial(kept, world, log="rivals_document", reports="rivals_document", rows=ROWS),
    )
    sides = [
        copy,
        bare,
        Side("deferred, psycopg", synchronous.through_psycopg(world, draws, deferred), ours),
        Side(
            "record_many of the package", synchronous.called(world, identity.service(), recorded, draws), ours
        ),
        document,
    ]
    for clients in (1, 8):
        bench.compare(
            Comparison("record: batches of 1,000", sides, clients, "processes", ROWS, "row"),
            seconds=2,
            number=bench.scale.counting_rounds,
        )
    with world.connect() as owner:
        owner.execute("SELECT public.fold_report_access(100000)")

    def drawn(client: int) -> asynchronous.Draw:
        draw = draws(client)
        return lambda: [AGENT, draw()]

    asynchronous.compare(
        bench,
        "record: batches of 1,000",
        Side(
            "no counting, psycopg",
            asynchronous.written(world, BATCH.format(log="rivals_bare"), drawn),
            partial(kept, world, log="rivals_bare", reports=None, rows=ROWS),
        ),
        Side(
            "record_many of the package",
            asynchronous.called(world, identity.service(), recorded, draws),
            ours,
        ),
        rows=ROWS,
        unit="row",
    )
