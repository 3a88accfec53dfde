"""What can be taken away from the schema, read from its catalog: policies, triggers, grants, constraints.

Each query returns statements and the words that they are about.
"""

from tests.security.mutants import COLUMNS, OURS, ROLES, TABLES, TRIGGERS

CONSTRAINT = "format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', conrelid::regclass, conname)"
COLUMN = "format('ALTER TABLE %s ALTER COLUMN %I ', attrelid::regclass, attname)"


def _constraints(kind: str) -> str:
    return f"""
    SELECT {CONSTRAINT}, ARRAY[relname, conname] FROM pg_constraint JOIN {TABLES} AS t ON t.oid = conrelid
    WHERE contype IN ('{kind}') AND conislocal AND coninhcount = 0"""


TAKEN = {
    "policy": f"""
        SELECT format('DROP POLICY %I ON %s', polname, polrelid::regclass), ARRAY[relname, polname, 'policy']
        FROM pg_policy JOIN {TABLES} AS t ON t.oid = polrelid""",
    "trigger": f"""
        SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass), ARRAY[relname, tgname, proname]
        FROM {TRIGGERS}""",
    "row security": f"""
        SELECT format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', oid::regclass),
            ARRAY[relname, 'rowsecurity']
        FROM {TABLES} AS t""",
    "grant on a table": f"""
        SELECT format('REVOKE %s ON %s FROM %I', privilege_type, pg_class.oid::regclass, rolname),
            ARRAY[relname, privilege_type, rolname]
        FROM pg_class, aclexplode(relacl) JOIN pg_roles ON pg_roles.oid = grantee
        WHERE relnamespace IN {OURS} AND rolname IN {ROLES}""",
    "grant on a column": f"""
        SELECT format('REVOKE %s (%I) ON %s FROM %I', privilege_type, attname, attrelid::regclass, rolname),
            ARRAY[relname, privilege_type, rolname]
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid, aclexplode(attacl)
            JOIN pg_roles ON pg_roles.oid = grantee
        WHERE relnamespace IN {OURS} AND rolname IN {ROLES}""",
    "grant on a function": f"""
        SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM %I', pg_proc.oid::regprocedure, rolname),
            ARRAY[proname, privilege_type, rolname]
        FROM pg_proc, aclexplode(proacl) JOIN pg_roles ON pg_roles.oid = grantee
        WHERE pronamespace IN {OURS} AND rolname IN {ROLES}""",
    "search_path": f"""
        SELECT format('ALTER FUNCTION %s RESET search_path', oid::regprocedure), ARRAY[proname, 'search_path']
        FROM pg_proc WHERE pronamespace IN {OURS} AND proconfig::text LIKE '%search_path=%'""",
    "SECURITY DEFINER": f"""
        SELECT format('ALTER FUNCTION %s SECURITY INVOKER', oid::regprocedure), ARRAY[proname]
        FROM pg_proc WHERE pronamespace IN {OURS} AND prosecdef""",
    "security_invoker": f"""
        SELECT format('ALTER VIEW %s RESET (security_invoker)', oid::regclass), ARRAY[relname, 'view']
        FROM pg_class WHERE relnamespace IN {OURS} AND relkind = 'v'""",
    "CHECK": _constraints("c"),
    "FOREIGN KEY": _constraints("f"),
    "PRIMARY KEY or UNIQUE": _constraints("p', 'u"),
    "unique index": f"""
        SELECT format('DROP INDEX %s CASCADE', indexrelid::regclass),
            ARRAY[relname, indexrelid::regclass::name]
        FROM pg_index JOIN {TABLES} AS t ON t.oid = indrelid
        WHERE indisunique AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid
            AND contype IN ('p', 'u'))""",
    "NOT NULL": f"""
        SELECT {COLUMN} || 'DROP NOT NULL', ARRAY[relname, attname, 'required']
        FROM {COLUMNS} AND attnotnull AND attidentity = '' AND NOT EXISTS (SELECT FROM pg_index
            WHERE indrelid = attrelid AND indisprimary AND attnum = ANY (indkey))""",
    "DEFAULT": f"SELECT {COLUMN} || 'DROP DEFAULT', ARRAY[relname, 'default'] FROM {COLUMNS} AND atthasdef",
}
