"""Old rows that go: in batches, oldest first, each batch its own transaction.

Any number of runs may be at work at once, each goes around what the others have locked; one that is killed
leaves whole batches, and the next goes on.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType
from uuid import uuid4

from carnivore_db import identity
from carnivore_db.conversation import jobs
from carnivore_db.database import Database
from carnivore_db.errors import ArchiveFirst, StorageError
from carnivore_db.kit.extras import extra
from carnivore_db.vocabulary import exports
from carnivore_db.weekly import calculator, reports

OnDeleted = Callable[[int], None]
SERVICE = identity.service()


@dataclass(frozen=True)
class Pace:
    """How many rows go in a transaction, and how many seconds are between two."""

    batch: int
    pause: float = 0


@dataclass(frozen=True)
class Rule:
    """Rows of one kind: how many are due, and the deletion of all that are, which says of each batch how
    many went and returns the whole."""

    name: str
    title: str
    due: Callable[[Database], int]
    delete: Callable[[Database, Pace, OnDeleted], int]


def _in_batches(delete: Callable[[], tuple[int, int]], pace: Pace, on_deleted: OnDeleted) -> int:
    """`delete` deletes a batch: how many rows count against it, and how many went."""
    total = 0
    while True:
        handled, deleted = delete()
        total += deleted
        on_deleted(deleted)
        if handled < pace.batch:
            return total
        time.sleep(pace.pause)


def _calculator_due(db: Database) -> int:
    with db.transaction(SERVICE) as tx:
        return calculator.count_expired(tx)


def _delete_calculator(db: Database, pace: Pace, on_deleted: OnDeleted) -> int:
    def delete() -> tuple[int, int]:
        with db.transaction(SERVICE) as tx:
            deleted = calculator.purge_expired(tx, batch=pace.batch)
        return deleted, deleted

    return _in_batches(delete, pace, on_deleted)


def _grace(db: Database) -> timedelta:
    return timedelta(days=db.settings.reports_grace_days)


def _reports_due(db: Database) -> int:
    with db.transaction(SERVICE) as tx:
        return reports.count_expired(tx, grace=_grace(db))


def _delete_reports(db: Database, pace: Pace, on_deleted: OnDeleted) -> int:
    def delete() -> tuple[int, int]:
        with db.transaction(SERVICE) as tx:
            deleted = reports.purge_expired(tx, grace=_grace(db), batch=pace.batch)
        return deleted, deleted

    return _in_batches(delete, pace, on_deleted)


def _exports_due(db: Database) -> int:
    with db.transaction(SERVICE) as tx:
        return exports.count_expired(tx)


def _delete_exports(db: Database, pace: Pace, on_deleted: OnDeleted) -> int:
    """Each file is a batch of its own. Where none is due, nothing that writes files need be installed."""
    if not _exports_due(db):
        return 0

    def on_file() -> None:
        on_deleted(1)
        time.sleep(pace.pause)

    result = _export_worker().expire(db, on_file=on_file)
    if result.failed:
        why = next(iter(result.failed.values()))
        raise StorageError(f"{len(result.failed)} files of exports are left: {why}")
    return int(result.exports + result.abandoned)


def _export_worker() -> ModuleType:
    with extra("exports"):
        from carnivore_db.vocabulary.exports import worker  # noqa: PLC0415
    return worker


def _conversations_due(db: Database) -> int:
    return jobs.count_due(db.engine, "delete_expired_sessions")


def _delete_conversations(db: Database, pace: Pace, on_deleted: OnDeleted) -> int:
    return _run(db, "delete_expired_sessions", pace, on_deleted)


def _logs_due(db: Database) -> int:
    return jobs.count_due(db.engine, "delete_old_logs")


def _delete_logs(db: Database, pace: Pace, on_deleted: OnDeleted) -> int:
    """Where logs are archived the archive drops them, once it has read them back; nothing else may."""
    if db.settings.archive_logs:
        if left := jobs.count_unarchived(db.engine):
            raise ArchiveFirst(f"{left} old logs wait for the archive, and stay")
        return 0
    return _run(db, "delete_old_logs", pace, on_deleted)


def _run(db: Database, job: jobs.Cleanup, pace: Pace, on_deleted: OnDeleted) -> int:
    run_id = uuid4()
    return _in_batches(lambda: jobs.run_batch(db.engine, job, run_id, batch=pace.batch), pace, on_deleted)


# In the order in which they run. Each is a job of `carnivore.jobs` of that name.
RULES = (
    Rule("calculator_sessions", "calculator sessions expired", _calculator_due, _delete_calculator),
    Rule("reports", "reports expired longer than the grace", _reports_due, _delete_reports),
    Rule("exports", "files of exports expired or abandoned", _exports_due, _delete_exports),
    Rule("idle_conversations", "conversations idle for 7 days", _conversations_due, _delete_conversations),
    Rule("old_logs", "logs of months that ended 30 days ago", _logs_due, _delete_logs),
)
