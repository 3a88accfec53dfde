"""What partitions the database has, and what waits in each DEFAULT partition, for the planner to judge."""

from datetime import UTC, date, timedelta
from typing import Any

from sqlalchemy import Connection, text

from carnivore_db.operations.partitions.plan import END, FIRST, Table

# Each partitioned table's key, and after how long `conversation.delete_old_logs` drops a month of it.
TABLES: dict[str, tuple[str, timedelta | None]] = {
    "public.report_access_log": ("accessed_at", None),
    "conversation.logs": ("created_at", timedelta(days=30)),
}

# A bound is printed with its offset. No Python moment is as early as -infinity or as late as infinity.
_RANGES = text(r"""
    SELECT greatest(bound.lower, '0001-01-01 00:00+00') AS lower,
        least(bound.upper, '9999-12-31 00:00+00') AS upper
    FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid,
        pg_get_expr(part.relpartbound, part.oid) AS expression,
        LATERAL (SELECT CAST(substring(expression FROM 'FROM \(''([^'']+)''\)') AS timestamptz) AS lower,
            CAST(substring(expression FROM 'TO \(''([^'']+)''\)') AS timestamptz) AS upper) AS bound
    WHERE inhparent = CAST(CAST(:name AS text) AS regclass) AND expression <> 'DEFAULT'
    ORDER BY lower
""")
_WAITING = """
    SELECT CAST(date_trunc('month', {key} AT TIME ZONE 'UTC') AS date) AS month, count(*) AS rows
    FROM {name}_default WHERE {key} >= :first AND {key} < :end GROUP BY 1
"""
_OUTSIDE = "SELECT count(*) FROM {name}_default WHERE NOT ({key} >= :first AND {key} < :end)"
_LEDGER = text("SELECT to_regclass('carnivore.archived_partitions') IS NOT NULL")
_ARCHIVED = text("SELECT month FROM carnivore.archived_partitions WHERE parent = :name")


def read_state(connection: Connection) -> list[Table]:
    """Both partitioned tables as they are now, for `plan`; reads each DEFAULT partition whole.

    `connection` is the migrating role's, of a Database's engine. Raises SchemaMismatch when a table is
    missing.
    """
    return [_read(connection, name, key, kept) for name, (key, kept) in TABLES.items()]


def _read(connection: Connection, name: str, key: str, kept: timedelta | None) -> Table:
    limits: dict[str, Any] = {"first": FIRST, "end": END}
    ranges = [
        (lower.astimezone(UTC), upper.astimezone(UTC))
        for lower, upper in connection.execute(_RANGES, {"name": name})
    ]
    waiting = connection.execute(text(_WAITING.format(name=name, key=key)), limits)
    months: dict[date, int] = {found.month: found.rows for found in waiting}
    outside: int = connection.execute(text(_OUTSIDE.format(name=name, key=key)), limits).scalar_one()
    archived: frozenset[date] = frozenset()
    if connection.scalar(_LEDGER):  # a later revision's
        archived = frozenset(connection.scalars(_ARCHIVED, {"name": name}))
    return Table(name, ranges, months, outside, archived, kept)
