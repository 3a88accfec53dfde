"""Every object of ours keeps the rules, and every rule finds what breaks it."""

import re
from collections.abc import Iterator

import psycopg
import pytest

from tests.support.databases import TestDatabase

# Our schemas, and those that the platform revision made because nobody else had.
OURS = """
    WITH ours AS (
        SELECT oid FROM pg_namespace AS n
        WHERE nspname IN ('public', 'vocabulary', 'conversation', 'analytics', 'carnivore')
            OR (nspname = 'auth' AND obj_description(oid, 'pg_namespace') LIKE 'carnivore_db:%')
    ), relations AS (
        SELECT c.*, c.oid::regclass::text AS name FROM pg_class AS c JOIN ours ON ours.oid = c.relnamespace
    ), functions AS (
        SELECT p.*, p.oid::regprocedure::text AS name FROM pg_proc AS p JOIN ours ON ours.oid = p.pronamespace
        WHERE NOT EXISTS (SELECT FROM pg_depend AS d
            WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
    ), policies AS (
        SELECT p.*, p.polname || ' on ' || r.name AS name
        FROM pg_policy AS p JOIN relations AS r ON r.oid = p.polrelid
    ), indexes AS (
        SELECT i.*, c.name, i.indkey::text AS key, i.indoption::text AS options,
            coalesce(pg_get_expr(i.indpred, i.indrelid), '') AS condition,
            coalesce(pg_get_expr(i.indexprs, i.indrelid), '') AS expressions
        FROM pg_index AS i JOIN relations AS c ON c.oid = i.indexrelid
    )
"""
# Rule -> a query, after OURS, for the names of what breaks it; and SQL that does.
LINTS = {
    "every table and view has a comment": (
        """
        SELECT name FROM relations
        WHERE relkind IN ('r', 'p', 'v', 'm') AND obj_description(oid, 'pg_class') IS NULL
        """,
        "COMMENT ON VIEW public.report_access_counts IS NULL",
    ),
    "every column has a comment": (
        """
        SELECT r.name || '.' || a.attname FROM relations AS r JOIN pg_attribute AS a ON a.attrelid = r.oid
        WHERE r.relkind IN ('r', 'p', 'v', 'm') AND NOT r.relispartition AND a.attnum > 0
            AND NOT a.attisdropped AND col_description(r.oid, a.attnum) IS NULL
        """,
        "ALTER TABLE public.stripe_events ADD COLUMN silent text",
    ),
    "every function has a comment": (
        "SELECT name FROM functions WHERE obj_description(oid, 'pg_proc') IS NULL",
        "COMMENT ON FUNCTION public.check_report(text) IS NULL",
    ),
    "every policy has a comment": (
        "SELECT name FROM policies WHERE obj_description(oid, 'pg_policy') IS NULL",
        "COMMENT ON POLICY auth_user_sessions_read ON public.user_sessions IS NULL",
    ),
    "every trigger has a comment, once for a table and its partitions": (
        """
        SELECT t.tgname || ' on ' || r.name FROM pg_trigger AS t JOIN relations AS r ON r.oid = t.tgrelid
        WHERE NOT t.tgisinternal AND NOT r.relispartition AND obj_description(t.oid, 'pg_trigger') IS NULL
            -- On Supabase nobody but the owner of auth.users could.
            AND r.relnamespace <> 'auth'::regnamespace
        """,
        "COMMENT ON TRIGGER trg_user_sessions_payment ON public.user_sessions IS NULL",
    ),
    "every index has a comment, once for a table and its partitions": (
        """
        SELECT i.name FROM indexes AS i JOIN relations AS r ON r.oid = i.indrelid
        WHERE NOT r.relispartition AND obj_description(i.indexrelid, 'pg_class') IS NULL
        """,
        "COMMENT ON INDEX public.user_sessions_pkey IS NULL",
    ),
    "every type has a comment": (
        """
        SELECT t.oid::regtype::text FROM pg_type AS t JOIN ours ON ours.oid = t.typnamespace
        LEFT JOIN pg_class AS c ON c.oid = t.typrelid
        WHERE (t.typtype IN ('e', 'd', 'r') OR c.relkind = 'c')
            AND obj_description(t.oid, 'pg_type') IS NULL
        """,
        "CREATE TYPE public.mood AS ENUM ('good', 'bad')",
    ),
    "every function has a search path that no caller can put anything in front of": (
        """
        SELECT name FROM functions
        WHERE NOT coalesce(proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp']
            -- A procedure that commits can have none; it has its caller's rights, and qualifies every name.
            AND NOT (prokind = 'p' AND NOT prosecdef)
        """,
        "ALTER FUNCTION public.open_report(text, text, text) SET search_path = public",
    ),
    "no function may be executed by everybody but those that ask for a report's token": (
        """
        SELECT name FROM functions, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS granted
        WHERE granted.grantee = 0 AND oid NOT IN (
            to_regprocedure('public.check_report(text)'),
            to_regprocedure('public.open_report(text, text, text)'))
        """,
        "GRANT EXECUTE ON FUNCTION public.fold_report_access(integer) TO PUBLIC",
    ),
    "nobody may call a trigger's function that runs with its owner's rights": (
        """
        SELECT name FROM functions, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS granted
        WHERE prosecdef AND prorettype = 'trigger'::regtype AND granted.grantee <> proowner
        """,
        "GRANT EXECUTE ON FUNCTION carnivore.record_expiry_change() TO anon",
    ),
    "every foreign key has an index that begins with its columns": (
        """
        SELECT r.name || '.' || k.conname FROM pg_constraint AS k JOIN relations AS r ON r.oid = k.conrelid
        WHERE k.contype = 'f' AND NOT EXISTS (
            SELECT FROM pg_index AS i
            WHERE i.indrelid = k.conrelid AND i.indisvalid
                -- No key refers to a NULL: an index without them serves as well.
                AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) = (
                    SELECT format('(%I IS NOT NULL)', a.attname) FROM pg_attribute AS a
                    WHERE a.attrelid = k.conrelid AND k.conkey = ARRAY[a.attnum]))
                AND (i.indkey::smallint[])[0:cardinality(k.conkey) - 1] @> k.conkey)
        """,
        "DROP INDEX public.idx_calculator2_sessions_pricing_tier",
    ),
    "no index repeats another": (
        """
        SELECT one.name || ' = ' || other.name FROM indexes AS one JOIN indexes AS other USING (indrelid, key)
        WHERE one.indexrelid < other.indexrelid
            AND (one.indclass, one.indcollation, one.condition, one.expressions)
                = (other.indclass, other.indcollation, other.condition, other.expressions)
            AND (one.indnkeyatts = 1 OR one.options = other.options)
        """,
        "CREATE INDEX twin ON public.user_sessions (email DESC)",
    ),
    "no index is the beginning of another": (
        """
        SELECT short.name || ' in ' || long.name FROM indexes AS short JOIN indexes AS long USING (indrelid)
        WHERE NOT short.indisunique AND short.indnkeyatts < long.indnkeyatts
            AND (short.condition, short.expressions) = (long.condition, '')
            AND starts_with(long.key || ' ', short.key || ' ')
            AND (short.indnkeyatts = 1 OR starts_with(long.options || ' ', short.options || ' '))
        """,
        "CREATE INDEX longer ON public.user_sessions (email, created_at)",
    ),
    "every index is valid": (
        "SELECT name FROM indexes WHERE NOT (indisvalid AND indisready AND indislive)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.user_sessions_pkey'::regclass",
    ),
    "every constraint is validated": (
        """
        SELECT r.name || '.' || k.conname FROM pg_constraint AS k JOIN relations AS r ON r.oid = k.conrelid
        WHERE NOT k.convalidated
        """,
        "ALTER TABLE public.user_sessions ADD CONSTRAINT late CHECK (id > 0) NOT VALID",
    ),
    "every table and every partition has row security": (
        "SELECT name FROM relations WHERE relkind IN ('r', 'p') AND NOT relrowsecurity",
        "ALTER TABLE public.report_access_log_default DISABLE ROW LEVEL SECURITY",
    ),
    "every policy names its roles": (
        "SELECT name FROM policies WHERE 0 = ANY (polroles)",
        "ALTER POLICY read_calculator2_sessions ON public.calculator2_sessions TO PUBLIC",
    ),
    "nobody but the service sees all rows": (
        """
        SELECT name FROM policies
        WHERE 'true' IN (pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
            AND polroles <> ARRAY[(SELECT oid FROM pg_roles WHERE rolname = 'service_role')]
        """,
        "ALTER POLICY auth_user_sessions_read ON public.user_sessions USING (true)",
    ),
    "no two permissive policies serve one role and verb": (
        """
        SELECT string_agg(p.name, ' and ') || ' for ' || verb::text
        FROM policies AS p, unnest(p.polroles) AS role,
            unnest(CASE p.polcmd WHEN '*' THEN '{r,a,w,d}'::"char"[] ELSE ARRAY[p.polcmd] END) AS verb
        WHERE p.polpermissive GROUP BY p.polrelid, role, verb HAVING count(*) > 1
        """,
        "CREATE POLICY more ON public.user_sessions FOR SELECT TO service_role USING (id > 1)",
    ),
    "every view but those of analytics asks with its caller's rights": (
        """
        SELECT name FROM relations
        WHERE relkind = 'v' AND relnamespace <> 'analytics'::regnamespace
            AND NOT coalesce(reloptions, '{}') @> ARRAY['security_invoker=true']
        """,
        "ALTER VIEW public.report_access_counts RESET (security_invoker)",
    ),
    # They count rows that the role may not see.
    "every view of analytics is a security barrier with its owner's rights": (
        """
        SELECT name FROM relations
        WHERE relkind = 'v' AND relnamespace = 'analytics'::regnamespace
            AND coalesce(reloptions, '{}') <> ARRAY['security_barrier=true']
        """,
        "ALTER VIEW analytics.paths RESET (security_barrier)",
    ),
    "every view of analytics is read by reporting, and by nobody else": (
        """
        SELECT name FROM relations
        WHERE relkind = 'v' AND relnamespace = 'analytics'::regnamespace AND NOT EXISTS (
            SELECT FROM aclexplode(relacl) AS granted HAVING array_agg(
                granted.grantee::regrole || ' ' || granted.privilege_type || granted.is_grantable)
                FILTER (WHERE granted.grantee <> relowner) = ARRAY['reporting SELECTfalse'])
        """,
        "GRANT SELECT ON analytics.paths TO service_role",
    ),
    "nothing is granted to everybody": (
        """
        SELECT r.name FROM relations AS r, aclexplode(r.relacl) AS granted WHERE granted.grantee = 0
        UNION ALL
        SELECT r.name || '.' || a.attname FROM relations AS r JOIN pg_attribute AS a ON a.attrelid = r.oid,
            aclexplode(a.attacl) AS granted WHERE granted.grantee = 0
        """,
        "GRANT UPDATE (email) ON public.user_sessions TO PUBLIC",
    ),
    "no sequence is granted to anybody: identity columns need none": (
        """
        SELECT name FROM relations, aclexplode(relacl) AS granted
        WHERE relkind = 'S' AND granted.grantee <> relowner
        """,
        "GRANT USAGE ON SEQUENCE public.user_sessions_id_seq TO service_role",
    ),
    "every moment has its time zone": (
        """
        SELECT r.name || '.' || a.attname FROM relations AS r JOIN pg_attribute AS a ON a.attrelid = r.oid
        WHERE r.relkind IN ('r', 'p', 'v', 'c') AND a.atttypid IN ('timestamp'::regtype, 'timetz'::regtype)
        """,
        "ALTER TABLE public.stripe_events ADD COLUMN seen_at timestamp",
    ),
}
each_lint = pytest.mark.parametrize("lint", LINTS)


