"""The mature system: sessions, reports and months of accesses, the same rows for the same seed and day.

Sessions and accesses go in by COPY, reports by INSERT ... SELECT, with the triggers off; the counters are set
to what the accesses add up to. The rows of the document's twin are copies of ours.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
from sqlalchemy import URL

from benchmarks import rivals
from carnivore_db.dev.local import Server

SEED = 20260101
MONTHS = 6
PAGES = 200  # distinct pages: a page is stored anew for each report all the same
# Most have some 14 kB, few have many; compressed some 5 kB: 500 MB for 100,000 reports, as the document says.
PAGE_BYTES, PAGE_SPREAD, PAGE_BOUNDS = 14_000, 0.5, (4_000, 60_000)
CHUNK = 500_000
WORDS = [
    "protein",
    "fat",
    "beef",
    "liver",
    "salmon",
    "eggs",
    "butter",
    "carnivore",
    "keto",
    "paleo",
    "macro",
    "target",
    "weekly",
    "plan",
    "meal",
    "grams",
    "energy",
    "deficit",
    "surplus",
    "training",
    "rest",
    "sleep",
    "water",
    "salt",
    "electrolytes",
    "morning",
    "evening",
    "portion",
    "shopping",
    "list",
]
# 82 bytes on average, as in a web server's log.
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:131.0) Gecko/20100101 Firefox/131.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14.6; rv:130.0) Gecko/20100101 Firefox/130.0",
    "Mozilla/5.0 (Android 14; Mobile; rv:132.0) Gecko/132.0 Firefox/132.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/130.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 Version/17.6 Mobile",
)
SESSIONS = """
    SELECT n, 'buyer' || (h & 2147483647) %% greatest(1, %(reports)s * 2 / 3) || '@example.com',
        (ARRAY['carnivore', 'keto', 'paleo', 'custom'])[1 + (h & 3)],
        jsonb_build_object('protein', 100 + (h >> 4 & 127), 'fat', 80 + (h >> 11 & 127), 'carbs',
            h >> 18 & 31, 'weight_kg', 60 + (h >> 23 & 63), 'activity', 'moderate'),
        'completed', 'pi_' || md5(n::text), made, made, (h >> 40 & 127) = 0
    FROM generate_series(%(first)s::bigint, %(last)s) AS n,
        hashint8extended(n, %(seed)s) AS h,
        LATERAL (SELECT %(begin)s + (n::float8 / %(reports)s) * %(span)s AS made) AS at
"""
REPORTS = """
    INSERT INTO public.generated_reports (id, session_id, email, access_token, report_html,
        questionnaire_data, created_at, expires_at, access_count, last_accessed_at)
    SELECT s.id, s.id, s.email, encode(sha256(convert_to(%(seed)s::text || ' ' || s.id, 'UTF8')), 'hex'),
        page.html, page.answers, s.created_at, s.created_at + (30 + (h >> 8 & 255)) * interval '1 day',
        coalesce(counted.accesses, 0), greatest(counted.latest, s.created_at + interval '1 second')
    FROM public.user_sessions AS s CROSS JOIN LATERAL hashint8extended(s.id, %(seed)s + 1) AS h
        JOIN bench_pages AS page ON page.n = (h & 2147483647) %% %(pages)s
        LEFT JOIN bench_counted AS counted ON counted.report_id = s.id
    WHERE s.id BETWEEN %(first)s AND %(last)s ORDER BY s.id
"""
# An access is of one of the reports that are there by then: the older ones have more.
ACCESSES = """
    SELECT n, 1 + (h & 9223372036854775807) %% greatest(1, n * %(reports)s / %(accesses)s),
        %(begin)s + (n::float8 / %(accesses)s) * %(span)s, '10.0.0.0'::inet + (h >> 20 & 16777215),
        (%(agents)s::text[])[1 + (h & 2147483647) %% %(kinds)s]
    FROM generate_series(%(first)s::bigint, %(last)s) AS n, hashint8extended(n, %(seed)s + 2) AS h
