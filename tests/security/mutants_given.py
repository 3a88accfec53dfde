"""What can be given away: grants, policies and rights that nobody was promised."""

from tests.security.mutants import COLUMNS, OURS, ROLES, TABLES

GIVEN = {
    "GRANT ALL on a table": f"""
        SELECT format('GRANT ALL ON %s TO %I', pg_class.oid::regclass, rolname),
            ARRAY[pg_class.oid::regclass::text, relnamespace::regnamespace::text, rolname, 'additive']
        FROM pg_class, pg_roles
        WHERE relnamespace IN {OURS} AND relkind IN ('r', 'p', 'v') AND rolname IN {ROLES}""",
    "GRANT ALL on a sequence": f"""
        SELECT format('GRANT ALL ON SEQUENCE %s TO %I', pg_class.oid::regclass, rolname),
            ARRAY['sequence', relnamespace::regnamespace::text, rolname]
        FROM pg_class, pg_roles WHERE relnamespace IN {OURS} AND relkind = 'S' AND rolname IN {ROLES}""",
    "GRANT EXECUTE": f"""
        SELECT format('GRANT EXECUTE ON ROUTINE %s TO %I', pg_proc.oid::regprocedure, rolname),
            ARRAY['EXECUTE', pronamespace::regnamespace::text, rolname, 'additive']
        FROM pg_proc, pg_roles WHERE pronamespace IN {OURS} AND rolname IN {ROLES}
            AND NOT has_function_privilege(rolname, pg_proc.oid, 'EXECUTE')""",
    "GRANT ALL on a schema": f"""
        SELECT format('GRANT ALL ON SCHEMA %I TO %I', nspname, rolname), ARRAY['schema', nspname, rolname]
        FROM pg_namespace, pg_roles WHERE pg_namespace.oid IN {OURS} AND rolname IN {ROLES}""",
    "privilege on a schema": f"""
        SELECT format('GRANT %s ON SCHEMA %I TO %I', verb, nspname, rolname),
            ARRAY['schema', nspname, rolname]
        FROM pg_namespace, pg_roles, unnest(ARRAY['USAGE', 'CREATE']) AS verb
        WHERE pg_namespace.oid IN {OURS} AND rolname IN {ROLES}
            AND NOT has_schema_privilege(rolname, pg_namespace.oid, verb)""",
    "permissive policy": f"""
        SELECT format('CREATE POLICY mutant ON %s TO %I USING (true)', t.oid::regclass, rolname),
            ARRAY['mistake', split_part(named, '.', 1), rolname]
        FROM {TABLES} AS t, pg_roles WHERE rolname IN ('anon', 'authenticated', 'reporting')""",
    "permissive policy for a verb": f"""
        SELECT format('CREATE POLICY mutant ON %s FOR %s TO %I %s (true)', t.oid::regclass, verb, rolname,
                CASE verb WHEN 'INSERT' THEN 'WITH CHECK' ELSE 'USING' END),
            ARRAY['mistake', split_part(named, '.', 1), rolname]
        FROM {TABLES} AS t, pg_roles, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS verb
        WHERE rolname IN ('anon', 'authenticated')""",
    "privilege on a table": f"""
        SELECT format('GRANT %s ON %s TO %I', verb, pg_class.oid::regclass, rolname),
            ARRAY[rolname, verb, relnamespace::regnamespace::text, 'additive']
        FROM pg_class, pg_roles,
            unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']
                || CASE WHEN current_setting('server_version_num')::integer >= 170000
                    THEN ARRAY['MAINTAIN'] ELSE '{{}}' END) AS verb
        WHERE relnamespace IN {OURS} AND relkind IN ('r', 'p', 'v') AND rolname IN {ROLES}
            AND NOT has_table_privilege(rolname, pg_class.oid, verb)
            AND NOT (relkind = 'v' AND verb = 'MAINTAIN') -- nothing is kept up in a view
            -- Here the service has INSERT on every column: the table's would be the same.
            AND NOT (relname IN ('pricing_tiers', 'event_types') AND rolname = 'service_role'
                AND verb = 'INSERT')
            -- No statement writes to a view with more rights than the caller has to its table; those of
            -- analytics have their owner's.
            AND NOT (relkind = 'v' AND relnamespace <> 'analytics'::regnamespace
                AND verb IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES'))""",
    "privilege on a column": f"""
        SELECT format('GRANT %s (%I) ON %s TO %I', verb, attname, attrelid::regclass, rolname),
            ARRAY[rolname, verb, relnamespace::regnamespace::text, 'additive']
        FROM (SELECT * FROM {COLUMNS}) AS c, pg_roles, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS verb
        WHERE rolname IN {ROLES} AND NOT has_column_privilege(rolname, attrelid, attnum, verb)
            -- No statement writes to a generated column, whatever is granted on it.
            AND (attgenerated = '' OR verb = 'SELECT')""",
    "privilege on a sequence": f"""
        SELECT format('GRANT %s ON SEQUENCE %s TO %I', verb, pg_class.oid::regclass, rolname),
            ARRAY['sequence', relnamespace::regnamespace::text, rolname]
        FROM pg_class, pg_roles, unnest(ARRAY['SELECT', 'USAGE', 'UPDATE']) AS verb
        WHERE relnamespace IN {OURS} AND relkind = 'S' AND rolname IN {ROLES}""",
}
