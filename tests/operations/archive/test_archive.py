"""Months that go to cold storage: which, as what, and what stays where it is."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from carnivore_db import errors
from carnivore_db.operations.archive import parquet
from carnivore_db.operations.archive.run import due, verify
from tests.operations.archive.archiving import (
    ACCESSES,
    BEGIN,
    END,
    LAST,
    LOGS,
    LOGS_NAME,
    MONTH,
    NAME,
    NOW,
    ODD,
    Archiving,
    stop_at,
)

pytest_plugins = ["tests.operations.archive.archive_fixtures"]


def test_a_month_leaves_the_database_for_a_file_that_has_all_its_rows(archiving_anywhere: Archiving) -> None:
    archiving = archiving_anywhere
    archiving.odd_month()
    before, counts = archiving.everything(), archiving.counts()
    rows = archiving.table(f"public.{NAME}")
    outcome = archiving.archive()
    (done,) = outcome.done
    assert (done.name, done.rows, outcome.failed, outcome.waiting, outcome.busy) == (
        NAME,
        len(ODD),
        {},
        [],
        False,
    )
    assert not archiving.exists(f"public.{NAME}")
    assert not archiving.exists(f"carnivore.{NAME}")
    assert sorted(archiving.file(done.file_url), key=repr) == rows
    assert (archiving.everything(), archiving.counts()) == (before, counts)
    assert archiving.ledger() == [(1, len(ODD), True, True)]
    ((size, file_size),) = archiving.ledger("bytes_before, bytes_after")
    assert (size, file_size) == (done.bytes_before, done.bytes_after)
    assert size >= 24_576  # a page of rows, and its two indexes with their first pages
    # Nothing is left to do.
    assert archiving.archive().done == []


def test_the_file_lies_in_a_folder_of_its_month_with_its_manifest(archiving: Archiving) -> None:
    archiving.odd_month()
    archiving.archive()
    folder = Path(archiving.location) / ACCESSES / "2024_02"
    assert sorted(path.name for path in folder.iterdir()) == ["_part-0001.json", "part-0001.parquet"]
    said = json.loads((folder / "_part-0001.json").read_text())
    file = folder / "part-0001.parquet"
    assert (said["table"], said["month"], said["rows"], said["file"], said["bytes"]) == (
        ACCESSES,
        "2024-02",
        len(ODD),
        file.name,
        file.stat().st_size,
    )
    assert (said["lower"], said["upper"]) == (
        "2024-02-01T00:00:00.000000+00:00",
        "2024-03-01T00:00:00.000000+00:00",
    )
    assert said["columns"] == [
        ["id", "bigint"],
        ["report_id", "bigint"],
        ["accessed_at", "timestamp with time zone"],
        ["ip_address", "inet"],
        ["user_agent", "text"],
    ]
    assert archiving.ledger("sha256, bytes_after, file_url") == [
        (said["sha256"], said["bytes"], file.as_uri())
    ]


def test_the_digest_is_what_the_manifest_says_it_is(archiving: Archiving) -> None:
    """Anybody can compute it without this package."""
    import hashlib  # noqa: PLC0415

    archiving.odd_month()
    rows = archiving.owner.execute(
        "SELECT id, report_id, (extract(epoch FROM accessed_at) * 1000000)::bigint, ip_address::text,"
        " user_agent"
        f" FROM public.{NAME} ORDER BY id, accessed_at"
    ).fetchall()
    archiving.archive()
    lines = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    assert parquet.read_manifest(archiving.url()).digest == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize(
    ("days", "early", "found"),
    [(365, timedelta(0), True), (365, timedelta(microseconds=1), False), (31, timedelta(0), True)],
)
def test_a_month_is_due_so_many_days_after_its_end(
    archiving: Archiving, days: int, early: timedelta, found: bool
) -> None:
    archiving.month()
    now = END + timedelta(days=days) - early
    with archiving.engine.connect() as connection:
        names = [one.name for one in due(connection, now=now, access_log_after_days=days)]
    assert names == ([NAME] if found else [])


@pytest.mark.parametrize(("days", "found"), [(29, True), (28, False)])
def test_logs_are_due_before_they_would_be_deleted_and_only_when_wanted(
    archiving: Archiving, days: int, found: bool
) -> None:
    archiving.month(LOGS)
    now = END + timedelta(days=days)
    with archiving.engine.connect() as connection:
        names = [one.name for one in due(connection, now=now, logs=True)]
        assert due(connection, now=now) == []
    assert names == ([LOGS_NAME] if found else [])


def test_months_are_utcs_in_every_time_zone_and_december_ends(archiving: Archiving) -> None:
    archiving.month(month=date(2024, 12, 1))
    archiving.owner.execute(f"ALTER DATABASE {archiving.database.name} SET TimeZone = 'Pacific/Auckland'")
    now = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=40)
    for moment, months in ((now, [date(2024, 12, 1)]), (now - timedelta(microseconds=1), [])):
        with archiving.engine.connect() as connection:
            assert [one.month for one in due(connection, now=moment, access_log_after_days=40)] == months
    (report, _) = archiving.reports()
    archiving.open(report, datetime(2024, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
    before = archiving.everything()
    archiving.archive()
    assert archiving.everything() == before
    assert archiving.ledger("month, rows") == [(date(2024, 12, 1), 1)]


def test_the_default_partition_and_what_somebody_made_by_hand_stay(archiving: Archiving) -> None:
    (report, _) = archiving.reports()
    archiving.owner.execute(
        "CREATE TABLE public.mine PARTITION OF public.report_access_log"
        " FOR VALUES FROM ('2021-01-01 00:00+00') TO ('2021-01-15 00:00+00')"
    )
    archiving.open(report, datetime(2021, 1, 5, tzinfo=UTC))
    archiving.open(report, datetime(2020, 1, 5, tzinfo=UTC))
    assert archiving.archive().done == []
    assert archiving.one("SELECT count(*) FROM public.report_access_log") == 2


def test_logs_keep_every_value(archiving_anywhere: Archiving) -> None:
    archiving = archiving_anywhere
    archiving.month(LOGS)
    person = archiving.one(
        "INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), 'ada@example.com') RETURNING id"
    )
    for level, moment, metadata in (
        ("info", BEGIN, None),
        ("error", LAST, '{"n": 1e400, "deep": [1.10, null, "\\u00fc"], "": {}}'),
        ("debug", BEGIN + timedelta(microseconds=7), "null"),
    ):
        archiving.owner.execute(
            "INSERT INTO conversation.logs (level, event_type, user_id, metadata, created_at)"
            " VALUES (%s, 'user_logout', %s, %s, %s)",
            [level, person if level == "error" else None, metadata, moment],
        )
    before, rows = archiving.everything(LOGS), archiving.table(f"conversation.{LOGS_NAME}", "id, metadata")
    assert archiving.archive().done == []
    (done,) = archiving.archive(logs=True).done
    assert (done.name, done.rows) == (LOGS_NAME, 3)
    assert archiving.everything(LOGS) == before
    restored = archiving.restore(LOGS)
    assert (restored.rows, restored.left_out) == (3, 0)
    assert archiving.table(f"conversation.{LOGS_NAME}", "id, metadata") == rows
    assert archiving.everything(LOGS) == before


def test_a_month_without_rows_is_archived_too(archiving: Archiving) -> None:
    archiving.month()
    assert [(done.name, done.rows) for done in archiving.archive().done] == [(NAME, 0)]
    assert archiving.restore().rows == 0
    assert archiving.attached()


def test_rows_that_come_after_their_month_was_archived_have_a_file_of_their_own(archiving: Archiving) -> None:
    (report, *_) = archiving.odd_month()
    archiving.archive()
    archiving.open(report, BEGIN + timedelta(days=1), "192.0.2.7", "late")
    before = archiving.everything()
    archiving.month()
    assert [(done.name, done.rows) for done in archiving.archive().done] == [(NAME, 1)]
    assert archiving.ledger("part, rows") == [(1, len(ODD)), (2, 1)]
    assert archiving.everything() == before
    restored = archiving.restore()
    assert (restored.rows, restored.left_out, restored.came_late) == (len(ODD) + 1, 0, 0)
    assert archiving.everything() == before


def test_without_a_location_nothing_is_archived_and_that_is_said(archiving: Archiving) -> None:
    archiving.odd_month()
    archiving.month(LOGS)
    archiving.location = None  # type: ignore[assignment]
    outcome = archiving.archive(logs=True)
    assert (outcome.done, sorted(outcome.waiting)) == ([], [LOGS_NAME, NAME])
    assert archiving.attached()
    assert archiving.ledger() == []


def test_another_databases_files_are_not_written_over(archiving: Archiving) -> None:
    archiving.odd_month()
    archiving.archive()
    content = Path(archiving.url().removeprefix("file://")).read_bytes()
    url = archiving.url()
    # As a copy of the database from before would.
    archiving.owner.execute("DELETE FROM carnivore.archived_partitions")
    archiving.month()
    outcome = archiving.archive()
    assert isinstance(outcome.failed[NAME], errors.StorageError)
    assert archiving.attached()
    assert Path(url.removeprefix("file://")).read_bytes() == content


def test_every_storage_that_fsspec_reaches_will_do(archiving: Archiving) -> None:
    archiving.location = "memory://cold"
    archiving.odd_month()
    before = archiving.everything()
    archiving.archive()
    assert archiving.everything() == before
    (found,) = [name for name in MemoryFileSystem.store if name.endswith(".parquet")]
    assert found == f"/cold/{ACCESSES}/2024_02/part-0001.parquet"
    archiving.restore()
    assert archiving.everything() == before
    MemoryFileSystem.store.clear()


@pytest.mark.parametrize("location", ["nowhere://cold", "s3://me:secret@bucket/cold"])
def test_a_location_that_cannot_be_is_refused(archiving: Archiving, location: str) -> None:
    archiving.odd_month()
    archiving.location = location
    with pytest.raises(errors.ConfigurationError) as refused:
        archiving.archive()
    assert "secret" not in str(refused.value)
    assert archiving.attached()


def test_two_runs_at_once_are_one_and_a_word(archiving: Archiving) -> None:
    archiving.odd_month()
    seen = []

    def second() -> None:
        seen.append(archiving.archive(logs=True))
        with pytest.raises(errors.Busy):
            archiving.restore()

    outcome = archiving.archive(on_step=stop_at("write", second))
    assert (seen[0].busy, seen[0].done) == (True, [])
    assert [done.name for done in outcome.done] == [NAME]
    # The turn is given back.
    assert not archiving.archive().busy


def test_verify_reads_every_file_again(archiving: Archiving) -> None:
    archiving.odd_month()
    archiving.month(month=date(2024, 1, 1))
    archiving.archive()
    assert [(part.month, problem) for part, problem in verify(archiving.engine)] == [
        (date(2024, 1, 1), None),
        (MONTH, None),
    ]
    url = archiving.ledger("file_url")[1][0]
    path = Path(url.removeprefix("file://"))
    whole = bytearray(path.read_bytes())
    for place in (4, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        problems = {part.month: problem for part, problem in verify(archiving.engine)}
        assert problems[date(2024, 1, 1)] is None
        assert isinstance(problems[MONTH], errors.ArchiveDamaged)
        with pytest.raises(errors.ArchiveDamaged):
            archiving.restore()
        assert not archiving.exists(f"public.{NAME}")
    path.unlink()
    assert isinstance({p.month: e for p, e in verify(archiving.engine)}[MONTH], errors.StorageError)
    path.write_bytes(whole)
    assert {problem for _, problem in verify(archiving.engine)} == {None}
    assert NOW > END