@pytest.fixture(scope="module", params=["plain", "supabase"])
def catalog(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection]:
    """A migrated database of each shape; what a test changes is rolled back."""
    shape = request.getfixturevalue(f"{request.param}_shape")
    with shape.clone(request.getfixturevalue(f"{request.param}_template")) as made:
        database: TestDatabase = made
        with database.connect() as connection:
            yield connection


def offenders(connection: psycopg.Connection, lint: str) -> set[str]:
    return {name for (name,) in connection.execute(OURS + LINTS[lint][0])}


@pytest.mark.document(26)
@each_lint
def test_the_schema_keeps(catalog: psycopg.Connection, lint: str) -> None:
    with catalog.transaction(force_rollback=True):
        assert offenders(catalog, lint) == set()


@each_lint
def test_a_breach_is_found(catalog: psycopg.Connection, lint: str) -> None:
    with catalog.transaction(force_rollback=True):
        before = offenders(catalog, lint)
        catalog.execute(LINTS[lint][1])
        assert offenders(catalog, lint) > before


def outside_sub_selects(expression: str) -> str:
    """What PostgreSQL computes for each row anew: the expression without its (SELECT ...)."""
    depth, kept = 0, []
    for token in re.findall(r"'(?:[^']|'')*'|\( *SELECT\b|[()]|[^()']+", expression):
        if token.startswith("'"):
            continue
        if depth:
            depth += token.startswith("(") - (token == ")")
        elif token.startswith("(") and token != "(":
            depth = 1
        else:
            kept.append(token)
    return "".join(kept)


