"""Transactions of the chat that meet: one waits for another, or all begin at once; what must hold then."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

from carnivore_db import Database, Identity
from carnivore_db.conversation import messages, sessions
from carnivore_db.errors import CarnivoreError
from tests.conversation.samples import LONG_AGO, SERVICE, Person, completed, sign_up
from tests.support.databases import waiting
from tests.support.factories import put
from tests.support.processes import eventually

CLIENTS = 8
OLD = LONG_AGO - timedelta(days=800)  # old enough for the archive
# What no moment may show, with the id of what shows it.
BROKEN = """
    SELECT 'a message is in one place' AS law, id
    FROM conversation.message_history GROUP BY id HAVING count(*) > 1
    UNION ALL
    SELECT 'a session counts its messages', s.id
    FROM conversation.sessions AS s LEFT JOIN conversation.message_history AS m ON m.session_id = s.id
    GROUP BY s.id
    HAVING s.message_count_main <> count(*) FILTER (WHERE m.chat_type = 'main')
        OR s.message_count_helper <> count(*) FILTER (WHERE m.chat_type = 'helper')
    UNION ALL
    SELECT 'a person''s completed sessions are counted', p.id
    FROM conversation.profiles AS p
        LEFT JOIN conversation.sessions AS s ON s.user_id = p.id AND s.is_completed
    GROUP BY p.id
    HAVING p.completed_scenario_count <> count(s.id) OR p.current_week_completion_count
        <> count(s.id) FILTER (WHERE s.completed_at >= p.week_reset_date - interval '168 hours')
    UNION ALL
    SELECT 'a person has one open session', user_id
    FROM conversation.sessions WHERE NOT is_completed GROUP BY user_id HAVING count(*) > 1
    UNION ALL
    SELECT 'what an erased person said is erased', m.id
    FROM conversation.message_history AS m JOIN conversation.profiles AS p ON p.id = m.user_id
    WHERE p.erased_at IS NOT NULL AND m.content <> '[erased]'
"""
LEFT = """
    SELECT (SELECT count(*) FROM conversation.profiles WHERE id = %(person)s)
        + (SELECT count(*) FROM conversation.sessions WHERE user_id = %(person)s)
        + (SELECT count(*) FROM conversation.messages WHERE user_id = %(person)s)
        + (SELECT count(*) FROM conversation.messages_archive WHERE user_id = %(person)s)
        + (SELECT count(*) FROM conversation.logs WHERE user_id = %(person)s) AS rows
"""
LAST_MONDAY = """
    UPDATE conversation.profiles SET week_reset_date = carnivore.next_monday(now()) - interval '168 hours',
        current_week_completion_count = 3
    WHERE id = %s
"""
# A row also when the session has gone.
SESSION = """
    SELECT s.is_completed, s.message_count_main AS counted,
        ARRAY(SELECT m.id FROM conversation.messages AS m WHERE m.session_id = wanted.id) AS messages
    FROM (SELECT %s::uuid AS id) AS wanted LEFT JOIN conversation.sessions AS s ON s.id = wanted.id
"""
WEEK = """
    SELECT completed_scenario_count AS total, current_week_completion_count AS this_week,
        week_reset_date = carnivore.next_monday(now()) AS current
    FROM conversation.profiles WHERE id = %s
"""


class TakenBack(Exception):
    """A transaction is to end without a trace."""


class Act:
    """Something that somebody does in a transaction of its own."""

    def __init__(
        self, database: Database, who: Identity, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        self.database, self.who = database, who
        self.function, self.args, self.kwargs = function, args, kwargs

    @contextmanager
    def begun(self) -> Iterator[Any]:
        """What it gave; the transaction ends with the block."""
        with self.database.transaction(self.who) as tx:
            gave = self.function(tx, *self.args, **self.kwargs)
            tx.expunge_all()  # rows stay readable, also when the transaction is taken back
            yield gave

    def __call__(self) -> Any:
        with self.begun() as gave:
            return gave


class Meeting(NamedTuple):
    """What came of each of two acts, a value or the package's error, and whether the second had to wait."""

    first: Any
    second: Any
    waited: bool


def outcome(act: Callable[[], Any]) -> Any:
    """What it gave, or the package's error that it raised; any other error is a failure."""
    try:
        return act()
    except CarnivoreError as error:
        return error


def sql(tx: Session, statement: str, **values: object) -> Any:
    """The first value that a statement returns, if it returns any."""
    result = tx.connection().execute(text(statement), values)
    return result.scalar() if result.returns_rows else None


