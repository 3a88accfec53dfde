"""Rows of the chat's baseline that no rule can merge: how they come about, are listed, and are corrected."""

from dataclasses import dataclass
from uuid import UUID

import psycopg

from carnivore_db.schema import migrations
from tests.migrations.helpers import put_rows
from tests.support.databases import TestDatabase

BASELINE = "conversation_baseline"
SAME = "the same e-mail address but for case"
NOT_PRINTABLE = "an e-mail address with other characters than printable ASCII"
# Parts of the addresses and messages below: no error may quote them.
SECRETS = ("ada@", "Ada@", "ADA@", "bob@", "Bob@", "jorg", "JORG", "jörg", "geheim", "example.com")


@dataclass(frozen=True)
class Undecided:
    """Statements that spoil some rows, the lines that list these, and statements that correct them."""

    name: str
    spoil: str
    lines: tuple[str, ...]
    correct: str


def key(number: int) -> UUID:
    """An id that is read easily."""
    return UUID(f"00000000-0000-4000-8000-{number:012}")


SESSION = key(700)


def prepare(database: TestDatabase) -> None:
    """A database at the baseline with rows as they should be in every table, and twelve people to spoil."""
    migrations.upgrade(database.migrator_url, BASELINE)
    put_rows(database)
    with database.connect() as connection:
        for number in range(1, 13):
            _sign_up(connection, number)
        connection.execute(
            "INSERT INTO conversation.sessions (id, user_id, scenario_id) VALUES (%s, %s, 1)",
            [SESSION, key(1)],
        )


def _sign_up(connection: psycopg.Connection, number: int) -> None:
    email = f"person.{number}@example.com"
    connection.execute("INSERT INTO auth.users (id, email) VALUES (%s, %s)", [key(number), email])
    # The list has the oldest profile first, and here that is the one with the highest number.
    connection.execute(
        "UPDATE conversation.profiles SET created_at = now() - %s * interval '1 day' WHERE id = %s",
        [number, key(number)],
    )


def _addresses(emails: dict[int, str]) -> str:
    return "".join(
        f"UPDATE conversation.profiles SET email = {email} WHERE id = '{key(number)}';"
        for number, email in emails.items()
    )


def _corrected(*numbers: int) -> str:
    return _addresses({number: f"'corrected.{number}@example.com'" for number in numbers})


def _says(number: int, role: str, chat: str, content: str = "'geheim'") -> str:
    return (
        'INSERT INTO conversation.messages (id, session_id, role, chat_type, content, "timestamp")'
        f" VALUES ('{key(number)}', '{SESSION}', '{role}', '{chat}', {content}, '2026-01-01');"
    )


def _profiles(*numbers: int) -> str:
    return f"profiles {', '.join(str(key(number)) for number in numbers)}: {SAME}"


def _scenario(number: int, title: str, emoji: str = "🥨") -> str:
    return (
        "INSERT INTO conversation.scenarios (id, title, emoji, initial_message_main, initial_message_helper)"
        f" VALUES ({number}, '{title}', '{emoji}', 'Hallo', 'Hello');"
    )


