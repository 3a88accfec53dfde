"""What each index costs an insert and which query pays it back: the mature system with it and without it.

An index is hidden within a transaction that is taken back: `indisready` off, an insert leaves it alone;
`indisvalid` off, no plan reads it. The rows go in with the triggers and foreign keys off: what is compared is
the table and its indexes.
"""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from rich.table import Table

from benchmarks import usage
from benchmarks.bench import Bench
from benchmarks.mature import World
from benchmarks.queries import EXPIRED, HISTORY, LISTED

# Rows of one insert. Reports have pages; more of them would be felt by what is measured next.
PIECES = {"user_sessions": 2_000, "generated_reports": 300, "report_access_log": 5_000}
ROUNDS = 11
WAL_ROUNDS = 4
PATIENCE = 1.0  # seconds for which a query is asked again
INSERTS = {
    "user_sessions": """
        INSERT INTO public.user_sessions (email, path_choice, macro_data, payment_status, stripe_payment_id,
            created_at, updated_at)
        SELECT email, path_choice, macro_data, payment_status, 'pi_' || md5(random()::text), now(), now()
        FROM bench_sample
    """,
    "generated_reports": """
        INSERT INTO public.generated_reports (session_id, email, access_token, report_html,
            questionnaire_data, created_at, expires_at)
        SELECT session_id, email, encode(sha256(random()::text::bytea), 'hex'), report_html,
            questionnaire_data, now(), now() + interval '90 days'
        FROM bench_sample
    """,
    "report_access_log": """
        INSERT INTO public.report_access_log (report_id, accessed_at, ip_address, user_agent)
        SELECT report_id, now(), ip_address, user_agent FROM bench_sample
    """,
}
# The query that an index is there for, what it is asked about, and its name.
SERVED = {
    "user_sessions_pkey": (
        "session by id",
        "SELECT * FROM public.user_sessions WHERE id = %s",
        "SELECT id FROM public.user_sessions",
    ),
    "idx_user_sessions_email": (
        "sessions by e-mail",
        "SELECT * FROM public.user_sessions WHERE email = %s ORDER BY created_at DESC LIMIT 100",
        "SELECT email FROM public.user_sessions",
    ),
    "idx_user_sessions_stripe_payment_id": (
        "session by payment",
        "SELECT * FROM public.user_sessions WHERE stripe_payment_id = %s",
        "SELECT stripe_payment_id FROM public.user_sessions WHERE stripe_payment_id IS NOT NULL",
    ),
    "generated_reports_pkey": (
        "report by id",
        "SELECT id, expires_at FROM public.generated_reports WHERE id = %s",
        "SELECT id FROM public.generated_reports",
    ),
    "idx_generated_reports_access_token": (
        "check of a token",
        "SELECT id, expires_at FROM public.generated_reports WHERE access_token = %s AND expires_at > now()",
        "SELECT access_token FROM public.generated_reports",
    ),
    "idx_generated_reports_email_expires": (
        "reports by e-mail",
        LISTED,
        "SELECT email FROM public.generated_reports",
    ),
    "idx_generated_reports_expires_at": ("expiry scan", EXPIRED.format("public"), None),
    "idx_generated_reports_session_id": (
        "reports of a session",
        "SELECT id FROM public.generated_reports WHERE session_id = %s",
        "SELECT session_id FROM public.generated_reports",
    ),
    "report_access_log_pkey": (
        "access by id and time",
        "SELECT * FROM public.report_access_log WHERE id = %s AND accessed_at = %s",
        "SELECT id, accessed_at FROM public.report_access_log",
    ),
    "idx_report_access_log_report_id_accessed": (
        "access history",
        HISTORY.format("public"),
        "SELECT report_id FROM public.report_access_log",
    ),
}
OF_TABLE = """
    SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE i.indrelid = %s::regclass ORDER BY 1
"""
HIDE = """
    UPDATE pg_index SET indisvalid = false, indisready = false
    WHERE indexrelid = %(name)s::regclass
        OR indexrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %(name)s::regclass)
"""
HEADINGS = (
    "index",
    "bytes a row",
    "us a row",
    "insert x",
    "WAL bytes a row",
    "its query",
    "ms with",
    "ms without",
    "verbs that read it",
)
Line = dict[str, Any]


@contextmanager
def hidden(connection: psycopg.Connection, index: str | None) -> Iterator[None]:
    """A transaction without the index, taken back: with all of it that was done."""
    with connection.transaction(force_rollback=True):
        if index:
            connection.execute(HIDE, {"name": f"public.{index}"})
        yield


