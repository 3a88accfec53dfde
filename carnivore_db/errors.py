"""One exception type for each thing that can go wrong, with its facts as attributes.

A type names the rules by which the database raises it. Types are told by SQLSTATE and rule, never by message
text, and no message or chained exception quotes a row: rows hold tokens, e-mail addresses and pages.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Self

from psycopg.errors import Diagnostic

# By rule: the name that a trigger or function of ours gives with its error (USING CONSTRAINT).
RAISED_BY: dict[str, type["CarnivoreError"]] = {}


class CarnivoreError(Exception):
    """Something went wrong in the database."""

    def __init_subclass__(cls, *, rules: tuple[str, ...] = (), **options: Any) -> None:
        super().__init_subclass__(**options)
        RAISED_BY.update(dict.fromkeys(rules, cls))

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())

    @classmethod
    def from_diagnostic(cls, diag: Diagnostic) -> Self:
        """The error as the database raised it."""
        return cls()


class InvalidInput(CarnivoreError):
    """A value breaks a rule. `field` names where, `rule` names which; the value is not repeated."""

    def __init__(self, field: str, rule: str, message: str | None = None) -> None:
        self.field = field
        self.rule = rule
        super().__init__(f"{field}: {message or rule}")


class PartitionTaken(InvalidInput, rules=("partition_valid",)):
    """A table has the name of the month's partition and is not a partition. `field` is its name."""

    @classmethod
    def from_diagnostic(cls, diag: Diagnostic) -> Self:
        message = "a table of this name is there and is no partition"
        return cls(diag.table_name or "", "partition_valid", message)


class NotFound(CarnivoreError):
    """What the operation is about does not exist."""


class SessionNotFound(NotFound, rules=("conversation_not_found",)):
    """No session has this id, or it has gone."""


class ReportNotFound(NotFound, rules=("report_not_found",)):
    """No report has this token or id."""


class CalculatorNotFound(NotFound, rules=("calculator_not_found",)):
    """No calculator session has this token."""


class UserNotFound(NotFound, rules=("user_not_found",)):
    """No learner has this id."""


class ProfileNotFound(NotFound, rules=("profile_not_found",)):
    """No profile has this id, or its person has left."""


class ScenarioNotFound(NotFound, rules=("scenario_not_found",)):
    """No scene on offer has this code."""


class JobNotFound(NotFound, rules=("job_not_found",)):
    """No job has this name."""


class ExportNotFound(NotFound):
    """No export has this id."""


class ApiKeyNotFound(NotFound):
    """The learner has no key for this provider."""


class NotArchived(NotFound):
    """The archive has no rows of this month, or they are back in their table."""


class SessionEnded(CarnivoreError):
    """The session had ended before. `ended_at` says when (UTC)."""

    def __init__(self, ended_at: datetime | None) -> None:
        self.ended_at = ended_at and ended_at.astimezone(UTC)
        super().__init__(f"the session had ended before, at {self.ended_at and self.ended_at.isoformat()}")


class SessionCompleted(CarnivoreError, rules=("conversation_completed",)):
    """The session is completed: no message enters it, and it is not completed again."""


class ProfileDeleted(CarnivoreError, rules=("profile_deleted",)):
    """The person has left: nothing is written for them."""


class RateLimited(CarnivoreError, rules=("message_rate_limit",)):
    """Too many messages in too short a time. `retry_after` says how long to wait."""

    def __init__(self, retry_after: timedelta) -> None:
        self.retry_after = retry_after
        super().__init__(f"too many messages: wait {retry_after.total_seconds():.0f} seconds")

    @classmethod
    def from_diagnostic(cls, diag: Diagnostic) -> Self:
        return cls(timedelta(seconds=int(diag.message_detail or 0)))


class WeeklyLimitReached(CarnivoreError, rules=("weekly_limit",)):
    """All scenes of the week are completed. `resets_at` says when the next week begins (UTC)."""

    def __init__(self, resets_at: datetime) -> None:
        self.resets_at = resets_at
        super().__init__(f"the week's scenes are completed: wait until {resets_at.isoformat()}")

    @classmethod
    def from_diagnostic(cls, diag: Diagnostic) -> Self:
        return cls(datetime.fromisoformat(diag.message_detail or ""))


class Expired(CarnivoreError):
    """Access has ended. `expired_at` says when (UTC)."""

    def __init__(self, expired_at: datetime) -> None:
        self.expired_at = expired_at
        super().__init__(f"{(self.__doc__ or '').split('.')[0]} at {expired_at.isoformat()}")

    @classmethod
    def from_diagnostic(cls, diag: Diagnostic) -> Self:
        return cls(datetime.fromisoformat(diag.message_detail or ""))


class ReportExpired(Expired, rules=("report_expired",)):
    """The report's access ended. `expired_at` says when (UTC)."""


class CalculatorExpired(Expired, rules=("calculator_expired",)):
    """The calculator session ended. `expired_at` says when (UTC)."""


class Immutable(CarnivoreError, rules=("immutable",)):
    """A value that cannot change any more was to be changed. `table` and `columns` say which."""

    def __init__(self, table: str, columns: tuple[str, ...]) -> None:
        self.table = table
        self.columns = columns
        super().__init__(f"{table}: {', '.join(columns)} cannot change any more")

    @classmethod
    def from_diagnostic(cls, diag: Diagnostic) -> Self:
        return cls(diag.table_name or "", tuple((diag.column_name or "").split(", ")))


