"""Every model once: which module has the models of which area, and what they say of their constraints."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from sqlalchemy import ForeignKeyConstraint, MetaData, Table

from carnivore_db.schema.areas import AREAS, PLATFORM
from carnivore_db.schema.base import AUTH_USERS, Base

# By name: the areas are rooms above this one, and none is imported before its models are asked for.
_MODULES = {PLATFORM: "carnivore_db.schema.platform"} | {
    area: f"carnivore_db.{area}.models" for area in AREAS
}


def load(*areas: str) -> MetaData:
    """The metadata with the platform's models and those of `areas`, or of all when none is named."""
    for area in (PLATFORM, *(areas or AREAS)):
        import_module(_MODULES[area])
    return Base.metadata


def tables(*areas: str) -> list[Table]:
    """The tables of the platform and of `areas`, or of all when none is named, in the order of their keys."""
    load(*areas)
    wanted = {_MODULES[area] for area in (PLATFORM, *(areas or AREAS))}
    mapped = {mapper.local_table for mapper in Base.registry.mappers if mapper.class_.__module__ in wanted}
    return [table for table in Base.metadata.sorted_tables if table in mapped and table is not AUTH_USERS]


@cache
def constraint_facts() -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """The `info` of all constraints that have one, by schema and name; see `connection.translation`.

    Those of a table with partitions by its months' schema too: a month that comes back from the archive is
    loaded in the schema carnivore, with its table's constraints.
    """
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for table in tables():
        schemas = [table.schema or "public"]
        if table.dialect_options["postgresql"]["partition_by"]:
            schemas.append("carnivore")
        for constraint in table.constraints:
            info = constraint.info
            if isinstance(constraint, ForeignKeyConstraint):
                info = info | constraint.elements[0].info
            if info:
                found.update(dict.fromkeys(((schema, str(constraint.name)) for schema in schemas), info))
    return found
