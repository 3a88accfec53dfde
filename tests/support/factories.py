"""Rows, put into any table past all input types."""

from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier, Placeholder
from psycopg.types.json import Jsonb


def put(connection: psycopg.Connection, table: str, **row: Any) -> dict[str, Any]:
    """A row of a table of a schema, as it is stored; its dicts are JSON."""
    given = {name: Jsonb(value) if isinstance(value, dict) else value for name, value in row.items()}
    statement = SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING *").format(
        Identifier(*table.split(".")),
        SQL(", ").join(map(Identifier, given)),
        SQL(", ").join(map(Placeholder, given)),
    )
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(statement, given).fetchone()
    assert found is not None
    return found
