"""Months that come back: identical, or whole but for what is gone; nothing is counted again."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from carnivore_db import errors
from carnivore_db.kit.storage import OWNER
from carnivore_db.operations.archive.run import archive_due
from carnivore_db.operations.verify.checks import verify
from carnivore_db.schema.areas import AREAS, schemas
from carnivore_db.schema.diff import compare
from carnivore_db.schema.files import expected
from carnivore_db.schema.snapshot import take
from tests.operations.archive.archiving import (
    ACCESSES,
    BEGIN,
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


def test_a_month_comes_back_identical(archiving_anywhere: Archiving) -> None:
    archiving = archiving_anywhere
    archiving.odd_month(12_000)  # more than are loaded at a time
    before, counts = archiving.everything(), archiving.counts()
    rows = archiving.table(f"public.{NAME}")
    archiving.archive()
    restored = archiving.restore()
    assert (restored.rows, restored.left_out, restored.came_late) == (12_000 + len(ODD), 0, 0)
    assert archiving.table(f"public.{NAME}") == rows
    assert archiving.attached()
    assert (archiving.everything(), archiving.counts()) == (before, counts)
    # It is a partition as every other one: closed, guarded, counting.
    archiving.open(archiving.one("SELECT min(id) FROM public.generated_reports"), BEGIN)
    assert sum(archiving.counts().values()) == sum(counts.values()) + 1
    assert archiving.table(f"public.{NAME}") != rows


def test_a_restored_partition_is_what_the_catalog_expects(archiving_anywhere: Archiving) -> None:
    archiving = archiving_anywhere
    archiving.odd_month()
    archiving.month(LOGS)
    with archiving.engine.connect() as connection:
        fresh = take(connection, schemas(connection))
    archiving.archive(logs=True)
    for parent in (ACCESSES, LOGS):
        archiving.restore(parent)
    with archiving.engine.connect() as connection:
        again = take(connection, schemas(connection))
    assert again == fresh
    assert compare(expected(*AREAS), again) == compare(expected(*AREAS), fresh)


def test_between_restored_and_present_months_those_in_the_archive_are_no_gaps(
    archiving_anywhere: Archiving,
) -> None:
    archiving = archiving_anywhere
    archiving.odd_month()
    for month in (3, 5):
        archiving.month(month=date(2024, month, 1))
    archiving.month(LOGS, date(2024, 4, 1))  # of another table
    archiving.archive(logs=True)
    archiving.restore()
    with archiving.engine.connect() as connection:
        partitions = verify(connection, now=datetime.now(UTC), months_ahead=3).sections[2]
    assert (partitions.status, partitions.differences) == ("ok", [])
    gaps = [gap for gap in partitions.facts["past_months_without_partition"] if " 2024-" in gap]
    assert gaps == [f"{ACCESSES} 2024-{month:02}" for month in (4, *range(6, 13))]


def test_accesses_of_reports_that_are_gone_are_left_out(archiving: Archiving) -> None:
    gone, kept = archiving.odd_month()
    left = [row for row in archiving.table(f"public.{NAME}") if row[1] == str(kept)]
    archiving.archive()
    archiving.owner.execute("DELETE FROM public.generated_reports WHERE id = %s", [gone])
    restored = archiving.restore()
    assert (restored.rows, restored.left_out) == (len(left), len(ODD) - len(left))
    assert archiving.table(f"public.{NAME}") == left


def test_a_report_that_is_deleted_while_its_month_is_loaded_takes_its_rows_along(
    archiving: Archiving,
) -> None:
    gone, kept = archiving.odd_month()
    left = [row for row in archiving.table(f"public.{NAME}") if row[1] == str(kept)]
    archiving.archive()

    def delete() -> None:
        archiving.owner.execute("DELETE FROM public.generated_reports WHERE id = %s", [gone])

    restored = archiving.restore(on_step=stop_at("attach", delete))
    assert (restored.rows, restored.left_out) == (len(left), len(ODD) - len(left))
    assert archiving.table(f"public.{NAME}") == left


def test_logs_of_people_who_are_gone_come_back_without_them(archiving: Archiving) -> None:
    archiving.month(LOGS)
    people = [
        archiving.one(
            "INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), %s) RETURNING id",
            f"{name}@example.com",
        )
        for name in ("ada", "bob")
    ]
    for person in people:
        archiving.owner.execute(
            "INSERT INTO conversation.logs (level, event_type, user_id, created_at)"
            " VALUES ('info', 'user_logout', %s, %s)",
            [person, BEGIN],
        )
    archiving.archive(logs=True)
    archiving.owner.execute("DELETE FROM auth.users WHERE id = %s", [people[0]])
    restored = archiving.restore(LOGS)
    assert (restored.rows, restored.left_out) == (2, 0)
    found = archiving.table(f"conversation.{LOGS_NAME}", "user_id")
    assert found == sorted([(None,), (str(people[1]),)], key=repr)


def test_an_event_type_that_is_gone_stops_the_restore_and_nothing_is_lost(archiving: Archiving) -> None:
    archiving.month(LOGS)
    archiving.owner.execute("INSERT INTO conversation.event_types VALUES ('odd', 'Odd.')")
    archiving.owner.execute(
        "INSERT INTO conversation.logs (level, event_type, created_at) VALUES ('info', 'odd', %s)", [BEGIN]
    )
    before = archiving.everything(LOGS)
    archiving.archive(logs=True)
    archiving.owner.execute("DELETE FROM conversation.event_types WHERE code = 'odd'")
    with pytest.raises(errors.InvalidInput) as refused:
        archiving.restore(LOGS)
    assert refused.value.field == "event_type"
    assert archiving.everything(LOGS) == before
    archiving.owner.execute("INSERT INTO conversation.event_types VALUES ('odd', 'Odd.')")
    assert archiving.restore(LOGS).rows == 1
    assert archiving.everything(LOGS) == before


def test_rows_of_the_default_partition_come_along(archiving: Archiving) -> None:
    (report, *_) = archiving.odd_month()
    archiving.archive()
    archiving.open(report, BEGIN + timedelta(hours=5), agent="late")
    before, counts = archiving.everything(), archiving.counts()
    restored = archiving.restore()
    assert (restored.rows, restored.came_late) == (len(ODD), 1)
    assert archiving.one(f"SELECT count(*) FROM public.{NAME}") == len(ODD) + 1
    assert archiving.one("SELECT count(*) FROM public.report_access_log_default") == 0
    assert (archiving.everything(), archiving.counts()) == (before, counts)


def test_a_month_that_has_a_partition_again_is_archived_first(archiving: Archiving) -> None:
    (report, *_) = archiving.odd_month()
    archiving.archive()
    archiving.open(report, BEGIN, agent="late")
    archiving.month()
    before = archiving.everything()
    with pytest.raises(errors.AlreadyExists):
        archiving.restore()
    assert archiving.everything() == before


def test_a_restored_month_stays_for_its_time_and_is_archived_again(archiving: Archiving) -> None:
    (report, *_) = archiving.odd_month()
    archiving.archive()
    first = archiving.url()
    restored = archiving.restore(keep=timedelta(days=7))
    assert restored.keep_until == NOW + timedelta(days=7)
    archiving.open(report, BEGIN + timedelta(days=2), agent="late")
    before = archiving.everything()
    assert archiving.archive(now=NOW + timedelta(days=7, microseconds=-1)).done == []
    (done,) = archiving.archive(now=NOW + timedelta(days=7)).done
    assert done.rows == len(ODD) + 1
    assert archiving.everything() == before
    # The copy from which it came back is gone, or the archive had its rows twice.
    assert archiving.ledger("part, rows") == [(2, len(ODD) + 1)]
    folder = Path(first.removeprefix("file://")).parent
    assert sorted(path.name for path in folder.iterdir()) == ["_part-0002.json", "part-0002.parquet"]
    assert archiving.restore().rows == len(ODD) + 1
    assert archiving.everything() == before


def test_a_restored_partition_that_somebody_dropped_leaves_the_archives_file_what_it_was(
    archiving: Archiving,
) -> None:
    (report, *_) = archiving.odd_month()
    archiving.archive()
    before = archiving.everything()
    archiving.restore()
    archiving.owner.execute(f"DROP TABLE public.{NAME}")
    assert archiving.everything() == before
    archiving.open(report, BEGIN, agent="late")
    archiving.month()
    archiving.archive()
    assert archiving.ledger("part, rows") == [(1, len(ODD)), (2, 1)]


def test_old_logs_that_were_restored_are_not_deleted_before_their_time(archiving: Archiving) -> None:
    archiving.month(LOGS)
    archiving.archive(logs=True)
    archiving.restore(LOGS)
    archiving.owner.execute("SELECT conversation.delete_old_logs()")
    assert archiving.attached(f"conversation.{LOGS_NAME}")
    archiving.owner.execute("UPDATE carnivore.archived_partitions SET keep_until = now()")
    archiving.owner.execute("SELECT conversation.delete_old_logs()")
    assert not archiving.attached(f"conversation.{LOGS_NAME}")
    assert archiving.restore(LOGS).rows == 0  # the archive has it still


def test_what_was_never_archived_cannot_come_back(archiving: Archiving) -> None:
    with pytest.raises(errors.NotArchived):
        archiving.restore()
    archiving.odd_month()
    archiving.archive()
    archiving.restore()
    with pytest.raises(errors.NotArchived):
        archiving.restore()
    with pytest.raises(errors.ConfigurationError):
        archiving.restore("public.user_sessions")


@pytest.mark.parametrize("step", ["verify:rows", "prepare", "load:rows", "attach"])
def test_a_restore_that_was_stopped_is_begun_anew(archiving_anywhere: Archiving, step: str) -> None:
    archiving = archiving_anywhere
    archiving.odd_month()
    before, counts = archiving.everything(), archiving.counts()
    archiving.archive()
    with pytest.raises(KeyboardInterrupt):
        archiving.restore(on_step=stop_at(step))
    assert archiving.everything() == before
    assert not archiving.attached()
    assert archiving.restore().rows == len(ODD)
    assert (archiving.everything(), archiving.counts()) == (before, counts)
    assert archiving.attached()
    assert MONTH.day == 1


def test_what_a_stopped_restore_left_is_in_nobodys_way(archiving: Archiving) -> None:
    """The month gets rows and a partition, and is archived again."""
    (report, *_) = archiving.odd_month()
    archiving.archive()
    with pytest.raises(KeyboardInterrupt):
        archiving.restore(on_step=stop_at("attach"))
    archiving.open(report, BEGIN, agent="late")
    archiving.month()
    before = archiving.everything()
    assert [done.rows for done in archiving.archive().done] == [1]
    assert archiving.everything() == before


def test_a_copy_neither_deletes_nor_overwrites_the_files_of_the_first(archiving: Archiving) -> None:
    """The month that a copy restores and archives again is the first one's only copy of its rows."""
    archiving.odd_month()
    archiving.archive()
    month = Path(archiving.location) / ACCESSES / "2024_02"
    before = {path.name: path.read_bytes() for path in month.iterdir()}
    owner = Path(archiving.location) / OWNER
    owner.write_text("1/2")
    archiving.restore(keep=timedelta(0))  # to read them does no harm
    refused = archiving.archive()
    assert isinstance(refused.failed[NAME], errors.FilesOfAnother)
    assert {path.name: path.read_bytes() for path in month.iterdir()} == before
    # With a location of its own it archives there, and leaves the first one's alone all the same.
    assert archive_due(archiving.engine, archiving.location + "-copy", now=NOW).failed == {}
    assert {path.name: path.read_bytes() for path in month.iterdir()} == before
    assert archiving.restore().rows == len(ODD)
