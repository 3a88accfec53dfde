"""Which of the package's verbs reads which index: counted by the server while each runs once."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.bench import Bench, database
from benchmarks.mature import World
from carnivore_db import identity
from carnivore_db.weekly import access_log, payments, reports, sessions

COUNTS = text("""
    SELECT coalesce(parent.relname, s.indexrelname) AS index, sum(s.idx_scan) AS scans
    FROM pg_stat_user_indexes AS s LEFT JOIN pg_inherits AS h ON h.inhrelid = s.indexrelid
        LEFT JOIN pg_class AS parent ON parent.oid = h.inhparent
    WHERE s.schemaname = 'public' GROUP BY 1
""")
FLUSH = text("SELECT pg_stat_force_next_flush()")
Verb = Callable[[Session], object]


def _verbs(world: World) -> dict[str, Verb]:
    (token,) = world.tokens(1)
    ((report, email, payment),) = world.rows(
        "SELECT r.id, r.email, s.stripe_payment_id FROM public.generated_reports AS r"
        " JOIN public.user_sessions AS s ON s.id = r.session_id WHERE r.access_token = %s",
        token,
    )
    now = datetime.now(UTC)
    return {
        "check": lambda tx: reports.check(tx, token),
        "open": lambda tx: reports.open(tx, token),
        "list by e-mail": lambda tx: reports.list_by_email(tx, email),
        "extend": lambda tx: reports.extend(tx, report, expires_at=now + timedelta(days=999), reason="bench"),
        "purge": lambda tx: reports.purge_expired(tx, grace=timedelta(days=7), batch=10),
        "record": lambda tx: access_log.record(tx, report),
        "record many": lambda tx: access_log.record_many(tx, [access_log.Access(report_id=report)]),
        "history": lambda tx: access_log.history(tx, report),
        "count": lambda tx: access_log.count(tx, report),
        "counts per day": lambda tx: access_log.counts_per_day(tx, now.date()),
        "counts per day of a report": lambda tx: access_log.counts_per_day(tx, now.date(), report_id=report),
        "unusual access": lambda tx: access_log.unusual(tx, since=now - timedelta(days=2)),
        "session by e-mail": lambda tx: sessions.list_by_email(tx, email),
        "session by payment": lambda tx: sessions.find_by_payment(tx, payment),
        "reconcile payments": payments.reconcile,
    }


def by_index(bench: Bench, world: World) -> dict[str, list[str]]:
    """Index -> the verbs that read it. Each runs in a transaction that is taken back."""
    db = database(world, 1)
    owner: Any = database(World(world.server, world.name, world.server, world.reports, world.accesses), 1)
    used: dict[str, list[str]] = {}

    def scans() -> dict[str, int]:
        with owner.engine.begin() as connection:
            return {row.index: int(row.scans) for row in connection.execute(COUNTS)}

    def note(name: str, before: dict[str, int]) -> None:
        for index, number in scans().items():
            if number > before.get(index, 0):
                used.setdefault(index, []).append(name)

    for name, verb in _verbs(world).items():
        before = scans()
        who = identity.anonymous() if name in {"check", "open"} else identity.service()
        with db.transaction(as_=who) as tx:
            savepoint = tx.begin_nested()
            verb(tx)
            savepoint.rollback()
            tx.execute(FLUSH)
        note(name, before)
    ((report, session),) = world.rows("SELECT id, session_id FROM public.generated_reports LIMIT 1")
    for name, table, key in (
        ("delete a report", "generated_reports", report),
        ("delete a session", "user_sessions", session),
    ):
        before = scans()
        with owner.engine.begin() as connection:
            savepoint = connection.begin_nested()
            connection.execute(text(f"DELETE FROM public.{table} WHERE id = :key"), {"key": key})
            savepoint.rollback()
            connection.execute(FLUSH)
        note(name, before)
    db.close()
    owner.close()
    return used
