"""The archive beside those who work: readers and writers meet no error, in whatever order they lock."""

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any

import psycopg

from tests.operations.archive.archiving import LOGS, MONTH, NAME, Archiving
from tests.support import reports

pytest_plugins = ["tests.operations.archive.archive_fixtures"]

MONTHS = 3


@contextmanager
def at_work(
    archiving: Archiving,
    *works: Callable[[psycopg.Connection], Any],
    pauses: Mapping[Callable[[psycopg.Connection], Any], float] = MappingProxyType({}),
) -> Iterator[list[int]]:
    """Everybody does their work over and over while the block runs, with these pauses (seconds) between;
    whatever they meet is raised."""
    over = threading.Event()
    done = [0] * len(works)

    def client(number: int) -> None:
        database = archiving.database
        with database.connect(database.shape.login, autocommit=True) as connection:
            while not over.is_set():
                works[number](connection)
                done[number] += 1
                over.wait(pauses.get(works[number], 0))

    with ThreadPoolExecutor(len(works)) as pool:
        clients = [pool.submit(client, number) for number in range(len(works))]
        try:
            yield done
        finally:
            over.set()
        for one in clients:
            one.result()
    assert all(done)


def test_openers_recorders_and_readers_meet_no_error(archiving: Archiving) -> None:
    tokens = reports.make(archiving.owner, 20)
    first = min(tokens)
    months = [date(2024, 2 + number, 1) for number in range(MONTHS)]
    for month in months:
        archiving.month(month=month)
        archiving.owner.execute(
            "INSERT INTO public.report_access_log (report_id, accessed_at)"
            " SELECT %s + n %% 20, %s::timestamptz + n * interval '1 minute'"
            " FROM generate_series(1, 4000) AS n",
            [first, f"{month} 00:00+00"],
        )

    def opens(connection: psycopg.Connection) -> None:
        with connection.transaction():
            connection.execute("SET LOCAL ROLE anon")
            token = random.choice(list(tokens.values()))  # noqa: S311
            connection.execute("SELECT report_html FROM public.open_report(%s)", [token])

    def records(connection: psycopg.Connection) -> None:
        with connection.transaction():
            connection.execute("SET LOCAL ROLE service_role")
            report = random.choice(list(tokens))  # noqa: S311
            connection.execute("INSERT INTO public.report_access_log (report_id) VALUES (%s)", [report])

    def late(connection: psycopg.Connection) -> None:
        moment = datetime(2024, 2, 5, tzinfo=UTC) + timedelta(seconds=random.randrange(86_400))  # noqa: S311
        with connection.transaction():
            connection.execute("SET LOCAL ROLE service_role")
            connection.execute(
                "INSERT INTO public.report_access_log (report_id, accessed_at) VALUES (%s, %s)",
                [first, moment],
            )

    def reads(connection: psycopg.Connection) -> None:
        with connection.transaction():
            connection.execute("SET LOCAL ROLE service_role")
            connection.execute("SELECT count(*) FROM public.report_access_log WHERE report_id = %s", [first])

    # Who never pauses in either order of locks leaves no moment in which all of them are to be had.
    pauses = {records: 0.02, late: 0.02, reads: 0.02}
    with at_work(archiving, opens, opens, opens, opens, records, late, reads, pauses=pauses) as done:
        outcome = archiving.archive()
        assert outcome.failed == {}
        worked = sum(done)
        restored = archiving.restore()
    assert outcome.failed == {}
    assert len(outcome.done) == MONTHS
    assert worked > 0
    assert restored.left_out == 0
    everything = archiving.everything()
    assert max(everything.values()) == 1
    assert sum(archiving.counts().values()) == len(everything)
    assert archiving.attached(f"public.{NAME}")
    # Rows that came between archiving and restoring lie in their month, those after it too.
    assert archiving.one("SELECT count(*) FROM public.report_access_log_default") == 0


def test_reports_that_are_deleted_meanwhile_deadlock_with_nobody(archiving: Archiving) -> None:
    made = iter(reports.make(archiving.owner, 2000))
    archiving.month(month=MONTH)
    archiving.owner.execute(
        "INSERT INTO public.report_access_log (report_id, accessed_at)"
        " SELECT id, '2024-02-10'::timestamptz + id * interval '1 second' FROM public.generated_reports"
    )
    url = archiving.database

    def deletes(_: psycopg.Connection) -> None:
        with url.connect(autocommit=True) as owner:
            owner.execute("DELETE FROM public.generated_reports WHERE id = %s", [next(made, 0)])

    with at_work(archiving, deletes, deletes):
        outcome = archiving.archive()
        assert outcome.failed == {}
        restored = archiving.restore()
    left = archiving.one("SELECT count(*) FROM public.generated_reports")
    assert restored.rows + restored.left_out == outcome.done[0].rows
    assert archiving.one("SELECT count(*) FROM public.report_access_log") == left


def test_logs_are_archived_beside_those_who_log(archiving: Archiving) -> None:
    archiving.month(LOGS)

    def logs(connection: psycopg.Connection) -> None:
        with connection.transaction():
            connection.execute("SET LOCAL ROLE service_role")
            connection.execute(
                "INSERT INTO conversation.logs (level, event_type, created_at)"
                " VALUES ('info', 'user_logout', '2024-02-03'), ('info', 'user_logout', now())"
            )

    with at_work(archiving, logs, logs, logs):
        outcome = archiving.archive(logs=True)
    assert (outcome.failed, len(outcome.done)) == ({}, 1)
    assert max(archiving.everything(LOGS).values()) == 1
