"""The asynchronous sides: tasks of one loop, through psycopg and through the package."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg

from benchmarks.bench import Bench
from benchmarks.mature import World
from benchmarks.rounds import Comparison, Side, Turns
from carnivore_db import AsyncDatabase, Identity, Settings

# Gives what a client asks for next.
Draw = Callable[[], Any]
Draws = Callable[[int], Draw]
Do = Callable[[psycopg.AsyncConnection, Any], Awaitable[object]]


def turns(values: Sequence[Any]) -> Draws:
    """The values, one after the other."""
    return lambda client: Turns(values, client).next


def through_psycopg(dsn: str, draws: Draws, do: Do) -> Any:
    """Each task has a connection in autocommit."""

    @asynccontextmanager
    async def connect(clients: range) -> AsyncIterator[list[Any]]:
        async with AsyncExitStack() as stack:

            async def operation(client: int) -> Any:
                opened = psycopg.AsyncConnection.connect(dsn, autocommit=True)
                connection = await stack.enter_async_context(await opened)
                draw = draws(client)

                async def run() -> None:
                    await do(connection, draw())

                return run

            yield [await operation(client) for client in clients]

    return connect


def asked(world: World, statement: str, draws: Draws, *, some: bool = True) -> Any:
    """A prepared statement that gives rows, as the superuser. `some`: it must find some."""

    async def do(connection: psycopg.AsyncConnection, values: Sequence[Any]) -> None:
        cursor = await connection.execute(statement, values, prepare=True)
        if not await cursor.fetchall() and some:
            raise LookupError(f"nothing was found by {statement}")

    return through_psycopg(world.server.dsn(world.name), draws, do)


def written(world: World, statement: str, draws: Draws) -> Any:
    """A prepared statement that gives no rows."""

    async def do(connection: psycopg.AsyncConnection, values: Sequence[Any]) -> None:
        await connection.execute(statement, values, prepare=True)

    return through_psycopg(world.server.dsn(world.name), draws, do)


def called(
    world: World, who: Identity | None, verb: Callable[..., object], draws: Draws, **settings: Any
) -> Any:
    """A verb of the package, given what is drawn, in a transaction of `who`; None: by itself."""

    @asynccontextmanager
    async def connect(clients: range) -> AsyncIterator[list[Any]]:
        db = AsyncDatabase(world.url, settings=Settings(pool_size=len(clients), **settings))

        def operation(client: int) -> Any:
            draw = draws(client)

            async def run() -> None:
                if who is None:
                    await db.autocommit.run_sync(verb, draw())
                    return
                async with db.transaction(as_=who) as tx:
                    await tx.run_sync(verb, draw())

            return run

        yield [operation(client) for client in clients]
        await db.close()

    return connect


def compare(
    bench: Bench,
    name: str,
    *sides: Side,
    rows: int = 1,
    unit: str = "operation",
    clients: Sequence[int] = (1, 8),
) -> None:
    """The first side is the floor; with one task and with eight."""
    for number in clients:
        comparison = Comparison(f"{name}: asynchronous", sides, number, "tasks", rows, unit)
        bench.compare(comparison, seconds=0.5)
