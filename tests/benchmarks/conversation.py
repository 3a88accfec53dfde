"""What the chat's refinement gained and what it costs: the baseline beside the refined, on the same rows.

Run it as `python -m tests.benchmarks.conversation`, or with `--small` for a first look. Document
20251110150000 promises 50 to 90 % less time for messages, 60 to 80 % for the history, 70 to 90 % for logs.
One database is at the baseline, the other is its copy, upgraded; both are asked in turn on a private
PostgreSQL. A statement is planned anew each time, as behind a pooling proxy; its time includes that and the
rows' way to the client.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql
from rich.console import Console
from rich.progress import track

from carnivore_db import migrations
from carnivore_db.demo.story import scratch_database
from carnivore_db.local import Server, server
from tests.benchmarks import conversation_tables as tables
from tests.support.conversation_baseline import fill

ROWS = {"profiles": 5_000, "sessions": 50_000, "messages": 1_000_000, "logs": 300_000}
LONG = 60_000  # messages of the one long session
SMALL = 20  # so many times less with --small
WARM_UP = 3
MEASURED = range(25, 201)  # at least and at most, and no more when a case takes too long
SECONDS = 15
MESSAGES_PROMISED, HISTORY_PROMISED, LOGS_PROMISED = (50, 90), (60, 80), (70, 90)  # per cent less time
PAGE = 50
PAGES = 1_000

SESSIONS = """
    SELECT s.user_id, s.id
    FROM conversation.sessions AS s JOIN conversation.messages AS m ON m.session_id = s.id
    WHERE s.id <> md5('long')::uuid GROUP BY s.id HAVING count(*) >= 50 ORDER BY md5(s.id::text) LIMIT 200
"""
PEOPLE = """
    SELECT id, id FROM conversation.profiles AS p
    WHERE EXISTS (SELECT FROM conversation.sessions AS s WHERE s.user_id = p.id) AND id <> md5('long')::uuid
    ORDER BY md5(id::text) LIMIT 200
"""
PLAYERS = """
    SELECT user_id, user_id, n FROM conversation.sessions, generate_series(1, 3) AS n
    WHERE is_completed GROUP BY user_id, n ORDER BY md5(user_id::text || n) LIMIT 200
"""
# Who plays most.
PLAYER = """
    SELECT user_id, user_id, 3 FROM conversation.sessions WHERE is_completed
    GROUP BY user_id ORDER BY count(*) DESC LIMIT 1
"""
LOGGED = """
    SELECT user_id, session_id FROM conversation.logs WHERE user_id IS NOT NULL AND session_id IS NOT NULL
    GROUP BY user_id, session_id ORDER BY md5(session_id::text) LIMIT 200
"""
OPEN = """
    SELECT user_id, id FROM conversation.sessions WHERE NOT is_completed ORDER BY md5(id::text) LIMIT 200
"""
# The trigger of the baseline would write the session's row for each.
LONG_SESSION = """
    INSERT INTO auth.users (id, email) VALUES (md5('long')::uuid, 'long@example.com');
    INSERT INTO conversation.sessions (id, user_id, scenario_id, is_completed, completed_at)
    VALUES (md5('long')::uuid, md5('long')::uuid, 1, true, now());
    ALTER TABLE conversation.messages DISABLE TRIGGER increment_message_count;
    INSERT INTO conversation.messages (session_id, role, chat_type, content, "timestamp")
    SELECT md5('long')::uuid, 'user', 'main', 'Satz ' || n,
        now() - interval '100 days' + n * interval '1 minute'
    FROM generate_series(1, {number}) AS n;
    ALTER TABLE conversation.messages ENABLE TRIGGER increment_message_count;
    UPDATE conversation.sessions SET message_count_main = {number} WHERE id = md5('long')::uuid;
"""
CURSOR = """
    SELECT sent_at, id FROM conversation.messages WHERE session_id = md5('long')::uuid
    ORDER BY sent_at, id LIMIT 1 OFFSET %s
"""
BARE = """
    CREATE TABLE conversation.bare (LIKE conversation.messages INCLUDING DEFAULTS, PRIMARY KEY (id));
    GRANT SELECT, INSERT ON conversation.bare TO authenticated;
"""

OLD: LiteralString = 'SELECT id, session_id, role, chat_type, content, "timestamp" FROM conversation.messages'
NEW: LiteralString = "SELECT id, session_id, role, chat_type, content, sent_at FROM conversation.messages"
VIEW: LiteralString = (
    "SELECT id, session_id, role, chat_type, content, sent_at, archived_at FROM conversation.message_history"
)
JOIN: LiteralString = " AS m JOIN conversation.sessions AS s ON s.id = m.session_id WHERE s.user_id = %s"
HISTORY: LiteralString = """
    SELECT id, user_id, scenario_id, started_at, completed_at, message_count_main, message_count_helper,
        duration_seconds
    FROM conversation.sessions WHERE user_id = %s AND scenario_id = %s AND is_completed
    ORDER BY completed_at DESC
"""
LOGS: LiteralString = """
    SELECT id, level, event_type, user_id, session_id, metadata, created_at FROM conversation.logs
    WHERE session_id = %s ORDER BY created_at DESC
