"""The SQL that reads the catalog: one constant per kind of object.

Every row describes one object. `relation` is the table it belongs to and `name` its name there;
the other columns are the fields of its definition. `owner` is a role's oid, `acl` a list of
[grantee oid, privilege, grantable], `parent` the object of a partitioned table that this one is
the partition's share of.
"""

# Text is compared with COLLATE "C" wherever it is ordered: the database's collation must not show.


def _own(catalog: str, alias: str) -> str:
    """What an extension brought with it is the extension's business."""
    return f"""NOT EXISTS (
        SELECT FROM pg_depend e
        WHERE e.classid = '{catalog}'::regclass AND e.objid = {alias}.oid AND e.deptype = 'e')"""


def _acl(entries: str) -> str:
    return f"""(
        SELECT jsonb_agg(
            jsonb_build_array(a.grantee::bigint, a.privilege_type, a.is_grantable))
        FROM aclexplode({entries}) AS a)"""


ROLES = "SELECT oid::bigint, rolname::text FROM pg_roles"

# Looked up in the catalog: to_regclass() fails for a role that may not use the schema.
MIGRATOR = """
    SELECT coalesce(
        (SELECT c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'carnivore' AND c.relname = 'alembic_version'),
        (SELECT oid FROM pg_roles WHERE rolname = current_user))::bigint
"""

ALL_SCHEMAS = """
    SELECT nspname::text FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
"""

SCHEMAS = f"""
    SELECT n.nspname::text AS name,
           n.nspowner::bigint AS owner,
           {_acl("coalesce(n.nspacl, acldefault('n', n.nspowner))")} AS acl,
           obj_description(n.oid, 'pg_namespace') AS comment
    FROM pg_namespace n
    WHERE n.nspname = ANY(:schemas) AND {_own("pg_namespace", "n")}
"""

EXTENSIONS = """
    SELECT e.extname::text AS name, n.nspname::text AS schema, e.extversion AS version,
           obj_description(e.oid, 'pg_extension') AS comment
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
"""

DEFAULT_PRIVILEGES = f"""
    SELECT format('%s in %s on %s',
               pg_get_userbyid(p.defaclrole), coalesce(n.nspname, 'any schema'),
               CASE p.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences'
                   WHEN 'f' THEN 'functions' WHEN 'T' THEN 'types' WHEN 'n' THEN 'schemas'
                   ELSE p.defaclobjtype::text END) AS name,
           {_acl("p.defaclacl")} AS acl
    FROM pg_default_acl p LEFT JOIN pg_namespace n ON n.oid = p.defaclnamespace
"""

# A partition belongs to its parent even when it lives in a schema of its own.
RELATIONS = f"""
    SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name,
           parent.oid::bigint AS parent
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
    LEFT JOIN pg_class parent ON parent.oid = i.inhparent
    LEFT JOIN pg_namespace pn ON pn.oid = parent.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND (n.nspname = ANY(:schemas) OR pn.nspname = ANY(:schemas))
      AND {_own("pg_class", "c")}
"""

TABLES = """
    SELECT c.oid::bigint AS relation,
           CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table'
               WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
               ELSE 'foreign table' END AS kind,
           CASE c.relpersistence WHEN 'p' THEN 'permanent' WHEN 'u' THEN 'unlogged'
               ELSE 'temporary' END AS persistence,
           c.relowner::bigint AS owner,
           c.relrowsecurity AS row_security,
           c.relforcerowsecurity AS row_security_forced,
           CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END AS partition_key,
           CASE WHEN c.relkind = 'p' THEN (
               SELECT k.partstrat = 'r' AND k.partnatts = 1
                      AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype,
                                         'date'::regtype)
               FROM pg_partitioned_table k
               LEFT JOIN pg_attribute a
                   ON a.attrelid = k.partrelid AND a.attnum = k.partattrs[0]
               WHERE k.partrelid = c.oid) END AS by_time,
           CASE WHEN c.relispartition THEN pg_get_expr(c.relpartbound, c.oid) END AS bounds,
           (SELECT jsonb_agg(o ORDER BY o COLLATE "C") FROM unnest(c.reloptions) o) AS options,
           (SELECT jsonb_agg(o ORDER BY o COLLATE "C") FROM unnest(t.reloptions) o)
               AS toast_options,
           CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END AS definition,
           CASE c.relreplident WHEN 'n' THEN 'nothing' WHEN 'f' THEN 'full'
               WHEN 'i' THEN 'index' END AS replica_identity,
           obj_description(c.oid, 'pg_class') AS comment
    FROM pg_class c LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
    WHERE c.oid = ANY(CAST(:relations AS oid[]))
"""

