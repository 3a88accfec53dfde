"""Counting under load, 8 clients: any report, one hot report, batches that overlap.

Immediate and deferred counting beside the document's row trigger, a statement's trigger as it is usually
written, and no counting at all. The law is checked after each run: every row that was acknowledged is there,
and counted or pending. Each run finds empty logs and vacuumed reports.
"""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
from sqlalchemy.orm import Session

from benchmarks import asynchronous, rivals
from benchmarks.bench import Bench, kept, relaxed
from benchmarks.mature import AGENTS, SEED, World
from benchmarks.rounds import Comparison, Operation, Sample, Side
from carnivore_db import Identity, identity
from carnivore_db.connection.autocommit import Autocommit
from carnivore_db.weekly import access_log, reports

CLIENTS = 8
BATCH = 1_000
ADDRESS, AGENT = "10.1.2.3", AGENTS[0]
OURS = "SELECT report_id, report_html, created_at, expires_at FROM public.open_report(%s, %s, %s)"
# As access_log.record has it.
LOCKING = """
    INSERT INTO public.report_access_log (report_id, ip_address, user_agent)
    SELECT id, %s::inet, %s FROM public.generated_reports WHERE id = %s
        AND current_setting('carnivore.access_counting', true) IS DISTINCT FROM 'deferred'
    FOR NO KEY UPDATE
"""
DEFER = "SET carnivore.access_counting = 'deferred'"
FOLD = "SELECT public.fold_report_access(1000)"
FOLD_EVERY = 0.2  # seconds


@dataclass(frozen=True)
class Design:
    """Where a design keeps its log and its counters, and how a report is opened with it."""

    name: str
    log: str
    reports: str | None  # None: nothing counts
    setting: str = ""
    folded: bool = False
    locking: bool = False  # whether an access is recorded as access_log.record does it

    @property
    def opens(self) -> str:
        if self.log == "public":
            return OURS
        return rivals.OPEN_AND_LOG.format(reports=self.reports or "public", log=self.log)


DESIGNS = (
    Design("no counting", "rivals_bare", None),
    Design("immediate", "public", "public", locking=True),
    Design("deferred", "public", "public", DEFER),
    Design("deferred, folded meanwhile", "public", "public", DEFER, folded=True),
    Design("the document's row trigger", "rivals_document", "rivals_document"),
    Design("a statement's trigger", "rivals_statement", "rivals_statement"),
)
PLAIN = Design("immediate, a plain INSERT", "public", "public")
FOR_A_MINUTE = (DESIGNS[1], DESIGNS[3], DESIGNS[4], PLAIN)
Pattern = Callable[[Design, psycopg.Connection, int], Operation]


def designs_of(pattern: str) -> tuple[Design, ...]:
    """A plain INSERT is a way of its own where accesses are recorded."""
    return (*DESIGNS, PLAIN) if pattern.startswith("record") else DESIGNS


def _drawing(values: list[Any], client: int) -> Callable[[], Any]:
    choose = random.Random(SEED + client)  # noqa: S311 - the same ones each time
    return lambda: choose.choice(values)


def opens(tokens: list[str], design: Design, connection: psycopg.Connection, client: int) -> Operation:
    """Reports are opened by their tokens, in one statement whatever the design."""
    draw = _drawing(tokens, client)
    return lambda: connection.execute(design.opens, [draw(), ADDRESS, AGENT], prepare=True).fetchall()


def records(reports: list[int], design: Design, connection: psycopg.Connection, client: int) -> Operation:
    """Accesses are inserted one by one."""
    draw = _drawing(reports, client)
    if design.locking:
        return lambda: connection.execute(LOCKING, [ADDRESS, AGENT, draw()], prepare=True)
    statement = rivals.RECORD.format(log=design.log)
    return lambda: connection.execute(statement, [draw(), ADDRESS, AGENT], prepare=True)


