"""What document 001 puts a time to: a session's end, a learner's progress, exports."""

from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy.orm import Session

from benchmarks import asynchronous, queries, synchronous
from benchmarks.bench import Bench
from benchmarks.mature import World
from benchmarks.rounds import Comparison, Side
from carnivore_db import identity
from carnivore_db.vocabulary import exports, progress, sessions

SESSIONS_EACH, EXPORTS_EACH = 50, 5
FILL = """
    INSERT INTO vocabulary.users (id, email)
    SELECT md5('learner ' || n)::uuid, 'learner' || n || '@example.com'
    FROM generate_series(1, {learners}) AS n;
    INSERT INTO vocabulary.sessions
        (user_id, session_type, started_at, ended_at, qa_attempts, vocabulary_learned)
    SELECT u.id, 'qa', at, at + interval '20 minutes', 5, 3
    FROM vocabulary.users AS u, generate_series(1, {sessions}) AS n,
        LATERAL (SELECT now() - interval '1 day' - n * interval '7 hours' AS at) AS moment;
    INSERT INTO vocabulary.sessions (id, user_id, session_type)
    SELECT md5('open ' || u.id)::uuid, u.id, 'qa' FROM vocabulary.users AS u;
    INSERT INTO vocabulary.export_history (user_id, export_type, export_format, status)
    SELECT u.id, 'csv', 'csv', 'pending' FROM vocabulary.users AS u, generate_series(1, {exports}) AS n;
"""
# The document's trigger adds the session's numbers to the learner's row.
DOCUMENT = """
    CREATE TABLE rivals_document.sessions (LIKE vocabulary.sessions INCLUDING ALL);
    CREATE TABLE rivals_document.user_progress (
        user_id uuid PRIMARY KEY, total_sessions integer DEFAULT 0, total_questions integer DEFAULT 0,
        total_vocabulary integer DEFAULT 0, total_minutes integer DEFAULT 0, last_activity_at timestamptz
    );
    INSERT INTO rivals_document.sessions SELECT * FROM vocabulary.sessions WHERE ended_at IS NULL;
    INSERT INTO rivals_document.user_progress (user_id) SELECT id FROM vocabulary.users;
    CREATE FUNCTION rivals_document.update_user_progress_from_session() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.ended_at IS NOT NULL AND OLD.ended_at IS NULL THEN
            UPDATE rivals_document.user_progress
            SET total_sessions = total_sessions + 1, total_questions = total_questions + NEW.qa_attempts,
                total_vocabulary = total_vocabulary + NEW.vocabulary_learned,
                total_minutes = total_minutes + coalesce(NEW.duration_minutes, 0),
                last_activity_at = NEW.ended_at
            WHERE user_id = NEW.user_id;
        END IF;
        RETURN NEW;
    END
    $$;
    CREATE TRIGGER trigger_update_user_progress_from_session AFTER UPDATE ON rivals_document.sessions
        FOR EACH ROW EXECUTE FUNCTION rivals_document.update_user_progress_from_session();
    CREATE TABLE rivals_document.bare_sessions (LIKE vocabulary.sessions INCLUDING ALL);
    INSERT INTO rivals_document.bare_sessions SELECT * FROM rivals_document.sessions;
"""
END = "UPDATE {} SET ended_at = now(), qa_attempts = 7 WHERE id = %s"


def ended(world: World, table: str, keys: list[Any]) -> Any:
    """A session's end, taken back: it can end again."""

    def do(connection: psycopg.Connection, key: Any) -> None:
        with connection.transaction(force_rollback=True):
            if connection.execute(END.format(table), key, prepare=True).rowcount != 1:
                raise LookupError(f"no session ended in {table}")

    return synchronous.through_psycopg(world, asynchronous.turns(keys), do)


def async_ended(world: World, table: str, keys: list[Any]) -> Any:
    async def do(connection: psycopg.AsyncConnection, key: Any) -> None:
        async with connection.transaction(force_rollback=True):
            await connection.execute(END.format(table), key, prepare=True)

    return asynchronous.through_psycopg(world.server.dsn(world.name), asynchronous.turns(keys), do)


def finished(tx: Session, key: UUID) -> None:
    """A session's end through the package, taken back."""
    with tx.begin_nested() as savepoint:
        sessions.end(tx, key, {"qa_attempts": 7})
        savepoint.rollback()


def run(bench: Bench) -> None:
    """With one client and with eight."""
    world = bench.system
    learners = max(bench.scale.reports // 100, 50)
    with world.connect() as owner:
        owner.execute(FILL.format(learners=learners, sessions=SESSIONS_EACH, exports=EXPORTS_EACH))
        owner.execute(DOCUMENT)
        for table in ("vocabulary.sessions", "vocabulary.user_progress", "vocabulary.export_history"):
            owner.execute(f"VACUUM (ANALYZE) {table}")
    keys = world.rows(
        "SELECT id FROM vocabulary.sessions WHERE ended_at IS NULL ORDER BY md5(id::text) LIMIT 500"
    )
    people = world.rows("SELECT id FROM vocabulary.users ORDER BY md5(id::text) LIMIT 500")
    ids = [person for (person,) in people]
    open_sessions = asynchronous.turns([key for (key,) in keys])
    name = "progress update at a session's end"
    sides = [
        Side("no trigger", ended(world, "rivals_document.bare_sessions", keys)),
        Side("ours", ended(world, "vocabulary.sessions", keys)),
        Side("the package", synchronous.called(world, identity.service(), finished, open_sessions)),
        Side("the document's row trigger", ended(world, "rivals_document.sessions", keys)),
    ]
    for clients in (1, 8):
        bench.compare(Comparison(name, sides, clients), seconds=1 if clients == 1 else 0.5)
    asynchronous.compare(
        bench,
        name,
        Side("no trigger, psycopg", async_ended(world, "rivals_document.bare_sessions", keys)),
        Side("the package", asynchronous.called(world, identity.service(), finished, open_sessions)),
    )
    for name, statement, values, verb, given in (
        (
            "a learner's progress",
            "SELECT * FROM vocabulary.user_progress WHERE user_id = %s",
            people,
            progress.get,
            ids,
        ),
        (
            "recent activity",
            "SELECT * FROM vocabulary.user_progress ORDER BY last_activity_at DESC LIMIT 10",
            [()],
            lambda tx, _: progress.recently_active(tx),
            [None],
        ),
        (
            "exports of a learner",
            "SELECT * FROM vocabulary.export_history WHERE user_id = %s",
            people,
            exports.list_by_user,
            ids,
        ),
        (
            "exports of a state",
            (
                "SELECT * FROM vocabulary.export_history WHERE status = 'pending'"
                " ORDER BY created_at DESC LIMIT 50"
            ),
            [()],
            lambda tx, _: exports.list_by_status(tx, "pending"),
            [None],
        ),
    ):
        queries.compare(bench, name, statement, statement, values, verb, given)
