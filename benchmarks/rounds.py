"""How things are timed: all sides of a comparison in turn, round after round, by one client or by many.

The first side is the floor, which the others are compared to within the same round: what else the machine
does then falls on all of them. The first moments of each run are not counted, but what they wrote is.
"""

import asyncio
import itertools
import multiprocessing
import statistics
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any, Literal

from psycopg import errors

from carnivore_db.errors import Busy

How = Literal["threads", "processes", "tasks"]
Operation = Callable[[], object]
# Takes the clients' numbers, and opens one operation for each.
Connect = Callable[[range], AbstractContextManager[Sequence[Operation]]]
AsyncConnect = Callable[[range], AbstractAsyncContextManager[Sequence[Callable[[], Awaitable[object]]]]]

# What a busy database may answer; the client would try again. All else ends the benchmark.
FAILURES = (
    Busy,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
    errors.QueryCanceled,
    errors.SerializationFailure,
)
PATIENCE = 120  # seconds that a process may take to connect, or to end
clock = time.perf_counter


@dataclass
class Sample:
    """What one run of a side did. `done` counts the warm-up, `took` holds seconds without it."""

    elapsed: float = 0
    done: int = 0
    took: array = field(default_factory=lambda: array("d"))
    failed: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Side:
    """One way of doing the thing. `around` is entered for each run, and is given its sample after it."""

    name: str
    connect: Connect | AsyncConnect
    around: Callable[[], AbstractContextManager[Callable[[Sample], None]]] = lambda: nullcontext(
        lambda sample: None
    )


@dataclass(frozen=True)
class Comparison:
    """The same thing done in several ways; `unit` is what one operation handles, `rows` how many of them."""

    name: str
    sides: Sequence[Side]
    clients: int = 1
    how: How = "threads"
    rows: int = 1
    unit: str = "operation"


@dataclass
class Measured:
    """A side's figures. Ratios are to the floor of the same round: of time below 1 is faster, of
    throughput above 1."""

    name: str
    median_ms: float = 0
    p99_ms: float = 0
    per_second: float = 0
    time_ratio: float = 1
    throughput_ratio: float = 1
    operations: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    rounds_per_second: list[float] = field(default_factory=list)

    @property
    def failed_share(self) -> float:
        failed = sum(self.failed.values())
        return failed / (failed + self.operations) if failed else 0


class Turns:
    """The values, one after the other; each client begins elsewhere."""

    def __init__(self, values: Sequence[Any], client: int) -> None:
        begin = client * 61 % len(values)
        self._values = itertools.cycle([*values[begin:], *values[:begin]])

    def next(self) -> Any:
        return next(self._values)


def _merge(samples: Sequence[Sample]) -> Sample:
    merged = Sample(elapsed=max(sample.elapsed for sample in samples))
    for sample in samples:
        merged.done += sample.done
        merged.took.extend(sample.took)
        merged.failed.update(sample.failed)
    return merged


def _work(operation: Operation, warm: float, seconds: float) -> Sample:
    """One client's run: once before it counts at least, and once after."""
    sample = Sample()
    began = clock()
    while True:
        _once(operation, sample, took=None)
        if clock() - began >= warm:
            break
    began = clock()
    while True:
        _once(operation, sample, took=sample.took)
        if clock() - began >= seconds:
            break
    sample.elapsed = clock() - began
    return sample


def _once(operation: Operation, sample: Sample, took: array | None) -> None:
    began = clock()
    try:
        operation()
    except FAILURES as error:
        if took is not None:
            sample.failed[type(error).__name__] += 1
    else:
        sample.done += 1
        if took is not None:
            took.append(clock() - began)


def _threads(side: Side, clients: int, warm: float, seconds: float) -> Sample:
    with side.connect(range(clients)) as operations:
        if clients == 1:
            return _work(operations[0], warm, seconds)
        with ThreadPoolExecutor(clients) as pool:
            return _merge(list(pool.map(lambda operation: _work(operation, warm, seconds), operations)))


