"""Exports of a learner's data (document 001): asked for, queued, finished, expired.

The queue is the table. A worker holds an export by its attempt (`retry_count`): once another worker has
taken it over, everything the first one still says of it is refused.
"""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from pydantic import Field
from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, text, tuple_, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from carnivore_db.errors import ExportLost, ExportNotFound, ExportTransition
from carnivore_db.kit.inputs import Limit, Validity, validated
from carnivore_db.kit.rows import FRESH, one
from carnivore_db.schema.base import JsonObject
from carnivore_db.settings import DEFAULTS
from carnivore_db.vocabulary.models import AbandonedExportFile, Export, ExportStatus, ExportType
from carnivore_db.vocabulary.payloads import Filters

FORMATS: dict[ExportType, str] = {"csv": "csv", "json": "json", "anki": "apkg", "pdf": "pdf"}
LOST = "its worker was lost"
LEASE = timedelta(seconds=DEFAULTS.export_lease_seconds)

Number = Annotated[int, Field(strict=True, ge=0)]
Retries = Annotated[int, Field(strict=True, ge=0, le=100)]


@validated
def request(tx: Session, user_id: UUID, export_type: ExportType, filters: Filters | None = None) -> Export:
    """Ask for an export, as the learner or the service; a worker makes the file.

    `filters` choose among the learner's sessions. Raises UserNotFound, PermissionRefused, InvalidInput.
    """
    chosen: JsonObject = filters.model_dump(mode="json", exclude_unset=True) if filters else {}
    values = {
        "user_id": user_id,
        "export_type": export_type,
        "export_format": FORMATS[export_type],
        "filters": chosen,
    }
    return tx.scalars(insert(Export).values(values).returning(Export)).one()


@validated
def get(tx: Session, export_id: UUID) -> Export:
    """The export of this id, with its progress. Raises ExportNotFound, also where row security hides it."""
    return one(tx, select(Export).where(Export.id == export_id), ExportNotFound)


@validated
def list_by_user(
    tx: Session, user_id: UUID, *, status: ExportStatus | None = None, limit: Limit = 50
) -> list[Export]:
    """A learner's exports, newest first; of one state when given."""
    return _newest(tx, status, limit, Export.user_id == user_id)


@validated
def list_by_status(tx: Session, status: ExportStatus | None = None, *, limit: Limit = 50) -> list[Export]:
    """Exports of all learners, newest first, as the service; of one state when given."""
    return _newest(tx, status, limit)


def _newest(tx: Session, status: str | None, limit: int, *which: ColumnElement[bool]) -> list[Export]:
    if status is not None:
        which = (*which, Export.status == status)
    newest = select(Export).where(*which).order_by(Export.created_at.desc(), Export.id).limit(limit)
    return list(tx.scalars(newest, execution_options=FRESH))


@validated
def retry(tx: Session, export_id: UUID) -> Export:
    """Queue a failed export again, as its learner or the service; the retry is counted.

    Raises ExportNotFound, ExportTransition when it did not fail.
    """
    failed = (Export.id == export_id, Export.status == "failed")
    again = _update(tx, *failed, status="pending")
    if again is None:
        raise ExportTransition(get(tx, export_id).status, "pending")
    return again


@validated
def take(
    tx: Session, *, lease: Validity = LEASE, max_retries: Retries = DEFAULTS.export_max_retries
) -> Export | None:
    """The oldest export that waits, now this worker's; None when there is none. As the service.

    One whose worker gave no sign of life for `lease` is taken again and the retry counted, `max_retries`
    times; then `give_up` finds it. Any number of workers may ask at once. Commit before the work begins.
    """
    waiting = or_(Export.status == "pending", and_(_silent(lease), _lost() < max_retries))
    oldest = select(Export).where(_QUEUED, waiting).order_by(Export.created_at, Export.id).limit(1)
    found = tx.scalars(oldest.with_for_update(skip_locked=True), execution_options=FRESH).one_or_none()
    if found is None:
        return None
    values: dict[str, object] = {"status": "processing", "records_count": 0, "data": {}}
    if found.status == "processing":
        values |= {"data": {"lost": found.data.get("lost", 0) + 1}, "error_message": LOST}
    return _update(tx, Export.id == found.id, **values)


@validated
def give_up(
    tx: Session,
    *,
    lease: Validity = LEASE,
    max_retries: Retries = DEFAULTS.export_max_retries,
    limit: Limit = 100,
) -> list[Export]:
    """Fail the exports whose workers were lost once more than `max_retries` times; returns them."""
    lost = select(Export).where(_QUEUED, _silent(lease), _lost() >= max_retries).limit(limit)
    found = tx.scalars(lost.with_for_update(skip_locked=True), execution_options=FRESH).all()
    for export in found:
        _update(tx, Export.id == export.id, status="failed", error_message=f"{LOST} {max_retries + 1} times")
    return list(found)