"""
RECENT: LiteralString = LOGS.replace("= %s", "= %s AND created_at >= %s")
SEND: LiteralString = """
    INSERT INTO conversation.messages (session_id, role, chat_type, content)
    VALUES (%s, 'user', 'main', 'Guten Tag! Haben Sie heute frische Äpfel?') RETURNING id
"""
SEND_BARE: LiteralString = """
    INSERT INTO conversation.bare (session_id, user_id, role, chat_type, content)
    VALUES (%s, %s, 'user', 'main', 'Guten Tag! Haben Sie heute frische Äpfel?') RETURNING id
"""


@dataclass
class Side:
    """A statement on one of the databases, with the values of each sample; its first is who asks."""

    name: str
    connection: psycopg.Connection
    statement: LiteralString
    samples: Sequence[tuple[Any, ...]]
    role: str = "authenticated"
    took: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    plan: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def as_caller(self, person: UUID, *, keep: bool) -> Iterator[None]:
        claims = json.dumps({"sub": str(person), "role": self.role})
        with self.connection.transaction(force_rollback=not keep):
            self.connection.execute(
                "SELECT set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
                [self.role, claims],
            )
            yield

    def run(self, number: int, *, keep: bool) -> tuple[float, int]:
        """Milliseconds and rows of one sample; with the COMMIT, when it is kept."""
        person, *values = self.samples[number % len(self.samples)]
        with self.as_caller(person, keep=keep):
            began = time.perf_counter()
            rows = len(self.connection.execute(self.statement, values, prepare=False).fetchall())
            took = time.perf_counter() - began
        if keep:
            took = time.perf_counter() - began
        return took * 1000, rows

    def explain(self) -> None:
        person, *values = self.samples[0]
        with self.as_caller(person, keep=False):
            explain = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ")
            ((found,),) = self.connection.execute(explain + sql.SQL(self.statement), values).fetchall()
        self.plan = found[0]


@dataclass
class Case:
    """The same question to each schema; the first side is what the others are compared to."""

    name: str
    promised: tuple[int, int] | None
    sides: list[Side]
    keep: bool = False

    def measure(self) -> None:
        """All sides in turn, each time in another order; the first few are not counted."""
        for number in range(WARM_UP):
            for side in self.sides:
                side.run(number, keep=self.keep)
        began = time.monotonic()
        for number in range(MEASURED.stop - 1):
            if number >= MEASURED.start and time.monotonic() - began > SECONDS:
                break
            turn = number % len(self.sides)
            for side in self.sides[turn:] + self.sides[:turn]:
                took, rows = side.run(number, keep=self.keep)
                side.took.append(took)
                side.rows.append(rows)
        if not self.keep:
            for side in self.sides:
                side.explain()


def reading(old: psycopg.Connection, new: psycopg.Connection, long: int) -> list[Case]:
    """The questions, each as it was put before, and as it is now."""

    def rows(connection: psycopg.Connection, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        found = connection.execute(query, values).fetchall()
        assert found, f"nobody to ask about: {query}"
        return found

    def sides(
        before: LiteralString,
        samples: list[tuple[Any, ...]],
        *after: tuple[str, LiteralString],
        role: str = "authenticated",
    ) -> list[Side]:
        refined = [Side(name, new, statement, samples, role) for name, statement in after]
        return [Side("baseline", old, before, samples, role), *refined]

    sessions, people, logged = rows(old, SESSIONS), rows(old, PEOPLE), rows(old, LOGGED)
    since = datetime.now(UTC) - timedelta(days=30)
    recent = [(person, session, since) for person, session in logged]
    first = f" WHERE session_id = %s ORDER BY sent_at, id LIMIT {PAGE}"
    everyone = [(person,) for person, _ in people]
    begin = min(PAGES, long // PAGE) * PAGE - PAGE
    ((sent_at, last),) = rows(new, CURSOR, begin - 1)
    ((reader,),) = rows(old, "SELECT md5('long')::uuid")
    far = [(reader, reader, sent_at, last)]
    behind = f" WHERE session_id = %s AND (sent_at, id) > (%s, %s) ORDER BY sent_at, id LIMIT {PAGE}"
    offset = f'{OLD} WHERE session_id = %s ORDER BY "timestamp" LIMIT {PAGE} OFFSET {begin}'
    cases = [
        Case(
            "a page of 50 messages",
            MESSAGES_PROMISED,
            sides(
                f'{OLD} WHERE session_id = %s ORDER BY "timestamp" LIMIT {PAGE}',
                sessions,
                ("refined", NEW + first),
                ("refined, message_history", VIEW + first),
            ),
        ),
        Case(
            "all messages of a person, row security alone",
            MESSAGES_PROMISED,
            sides(OLD, everyone, ("refined", NEW), ("refined, message_history", VIEW)),
        ),
        Case(
            "all messages of a person, by their sessions",
            MESSAGES_PROMISED,
            sides(
                OLD.replace("SELECT id", "SELECT m.id") + JOIN,
                people,
                ("refined", NEW.replace("SELECT id", "SELECT m.id") + JOIN),
                ("refined, by user_id", f"{NEW} WHERE user_id = %s"),
            ),
        ),
        Case(
            "history by scene, anybody's",
            HISTORY_PROMISED,
            sides(f"{HISTORY} LIMIT 50", rows(old, PLAYERS), ("refined", f"{HISTORY}, id DESC LIMIT 50")),
        ),
        Case(
            "history by scene, of who plays most",
            HISTORY_PROMISED,
            sides(f"{HISTORY} LIMIT 50", rows(old, PLAYER), ("refined", f"{HISTORY}, id DESC LIMIT 50")),
        ),
        Case(
            "logs of a session, as its person",
            LOGS_PROMISED,
            sides(f"{LOGS} LIMIT 100", logged, ("refined", f"{LOGS}, id DESC LIMIT 100")),
        ),
        Case(
            "logs of a session, as the service",
            LOGS_PROMISED,
            sides(
                f"{LOGS} LIMIT 100", logged, ("refined", f"{LOGS}, id DESC LIMIT 100"), role="service_role"
            ),
        ),
        Case(
            "logs of a session of the last 30 days, as the service",
            LOGS_PROMISED,
            sides(
                f"{RECENT} LIMIT 100",
                recent,
                ("refined", f"{RECENT}, id DESC LIMIT 100"),
                role="service_role",
            ),
        ),
        Case(f"page {begin // PAGE + 1:,} of a long session", None, sides(offset, [(reader, reader)])),
    ]
    cases[-1].sides += [
        Side("refined, behind a cursor", new, NEW + behind, far),
        Side("refined, message_history", new, VIEW + behind, far),
    ]
    return cases


def logs_of_today(old: psycopg.Connection, new: psycopg.Connection) -> Case:
    """As it is where the cleanup runs each day: 30 days of logs, in as many partitions as that takes."""
    old.execute("SELECT conversation.delete_old_logs()")
    new.execute("CALL conversation.run_job('delete_old_logs')")
    for connection in (old, new):
        connection.execute("VACUUM (ANALYZE) conversation.logs")
    logged = old.execute(LOGGED).fetchall()
    return Case(
        "logs of a session, as its person, after the cleanup",
        LOGS_PROMISED,
        [
            Side("baseline", old, f"{LOGS} LIMIT 100", logged),
            Side("refined", new, f"{LOGS}, id DESC LIMIT 100", logged),
        ],
    )


def sending(old: psycopg.Connection, new: psycopg.Connection) -> Case:
    new.execute(BARE)
    open_sessions = old.execute(OPEN).fetchall()
    return Case(
        "sending a message",
        None,
        [
            Side(
                "bare table", new, SEND_BARE, [(person, session, person) for person, session in open_sessions]
            ),
            Side("baseline", old, SEND, open_sessions),
            Side("refined", new, SEND, open_sessions),
        ],
        keep=True,
    )


@contextmanager
def both_databases(
    console: Console, running: Server, rows: dict[str, int], long: int
) -> Iterator[tuple[str, str]]:
    """The names of the baseline and of its refined copy."""
    with (
        scratch_database(running) as name,
        psycopg.connect(running.dsn("postgres"), autocommit=True) as admin,
    ):
        copy = f"{name}_refined"
        migrations.upgrade(running.url(name), "conversation_baseline")
        filling = console.status(f"Filling the baseline: {rows['messages']:,} messages")
        with filling, psycopg.connect(running.dsn(name)) as connection:
            fill(connection, **rows)
            connection.execute(LONG_SESSION.format(number=long))
        try:
            with console.status("Copying it"):
                admin.execute(f"CREATE DATABASE {copy} TEMPLATE {name}")
            began = time.monotonic()
            with console.status("Upgrading the copy") as status:
                migrations.upgrade(running.url(copy), on_step=lambda step: status.update(f"Upgraded: {step}"))
            console.print(f"The upgrade of the filled database took {time.monotonic() - began:.1f} s.")
            yield name, copy
        finally:
            admin.execute(f"DROP DATABASE IF EXISTS {copy} WITH (FORCE)")


def main() -> None:
    console = Console(width=160)
    small = "--small" in sys.argv[1:]
    rows = {name: number // (SMALL if small else 1) for name, number in ROWS.items()}
    long = LONG // (SMALL if small else 1)
    with (
        server() as running,
        both_databases(console, running, rows, long) as (baseline, refined),
        psycopg.connect(running.dsn(baseline), autocommit=True) as old,
        psycopg.connect(running.dsn(refined), autocommit=True) as new,
    ):
        with console.status("VACUUM ANALYZE"):
            for connection in (old, new):
                connection.execute("VACUUM (ANALYZE)")
        cases = reading(old, new, long)
        for case in track(cases, "Measuring", console=console, transient=True):
            case.measure()
        for prepare in (logs_of_today, sending):
            with console.status("Measuring the rest"):
                cases.append(prepare(old, new))
                cases[-1].measure()
        console.print(tables.times(cases, rows))
        console.print(tables.plans([case for case in cases if not case.keep]))


if __name__ == "__main__":
    main()