def _tasks(side: Side, clients: int, warm: float, seconds: float) -> Sample:
    async def once(operation: Callable[[], Awaitable[object]], sample: Sample, took: array | None) -> None:
        began = clock()
        try:
            await operation()
        except FAILURES as error:
            if took is not None:
                sample.failed[type(error).__name__] += 1
        else:
            sample.done += 1
            if took is not None:
                took.append(clock() - began)
        await asyncio.sleep(0)  # an answer that is there at once would keep the others waiting

    async def work(operation: Callable[[], Awaitable[object]]) -> Sample:
        sample = Sample()
        began = clock()
        while True:
            await once(operation, sample, None)
            if clock() - began >= warm:
                break
        began = clock()
        while True:
            await once(operation, sample, sample.took)
            if clock() - began >= seconds:
                break
        sample.elapsed = clock() - began
        return sample

    async def all_of_them() -> list[Sample]:
        async with side.connect(range(clients)) as operations:
            return await asyncio.gather(*(work(operation) for operation in operations))

    return _merge(asyncio.run(all_of_them()))


def _process(side: Side, number: int, times: tuple[float, float], start: Barrier, answer: Connection) -> None:
    try:
        with side.connect(range(number, number + 1)) as (operation,):
            start.wait(PATIENCE)
            answer.send(_work(operation, *times))
    except BaseException as error:  # noqa: BLE001 - the parent raises it
        start.abort()
        answer.send(f"{type(error).__name__}: {error}")


def _processes(side: Side, clients: int, warm: float, seconds: float) -> Sample:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(clients)
    workers, answers = [], []
    for number in range(clients):
        ours, theirs = context.Pipe(duplex=False)
        # They end with this process, should it be told to stop.
        worker = context.Process(
            target=_process, args=(side, number, (warm, seconds), start, theirs), daemon=True
        )
        worker.start()
        theirs.close()
        workers.append(worker)
        answers.append(ours)
    found: list[Any] = []
    for answer in answers:
        patient = answer.poll(PATIENCE + warm + seconds)
        found.append(answer.recv() if patient else "no answer in time")
    for worker in workers:
        worker.join(PATIENCE)
        if worker.exitcode is None:
            worker.kill()
    if wrong := [text for text in found if isinstance(text, str)]:
        raise RuntimeError(f"{side.name}: {wrong[0]}")
    return _merge(found)


_RUN = {"threads": _threads, "processes": _processes, "tasks": _tasks}


def run(comparison: Comparison, side: Side, *, warm: float, seconds: float) -> Sample:
    """One run of one side. Raises what a client raises that is not one of FAILURES."""
    with side.around() as ended:
        sample = _RUN[comparison.how](side, comparison.clients, warm, seconds)
        ended(sample)
    return sample


def measure(
    comparison: Comparison, *, rounds: Callable[[int], bool], seconds: float, on_run: Callable[[str], None]
) -> list[Measured]:
    """All sides in turn, each round in another order, while `rounds` says so of the round's number."""
    warm = max(seconds / 5, 0.03)
    sides = list(comparison.sides)
    samples: dict[str, list[Sample]] = {side.name: [] for side in sides}
    number = 0
    while rounds(number):
        turn = number % len(sides)
        for side in sides[turn:] + sides[:turn]:
            samples[side.name].append(run(comparison, side, warm=warm, seconds=seconds))
            on_run(side.name)
        number += 1
    floor = samples[sides[0].name]
    return [_measured(name, comparison.rows, made, floor) for name, made in samples.items()]


def _measured(name: str, rows: int, made: list[Sample], floor: list[Sample]) -> Measured:
    together = _merge(made)
    took = sorted(together.took)
    found = Measured(name, operations=len(took), failed=dict(together.failed))
    found.rounds_per_second = [round(_per_second(sample) * rows, 1) for sample in made]
    found.per_second = statistics.median(found.rounds_per_second)
    if took:
        found.median_ms = statistics.median(took) * 1000
        found.p99_ms = took[min(int(len(took) * 0.99), len(took) - 1)] * 1000
    pairs = list(zip(made, floor, strict=True))
    found.throughput_ratio = statistics.median(
        _per_second(sample) / (_per_second(other) or float("inf")) for sample, other in pairs
    )
    ratios = [statistics.median(s.took) / statistics.median(o.took) for s, o in pairs if s.took and o.took]
    found.time_ratio = statistics.median(ratios) if ratios else float("inf")
    return found


def _per_second(sample: Sample) -> float:
    return len(sample.took) / sample.elapsed if sample.elapsed else 0


def as_json(measured: Measured) -> dict[str, Any]:
    """For results.json, rounded to what means something."""
    return {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in asdict(measured).items()
    }
