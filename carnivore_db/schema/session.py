"""Look at a database without leaving a trace: a scope that is always rolled back."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import Connection, Transaction, text

# Catalog functions print names relative to the search path, times in the session's zone, and
# identifiers as the session likes them quoted. A snapshot must not depend on who takes it.
PLAIN_SETTINGS: Mapping[str, str] = {
    "search_path": "",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
}


@contextmanager
def undone(connection: Connection, *, one_view: bool = False) -> Iterator[None]:
    """A transaction, or a savepoint inside the caller's, that is rolled back in every case.

    With `one_view` a transaction of our own sees one state of the database throughout
    (REPEATABLE READ); inside the caller's transaction the caller has chosen already.
    """
    scope: Transaction
    if connection.in_transaction():
        scope = connection.begin_nested()
    else:
        scope = connection.begin()
        if one_view:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    try:
        yield
    finally:
        scope.rollback()


def set_local(connection: Connection, settings: Mapping[str, str]) -> None:
    """Apply settings until the enclosing scope ends.

    Raises RuntimeError on a connection in autocommit mode, where "local" would mean "for this
    statement only" and a rolled back test would not be rolled back.
    """
    query = text(
        "SELECT count(set_config(key, value, true)), transaction_timestamp()::text"
        " FROM unnest(CAST(:names AS text[]), CAST(:values AS text[])) AS s (key, value)"
    )
    values = {"names": list(settings), "values": list(settings.values())}
    applied_at = connection.execute(query, values).one()[1]
    if connection.scalar(text("SELECT transaction_timestamp()::text")) != applied_at:
        raise RuntimeError("the catalog is read inside a transaction: autocommit will not do")