def overlaps(reports: list[int], design: Design, connection: psycopg.Connection, client: int) -> Operation:
    """Batches of any reports, in any order: two batches at once share many."""
    choose = random.Random(SEED + client)  # noqa: S311 - the same ones each time
    statement = rivals.BATCH.format(log=design.log)
    return lambda: connection.execute(statement, [AGENT, choose.choices(reports, k=BATCH)], prepare=True)


def _folding(world: World, ended: threading.Event) -> None:
    with world.connect() as connection:
        while not ended.wait(FOLD_EVERY):
            connection.execute(FOLD)


def connecting(world: World, design: Design, pattern: Pattern) -> Any:
    """A connection for each client; beside the first one somebody folds, where that is asked for."""

    @contextmanager
    def connect(clients: range) -> Iterator[list[Operation]]:
        with ExitStack() as stack:
            operations = []
            for client in clients:
                connection = stack.enter_context(world.connect())
                if design.setting:
                    connection.execute(design.setting)
                operations.append(pattern(design, connection, client))
                if design.folded and client == 0:
                    ended = threading.Event()
                    folder = threading.Thread(target=_folding, args=(world, ended))
                    folder.start()
                    stack.callback(folder.join)
                    stack.callback(ended.set)
            yield operations

    return connect


@contextmanager
def afresh(world: World, design: Design, rows: int) -> Iterator[Callable[[Sample], None]]:
    """An empty log and clean counters before the run; the law after it."""
    with world.connect() as owner:
        owner.execute("SET session_replication_role = replica")  # the log cannot be emptied in any other way
        pending = ", public.report_access_pending" if design.log == "public" else ""
        owner.execute(f"TRUNCATE {design.log}.report_access_log{pending}")
        if design.reports:
            owner.execute(
                f"UPDATE {design.reports}.generated_reports SET access_count = 0 WHERE access_count <> 0"
            )
            owner.execute(f"VACUUM {design.reports}.generated_reports")
    with kept(world, log=design.log, reports=design.reports, rows=rows) as check:
        yield check


def comparison(
    world: World, name: str, pattern: Pattern, rows: int, designs: tuple[Design, ...]
) -> Comparison:
    sides = [
        Side(
            design.name,
            connecting(world, design, pattern),
            partial(afresh, world, design, rows),
        )
        for design in designs
    ]
    return Comparison(name, sides, CLIENTS, "processes", rows, "row")


def run(bench: Bench) -> None:
    """All patterns with durable commits; then (not at scale quick) with ones that do not wait for the disk,
    where other costs show; then the hot report for a minute."""
    world = bench.world("counting", bench.scale.counted, 0, partitions=2)
    tokens, keys = world.tokens(world.reports), world.report_ids(world.reports)
    with world.connect() as owner:
        owner.execute("SET session_replication_role = replica")
        for schema in ("rivals_document", "rivals_statement"):
            if schema == "rivals_document":
                rivals.copy(owner, "user_sessions")
            rivals.copy(owner, "generated_reports", schema)
        owner.execute("VACUUM (ANALYZE)")
    patterns: list[tuple[str, Pattern, int]] = [
        ("open, any report", partial(opens, tokens), 1),
        ("open, one hot report", partial(opens, tokens[:1]), 1),
        ("record, any report", partial(records, keys), 1),
        ("record, one hot report", partial(records, keys[:1]), 1),
        ("overlapping batches of 1,000", partial(overlaps, keys), BATCH),
    ]
    durabilities = [("durable", nullcontext()), ("commits not awaited", relaxed(world))]
    for durability, within in durabilities if bench.scale.counting_rounds > 1 else durabilities[:1]:
        with within:
            for name, pattern, rows in patterns:
                # Who deadlocks waits for the server to see it, whatever a commit costs: once is enough.
                once = rows > 1 and durability != "durable"
                designs = DESIGNS[:4] if once else designs_of(name)
                compared = comparison(world, f"counting: {name}, {durability}", pattern, rows, designs)
                bench.compare(compared, seconds=1.5, number=bench.scale.counting_rounds)
    _asynchronous(bench, world, tokens, keys)
    with relaxed(world):
        _stable(bench, world, [pattern for pattern in patterns if "hot" in pattern[0]])


