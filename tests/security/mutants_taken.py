"""What can be taken away from the schema, read from its catalog: policies, triggers, grants, constraints.

Each query returns statements and the words that they are about.
"""

from tests.security.mutants import COLUMNS, OURS, ROLES, TABLES, TRIGGERS

CONSTRAINT = "format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', conrelid::regclass, conname)"
COLUMN = "format('ALTER TABLE %s ALTER COLUMN %I ', attrelid::regclass, attname)"


def _constraints(kind: str) -> str:
    return f"""
    SELECT {CONSTRAINT}, ARRAY[named, conname] FROM pg_constraint JOIN {TABLES} AS t ON t.oid = conrelid
    WHERE contype IN ('{kind}') AND conislocal AND coninhcount = 0"""


TAKEN = {
    "policy": f"""
        SELECT format('DROP POLICY %I ON %s', polname, polrelid::regclass), ARRAY[named, polname, 'policy']
        FROM pg_policy JOIN {TABLES} AS t ON t.oid = polrelid""",
    "trigger": f"""
        SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass), ARRAY[named, tgname, proname]
        FROM {TRIGGERS}""",
    "row security": f"""
        SELECT format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', oid::regclass),
            ARRAY[named, 'rowsecurity']
        FROM {TABLES} AS t""",
    "grant on a table": f"""
        SELECT format('REVOKE %s ON %s FROM %I', privilege_type, pg_class.oid::regclass, rolname),
            ARRAY[pg_class.oid::regclass::text, privilege_type, rolname]
        FROM pg_class, aclexplode(relacl) JOIN pg_roles ON pg_roles.oid = grantee
        WHERE relnamespace IN {OURS} AND rolname IN {ROLES}""",
    "grant on a column": f"""
        SELECT format('REVOKE %s (%I) ON %s FROM %I', privilege_type, attname, attrelid::regclass, rolname),
            ARRAY[attrelid::regclass::text, privilege_type, rolname]
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid, aclexplode(attacl)
            JOIN pg_roles ON pg_roles.oid = grantee
        WHERE relnamespace IN {OURS} AND rolname IN {ROLES}""",
    # Everybody may look into public, wherever the cluster was made.
    "grant on a schema": f"""
        SELECT format('REVOKE %s ON SCHEMA %I FROM %I', privilege_type, nspname, rolname),
            ARRAY[nspname, privilege_type, rolname]
        FROM pg_namespace, aclexplode(nspacl) JOIN pg_roles ON pg_roles.oid = grantee
        WHERE pg_namespace.oid IN {OURS} AND nspname <> 'public' AND rolname IN {ROLES}""",
    "grant on a function": f"""
        SELECT format('REVOKE EXECUTE ON ROUTINE %s FROM %I', pg_proc.oid::regprocedure, rolname),
            ARRAY[proname, privilege_type, rolname]
        FROM pg_proc, aclexplode(proacl) JOIN pg_roles ON pg_roles.oid = grantee
        WHERE pronamespace IN {OURS} AND rolname IN {ROLES}
        UNION ALL
        SELECT format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC', pg_proc.oid::regprocedure),
            ARRAY[proname, privilege_type, 'PUBLIC']
        FROM pg_proc, aclexplode(proacl) WHERE pronamespace IN {OURS} AND grantee = 0""",
    "search_path": f"""
        SELECT format('ALTER FUNCTION %s RESET search_path', oid::regprocedure), ARRAY[proname, 'search_path']
        FROM pg_proc WHERE pronamespace IN {OURS} AND proconfig::text LIKE '%search_path=%'""",
    "SECURITY DEFINER": f"""
        SELECT format('ALTER FUNCTION %s SECURITY INVOKER', oid::regprocedure), ARRAY[proname]
        FROM pg_proc WHERE pronamespace IN {OURS} AND prosecdef""",
    "security_invoker": f"""
        SELECT format('ALTER VIEW %s RESET (security_invoker)', oid::regclass),
            ARRAY[oid::regclass::text, 'view']
        FROM pg_class
        WHERE relnamespace IN {OURS} AND relkind = 'v' AND reloptions::text LIKE '%security_invoker%'""",
    "security_barrier": f"""
        SELECT format('ALTER VIEW %s %s', oid::regclass, change), ARRAY[oid::regclass::text, 'view']
        FROM pg_class, unnest(ARRAY['RESET (security_barrier)', 'SET (security_invoker = true)']) AS change
        WHERE relnamespace IN {OURS} AND relkind = 'v' AND reloptions::text LIKE '%security_barrier%'""",
    "CHECK": _constraints("c"),
    "FOREIGN KEY": _constraints("f"),
    "PRIMARY KEY or UNIQUE": _constraints("p', 'u"),
    "unique index": f"""
        SELECT format('DROP INDEX %s CASCADE', indexrelid::regclass),
            ARRAY[named, indexrelid::regclass::name]
        FROM pg_index JOIN {TABLES} AS t ON t.oid = indrelid
        WHERE indisunique AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid
            AND contype IN ('p', 'u'))""",
    "NOT NULL": f"""
        SELECT {COLUMN} || 'DROP NOT NULL', ARRAY[attrelid::regclass::text, attname, 'required']
        FROM {COLUMNS} AND attnotnull AND attgenerated = '' AND attidentity = ''
            AND NOT EXISTS (SELECT FROM pg_index
            WHERE indrelid = attrelid AND indisprimary AND attnum = ANY (indkey))""",
    "DEFAULT": f"""
        SELECT {COLUMN} || CASE attgenerated WHEN '' THEN 'DROP DEFAULT' ELSE 'DROP EXPRESSION' END,
            ARRAY[attrelid::regclass::text, 'default']
        FROM {COLUMNS} AND atthasdef""",
    "collation": f"""
        SELECT {COLUMN} || format('TYPE %s COLLATE "default"', format_type(atttypid, atttypmod)),
            ARRAY[attrelid::regclass::text, attname, 'collation']
        FROM {COLUMNS} AND attcollation <> (SELECT typcollation FROM pg_type WHERE pg_type.oid = atttypid)""",
}
