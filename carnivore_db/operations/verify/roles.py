"""What makes row security void though each table is as it should be: roles, logins and settings."""

from collections.abc import Iterator

from sqlalchemy import Connection, text

# The cluster's roles that the package grants to, and what none of them may be.
_ROLES = ["anon", "authenticated", "reporting", "service_role"]
_ATTRIBUTES = text("""
    SELECT rolname, array_remove(ARRAY[
        CASE WHEN rolsuper THEN 'SUPERUSER' END,
        CASE WHEN rolbypassrls AND rolname <> 'service_role' THEN 'BYPASSRLS' END,
        CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
        CASE WHEN rolcreatedb THEN 'CREATEDB' END,
        CASE WHEN rolreplication THEN 'REPLICATION' END], NULL) AS attributes
    FROM pg_roles WHERE rolname = ANY(:roles) ORDER BY rolname
""")
_MEMBERSHIPS = text("""
    SELECT member.rolname AS member, granted.rolname AS role
    FROM pg_auth_members AS m JOIN pg_roles AS member ON member.oid = m.member
    JOIN pg_roles AS granted ON granted.oid = m.roleid
    WHERE member.rolname = ANY(:roles) ORDER BY 1, 2
""")
# Whoever inherits a role has its rights without an identity; from PostgreSQL 16 on also a login that was made
# NOINHERIT after the grant. A superuser and the migrating role may do everything anyway.
_INHERITING = text("""
    SELECT login.rolname AS login, role.rolname AS role
    FROM pg_roles AS login CROSS JOIN pg_roles AS role
    WHERE login.rolcanlogin AND NOT login.rolsuper AND role.rolname = ANY(:roles) AND login.oid <> role.oid
        AND pg_has_role(login.oid, role.oid, 'USAGE')
        AND NOT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE nspname = 'carnivore' AND relname = 'alembic_version' AND relowner = login.oid)
    ORDER BY 1, 2
""")
# A default of these gives everybody somebody's identity, or switches rules off.
_SETTINGS = text("""
    SELECT coalesce('role ' || rolname, 'all roles') AS who, split_part(setting, '=', 1) AS name
    FROM pg_db_role_setting AS s LEFT JOIN pg_roles AS r ON r.oid = s.setrole, unnest(setconfig) AS setting
    WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
        AND split_part(setting, '=', 1)
            ~ '^(request[.].*|carnivore[.].*_token|role|row_security|session_replication_role)$'
    ORDER BY 1, 2
""")
_PARAMETERS = text("""
    SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE rolname END AS who, a.privilege_type AS privilege, parname
    FROM pg_parameter_acl, aclexplode(paracl) AS a LEFT JOIN pg_roles AS r ON r.oid = a.grantee
    WHERE a.grantee = 0 OR rolname = ANY(:roles) ORDER BY 1, 3
""")


def problems(connection: Connection) -> Iterator[str]:
    """Each in a line that names the role and what is wrong with it."""
    roles = {"roles": _ROLES}
    for found in connection.execute(_ATTRIBUTES, roles):
        if found.attributes:
            yield f"role {found.rolname}: {' '.join(found.attributes)}"
    for found in connection.execute(_MEMBERSHIPS, roles):
        yield f"role {found.member}: is a member of {found.role}"
    for found in connection.execute(_INHERITING, roles):
        yield f"login {found.login}: inherits {found.role} and needs no identity; grant it WITH INHERIT FALSE"
    for found in connection.execute(_SETTINGS):
        yield f"setting {found.name}: has a default for {found.who}"
    for found in connection.execute(_PARAMETERS, roles):
        yield f"parameter {found.parname}: {found.who} has {found.privilege}"
