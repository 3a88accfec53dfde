"""What the chat's refinement gained and what it costs: the baseline beside the refined, on the same rows.

Run it as `python -m benchmarks.conversation`, or with `--small` for a first look. Document
20251110150000 promises 50 to 90 % less time for messages, 60 to 80 % for the history, 70 to 90 % for logs.
One database is at the baseline, the other is its copy, upgraded; both are asked in turn on a private
PostgreSQL. A statement is planned anew each time, as behind a pooling proxy; its time includes that and the
rows' way to the client.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from rich.console import Console
from rich.progress import track

from benchmarks import conversation_tables as tables
from benchmarks.conversation_questions import logs_of_today, reading, sending
from carnivore_db.dev.demo.story import scratch_database
from carnivore_db.dev.local import Server, server
from carnivore_db.schema import migrations
from tests.support.conversation_baseline import fill

ROWS = {"profiles": 5_000, "sessions": 50_000, "messages": 1_000_000, "logs": 300_000}
LONG = 60_000  # messages of the one long session
SMALL = 20  # so many times less with --small
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
