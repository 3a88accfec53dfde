"""One way to call repository functions, by the synchronous and by the asynchronous database."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session

from carnivore_db import AsyncDatabase, Database, Identity, Settings
from carnivore_db.connection.autocommit import Autocommit

P = ParamSpec("P")
R = TypeVar("R")


class Caller(AbstractContextManager["Caller"], ABC):
    """Runs repository functions, each in a transaction of its own."""

    database: Database | AsyncDatabase

    @property
    def events(self) -> Engine:
        """The engine that events are listened for on: an asynchronous one has it inside."""
        engine = self.database.engine
        return engine.sync_engine if isinstance(engine, AsyncEngine) else engine

    @abstractmethod
    def call(
        self,
        identity: Identity,
        function: Callable[Concatenate[Session, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """What `function` returns in a transaction of its own."""

    def run(self, identity: Identity, body: Callable[[Session], R]) -> R:
        """What `body`, which may call several functions, returns in one transaction."""
        return self.call(identity, body)

    @abstractmethod
    def alone(
        self, function: Callable[Concatenate[Autocommit, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """What `function` returns as a transaction by itself."""

    @abstractmethod
    def outside(self, body: Callable[[Connection], R]) -> R:
        """What `body` finds on a connection of the pool that no transaction has prepared."""

    @abstractmethod
    def close(self) -> None: ...

    def another(self) -> Self:
        """A caller of the same kind with connections of its own."""
        return type(self)(self.database.engine.url, settings=self.database.settings)  # type: ignore[call-arg]

    def __exit__(self, *_: object) -> None:
        self.close()


class SyncCaller(Caller):
    def __init__(self, url: URL, *, settings: Settings | None = None) -> None:
        self.database: Database = Database(url, settings=settings)

    def call(self, identity: Identity, function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        with self.database.transaction(identity) as tx:
            return function(tx, *args, **kwargs)

    def alone(self, function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        return function(self.database.autocommit, *args, **kwargs)

    def outside(self, body: Callable[[Connection], R]) -> R:
        with self.database.engine.connect() as connection:
            return body(connection)

    def close(self) -> None:
        self.database.close()


class AsyncCaller(Caller):
    def __init__(self, url: URL, *, settings: Settings | None = None) -> None:
        self.database: AsyncDatabase = AsyncDatabase(url, settings=settings)
        self._runner = asyncio.Runner()

    def call(self, identity: Identity, function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        async def in_transaction() -> R:
            async with self.database.transaction(identity) as tx:
                return await tx.run_sync(function, *args, **kwargs)

        return self._runner.run(in_transaction())

    def alone(self, function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        async def by_itself() -> R:
            return await self.database.autocommit.run_sync(function, *args, **kwargs)

        return self._runner.run(by_itself())

    def outside(self, body: Callable[[Connection], R]) -> R:
        async def connected() -> R:
            async with self.database.engine.connect() as connection:
                return await connection.run_sync(body)

        return self._runner.run(connected())

    def close(self) -> None:
        self._runner.run(self.database.close())
        self._runner.close()


KINDS: dict[str, type[SyncCaller] | type[AsyncCaller]] = {"sync": SyncCaller, "async": AsyncCaller}