"""
SESSION_COLUMNS = (
    "id, email, path_choice, macro_data, payment_status, stripe_payment_id, created_at, updated_at, is_test"
)
ACCESS_COLUMNS = "id, report_id, accessed_at, ip_address, user_agent"
COPIED = {
    "sessions": f"public.user_sessions ({SESSION_COLUMNS})",
    "accesses": f"public.report_access_log ({ACCESS_COLUMNS})",
}
COUNTED = """
    CREATE TEMPORARY TABLE bench_counted AS
    SELECT report_id, count(*) AS accesses, max(accessed_at) AS latest
    FROM public.report_access_log GROUP BY report_id
"""
TOKENS = """
    SELECT access_token FROM public.generated_reports WHERE expires_at > now() + interval '1 day'
    ORDER BY md5(id::text) LIMIT %s
"""


@dataclass(frozen=True)
class World:
    """A filled database, and the ways into it."""

    server: Server  # its user is the superuser
    name: str
    login: Server  # the application's: a member of the three roles that inherits nothing
    reports: int
    accesses: int

    def connect(self, **options: Any) -> psycopg.Connection:
        """The superuser's, in autocommit: no policy stands between a floor and its rows."""
        return psycopg.connect(self.server.dsn(self.name), autocommit=True, **options)

    @property
    def url(self) -> URL:
        return self.login.url(self.name)

    @property
    def login_dsn(self) -> str:
        return self.login.dsn(self.name)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(query, values).fetchall()

    def tokens(self, number: int = 500) -> list[str]:
        """Tokens of open reports, anywhere among all."""
        return [token for (token,) in self.rows(TOKENS, number)]

    def report_ids(self, number: int = 500) -> list[int]:
        found = "SELECT id FROM public.generated_reports ORDER BY md5(id::text) LIMIT %s"
        return [key for (key,) in self.rows(found, number)]


def first_of(month: date, back: int) -> date:
    """The first day of the month that is `back` months before."""
    months = month.year * 12 + month.month - 1 - back
    return date(months // 12, months % 12 + 1, 1)


def months(number: int, today: date) -> list[date]:
    """The last `number` months, this one included."""
    return [first_of(today, back) for back in reversed(range(number))]


def fill(
    world: World, *, partitions: int = MONTHS, twin: bool, advance: Callable[[str, float], None]
) -> None:
    """Fill a migrated, empty database. `advance` hears what was done, and which share of the whole."""
    now = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    wanted = months(partitions, now.date())
    begin = datetime.combine(wanted[0], datetime.min.time(), UTC)
    values: dict[str, Any] = {
        "reports": world.reports,
        "accesses": max(world.accesses, 1),
        "begin": begin,
        "span": now - begin - timedelta(hours=1) if now - begin > timedelta(days=1) else timedelta(hours=1),
        "seed": SEED,
        "pages": PAGES,
        "agents": list(AGENTS),
        "kinds": len(AGENTS),
    }
    with world.connect() as owner:
        for month in wanted:
            owner.execute("SELECT carnivore.create_partition('public.report_access_log', %s)", [month])
        keep_partitions(owner, partitions)
        owner.execute("SET session_replication_role = replica")  # no trigger counts what is counted below
        _pages(owner)
        steps = [
            *_chunks(world.reports, "sessions", SESSIONS),
            *_chunks(world.accesses, "accesses", ACCESSES),
        ]
        steps += [("counts", COUNTED, 0, 0), *_chunks(world.reports, "reports", REPORTS)]
        for number, (what, statement, first, last) in enumerate(steps):
            made = {**values, "first": first, "last": last}
            if what in COPIED:
                copied(world, owner, COPIED[what], statement, made)
            else:
                # A page goes from table to table compressed, which COPY could not do.
                owner.execute(statement, made)
            advance(what, (number + 1) / len(steps) * (0.5 if twin else 0.9))
        for table in ("user_sessions", "generated_reports", "report_access_log"):
            owner.execute(
                f"SELECT setval(pg_get_serial_sequence('public.{table}', 'id'), max(id)) FROM public.{table}"
            )
        rivals.create(owner, wanted)
        if twin:
            # Ours lie in the order of their ids, and so do the copies.
            for number, table in enumerate(rivals.TWINS):
                rows = f"SELECT {rivals.SHARED[table]} FROM public.{table}"
                if table == "generated_reports":
                    rivals.copy(owner, table)
                else:
                    columns = f"rivals_document.{table} ({rivals.SHARED[table]})"
                    copied(world, owner, columns, rows, {})
                    rivals.continue_ids(owner, f"rivals_document.{table}")
                advance(f"the document's {table}", 0.5 + 0.4 * (number + 1) / len(rivals.TWINS))
        owner.execute("RESET session_replication_role")
        owner.execute("VACUUM (ANALYZE)")
        owner.execute("CHECKPOINT")
    advance("ready", 1)


def copied(world: World, into: psycopg.Connection, table: str, query: str, values: dict[str, Any]) -> None:
    """What a query gives, made by one backend, into a table (with its columns) by another, by COPY."""
    whole = psycopg.ClientCursor(into).mogrify(query, values)
    with (
        world.connect() as source,
        source.cursor().copy(f"COPY ({whole}) TO STDOUT (FORMAT binary)") as rows,
        into.cursor().copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy,
    ):
        for block in rows:
            copy.write(block)


def keep_partitions(owner: psycopg.Connection, number: int) -> None:
    """Drop empty partitions of the log, oldest first, until `number` months are left."""
    found = owner.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits"
        " WHERE inhparent = 'public.report_access_log'::regclass"
        " AND inhrelid::regclass::text ~ '_\\d{4}_\\d{2}$' ORDER BY 1"
    ).fetchall()
    today = datetime.now(UTC).date()
    named = f"report_access_log_{today:%Y_%m}"
    # What lies in the future goes last in time and first here: nobody writes into it.
    spare = [name for (name,) in found if name > named] + [name for (name,) in found if name < named]
    for name in spare[: max(0, len(found) - number)]:
        owner.execute(f"DROP TABLE public.{name.removeprefix('public.')}")


