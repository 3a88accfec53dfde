"""The refinement of the chat on living data: every row arrives, repaired where wrong, and goes back."""

import time
from datetime import UTC, datetime

import pytest

from carnivore_db.schema import migrations
from tests.migrations.chat_rows import Chat, assert_refined, flaws, read, without
from tests.migrations.helpers import put_rows
from tests.support import conversation_baseline, rows
from tests.support.databases import TestDatabase

BASELINE = "conversation_baseline"
STRANGERS = """
    SELECT count(*) FROM conversation.messages AS m JOIN conversation.sessions AS s ON s.id = m.session_id
    WHERE m.user_id IS DISTINCT FROM s.user_id
"""


def elsewhere(database: TestDatabase) -> dict[str, list[tuple[object, ...]]]:
    """The rows of the other areas, and the logins."""
    with database.connect() as connection:
        return {
            table: connection.execute(f"SELECT to_jsonb(t) AS row FROM {table} AS t ORDER BY row").fetchall()
            for table in rows.tables(connection)
            if not table.startswith(("conversation.", "analytics.", "carnivore."))
        }


def living(database: TestDatabase, **sizes: int) -> Chat:
    """A chat at the baseline with all its flaws, beside the other areas."""
    migrations.upgrade_areas(database.migrator_url, ["weekly", "vocabulary"])
    migrations.upgrade(database.migrator_url, BASELINE)
    put_rows(database)
    with database.connect() as connection:
        conversation_baseline.fill(connection, **sizes)
    return read(database)


def assert_gone_back(before: Chat, refined: Chat, back: Chat) -> None:
    """The old shape, with the repaired values: nothing needs a wrong count back."""
    assert back.messages == before.messages
    assert back.logs == before.logs
    assert back.profiles == without(refined.profiles, "deleted_at", "erased_at")
    assert back.scenarios == before.scenarios
    assert back.sessions == {
        id_: row | {"created_at": row["started_at"]} for id_, row in refined.sessions.items()
    }


def go_up_and_down(database: TestDatabase, **sizes: int) -> None:
    before = living(database, **sizes)
    found = dict(flaws(before, datetime.now(UTC)))
    assert all(found.values()), found
    others = elsewhere(database)

    assert len(others) > 10
    began = time.monotonic()
    migrations.upgrade(database.migrator_url)
    upgraded = time.monotonic()
    refined = read(database)
    assert_refined(before, refined, datetime.now(UTC))
    assert elsewhere(database) == others
    with database.connect() as connection:
        assert connection.execute(STRANGERS).fetchone() == (0,)

    began_down = time.monotonic()
    migrations.downgrade(database.migrator_url, BASELINE)
    downgraded = time.monotonic()
    assert_gone_back(before, refined, read(database))
    assert elsewhere(database) == others
    print(  # noqa: T201 - `pytest -rP` shows it
        f"{before.size} profiles, sessions, messages and logs:"
        f" up in {upgraded - began:.1f} s, down in {downgraded - began_down:.1f} s"
    )


@pytest.mark.document("change 33", 1, 2, 5, 7, 8, 9, 10, 12, 13, 18, 36)
def test_every_row_arrives_repaired_and_goes_back(empty: TestDatabase) -> None:
    go_up_and_down(empty, profiles=100, sessions=1_000, messages=10_000, logs=2_000)


@pytest.mark.slow
@pytest.mark.document("change 33")
def test_a_million_messages_arrive_and_go_back(plain_empty: TestDatabase) -> None:
    go_up_and_down(plain_empty, profiles=5_000, sessions=50_000, messages=1_000_000, logs=200_000)
