"""The worker of exports: takes one from the queue, streams its file, notes the result; and expires files.

It reads as the learner, bound by row security: whatever a filter says, an export holds nobody else's rows.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from carnivore_db import identity
from carnivore_db.database import Database
from carnivore_db.errors import CarnivoreError, ExportLost
from carnivore_db.vocabulary import export_storage, exports
from carnivore_db.vocabulary.export_files import SELECTED, WRITERS
from carnivore_db.vocabulary.export_storage import Storage
from carnivore_db.vocabulary.models import Export, LearningSession
from carnivore_db.vocabulary.payloads import Filters

# Sessions fetched at a time: at 64 KiB of material each, 13 MB at the very most.
_FETCH = 200
_SIGN_OF_LIFE = 2  # seconds

# Called with the export, the sessions written and those there are.
OnProgress = Callable[[Export, int, int], Any]


def _silent(export: Export, done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class Outcome:
    """What became of an export: completed, failed, or lost to another worker."""

    export: Export
    status: str


def work(
    db: Database,
    storage: Storage,
    *,
    lease: timedelta = timedelta(minutes=5),
    max_retries: int = 3,
    on_progress: OnProgress = _silent,
) -> Iterator[Outcome]:
    """Make the files of all exports that wait, oldest first, and say of each what became of it.

    Any number of workers may run. An export whose worker gave no sign of life for `lease` is taken again, at
    most `max_retries` times. A failure is noted in the export, and the next one's turn comes. Raises
    Unavailable when the database is lost; the export is then taken again after its lease.
    """
    while True:
        with db.transaction(identity.service()) as tx:
            export = exports.take(tx, lease=lease, max_retries=max_retries)
        if export is None:
            return
        yield _make(db, storage, export, on_progress)


def _make(db: Database, storage: Storage, export: Export, on_progress: OnProgress) -> Outcome:
    path = f"{export.user_id}/{export.id}-{export.retry_count}.{export.export_format}"
    valid_for = timedelta(hours=db.settings.export_validity_hours)
    try:
        records = _write(db, storage, path, export, on_progress)
        size, url = storage.size(path), storage.url(path)
        with db.transaction(identity.service()) as tx:
            made = exports.complete(
                tx, export.id, export.retry_count, records=records, size=size, url=url, valid_for=valid_for
            )
    except ExportLost:
        export_storage.delete(storage.url(path))
        return Outcome(export, "lost")
    except Exception as error:  # noqa: BLE001 - whatever a storage's library raises
        return _failed(db, export, error)
    return Outcome(made, made.status)


def _failed(db: Database, export: Export, error: Exception) -> Outcome:
    try:
        with db.transaction(identity.service()) as tx:
            failed = exports.fail(tx, export.id, export.retry_count, _why(error))
    except ExportLost:
        return Outcome(export, "lost")
    return Outcome(failed, failed.status)


def _why(error: Exception) -> str:
    """The error's kind and its system's words: other text could quote a row, a path or a credential."""
    if isinstance(error, CarnivoreError):
        return str(error)[:500]
    words = error.strerror if isinstance(error, OSError) and error.strerror else ""
    return f"{type(error).__name__}: {words}"[:500] if words else type(error).__name__


def _write(db: Database, storage: Storage, path: str, export: Export, on_progress: OnProgress) -> int:
    """Write the file. Returns how many records it holds."""
    records = 0
    with db.transaction(identity.user(export.user_id, "")) as tx:
        total = tx.scalar(_chosen(export, func.count())) or 0
        said = -float(_SIGN_OF_LIFE)
        with storage.writing(path) as file:
            sessions = _stream(tx, export)
            for done, records in enumerate(WRITERS[export.export_type](file, export.user_id, sessions), 1):
                if time.monotonic() - said >= _SIGN_OF_LIFE:
                    _say(db, export, records, done, total)
                    said = time.monotonic()
                on_progress(export, done, total)
            _say(db, export, records, total, total)
    return records


def _say(db: Database, export: Export, records: int, done: int, total: int) -> None:
    with db.transaction(identity.service()) as tx:
        exports.note_progress(
            tx, export.id, export.retry_count, records=records, data={"done": done, "total": total}
        )


def _stream(tx: Session, export: Export) -> Iterable[Any]:
    chosen = _chosen(export, *SELECTED).order_by(LearningSession.started_at, LearningSession.id)
    return tx.execute(chosen, execution_options={"yield_per": _FETCH})


def _chosen(export: Export, *what: Any) -> Select[Any]:
    filters = Filters.model_validate(export.filters)
    chosen = select(*what).where(LearningSession.user_id == export.user_id)
    if filters.since is not None:
        chosen = chosen.where(LearningSession.started_at >= filters.since)
    if filters.until is not None:
        chosen = chosen.where(LearningSession.started_at < filters.until)
    if filters.session_types is not None:
        chosen = chosen.where(LearningSession.session_type.in_(filters.session_types))
    if filters.ended_only:
        chosen = chosen.where(LearningSession.ended_at.is_not(None))
    return chosen


@dataclass
class Expired:
    """Exports whose file was deleted, files that belonged to no export, and what could not be deleted."""

    exports: int = 0
    orphans: int = 0
    failed: dict[UUID | str, str] = field(default_factory=dict)


def expire(db: Database, storage: Storage) -> Expired:
    """Delete the files whose time has come, and their URLs; then the files that no export knows: those of
    learners who were erased and of workers that died. Safe at any time; a second run finds nothing."""
    result = Expired()
    last: Export | None = None
    while True:
        with db.transaction(identity.service()) as tx:
            due = exports.take_expired(tx, after=last)
            if due is None:
                break
            last = due
            try:
                # The file first: after a crash the next run finds the export still due, and no file.
                export_storage.delete(due.file_url or "")
            except OSError as error:
                result.failed[due.id] = _why(error)
            else:
                exports.expire(tx, due.id)
                result.exports += 1
    _sweep(db, storage, result)
    return result


def _sweep(db: Database, storage: Storage, result: Expired) -> None:
    for url in storage.urls():
        name = url.rsplit("/", 1)[-1]
        with db.transaction(identity.service()) as tx:
            known = _known(tx, url, name)
        if not known:
            try:
                export_storage.delete(url)
                result.orphans += 1
            except OSError as error:
                result.failed[name] = _why(error)


def _known(tx: Session, url: str, name: str) -> bool:
    """Whether the file is a completed export's, or of the attempt that is being made just now."""
    stem = name.rsplit(".", 1)[0]
    try:
        export_id, attempt = UUID(stem[:36]), int(stem[37:])
    except ValueError:
        return True  # not a name of ours
    found = tx.get(Export, export_id)
    if found is None:
        return False
    return found.file_url == url or (found.status == "processing" and found.retry_count == attempt)
