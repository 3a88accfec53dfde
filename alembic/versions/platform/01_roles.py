"""Roles, extensions, `auth` where Supabase has not made it, and the private schema with its helpers.

Why: every later revision grants to anon, authenticated and service_role and asks auth.uid() who is
calling. Supabase has all of that; plain PostgreSQL gets the same here, under the same names, so that
one set of policies serves both.

It needs CREATE on the database and in the schema public and, where the roles are missing, CREATEROLE;
never a superuser.
"""

from alembic import op

revision = "roles"
down_revision = None
branch_labels = None
depends_on = None

# Roles belong to the cluster: another database may use them, so no downgrade drops them, and two
# databases migrated at once may both find them missing.
ROLES = """
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['anon', 'authenticated', 'service_role'] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', wanted);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            RAISE NOTICE 'role % was made by another migration just now', wanted;
            CONTINUE;
        END;
        CONTINUE WHEN wanted <> 'service_role';
        BEGIN
            ALTER ROLE service_role BYPASSRLS;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE NOTICE 'service_role cannot bypass row security; its policies let it through';
        END;
    END LOOP;
    -- Jobs and commands act as the service. Who creates a role may grant it from PostgreSQL 16 on, and not yet become it.
    IF current_setting('server_version_num')::integer < 160000 THEN
        IF NOT pg_has_role('service_role', 'MEMBER') THEN
            GRANT service_role TO CURRENT_USER;
        END IF;
    ELSIF NOT pg_has_role('service_role', 'SET') THEN
        EXECUTE 'GRANT service_role TO CURRENT_USER WITH SET TRUE, INHERIT FALSE';
    END IF;
END
$$;
"""

# Clusters from before PostgreSQL 15 let everybody make operators and functions there, where names of everybody resolve.
PUBLIC = """
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
"""

# The marks in the comments tell the downgrade what this revision made and what it found.
EXTENSIONS = """
DO $$
BEGIN
    IF to_regnamespace('extensions') IS NULL THEN
        CREATE SCHEMA extensions;
        COMMENT ON SCHEMA extensions IS 'carnivore_db: extensions, apart from the application''s names.';
        GRANT USAGE ON SCHEMA extensions TO anon, authenticated, service_role;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'pgcrypto') THEN
        CREATE EXTENSION pgcrypto WITH SCHEMA extensions;
        COMMENT ON EXTENSION pgcrypto IS 'carnivore_db: installed by its platform revision.';
    END IF;
END
$$;
"""

AUTH = """
DO $migration$
BEGIN
    IF to_regnamespace('auth') IS NOT NULL THEN
        IF to_regprocedure('auth.uid()') IS NULL OR to_regprocedure('auth.email()') IS NULL THEN
            RAISE EXCEPTION 'schema auth exists but lacks auth.uid() or auth.email()'
                USING HINT = 'Supabase makes both; on plain PostgreSQL let this migration make the schema.';
        END IF;
        RETURN;
    END IF;

    CREATE SCHEMA auth;
    COMMENT ON SCHEMA auth IS 'carnivore_db: the part of Supabase''s auth that the policies read.';
    GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role;

    CREATE TABLE auth.users (
        id uuid DEFAULT gen_random_uuid() NOT NULL,
        email varchar(255),
        created_at timestamptz DEFAULT now() NOT NULL,
        CONSTRAINT users_pkey PRIMARY KEY (id),
        CONSTRAINT users_email_key UNIQUE (email)
    );
    COMMENT ON TABLE auth.users IS 'People who can log in; on Supabase this is its own table.';
    COMMENT ON COLUMN auth.users.id IS 'What auth.uid() returns for the person.';
    COMMENT ON COLUMN auth.users.email IS 'The person''s address.';
    COMMENT ON COLUMN auth.users.created_at IS 'When the person was added.';
    COMMENT ON INDEX auth.users_pkey IS 'Identity.';
    COMMENT ON INDEX auth.users_email_key IS 'One person, one address.';
    ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY;
    CREATE POLICY service_role_users ON auth.users TO service_role USING (true) WITH CHECK (true);
    COMMENT ON POLICY service_role_users ON auth.users IS 'The service manages people.';
    REVOKE ALL ON auth.users FROM PUBLIC, anon, authenticated, service_role;
    GRANT SELECT, INSERT, UPDATE, DELETE ON auth.users TO service_role;

    CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
        SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb
    $$;
    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
        SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid
    $$;
    CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
        SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
    $$;
    CREATE FUNCTION auth.email() RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
        SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'
    $$;
    COMMENT ON FUNCTION auth.jwt() IS 'The verified claims of this transaction''s caller.';
    COMMENT ON FUNCTION auth.uid() IS 'The caller''s user id, or NULL.';
    COMMENT ON FUNCTION auth.role() IS 'The caller''s role as claimed.';
    COMMENT ON FUNCTION auth.email() IS 'The caller''s e-mail address, or NULL.';
    REVOKE ALL ON FUNCTION auth.jwt(), auth.uid(), auth.role(), auth.email() FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION auth.jwt(), auth.uid(), auth.role(), auth.email()
        TO anon, authenticated, service_role;
END
$migration$;
"""

