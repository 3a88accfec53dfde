"""The worker of exports: takes one from the queue, streams its file, notes the result; and expires files.

It reads as the learner, bound by row security: whatever a filter says, an export holds nobody else's rows.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Result, Select, func, select
from sqlalchemy.orm import Session

from carnivore_db import identity
from carnivore_db.database import Database
from carnivore_db.errors import (
    Busy,
    CarnivoreError,
    ConfigurationError,
    ExportLost,
    StorageError,
    Unavailable,
)
from carnivore_db.kit import storage as files
from carnivore_db.kit.storage import Storage
from carnivore_db.schema.base import JsonObject
from carnivore_db.settings import DEFAULTS
from carnivore_db.vocabulary import exports
from carnivore_db.vocabulary.exports.files import SELECTED, WRITERS
from carnivore_db.vocabulary.exports.queue import LEASE
from carnivore_db.vocabulary.models import Export, LearningSession
from carnivore_db.vocabulary.payloads import Filters

# Few at a time: what takes 64 KiB in the database can take a megabyte as Python's objects.
_FETCH = 20
_SIGN_OF_LIFE = 2  # seconds

# Called with the export, the sessions written and those there are.
OnProgress = Callable[[Export, int, int], Any]


def _unseen(export: Export, done: int, total: int) -> None:
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
    lease: timedelta = LEASE,
    max_retries: int = DEFAULTS.export_max_retries,
    on_progress: OnProgress = _unseen,
) -> Iterator[Outcome]:
    """Make the files of all exports that wait, oldest first, and say of each what became of it.

    Any number of workers may run, on two connections each: one reads, one notes. An export whose worker gave
    no sign of life for `lease` (they come every two seconds) is taken again, at most `max_retries` times. A
    failure is noted in the export, and the next one's turn comes. Raises StorageError before anything is
    taken when nothing can be written there; Unavailable or Busy when the database is lost: that export is
    then taken again after its lease.
    """
    storage.check()
    storage.claim(_database(db))
    while True:
        with db.transaction(identity.service()) as tx:
            given_up = exports.give_up(tx, lease=lease, max_retries=max_retries)
            export = exports.take(tx, lease=lease, max_retries=max_retries)
        for lost in given_up:
            _delete(storage, _path(lost, lost.retry_count))
            yield Outcome(lost, lost.status)
        if export is None:
            return
        yield _make(db, storage, export, on_progress)


def _database(db: Database) -> str:
    with db.transaction(identity.service()) as tx:
        return files.database_of(tx.connection())


def _path(export: Export, attempt: int) -> str:
    return f"{export.user_id}/{export.id}-{attempt}.{export.export_format}"


def _delete(storage: Storage, path: str) -> bool:
    """Delete what an attempt may have left. Returns whether it is gone; `expire` deletes what is not."""
    try:
        files.delete(storage.url(path))
    except StorageError:
        return False
    return True


def _make(db: Database, storage: Storage, export: Export, on_progress: OnProgress) -> Outcome:
    path = _path(export, export.retry_count)
    if export.retry_count:
        _delete(storage, _path(export, export.retry_count - 1))
    try:
        # Before there is a file: should its worker and its learner go, the database still knows of it.
        _say(db, export, 0, {"file": storage.url(path)})
        records = _write(db, storage, path, export, on_progress)
        made = _complete(db, storage, path, export, records)
    except (Busy, Unavailable):
        raise  # nobody knows what was saved
    except Exception as error:  # noqa: BLE001 - whatever a library for files raises
        gone = _delete(storage, path)
        return Outcome(export, "lost") if isinstance(error, ExportLost) else _fail(db, export, error, gone)
    return Outcome(made, made.status)


def _complete(db: Database, storage: Storage, path: str, export: Export, records: int) -> Export:
    size, url = storage.size(path), storage.url(path)
    valid_for = timedelta(hours=db.settings.export_validity_hours)
    with db.transaction(identity.service()) as tx:
        return exports.complete(
            tx, export.id, export.retry_count, records=records, size=size, url=url, valid_for=valid_for
        )


def _fail(db: Database, export: Export, error: Exception, file_gone: bool) -> Outcome:
    if isinstance(error, StorageError):
        why = error.reason
    else:
        why = str(error) if isinstance(error, CarnivoreError) else files.reason(error)
    try:
        with db.transaction(identity.service()) as tx:
            failed = exports.fail(tx, export.id, export.retry_count, why[:500], file_gone=file_gone)
    except ExportLost:
        return Outcome(export, "lost")
    return Outcome(failed, failed.status)


def _write(db: Database, storage: Storage, path: str, export: Export, on_progress: OnProgress) -> int:
    """Write the file. Returns how many records it holds."""
    done = records = 0
    with db.transaction(identity.user(export.user_id, "")) as tx:
        total = tx.scalar(_chosen(export, func.count())) or 0
        said = -float(_SIGN_OF_LIFE)
        with storage.writing(path) as file, closing(_stream(tx, export)) as sessions:
            for done, records in enumerate(WRITERS[export.export_type](file, export.user_id, sessions), 1):
                if time.monotonic() - said >= _SIGN_OF_LIFE:
                    _say(db, export, records, {"done": done, "total": total})
                    said = time.monotonic()
                on_progress(export, done, total)
            # Before the file is closed: that may take a while, where it is far away.
            _say(db, export, records, {"done": done, "total": total})
    return records


def _say(db: Database, export: Export, records: int, data: JsonObject) -> None:
    with db.transaction(identity.service()) as tx:
        exports.note_progress(tx, export.id, export.retry_count, records=records, data=data)


def _stream(tx: Session, export: Export) -> Result[Any]:
    oldest = (LearningSession.started_at, LearningSession.id)
    # A deck takes a word as it was last saved, so it sees that first.
    order = [column.desc() for column in oldest] if export.export_type == "anki" else oldest
    return tx.execute(_chosen(export, *SELECTED).order_by(*order), execution_options={"yield_per": _FETCH})


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
    """Exports whose file was deleted, files that no export had any more, and what could not be deleted."""

    exports: int = 0
    abandoned: int = 0
    failed: dict[UUID | str, str] = field(default_factory=dict)


def expire(db: Database, *, on_file: Callable[[], None] = lambda: None) -> Expired:
    """Delete the files whose time has come, and their URLs; then those that no export has any more: of
    learners who were erased, and of attempts that came to nothing. `on_file` is called after each.

    Wherever they lie, but for local folders of another machine: these are failures. Safe at any time and in
    any number at once; a second run finds nothing.
    """
    result, database = Expired(), _database(db)
    last: Export | None = None
    while True:
        with db.transaction(identity.service()) as tx:
            due = exports.take_expired(tx, after=last)
            if due is None:
                break
            # The file first: after a crash the next run finds the export still due, and no file.
            if _deleted(due.file_url or "", due.id, database, result):
                exports.expire(tx, due.id)
                result.exports += 1
            last = due
        on_file()
    url = ""
    while True:
        with db.transaction(identity.service()) as tx:
            left = exports.next_abandoned(tx, after=url)
            if left is None:
                return result
            if _deleted(left, left.rsplit("/", 1)[-1], database, result):
                exports.forget_abandoned(tx, left)
                result.abandoned += 1
            url = left
        on_file()


def _deleted(url: str, name: UUID | str, database: str, result: Expired) -> bool:
    try:
        if files.elsewhere(url):  # the file would stay there, and nobody would know of it any more
            raise StorageError("its folder is not on this machine")
        files.delete_own(url, database, below=2)  # its learner, its name
    except (ConfigurationError, StorageError) as error:
        result.failed[name] = str(error)
        return False
    return True