@dataclass
class Arena:
    """A database, the application's and the owner's ways into it, and a second pair of eyes."""

    app: Database
    owning: Database
    migrator: Identity
    owner: psycopg.Connection
    pool: ThreadPoolExecutor

    def act(self, who: Identity, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Act:
        return Act(self.app, who, function, *args, **kwargs)

    def job(self, name: str, batch: int = 100) -> Act:
        """One batch of a job, as the service, in one transaction."""
        return self.act(SERVICE, sql, f"SELECT conversation.{name}(:batch)", batch=batch)

    def say(self, person: Person, session: UUID, content: str = "Guten Tag!", **given: Any) -> Act:
        return self.act(person.identity, messages.send, session, content, **given)

    def answer(self, session: UUID) -> Act:
        return self.act(SERVICE, messages.send, session, "Grüß Gott!", role="main_assistant")

    def complete(self, person: Person, session: UUID) -> Act:
        return self.act(person.identity, sessions.complete, session)

    def deletion(self, person: Person) -> Act:
        """The login goes, and all of the person with it."""
        return Act(self.owning, self.migrator, sql, "DELETE FROM auth.users WHERE id = :id", id=person.id)

    def meet(self, first: Act, second: Callable[[], Any], *, kept: bool = True) -> Meeting:
        """`second` begins when `first` has done its part.

        `first` ends, `kept` or taken back, when `second` waits for it or is through.
        """
        with suppress(TakenBack), first.begun() as gave:
            running = self.pool.submit(outcome, second)
            assert eventually(lambda: running.done() or waiting(self.owner) > 0)
            waited = not running.done()
            if not kept:
                raise TakenBack
        return Meeting(gave, running.result(), waited)

    def rush(self, *acts: Callable[[], Any]) -> list[Any]:
        """What came of each when all began at once, each on a connection of its own."""
        barrier = threading.Barrier(len(acts))

        def begin(act: Callable[[], Any]) -> Any:
            barrier.wait()
            return outcome(act)

        return [running.result() for running in [self.pool.submit(begin, act) for act in acts]]

    def ask(self, query: str, *values: object) -> dict[str, Any]:
        """The only row of a query, as the owner."""
        (row,) = self.owner.execute(query, values).fetchall()
        assert isinstance(row, dict)
        return row

    def session(self, session_id: UUID) -> dict[str, Any]:
        return self.ask(SESSION, session_id)

    def week(self, person: Person) -> tuple[int, int, bool]:
        """Completed sessions in all and of the week, and whether the week is the present one."""
        row = self.ask(WEEK, person.id)
        return row["total"], row["this_week"], row["current"]

    def rows_of(self, person: Person) -> int:
        (row,) = self.owner.execute(LEFT, {"person": person.id}).fetchall()
        assert isinstance(row, dict)
        found: int = row["rows"]
        return found

    def assert_lawful(self) -> None:
        assert self.owner.execute(BROKEN).fetchall() == []

    def player(self, **given: object) -> tuple[Person, UUID]:
        """Somebody who has signed up, and their open session."""
        person = sign_up(self.owner)
        session = uuid4()
        put(self.owner, "conversation.sessions", id=session, user_id=person.id, scenario_id=1, **given)
        return person, session

    def of_last_week(self) -> tuple[Person, UUID]:
        """A person with an open session, three completed ones of earlier, and a week that is over."""
        person, session = self.player()
        for _ in range(3):
            completed(self.owner, person, LONG_AGO)
        self.owner.execute(LAST_MONDAY, [person.id])
        return person, session

    def old_messages(self, number: int) -> tuple[Person, UUID]:
        """A person whose completed session of long ago has so many messages, all due for the archive."""
        person, session = self.player(started_at=OLD, last_activity_at=OLD)
        for _ in range(number):
            self.act(SERVICE, messages.send, session, "Guten Tag!", sent_at=OLD)()
        self.owner.execute(
            "UPDATE conversation.sessions SET is_completed = true, completed_at = %s WHERE id = %s",
            [OLD, session],
        )
        return person, session


def completed_session(tx: Session, person: Person) -> UUID:
    """A session that the service brings in as completed just now."""
    found: UUID = sql(
        tx,
        "INSERT INTO conversation.sessions (user_id, scenario_id, is_completed)"
        " VALUES (:id, 2, true) RETURNING id",
        id=person.id,
    )
    return found
