"""Storage: what a row takes in each table and index, what an index costs an insert, and which query pays it
back; and what fill factor, compression and BRIN would change."""

import statistics
import time
from typing import Any

import psycopg
from rich.table import Table

from benchmarks import indexes
from benchmarks.bench import Bench
from benchmarks.mature import World

SCHEMAS = {"ours": "public", "document": "rivals_document"}
TABLES = ("user_sessions", "generated_reports", "report_access_log")
# Partitions and their indexes are added up under their parents' names.
SIZES = """
    WITH RECURSIVE leaves AS (
        SELECT c.oid AS root, c.oid AS leaf FROM pg_class AS c
        WHERE c.oid = ANY (%(tables)s::text[]::regclass[])
        UNION ALL
        SELECT leaves.root, i.inhrelid FROM leaves JOIN pg_inherits AS i ON i.inhparent = leaves.leaf
    ), parts AS (
        SELECT root, 'heap' AS kind, 'heap' AS name, sum(pg_relation_size(leaf)) AS bytes
        FROM leaves GROUP BY root
        UNION ALL
        SELECT root, 'heap', 'toast', sum(pg_total_relation_size(c.reltoastrelid))
        FROM leaves JOIN pg_class AS c ON c.oid = leaves.leaf WHERE c.reltoastrelid <> 0 GROUP BY root
        UNION ALL
        SELECT leaves.root, 'index', coalesce(parent.relname, own.relname), sum(pg_relation_size(own.oid))
        FROM leaves JOIN pg_index AS i ON i.indrelid = leaves.leaf
            JOIN pg_class AS own ON own.oid = i.indexrelid AND own.relkind = 'i'
            LEFT JOIN pg_inherits AS h ON h.inhrelid = own.oid
            LEFT JOIN pg_class AS parent ON parent.oid = h.inhparent
        GROUP BY leaves.root, coalesce(parent.relname, own.relname)
    )
    SELECT c.relname, kind, name, bytes FROM parts JOIN pg_class AS c ON c.oid = root
    WHERE bytes > 0 ORDER BY c.relname, kind, bytes DESC
"""
SAMPLE = 20_000
PIECE = 2_000


def run(bench: Bench) -> None:
    """Prints its tables; everything goes into the results as facts."""
    world = bench.system
    sizes = {who: _sizes(world, schema) for who, schema in SCHEMAS.items()}
    rows = dict(zip(TABLES, _rows(world), strict=True))
    bench.note("rows", rows)
    bench.note("bytes", sizes)
    bench.note(
        "user agent, bytes",
        _one(
            world,
            "SELECT round(avg(octet_length(user_agent))) FROM (SELECT"
            " user_agent FROM public.report_access_log LIMIT 10000) AS drawn",
        ),
    )
    bench.console.print(_shown(sizes, rows))
    totals = {who: sum(size["bytes"] for size in found) for who, found in sizes.items()}
    bench.note("total bytes", totals)
    bench.console.print(f"In all: ours {totals['ours']:,} bytes, the document's {totals['document']:,}.")
    bench.note("indexes", indexes.measured(bench, world, sizes["ours"], rows))
    choices = [*_fill_factors(world), *_compression(world), *_brin(world)]
    bench.note("choices", choices)
    table = Table(title="What a setting would change", title_justify="left")
    for heading in ("setting", "what", "measured"):
        table.add_column(heading)
    for choice in choices:
        table.add_row(*choice)
    bench.console.print(table)


def _one(world: World, query: str) -> Any:
    ((value,),) = world.rows(query)
    return float(value)


def _rows(world: World) -> list[int]:
    return [int(_one(world, f"SELECT count(*) FROM public.{table}")) for table in TABLES]


def _sizes(world: World, schema: str) -> list[dict[str, Any]]:
    with world.connect() as owner:
        found = owner.execute(SIZES, {"tables": [f"{schema}.{table}" for table in TABLES]}).fetchall()
    return [{"table": t, "kind": k, "name": n, "bytes": int(b)} for t, k, n, b in found]


def _shown(sizes: dict[str, list[dict[str, Any]]], rows: dict[str, int]) -> Table:
    table = Table(title="Storage: bytes, and bytes a row", title_justify="left")
    table.add_column("table")
    table.add_column("part")
    for who in SCHEMAS:
        table.add_column(who, justify="right")
        table.add_column("a row", justify="right")
    for row in side_by_side(sizes, rows):
        table.add_row(*row)
    return table


def side_by_side(sizes: dict[str, list[dict[str, Any]]], rows: dict[str, int]) -> list[list[str]]:
    """Each table's parts and their sum, ours beside the document's: bytes, and bytes a row; then all."""
    by_part: dict[tuple[str, str], dict[str, int]] = {}
    for who, found in sizes.items():
        for size in found:
            for part in ((size["table"], size["name"]), (size["table"], "in all"), ("in all", "")):
                of_part = by_part.setdefault(part, {})
                of_part[who] = of_part.get(who, 0) + size["bytes"]
    order = sorted(by_part, key=lambda part: (part[0] == "in all", part[0], part[1] == "in all", part[1]))
    lines = []
    for name, part in order:
        line = [name, part]
        for who in SCHEMAS:
            size = by_part[name, part].get(who)
            each = f"{size / max(rows[name], 1):.1f}" if size is not None and name in rows else ""
            line += [f"{size:,}" if size is not None else "", each]
        lines.append(line)
    return lines


