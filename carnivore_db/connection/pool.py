"""The pool's engine: what a connection brings along and how it comes back."""

import logging
import os
from typing import Any
from weakref import WeakSet

import psycopg
from sqlalchemy import URL, Engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, PoolResetState

from carnivore_db.connection.requirements import require
from carnivore_db.connection.translation import Translation
from carnivore_db.errors import ConfigurationError
from carnivore_db.settings import Settings, parse_url

LOG_NAME = "carnivore_db"

# At DEBUG SQLAlchemy logs every row it reads, and rows hold tokens, addresses and pages.
logging.getLogger(f"sqlalchemy.engine.Engine.{LOG_NAME}").addFilter(
    lambda record: record.levelno > logging.DEBUG
)


def engine_options(settings: Settings) -> dict[str, Any]:
    """Arguments of `create_engine`."""
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


def session_options(settings: Settings) -> dict[str, Any]:
    """Arguments of `Session`."""
    info = {"access_counting": settings.access_counting, "settings": settings}
    return {"expire_on_commit": False, "info": info}


def chosen_url(url: URL | str | None, settings: Settings) -> URL:
    """`url` for psycopg 3, or that of DATABASE_URL. Raises ConfigurationError without a valid one."""
    if url is None:
        return settings.url
    try:
        return parse_url(url.render_as_string(hide_password=False) if isinstance(url, URL) else url)
    except ValueError as error:
        raise ConfigurationError(f"the database's URL {error}") from None


_ENGINES: WeakSet[Engine] = WeakSet()


def _forget_in_child() -> None:
    """A fork's connections are its parent's: two processes on one would read each other's answers."""
    for engine in list(_ENGINES):
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_in_child)


def install(engine: Engine, translation: Translation) -> None:
    """Have an engine raise the package's errors and keep its connections fit, after a fork too."""
    _ENGINES.add(engine)
    translation.install(engine)
    require(engine)
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
