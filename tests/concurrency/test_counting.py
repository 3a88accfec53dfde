"""Counting accesses from many connections at once: nothing deadlocks, nothing is lost, the law holds."""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import text

from carnivore_db import Database, Settings, identity
from carnivore_db.weekly import access_log
from tests.concurrency.clients import CLIENTS, at_once, watched
from tests.support import reports
from tests.support.databases import TestDatabase, one, somebody_waits

MODES = ("immediate", "deferred")


def as_role(connection: psycopg.Connection, role: str, mode: str) -> None:
    connection.execute(
        "SELECT set_config('role', %s, true), set_config('carnivore.access_counting', %s, true)",
        [role, mode],
    )


def lawful(connection: psycopg.Connection) -> None:
    assert connection.execute(reports.BROKEN).fetchall() == []


@contextmanager
def gone_is_no_error() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        if error.diag.constraint_name not in {"report_not_found", "report_access_log_report_id_fkey"}:
            raise


def totals(database: TestDatabase) -> tuple[int, int, int]:
    """Rows of the log, sum of the columns, number of pending deltas."""
    with database.connect() as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM public.report_access_log),"
            " (SELECT sum(access_count) FROM public.generated_reports),"
            " (SELECT count(*) FROM public.report_access_pending)"
        ).fetchone()
    assert row is not None
    return row[0], int(row[1]), row[2]


def fold_all(database: TestDatabase) -> None:
    with database.connect(database.shape.login, autocommit=True) as connection:
        while True:
            with connection.transaction():
                as_role(connection, "service_role", "immediate")
                row = connection.execute("SELECT public.fold_report_access(10)").fetchone()
            if row == (0,):
                return


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("spread", [1, 200], ids=["one hot report", "200 reports"])
def test_no_open_is_lost(plain_database: TestDatabase, mode: str, spread: int) -> None:
    each = 250
    with plain_database.connect() as connection:
        tokens = list(reports.make(connection, spread).values())

    def open_reports(number: int, connection: psycopg.Connection) -> None:
        choose = random.Random(number)  # noqa: S311 - a test's choice, repeatable
        for _ in range(each):
            with connection.transaction():
                as_role(connection, "anon", mode)
                connection.execute("SELECT report_html FROM public.open_report(%s)", [choose.choice(tokens)])

    with watched(plain_database, lawful):
        at_once(plain_database, open_reports)
    rows, counted, pending = totals(plain_database)
    assert rows == CLIENTS * each
    if mode == "immediate":
        assert (counted, pending) == (rows, 0)
    fold_all(plain_database)
    assert totals(plain_database) == (rows, rows, 0)


@pytest.mark.parametrize("mode", MODES)
def test_no_overlapping_batch_is_lost(plain_database: TestDatabase, mode: str) -> None:
    """1,000-row batches over the same reports, their ids in random order, by raw INSERT as the service."""
    batches, size = 4, 1000
    with plain_database.connect() as connection:
        ids = list(reports.make(connection, 300))

    def insert_batches(number: int, connection: psycopg.Connection) -> None:
        choose = random.Random(number)  # noqa: S311 - a test's choice, repeatable
        for _ in range(batches):
            with connection.transaction():
                as_role(connection, "service_role", mode)
                connection.execute(
                    "INSERT INTO public.report_access_log (report_id) SELECT unnest(%s::bigint[])",
                    [choose.choices(ids, k=size)],
                )

    with watched(plain_database, lawful):
        at_once(plain_database, insert_batches)
    rows, counted, pending = totals(plain_database)
    assert rows == CLIENTS * batches * size
    if mode == "immediate":
        assert (counted, pending) == (rows, 0)
    fold_all(plain_database)
    assert totals(plain_database) == (rows, rows, 0)


def test_deltas_do_not_pile_up_while_several_fold(plain_database: TestDatabase) -> None:
    """Half write deferred accesses, half fold: at every moment the law, at the end no delta."""
    with plain_database.connect() as connection:
        ids = list(reports.make(connection, 20))
    written = threading.Semaphore(0)
    writers = CLIENTS // 2

    def write_or_fold(number: int, connection: psycopg.Connection) -> None:
        if number < writers:
            for turn in range(100):
                with connection.transaction():
                    as_role(connection, "service_role", "deferred")
                    connection.execute(
                        "INSERT INTO public.report_access_log (report_id) SELECT unnest(%s::bigint[])",
                        [[ids[(turn + place) % len(ids)] for place in range(10)]],
                    )
            for _ in range(writers):
                written.release()
            return
        finished = 0
        while finished < writers:
            finished += written.acquire(blocking=False)
            with connection.transaction():
                as_role(connection, "service_role", "immediate")
                connection.execute("SELECT public.fold_report_access(5)")

    with watched(plain_database, lawful):
        at_once(plain_database, write_or_fold)
    fold_all(plain_database)
    assert totals(plain_database) == (writers * 1000, writers * 1000, 0)


