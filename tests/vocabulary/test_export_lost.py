"""Exports whose workers were lost: how often they are taken again, and that nothing of them is left."""

import json
from datetime import timedelta
from uuid import UUID

import pytest

from carnivore_db import errors, identity
from carnivore_db.kit.storage import Storage
from carnivore_db.vocabulary import exports
from carnivore_db.vocabulary.exports import worker as export_worker
from tests.support.callers import Caller
from tests.vocabulary.export_support import LEASE, SERVICE, Exporting, Folder, name_of, take, taken

pytest_plugins = ["tests.vocabulary.export_fixtures"]

MOMENT = timedelta(seconds=10)


def give_up(caller: Caller, **options: object) -> list[tuple[UUID, str, str | None]]:
    found = caller.call(SERVICE, exports.give_up, lease=LEASE, **options)  # type: ignore[arg-type]
    return [(export.id, export.status, export.error_message) for export in found]


def test_a_silent_workers_export_is_taken_again_after_its_lease(
    exporting: Exporting, export_caller: Caller
) -> None:
    key = exporting.ask(exporting.learner())
    assert (taken(export_caller).retry_count, exporting.row(key)["data"]) == (0, {})
    for times in (1, 2, 3):
        assert take(export_caller) is None
        exporting.silence(key, LEASE - MOMENT)
        assert take(export_caller) is None
        exporting.silence(key, LEASE + MOMENT)
        again = taken(export_caller)
        assert (again.id, again.status, again.retry_count) == (key, "processing", times)
        assert (again.error_message, again.data, again.records_count) == (exports.LOST, {"lost": times}, 0)


@pytest.mark.parametrize("most", [0, 2])
def test_an_export_is_given_up_when_it_was_lost_once_more_than_allowed(
    exporting: Exporting, export_caller: Caller, most: int
) -> None:
    ada = exporting.learner()
    hopeless = exporting.ask(ada)
    for times in range(most + 1):
        assert give_up(export_caller, max_retries=most) == []
        assert taken(export_caller, max_retries=most).retry_count == times
        assert give_up(export_caller, max_retries=most) == []
        exporting.silence(hopeless)
    next_one = exporting.ask(ada)
    # It is nobody's to take any more, and none but `give_up` fails it.
    assert taken(export_caller, max_retries=most).id == next_one
    assert exporting.row(hopeless)["status"] == "processing"
    words = f"its worker was lost {most + 1} times"
    assert give_up(export_caller, max_retries=most) == [(hopeless, "failed", words)]
    row = exporting.row(hopeless)
    assert (row["status"], row["error_message"], row["retry_count"]) == ("failed", words, most)
    assert row["completed_at"] is not None
    assert give_up(export_caller, max_retries=most) == []


def test_retries_by_hand_are_counted_and_cost_no_export_its_chances(
    exporting: Exporting, export_caller: Caller
) -> None:
    key = exporting.ask(exporting.learner())
    for times in range(5):
        export = taken(export_caller, max_retries=1)
        assert (export.retry_count, export.data) == (times, {})
        export_caller.call(SERVICE, exports.fail, key, times, "no room")
        export_caller.call(SERVICE, exports.retry, key)
    # Lost once, retaken, lost twice, given up; asked for again, it begins to count anew.
    for attempt in (5, 7):
        assert taken(export_caller, max_retries=1).data == {}
        exporting.silence(key)
        again = taken(export_caller, max_retries=1)
        assert (again.retry_count, again.data) == (attempt + 1, {"lost": 1})
        exporting.silence(key)
        assert take(export_caller, max_retries=1) is None
        assert [found[0] for found in give_up(export_caller, max_retries=1)] == [key]
        assert export_caller.call(SERVICE, exports.retry, key).retry_count == attempt + 2


def test_progress_is_noted_beside_the_number_of_lost_workers(
    exporting: Exporting, export_caller: Caller
) -> None:
    key = exporting.ask(exporting.learner())
    exporting.lose(key)
    taken(export_caller)
    export_caller.call(SERVICE, exports.note_progress, key, 1, records=1, data={"done": 1, "total": 2})
    assert exporting.row(key)["data"] == {"lost": 1, "done": 1, "total": 2}


def test_no_more_are_given_up_at_once_than_asked_for(exporting: Exporting, export_caller: Caller) -> None:
    ada = exporting.learner()
    for _ in range(3):
        exporting.lose(exporting.ask(ada))
    assert len(give_up(export_caller, max_retries=0, limit=2)) == 2
    assert len(give_up(export_caller, max_retries=0, limit=2)) == 1


