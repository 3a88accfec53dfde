"""The queue between workers: oldest first, each export one worker's, and nobody else's to speak of."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from carnivore_db import Database, errors
from carnivore_db.vocabulary import exports
from tests.support.callers import Caller
from tests.vocabulary.export_support import LEASE, NOON, SERVICE, Exporting, take, taken

pytest_plugins = ["tests.vocabulary.export_fixtures"]

WORKERS = 6
ROUNDS = 10
FINISHED = {"records": 9, "size": 9, "url": "file:///export", "valid_for": LEASE}
# Everything that a worker says of an export, by its attempt.
SAID: dict[str, Callable[[Session, UUID, int], object]] = {
    "note_progress": lambda tx, key, attempt: exports.note_progress(tx, key, attempt, records=9, data={}),
    "complete": lambda tx, key, attempt: exports.complete(tx, key, attempt, **FINISHED),
    "fail": lambda tx, key, attempt: exports.fail(tx, key, attempt, "no room"),
}


def queue(exporting: Exporting, number: int) -> list[UUID]:
    """Exports of one learner, asked for a second apart, in a random order of ids; oldest first."""
    made = exporting.owner.execute(
        "INSERT INTO vocabulary.export_history (user_id, export_type, export_format, created_at)"
        " SELECT %s, 'csv', 'csv', %s::timestamptz + number * interval '1 second'"
        " FROM generate_series(1, %s) AS number RETURNING id",
        [exporting.learner(), NOON, number],
    )
    return [row["id"] for row in made]


def test_exports_are_taken_oldest_first(exporting: Exporting, export_caller: Caller) -> None:
    asked = queue(exporting, 5)
    assert [taken(export_caller).id for _ in asked] == asked
    assert take(export_caller) is None


def test_workers_at_once_take_the_oldest_ones_and_none_waits_for_another(exporting: Exporting) -> None:
    asked = queue(exporting, WORKERS * ROUNDS)
    # Nobody commits before everybody has taken one: had anyone waited for a lock, nobody would go on.
    barrier = Barrier(WORKERS, timeout=60)

    def work(db: Database) -> list[UUID]:
        mine = []
        for _ in range(ROUNDS):
            with db.transaction(SERVICE) as tx:
                export = exports.take(tx)
                barrier.wait()
                assert export is not None
                mine.append(export.id)
            barrier.wait()
        return mine

    databases = [Database(exporting.database.app_url) for _ in range(WORKERS)]
    with ThreadPoolExecutor(WORKERS) as threads:
        found = list(threads.map(work, databases))
    for number, ids in enumerate(zip(*found, strict=True)):
        assert set(ids) == set(asked[number * WORKERS : (number + 1) * WORKERS])
    for db in databases:
        db.close()


def test_workers_that_do_not_know_of_each_other_never_take_the_same(exporting: Exporting) -> None:
    asked = queue(exporting, 100)
    for key in asked[::10]:  # a tenth was a lost worker's
        exporting.tamper(key, status="processing", updated_at=NOON)
    start = Barrier(WORKERS, timeout=60)

    def work(db: Database) -> list[UUID]:
        mine: list[UUID] = []
        start.wait()
        while True:
            with db.transaction(SERVICE) as tx:
                export = exports.take(tx)
            if export is None:
                return mine
            mine.append(export.id)

    databases = [Database(exporting.database.app_url) for _ in range(WORKERS)]
    with ThreadPoolExecutor(WORKERS) as threads:
        found = [key for mine in threads.map(work, databases) for key in mine]
    assert sorted(found) == sorted(asked)
    counted = exporting.owner.execute("SELECT id, status, retry_count FROM vocabulary.export_history")
    assert {tuple(row.values()) for row in counted} == {
        (key, "processing", int(number % 10 == 0)) for number, key in enumerate(asked)
    }
    for db in databases:
        db.close()


def test_progress_is_a_sign_of_life(exporting: Exporting, export_caller: Caller) -> None:
    (key,) = queue(exporting, 1)
    taken(export_caller)
    exporting.silence(key)
    export_caller.call(SERVICE, exports.note_progress, key, 0, records=1, data={"done": 1, "total": 2})
    assert take(export_caller) is None
    row = exporting.row(key)
    assert (row["records_count"], row["data"], row["retry_count"]) == (1, {"done": 1, "total": 2}, 0)


@pytest.mark.parametrize("say", list(SAID))
def test_what_a_worker_says_after_it_was_replaced_is_refused(
    exporting: Exporting, export_caller: Caller, say: str
) -> None:
    (key,) = queue(exporting, 1)
    taken(export_caller)
    exporting.silence(key)
    taken(export_caller)
    for state in ("processing", "completed"):
        before = exporting.row(key)
        assert before["status"] == state
        with pytest.raises(errors.ExportLost):
            export_caller.call(SERVICE, SAID[say], key, 0)
        assert exporting.row(key) == before
        if state == "processing":
            export_caller.call(SERVICE, SAID["complete"], key, 1)


@pytest.mark.parametrize("say", list(SAID))
def test_what_a_worker_says_of_an_export_that_is_not_its_own_is_refused(
    exporting: Exporting, export_caller: Caller, say: str
) -> None:
    (key,) = queue(exporting, 1)
    before = exporting.row(key)
    with pytest.raises(errors.ExportLost):
        export_caller.call(SERVICE, SAID[say], key, 0)  # nobody took it
    assert exporting.row(key) == before
    taken(export_caller)
    exporting.erase(exporting.row(key)["user_id"])
    with pytest.raises(errors.ExportLost):
        export_caller.call(SERVICE, SAID[say], key, 0)  # its learner is gone