_WITHOUT_FILE = Export.data.op("-")("file")
# Word for word as the index of the queue has it.
_QUEUED = text("status IN ('pending', 'processing')")


def _silent(lease: timedelta) -> ColumnElement[bool]:
    return and_(Export.status == "processing", Export.updated_at < func.now() - lease)


def _lost() -> ColumnElement[int]:
    """How many workers an export lost since it was asked for."""
    return func.coalesce(Export.data["lost"].as_integer(), 0)


@validated
def note_progress(
    tx: Session, export_id: UUID, attempt: Number, *, records: Number, data: JsonObject
) -> None:
    """Say how far an export is, which is its worker's sign of life. Raises ExportLost."""
    _held(tx, export_id, attempt, records_count=records, data=Export.data.op("||")(data))


@validated
def complete(
    tx: Session,
    export_id: UUID,
    attempt: Number,
    *,
    records: Number,
    size: Number,
    url: Annotated[str, Field(max_length=2048)],
    valid_for: Validity,
) -> Export:
    """Finish an export whose file of `size` bytes lies whole at `url`, for `valid_for`. Raises ExportLost."""
    return _held(
        tx,
        export_id,
        attempt,
        status="completed",
        error_message=None,
        data=_WITHOUT_FILE,  # `file_url` has it from now on, until it expires
        records_count=records,
        file_size_bytes=size,
        file_url=url,
        expires_at=func.now() + valid_for,
    )


@validated
def fail(
    tx: Session,
    export_id: UUID,
    attempt: Number,
    why: Annotated[str, Field(max_length=500)],
    *,
    file_gone: bool = True,
) -> Export:
    """Finish an export without a file and say why. Raises ExportLost.

    Unless `file_gone`, what was written lies about still, and the next `expire` deletes it.
    """
    values: dict[str, object] = {"data": _WITHOUT_FILE} if file_gone else {}
    return _held(tx, export_id, attempt, status="failed", error_message=why, **values)


@validated
def take_expired(tx: Session, *, after: Export | None = None) -> Export | None:
    """The next completed export whose file's time has come, locked; `after`: the one seen before it."""
    due = select(Export).where(Export.status == "completed", Export.expires_at <= func.now())
    if after is not None:
        due = due.where(tuple_(Export.expires_at, Export.id) > (after.expires_at, after.id))
    due = due.order_by(Export.expires_at, Export.id).limit(1).with_for_update(skip_locked=True)
    return tx.scalars(due, execution_options=FRESH).one_or_none()


@validated
def count_expired(tx: Session) -> int:
    """How many files are to be deleted: of exports whose time has come, and of none any more."""
    due = select(func.count()).where(Export.status == "completed", Export.expires_at <= func.now())
    left = select(func.count()).select_from(AbandonedExportFile)
    return (tx.scalar(due) or 0) + (tx.scalar(left) or 0)


@validated
def expire(tx: Session, export_id: UUID) -> Export:
    """Note that an export's file is gone; its URL goes too. Raises ExportNotFound, ExportTransition."""
    return one(tx, _changed(Export.id == export_id, status="expired", file_url=None), ExportNotFound)


@validated
def next_abandoned(tx: Session, *, after: str = "") -> str | None:
    """The next file that no export has any more; `after`: the URL seen before it."""
    left = select(AbandonedExportFile.file_url).where(AbandonedExportFile.file_url > after)
    return tx.scalars(left.order_by(AbandonedExportFile.file_url).limit(1)).one_or_none()


@validated
def forget_abandoned(tx: Session, url: str) -> None:
    """Note that such a file is gone."""
    tx.execute(delete(AbandonedExportFile).where(AbandonedExportFile.file_url == url))


def _held(tx: Session, export_id: UUID, attempt: int, **values: object) -> Export:
    mine = (Export.id == export_id, Export.status == "processing", Export.retry_count == attempt)
    return one(tx, _changed(*mine, **values), ExportLost)


def _update(tx: Session, *which: ColumnElement[bool], **values: object) -> Export | None:
    return tx.scalars(_changed(*which, **values), execution_options=FRESH).one_or_none()


def _changed(*which: ColumnElement[bool], **values: object) -> ReturningUpdate[Export]:
    return update(Export).where(*which).values(**values).returning(Export)
