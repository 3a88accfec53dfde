"""Equality of addresses ignores case: for every role, on every connection, however the value comes."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.conversation.samples import Person, sign_up
from tests.support.databases import Shape, TestDatabase, one

STORED = "Ada.Lovelace@Example.com"
ASKED = "aDA.lOVELACE@eXAMPLE.COM"
PATHS = ("", "public", "pg_catalog", "extensions", "conversation", '"$user"')
ROLES = ("authenticated", "service_role", "owner")
LITERAL = f"'{ASKED}'"
# Ways to ask; each names the address once or more as %(asked)s or as a literal.
WAYS = {
    "literal": f"SELECT p.id FROM conversation.profiles AS p WHERE p.email = {LITERAL}",
    "turned round": f"SELECT p.id FROM conversation.profiles AS p WHERE {LITERAL} = p.email",
    "text literal": f"SELECT p.id FROM conversation.profiles AS p WHERE p.email = {LITERAL}::text",
    "parameter": "SELECT p.id FROM conversation.profiles AS p WHERE p.email = %(asked)s",
    "text": "SELECT p.id FROM conversation.profiles AS p WHERE p.email = %(asked)s::text",
    "varchar": "SELECT p.id FROM conversation.profiles AS p WHERE p.email = %(asked)s::varchar",
    "IN": f"SELECT p.id FROM conversation.profiles AS p WHERE p.email IN ('x@example.com', {LITERAL})",
    "IN parameters": "SELECT p.id FROM conversation.profiles AS p WHERE p.email IN ('x', %(asked)s)",
    "ANY": "SELECT p.id FROM conversation.profiles AS p WHERE p.email = ANY(%(list)s)",
    "ANY text": "SELECT p.id FROM conversation.profiles AS p WHERE p.email = ANY(%(list)s::text[])",
    "ANY varchar": "SELECT p.id FROM conversation.profiles AS p WHERE p.email = ANY(%(list)s::varchar[])",
    "join": (
        "SELECT p.id FROM conversation.profiles AS p"
        " JOIN (VALUES (%(asked)s::text)) AS wanted (email) ON wanted.email = p.email"
    ),
    "join varchar": (
        "SELECT p.id FROM (VALUES (%(asked)s::varchar)) AS wanted (email)"
        " JOIN conversation.profiles AS p USING (email)"
    ),
    "subquery": (
        "SELECT p.id FROM conversation.profiles AS p"
        " WHERE p.email IN (SELECT wanted.email FROM (VALUES (%(asked)s::text)) AS wanted (email))"
    ),
    "not distinct": (
        "SELECT p.id FROM conversation.profiles AS p WHERE p.email IS NOT DISTINCT FROM %(asked)s"
    ),
    "as text": "SELECT p.id FROM conversation.profiles AS p WHERE p.email::text = %(asked)s",
}
VALUES = {"asked": ASKED, "list": ["x@example.com", ASKED]}


@pytest.fixture(scope="module", params=["plain", "supabase"])
def made(request: pytest.FixtureRequest) -> Iterator[TestDatabase]:
    """One database of each shape: each test takes back what it does."""
    shape: Shape = request.getfixturevalue(f"{request.param}_shape")
    with shape.clone(request.getfixturevalue(f"{request.param}_template")) as database:
        yield database


@pytest.fixture
def connection(made: TestDatabase) -> Iterator[psycopg.Connection]:
    """The superuser's; a test becomes somebody else on it."""
    with made.connect() as opened, opened.transaction(force_rollback=True):
        opened.row_factory = dict_row
        yield opened


def become(connection: psycopg.Connection, role: str, person: Person, path: str) -> None:
    settings = {
        "request.jwt.claims": json.dumps(person.identity.claims if role == "authenticated" else {}),
        "search_path": path,
        "role": "none" if role == "owner" else role,
    }
    for setting, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, true)", [setting, value])


def found(connection: psycopg.Connection, way: str) -> list[UUID]:
    return [row["id"] for row in connection.execute(WAYS[way], VALUES)]


@pytest.mark.document(6, 42)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("role", ROLES)
def test_an_address_is_found_in_whatever_case(connection: psycopg.Connection, role: str, path: str) -> None:
    ada, _ = sign_up(connection, STORED), sign_up(connection, "eve@example.com")
    become(connection, role, ada, path)
    for way in WAYS:
        assert found(connection, way) == [ada.id], way
    (differs,) = connection.execute(
        "SELECT count(*) FROM conversation.profiles WHERE email <> %s", [ASKED]
    ).fetchall()
    assert differs["count"] == (0 if role == "authenticated" else 1)


@pytest.mark.document(42)
@pytest.mark.parametrize("path", PATHS)
def test_an_address_of_the_logins_is_joined_in_whatever_case(
    connection: psycopg.Connection, path: str
) -> None:
    """With the column of auth.users itself."""
    ada = sign_up(connection, STORED)
    connection.execute("UPDATE auth.users SET email = %s", [ASKED])
    connection.execute("SELECT set_config('search_path', %s, true)", [path])
    joined = "SELECT p.id FROM auth.users AS u JOIN conversation.profiles AS p ON p.email = u.email"
    assert one(connection, joined) == ada.id


