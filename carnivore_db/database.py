"""Database and AsyncDatabase: an engine with a pool, and transactions that know who is asking."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy import URL, create_engine
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from carnivore_db import errors
from carnivore_db.connection.autocommit import AsyncAutocommit, Autocommit
from carnivore_db.connection.begin import enter, enter_asynchronously, refuse_failed
from carnivore_db.connection.pool import chosen_url, engine_options, install, session_options
from carnivore_db.connection.translation import Translation
from carnivore_db.identity import Identity
from carnivore_db.schema.models import constraint_facts
from carnivore_db.settings import Settings

_TRANSLATION = Translation(constraint_facts)


class Database:
    """The synchronous way in.

    `transaction` gives a session; `autocommit` runs a single statement of the few that take it, faster.

    `url` overrides DATABASE_URL; `settings` override the environment's. Connections are opened when they
    are needed. Errors are those of `carnivore_db.errors`, for raw SQL too.
    """

    def __init__(self, url: URL | str | None = None, *, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.engine = create_engine(chosen_url(url, self.settings), **engine_options(self.settings))
        install(self.engine, _TRANSLATION)
        self.autocommit = Autocommit(self.engine, self.settings.access_counting, _TRANSLATION)

    @contextmanager
    def transaction(self, as_: Identity) -> Iterator[Session]:
        """One transaction as `as_`: committed at the end of the block, rolled back by an exception.

        Raises RolledBack when the block swallowed the error of a statement, for nothing was saved then, or
        ended the transaction itself.
        """
        with Session(self.engine, **session_options(self.settings)) as session:
            try:
                with session.begin():
                    enter(session, as_, self.settings.access_counting, _TRANSLATION)
                    yield session
                    refuse_failed(session)
            except PoolTimeout:
                raise errors.Busy("no connection became free in time") from None

    def close(self) -> None:
        """Close the pool's connections."""
        self.engine.dispose()


class AsyncDatabase:
    """The asynchronous way in: the same functions, run by `run_sync`.

    `await tx.run_sync(reports.open, token)` runs `reports.open(session, token)`, and
    `await db.autocommit.run_sync(reports.open, token)` runs `reports.open(autocommit, token)`.
    """

    def __init__(self, url: URL | str | None = None, *, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.engine = create_async_engine(chosen_url(url, self.settings), **engine_options(self.settings))
        install(self.engine.sync_engine, _TRANSLATION)
        self.autocommit = AsyncAutocommit(self.engine, self.settings.access_counting, _TRANSLATION)

    @asynccontextmanager
    async def transaction(self, as_: Identity) -> AsyncIterator[AsyncSession]:
        """One transaction as `as_`: committed at the end of the block, rolled back by an exception.

        Raises RolledBack when the block swallowed the error of a statement, for nothing was saved then, or
        ended the transaction itself.
        """
        async with AsyncSession(self.engine, **session_options(self.settings)) as session:
            try:
                async with session.begin():
                    await enter_asynchronously(session, as_, self.settings.access_counting, _TRANSLATION)
                    yield session
                    await session.run_sync(refuse_failed)
            except PoolTimeout:
                raise errors.Busy("no connection became free in time") from None

    async def close(self) -> None:
        """Close the pool's connections."""
        await self.engine.dispose()
