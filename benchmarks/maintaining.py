"""What readers notice of `carnivore-db maintain`: four connections open reports while it does all its work.

Run it as `python -m benchmarks.maintaining`. The private PostgreSQL has accesses in its DEFAULT
partition, months to make and to archive, expired rows and pending counts. The same readers are timed before
it and after it, each for as long as it took.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import LiteralString

import psycopg
from rich.console import Console
from rich.table import Table

from carnivore_db.dev.demo.story import scratch_database
from carnivore_db.dev.local import Server, server
from carnivore_db.schema import migrations

READERS = 4
WITHOUT = 10  # seconds
# What a forgotten calendar leaves: this month is missing, its accesses lie in the DEFAULT partition.
PREPARE: LiteralString = """
    SET LOCAL carnivore.access_counting = 'deferred';
    INSERT INTO public.user_sessions (email, path_choice, macro_data)
    SELECT 'reader' || n || '@example.com', 'keto', '{"kcal": 1800}' FROM generate_series(1, 3000) AS n;
    INSERT INTO public.generated_reports
        (session_id, access_token, report_html, questionnaire_data, created_at, expires_at)
    SELECT id, encode(sha256(id::text::bytea), 'hex'), repeat('<p>meat</p>', 500), '{"age": 40}',
        now() - interval '3 years',
        CASE WHEN row_number() OVER (ORDER BY id) <= 1000 THEN now() + interval '1 year'
            ELSE now() - interval '1 year' END
    FROM public.user_sessions;
    INSERT INTO public.calculator2_sessions (session_token, created_at, last_active_at, expires_at)
    SELECT left(encode(sha256(n::text::bytea), 'hex'), 32), now() - interval '5 days',
        now() - interval '4 days', now() - interval '3 days'
    FROM generate_series(1, 20000) AS n;
    SELECT carnivore.create_partition('public.report_access_log',
        (date_trunc('month', now()) - interval '20 months')::date);
"""
# This month's partition is empty: what is opened now goes into the DEFAULT partition until it is there again.
FORGET = """
    SELECT format('DROP TABLE public.report_access_log_%s', to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM'))
"""
READ: LiteralString = """
    SET LOCAL carnivore.access_counting = 'deferred';
    INSERT INTO public.report_access_log (report_id, accessed_at, ip_address, user_agent)
    SELECT ids[1 + n % array_length(ids, 1)], moment, '2001:db8::1', 'Browser/1.0'
    FROM generate_series(1, 200000) AS n, (SELECT array_agg(id) AS ids FROM public.generated_reports) AS r,
        LATERAL (VALUES (date_trunc('month', now()) + n * interval '1 second'),
            (date_trunc('month', now()) - interval '20 months' + n * interval '10 seconds')) AS at (moment)
    WHERE moment <= now();
"""
TOKENS: LiteralString = """
    SELECT access_token FROM public.generated_reports WHERE expires_at > now() ORDER BY id
"""
OPEN: LiteralString = "SELECT * FROM public.open_report(%s, '2001:db8::1', 'Browser/1.0')"


@dataclass
class Readers:
    """Four connections that open reports until they are told to stop."""

    dsn: str
    tokens: list[str]
    took: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def during(self, block: Callable[[], None]) -> "Readers":
        done = threading.Event()
        threads = [threading.Thread(target=self._read, args=(n, done)) for n in range(READERS)]
        for thread in threads:
            thread.start()
        try:
            block()
        finally:
            done.set()
            for thread in threads:
                thread.join()
        return self

    def _read(self, number: int, done: threading.Event) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("SET ROLE anon")
            turn = number
            while not done.is_set():
                began = time.perf_counter()
                try:
                    connection.execute(OPEN, [self.tokens[turn % len(self.tokens)]])
                except psycopg.Error as error:
                    self.errors.append(str(error.sqlstate))
                self.took.append((time.perf_counter() - began) * 1000)
                turn += READERS


def prepare(running: Server, name: str) -> list[str]:
    migrations.upgrade(running.url(name))
    with psycopg.connect(running.dsn(name), autocommit=True) as connection:
        ((forget,),) = connection.execute(FORGET).fetchall()
        connection.execute(forget)
        with connection.transaction():
            connection.execute(PREPARE)
        with connection.transaction():
            connection.execute(READ)
        connection.execute("VACUUM (ANALYZE)")
        return [token for (token,) in connection.execute(TOKENS)]


def maintain(running: Server, name: str, archive: str, console: Console) -> float:
    began = time.monotonic()
    url = running.url(name).set(drivername="postgresql").render_as_string(hide_password=False)
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "CARNIVORE_DB_ARCHIVE_LOCATION": archive,
        "CARNIVORE_DB_EXPORT_LOCATION": archive,
    }
    command = [sys.executable, "-c", "from carnivore_db.cli import app; app()", "maintain"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    took = time.monotonic() - began
    console.print(done.stdout, done.stderr, markup=False, highlight=False)
    console.print(f"maintain: exit status {done.returncode}, {took:.1f} s")
    return took


def shown(phases: dict[str, Readers]) -> Table:
    table = Table(title=f"{READERS} connections open reports, in ms")
    table.add_column("phase")
    for heading in ("opens", "median", "p99", "slowest", "errors"):
        table.add_column(heading, justify="right")
    for phase, readers in phases.items():
        table.add_row(
            phase,
            f"{len(readers.took):,}",
            f"{statistics.median(readers.took):.2f}",
            f"{statistics.quantiles(readers.took, n=100)[98]:.2f}",
            f"{max(readers.took):.1f}",
            f"{len(readers.errors)}",
        )
    return table


def main() -> None:
    console = Console(width=120)
    with (
        tempfile.TemporaryDirectory() as archive,
        server() as running,
        scratch_database(running) as name,
    ):
        with console.status("Filling"):
            tokens = prepare(running, name)
        phases = {}
        for phase, block in (
            ("without, before", lambda: time.sleep(WITHOUT)),
            ("maintain runs", lambda: maintain(running, name, archive, console)),
            ("without, after", lambda: time.sleep(WITHOUT)),
        ):
            phases[phase] = Readers(running.dsn(name), tokens).during(block)
        console.print(shown(phases))


if __name__ == "__main__":
    main()
