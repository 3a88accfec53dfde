"""What the number of partitions costs an insert, an open and the deletion of a report: 6, 24, 120 months.

Run it as `python -m benchmarks.partitions`. Three databases with the same reports and the same
accesses, in few months or in many, are asked in turn on a private PostgreSQL; each statement is a
transaction of its own. A statement is planned anew each time, as behind a pooling proxy.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import LiteralString

import psycopg
from rich.console import Console
from rich.progress import track
from rich.table import Table

from carnivore_db.dev.demo.story import scratch_database
from carnivore_db.dev.local import Server, server
from carnivore_db.schema import migrations

MONTHS = (6, 24, 120)
REPORTS = 2_000
ACCESSES = 240_000
ROUNDS = 30
WARM_UP = 3
MEASURED = 10
# This month is the last but three: what is opened now has its place, as in a database that is maintained.
MAKE: LiteralString = """
    SELECT carnivore.create_partition('public.report_access_log',
        (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => 3 - back))::date)
    FROM generate_series(0, %s - 1) AS back
"""
DROP = """
    SELECT format('DROP TABLE %s', inhrelid::regclass) FROM pg_inherits JOIN pg_class ON oid = inhrelid
    WHERE inhparent = 'public.report_access_log'::regclass AND relname <> 'report_access_log_default'
"""
REPORT: LiteralString = """
    INSERT INTO public.user_sessions (email, path_choice, macro_data)
    SELECT 'reader' || n || '@example.com', 'keto', '{"kcal": 1800}'
    FROM generate_series(1, %(reports)s) AS n;
"""
ISSUE: LiteralString = """
    INSERT INTO public.generated_reports
        (session_id, access_token, report_html, questionnaire_data, expires_at)
    SELECT id, encode(sha256(id::text::bytea), 'hex'), repeat('<p>meat</p>', 500), '{"age": 40}',
        now() + interval '1 year'
    FROM public.user_sessions
"""
READ: LiteralString = """
    SET LOCAL carnivore.access_counting = 'deferred';
    INSERT INTO public.report_access_log (report_id, accessed_at, ip_address, user_agent)
    SELECT ids[1 + n %% array_length(ids, 1)],
        now() - (n::float8 / %(accesses)s) * make_interval(months => %(months)s - 4), '2001:db8::1',
        'Browser/1.0'
    FROM generate_series(1, %(accesses)s) AS n,
        (SELECT array_agg(id) AS ids FROM public.generated_reports) AS r;
    SELECT public.fold_report_access(1000000);
"""
INSERT: LiteralString = """
    INSERT INTO public.report_access_log (report_id, ip_address, user_agent)
    VALUES ((SELECT min(id) FROM public.generated_reports), '2001:db8::1', 'Browser/1.0')
"""
OPEN: LiteralString = """
    SELECT report_html FROM public.open_report(
        (SELECT access_token FROM public.generated_reports ORDER BY id LIMIT 1), '2001:db8::1', 'Browser/1.0')
"""
DELETE: LiteralString = """
    DELETE FROM public.generated_reports WHERE id = (SELECT max(id) FROM public.generated_reports)
"""
CASES = {"insert of an access": INSERT, "open of a report": OPEN, "deletion of a report": DELETE}


@dataclass
class Database:
    """One of the three, and what each statement took there in milliseconds."""

    months: int
    connection: psycopg.Connection
    took: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in CASES})

    def run(self, name: str) -> None:
        for number in range(WARM_UP + MEASURED):
            began = time.perf_counter()
            self.connection.execute(CASES[name])
            if number >= WARM_UP:
                self.took[name].append((time.perf_counter() - began) * 1000)


def fill(connection: psycopg.Connection, months: int) -> None:
    wanted = {"reports": REPORTS, "accesses": ACCESSES, "months": months}
    for statement in connection.execute(DROP).fetchall():
        connection.execute(statement[0])
    connection.execute(MAKE, [months])
    with connection.transaction(), psycopg.ClientCursor(connection) as cursor:
        for script in (REPORT, ISSUE, READ):
            cursor.execute(script, wanted)
    ((rows, used),) = connection.execute(
        "SELECT count(*), count(DISTINCT tableoid) FROM public.report_access_log"
    ).fetchall()
    assert (rows, used) == (ACCESSES, months - 3), "the accesses are not spread over the months"
    connection.execute("VACUUM (ANALYZE)")


@contextlib.contextmanager
def databases(running: Server, console: Console) -> Iterator[list[Database]]:
    with contextlib.ExitStack() as stack:
        made = []
        for months in MONTHS:
            name = stack.enter_context(scratch_database(running))
            with console.status(f"Filling {months} months"):
                migrations.upgrade(running.url(name))
                connection = stack.enter_context(psycopg.connect(running.dsn(name), autocommit=True))
                connection.prepare_threshold = None
                fill(connection, months)
            made.append(Database(months, connection))
        yield made


def shown(made: list[Database]) -> Table:
    table = Table(
        title=f"{ROUNDS * MEASURED} each in turn, in ms; {ACCESSES:,} accesses of {REPORTS:,} reports; ratios"
        f" to {MONTHS[0]} partitions"
    )
    table.add_column("statement")
    for months in MONTHS:
        for heading in (f"{months} partitions", "p99", "ratio"):
            table.add_column(heading, justify="right")
    for name in CASES:
        cells = []
        first = statistics.median(made[0].took[name])
        for one in made:
            middle = statistics.median(one.took[name])
            worst = statistics.quantiles(one.took[name], n=100)[98]
            cells += [f"{middle:.3f}", f"{worst:.3f}", f"{middle / first:.2f}"]
        table.add_row(name, *cells)
    return table


def main() -> None:
    console = Console(width=130)
    with server() as running, databases(running, console) as made:
        turns: list[Callable[[str], None]] = [one.run for one in made]
        for _ in track(range(ROUNDS), "Measuring", console=console, transient=True):
            for name in CASES:
                for run in turns:
                    run(name)
        console.print(shown(made))


if __name__ == "__main__":
    main()