def per_row(connection: psycopg.Connection) -> list[str]:
    """Policies that ask for each row who is asking."""
    expressions = connection.execute(f"""{OURS}
        SELECT name, concat_ws(' AND ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
        FROM policies
    """)
    asks = re.compile(r"\b(auth|carnivore)\.\w+\(|\bcurrent_setting\(")
    return [name for name, expression in expressions if asks.search(outside_sub_selects(expression))]


def test_policies_ask_once_who_is_asking(catalog: psycopg.Connection) -> None:
    with catalog.transaction(force_rollback=True):
        catalog.execute("SET LOCAL search_path = ''")
        assert per_row(catalog) == []


@pytest.mark.parametrize(
    "expression",
    [
        "email = auth.email()",
        "email = lower(auth.email())",
        "email = (SELECT lower(auth.email())) OR (auth.uid() IS NOT NULL)",
        "email = current_setting('request.jwt.claims')",
        "EXISTS (SELECT 1) AND auth.role() = ')'",
    ],
)
def test_a_policy_that_asks_for_each_row_is_found(catalog: psycopg.Connection, expression: str) -> None:
    with catalog.transaction(force_rollback=True):
        catalog.execute("SET LOCAL search_path = ''")
        catalog.execute(f"ALTER POLICY auth_user_sessions_read ON public.user_sessions USING ({expression})")
        assert per_row(catalog) == ["auth_user_sessions_read on public.user_sessions"]
