"""Database and AsyncDatabase: an engine with a pool, and transactions that know who is asking."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, PoolResetState

from carnivore_db import errors
from carnivore_db.autocommit import AsyncAutocommit, Autocommit
from carnivore_db.identity import Identity
from carnivore_db.settings import Settings, parse_url

LOG_NAME = "carnivore_db"

# At DEBUG SQLAlchemy logs every row it reads, and rows hold tokens, addresses and pages.
logging.getLogger(f"sqlalchemy.engine.Engine.{LOG_NAME}").addFilter(
    lambda record: record.levelno > logging.DEBUG
)


def _engine_options(settings: Settings) -> dict[str, Any]:
    return {
        "pool_size": settings.pool_size,
        "max_overflow": settings.max_overflow,
        "pool_reset_on_return": None,  # _as_it_was does
        "logging_name": LOG_NAME,
        "hide_parameters": True,  # they hold tokens and e-mail addresses
        # Names are qualified whatever the session's search_path says.
        "execution_options": {"schema_translate_map": {None: "public"}},
        "connect_args": {"prepare_threshold": settings.prepare_threshold},
    }


def _session_options(settings: Settings) -> dict[str, Any]:
    return {"expire_on_commit": False, "info": {"access_counting": settings.access_counting}}


def _url(url: URL | str | None, settings: Settings) -> URL:
    if url is None:
        return settings.url
    return parse_url(url.render_as_string(hide_password=False) if isinstance(url, URL) else url)


def _install(engine: Engine) -> None:
    errors.install(engine)
    event.listen(engine, "checkout", _refuse_lost)
    event.listen(engine, "reset", _as_it_was)


def _refuse_lost(connection: Any, record: ConnectionPoolEntry, proxy: Any) -> None:
    """Have the pool open another connection in place of one that the server has closed.

    The goodbye has arrived by then: no question to the server is needed, as `pool_pre_ping` would ask.
    """
    driver: Any = record.driver_connection
    try:
        driver.pgconn.consume_input()  # the server's last words
        driver.pgconn.consume_input()  # and the end behind them
    except psycopg.OperationalError:
        raise DisconnectionError from None


def _as_it_was(connection: Any, record: ConnectionPoolEntry, state: PoolResetState) -> None:
    """Have the driver begin transactions again: the package's ways in send BEGIN themselves, or none."""
    if state.terminate_only or not state.asyncio_safe:  # nobody uses it again
        return
    driver: Any = record.driver_connection
    if not state.transaction_was_reset:
        connection.rollback()
    if driver.autocommit:
        connection.autocommit = False


class Database:
    """The synchronous way in.

    `transaction` gives a session; `autocommit` runs a single statement of the few that take it, faster.

    `url` overrides DATABASE_URL; `settings` override the environment's. Connections are opened when they
    are needed. Errors are those of `carnivore_db.errors`, for raw SQL too.
    """

    def __init__(self, url: URL | str | None = None, *, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.engine = create_engine(_url(url, self.settings), **_engine_options(self.settings))
        _install(self.engine)
        self.autocommit = Autocommit(self.engine, self.settings.access_counting)

    @contextmanager
    def transaction(self, as_: Identity) -> Iterator[Session]:
        """One transaction as `as_`: committed at the end of the block, rolled back by an exception.

        Raises RolledBack when the block swallowed the error of a statement, for nothing was saved then, or
        ended the transaction itself.
        """
        with Session(self.engine, **_session_options(self.settings)) as session:
            try:
                with session.begin():
                    _enter(session, as_, self.settings)
                    yield session
                    _refuse_failed(session)
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
        self.engine = create_async_engine(_url(url, self.settings), **_engine_options(self.settings))
        _install(self.engine.sync_engine)
        self.autocommit = AsyncAutocommit(self.engine, self.settings.access_counting)

    @asynccontextmanager
    async def transaction(self, as_: Identity) -> AsyncIterator[AsyncSession]:
        """One transaction as `as_`: committed at the end of the block, rolled back by an exception.

        Raises RolledBack when the block swallowed the error of a statement, for nothing was saved then, or
        ended the transaction itself.
        """
        async with AsyncSession(self.engine, **_session_options(self.settings)) as session:
            try:
                async with session.begin():
                    await _enter_asynchronously(session, as_, self.settings)
                    yield session
                    await session.run_sync(_refuse_failed)
            except PoolTimeout:
                raise errors.Busy("no connection became free in time") from None

    async def close(self) -> None:
        """Close the pool's connections."""
        await self.engine.dispose()


def _enter(session: Session, identity: Identity, settings: Settings) -> None:
    """Begin as `identity`: BEGIN and its statement are one round trip."""
    connection = session.connection()
    driver: Any = connection.connection.driver_connection
    try:
        with errors.translated:
            if _begins(driver):
                driver.autocommit = True
            with driver.pipeline():
                if driver.autocommit:
                    driver.execute("BEGIN")
                driver.execute(*identity.statement(access_counting=settings.access_counting))
    finally:
        if _unfit(driver):
            connection.invalidate()


async def _enter_asynchronously(session: AsyncSession, identity: Identity, settings: Settings) -> None:
    connection = await session.connection()
    driver: Any = (await connection.get_raw_connection()).driver_connection
    try:
        with errors.translated:
            if _begins(driver):
                await driver.set_autocommit(True)
            async with driver.pipeline():
                if driver.autocommit:
                    await driver.execute("BEGIN")
                await driver.execute(*identity.statement(access_counting=settings.access_counting))
    finally:
        if _unfit(driver):
            await connection.invalidate()


def _begins(driver: Any) -> bool:
    """Whether BEGIN is ours to send: the driver awaits the answer to its own, in a pipeline too.

    Not where somebody began before us, or gave the driver an isolation level that its BEGIN names.
    """
    wished = (driver.isolation_level, driver.read_only, driver.deferrable)
    idle = driver.pgconn.transaction_status == TransactionStatus.IDLE
    return idle and wished == (None, None, None)


def _unfit(driver: Any) -> bool:
    """Lost, or interrupted in a pipeline: nobody can use the connection again."""
    return bool(driver.closed) or driver.pgconn.pipeline_status != PipelineStatus.OFF


def _refuse_failed(session: Session) -> None:
    """PostgreSQL answers the COMMIT of a failed transaction with a rollback, and no error."""
    failed = not session.is_active
    if not failed:
        driver: Any = session.connection().connection.driver_connection
        failed = driver.pgconn.transaction_status != TransactionStatus.INTRANS
    if failed:
        raise errors.RolledBack
