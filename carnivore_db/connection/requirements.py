"""What a database must be: PostgreSQL 15 or newer, in UTF8. Its greeting says so, without a question."""

from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, pool

from carnivore_db.errors import ConfigurationError

OLDEST = 15


def require(engine: Engine) -> None:
    """Have each new connection of an engine refuse, with ConfigurationError, a database that will not do."""
    # First of all: SQLAlchemy's own look at a new server cannot read another encoding.
    event.listen(engine, "connect", _on_connect, insert=True)


def unpooled(url: URL) -> Engine:
    """An engine for a command: no pool, and the same refusal."""
    engine = create_engine(url, poolclass=pool.NullPool)
    require(engine)
    return engine


def check(connection: Connection) -> None:
    """The same for a connection that another engine opened."""
    _check(connection.connection.driver_connection)


def _on_connect(_: Any, record: Any) -> None:
    _check(record.driver_connection)


def _check(driver: Any) -> None:
    major = driver.info.server_version // 10_000
    if major < OLDEST:
        raise ConfigurationError(f"PostgreSQL {OLDEST} or newer is needed, and the server is {major}")
    # A server that names no encoding is a pooling proxy's console.
    encoding = driver.info.parameter_status("server_encoding")
    if encoding not in (None, "UTF8"):
        raise ConfigurationError(f"the database's encoding must be UTF8, and is {encoding}")
