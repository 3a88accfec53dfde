"""The archive killed at random points, as process, backend and server: no row is lost or doubled."""

import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest

from carnivore_db import Database
from tests.operations.archive.archiving import MONTH, NAME, Archiving, days
from tests.operations.archive.killing import Job, killable, survives
from tests.support.databases import APPLICATION, Shape, TestDatabase

pytestmark = pytest.mark.slow

MONTHS, ROWS, POINTS = 3, 15_000, 20
ASIDE = r"""
    SELECT oid::regclass FROM pg_class
    WHERE relnamespace = 'carnivore'::regnamespace AND relkind = 'r' AND relname ~ '_[0-9]{4}_[0-9]{2}$'
"""


@contextmanager
def opened(shape: Shape, name: str, location: str) -> Iterator[Archiving]:
    """A connection of its own: the last one may have been killed with its server."""
    database = TestDatabase(shape, name)
    db = Database(database.migrator_url)
    with database.connect(autocommit=True) as owner:
        yield Archiving(database, owner, db.engine, location)
    db.close()


def fill(archiving: Archiving) -> None:
    """Months of accesses, spread over reports and over each month."""
    (first, *_, last) = archiving.reports(10)
    for number in range(MONTHS):
        month = date(MONTH.year, MONTH.month + number, 1)
        archiving.month(month=month)
        archiving.owner.execute(
            "INSERT INTO public.report_access_log (report_id, accessed_at, ip_address, user_agent)"
            " SELECT %s + n %% (%s - %s), %s::timestamptz + n * interval '137.000001 seconds',"
            " '192.0.2.1'::inet + n %% 200, 'Browser ' || n FROM generate_series(1, %s) AS n",
            [first, last, first, f"{month} 00:00+00", ROWS],
        )


def test_the_archive_survives_every_kill(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    numbers = itertools.count()
    place = [""]
    with killable() as killed:
        shape = Shape("plain", killed.server, migrator="postgres", login=APPLICATION)
        shape.create("full")
        shape.migrate("full")
        with opened(shape, "full", "") as full:
            fill(full)
            before, counts = full.everything(), full.counts()
            february = days(full.table(f"public.{NAME}"))

        @contextmanager
        def fresh() -> Iterator[Job]:
            location = str(tmp_path / str(next(numbers)))
            place[0] = location
            with shape.clone("full") as database:
                yield Job(database, ["archive", "run", "--location", location])
            shutil.rmtree(location, ignore_errors=True)

        def check(database: TestDatabase, finished: bool) -> None:
            with opened(shape, database.name, place[0]) as found:
                assert found.everything() == before
                assert found.counts() == counts
                if finished:
                    assert Counter(row[1:] for row in found.ledger()) == {(ROWS, True, True): MONTHS}
                    assert not any(found.owner.execute(ASIDE).fetchall())
                    assert found.rollup() == february

        done = survives(killed, fresh, check, points=POINTS)
    record_property("killed", str(Counter((one.victim, one.ended) for one in done)))
    # Most of them had work left.
    assert sum(one.ended for one in done) <= POINTS // 4
