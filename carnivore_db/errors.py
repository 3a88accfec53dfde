"""One exception type for each thing that can go wrong, with its facts as attributes.

Types are told by SQLSTATE and constraint name, never by message text, and no message or chained
exception quotes a row: rows hold tokens, e-mail addresses and pages.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.errors import Diagnostic
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext


class CarnivoreError(Exception):
    """Something went wrong in the database."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class InvalidInput(CarnivoreError):
    """A value breaks a rule. `field` names where, `rule` names which; the value is not repeated."""

    def __init__(self, field: str, rule: str, message: str | None = None) -> None:
        self.field = field
        self.rule = rule
        super().__init__(f"{field}: {message or rule}")


class NotFound(CarnivoreError):
    """What the operation is about does not exist."""


class SessionNotFound(NotFound):
    """No session has this id, or it has gone."""


class ReportNotFound(NotFound):
    """No report has this token or id."""


class CalculatorNotFound(NotFound):
    """No calculator session has this token."""


class UserNotFound(NotFound):
    """No learner has this id."""


class ProfileNotFound(NotFound):
    """No profile has this id, or its person has left."""


class ScenarioNotFound(NotFound):
    """No scene on offer has this code."""


class JobNotFound(NotFound):
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


class SessionCompleted(CarnivoreError):
    """The session is completed: no message enters it, and it is not completed again."""


class ProfileDeleted(CarnivoreError):
    """The person has left: nothing is written for them."""


class RateLimited(CarnivoreError):
    """Too many messages in too short a time. `retry_after` says how long to wait."""

    def __init__(self, retry_after: timedelta) -> None:
        self.retry_after = retry_after
        super().__init__(f"too many messages: wait {retry_after.total_seconds():.0f} seconds")


class WeeklyLimitReached(CarnivoreError):
    """All scenes of the week are completed. `resets_at` says when the next week begins (UTC)."""

    def __init__(self, resets_at: datetime) -> None:
        self.resets_at = resets_at
        super().__init__(f"the week's scenes are completed: wait until {resets_at.isoformat()}")


class Expired(CarnivoreError):
    """Access has ended. `expired_at` says when (UTC)."""

    def __init__(self, expired_at: datetime) -> None:
        self.expired_at = expired_at
        super().__init__(f"{(self.__doc__ or '').split('.')[0]} at {expired_at.isoformat()}")


class ReportExpired(Expired):
    """The report's access ended. `expired_at` says when (UTC)."""


class CalculatorExpired(Expired):
    """The calculator session ended. `expired_at` says when (UTC)."""


class Immutable(CarnivoreError):
    """A value that cannot change any more was to be changed. `table` and `columns` say which."""

    def __init__(self, table: str, columns: tuple[str, ...]) -> None:
        self.table = table
        self.columns = columns
        super().__init__(f"{table}: {', '.join(columns)} cannot change any more")


class AppendOnly(CarnivoreError):
    """A row that stays as it is was to be changed or deleted. `table`: an audit trail, or messages."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(f"{table} is append-only")


class Transition(CarnivoreError):
    """Something cannot change its state in this way. `old` and `new` are the states."""

    subject = "this"

    def __init__(self, old: str, new: str) -> None:
        self.old = old
        self.new = new
        super().__init__(f"{self.subject} cannot go from {old} to {new}")


class PaymentTransition(Transition):
    """A payment cannot change in this way. `old` and `new` are the states."""

    subject = "a payment"


class ExportLost(CarnivoreError):
    """Another worker has taken this export over, or its learner is gone; this attempt's file is no use."""


class ExportTransition(Transition):
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


