"""What the progress triggers add to one change of a session, beside the same change without them.

Run it as `python -m benchmarks.session_trigger`. Document 001 allows 10 ms. Both sides run in turn,
again and again, on one connection of a private PostgreSQL; each statement is a transaction of its own.
"""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import LiteralString
from uuid import UUID

import psycopg
from rich.console import Console
from rich.progress import track
from rich.table import Table

from carnivore_db.dev.demo.story import scratch_database
from carnivore_db.dev.local import server
from carnivore_db.schema import migrations

ALLOWED_MS = 10
HISTORIES = (10, 1_000, 10_000)
ROUNDS = 20
WARM_UP = 5
MEASURED = 25
OPEN = WARM_UP + MEASURED
TRIGGERS = ("trigger_update_user_progress_from_session",)
LEARNER = """
    INSERT INTO vocabulary.users (email) VALUES (%s || '@example.com') RETURNING id
"""
# Ten sessions a day, up to yesterday.
ENDED = """
    INSERT INTO vocabulary.sessions (user_id, session_type, started_at, ended_at, qa_attempts)
    SELECT %s, 'qa', moment, moment + interval '20 minutes', 5
    FROM generate_series(1, %s) AS n, LATERAL (SELECT now() - interval '1 day' - n * interval '144 minutes')
        AS at (moment)
"""
STILL_OPEN = """
    INSERT INTO vocabulary.sessions (user_id, session_type) SELECT %s, 'qa' FROM generate_series(1, %s)
    RETURNING id
"""
OLDEST = """
    SELECT id FROM vocabulary.sessions WHERE user_id = %s AND ended_at IS NOT NULL ORDER BY ended_at LIMIT %s
"""
END: LiteralString = """
    UPDATE vocabulary.sessions SET ended_at = now(), qa_attempts = 7, qa_correct = 5 WHERE id = %s
"""
CORRECT: LiteralString = "UPDATE vocabulary.sessions SET qa_attempts = qa_attempts + 1 WHERE id = %s"
# The costly one: a moment taken away has the learner's whole history counted.
MOVE: LiteralString = "UPDATE vocabulary.sessions SET ended_at = ended_at + interval '1 second' WHERE id = %s"


@dataclass
class Case:
    """A learner, a statement, and what it took in milliseconds with the triggers and without."""

    name: str
    history: int
    learner: UUID
    statement: LiteralString
    sessions: list[UUID]
    took: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})


def prepare(connection: psycopg.Connection) -> Iterator[Case]:
    for history in HISTORIES:
        for name, statement in (("ends", END), ("old, corrected", CORRECT), ("old, moved", MOVE)):
            ((learner,),) = connection.execute(LEARNER, [f"{history}_{name[-5:].strip()}"]).fetchall()
            connection.execute(ENDED, [learner, history])
            if statement is END:
                found = connection.execute(STILL_OPEN, [learner, OPEN])
            else:
                found = connection.execute(OLDEST, [learner, min(history, OPEN)])
            yield Case(name, history, learner, statement, [session for (session,) in found])


def switch(connection: psycopg.Connection, *, on: bool) -> None:
    for trigger in TRIGGERS:
        action = "ENABLE" if on else "DISABLE"
        connection.execute(f"ALTER TABLE vocabulary.sessions {action} TRIGGER {trigger}")


def run(connection: psycopg.Connection, case: Case, *, on: bool) -> None:
    """A block of statements; the first few, which plan anew, are not counted."""
    switch(connection, on=on)
    for number in range(OPEN):
        session = case.sessions[number % len(case.sessions)]
        began = time.perf_counter()
        connection.execute(case.statement, [session], prepare=True)
        if number >= WARM_UP:
            case.took[on].append((time.perf_counter() - began) * 1000)


def restore(connection: psycopg.Connection, case: Case) -> None:
    """As it was: the sessions are open again, progress is what they add up to, no dead rows lie about."""
    if case.statement is END:
        switch(connection, on=False)
        connection.execute(
            "UPDATE vocabulary.sessions SET ended_at = NULL, qa_attempts = 0, qa_correct = 0"
            " WHERE id = ANY(%s)",
            [case.sessions],
        )
    connection.execute("SELECT vocabulary.recompute_user_progress(%s)", [case.learner])
    connection.execute("VACUUM vocabulary.sessions, vocabulary.user_progress")


def shown(cases: list[Case]) -> Table:
    number = len(cases[0].took[True])
    table = Table(
        title=f"One UPDATE of a session, in ms; {number} each, with and without the progress triggers in turn"
    )
    table.add_column("session")
    for heading in ("history", "with", "p99", "without", "p99", "difference", "of p99", "ratio"):
        table.add_column(heading, justify="right")
    table.add_column(f"{ALLOWED_MS} ms allowed")
    for case in cases:
        with_, without = (statistics.median(case.took[on]) for on in (True, False))
        with_p99, without_p99 = (statistics.quantiles(case.took[on], n=100)[98] for on in (True, False))
        difference, at_worst = with_ - without, with_p99 - without_p99
        table.add_row(
            case.name,
            f"{case.history:,}",
            *(f"{ms:.3f}" for ms in (with_, with_p99, without, without_p99)),
            f"{difference:+.3f}",
            f"{at_worst:+.3f}",
            f"{with_ / without:.1f}",
            "kept" if max(difference, at_worst) < ALLOWED_MS else "exceeded",
        )
    return table


def main() -> None:
    console = Console(width=110)
    with server() as running, scratch_database(running) as name:
        migrations.upgrade(running.url(name))
        with psycopg.connect(running.dsn(name), autocommit=True) as connection:
            cases = list(prepare(connection))
            connection.execute("VACUUM (ANALYZE)")
            for _ in track(range(ROUNDS), "Measuring", console=console, transient=True):
                for case in cases:
                    for on in (True, False):
                        run(connection, case, on=on)
                        restore(connection, case)
    console.print(shown(cases))


if __name__ == "__main__":
    main()