# PostgreSQL 17 turned the statistics target "as configured" from -1 into NULL.
COLUMNS = """
    SELECT a.attrelid::bigint AS relation,
           a.attname::text AS name,
           row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum) AS position,
           -- Where an extension lives is the installation's matter.
           CASE WHEN EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_type'::regclass
                   AND e.objid = t.oid AND e.deptype = 'e')
               THEN t.typname::text ELSE format_type(a.atttypid, a.atttypmod) END AS type,
           -- PostgreSQL 18 knows a NOT NULL that old rows may break.
           a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint AS nn WHERE nn.conrelid = a.attrelid
               AND nn.contype = 'n' AND nn.conkey = ARRAY[a.attnum] AND NOT nn.convalidated) AS not_null,
           pg_get_expr(d.adbin, d.adrelid) AS default,
           CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END AS identity,
           CASE a.attgenerated WHEN 's' THEN 'stored' WHEN 'v' THEN 'virtual' END AS generated,
           CASE WHEN a.attcollation <> t.typcollation
               THEN format('%s.%s', cn.nspname, co.collname) END AS collation,
           CASE WHEN a.attstattarget <> -1 THEN a.attstattarget END AS statistics,
           CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage::text END AS storage,
           CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END AS compression,
           -- Recent minor releases keep a version of their own here; nobody set it.
           (SELECT jsonb_agg(o ORDER BY o COLLATE "C") FROM unnest(a.attoptions) o
            WHERE o NOT LIKE 'pg\\_attver=%') AS options,
           col_description(a.attrelid, a.attnum) AS comment
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LEFT JOIN pg_collation co ON co.oid = a.attcollation
    LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
    WHERE a.attrelid = ANY(CAST(:relations AS oid[])) AND a.attnum > 0 AND NOT a.attisdropped
"""

# A key that points at a partitioned table has a second row per partition: not written by anyone.
# NOT NULL ('n', a constraint since PostgreSQL 18) is told by the column, 't' by the trigger.
CONSTRAINTS = """
    SELECT c.conrelid::bigint AS relation,
           c.conname::text AS name,
           parent.conname::text AS parent,
           c.contype = 'f' AS is_foreign_key,
           pg_get_constraintdef(c.oid) AS definition,
           c.convalidated AS validated,
           c.condeferrable AS deferrable,
           c.condeferred AS deferred,
           obj_description(c.oid, 'pg_constraint') AS comment
    FROM pg_constraint c LEFT JOIN pg_constraint parent ON parent.oid = c.conparentid
    WHERE c.conrelid = ANY(CAST(:relations AS oid[]))
      AND c.contype NOT IN ('n', 't')
      AND parent.conrelid IS DISTINCT FROM c.conrelid
"""

INDEXES = """
    SELECT i.indrelid::bigint AS relation,
           c.relname::text AS name,
           CASE WHEN parent.oid IS NOT NULL
               THEN format('%s.%s', pn.nspname, parent.relname) END AS parent,
           pg_get_indexdef(c.oid) AS definition,
           i.indisvalid AS valid,
           i.indisready AS ready,
           i.indisunique AS unique,
           i.indisprimary AS primary,
           obj_description(c.oid, 'pg_class') AS comment
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    LEFT JOIN pg_inherits h ON h.inhrelid = c.oid
    LEFT JOIN pg_class parent ON parent.oid = h.inhparent
    LEFT JOIN pg_namespace pn ON pn.oid = parent.relnamespace
    WHERE i.indrelid = ANY(CAST(:relations AS oid[]))
"""