CASES = (
    Undecided(
        "two addresses that differ in case",
        _addresses({1: "'Ada@Example.com'", 2: "'ada@example.com'"}),
        (_profiles(2, 1),),
        _corrected(1),
    ),
    Undecided(
        "three",
        _addresses({3: "'JORG@EXAMPLE.COM'", 4: "'jorg@example.com'", 5: "'Jorg@example.com'"}),
        (_profiles(5, 4, 3),),
        _corrected(3, 5),
    ),
    Undecided(
        "two groups",
        _addresses({1: "'Ada@x.example.com'", 2: "'ADA@x.example.com'"})
        + _addresses({6: "'bob@example.com'", 7: "'Bob@example.com'"}),
        (_profiles(2, 1), _profiles(7, 6)),
        _corrected(2, 6),
    ),
    Undecided(
        "the same address in the same case",
        _addresses({1: "'ada@example.com'", 2: "'ada@example.com'"}),
        (_profiles(2, 1),),
        _corrected(1),
    ),
    Undecided(
        "no address",
        _addresses({8: "''", 9: "'   '"}),
        (
            f"profile {key(8)}: no e-mail address",
            f"profile {key(9)}: {NOT_PRINTABLE}",
            f"profile {key(9)}: no e-mail address",
        ),
        _corrected(8, 9),
    ),
    Undecided(
        "an address that is too long",
        _addresses({10: "repeat('a', 244) || '@example.com'"}),
        (f"profile {key(10)}: an e-mail address of more than 255 characters",),
        _corrected(10),
    ),
    Undecided(
        "addresses that are not of printable ASCII",
        _addresses({11: "'jörg@example.com'", 12: "'jo rg@example.com'"}),
        tuple(f"profile {key(number)}: {NOT_PRINTABLE}" for number in (11, 12)),
        _corrected(11, 12),
    ),
    Undecided(
        "a message that is too long",
        _says(801, "user", "main", "repeat('ß', 8001)"),
        (f"message {key(801)}: more than 8,000 characters",),
        f"UPDATE conversation.messages SET content = left(content, 8000) WHERE id = '{key(801)}';",
    ),
    Undecided(
        "roles in the wrong chat",
        _says(802, "scenario", "helper") + _says(803, "helper", "main"),
        (
            f"message {key(802)}: role scenario in chat helper",
            f"message {key(803)}: role helper in chat main",
        ),
        f"UPDATE conversation.messages SET role = 'user' WHERE id IN ('{key(802)}', '{key(803)}');",
    ),
    Undecided(
        "scenes of one title",
        _scenario(21, "At the lake") + _scenario(22, "At the lake") + _scenario(23, "At the lake"),
        ("scenarios 21, 22, 23: the same title",),
        "UPDATE conversation.scenarios SET title = title || ' ' || id WHERE id IN (22, 23);",
    ),
    Undecided(
        "an emoji that is too long",
        _scenario(24, "At home", "👨‍👩‍👧‍👦"),
        ("scenario 24: an emoji of more than 16 bytes",),
        "UPDATE conversation.scenarios SET emoji = '🏠' WHERE id = 24;",
    ),
)
_APART = [case for case in CASES if case.name not in {"two groups", "the same address in the same case"}]
EVERYTHING = Undecided(
    "all at once",
    "".join(case.spoil for case in _APART),
    tuple(sorted(line for case in _APART for line in case.lines)),
    "".join(case.correct for case in _APART),
)
BEYOND = Undecided(
    "more than a thousand",
    "".join(_says(1000 + number, "user", "main", "repeat('geheim ', 1143)") for number in range(1500)),
    (
        *(f"message {key(1000 + number)}: more than 8,000 characters" for number in range(1000)),
        "... and 500 more",
    ),
    "DELETE FROM conversation.messages WHERE char_length(content) > 8000;",
)
# As far as everything may go: nothing here stops the migration.
ALLOWED = (
    _addresses({1: "repeat('a', 243) || '@example.com'", 2: "'jose@example.com'", 3: "'jos-e@example.com'"})
    + _addresses({4: "'strasse@example.com'", 5: "'stra.sse@example.com'", 6: "'!#$~@example.com'"})
    + _says(804, "user", "main", "repeat('ß', 8000)")
    + _says(805, "user", "helper", "''")
    + _scenario(25, "At the Lake", "🥨🥨🥨🥨")
    + _scenario(26, "At the lake", "")
)
# Nobody could tell these apart: the collation takes one for the other, so that they are the same address.
LOOKALIKES = {
    "a soft hyphen": "'a' || chr(173) || 'da@example.com'",
    "a wide letter": "chr(65345) || 'da@example.com'",
    "a sign of no width": "'ada' || chr(8203) || '@example.com'",
}


def alike(name: str) -> Undecided:
    return Undecided(
        name,
        _addresses({1: "'ada@example.com'", 2: LOOKALIKES[name]}),
        (f"profile {key(2)}: {NOT_PRINTABLE}", _profiles(2, 1)),
        _corrected(2),
    )
