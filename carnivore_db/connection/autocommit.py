"""Autocommit: single statements, each a transaction by itself, in one round trip."""

from collections.abc import Callable
from typing import Any, Concatenate, LiteralString, ParamSpec, TypeVar

from psycopg.pq import TransactionStatus
from sqlalchemy import Engine
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from carnivore_db.connection.translation import Translation
from carnivore_db.errors import Busy

P = ParamSpec("P")
T = TypeVar("T")


class Autocommit:
    """Runs statements past the ORM, on the engine's connections, as the login itself.

    Neither role nor claims are set: it is for functions that everybody may call because they ask for a
    secret, such as `open_report`. Takes the place of a transaction where a function says so:
    `reports.open(db.autocommit, token)`.
    """

    def __init__(self, engine: Engine, access_counting: str, translation: Translation) -> None:
        self._engine = engine
        self._translation = translation
        self.access_counting = access_counting

    def row(self, statement: LiteralString, values: tuple[object, ...]) -> tuple[Any, ...]:
        """The one row that `statement` returns; its parameters are written %s.

        Raises the package's errors, as statements of a transaction do.
        """
        with self._translation:
            try:
                pooled = self._engine.raw_connection()
            except PoolTimeout:
                raise Busy("no connection became free in time") from None
            # SQLAlchemy's adapter of an asynchronous connection has the same methods.
            connection: Any = pooled.dbapi_connection
            driver: Any = pooled.driver_connection
            try:
                connection.autocommit = True
                cursor = connection.cursor()
                cursor.execute(statement, values)
                row: tuple[Any, ...] = cursor.fetchone()
                return row
            finally:
                if driver.pgconn.transaction_status != TransactionStatus.IDLE:  # lost, or amid an answer
                    pooled.invalidate()
                pooled.close()


class AsyncAutocommit:
    """The same, asynchronously: `await db.autocommit.run_sync(reports.open, token)`."""

    def __init__(self, engine: AsyncEngine, access_counting: str, translation: Translation) -> None:
        self._sync = Autocommit(engine.sync_engine, access_counting, translation)
        # It lends its way to wait, to any number of tasks at once: it never gets a statement of its own.
        self._session = AsyncSession(engine)

    async def run_sync(
        self, function: Callable[Concatenate[Autocommit, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`function(autocommit, ...)`, with other tasks at work while it waits for the database."""
        return await self._session.run_sync(lambda _: function(self._sync, *args, **kwargs))
