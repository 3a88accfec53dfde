"""What the benchmark of the chat asks: each question as it was put at the baseline, and as it is now."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql

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
# Who says most, and the sessions of theirs that fill a page.
SPEAKER = """
    SELECT s.user_id, s.id
    FROM conversation.sessions AS s JOIN conversation.messages AS m ON m.session_id = s.id
    WHERE s.user_id = (
        SELECT one.user_id
        FROM conversation.sessions AS one JOIN conversation.messages AS said ON said.session_id = one.id
        WHERE one.id <> md5('long')::uuid GROUP BY one.user_id ORDER BY count(*) DESC LIMIT 1)
    GROUP BY s.id HAVING count(*) >= 50 ORDER BY md5(s.id::text) LIMIT 200
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
HALF: LiteralString = f" WHERE session_id = %s ORDER BY sent_at, id LIMIT {PAGE + 1})"
SHOWN: LiteralString = "SELECT id, session_id, role, chat_type, content, sent_at"
HALVES: LiteralString = (
    f"SELECT * FROM (({SHOWN}, NULL::timestamptz AS archived_at FROM conversation.messages{HALF}"
    f" UNION ALL ({SHOWN}, archived_at FROM conversation.messages_archive{HALF}) AS said"
    f" ORDER BY sent_at, id LIMIT {PAGE + 1}"
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

    people, logged = rows(old, PEOPLE), rows(old, LOGGED)
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
    pages = {
        "a page of 50 messages, anybody's": rows(old, SESSIONS),
        "a page of 50 messages, of who says most": rows(old, SPEAKER),
        "the first page of a long session": [(reader, reader)],
    }
    cases = [
        *(
            Case(
                name,
                MESSAGES_PROMISED,
                sides(
                    f'{OLD} WHERE session_id = %s ORDER BY "timestamp" LIMIT {PAGE}',
                    samples,
                    ("refined", NEW + first),
                    ("refined, message_history", VIEW + first),
                ),
            )
            for name, samples in pages.items()
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
    for case, samples in zip(cases, pages.values(), strict=False):
        twice = [(who, session, session) for who, session in samples]
        case.sides.append(Side("refined, as page() reads", new, HALVES, twice))
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
