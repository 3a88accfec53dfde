"""What people do with rows that are theirs, and do not with those of others; nobody else has any."""

from typing import Any

from tests.security.personas import OTHERS, VISITORS, Session
from tests.security.rows import of_ada, owner
from tests.security.seed import ADA, BOB

# A change that its check would let pass, were it allowed at all; without WHERE row security alone chooses.
CHANGES = {
    "vocabulary.users": "theme = 'dark'",
    "vocabulary.sessions": "user_agent = 'x'",
    "vocabulary.user_api_keys": "is_active = false",
    "vocabulary.user_progress": "new_words_count = 1",
    "vocabulary.export_history": "status = 'pending'",
    "conversation.profiles": "deleted_at = NULL",
    "conversation.sessions": "is_completed = true",
    "conversation.messages": "content = 'x'",
    "conversation.messages_archive": "content = 'x'",
    "conversation.logs": "metadata = '{}'",
}
UNKNOWN = ("stranger", "anonymous", "nameless")


def others(s: Session, table: str) -> list[tuple[Any, ...]]:
    """The rows that are not ada's, nobody's among them."""
    return s.superuser.rows(f"SELECT * FROM {table} WHERE {of_ada(table)} IS NOT TRUE ORDER BY id")


def nobody_reads_anothers_rows(s: Session, *, table: str) -> None:
    own = f"SELECT {owner(table)}::text FROM {table}"
    for persona, key in (("ada", ADA), ("bob", BOB)):
        assert {found for (found,) in s.as_(persona).rows(own)} == {key}
    for persona in OTHERS:
        s.as_(persona).sees_nothing(f"{own} WHERE {of_ada(table)}")
    for persona in UNKNOWN:
        s.as_(persona).sees_nothing(own)
    for claims in ("", "{}", '{"sub": null}', '{"email": "ada@example.com"}', f'{{"id": "{ADA}"}}'):
        s.as_("ada", claims=claims).sees_nothing(own)
    for claims in ('{"sub": ""}', '{"sub": "%"}', f'{{"sub": ["{ADA}", "{BOB}"]}}'):
        s.as_("ada", claims=claims).refused(own, sqlstate="22P02")


def a_visitor_does_nothing(s: Session, *, table: str) -> None:
    for persona in VISITORS:
        for attempt in (
            f"SELECT FROM {table}",
            f"INSERT INTO {table} DEFAULT VALUES",
            f"UPDATE {table} SET {CHANGES[table]}",
            f"DELETE FROM {table}",
            f"COPY {table} TO STDOUT",
        ):
            s.as_(persona).refused(attempt)