# A trigger on someone else's table that calls our function is ours: auth.users has one.
TRIGGERS = """
    SELECT t.tgrelid::bigint AS relation,
           format('%s.%s', n.nspname, c.relname) AS on_table,
           replace(t.tgname, 'conversation_on_auth', 'on_auth') AS name,
           parent.tgname::text AS parent,
           -- On auth.users ours gives way to another of its name.
           replace(pg_get_triggerdef(t.oid), 'conversation_on_auth', 'on_auth') AS definition,
           CASE t.tgenabled WHEN 'O' THEN 'enabled' WHEN 'D' THEN 'disabled'
               WHEN 'R' THEN 'replica only' ELSE 'always' END AS state,
           obj_description(t.oid, 'pg_trigger') AS comment
    FROM pg_trigger t
    JOIN pg_class c ON c.oid = t.tgrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_proc f ON f.oid = t.tgfoid
    JOIN pg_namespace fn ON fn.oid = f.pronamespace
    LEFT JOIN pg_trigger parent ON parent.oid = t.tgparentid
    WHERE NOT t.tgisinternal
      AND (t.tgrelid = ANY(CAST(:relations AS oid[])) OR fn.nspname = ANY(:schemas))
"""

POLICIES = """
    SELECT p.polrelid::bigint AS relation,
           p.polname::text AS name,
           CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
               WHEN 'd' THEN 'DELETE' ELSE 'ALL' END AS command,
           p.polpermissive AS permissive,
           (SELECT jsonb_agg(role ORDER BY role COLLATE "C")
            FROM (SELECT CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r)::text END AS role
                  FROM unnest(p.polroles) AS r) AS named) AS roles,
           pg_get_expr(p.polqual, p.polrelid) AS using,
           pg_get_expr(p.polwithcheck, p.polrelid) AS with_check,
           obj_description(p.oid, 'pg_policy') AS comment
    FROM pg_policy p
    WHERE p.polrelid = ANY(CAST(:relations AS oid[]))
"""

GRANTS = f"""
    SELECT c.oid::bigint AS relation, CAST(NULL AS text) AS name, c.relowner::bigint AS owner,
           {_acl("coalesce(c.relacl, acldefault('r', c.relowner))")} AS acl
    FROM pg_class c
    WHERE c.oid = ANY(CAST(:relations AS oid[]))
    UNION ALL
    SELECT a.attrelid::bigint, a.attname::text, c.relowner::bigint, {_acl("a.attacl")}
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE a.attrelid = ANY(CAST(:relations AS oid[]))
      AND a.attacl IS NOT NULL AND NOT a.attisdropped
"""

FUNCTIONS = f"""
    SELECT format('%s.%s(%s)', n.nspname, p.proname,
               pg_get_function_identity_arguments(p.oid)) AS name,
           CASE p.prokind WHEN 'f' THEN 'function' WHEN 'p' THEN 'procedure'
               WHEN 'a' THEN 'aggregate' ELSE 'window' END AS kind,
           CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END AS definition,
           p.prosecdef AS security_definer,
           CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable'
               ELSE 'volatile' END AS volatility,
           (SELECT jsonb_agg(s ORDER BY s COLLATE "C") FROM unnest(p.proconfig) s) AS settings,
           l.lanname::text AS language,
           p.proowner::bigint AS owner,
           {_acl("coalesce(p.proacl, acldefault('f', p.proowner))")} AS acl,
           obj_description(p.oid, 'pg_proc') AS comment
    FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_language l ON l.oid = p.prolang
    WHERE n.nspname = ANY(:schemas) AND {_own("pg_proc", "p")}
"""

