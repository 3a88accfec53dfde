"""Moments that somebody may write are finite: PostgreSQL 17 reckons with infinite ones, Python cannot."""

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.support.databases import TestDatabase

WRITTEN = """
    SELECT format('%I.%I', nspname, relname) AS place, attname,
        (SELECT array_agg(pg_get_expr(conbin, conrelid)) FROM pg_constraint
            WHERE conrelid = c.oid AND contype = 'c' AND attnum = ANY (conkey)) AS rules,
        (SELECT array_agg(attname::text) FROM pg_attribute AS other WHERE other.attrelid = c.oid
            AND other.attnum > 0 AND other.atttypid = 'timestamptz'::regtype) AS moments
    FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = attrelid
    JOIN pg_namespace AS n ON n.oid = relnamespace
    WHERE nspname IN ('public', 'vocabulary', 'conversation', 'carnivore', 'analytics')
        AND relkind IN ('r', 'p') AND NOT relispartition AND attnum > 0 AND NOT attisdropped
        AND atttypid IN ('timestamptz'::regtype, 'interval'::regtype)
        AND (EXISTS (SELECT FROM unnest(ARRAY['anon', 'authenticated', 'service_role']) AS role
                WHERE has_column_privilege(role, c.oid, attnum, 'INSERT')
                    OR has_column_privilege(role, c.oid, attnum, 'UPDATE'))
            -- An operator's.
            OR (relname, attname) = ('jobs', 'every'))
    ORDER BY 1, 2
"""
REFUSES = "SELECT count(*) FROM jsonb_populate_record(NULL::{}, %s::jsonb) WHERE NOT ({})"


def is_refused(connection: psycopg.Connection, place: str, rule: str, row: dict[str, str]) -> bool:
    query = sql.SQL(REFUSES).format(sql.SQL(place), sql.SQL(rule))
    try:
        with connection.transaction():
            (refused,) = connection.execute(query, [Jsonb(row)]).fetchone() or (0,)
    except (psycopg.errors.DatetimeFieldOverflow, psycopg.errors.InvalidDatetimeFormat):
        return True  # a version that has no such value, or does not reckon with it
    return bool(refused)


@pytest.mark.parametrize("value", ["infinity", "-infinity"])
def test_whoever_writes_a_moment_writes_a_finite_one(plain_database: TestDatabase, value: str) -> None:
    with plain_database.connect() as connection:
        found = connection.execute(WRITTEN).fetchall()
        assert len(found) > 10
        for place, column, rules, moments in found:
            row = dict.fromkeys(moments or (), "2026-01-01T00:00:00Z") | {column: value}
            assert any(is_refused(connection, place, rule, row) for rule in rules or ()), f"{place}.{column}"
