"""Exports asked for, found and asked for again, as a learner and as the service."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import uuid4

import pytest

from carnivore_db import errors, identity
from carnivore_db.vocabulary import exports
from carnivore_db.vocabulary.models import Export, ExportType
from carnivore_db.vocabulary.payloads import Filters
from tests.support.callers import Caller
from tests.vocabulary.export_support import SERVICE, Exporting

pytest_plugins = ["tests.vocabulary.export_fixtures"]

ENDINGS = {"csv": "csv", "json": "json", "anki": "apkg", "pdf": "pdf"}
FINISHED = {"records": 1, "size": 2, "url": "file:///export", "valid_for": timedelta(hours=1)}
# How a worker brings an export that it has taken into a state.
ENDS = {
    "completed": lambda tx, export: exports.complete(tx, export.id, export.retry_count, **FINISHED),
    "failed": lambda tx, export: exports.fail(tx, export.id, export.retry_count, "no room"),
    "expired": lambda tx, export: (ENDS["completed"](tx, export), exports.expire(tx, export.id)),
}


def bring(caller: Caller, export: Export, state: str) -> None:
    """Bring an export that waits, the only one, into a state."""
    if state == "pending":
        return
    taken = caller.call(SERVICE, exports.take)
    assert taken is not None
    assert taken.id == export.id
    if state != "processing":
        caller.call(SERVICE, ENDS[state], taken)


@pytest.mark.parametrize(
    ("export_type", "as_learner"), [("csv", True), ("json", False), ("anki", True), ("pdf", False)]
)
def test_an_export_of_each_type_waits_as_it_was_asked_for(
    exporting: Exporting, export_caller: Caller, export_type: ExportType, as_learner: bool
) -> None:
    learner = exporting.learner()
    who = identity.user(learner, "") if as_learner else SERVICE
    filters = Filters(
        since=datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2))), session_types=["qa", "mixed"]
    )
    asked = export_caller.call(who, exports.request, learner, export_type, filters)
    found = export_caller.call(who, exports.get, asked.id)
    for export in (asked, found):
        assert (export.user_id, export.export_type) == (learner, export_type)
        assert (export.export_format, export.status) == (ENDINGS[export_type], "pending")
        assert (export.retry_count, export.records_count, export.file_url) == (0, None, None)
        assert Filters.model_validate(export.filters) == filters
    # What was not given is not kept.
    assert set(exporting.row(asked.id)["filters"]) == {"since", "session_types"}


def test_filters_have_a_length(exporting: Exporting, export_caller: Caller) -> None:
    learner = exporting.learner()
    many = Filters(session_types=["description"] * 1000)
    with pytest.raises(errors.InvalidInput) as caught:
        export_caller.call(SERVICE, exports.request, learner, "csv", many)
    assert caught.value.field == "filters"
    assert export_caller.call(SERVICE, exports.list_by_status) == []


def test_another_learners_exports_are_out_of_reach(exporting: Exporting, export_caller: Caller) -> None:
    ada, eve = exporting.learner(), exporting.learner()
    export = export_caller.call(SERVICE, exports.request, ada, "csv")
    stranger = identity.user(eve, "")
    with pytest.raises(errors.PermissionRefused):
        export_caller.call(stranger, exports.request, ada, "csv")
    for state in ("pending", "failed"):
        bring(export_caller, export, state)
        with pytest.raises(errors.ExportNotFound):
            export_caller.call(stranger, exports.get, export.id)
        with pytest.raises(errors.ExportNotFound):
            export_caller.call(stranger, exports.retry, export.id)
        assert export_caller.call(stranger, exports.list_by_user, ada) == []
        assert export_caller.call(stranger, exports.list_by_status) == []
        assert export_caller.call(stranger, exports.take) is None
    assert exporting.row(export.id)["status"] == "failed"


def test_a_learner_does_not_do_a_workers_work(exporting: Exporting, export_caller: Caller) -> None:
    learner = exporting.learner()
    ada = identity.user(learner, "")
    export = export_caller.call(ada, exports.request, learner, "csv")
    assert export_caller.call(ada, exports.take) is None
    bring(export_caller, export, "processing")
    before = exporting.row(export.id)
    with pytest.raises(errors.PermissionRefused):
        export_caller.call(ada, exports.note_progress, export.id, 0, records=1, data={})
    with pytest.raises(errors.PermissionRefused):
        export_caller.call(ada, exports.complete, export.id, 0, **FINISHED)
    with pytest.raises(errors.PermissionRefused):
        export_caller.call(ada, exports.fail, export.id, 0, "why not")
    assert exporting.row(export.id) == before


def test_lists_are_newest_first_and_no_longer_than_asked_for(
    exporting: Exporting, export_caller: Caller
) -> None:
    ada, eve = exporting.learner(), exporting.learner()
    asked = [export_caller.call(SERVICE, exports.request, who, "csv").id for who in (ada, eve, ada, ada)]
    hers = [asked[3], asked[2], asked[0]]

    def ids(function: object, *args: object, **kwargs: object) -> list[object]:
        return [export.id for export in export_caller.call(SERVICE, function, *args, **kwargs)]  # type: ignore[arg-type]

    assert ids(exports.list_by_user, ada) == hers
    assert ids(exports.list_by_user, ada, limit=2) == hers[:2]
    assert ids(exports.list_by_status) == asked[::-1]
    assert ids(exports.list_by_status, limit=1) == asked[3:]
    taken = export_caller.call(SERVICE, exports.take)
    assert taken is not None
    assert ids(exports.list_by_status, "processing") == [taken.id] == asked[:1]
    assert ids(exports.list_by_status, "pending") == asked[:0:-1]
    assert ids(exports.list_by_status, "failed") == []
    assert ids(exports.list_by_user, ada, status="processing") == asked[:1]
    assert ids(exports.list_by_user, ada, status="pending") == hers[:2]
    assert ids(exports.list_by_user, ada, status="pending", limit=1) == hers[:1]
    assert ids(exports.list_by_user, eve, status="processing") == []
    mine = export_caller.call(identity.user(eve, ""), exports.list_by_status)
    assert [export.id for export in mine] == [asked[1]]


@pytest.mark.parametrize("as_learner", [True, False])
def test_a_failed_export_is_queued_again_and_the_retry_is_counted(
    exporting: Exporting, export_caller: Caller, as_learner: bool
) -> None:
    learner = exporting.learner()
    who = identity.user(learner, "") if as_learner else SERVICE
    export = export_caller.call(who, exports.request, learner, "csv")
    for times in (1, 2):
        bring(export_caller, export, "failed")
        assert exporting.row(export.id)["completed_at"] is not None
        again = export_caller.call(who, exports.retry, export.id)
        assert (again.status, again.retry_count, again.completed_at) == ("pending", times, None)
    bring(export_caller, export, "completed")
    done = exporting.row(export.id)
    assert (done["status"], done["retry_count"], done["error_message"]) == ("completed", 2, None)


@pytest.mark.parametrize(
    ("state", "as_learner"),
    [("pending", True), ("processing", True), ("processing", False), ("completed", True), ("expired", False)],
)
def test_only_a_failed_export_is_queued_again(
    exporting: Exporting, export_caller: Caller, state: str, as_learner: bool
) -> None:
    learner = exporting.learner()
    who = identity.user(learner, "") if as_learner else SERVICE
    export = export_caller.call(who, exports.request, learner, "csv")
    bring(export_caller, export, state)
    before = exporting.row(export.id)
    with pytest.raises(errors.ExportTransition) as caught:
        export_caller.call(who, exports.retry, export.id)
    assert (caught.value.old, caught.value.new) == (state, "pending")
    assert exporting.row(export.id) == before


def test_an_export_that_is_not_there_is_not_found(export_caller: Caller) -> None:
    for function in (exports.get, exports.retry, exports.expire):
        with pytest.raises(errors.ExportNotFound):
            export_caller.call(SERVICE, function, uuid4())
    with pytest.raises(errors.ExportLost):
        export_caller.call(SERVICE, exports.fail, uuid4(), 0, "gone")


def test_the_database_notes_when_an_export_began_and_ended(
    exporting: Exporting, export_caller: Caller
) -> None:
    began = datetime.now(UTC)
    export = export_caller.call(SERVICE, exports.request, exporting.learner(), "csv")
    bring(export_caller, export, "completed")
    row = exporting.row(export.id)
    assert began <= row["created_at"] <= row["started_at"] <= row["completed_at"] <= datetime.now(UTC)
    took = (row["completed_at"] - row["started_at"]).total_seconds()
    assert float(row["processing_time_seconds"]) == pytest.approx(took, abs=0.001)
    assert timedelta(minutes=59) < row["expires_at"] - row["completed_at"] <= timedelta(hours=1)