# `carnivore` is private: PostgREST does not publish it and nobody but its owner may look in. Alembic
# made it, with its version table, before this revision ran.
PRIVATE_SCHEMA = """
COMMENT ON SCHEMA carnivore IS 'The package''s own: version table and helper functions; not published.';
COMMENT ON TABLE carnivore.alembic_version IS 'The revisions that this database is at: one, or the tip of each area.';
COMMENT ON COLUMN carnivore.alembic_version.version_num IS 'Identity of the revision.';
COMMENT ON INDEX carnivore.alembic_version_pkc IS 'Each once.';
ALTER TABLE carnivore.alembic_version ENABLE ROW LEVEL SECURITY;
"""

HELPERS = """
CREATE FUNCTION carnivore.fold_email() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- In no locale's order: elsewhere some letters fold to ASCII, and one address could become another.
    NEW.email := lower(NEW.email COLLATE "C");
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION carnivore.fold_email() IS 'Stores e-mail addresses in lower case, so that equality finds them.';
REVOKE ALL ON FUNCTION carnivore.fold_email() FROM PUBLIC, anon, authenticated, service_role;

CREATE FUNCTION carnivore.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed text := (
        SELECT string_agg(name, ', ') FROM unnest(TG_ARGV) AS name
        WHERE to_jsonb(OLD) -> name IS DISTINCT FROM to_jsonb(NEW) -> name);
BEGIN
    RAISE EXCEPTION '% cannot change any more', changed
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'immutable',
              SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, COLUMN = changed;
END
$$;
COMMENT ON FUNCTION carnivore.refuse_change() IS 'Refuses a change of the columns named in the trigger''s arguments.';
REVOKE ALL ON FUNCTION carnivore.refuse_change() FROM PUBLIC, anon, authenticated, service_role;

CREATE FUNCTION carnivore.table_of(relation oid) RETURNS name
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(parent.relname, c.relname)
    FROM pg_class AS c LEFT JOIN pg_inherits ON inhrelid = c.oid LEFT JOIN pg_class AS parent ON parent.oid = inhparent
    WHERE c.oid = relation
$$;
COMMENT ON FUNCTION carnivore.table_of(oid) IS 'The name of a table, for a partition its parent''s: what an error names.';
REVOKE ALL ON FUNCTION carnivore.table_of(oid) FROM PUBLIC, anon, authenticated, service_role;

CREATE FUNCTION carnivore.refuse_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept name := carnivore.table_of(TG_RELID);
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', kept, TG_OP
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'append_only',
              SCHEMA = TG_TABLE_SCHEMA, TABLE = kept;
END
$$;
COMMENT ON FUNCTION carnivore.refuse_truncate() IS 'Refuses to empty a table whose rows are kept.';
REVOKE ALL ON FUNCTION carnivore.refuse_truncate() FROM PUBLIC, anon, authenticated, service_role;
"""


def upgrade() -> None:
    for part in (ROLES, PUBLIC, EXTENSIONS, AUTH, PRIVATE_SCHEMA, HELPERS):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
        DROP FUNCTION carnivore.refuse_truncate();
        DROP FUNCTION carnivore.table_of(oid);
        DROP FUNCTION carnivore.refuse_change();
        DROP FUNCTION carnivore.fold_email();
        ALTER TABLE carnivore.alembic_version DISABLE ROW LEVEL SECURITY;
        COMMENT ON INDEX carnivore.alembic_version_pkc IS NULL;
        COMMENT ON COLUMN carnivore.alembic_version.version_num IS NULL;
        COMMENT ON TABLE carnivore.alembic_version IS NULL;
        COMMENT ON SCHEMA carnivore IS NULL;
    """)
    op.execute("""
        DO $$
        BEGIN
            IF obj_description(to_regnamespace('auth'), 'pg_namespace') LIKE 'carnivore_db:%' THEN
                DROP FUNCTION auth.email(), auth.role(), auth.uid(), auth.jwt();
                DROP TABLE auth.users;
                DROP SCHEMA auth;
            END IF;
        END
        $$;
    """)
    op.execute("""
        DO $$
        BEGIN
            IF EXISTS (SELECT FROM pg_catalog.pg_extension
                WHERE extname = 'pgcrypto' AND obj_description(oid, 'pg_extension') LIKE 'carnivore_db:%'
                    AND pg_has_role(extowner, 'USAGE'))
            THEN
                DROP EXTENSION pgcrypto;
            END IF;
            IF obj_description(to_regnamespace('extensions'), 'pg_namespace') LIKE 'carnivore_db:%'
                AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extnamespace = to_regnamespace('extensions'))
            THEN
                DROP SCHEMA extensions;
            END IF;
        END
        $$;
    """)
