"""What an installation needs of a database and of the role that migrates, asked before anything changes."""

from collections.abc import Collection, Iterator

from sqlalchemy import Connection, text

from carnivore_db.errors import ConfigurationError
from carnivore_db.schema import files
from carnivore_db.schema.areas import Area

_ROLES = ("anon", "authenticated", "service_role")
_RIGHTS = text("""
    SELECT format('%I', current_user) AS me, format('%I', current_database()) AS database,
        has_database_privilege(current_database(), 'CREATE') AS creates_schemas,
        has_schema_privilege('public', 'CREATE') AS creates_in_public,
        (SELECT pg_has_role(nspowner, 'USAGE') OR NOT EXISTS (
                SELECT FROM aclexplode(nspacl) WHERE grantee = 0 AND privilege_type = 'CREATE')
            FROM pg_namespace WHERE nspname = 'public') AS closes_public,
        rolsuper OR rolcreaterole AS creates_roles,
        ARRAY(SELECT wanted FROM unnest(CAST(:roles AS text[])) AS wanted
            WHERE wanted NOT IN (SELECT rolname FROM pg_roles)) AS missing,
        rolsuper OR current_setting('server_version_num')::integer < 160000 AND rolcreaterole
            OR coalesce((SELECT pg_has_role(oid, 'MEMBER WITH ADMIN OPTION') OR pg_has_role(oid,
                -- A member may be one without SET, which is 16's.
                CASE WHEN current_setting('server_version_num')::integer < 160000 THEN 'MEMBER'
                    ELSE 'SET' END)
                FROM pg_roles WHERE rolname = 'service_role'), true) AS becomes_service
    FROM pg_roles WHERE rolname = current_user
""")
_LOGINS = text("""
    SELECT has_schema_privilege(n.oid, 'USAGE') AND (c.oid IS NULL
        OR has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'TRIGGER')
            AND has_table_privilege(c.oid, 'REFERENCES'))
    FROM pg_namespace AS n LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = 'users'
    WHERE n.nspname = 'auth'
""")
_TAKEN = text("""
    SELECT 'the schema ' || nspname FROM pg_namespace WHERE nspname = ANY(:schemas)
    UNION ALL
    SELECT 'the table public.' || relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND format('public.%s', relname) = ANY(:tables)
    ORDER BY 1
""")


def require(connection: Connection, areas: Collection[Area], *, platform: bool) -> None:
    """Refuse, with ConfigurationError, a database where these areas cannot be installed.

    `platform`: it is to be installed too. The error names everything that is missing, and its remedy.
    """
    if unmet := [*_rights(connection, areas, platform=platform), *_names(connection, areas)]:
        raise ConfigurationError("\n".join(["nothing was changed:", *unmet]))


def _rights(connection: Connection, areas: Collection[Area], *, platform: bool) -> Iterator[str]:
    roles = [*(_ROLES if platform else ()), *(("reporting",) if "weekly" in areas else ())]
    found = connection.execute(_RIGHTS, {"roles": roles}).one()
    if (platform or areas) and not found.creates_schemas:
        yield f"{found.me} may not create schemas: GRANT CREATE ON DATABASE {found.database} TO {found.me}"
    if "weekly" in areas and not found.creates_in_public:
        yield f"{found.me} may not create tables in public: GRANT CREATE ON SCHEMA public TO {found.me}"
    if platform and not found.closes_public:
        yield "everybody may create in public: REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    if found.missing and not found.creates_roles:
        made = "; ".join(f"CREATE ROLE {role} NOLOGIN NOINHERIT" for role in found.missing)
        yield f"{found.me} may not create the roles that are missing: {made}"
    if platform and not found.becomes_service:
        yield f"{found.me} may not act as service_role: GRANT service_role TO {found.me}"
    if "conversation" in areas and connection.scalar(_LOGINS) is False:
        grants = ("USAGE ON SCHEMA auth", "SELECT, REFERENCES, TRIGGER ON auth.users")
        remedy = "; ".join(f"GRANT {grant} TO {found.me}" for grant in grants)
        yield f"{found.me} may not refer to logins: {remedy}"


def _names(connection: Connection, areas: Collection[Area]) -> Iterator[str]:
    for area in areas:
        made = files.expected(area)
        own = files.own(made, files.expected())
        schemas = own.get("schemas", {}).keys() - {"public"}
        taken = {"schemas": list(schemas), "tables": list(own.get("tables", {}))}
        for name in connection.scalars(_TAKEN, taken):
            yield f"{name} is there already, and {area} makes its own: rename or drop it"