TYPES = f"""
    SELECT format('%s.%s', n.nspname, t.typname) AS name,
           CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'r' THEN 'range'
               ELSE 'composite' END AS kind,
           t.typowner::bigint AS owner,
           (SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder)
            FROM pg_enum e WHERE e.enumtypid = t.oid) AS labels,
           coalesce(format_type(nullif(t.typbasetype, 0), t.typtypmod),
                    format_type(r.rngsubtype, NULL)) AS base,
           CASE WHEN t.typtype = 'd' THEN t.typnotnull END AS not_null,
           CASE WHEN t.typtype = 'd' THEN t.typdefault END AS default,
           (SELECT jsonb_object_agg(c.conname, pg_get_constraintdef(c.oid))
            FROM pg_constraint c WHERE c.contypid = t.oid AND c.contype = 'c') AS constraints,
           (SELECT jsonb_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod))
                             ORDER BY a.attnum)
            FROM pg_attribute a
            WHERE a.attrelid = nullif(t.typrelid, 0)
              AND a.attnum > 0 AND NOT a.attisdropped) AS attributes,
           obj_description(t.oid, 'pg_type') AS comment
    FROM pg_type t
    JOIN pg_namespace n ON n.oid = t.typnamespace
    LEFT JOIN pg_class c ON c.oid = t.typrelid
    LEFT JOIN pg_range r ON r.rngtypid = t.oid
    WHERE n.nspname = ANY(:schemas)
      AND (t.typtype IN ('e', 'd', 'r') OR (t.typtype = 'c' AND c.relkind = 'c'))
      AND {_own("pg_type", "t")}
"""

# PostgreSQL 17 gave the locale another column.
COLLATIONS = f"""
    SELECT format('%s.%s', n.nspname, c.collname) AS name,
           'collation' AS kind,
           c.collowner::bigint AS owner,
           CASE c.collprovider WHEN 'i' THEN 'icu' WHEN 'c' THEN 'libc'
               ELSE c.collprovider::text END AS provider,
           coalesce(to_jsonb(c) ->> 'colliculocale', to_jsonb(c) ->> 'colllocale',
                    c.collcollate::text) AS locale,
           c.collisdeterministic AS deterministic,
           obj_description(c.oid, 'pg_collation') AS comment
    FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
    WHERE n.nspname = ANY(:schemas) AND {_own("pg_collation", "c")}
"""

# The sequence of an identity column has its facts on the column; only the grants are its own.
SEQUENCES = f"""
    SELECT format('%s.%s', n.nspname, c.relname) AS name,
           CASE d.deptype WHEN 'i' THEN 'identity' WHEN 'a' THEN 'owned' END AS belongs,
           CASE WHEN d.objid IS NOT NULL
               THEN format('%s.%s.%s', tn.nspname, t.relname, a.attname) END AS column,
           c.relowner::bigint AS owner,
           {_acl("coalesce(c.relacl, acldefault('s', c.relowner))")} AS acl,
           format_type(s.seqtypid, NULL) AS type,
           s.seqstart AS start, s.seqmin AS min, s.seqmax AS max, s.seqincrement AS increment,
           s.seqcache AS cache, s.seqcycle AS cycle,
           obj_description(c.oid, 'pg_class') AS comment
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_sequence s ON s.seqrelid = c.oid
    LEFT JOIN pg_depend d
        ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('i', 'a')
        AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
    LEFT JOIN pg_class t ON t.oid = d.refobjid
    LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
    WHERE n.nspname = ANY(:schemas) AND {_own("pg_class", "c")}
"""

RULES = """
    SELECT r.ev_class::bigint AS relation, r.rulename::text AS name,
           pg_get_ruledef(r.oid) AS definition,
           CASE r.ev_enabled WHEN 'O' THEN 'enabled' WHEN 'D' THEN 'disabled'
               WHEN 'R' THEN 'replica only' ELSE 'always' END AS state,
           obj_description(r.oid, 'pg_rewrite') AS comment
    FROM pg_rewrite r
    WHERE r.ev_class = ANY(CAST(:relations AS oid[])) AND r.rulename <> '_RETURN'
"""

STATISTICS = """
    SELECT s.stxrelid::bigint AS relation, s.stxname::text AS name,
           pg_get_statisticsobjdef(s.oid) AS definition,
           obj_description(s.oid, 'pg_statistic_ext') AS comment
    FROM pg_statistic_ext s
    WHERE s.stxrelid = ANY(CAST(:relations AS oid[]))
"""