def measured(bench: Bench, world: World, sizes: list[Line], rows: dict[str, int]) -> list[Line]:
    """A line for each index of the three tables; prints them."""
    found = []
    used = usage.by_index(bench, world)
    bytes_of = {size["name"]: size["bytes"] for size in sizes}
    with world.connect() as owner:
        tables = {
            table: [name for (name,) in owner.execute(OF_TABLE, [f"public.{table}"]).fetchall()]
            for table in INSERTS
        }
    for table, names in tables.items():
        took, wal = _inserts(world, table, names)
        for name in names:
            query, with_it, without = _query(world, name)
            found.append(
                {
                    "table": table,
                    "index": name,
                    "bytes_a_row": round(bytes_of.get(name, 0) / max(rows[table], 1), 1),
                    "us_a_row": round((took[None] - took[name]) / PIECES[table] * 1e6, 2),
                    "insert_x": round(took[None] / took[name], 3),
                    "wal_a_row": round((wal[None] - wal[name]) / PIECES[table]),
                    "query": query,
                    "ms_with": with_it,
                    "ms_without": without,
                    "read_by": used.get(name, []),
                }
            )
    with world.connect() as owner:
        for table in tables:  # what was taken back lies at the tables' ends
            owner.execute(sql.SQL("VACUUM (ANALYZE) public.{}").format(sql.Identifier(table)))
    bench.console.print(_shown(found))
    return found


def _inserts(
    world: World, table: str, names: list[str]
) -> tuple[dict[str | None, float], dict[str | None, int]]:
    """Median seconds of an insert with all indexes (None), and without each; and its bytes of WAL."""
    took: dict[str | None, list[float]] = {name: [] for name in (None, *names)}
    wal: dict[str | None, int] = {}
    with world.connect() as owner:
        owner.execute("SET session_replication_role = replica")
        owner.execute(
            f"CREATE TEMPORARY TABLE bench_sample AS SELECT * FROM public.{table}"
            f" WHERE id IN (SELECT 1 + floor(random() * (SELECT max(id) FROM public.{table}))::bigint"
            f" FROM generate_series(1, {PIECES[table]} * 2)) LIMIT {PIECES[table]}"
        )
        owner.execute("CHECKPOINT")
        for number in range(ROUNDS + 1):
            for name, times in took.items():
                with hidden(owner, name):
                    began = time.perf_counter()
                    owner.execute(INSERTS[table])
                    if number:  # the first is the warm-up
                        times.append(time.perf_counter() - began)
        # The least of a few: a page that is written whole after a checkpoint is not the index's doing.
        for _ in range(WAL_ROUNDS):
            for name in took:
                with hidden(owner, name):
                    explain = f"EXPLAIN (ANALYZE, WAL, FORMAT JSON) {INSERTS[table]}"
                    ((found,),) = owner.execute(explain).fetchall()
                written = int(found[0]["Plan"]["WAL Bytes"])
                wal[name] = min(wal.get(name, written), written)
    return {name: statistics.median(found) for name, found in took.items()}, wal


def _query(world: World, name: str) -> tuple[str, float | None, float | None]:
    """What the index serves, and its median milliseconds with it and without it."""
    if name not in SERVED:
        return "", None, None
    query, statement, about = SERVED[name]
    values: list[tuple[Any, ...]] = [()]
    if about:
        values = world.rows(f"SELECT * FROM ({about} LIMIT 20000) AS drawn ORDER BY random() LIMIT 50")
    found = []
    for index in (None, name):
        # A connection of its own: no plan of before is kept. Once to warm up, then for a second.
        with world.connect() as owner, hidden(owner, index):
            took: list[float] = []
            began = time.perf_counter()
            for number in range(201):
                start = time.perf_counter()
                owner.execute(statement, values[number % len(values)]).fetchall()
                took.append((time.perf_counter() - start) * 1000)
                if number and time.perf_counter() - began > PATIENCE:
                    break
            found.append(float(f"{statistics.median(took[1:]):.3g}"))
    return query, found[0], found[1]


def _shown(found: list[Line]) -> Table:
    table = Table(title="What an index costs an insert, and what pays it back", title_justify="left")
    for heading in HEADINGS:
        table.add_column(heading)
    for line in found:
        table.add_row(*cells(line))
    return table


def cells(line: Line) -> list[str]:
    """As the table shows it."""
    times = ["" if line[key] is None else f"{line[key]:g}" for key in ("ms_with", "ms_without")]
    return [
        line["index"],
        f"{line['bytes_a_row']:g}",
        f"{line['us_a_row']:.2f}",
        f"{line['insert_x']:.2f}",
        f"{line['wal_a_row']}",
        line["query"],
        *times,
        ", ".join(line["read_by"]) or "no verb",
    ]
