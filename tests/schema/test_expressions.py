"""Printed SQL in one form: a second parse prints the same text, and another meaning prints another."""

from collections.abc import Iterator
from itertools import product

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnivore_db.schema.expressions import plain, plain_view
from tests.support.databases import Shape

LEAVES = (
    "a",
    "NOT b",
    "c IN ('x', 'y')",
    "c NOT IN ('it''s (a AND b)', 'y')",
    "n BETWEEN 1 AND 2",
    "(n, m) IS DISTINCT FROM (1, 2)",
    "CASE WHEN a AND b AND n > 0 THEN b ELSE a END",
    "coalesce(a AND (b AND n > 1), b)",
    "c ~ '^(x|y) OR '",
)
conditions = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.tuples(inner, st.sampled_from((" AND ", " OR ")), inner).map(
        lambda t: f"({t[0]}{t[1]}{t[2]})"
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def connection(plain_shape: Shape) -> Iterator[psycopg.Connection]:
    with psycopg.connect(plain_shape.server.dsn("postgres"), autocommit=True) as opened:
        opened.execute("CREATE TEMP TABLE t (a boolean, b boolean, c varchar(20), n integer, m integer)")
        yield opened


def printed(connection: psycopg.Connection, condition: str) -> str:
    """The condition as the catalog prints it."""
    connection.execute(f"ALTER TABLE t ADD CONSTRAINT it CHECK ({condition})".encode())
    found = connection.execute(
        "SELECT pg_get_expr(conbin, conrelid) FROM pg_constraint WHERE conrelid = 't'::regclass"
    ).fetchone()
    connection.execute("ALTER TABLE t DROP CONSTRAINT it")
    assert found
    return str(found[0])


@given(condition=conditions)
def test_a_second_parse_prints_the_same(connection: psycopg.Connection, condition: str) -> None:
    once = printed(connection, condition)
    assert plain(printed(connection, once)) == plain(once)
    assert plain(printed(connection, plain(once))) == plain(once)


VALUES = ", ".join(
    f"({a}, {b}, {c}, {n}, {n})"
    for a, b, c, n in product(
        ("true", "false", "NULL::boolean"), ("true", "false"), ("'x'", "NULL"), (0, 1, 2)
    )
)


@given(condition=conditions)
def test_the_meaning_stays(connection: psycopg.Connection, condition: str) -> None:
    query = f"SELECT {{}} FROM (VALUES {VALUES}) AS t (a, b, c, n, m)"
    expected = connection.execute(query.format(condition).encode()).fetchall()
    text = plain(printed(connection, condition))
    assert connection.execute(query.format(text).encode()).fetchall() == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("(a OR b) AND n > 0", "a OR (b AND n > 0)"),
        ("(a AND b) OR n > 0", "a AND (b OR n > 0)"),
        ("NOT (a AND b) AND n > 0", "NOT a AND b AND n > 0"),
        ("c IN ('x', 'y')", "c IN ('x')"),
        ("c IN ('x, y')", "c IN ('x', 'y')"),
        ("c = 'a AND (b AND c)'", "c = 'a AND b AND c'"),
        ("c = '(''x''::character varying)::text'", "c = '''x''::text'"),
        ("(a OR b) IS NULL OR n > 0", "a OR (b IS NULL) OR n > 0"),
    ],
)
def test_another_meaning_is_another_text(connection: psycopg.Connection, one: str, other: str) -> None:
    assert plain(printed(connection, one)) != plain(printed(connection, other))


def test_a_view_of_one_relation_reads_the_same_on_every_version() -> None:
    old = " SELECT r.id\n   FROM public.reports r\n  WHERE (r.n = 0);"
    new = " SELECT id\n   FROM public.reports r\n  WHERE (n = 0);"
    joined = " SELECT r.id\n   FROM (public.reports r\n     JOIN public.users u ON (u.id = r.id));"
    assert plain_view(old) == plain_view(new) == new
    assert plain_view(joined) == joined


def test_a_query_inside_keeps_its_qualifiers_on_every_version() -> None:
    inside = """FROM ( SELECT r.id,
            'r.id'::text AS name
           FROM public.reports r
          WHERE (r.n = 0)) r
  WHERE (EXISTS ( SELECT
           FROM public.users u
          WHERE (u.id = r.id)))"""
    old = f" SELECT r.id,\n    max(r.name) AS name\n   {inside}\n  GROUP BY r.id;"
    new = f" SELECT id,\n    max(name) AS name\n   {inside}\n  GROUP BY id;"
    assert plain_view(old) == plain_view(new) == new


def test_a_union_keeps_its_qualifiers() -> None:
    both = " SELECT r.id\n   FROM public.reports r\nUNION\n SELECT u.id\n   FROM public.users u;"
    assert plain_view(both) == both
