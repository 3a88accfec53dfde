"""What the archive's steps hold: a turn of their own, and short locks taken by the partitions' rule."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text

from carnivore_db.errors import Busy

_TURN = "CAST(CAST(CAST('carnivore.archived_partitions' AS regclass) AS oid) AS bigint)"
_TAKE = text(f"SELECT pg_try_advisory_lock({_TURN})")
_GIVE = text(f"SELECT pg_advisory_unlock({_TURN})")
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
def turn(engine: Engine) -> Iterator[Connection | None]:
    """A connection that no other archive or restore of this database has meanwhile; None when one is at work.

    The lock is the session's: it needs a direct connection, as migrations do.
    """
    with engine.connect() as connection:
        with connection.begin():
            free = bool(connection.scalar(_TAKE))
        if not free:
            yield None
            return
        try:
            yield connection
        finally:
            # Where the connection was lost, the lock has gone with it.
            if not connection.closed and not connection.invalidated:
                connection.rollback()
                with connection.begin():
                    connection.execute(_GIVE)


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

    _patiently(connection, parent, lock_timeout_ms, lock, act)


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

    _patiently(connection, parent, lock_timeout_ms, lock, drop)


def _patiently(
    connection: Connection,
    parent: str,
    lock_timeout_ms: int,
    lock: Callable[[], None],
    act: Callable[[], object],
) -> None:
    deadline = time.monotonic() + _PATIENCE
    pause, parent_first = _FIRST_PAUSE, False
    while True:
        try:
            with connection.begin():
                given = {"ms": f"{max(lock_timeout_ms // 2, 1)}ms", "parent_first": parent_first}
                connection.execute(_SETTINGS, given)
                if not connection.scalar(_ALONE, {"parent": parent}):
                    raise Busy
                lock()
                act()
        except Busy:
            if time.monotonic() > deadline:
                raise
        else:
            return
        # Writers must get through meanwhile, and two that try again must not meet again.
        time.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - no secret
        pause, parent_first = min(2 * pause, _LONGEST_PAUSE), not parent_first
