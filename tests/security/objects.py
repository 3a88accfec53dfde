"""What the package made, found in the catalog so that nothing new is forgotten."""

from dataclasses import dataclass

from tests.security.personas import Session

SCHEMAS = ("analytics", "carnivore", "conversation", "public", "vocabulary")
OURS = "('" + "'::regnamespace, '".join(SCHEMAS) + "'::regnamespace)"

# A column that is generated has no value but its own: nobody writes it.
RELATIONS = """
SELECT relation.oid::regclass::text, relation.relkind = 'v', array_agg(attname::text ORDER BY attnum),
    coalesce(array_agg(attname::text ORDER BY attnum) FILTER (WHERE attgenerated = ''), '{}')
FROM pg_class AS relation JOIN pg_attribute ON attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p', 'v')
GROUP BY relation.oid ORDER BY 1
"""
SEQUENCES = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'S' AND relnamespace = %s::regnamespace"
FUNCTIONS = """
SELECT oid::regproc::text, prorettype = 'trigger'::regtype, prokind = 'p',
    ARRAY(SELECT format_type(kind, NULL) FROM unnest(proargtypes) AS kind)
FROM pg_proc WHERE pronamespace = %s::regnamespace ORDER BY 1
"""
PARTITIONS = """
SELECT inhrelid::regclass::text FROM pg_inherits
WHERE inhparent = %s::regclass ORDER BY 1
"""


@dataclass(frozen=True)
class Relation:
    """A table, partition or view with its qualified name; `written` are the columns that can be written."""

    name: str
    view: bool
    columns: list[str]
    written: list[str]


@dataclass(frozen=True)
class Function:
    """A function or procedure: its qualified name, its signature, and a call of it with NULLs."""

    name: str
    trigger: bool
    procedure: bool
    kinds: list[str]

    @property
    def signature(self) -> str:
        return f"{self.name}({', '.join(self.kinds)})"

    @property
    def call(self) -> str:
        verb = "CALL" if self.procedure else "SELECT"
        return f"{verb} {self.name}({', '.join(f'NULL::{kind}' for kind in self.kinds)})"


def relations(s: Session, *schemas: str) -> list[Relation]:
    asker = s.as_("superuser", search_path="pg_catalog")
    return [Relation(*row) for schema in schemas or SCHEMAS for row in asker.rows(RELATIONS, [schema])]


def functions(s: Session, *schemas: str) -> list[Function]:
    asker = s.as_("superuser", search_path="pg_catalog")
    return [Function(*row) for schema in schemas or SCHEMAS for row in asker.rows(FUNCTIONS, [schema])]


def sequences(s: Session, schema: str) -> list[str]:
    return [name for (name,) in s.as_("superuser", search_path="pg_catalog").rows(SEQUENCES, [schema])]


def partitions(s: Session, table: str = "public.report_access_log") -> list[str]:
    return [name for (name,) in s.as_("superuser", search_path="pg_catalog").rows(PARTITIONS, [table])]