def _chunks(rows: int, what: str, statement: str) -> Iterator[tuple[str, str, int, int]]:
    for first in range(1, rows + 1, CHUNK):
        yield what, statement, first, min(first + CHUNK - 1, rows)


def _pages(owner: psycopg.Connection) -> None:
    choose = random.Random(SEED)  # noqa: S311 - the same pages each time
    owner.execute("CREATE TEMPORARY TABLE bench_pages (n integer, html text, answers jsonb)")
    with owner.cursor().copy("COPY bench_pages FROM STDIN") as copy:
        for number in range(PAGES):
            parts = [f"<html><head><title>Report {number}</title></head><body>"]
            size, least, most = 0, *PAGE_BOUNDS
            wanted = min(max(PAGE_BYTES * choose.lognormvariate(0, PAGE_SPREAD), least), most)
            while size < wanted:
                words = " ".join(choose.choice(WORDS) for _ in range(12))
                parts.append(f'<p class="line">{words} {choose.randrange(10**6)}</p>')
                size += len(parts[-1])
            answers = (
                f'{{"goal": "{choose.choice(WORDS)}", "age": {choose.randrange(20, 70)}, "notes": "{words}"}}'
            )
            copy.write_row((number, "".join(parts) + "</body></html>", answers))


@contextmanager
def application_login(server: Server, password: str) -> Iterator[Server]:
    """A login as an application has it, dropped at the end."""
    name = "carnivore_bench"
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as admin:
        admin.execute(
            f"DO $$ BEGIN CREATE ROLE {name} LOGIN NOINHERIT;"
            " EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
        admin.execute(f"ALTER ROLE {name} PASSWORD '{password}'")
    try:
        yield replace(server, user=name, password=password)
    finally:
        with psycopg.connect(server.dsn("postgres"), autocommit=True) as admin:
            admin.execute(f"DROP ROLE {name}")
