"""A page of messages under row security: ours beside the policy that is usually written.

`benchmarks.conversation` compares the whole chat with its baseline; here is its one query that the
others are measured beside.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import psycopg

from benchmarks import asynchronous
from benchmarks.bench import Bench, database
from benchmarks.mature import World
from benchmarks.rounds import Comparison, Operation, Side, Turns
from carnivore_db import AsyncDatabase, Settings, identity
from carnivore_db.conversation import messages

MESSAGES_EACH = 200
FILL = """
    INSERT INTO auth.users (id, email)
    SELECT md5('speaker ' || n)::uuid, 'speaker' || n || '@example.com'
    FROM generate_series(1, {people}) AS n;
    INSERT INTO conversation.sessions (id, user_id, scenario_id, is_completed, started_at, completed_at)
    SELECT md5('talk ' || n || ' ' || s)::uuid, md5('speaker ' || n)::uuid, 1, true,
        now() - interval '9 days', now() - interval '8 days'
    FROM generate_series(1, {people}) AS n, generate_series(1, 5) AS s;
    SET session_replication_role = replica;
    INSERT INTO conversation.messages (session_id, user_id, role, chat_type, content, sent_at)
    SELECT s.id, s.user_id, 'user', 'main', 'Guten Tag! Haben Sie heute frische Aepfel? ' || m,
        s.started_at + m * interval '1 second'
    FROM conversation.sessions AS s, generate_series(1, {messages}) AS m;
    RESET session_replication_role;
    CREATE TABLE rivals_document.messages (LIKE conversation.messages INCLUDING ALL);
    INSERT INTO rivals_document.messages SELECT * FROM conversation.messages;
    ALTER TABLE rivals_document.messages ENABLE ROW LEVEL SECURITY;
    CREATE POLICY messages_select_own ON rivals_document.messages FOR SELECT TO authenticated USING (EXISTS (
        SELECT 1 FROM conversation.sessions WHERE sessions.id = messages.session_id
            AND sessions.user_id = auth.uid()));
    GRANT USAGE ON SCHEMA rivals_document TO authenticated;
    GRANT SELECT ON rivals_document.messages TO authenticated;
"""
PAGE = """
    SELECT id, session_id, role, chat_type, content, sent_at FROM {}.messages
    WHERE session_id = %s ORDER BY sent_at, id LIMIT 50
"""
BEGIN = "SELECT set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)"


def page(world: World, schema: str, talks: list[tuple[Any, Any]]) -> Any:
    """As the person, role and claims in one statement before it."""

    @contextmanager
    def connect(clients: range) -> Iterator[list[Operation]]:
        with ExitStack() as stack:

            def operation(client: int) -> Operation:
                connection = stack.enter_context(psycopg.connect(world.login_dsn))
                turns = Turns(talks, client)

                def run() -> None:
                    person, session = turns.next()
                    with connection.transaction():
                        connection.execute(BEGIN, [claimed(person)])
                        if len(connection.execute(PAGE.format(schema), [session]).fetchall()) != 50:
                            raise LookupError("a page of messages is not whole")

                return run

            yield [operation(client) for client in clients]

    return connect


def package(world: World, talks: list[tuple[Any, Any]]) -> Any:
    @contextmanager
    def connect(clients: range) -> Iterator[list[Operation]]:
        db = database(world, len(clients))

        def operation(client: int) -> Operation:
            turns = Turns(talks, client)

            def run() -> None:
                person, session = turns.next()
                with db.transaction(as_=identity.user(person, "speaker@example.com")) as tx:
                    messages.page(tx, session, limit=50)

            return run

        yield [operation(client) for client in clients]
        db.close()

    return connect


def async_page(world: World, talks: list[tuple[Any, Any]]) -> Any:
    async def do(connection: psycopg.AsyncConnection, talk: tuple[Any, Any]) -> None:
        person, session = talk
        async with connection.transaction():
            await connection.execute(BEGIN, [claimed(person)])
            cursor = await connection.execute(PAGE.format("conversation"), [session])
            if len(await cursor.fetchall()) != 50:
                raise LookupError("a page of messages is not whole")

    return asynchronous.through_psycopg(world.login_dsn, asynchronous.turns(talks), do)


def async_package(world: World, talks: list[tuple[Any, Any]]) -> Any:
    @asynccontextmanager
    async def connect(clients: range) -> AsyncIterator[list[Any]]:
        db = AsyncDatabase(world.url, settings=Settings(pool_size=len(clients)))

        def operation(client: int) -> Any:
            turns = Turns(talks, client)

            async def run() -> None:
                person, session = turns.next()
                async with db.transaction(as_=identity.user(person, "speaker@example.com")) as tx:
                    await tx.run_sync(messages.page, session, limit=50)

            return run

        yield [operation(client) for client in clients]
        await db.close()

    return connect


def claimed(person: Any) -> str:
    return json.dumps({"sub": str(person), "role": "authenticated"})


def run(bench: Bench) -> None:
    """With one client and with eight."""
    world = bench.system
    people = max(bench.scale.reports // 200, 20)
    with world.connect() as owner:
        owner.execute(FILL.format(people=people, messages=MESSAGES_EACH))
        for table in ("conversation.messages", "conversation.sessions", "rivals_document.messages"):
            owner.execute(f"VACUUM (ANALYZE) {table}")
    talks = world.rows("SELECT user_id, id FROM conversation.sessions ORDER BY md5(id::text) LIMIT 200")
    name = "page of 50 messages under row security"
    sides = [
        Side("the usual policy", page(world, "rivals_document", talks)),
        Side("ours, the statement", page(world, "conversation", talks)),
        Side("the package", package(world, talks)),
    ]
    for clients in (1, 8):
        bench.compare(Comparison(name, sides, clients), seconds=1 if clients == 1 else 0.5)
    asynchronous.compare(
        bench,
        name,
        Side("ours, psycopg", async_page(world, talks)),
        Side("the package", async_package(world, talks)),
    )
