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
        set_config('carnivore.parent_first', :parent_first, true)
""")
# Whoever makes or drops a partition of this table holds it; we do not wait for them inside a transaction.
_ALONE = text("SELECT pg_try_advisory_xact_lock(CAST(CAST(CAST(:parent AS regclass) AS oid) AS bigint))")
_LOCK = text("SELECT carnivore.lock_partitioned(CAST(:parent AS regclass), :dropping)")
_ATTEMPTS = 20
_LONGEST_PAUSE = 2.0  # seconds


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
    """Run `act` in one transaction that holds the locks to attach or drop a partition of `parent`.

    It is tried again, from its beginning, when a lock was not to be had; nobody else waits longer than
    `lock_timeout_ms` for the first lock and as long again for the rest. Raises Busy after the last attempt.
    """
    for attempt in range(_ATTEMPTS):
        try:
            with connection.begin():
                given = {"ms": f"{lock_timeout_ms}ms", "parent_first": "on" if attempt % 2 else "off"}
                connection.execute(_SETTINGS, given)
                if not connection.scalar(_ALONE, {"parent": parent}):
                    raise Busy
                connection.execute(_LOCK, {"parent": parent, "dropping": dropping})
                act()
        except Busy:
            if attempt == _ATTEMPTS - 1:
                raise
            # Writers must get through meanwhile, and two that try again must not meet again.
            pause = min(0.05 * 2**attempt, _LONGEST_PAUSE)
            time.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - no secret
        else:
            return
