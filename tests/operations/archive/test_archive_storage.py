"""The archive in S3, and as much memory for many rows as for few."""

from collections.abc import Callable

import pytest

from carnivore_db import errors
from tests.operations.archive.archiving import BEGIN, NAME, ODD, Archiving, stop_at
from tests.support.processes import python
from tests.vocabulary.export_s3 import S3_SECRET, Bucket

pytest_plugins = ["tests.operations.archive.archive_fixtures", "tests.vocabulary.export_fixtures"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(moto|botocore|aiobotocore).*"),
]

FEW, MANY = 5_000, 500_000
MOST = 80 * 1024  # kB: two row groups and what PostgreSQL's driver holds
ARCHIVE = """
from datetime import UTC, datetime
from pathlib import Path
from carnivore_db import Database
from carnivore_db.operations.archive.run import archive_due

def memory(which):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which))

database = Database()
before = memory("VmRSS:")
outcome = archive_due(database.engine, {location!r}, now=datetime.now(UTC))
print(outcome.done[0].rows, memory("VmHWM:") - before)
"""


def test_a_month_goes_to_s3_and_comes_back(archiving: Archiving, bucket: Bucket) -> None:
    archiving.location = bucket.location.replace("exports", "exports/cold")
    archiving.odd_month()
    before, counts = archiving.everything(), archiving.counts()
    archiving.archive()
    folder = "cold/public.report_access_log/2024_02"
    assert sorted(bucket.files()) == [f"{folder}/_part-0001.json", f"{folder}/part-0001.parquet"]
    assert archiving.everything() == before
    assert S3_SECRET not in str(archiving.ledger("file_url"))
    name = f"{folder}/part-0001.parquet"
    content = bucket.files()[name]
    bucket.put(name, content[:-1] + b"?")
    with pytest.raises(errors.ArchiveDamaged):
        archiving.restore()
    bucket.put(name, content)
    archiving.restore()
    assert (archiving.everything(), archiving.counts()) == (before, counts)
    # The second archiving puts a new file in its place.
    archiving.owner.execute("UPDATE carnivore.archived_partitions SET keep_until = now() - interval '1 day'")
    archiving.archive()
    assert sorted(bucket.files()) == [f"{folder}/_part-0002.json", f"{folder}/part-0002.parquet"]
    assert archiving.everything() == before


@pytest.mark.parametrize("point", ["write:rows", "read back", "compare"])
def test_a_run_that_ends_at_a_step_is_finished_in_s3(
    archiving: Archiving, bucket: Bucket, point: str
) -> None:
    archiving.location = bucket.location
    archiving.odd_month()
    before = archiving.everything()
    with pytest.raises(KeyboardInterrupt):
        archiving.archive(on_step=stop_at(point))
    assert archiving.everything() == before
    assert bucket.unfinished() == []
    assert [done.name for done in archiving.archive().done] == [NAME]
    assert archiving.everything() == before
    assert archiving.ledger("rows") == [(len(ODD),)]


def test_memory_does_not_grow_with_the_rows(
    archiving: Archiving, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    url = archiving.database.migrator_url.render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", url)
    (report, _) = archiving.reports()
    grown = {}
    for number in (FEW, MANY):
        archiving.month()
        archiving.owner.execute(
            "INSERT INTO public.report_access_log (report_id, accessed_at, user_agent)"
            " SELECT %s, %s + n * interval '1 second', repeat('Browser ' || n, 10)"
            " FROM generate_series(1, %s) AS n",
            [report, BEGIN, number],
        )
        with python(ARCHIVE.format(location=archiving.location)) as process:
            said, _ = process.communicate()
        rows, growth = said.split()
        assert int(rows) == number
        grown[number] = int(growth)
    record_property("kB by rows", str(grown))
    print(grown)  # noqa: T201
    assert grown[MANY] - grown[FEW] < MOST