def recorded(tx: Session, report: int) -> None:
    access_log.record(tx, report, ip_address=ADDRESS, user_agent=AGENT)


def many(tx: Session, batch: list[int]) -> None:
    access_log.record_many(
        tx, [access_log.Access(report_id=report, ip_address=ADDRESS, user_agent=AGENT) for report in batch]
    )


def opened(tx: Autocommit, token: str) -> None:
    reports.open(tx, token, ip_address=ADDRESS, user_agent=AGENT)


def _asynchronous(bench: Bench, world: World, tokens: list[str], keys: list[int]) -> None:
    """The package's verbs in tasks, beside the statement through asynchronous psycopg that counts nothing."""
    service = identity.service()
    row, batch = rivals.RECORD.format(log="rivals_bare"), rivals.BATCH.format(log="rivals_bare")
    opening = DESIGNS[0].opens

    def batches(client: int) -> asynchronous.Draw:
        choose = random.Random(SEED + client)  # noqa: S311 - the same ones each time
        return lambda: choose.choices(keys, k=BATCH)

    def floor(statement: str, draws: asynchronous.Draws, shape: Callable[[Any], list[Any]]) -> Any:
        def shaped(client: int) -> asynchronous.Draw:
            draw = draws(client)
            return lambda: shape(draw())

        return asynchronous.written(world, statement, shaped)

    def met(value: Any) -> list[Any]:
        return [value, ADDRESS, AGENT]

    def any_of(values: list[Any]) -> asynchronous.Draws:
        return partial(_drawing, values)

    cases: list[tuple[str, Any, Identity | None, Callable[..., object], asynchronous.Draws, int]] = [
        ("open, any report", floor(opening, any_of(tokens), met), None, opened, any_of(tokens), 1),
        (
            "open, one hot report",
            floor(opening, any_of(tokens[:1]), met),
            None,
            opened,
            any_of(tokens[:1]),
            1,
        ),
        ("record, any report", floor(row, any_of(keys), met), service, recorded, any_of(keys), 1),
        ("record, one hot report", floor(row, any_of(keys[:1]), met), service, recorded, any_of(keys[:1]), 1),
        (
            "overlapping batches of 1,000",
            floor(batch, batches, lambda drawn: [AGENT, drawn]),
            service,
            many,
            batches,
            BATCH,
        ),
    ]
    for name, bare, who, verb, draws, rows in cases:
        sides = [Side(DESIGNS[0].name, bare, partial(afresh, world, DESIGNS[0], rows))]
        sides += [
            Side(
                f"the package, {design.name}",
                asynchronous.called(world, who, verb, draws, access_counting=design.name),
                partial(afresh, world, design, rows),
            )
            for design in DESIGNS[1:3]
        ]
        asynchronous.compare(bench, f"counting: {name}", *sides, rows=rows, unit="row", clients=(CLIENTS,))


def _stable(bench: Bench, world: World, patterns: list[tuple[str, Pattern, int]]) -> None:
    """One hot report for a minute: nothing is vacuumed or emptied in between."""
    sixths = 6 if bench.scale.counting_rounds > 1 else 2
    for name, pattern, _ in patterns:
        for design in designs_of(name):
            if design not in FOR_A_MINUTE:
                continue
            side = Side(
                design.name,
                connecting(world, design, pattern),
                partial(kept, world, log=design.log, reports=design.reports),
            )
            title = f"counting: {name}, for {bench.scale.stable:g} s"
            bench.compare(
                Comparison(title, [side], CLIENTS, "processes", 1, "row"),
                seconds=bench.scale.stable / sixths / bench.scale.seconds,
                number=sixths,
            )
