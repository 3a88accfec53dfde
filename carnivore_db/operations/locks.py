"""One run at a time, and short locks by the partitions' rule that are tried for again and again."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from carnivore_db.errors import Busy, CarnivoreError

Result = TypeVar("Result")

# What only one run at a time does, each with the number of its lock. The first is carnivore.maintain's too.
MAINTENANCE = "CAST(CAST(CAST('carnivore.jobs' AS regclass) AS oid) AS bigint)"
MONTHS = "hashtextextended('carnivore-db partitions apply', 0)"
ARCHIVE = "CAST(CAST(CAST('carnivore.archived_partitions' AS regclass) AS oid) AS bigint)"
_SETTINGS = text("""
    SELECT set_config('lock_timeout', :ms, true), set_config('statement_timeout', :ms, true),
        set_config('carnivore.parent_first',
            CASE WHEN CAST(:parent_first AS boolean) THEN 'on' ELSE 'off' END, true)
""")
# Whoever makes or drops a partition of this table holds it; we do not wait for them inside a transaction.
_ALONE = text("SELECT pg_try_advisory_xact_lock(CAST(CAST(CAST(:parent AS regclass) AS oid) AS bigint))")
_LOCK = text("SELECT carnivore.lock_partitioned(CAST(:parent AS regclass), :dropping)")
# The order of carnivore.lock_partitioned.
_REFERRED = text("""
    SELECT DISTINCT CAST(CAST(confrelid AS regclass) AS text) AS address FROM pg_constraint
    WHERE conrelid = CAST(:parent AS regclass) AND contype = 'f' ORDER BY address DESC
""")
# Seconds.
_PATIENCE = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5


@contextmanager
def turn(engine: Engine, lock: str) -> Iterator[Connection | None]:
    """A connection while no other run has this turn (one of MAINTENANCE, MONTHS and ARCHIVE); None when
    another one is at work. However this one dies, the next may work.

    The lock is the session's: it needs a direct connection, not a pooling proxy in transaction mode. No
    transaction stays open meanwhile: it would hold back the vacuum.
    """
    with engine.connect() as connection:
        with connection.begin():
            free = bool(connection.scalar(text(f"SELECT pg_try_advisory_lock({lock})")))
        if not free:
            yield None
            return
        try:
            yield connection
        finally:
            # Where the connection was lost, the lock has gone with it.
            if not connection.closed and not connection.invalidated:
                _give_back(connection, lock)


def _give_back(connection: Connection, lock: str) -> None:
    try:
        connection.rollback()
        with connection.begin():
            connection.execute(text(f"SELECT pg_advisory_unlock({lock})"))
    except (CarnivoreError, SQLAlchemyError):
        # Lost since it was last used, perhaps. The work is done; without the connection there is no lock.
        connection.invalidate()


def patiently(attempt: Callable[[bool], Result], patience: float, longest_pause: float) -> Result:
    """What `attempt` returns; while it raises Busy it is called again, with growing pauses up to the longest
    (all in seconds).

    It is told whether to lock the parent first: each time the other order, for under writers of one kind
    only one of them finds a gap. Raises the last Busy when the next pause would end after `patience`.
    """
    deadline = time.monotonic() + patience
    pause, parent_first = _FIRST_PAUSE, False
    while True:
        try:
            return attempt(parent_first)
        except Busy:
            # Writers must get through meanwhile, and two that try again must not meet again.
            wait = random.uniform(pause / 2, pause)  # noqa: S311 - no secret
            if time.monotonic() + wait > deadline:
                raise
        time.sleep(wait)
        pause, parent_first = min(2 * pause, longest_pause), not parent_first


def locked(
    connection: Connection, parent: str, lock_timeout_ms: int, act: Callable[[], object], *, dropping: bool
) -> None:
    """Run `act` in one transaction that holds the locks to attach or detach a partition of `parent`, with
    `dropping` the stronger ones.

    It is tried again, from its beginning, when a lock was not to be had, for a minute; nobody else waits
    longer for it than `lock_timeout_ms`: half of it for the first lock, half for what is done with them all.
    Raises Busy.
    """

    def lock() -> None:
        connection.execute(_LOCK, {"parent": parent, "dropping": dropping})

    _in_one(connection, parent, lock_timeout_ms, lock, act)


def drop_aside(
    connection: Connection,
    parent: str,
    lock_timeout_ms: int,
    aside: str,
    act: Callable[[], object] = lambda: None,
) -> None:
    """Drop a table that stands beside `parent` with the same foreign keys, and `act` in the same transaction.

    The parent is not locked: what it refers to is, for the keys' triggers there. Raises Busy, as `locked`.
    """

    def lock() -> None:
        how = ""
        for address in connection.scalars(_REFERRED, {"parent": parent}).all():
            connection.execute(text(f"LOCK TABLE ONLY {address} IN ACCESS EXCLUSIVE MODE {how}"))
            how = "NOWAIT"
        connection.execute(text(f"LOCK TABLE {aside} IN ACCESS EXCLUSIVE MODE NOWAIT"))

    def drop() -> None:
        act()
        connection.execute(text(f"DROP TABLE {aside}"))

    _in_one(connection, parent, lock_timeout_ms, lock, drop)


def _in_one(
    connection: Connection,
    parent: str,
    lock_timeout_ms: int,
    lock: Callable[[], None],
    act: Callable[[], object],
) -> None:
    """Lock and act in one transaction, patiently."""

    def attempt(parent_first: bool) -> None:
        with connection.begin():
            given = {"ms": f"{max(lock_timeout_ms // 2, 1)}ms", "parent_first": parent_first}
            connection.execute(_SETTINGS, given)
            if not connection.scalar(_ALONE, {"parent": parent}):
                raise Busy
            lock()
            act()

    patiently(attempt, _PATIENCE, _LONGEST_PAUSE)
