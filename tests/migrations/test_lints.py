"""Every object of ours keeps the rules, and every rule finds what breaks it."""

import re
from collections.abc import Iterator

import psycopg
import pytest

from tests.migrations.lints import ALL, OURS, Lint
from tests.support.databases import TestDatabase

each_lint = pytest.mark.parametrize("lint", ALL, ids=[lint.rule for lint in ALL])


@pytest.fixture(scope="module", params=["plain", "supabase"])
def catalog(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection]:
    """A migrated database of each shape; what a test changes is rolled back."""
    shape = request.getfixturevalue(f"{request.param}_shape")
    with shape.clone(request.getfixturevalue(f"{request.param}_template")) as made:
        database: TestDatabase = made
        with database.connect() as connection:
            yield connection


def offenders(connection: psycopg.Connection, lint: Lint) -> set[str]:
    return {name for (name,) in connection.execute(OURS + lint.query)}


@pytest.mark.document(26)
@each_lint
def test_the_schema_keeps(catalog: psycopg.Connection, lint: Lint) -> None:
    with catalog.transaction(force_rollback=True):
        assert offenders(catalog, lint) == set()


@each_lint
def test_a_breach_is_found(catalog: psycopg.Connection, lint: Lint) -> None:
    with catalog.transaction(force_rollback=True):
        before = offenders(catalog, lint)
        catalog.execute(lint.breach)
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
