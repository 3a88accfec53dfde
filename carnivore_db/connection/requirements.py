"""What a database must be: PostgreSQL 15 or newer, in UTF8, and how a session with it speaks.

The server's greeting tells both, without a question.
"""

from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, pool

from carnivore_db.errors import ConfigurationError

OLDEST = 15
# What the server says of itself when a session begins, and what the driver reads. A pooling proxy keeps these
# for each of its clients; what it does not tell stays as it is.
_SPOKEN = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "standard_conforming_strings": "on",
}


def require(engine: Engine) -> None:
    """Have each new connection of an engine refuse, with ConfigurationError, a database that will not do.

    Whatever a database or role has for defaults, its session then writes moments in ISO and UTC.
    """
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


def _on_connect(connection: Any, record: Any) -> None:
    driver = record.driver_connection
    _check(driver)
    told = {name: driver.info.parameter_status(name) for name in _SPOKEN}
    other = [name for name, wanted in _SPOKEN.items() if told[name] not in (None, wanted)]
    if other:
        cursor = connection.cursor()
        cursor.execute("; ".join(f"SET {name} = '{_SPOKEN[name]}'" for name in other))
        cursor.close()
        connection.commit()


def _check(driver: Any) -> None:
    major = driver.info.server_version // 10_000
    if major < OLDEST:
        raise ConfigurationError(f"PostgreSQL {OLDEST} or newer is needed, and the server is {major}")
    # A server that names no encoding is a pooling proxy's console.
    encoding = driver.info.parameter_status("server_encoding")
    if encoding not in (None, "UTF8"):
        raise ConfigurationError(f"the database's encoding must be UTF8, and is {encoding}")