def test_another_workers_transaction_is_not_waited_for(exporting: Exporting, export_caller: Caller) -> None:
    exporting.lose(exporting.ask(exporting.learner()))
    with exporting.db.transaction(SERVICE) as tx:
        assert len(exports.give_up(tx, lease=LEASE, max_retries=0)) == 1
        assert give_up(export_caller, max_retries=0) == []


def test_a_learner_gives_nothing_up(exporting: Exporting) -> None:
    ada = exporting.learner()
    key = exporting.ask(ada)
    exporting.lose(key)
    with exporting.db.transaction(identity.user(ada, "")) as tx:
        assert exports.give_up(tx, lease=LEASE, max_retries=0) == []
    assert exporting.row(key)["status"] == "processing"


def leave(exporting: Exporting, folder: Folder, key: UUID, attempts: int) -> None:
    """What attempts leave whose workers were killed: one in the midst, all others at the very end."""
    ada = exporting.row(key)["user_id"]
    for attempt in range(attempts):
        folder.put(f"{ada}/{key}-{attempt}.csv{'.part' if attempt == 0 else ''}", b"mine")


def test_an_attempt_deletes_what_the_one_before_left(exporting: Exporting, folder: Folder) -> None:
    ada = exporting.learner()
    key = exporting.ask(ada)
    exporting.lose(key)
    leave(exporting, folder, key, 1)
    folder.put(f"{ada}/{UUID(int=1)}-0.csv", b"another export's")
    (outcome,) = exporting.work(folder.location, lease=LEASE)
    assert (outcome.status, outcome.export.retry_count) == ("completed", 1)
    assert set(folder.files()) == {name_of(outcome.export), f"{ada}/{UUID(int=1)}-0.csv"}
    assert folder.unfinished() == []


def test_an_export_that_is_given_up_leaves_no_file(exporting: Exporting, folder: Folder) -> None:
    key = exporting.ask(exporting.learner())
    exporting.lose(key)
    leave(exporting, folder, key, 1)
    (outcome,) = exporting.work(folder.location, lease=LEASE, max_retries=0)
    assert (outcome.export.id, outcome.status) == (key, "failed")
    row = exporting.row(key)
    assert (row["status"], row["error_message"]) == ("failed", "its worker was lost 1 times")
    assert (folder.files(), folder.unfinished()) == ({}, [])


def test_leftovers_that_cannot_be_deleted_end_no_worker_and_are_deleted_later(
    exporting: Exporting, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = exporting.learner()
    hopeless, lost = exporting.ask(ada), exporting.ask(ada)
    exporting.lose(hopeless, 2)
    exporting.lose(lost)
    storage = Storage(folder.location)
    for key, attempt in ((hopeless, 1), (lost, 0)):
        path = f"{ada}/{key}-{attempt}.csv"
        folder.put(path, b"half")
        exporting.tamper(key, data=json.dumps({**exporting.row(key)["data"], "file": storage.url(path)}))
    monkeypatch.setattr(storage, "check", lambda: None)

    def refuse(url: str) -> None:
        raise errors.StorageError("PermissionError")

    monkeypatch.setattr(export_worker.files, "delete", refuse)
    outcomes = list(export_worker.work(exporting.db, storage, lease=LEASE, max_retries=1))
    ends = [(outcome.export.id, outcome.status) for outcome in outcomes]
    assert ends == [(hopeless, "failed"), (lost, "completed")]
    assert exporting.row(hopeless)["status"] == "failed"
    monkeypatch.undo()
    assert exporting.expire().abandoned == 2
    assert set(folder.files()) == {name_of(outcomes[1].export)}


@pytest.mark.parametrize("ending", [".csv.part", ".csv"])
def test_a_lost_workers_file_of_an_erased_learner_is_deleted(
    exporting: Exporting, folder: Folder, ending: str
) -> None:
    ada = exporting.learner()
    key = exporting.ask(ada)
    exporting.lose(key)
    # What a worker notes before it writes.
    url = export_worker.Storage(folder.location).url(f"{ada}/{key}-0.csv")
    exporting.tamper(key, data=json.dumps({"file": url}))
    folder.put(f"{ada}/{key}-0{ending}", b"hers")
    exporting.erase(ada)
    exporting.work(folder.location, lease=LEASE)
    exporting.expire()
    assert (folder.files(), folder.unfinished()) == ({}, [])
