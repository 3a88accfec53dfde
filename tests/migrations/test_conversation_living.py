"""The chat goes on while its refinement runs: nothing that was said or completed is lost or miscounted."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from carnivore_db.schema import migrations
from tests.migrations.chat_rows import assert_lawful, read
from tests.migrations.helpers import BEFORE, eventually, fresh, waiting
from tests.support import conversation_baseline
from tests.support.databases import Shape, TestDatabase

pytestmark = pytest.mark.slow
BASELINE = "conversation_baseline"
# The same statements for every revision: an application that is deployed before the migration and after it.
SAY = """
    INSERT INTO conversation.messages (session_id, role, chat_type, content)
    VALUES ((SELECT id FROM conversation.sessions WHERE NOT is_completed ORDER BY random() LIMIT 1),
        'user', 'main', %s)
    RETURNING id, content
"""
COMPLETE = """
    UPDATE conversation.sessions SET is_completed = true, completed_at = now()
    WHERE id = (SELECT id FROM conversation.sessions WHERE NOT is_completed ORDER BY random() LIMIT 1
        FOR UPDATE SKIP LOCKED)
    RETURNING id, user_id
"""
LOG = """
    INSERT INTO conversation.logs (level, event_type, session_id, user_id)
    VALUES ('debug', 'scenario_completed', %s, %s)
"""
BEGIN = "INSERT INTO conversation.sessions (user_id, scenario_id) VALUES (%s, 2) RETURNING id"

# The revisions that lock tables which are written to all the time.
LOCKING = (
    "critical_fixes_rows",
    "critical_fixes_messages",
    "critical_fixes_access",
    "deferred_logs",
    "deferred_issues",
)


class Life:
    """What two connections have said and completed, as the database has confirmed it."""

    def __init__(self) -> None:
        self.said: dict[UUID, str] = {}
        self.completed: set[UUID] = set()
        self.begun: set[UUID] = set()
        self.over = False

    def go_on(self, connection: psycopg.Connection) -> int:
        """Turn after turn until all is over, and a few more; a refusal is tried again with something else."""
        turns = after = 0
        while after < 10:
            turns += 1
            after += self.over
            try:
                self._turn(connection, turns)
            except psycopg.Error:
                continue
        return turns

    def _turn(self, connection: psycopg.Connection, turn: int) -> None:
        for id_, content in connection.execute(SAY, [f"turn {turn}"]):
            self.said[id_] = content
        if turn % 5 == 0:
            for id_, person in connection.execute(COMPLETE).fetchall():
                self.completed.add(id_)
                self.begun.update(id_ for (id_,) in connection.execute(BEGIN, [person]))


def messages(database: TestDatabase) -> dict[UUID, str]:
    with database.connect() as connection:
        return dict(connection.execute("SELECT id, content FROM conversation.messages").fetchall())


@pytest.mark.document("change 33", 1, 9, 10)
def test_what_is_said_and_completed_during_the_migration_is_kept_and_counted(
    plain_empty: TestDatabase,
) -> None:
    migrations.upgrade(plain_empty.migrator_url, BASELINE)
    with plain_empty.connect() as connection:
        conversation_baseline.fill(connection, profiles=300, sessions=1_000, messages=20_000, logs=2_000)
    before = messages(plain_empty)

    life = Life()
    with ThreadPoolExecutor(2) as pool:
        connections = [plain_empty.connect(autocommit=True) for _ in range(2)]
        living = [pool.submit(life.go_on, connection) for connection in connections]
        try:
            eventually(lambda: len(life.said) > 20 and life.completed)
            migrations.upgrade(plain_empty.migrator_url)
            said = len(life.said)
            eventually(lambda: len(life.said) > said + 20)
        finally:
            life.over = True
        for running, connection in zip(living, connections, strict=True):
            running.result()
            connection.close()

    assert messages(plain_empty) == before | life.said
    chat = read(plain_empty)
    assert_lawful(chat, datetime.now(UTC))
    assert all(chat.sessions[id_]["is_completed"] for id_ in life.completed)
    assert life.begun <= chat.sessions.keys()


@pytest.fixture(scope="module")
def baseline(plain_shape: Shape) -> Iterator[TestDatabase]:
    with fresh(plain_shape) as made:
        migrations.upgrade(made.migrator_url, BASELINE)
        with made.connect() as connection:
            conversation_baseline.fill(connection, profiles=20, sessions=100, messages=200, logs=10)
        yield made


@pytest.mark.parametrize(
    "held",
    [
        "messages IN ROW EXCLUSIVE MODE",
        "sessions IN ROW EXCLUSIVE MODE",
        "sessions IN ACCESS SHARE MODE",
    ],
    ids=["a message on its way", "a completion on its way", "somebody who has read"],
)
@pytest.mark.parametrize("revision", LOCKING)
def test_the_migration_waits_for_what_is_on_its_way(
    plain_shape: Shape, baseline: TestDatabase, revision: str, held: str
) -> None:
    """An INSERT holds the messages before its triggers take the session; who completes one holds that before
    the profile and the log, and who has only read may go on to write. The migration takes them in this order,
    too, and at once as it needs them, or each would wait for the other."""
    with plain_shape.clone(baseline.name) as database, ThreadPoolExecutor(1) as pool:
        migrations.upgrade(database.migrator_url, *BEFORE[revision])
        with database.connect() as somebody:
            somebody.execute(f"LOCK TABLE conversation.{held}")
            migrating = pool.submit(migrations.upgrade, database.migrator_url, revision)
            eventually(lambda: migrating.done() or waiting(database) == 1)
            completed = somebody.execute(COMPLETE).fetchall()
            somebody.execute(LOG, completed[0])
        migrating.result()
        chat = read(database)
        assert chat.sessions[completed[0][0]]["is_completed"]
        assert chat.size == (20, 100, 200, 11)