class AppendOnly(CarnivoreError, rules=("append_only", "messages_immutable")):
    """A row that stays as it is was to be changed or deleted. `table`: an audit trail, or messages."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(f"{table} is append-only")

    @classmethod
    def from_diagnostic(cls, diag: Diagnostic) -> Self:
        return cls(diag.table_name or "")


class Transition(CarnivoreError):
    """Something cannot change its state in this way. `old` and `new` are the states."""

    subject = "this"

    def __init__(self, old: str, new: str) -> None:
        self.old = old
        self.new = new
        super().__init__(f"{self.subject} cannot go from {old} to {new}")

    @classmethod
    def from_diagnostic(cls, diag: Diagnostic) -> Self:
        old, _, new = (diag.message_detail or "").partition(" -> ")
        return cls(old, new)


class PaymentTransition(Transition, rules=("payment_transition",)):
    """A payment cannot change in this way. `old` and `new` are the states."""

    subject = "a payment"


class ExportLost(CarnivoreError):
    """Another worker has taken this export over, or its learner is gone; this attempt's file is no use."""


class ExportTransition(Transition, rules=("export_transition",)):
    """An export cannot change in this way. `old` and `new` are the states."""

    subject = "an export"


class AlreadyExists(CarnivoreError):
    """Another row has this value. `rule` is the unique index."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        super().__init__(f"another row has this value ({rule})")


class KeyMissing(CarnivoreError):
    """A value was encrypted with a key that this process does not have. `key_id` names the key."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        super().__init__(f"encryption key {key_id!r} is not among CARNIVORE_DB_ENCRYPTION_KEYS")


class DecryptionFailed(CarnivoreError):
    """A ciphertext is not one that was made for this user and provider: altered, moved, or of another key."""


class ApiKeyInactive(CarnivoreError):
    """The learner's keys are disabled: a service refused one, or somebody disabled them."""


class StorageError(CarnivoreError):
    """A file could not be written, read or deleted. `reason` is the kind of error, without any path."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"a file could not be written, read or deleted: {reason}")


class FilesOfAnother(StorageError):
    """The files at a location were written by another database: this one is a copy, or was restored."""

    def __init__(self) -> None:
        super().__init__(
            "they are another database's; give this one a location of its own, or `carnivore-db adopt-files`"
        )


class ArchiveDamaged(CarnivoreError):
    """An archived file is not what its manifest says. `what` differs: file, manifest, rows or columns."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"an archived file is not what its manifest says: {what}")


class ProgressKept(CarnivoreError, rules=("user_progress_kept",)):
    """Progress goes with its learner, not alone."""


class PermissionRefused(CarnivoreError):
    """The identity of this transaction may not do this."""


class Busy(CarnivoreError):
    """A lock, a deadlock or a timeout stood in the way; the same call may succeed when repeated."""


class Unavailable(CarnivoreError):
    """The database cannot be reached, or the connection was lost."""


class RolledBack(CarnivoreError):
    """An error was caught inside the transaction that it ended: nothing was saved.

    To go on after an error, put the call into a savepoint: `with tx.begin_nested(): ...`.
    """


class SchemaMismatch(CarnivoreError):
    """A table or function is missing: run `carnivore-db upgrade`, then `carnivore-db verify`."""


class DatabaseError(CarnivoreError):
    """The database refused a statement. `sqlstate` is its code, when it gave one."""

    def __init__(self, sqlstate: str | None) -> None:
        self.sqlstate = sqlstate
        super().__init__(f"the database refused a statement (SQLSTATE {sqlstate or 'unknown'})")


class SignatureInvalid(CarnivoreError):
    """The payload was not signed by Stripe with this endpoint's secret, or too long ago."""


class PaidTwice(CarnivoreError):
    """The session was already paid by another payment: one of the two must be given back."""


class ArchiveFirst(CarnivoreError):
    """Old logs are to be archived, and some are not: they stay."""


class StepSkipped(CarnivoreError):
    """A maintenance step does not apply here; the text says why."""


class StepFailed(CarnivoreError):
    """A part of a maintenance step failed. `did` counts what was done, `first` is the first failure."""

    def __init__(self, did: dict[str, int], failed: dict[str, CarnivoreError]) -> None:
        self.did = did
        self.first = next(iter(failed.values()))
        super().__init__("; ".join(f"{name}: {error}" for name, error in failed.items()))


class JobFailed(CarnivoreError):
    """A scheduled job failed. `job` is its name, `reason` the SQLSTATE and rule, without any text."""

    def __init__(self, job: str, reason: str) -> None:
        self.job = job
        self.reason = reason
        super().__init__(f"the job {job} failed: SQLSTATE {reason}")


class NotReadable(CarnivoreError):
    """The connected role cannot read what was asked for. `reason` names SQLSTATE and object."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class ConfigurationError(CarnivoreError):
    """A setting is missing or wrong, or the installation lacks a part. Nothing was changed."""


class MissingExtra(ConfigurationError):
    """An optional dependency is not installed. `extra` names what to install."""

    def __init__(self, extra: str, module: str | None) -> None:
        self.extra = extra
        super().__init__(f"pip install 'carnivore-db[{extra}]' is needed: {module or 'a module'} is missing")


class LocalServerError(CarnivoreError):
    """A private server could not be started, stopped, trusted or made out; the text says why."""


class PostgreSQLNotFound(LocalServerError):
    """No PostgreSQL server is installed that could be started; the text says what to install."""
