"""A month of accesses by day out of ten million: the view for dashboards beside the query over the log.

Run it as `python -m benchmarks.analytics`, or with `--small` for a first look. Document 012 promises
50 ms. Both sides run in turn on a private PostgreSQL; a statement is planned anew each time, and its time
includes the rows' way to the client. What the refresh takes is measured too, and the other views.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from typing import LiteralString

import psycopg
from rich.console import Console
from rich.progress import track
from rich.table import Table

from carnivore_db.dev.demo.story import scratch_database
from carnivore_db.dev.local import server
from carnivore_db.schema import migrations
from tests.support.analytics_law import VIEWS

PROMISED_MS = 50
ACCESSES, REPORTS = 10_000_000, 100_000
SMALL = 50  # so many times less with --small
MONTHS = [date(2026, month, 1) for month in range(1, 7)]
MONTH = MONTHS[3]
ROUNDS = 20

PARTITIONS = "SELECT carnivore.create_partition('public.report_access_log', %s)"
# One session in a hundred is test data. Pages are small: no question here reads them.
PLANT = """
    SET session_replication_role = replica;  -- no trigger, no key: the rows are right
    INSERT INTO public.user_sessions
        (email, path_choice, macro_data, payment_status, stripe_payment_id, created_at, is_test)
    SELECT 'u' || n || '@example.com', (ARRAY['carnivore', 'keto', 'paleo', 'custom'])[n % 4 + 1], '{{}}',
        (ARRAY['completed', 'completed', 'completed', 'pending', 'refunded'])[n % 5 + 1], 'pi_' || n,
        timestamptz '2026-01-01 00:00+00' + n % 180 * interval '1 day', n % 100 = 0
    FROM generate_series(1, {reports}) AS n;
    INSERT INTO public.generated_reports
        (session_id, email, access_token, report_html, questionnaire_data, created_at, expires_at)
    SELECT id, email, md5(id::text) || md5(email), '<p>x</p>', '{{}}', created_at,
        created_at + interval '1 year'
    FROM public.user_sessions;
    INSERT INTO public.report_access_log (report_id, accessed_at, ip_address, user_agent)
    SELECT 1 + n * 7919 % {reports},
        timestamptz '2026-01-01 00:00+00' + n::double precision / {accesses} * interval '181 days',
        inet '10.0.0.0' + n % 65536, 'Mozilla/5.0 (X11; Linux x86_64)'
    FROM generate_series(0::bigint, {accesses} - 1) AS n;
    UPDATE public.generated_reports AS report
    SET access_count = found.accesses, last_accessed_at = greatest(found.latest, report.created_at)
    FROM (
        SELECT report_id, count(*) AS accesses, max(accessed_at) AS latest
        FROM public.report_access_log GROUP BY report_id
    ) AS found
    WHERE found.report_id = report.id;
    RESET session_replication_role;
"""
VIEW: LiteralString = """
    SELECT day, accesses FROM analytics.accesses_per_day
    WHERE day >= %(month)s AND day < %(month)s + interval '1 month' ORDER BY day
"""
# As weekly.access_log.counts_per_day asks.
LOG: LiteralString = """
    SELECT CAST(access.accessed_at AT TIME ZONE 'UTC' AS date) AS day, count(*) AS accesses
    FROM public.report_access_log AS access
    JOIN public.generated_reports AS report ON report.id = access.report_id
    JOIN public.user_sessions AS session ON session.id = report.session_id
    WHERE access.accessed_at >= CAST(%(month)s AS timestamp) AT TIME ZONE 'UTC'
        AND access.accessed_at < (CAST(%(month)s AS timestamp) + interval '1 month') AT TIME ZONE 'UTC'
        AND NOT session.is_test
    GROUP BY day ORDER BY day
