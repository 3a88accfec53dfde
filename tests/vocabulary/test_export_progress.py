"""Progress of an export, as its learner sees it on another connection while it runs."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from carnivore_db import errors
from carnivore_db.vocabulary.exports import worker as export_worker
from carnivore_db.vocabulary.models import ExportType
from tests.vocabulary.export_support import TYPES, Exporting, Folder, counted

pytest_plugins = ["tests.vocabulary.export_fixtures"]

SESSIONS = 12
# The worker waits in its callback: what another connection sees meanwhile stays as it is.
Seen = list[tuple[int, int | None, dict[str, Any]]]


def watched(exporting: Exporting, learner: UUID, seen: Seen) -> Callable[..., None]:
    """A callback that reads, as the learner, what the export's row says."""

    def on_progress(export: Any, done: int, total: int) -> None:
        assert total == SESSIONS
        now = exporting.get(export.id, learner)
        assert (now.status, now.started_at is not None, now.completed_at) == ("processing", True, None)
        assert (now.file_url, now.file_size_bytes) == (None, None)
        seen.append((done, now.records_count, counted(now)))

    return on_progress


@pytest.mark.parametrize("export_type", TYPES)
def test_a_learner_sees_how_far_an_export_is(
    exporting: Exporting, folder: Folder, export_type: ExportType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_worker, "_SIGN_OF_LIFE", 0)  # every session is noted, not every other second
    ada = exporting.learner()
    exporting.learn(ada, SESSIONS, session_data={"vocabulary": [{"word": "uno"}, {"word": "dos"}]})
    key, seen = exporting.ask(ada, export_type), Seen()
    exporting.work(folder.location, on_progress=watched(exporting, ada, seen))
    # A deck's records are its notes, of which every session has the same two.
    records = [2] * SESSIONS if export_type == "anki" else list(range(1, SESSIONS + 1))
    assert seen == [(done, count, {"done": done, "total": SESSIONS}) for done, count in enumerate(records, 1)]
    done = exporting.get(key, ada)
    assert (done.status, done.records_count) == ("completed", records[-1])
    assert counted(done) == {"done": SESSIONS, "total": SESSIONS}


def test_the_first_session_is_noted_at_once(exporting: Exporting, folder: Folder) -> None:
    ada = exporting.learner()
    exporting.learn(ada, SESSIONS)
    exporting.ask(ada)
    seen = Seen()
    exporting.work(folder.location, on_progress=watched(exporting, ada, seen))
    assert seen[0] == (1, 1, {"done": 1, "total": SESSIONS})


def test_nobody_else_sees_it(exporting: Exporting, folder: Folder) -> None:
    ada, eve = exporting.learner(), exporting.learner()
    exporting.learn(ada, 1)
    exporting.ask(ada)
    looked = []

    def on_progress(export: Any, done: int, total: int) -> None:
        with pytest.raises(errors.ExportNotFound):
            exporting.get(export.id, eve)
        looked.append(done)

    exporting.work(folder.location, on_progress=on_progress)
    assert looked == [1]


def test_a_retry_begins_at_nothing(exporting: Exporting, folder: Folder) -> None:
    ada = exporting.learner()
    exporting.learn(ada, SESSIONS)
    key = exporting.ask(ada)

    def on_progress(*_: object) -> None:
        raise LookupError

    exporting.work(folder.location, on_progress=on_progress)
    assert exporting.get(key).records_count == 1
    exporting.retry(key)
    seen = Seen()
    exporting.work(folder.location, on_progress=watched(exporting, ada, seen))
    assert seen[0] == (1, 1, {"done": 1, "total": SESSIONS})
