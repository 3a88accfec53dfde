"""A mutant: the schema with one small damage. What the catalog is asked to find them."""

from dataclasses import dataclass
from typing import Any

from tests.security.objects import OURS
from tests.security.personas import Session

ROLES = "('anon', 'authenticated', 'service_role', 'reporting')"
# With the qualified name, by which the promises know them.
TABLES = f"""(SELECT oid, oid::regclass::text AS named, relkind FROM pg_class
WHERE relnamespace IN {OURS} AND relkind IN ('r', 'p'))"""
# Columns that stand for themselves: partitions take theirs from the parent.
COLUMNS = f"""pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace IN {OURS} AND relkind IN ('r', 'p') AND NOT relispartition
    AND attnum > 0 AND NOT attisdropped"""
# Triggers that stand for themselves: a partition has no row trigger of its own. One stands on a table that is
# not ours, and runs a function of ours.
TRIGGERS = f"""pg_trigger JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid,
LATERAL (SELECT tgrelid::regclass::text AS named) AS t
WHERE NOT tgisinternal AND tgparentid = 0 AND (relnamespace IN {OURS} OR pronamespace IN {OURS})"""


@dataclass(frozen=True)
class Mutant:
    """A statement that damages the schema, and the words it is about.

    `label` says in short what a long statement damages; PostgreSQL may refuse one that is `tentative`.
    """

    statement: str
    about: frozenset[str]
    label: str = ""
    tentative: bool = False

    def __str__(self) -> str:
        return self.label or self.statement


def catalog(session: Session, query: str) -> list[tuple[Any, ...]]:
    """What the catalog says, with every name qualified."""
    return sorted(session.as_("superuser", search_path="pg_catalog").rows(query))


def listed(session: Session, query: str) -> list[Mutant]:
    """Mutants of a query that returns statements and the words that they are about."""
    return [Mutant(statement, frozenset(about)) for statement, about in catalog(session, query)]
