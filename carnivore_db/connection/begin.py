"""A transaction begins with who is asking: BEGIN and the identity in one round trip."""

from typing import Any

from psycopg.pq import PipelineStatus, TransactionStatus
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from carnivore_db.connection.translation import Translation
from carnivore_db.errors import RolledBack
from carnivore_db.identity import Identity


def enter(session: Session, identity: Identity, access_counting: str, translation: Translation) -> None:
    """Begin as `identity`: BEGIN and its statement are one round trip."""
    connection = session.connection()
    driver: Any = connection.connection.driver_connection
    try:
        with translation:
            if _begins(driver):
                driver.autocommit = True
            with driver.pipeline():
                if driver.autocommit:
                    driver.execute("BEGIN")
                driver.execute(*identity.statement(access_counting=access_counting))
    finally:
        if _unfit(driver):
            connection.invalidate()


async def enter_asynchronously(
    session: AsyncSession, identity: Identity, access_counting: str, translation: Translation
) -> None:
    """`enter` on an asynchronous session."""
    connection = await session.connection()
    driver: Any = (await connection.get_raw_connection()).driver_connection
    try:
        with translation:
            if _begins(driver):
                await driver.set_autocommit(True)
            async with driver.pipeline():
                if driver.autocommit:
                    await driver.execute("BEGIN")
                await driver.execute(*identity.statement(access_counting=access_counting))
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


def refuse_failed(session: Session) -> None:
    """PostgreSQL answers the COMMIT of a failed transaction with a rollback, and no error."""
    failed = not session.is_active
    if not failed:
        driver: Any = session.connection().connection.driver_connection
        failed = driver.pgconn.transaction_status != TransactionStatus.INTRANS
    if failed:
        raise RolledBack
