"""Old rows that are deleted: what is due, and the exports' files, which only the package can delete.

All else is a job of the database (`operations.jobs`). Any number of runs may be at work at once, each goes
around what the others have locked; one that is killed leaves whole batches, and the next goes on.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from carnivore_db import identity
from carnivore_db.database import Database
from carnivore_db.errors import ArchiveFirst, StorageError
from carnivore_db.kit.extras import extra
from carnivore_db.operations import jobs
from carnivore_db.operations.jobs import Registered
from carnivore_db.vocabulary import exports

# Its files are deleted by the package, which counts them too.
EXPORTS = "exports"


@dataclass(frozen=True)
class BatchOptions:
    """How many rows a transaction deletes, and how many seconds are between two."""

    batch: int
    pause: float = 0


def rules(db: Database) -> list[Registered]:
    """The jobs that delete old rows or files, in the order in which they run."""
    with db.engine.connect() as connection:
        return [job for job in jobs.registered(connection) if job.deletes or job.job == EXPORTS]


@dataclass(frozen=True)
class Due:
    """Rows, or files: `due` would be deleted now; `held` are as old, and stay until they are archived."""

    due: int
    held: int = 0


def count_due(db: Database, rule: Registered) -> Due:
    """What would be deleted now, and what is held."""
    if rule.job == EXPORTS:
        with db.transaction(identity.service()) as tx:
            return Due(exports.count_expired(tx))
    found = [jobs.count_due(db.engine, rule.job, db.settings, held=held) for held in (False, True)]
    if rule.archives and db.settings.archive_logs:  # the archive deletes them
        return Due(0, found[0])
    return Due(*found)


def refuse_unarchived(db: Database, rule: Registered) -> dict[str, int]:
    """Where rows are archived first, the archive drops them once it has read them back; nothing else may.

    Returns that nothing was deleted; raises ArchiveFirst when old rows are in no archive.
    """
    if left := jobs.count_due(db.engine, rule.job, db.settings):
        raise ArchiveFirst(f"{left} rows wait for the archive, and stay ({rule.description})")
    return {"deleted": 0}


def delete_exports(db: Database, options: BatchOptions, on_deleted: Callable[[int], None]) -> int:
    """Delete files of exports; each is a batch of its own. Returns how many.

    Where none is due, nothing that writes files need be installed. Raises MissingExtra, StorageError.
    """
    with db.transaction(identity.service()) as tx:
        if not exports.count_expired(tx):
            return 0
    gone = 0

    def on_file() -> None:
        nonlocal gone
        gone += 1
        on_deleted(gone)
        time.sleep(options.pause)

    result = _worker().expire(db, on_file=on_file)
    if result.failed:
        why = next(iter(result.failed.values()))
        raise StorageError(f"{len(result.failed)} files of exports are left: {why}")
    return int(result.exports + result.abandoned)


def _worker() -> ModuleType:
    with extra("exports"):
        from carnivore_db.vocabulary.exports import worker  # noqa: PLC0415
    return worker