def _timed(owner: psycopg.Connection, statements: dict[str, str], rounds: int = 5) -> dict[str, float]:
    """Median seconds of each statement; all in turn, each taken back."""
    took: dict[str, list[float]] = {name: [] for name in statements}
    for number in range(rounds + 1):
        for name, statement in statements.items():
            with owner.transaction(force_rollback=True):
                began = time.perf_counter()
                owner.execute(statement)
                if number:  # the first is the warm-up
                    took[name].append(time.perf_counter() - began)
    return {name: statistics.median(found) for name, found in took.items()}


def _fill_factors(world: World) -> list[tuple[str, str, str]]:
    """One in four reports is counted ten times: how many of the updates stay within their page."""
    found = []
    with world.connect() as owner:
        for factor in (100, 90, 80):
            owner.execute("CREATE TABLE public.bench_reports (LIKE public.generated_reports INCLUDING ALL)")
            owner.execute(
                f"ALTER TABLE public.bench_reports SET (fillfactor = {factor}, autovacuum_enabled = off)"
            )
            owner.execute(
                "INSERT INTO public.bench_reports"
                f" SELECT * FROM public.generated_reports ORDER BY id LIMIT {SAMPLE}"
            )
            owner.execute("VACUUM (ANALYZE) public.bench_reports")
            ((size,),) = owner.execute("SELECT pg_relation_size('public.bench_reports')").fetchall()
            began = time.perf_counter()
            for _ in range(10):
                owner.execute(
                    "UPDATE public.bench_reports SET access_count = access_count + 1 WHERE id % 4 = 0"
                )
            took = time.perf_counter() - began
            owner.execute("SELECT pg_stat_force_next_flush()")
            ((updated, hot),) = owner.execute(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
                " WHERE relid = 'public.bench_reports'::regclass"
            ).fetchall()
            ((after,),) = owner.execute("SELECT pg_relation_size('public.bench_reports')").fetchall()
            each = took / max(updated, 1) * 1e6
            said = f"{hot / max(updated, 1):.0%} HOT, {each:.1f} us each, heap {size:,} -> {after:,}"
            found.append((f"fillfactor {factor}", "counting without a VACUUM between", said))
            owner.execute("DROP TABLE public.bench_reports")
    return found


def _compression(world: World) -> list[tuple[str, str, str]]:
    """The pages under each compression: their size, and the time to read them."""
    found = []
    with world.connect() as owner:
        owner.execute(
            "CREATE TEMPORARY TABLE pages AS SELECT id, report_html || '' AS report_html"
            f" FROM public.generated_reports ORDER BY id LIMIT {PIECE}"
        )
        methods = {"pglz": "pglz"}
        ((has_lz4,),) = owner.execute(
            "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
        ).fetchall()
        if has_lz4:
            methods["lz4"] = "lz4"
        for method in methods:
            owner.execute(
                f"CREATE TEMPORARY TABLE c_{method} (id bigint, report_html text COMPRESSION {method})"
            )
            began = time.perf_counter()
            owner.execute(f"INSERT INTO c_{method} SELECT id, report_html || '' FROM pages")
            wrote = (time.perf_counter() - began) / PIECE * 1e6
            ((size,),) = owner.execute(f"SELECT avg(pg_column_size(report_html)) FROM c_{method}").fetchall()
            read = _timed(owner, {method: f"SELECT sum(length(report_html)) FROM c_{method}"})[method]
            said = f"{size:,.0f} bytes a page, read in {read / PIECE * 1e6:.0f} us, written in {wrote:.0f} us"
            found.append((f"compression {method}", "report_html", said))
    return found


def _brin(world: World) -> list[tuple[str, str, str]]:
    """A day of one month, found by BRIN, by a B-tree and by reading the month."""
    found = []
    with world.connect() as owner:
        ((name, rows),) = owner.execute(
            "SELECT inhrelid::regclass::text, reltuples::bigint"
            " FROM pg_inherits JOIN pg_class ON oid = inhrelid"
            " WHERE inhparent = 'public.report_access_log'::regclass ORDER BY reltuples DESC LIMIT 1"
        ).fetchall()
        day = f"(SELECT min(accessed_at) + interval '10 days' FROM {name})"
        ((begin,),) = owner.execute(f"SELECT {day}").fetchall()
        query = (
            f"SELECT count(*) FROM {name} WHERE accessed_at >= '{begin}'"
            f" AND accessed_at < '{begin}'::timestamptz + interval '1 day'"
        )
        for method in ("none", "brin", "btree"):
            with owner.transaction(force_rollback=True):
                size = 0
                if method != "none":
                    owner.execute(f"CREATE INDEX bench_index ON {name} USING {method} (accessed_at)")
                    ((size,),) = owner.execute("SELECT pg_relation_size('bench_index')").fetchall()
                took = _timed(owner, {method: query})[method]
                said = f"{took * 1000:.2f} ms, {size:,} bytes"
                found.append((f"index {method} on accessed_at", f"a day in {rows:,} rows", said))
    return found
