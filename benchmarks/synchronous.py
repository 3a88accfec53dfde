"""The synchronous sides: clients with a connection each, through psycopg and through the package."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg

from benchmarks.asynchronous import Draws
from benchmarks.bench import database
from benchmarks.mature import World
from benchmarks.rounds import Operation
from carnivore_db import Identity

Do = Callable[[psycopg.Connection, Any], object]


def through_psycopg(world: World, draws: Draws, do: Do, setting: str = "") -> Any:
    """Each client has a connection in autocommit, the superuser's, which begins with `setting`."""

    @contextmanager
    def connect(clients: range) -> Iterator[list[Operation]]:
        with ExitStack() as stack:

            def operation(client: int) -> Operation:
                connection = stack.enter_context(world.connect())
                if setting:
                    connection.execute(setting)
                draw = draws(client)
                return lambda: do(connection, draw())

            yield [operation(client) for client in clients]

    return connect


def called(
    world: World, who: Identity | None, verb: Callable[..., object], draws: Draws, **settings: Any
) -> Any:
    """A verb of the package, given what is drawn, in a transaction of `who`; None: by itself."""

    @contextmanager
    def connect(clients: range) -> Iterator[list[Operation]]:
        db = database(world, len(clients), **settings)

        def operation(client: int) -> Operation:
            draw = draws(client)

            def run() -> None:
                if who is None:
                    verb(db.autocommit, draw())
                    return
                with db.transaction(as_=who) as tx:
                    verb(tx, draw())

            return run

        yield [operation(client) for client in clients]
        db.close()

    return connect