def test_deleting_reports_meets_opening_counting_and_folding(plain_database: TestDatabase) -> None:
    """A deleted report takes its accesses along; nobody waits in a circle for it."""
    with plain_database.connect() as connection:
        made = reports.make(connection, 400)
    ids, tokens = list(made), list(made.values())

    def take_part(number: int, connection: psycopg.Connection) -> None:
        choose = random.Random(number)  # noqa: S311 - a test's choice, repeatable
        for turn in range(100):
            with connection.transaction():
                if number == 0:
                    as_role(connection, "service_role", "immediate")
                    gone = ids[turn * 2 : turn * 2 + 2]
                    connection.execute("DELETE FROM public.generated_reports WHERE id = ANY(%s)", [gone])
                elif number < 3:
                    as_role(connection, "service_role", "immediate")
                    connection.execute("SELECT public.fold_report_access(5)")
                else:
                    as_role(connection, "anon", MODES[number % 2])
                    # Gone before it was opened, or (deferred mode locks nothing) while it was.
                    with gone_is_no_error(), connection.transaction():
                        connection.execute("SELECT public.open_report(%s)", [choose.choice(tokens)])

    with watched(plain_database, lawful):
        at_once(plain_database, take_part)
    fold_all(plain_database)
    with plain_database.connect() as connection:
        left = connection.execute("SELECT count(*) FROM public.generated_reports").fetchone()
        assert left == (200,)
        assert connection.execute(reports.BROKEN).fetchall() == []


def test_a_locked_report_does_not_hold_up_the_folding_of_others(plain_database: TestDatabase) -> None:
    with plain_database.connect() as connection:
        first, second = reports.make(connection, 2)
        as_role(connection, "service_role", "deferred")
        connection.execute(
            "INSERT INTO public.report_access_log (report_id) VALUES (%s), (%s)", [first, second]
        )
    with plain_database.connect() as holder, plain_database.connect(autocommit=True) as folder:
        holder.execute("SELECT FROM public.generated_reports WHERE id = %s FOR UPDATE", [first])
        assert folder.execute("SELECT public.fold_report_access(1)").fetchone() == (1,)
        assert folder.execute("SELECT public.fold_report_access(1)").fetchone() == (0,)
    fold_all(plain_database)
    assert totals(plain_database) == (2, 2, 0)


def test_whoever_records_an_access_queues_for_the_report(plain_database: TestDatabase) -> None:
    """A share lock on the report beside the first one's update would be a multixact: many are slow."""
    with plain_database.connect() as connection:
        (report,) = reports.make(connection, 1)
    with (
        closing(Database(plain_database.app_url)) as db,
        plain_database.connect(autocommit=True) as owner,
        ThreadPoolExecutor(1) as pool,
    ):
        owner.row_factory = dict_row

        def record() -> None:
            with db.transaction(identity.service()) as tx:
                access_log.record(tx, report)

        with db.transaction(identity.service()) as first:
            access_log.record(first, report)
            mine = first.execute(text("SELECT pg_current_xact_id()::text")).scalar_one()
            second = pool.submit(record)
            somebody_waits(owner)
            locked_by = one(owner, "SELECT xmax::text FROM public.generated_reports")
        second.result()
    assert locked_by == mine
    assert totals(plain_database) == (2, 2, 0)


def test_whoever_records_a_deferred_access_waits_for_nobody(plain_database: TestDatabase) -> None:
    with plain_database.connect() as connection:
        (report,) = reports.make(connection, 1)
    deferred = Settings(access_counting="deferred")
    with (
        closing(Database(plain_database.app_url, settings=deferred)) as db,
        db.transaction(identity.service()) as first,
        db.transaction(identity.service()) as second,
    ):
        for tx in (first, second):
            tx.execute(text("SET LOCAL lock_timeout = '1ms'"))
            access_log.record(tx, report)
    assert totals(plain_database) == (2, 0, 2)


@pytest.mark.document(30)
@pytest.mark.parametrize("parent", ["public.report_access_log", "conversation.logs"])
def test_a_month_made_by_many_at_once_is_made_once(plain_database: TestDatabase, parent: str) -> None:
    made = []

    def make_month(number: int, _: psycopg.Connection) -> None:
        with plain_database.connect(autocommit=True) as owner:
            for month in ("2031-01-01", "2031-02-01", "2031-03-01"):
                row = owner.execute("SELECT carnivore.create_partition(%s, %s)", [parent, month]).fetchone()
                made.append(row == (True,))

    at_once(plain_database, make_month)
    assert (made.count(True), made.count(False)) == (3, 3 * CLIENTS - 3)
