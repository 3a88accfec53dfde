"""Runs the revisions: one run at a time, with timeouts, over the package's own schemas."""

import time
from collections.abc import Mapping
from typing import Any

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import CITEXT

from carnivore_db.connection.requirements import check, unpooled
from carnivore_db.errors import Busy
from carnivore_db.schema import migrations, models, preconditions
from carnivore_db.schema.base import AUTH_USERS
from carnivore_db.schema.migrations import VERSION_SCHEMA
from carnivore_db.settings import Settings

METADATA = models.load()
SCHEMAS = {None, *(table.schema for table in METADATA.tables.values())} - {AUTH_USERS.schema}

# Any number that no other application uses for an advisory lock of its own.
ADVISORY_LOCK = 4_012_014_020

config = context.config
settings = Settings()

PARTITIONS = text("""
    SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'
""")
CITEXT_NAME = text("""
    SELECT format('%I.citext', nspname)
    FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'citext'
""")


def options(partitions: frozenset[str] = frozenset()) -> dict[str, Any]:
    """What online and offline runs share. `partitions` are left out of autogenerate: they come
    and go with the months."""

    def include_name(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
        if kind == "schema":
            return name in SCHEMAS
        return not (kind == "table" and name in partitions)

    def include_object(found: Any, *_: Any) -> bool:
        return found is not AUTH_USERS

    return {
        "target_metadata": METADATA,
        "version_table_schema": VERSION_SCHEMA,
        "include_schemas": True,
        "include_name": include_name,
        "include_object": include_object,
        "compare_server_default": True,
        "transaction_per_migration": True,
        "on_version_apply": config.attributes.get("on_version_apply"),
    }


def run_offline() -> None:
    """Print the SQL."""
    context.configure(
        url="postgresql+psycopg://",
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},  # or every % of the SQL would be printed twice
        **options(),
    )
    with context.begin_transaction():
        context.execute(f"SET lock_timeout = '{settings.migration_lock_timeout}s'")
        context.execute(f"SET statement_timeout = '{settings.migration_statement_timeout}s'")
        context.execute("SET search_path = public")
        context.execute("SET standard_conforming_strings = on")
        context.execute(f"CREATE SCHEMA IF NOT EXISTS {VERSION_SCHEMA}")
        context.run_migrations()


def wait_for_turn(connection: Connection) -> None:
    """Take the lock that lets one deployment run at a time; the second then finds nothing left to do.

    It asks again and again instead of waiting inside a statement: that statement's snapshot would hold up
    an index that the first deployment builds CONCURRENTLY, and the first would never finish.
    """
    deadline = time.monotonic() + settings.migration_statement_timeout
    while not connection.scalar(text(f"SELECT pg_try_advisory_lock({ADVISORY_LOCK})")):
        connection.rollback()
        if time.monotonic() > deadline:
            raise Busy("another deployment is still migrating this database")
        time.sleep(0.2)


def require_for_new(connection: Connection) -> None:
    """Before an upgrade that installs anything: what that needs must be there."""
    migration = context.get_context()
    steps = migration.opts.get("fn")
    if getattr(steps, "__name__", None) != "upgrade":
        return  # Alembic's other commands make nothing
    applied = migration.get_current_heads()
    to_come = {step.revision.revision for step in steps(applied, migration)}
    areas = [area for area, line in migrations.lines().items() if line[-1] in to_come]
    preconditions.require(connection, areas, platform=not applied and bool(to_come))
    connection.rollback()


def run_online(connection: Connection) -> None:
    """Run the revisions, each in a transaction of its own.

    The settings and the lock are the session's, so this needs a direct connection: a pooling proxy in
    transaction mode would hand the session to somebody else between two revisions.
    """
    wait_for_turn(connection)
    try:
        connection.execute(text("SET search_path = public"))
        connection.execute(text("SET standard_conforming_strings = on"))
        connection.execute(text(f"SET statement_timeout = '{settings.migration_statement_timeout}s'"))
        connection.execute(text(f"SET lock_timeout = '{settings.migration_lock_timeout}s'"))
        partitions = frozenset(connection.scalars(PARTITIONS))
        if (citext := connection.scalar(CITEXT_NAME)) is not None:
            # Outside the search path its name is qualified, and SQLAlchemy knows only the bare one.
            dialect = connection.dialect
            dialect.ischema_names = {**dialect.ischema_names, citext: CITEXT}  # type: ignore[attr-defined]
        connection.commit()
        context.configure(connection=connection, **options(partitions))
        require_for_new(connection)
        if connection.scalar(text(f"SELECT to_regnamespace('{VERSION_SCHEMA}') IS NULL")):
            connection.execute(text(f"CREATE SCHEMA {VERSION_SCHEMA}"))
        connection.commit()
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.execute(text(f"SELECT pg_advisory_unlock({ADVISORY_LOCK})"))
        connection.execute(text("RESET search_path"))
        connection.execute(text("RESET standard_conforming_strings"))
        connection.execute(text("RESET statement_timeout"))
        connection.execute(text("RESET lock_timeout"))
        connection.commit()


if context.is_offline_mode():
    run_offline()
elif (given := config.attributes.get("connection")) is not None:
    check(given)
    run_online(given)
else:
    engine = unpooled(config.attributes.get("url") or settings.url)
    with engine.connect() as opened:
        run_online(opened)