class ArchiveDamaged(CarnivoreError):
    """An archived file is not what its manifest says. `what` differs: file, manifest, rows or columns."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"an archived file is not what its manifest says: {what}")


class ProgressKept(CarnivoreError):
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


def _expired_at(diag: Diagnostic) -> datetime:
    return datetime.fromisoformat(diag.message_detail or "")


def _immutable(diag: Diagnostic) -> CarnivoreError:
    return Immutable(diag.table_name or "", tuple((diag.column_name or "").split(", ")))


def _transition(error: type[Transition]) -> Callable[[Diagnostic], CarnivoreError]:
    def build(diag: Diagnostic) -> CarnivoreError:
        old, _, new = (diag.message_detail or "").partition(" -> ")
        return error(old, new)

    return build


# Rules that have a type of their own; with the schema where two areas have a rule of one name.
_RULES: dict[str, Callable[[Diagnostic], CarnivoreError]] = {
    "report_not_found": lambda diag: ReportNotFound(),
    "report_expired": lambda diag: ReportExpired(_expired_at(diag)),
    "calculator_not_found": lambda diag: CalculatorNotFound(),
    "calculator_expired": lambda diag: CalculatorExpired(_expired_at(diag)),
    "immutable": _immutable,
    "append_only": lambda diag: AppendOnly(diag.table_name or ""),
    "payment_transition": _transition(PaymentTransition),
    "export_transition": _transition(ExportTransition),
    "user_progress_kept": lambda diag: ProgressKept(),
    "user_not_found": lambda diag: UserNotFound(),
    "conversation_not_found": lambda diag: SessionNotFound(),
    "conversation_completed": lambda diag: SessionCompleted(),
    "messages_immutable": lambda diag: AppendOnly(diag.table_name or ""),
    "scenario_not_found": lambda diag: ScenarioNotFound(),
    "profile_not_found": lambda diag: ProfileNotFound(),
    "profile_deleted": lambda diag: ProfileDeleted(),
    "message_rate_limit": lambda diag: RateLimited(timedelta(seconds=int(diag.message_detail or 0))),
    "weekly_limit": lambda diag: WeeklyLimitReached(datetime.fromisoformat(diag.message_detail or "")),
    "job_not_found": lambda diag: JobNotFound(),
    "partition_valid": lambda diag: InvalidInput(
        diag.table_name or "", "partition_valid", "a table of this name is there and is no partition"
    ),
    "conversation.sessions_user_id_fkey": lambda diag: ProfileNotFound(),
    "sessions_scenario_id_fkey": lambda diag: ScenarioNotFound(),
    "messages_session_id_fkey": lambda diag: SessionNotFound(),
    "messages_user_id_fkey": lambda diag: ProfileNotFound(),
    "messages_archive_session_id_fkey": lambda diag: SessionNotFound(),
    "messages_archive_user_id_fkey": lambda diag: ProfileNotFound(),
    "logs_user_id_fkey": lambda diag: ProfileNotFound(),
    "logs_session_id_fkey": lambda diag: SessionNotFound(),
    "generated_reports_session_id_fkey": lambda diag: SessionNotFound(),
    "report_access_log_report_id_fkey": lambda diag: ReportNotFound(),
    "report_expiry_changes_report_id_fkey": lambda diag: ReportNotFound(),
    "calculator2_sessions_report_token_fkey": lambda diag: ReportNotFound(),
    "sessions_user_id_fkey": lambda diag: UserNotFound(),
    "user_api_keys_user_id_fkey": lambda diag: UserNotFound(),
    "user_progress_user_id_fkey": lambda diag: UserNotFound(),
    "export_history_user_id_fkey": lambda diag: UserNotFound(),
}

# The field that a check is about, where the check does not begin with the column's name.
_FIELDS = {
    "email_valid": "email",
    "email_format": "email",
    "email_printable": "email",
    "email_with_erased": "email",
    "profiles_id_fkey": "id",
    "message_counts_not_negative": "message_count_main",
    "payment_id_with_completed": "stripe_payment_id",
    "payment_id_not_empty": "stripe_payment_id",
    "questionnaire_not_empty": "questionnaire_data",
    "form_data_is_object": "form_data",
    "expiry_in_future": "expires_at",
    "expiry_within_ten_years": "expires_at",
    "expiry_after_creation": "expires_at",
    "calculator2_sessions_pricing_tier_fkey": "pricing_tier",
    "code_valid": "code",
    "event_id_valid": "id",
    "completed_at_with_completed": "completed_at",
    "deleted_at_with_erased": "deleted_at",
    "messages_role_chat_type_valid": "role",
    "logs_event_type_fkey": "event_type",
    "per_is_the_week": "per",
    "last_access_after_creation": "last_accessed_at",
    "last_active_after_creation": "last_active_at",
    "session_table_with_key": "session_key",
    "file_with_completed": "file_url",
    "file_url_with_completed": "file_url",
    "error_message_with_failed": "error_message",
    "facts_with_dropped": "dropped_at",
    "reports_within_accesses": "reports",
}

# By SQLSTATE, or by its class (its first two characters).
_CODES: dict[str, type[CarnivoreError]] = {
    "08": Unavailable,
    "40": Busy,
    "42501": PermissionRefused,
    "42703": SchemaMismatch,
    "42883": SchemaMismatch,
    "42P01": SchemaMismatch,
    "3F000": SchemaMismatch,
    "53": Unavailable,
    "55P03": Busy,
    "57014": Busy,
    "57P": Unavailable,
}


def _field_of(rule: str) -> str:
    if rule in _FIELDS:
        return _FIELDS[rule]
    for suffix in ("_valid", "_not_empty", "_not_negative", "_positive", "_length", "_in_range"):
        if rule.endswith(suffix):
            return rule.removesuffix(suffix)
    return rule


def translate(error: psycopg.Error) -> CarnivoreError:  # noqa: PLR0911 - a table, read from above
    """The package's exception for one of the driver's."""
    diag = error.diag
    code = error.sqlstate or ""
    rule = diag.constraint_name
    for name in (f"{diag.schema_name}.{rule}", rule):
        if name in _RULES:
            return _RULES[name](diag)
    if code == "23505":
        return AlreadyExists(rule or "")
    if code in {"23514", "23503"} and rule:
        return InvalidInput(_field_of(rule), rule)
    if code == "23502":
        return InvalidInput(diag.column_name or "value", "required")
    # 22: PostgreSQL could not take the value; 54: it is too deep or too large; and DataError alone:
    # the driver refused it before it was sent (a NUL character, a date out of range).
    if code[:2] in {"22", "54"} or isinstance(error, psycopg.DataError):
        return InvalidInput(diag.column_name or "value", f"not representable in PostgreSQL {code}".strip())
    for known in (code, code[:3], code[:2]):
        if known in _CODES:
            return _CODES[known]()
    if not code and isinstance(error, psycopg.OperationalError):
        return Unavailable()
    return DatabaseError(error.sqlstate)


def safe(error: psycopg.Error | UnicodeEncodeError) -> CarnivoreError:
    """`translate`, and the driver's error without its text: it stays chained to ours as its cause."""
    if isinstance(error, UnicodeEncodeError):
        return InvalidInput("value", "not representable in UTF-8")
    translated = translate(error)
    if not isinstance(translated, Unavailable):
        # It quotes the failing row.
        error.args = (f"SQLSTATE {error.sqlstate}, rule {error.diag.constraint_name}",)
    return translated


class _Translated:
    """`with translated:` raises this module's types for the driver's, around what goes past SQLAlchemy."""

    def __enter__(self) -> None: ...

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, psycopg.Error):
            raise safe(error) from error
        if isinstance(error, UnicodeEncodeError):
            raise safe(error) from None  # it holds the value


translated = _Translated()


def _handle(context: ExceptionContext) -> BaseException | None:
    error = context.original_exception
    return safe(error) if isinstance(error, psycopg.Error | UnicodeEncodeError) else None


def install(engine: Engine) -> None:
    """Make every statement on `engine` raise this module's types."""
    event.listen(engine, "handle_error", _handle)
