"""Months, the partitions that hold them, and rows for them, by plain SQL."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

import psycopg
from sqlalchemy import create_engine, pool

from carnivore_db import Database
from carnivore_db.kit import months
from carnivore_db.operations.partitions.apply import Outcome, apply
from carnivore_db.operations.partitions.plan import Policy
from carnivore_db.schema.areas import AREAS, schemas
from carnivore_db.schema.files import expected
from carnivore_db.schema.snapshot import INSTANCES, PARTITIONS, take
from tests.support import reports
from tests.support.databases import TestDatabase

LOG, LOGS = "public.report_access_log", "conversation.logs"


def one(owner: psycopg.Connection, query: str, *values: Any) -> Any:
    """The only value of the only row."""
    ((value,),) = owner.execute(query, values or None).fetchall()
    return value


def now() -> datetime:
    """An hour into this month: the one before ended just now, whatever today is; its logs are not old yet."""
    return datetime.now(UTC).replace(day=1, hour=1, minute=0, second=0, microsecond=0)


def month(ahead: int = 0) -> date:
    """The first of a month so many after this one."""
    return months.start(months.number(now()) + ahead).date()


def inside(first: date, day: int = 17) -> datetime:
    return datetime(first.year, first.month, day, 12, tzinfo=UTC)


def name(table: str, first: date) -> str:
    return f"{table}_{first:%Y_%m}"


def partitions(owner: psycopg.Connection, table: str) -> set[str]:
    found = owner.execute(
        "SELECT n.nspname || '.' || c.relname FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid"
        " JOIN pg_namespace AS n ON n.oid = relnamespace WHERE inhparent = %s::regclass",
        [table],
    )
    return {partition for (partition,) in found}


def forget(owner: psycopg.Connection, *months: date, tables: Iterable[str] = (LOG, LOGS)) -> None:
    """As if nobody had made them."""
    for table in tables:
        for first in months:
            owner.execute(f"DROP TABLE IF EXISTS {name(table, first)}")


def made(database: TestDatabase, number: int) -> dict[int, str]:
    """So many reports: their tokens by id."""
    with database.connect() as connection:
        return reports.make(connection, number)


def access(owner: psycopg.Connection, report: int, *moments: datetime) -> None:
    for moment in moments:
        owner.execute(
            "INSERT INTO public.report_access_log (report_id, accessed_at, ip_address, user_agent)"
            " VALUES (%s, %s, '2001:db8::1', 'Browser/1.0')",
            [report, moment],
        )


def log(owner: psycopg.Connection, *moments: datetime | str, user: object = None) -> None:
    for moment in moments:
        owner.execute(
            "INSERT INTO conversation.logs (level, event_type, user_id, metadata, created_at)"
            """ VALUES ('info', 'user_logout', %s, '{"n": 1.0}', %s)""",
            [user, moment],
        )


def rows(owner: psycopg.Connection, table: str) -> list[str]:
    """Every row, every column as text, in one order."""
    found = owner.execute(f'SELECT t::text FROM {table} AS t ORDER BY t::text COLLATE "C"')
    return [row for (row,) in found]


def holders(owner: psycopg.Connection, table: str) -> dict[str, int]:
    """How many rows each partition has, of those that have any."""
    found = owner.execute(f"SELECT tableoid::regclass::text AS part, count(*) FROM {table} GROUP BY 1")
    return {part if "." in part else f"public.{part}": rows for part, rows in found}


def counts(owner: psycopg.Connection) -> list[Any]:
    """What the reports say of themselves; the law holds."""
    assert owner.execute(reports.BROKEN).fetchall() == []
    return owner.execute(
        "SELECT id, access_count, last_accessed_at FROM generated_reports ORDER BY 1"
    ).fetchall()


def run(db: Database, **given: Any) -> Outcome:
    return apply(db.engine, **{"at": now(), "policy": Policy(3), "lock_timeout_ms": 2000, **given})


def assert_as_the_package_makes_them(database: TestDatabase) -> None:
    """Every partition has the committed definition: row security, grants, keys, indexes, triggers, all on."""
    with create_engine(database.migrator_url, poolclass=pool.NullPool).connect() as connection:
        live = take(connection, schemas(connection))[INSTANCES]
    patterns = expected(*AREAS)[PARTITIONS]
    assert live
    for partition, instance in live.items():
        assert instance["definition"] == patterns[instance["parent"]]["pattern"], partition