"""
UNUSUAL: LiteralString = "SELECT * FROM analytics.unusual_access('2026-06-23 00:00+00', 5, 20, 1)"


def timed(what: Callable[[], object]) -> float:
    """How many milliseconds it takes."""
    began = time.perf_counter()
    what()
    return (time.perf_counter() - began) * 1000


def plan(connection: psycopg.Connection, query: LiteralString) -> list[str]:
    explained = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {query}", {"month": MONTH})
    return [line for (line,) in explained if "JIT" not in line]


def beside(
    connection: psycopg.Connection, console: Console
) -> tuple[dict[str, list[float]], list[list[str]]]:
    """Both questions in turn, each as who may ask it, and their plans; they must have the same answer."""
    took: dict[str, list[float]] = {"log": [], "view": []}
    answers: dict[str, Sequence[tuple[object, ...]]] = {}
    sides = (("log", LOG, "none"), ("view", VIEW, "reporting"))

    def ask(name: str, query: LiteralString) -> None:
        answers[name] = connection.execute(query, {"month": MONTH}, prepare=False).fetchall()

    plans = []
    for number in track(range(ROUNDS + 1), "Asking in turn", console=console, transient=True):
        for name, query, role in sides if number % 2 else sides[::-1]:
            connection.execute("SELECT set_config('role', %s, false)", [role])
            spent = timed(lambda name=name, query=query: ask(name, query))  # type: ignore[misc]
            if number:
                took[name].append(spent)
    for _, query, role in sides:
        connection.execute("SELECT set_config('role', %s, false)", [role])
        plans.append(plan(connection, query))
    connection.execute("RESET ROLE")
    assert answers["log"] == answers["view"], "the rollup is not what the log holds"
    assert len(answers["log"]) == 30
    return took, plans


def shown(took: dict[str, list[float]], accesses: int) -> Table:
    table = Table(title=f"A month by day out of {accesses:,} accesses, in ms; {ROUNDS} each, in turn")
    table.add_column("asked of")
    for heading in ("median", "slowest", "ratio"):
        table.add_column(heading, justify="right")
    table.add_column(f"{PROMISED_MS} ms promised")
    for name, spent in took.items():
        median = statistics.median(spent)
        ratio = median / statistics.median(took["log"])
        kept = "kept" if max(spent) < PROMISED_MS else "exceeded"
        table.add_row(name, f"{median:,.2f}", f"{max(spent):,.2f}", f"{ratio:.5f}", kept)
    return table


def others(connection: psycopg.Connection, console: Console) -> Table:
    """The refresh, which the owner has done, and the rest of what a dashboard may ask."""
    table = Table(title="The refresh, and the other questions, in ms")
    table.add_column("what")
    table.add_column("time", justify="right")
    table.add_column("times one month's refresh", justify="right")
    month = statistics.median(
        timed(lambda: connection.execute("SELECT analytics.refresh(%s::date)", [MONTH])) for _ in range(3)
    )
    found = {
        "refresh of one month": month,
        "refresh of all months": timed(lambda: connection.execute("SELECT analytics.refresh()")),
    }
    connection.execute("SET ROLE reporting")
    for view in track(VIEWS, "The other views", console=console, transient=True):
        query: LiteralString = f"SELECT * FROM analytics.{view}"  # type: ignore[assignment]
        found[f"all of {view}"] = timed(lambda query=query: connection.execute(query).fetchall())  # type: ignore[misc]
    found["one report of accesses_per_report"] = timed(
        lambda: connection.execute(
            "SELECT * FROM analytics.accesses_per_report WHERE report_id = 77"
        ).fetchall()
    )
    found["unusual_access of the last week"] = timed(lambda: connection.execute(UNUSUAL).fetchall())
    connection.execute("RESET ROLE")
    for what, spent in found.items():
        table.add_row(what, f"{spent:,.1f}", f"{spent / month:.3f}")
    return table


def main() -> None:
    console = Console(width=130)
    less = SMALL if "--small" in sys.argv[1:] else 1
    accesses, reports = ACCESSES // less, REPORTS // less
    with server() as running, scratch_database(running) as name:
        migrations.upgrade(running.url(name))
        with psycopg.connect(running.dsn(name), autocommit=True) as connection:
            for month in MONTHS:
                connection.execute(PARTITIONS, [month])
            with console.status(f"Planting {accesses:,} accesses of {reports:,} reports"):
                connection.execute(PLANT.format(accesses=accesses, reports=reports))  # type: ignore[arg-type]
            with console.status("VACUUM ANALYZE"):
                connection.execute("VACUUM (ANALYZE)")
            with console.status("The first refresh"):
                connection.execute("SELECT analytics.refresh()")
            took, plans = beside(connection, console)
            rest = others(connection, console)
    console.print(shown(took, accesses))
    for side, lines in zip(took, plans, strict=True):
        console.print(f"\nThe plan of the {side}:", *lines, sep="\n  ", markup=False, highlight=False)
    console.print(rest)


if __name__ == "__main__":
    main()
