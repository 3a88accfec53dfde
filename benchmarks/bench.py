"""One run of the benchmark: its scale, its server, the worlds that it filled and what it has measured."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import mature, rounds
from benchmarks.mature import World
from benchmarks.rounds import Comparison, Measured, Sample
from carnivore_db import Database, Settings
from carnivore_db.dev.local import Server
from carnivore_db.schema import migrations


@dataclass(frozen=True)
class Scale:
    """How much is filled, and how long each side of a comparison runs."""

    reports: int
    accesses: int
    growth: tuple[int, ...]
    partitions: tuple[int, ...]
    counted: int  # reports of the counting comparisons
    seconds: float
    rounds: int
    stable: float  # seconds that the hot report is opened for
    shared_buffers: str
    deadlock_timeout: str = "1s"
    counting_rounds: int = 3


SCALES = {
    "quick": Scale(1_000, 20_000, (300, 1_000), (6, 12), 500, 0.05, 2, 1, "128MB", "50ms", 1),
    "small": Scale(10_000, 500_000, (1_000, 10_000), (6, 24, 120), 2_000, 0.25, 3, 6, "512MB"),
    "full": Scale(100_000, 10_000_000, (1_000, 100_000, 1_000_000), (6, 24, 120), 10_000, 1, 5, 60, "4GB"),
}


class RowsLost(AssertionError):
    """Rows that were acknowledged are not there, or were not counted."""


@dataclass
class Bench:
    """What the comparisons need. Worlds are filled when they are first asked for."""

    server: Server
    scale: Scale
    console: Console
    deadline: float  # of time.monotonic(); behind it each comparison has one short round
    stack: ExitStack
    found: dict[str, Any] = field(default_factory=dict)  # what the group has measured so far
    worlds: dict[str, World] = field(default_factory=dict)
    progress: Progress = field(init=False)
    runs: int = 0

    def __post_init__(self) -> None:
        # Without a thread of its own: clients are forked.
        self.progress = self.stack.enter_context(
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                console=self.console,
                auto_refresh=False,
                transient=True,
            )
        )
        self.login = self.stack.enter_context(mature.application_login(self.server, secrets.token_hex(16)))

    @property
    def system(self) -> World:
        """The system that the documents call mature, with the document's twin beside it."""
        return self.world("mature", self.scale.reports, self.scale.accesses, twin=True)

    def grown(self, reports: int) -> World:
        """A system of so many reports. In each of them a report has as many accesses, and nobody wrote there
        before: what differs is the number of rows alone."""
        each = max(1, self.scale.accesses // max(self.scale.growth))
        return self.world(f"grown_{reports}", reports, reports * each)

    def forget(self, *names: str) -> None:
        """Drop worlds that nothing asks for any more: their disk is wanted."""
        for name in names:
            if world := self.worlds.pop(name, None):
                self._drop(world.name)

    def world(
        self, name: str, reports: int, accesses: int, *, twin: bool = False, partitions: int = mature.MONTHS
    ) -> World:
        if name in self.worlds:
            return self.worlds[name]
        began = time.monotonic()
        dbname = f"carnivore_bench_{name}_{secrets.token_hex(3)}"
        with psycopg.connect(self.server.dsn("postgres"), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {dbname}")
        self.stack.callback(self._drop, dbname)
        task = self.progress.add_task(f"Filling {name}: {reports:,} reports, {accesses:,} accesses", total=1)
        self.progress.refresh()
        migrations.upgrade(self.server.url(dbname))
        world = World(self.server, dbname, self.login, reports, accesses)
        with world.connect() as owner:
            owner.execute(f"GRANT anon, authenticated, service_role TO {self.login.user}")

        def advance(what: str, share: float) -> None:
            self.progress.update(task, completed=share, description=f"Filling {name}: {what}", refresh=True)

        mature.fill(world, twin=twin, partitions=partitions, advance=advance)
        self.progress.remove_task(task)
        self.console.print(
            f"Filled {name}: {reports:,} reports, {accesses:,} accesses in {time.monotonic() - began:.0f} s"
        )
        self.worlds[name] = world
        return world

    def _drop(self, dbname: str) -> None:
        with psycopg.connect(self.server.dsn("postgres"), autocommit=True) as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {dbname} WITH (FORCE)")

    def compare(
        self, comparison: Comparison, *, seconds: float = 1, number: int | None = None
    ) -> list[Measured]:
        """Measure, print and keep a comparison. `seconds` is a factor of the scale's."""
        late = time.monotonic() > self.deadline
        wanted = 1 if late else number or self.scale.rounds
        length = self.scale.seconds * (0.3 if late else seconds)
        task = self.progress.add_task(comparison.name, total=wanted * len(comparison.sides))

        def on_run(side: str) -> None:
            self.runs += 1
            self.progress.update(task, advance=1, description=f"{comparison.name}: {side}", refresh=True)

        measured = rounds.measure(
            comparison, rounds=lambda done: done < wanted, seconds=length, on_run=on_run
        )
        self.progress.remove_task(task)
        self.console.print(shown(comparison, measured))
        self.found.setdefault("comparisons", []).append(
            {
                "name": comparison.name,
                "clients": comparison.clients,
                "how": comparison.how,
                "unit": comparison.unit,
                "rounds": wanted,
                "seconds": length,
                "sides": [rounds.as_json(side) for side in measured],
            }
        )
        return measured

    def note(self, name: str, value: object) -> None:
        """Keep a fact that is no comparison."""
        self.found.setdefault("facts", {})[name] = value


def shown(comparison: Comparison, measured: list[Measured]) -> Table:
    clients = "1 client" if comparison.clients == 1 else f"{comparison.clients} {comparison.how}"
    table = Table(title=f"{comparison.name}, {clients}", title_justify="left", min_width=90)
    table.add_column("side")
    for heading in ("median ms", "p99 ms", f"{comparison.unit}s/s", "time x", "throughput x", "failed"):
        table.add_column(heading, justify="right")
    for side in measured:
        table.add_row(
            side.name,
            f"{side.median_ms:.3f}",
            f"{side.p99_ms:.3f}",
            f"{side.per_second:,.0f}",
            f"{side.time_ratio:.2f}",
            f"{side.throughput_ratio:.2f}",
            f"{side.failed_share:.1%}" if side.failed else "",
        )
    return table


@contextmanager
def kept(world: World, *, log: str, reports: str | None, rows: int = 1) -> Iterator[Callable[[Sample], None]]:
    """Check that a run lost nothing: each row that was acknowledged is in the log of the schema `log`, and
    was counted in the reports of the schema `reports` or is pending there. Raises RowsLost."""
    with world.connect() as owner:
        ((last,),) = owner.execute(f"SELECT coalesce(max(id), 0) FROM {log}.report_access_log").fetchall()
        before = _counted(owner, reports)

        def check(sample: Sample) -> None:
            ((there,),) = owner.execute(
                f"SELECT count(*) FROM {log}.report_access_log WHERE id > %s", [last]
            ).fetchall()
            if there != sample.done * rows:
                raise RowsLost(f"{sample.done * rows} rows were acknowledged in {log}, {there} are there")
            if reports is not None and (counted := _counted(owner, reports) - before) != there:
                raise RowsLost(f"{there} rows were logged in {log}, {counted} were counted in {reports}")

        yield check


def _counted(owner: psycopg.Connection, reports: str | None) -> int:
    if reports is None:
        return 0
    pending = "(SELECT coalesce(sum(access_count), 0) FROM public.report_access_pending)"
    added = pending if reports == "public" else "0"
    query = f"SELECT coalesce(sum(access_count), 0) + {added} FROM {reports}.generated_reports"
    ((counted,),) = owner.execute(query).fetchall()
    return int(counted)


@contextmanager
def relaxed(world: World) -> Iterator[None]:
    """Within the block a new session's COMMIT does not wait for the disk, so that other costs show."""
    with world.connect() as owner:
        owner.execute(f"ALTER DATABASE {world.name} SET synchronous_commit = off")
        yield
        owner.execute(f"ALTER DATABASE {world.name} RESET synchronous_commit")


def database(world: World, clients: int, **given: Any) -> Database:
    """The package's way in, with a connection for each client."""
    return Database(world.url, settings=Settings(pool_size=max(clients, 1), **given))