@pytest.mark.document(42)
@pytest.mark.parametrize("path", PATHS)
def test_one_address_has_one_profile_in_whatever_case(connection: psycopg.Connection, path: str) -> None:
    sign_up(connection, STORED)
    connection.execute("SELECT set_config('search_path', %s, true)", [path])
    sign_up(connection, ASKED)
    assert one(connection, "SELECT count(*) FROM auth.users") == 2
    assert one(connection, "SELECT email::text FROM conversation.profiles") == STORED
    add = "INSERT INTO conversation.profiles (id, email) SELECT id, email FROM auth.users WHERE email = %s"
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        connection.execute(add, [ASKED])
    assert caught.value.diag.constraint_name == "profiles_email_key"


@pytest.mark.document(42)
def test_an_address_is_shown_as_it_was_written(connection: psycopg.Connection) -> None:
    sign_up(connection, STORED)
    assert one(connection, "SELECT email::text FROM conversation.profiles") == STORED


def with_the_default_collation(connection: psycopg.Connection) -> None:
    """Plain citext, as the document writes it."""
    connection.execute("ALTER TABLE conversation.profiles DROP CONSTRAINT profiles_email_key CASCADE")
    connection.execute(
        'ALTER TABLE conversation.profiles ALTER COLUMN email TYPE extensions.citext COLLATE "default"'
    )


@pytest.mark.document(42)
@pytest.mark.parametrize("way", WAYS)
def test_plain_citext_would_ask_for_case_where_its_schema_is_not_in_the_path(
    connection: psycopg.Connection, way: str
) -> None:
    """The danger is real, and these questions notice it."""
    ada = sign_up(connection, STORED)
    for path in PATHS:
        with connection.transaction(force_rollback=True):
            with_the_default_collation(connection)
            connection.execute("SELECT set_config('search_path', %s, true)", [path])
            if path != "extensions":
                assert found(connection, way) == [], path
            elif way in {"literal", "parameter", "IN", "ANY"}:
                assert found(connection, way) == [ada.id], path


@pytest.mark.document(6)
def test_the_extensions_are_declared(connection: psycopg.Connection) -> None:
    found = connection.execute(
        "SELECT extname FROM pg_extension WHERE extname IN ('pgcrypto', 'citext') ORDER BY extname"
    )
    assert [row["extname"] for row in found] == ["citext", "pgcrypto"]
    assert one(
        connection,
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = 'conversation.profiles'::regclass AND attname = 'email'",
    ).endswith("citext")


PLANS: dict[str, Any] = {
    "no citext in the path": ("", "p.email = 'ada@example.com'"),
    "a text parameter": ("", "p.email = 'ada@example.com'::text"),
    "as Supabase has it": ('"$user", public, extensions', "p.email = 'ada@example.com'"),
    "a text parameter there": ('"$user", public, extensions', "p.email = 'ada@example.com'::text"),
}


@pytest.mark.document(42)
@pytest.mark.parametrize("plan", PLANS)
def test_an_address_is_looked_up_in_an_index(connection: psycopg.Connection, plan: str) -> None:
    """`=` is citext's or text's, as the path and the types say; each has an index that knows it."""
    path, condition = PLANS[plan]
    connection.execute("SET LOCAL enable_seqscan = off")  # a small table would be read whole
    connection.execute("SELECT set_config('search_path', %s, true)", [path])
    lines = connection.execute(f"EXPLAIN SELECT p.id FROM conversation.profiles AS p WHERE {condition}")
    assert any("Index Cond" in row["QUERY PLAN"] for row in lines)


def signs_up(connection: psycopg.Connection, address: str) -> bool:
    """Whether the database takes the address."""
    try:
        with connection.transaction():
            sign_up(connection, address)
    except psycopg.errors.CheckViolation:
        return False
    return True


def holders(connection: psycopg.Connection, path: str, address: str) -> int:
    connection.execute("SELECT set_config('search_path', %s, true)", [path])
    count: int = one(connection, "SELECT count(*) FROM conversation.profiles WHERE email = %s", address)
    return count


@pytest.mark.document(42)
@pytest.mark.parametrize(
    "other",
    [
        "ada@exämple.com",
        "ada@example\N{LATIN SMALL LETTER DOTLESS I}.com",
        "\N{LATIN SMALL LETTER A WITH ACUTE}da@example.com",
    ],
)
def test_letters_with_other_marks_are_other_addresses(connection: psycopg.Connection, other: str) -> None:
    sign_up(connection, "ada@example.com")
    signs_up(connection, other)
    for path in PATHS:
        assert holders(connection, path, "ADA@EXAMPLE.COM") == 1, path


@pytest.mark.document(42)
@pytest.mark.parametrize(
    "other",
    [
        "\N{FULLWIDTH LATIN SMALL LETTER A}da@example.com",
        "a\N{SOFT HYPHEN}da@example.com",
        "ad\N{ZERO WIDTH SPACE}a@example.com",
        "a\x01da@example.com",
    ],
    ids=["full width", "soft hyphen", "no width", "control"],
)
def test_who_only_looks_alike_is_not_found(connection: psycopg.Connection, other: str) -> None:
    """They are refused, or they are somebody else: never the person of the address that was asked for."""
    if signs_up(connection, other):
        for path in PATHS:
            assert holders(connection, path, "ada@example.com") == 0, path
