"""Reports: issued once, opened by token until they expire (document 012)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import AwareDatetime, Field
from sqlalchemy import ColumnElement, Interval, func, insert, select, text, update
from sqlalchemy.orm import Session

from carnivore_db.connection.autocommit import Autocommit
from carnivore_db.errors import InvalidInput, ReportNotFound
from carnivore_db.kit.inputs import (
    KIB,
    BatchSize,
    ClientIP,
    Email,
    FilledText,
    Grace,
    Id,
    Limit,
    UserAgent,
    Validity,
    validated,
)
from carnivore_db.settings import DEFAULTS
from carnivore_db.weekly import tokens
from carnivore_db.weekly.models import GeneratedReport
from carnivore_db.weekly.payloads import QuestionnaireInput

Reason = Annotated[FilledText, Field(max_length=200)]

_OPEN = text(
    "SELECT report_id, report_html, created_at, expires_at"
    " FROM public.open_report(:token, :ip_address, :user_agent)"
)
_CHECK = text("SELECT report_id, expires_at FROM public.check_report(:token)")
# The mode is set before the function is called: an argument of its depends on it.
_OPEN_ALONE = (
    "SELECT report_id, report_html, created_at, expires_at FROM public.open_report("
    "CASE WHEN set_config('carnivore.access_counting', %s, true) IS NOT NULL THEN %s END, %s, %s)"
)
_CHECK_ALONE = "SELECT report_id, expires_at FROM public.check_report(%s)"
_LIST = text(
    "SELECT report.id, report.session_id, report.created_at, report.expires_at,"
    " counts.access_count, counts.last_accessed_at"
    " FROM public.generated_reports AS report"
    " JOIN public.report_access_counts AS counts ON counts.report_id = report.id"
    " WHERE report.email = :email ORDER BY report.expires_at DESC, report.id DESC LIMIT :limit"
)
_PURGE = text("SELECT public.delete_expired_reports(:batch, :grace)")


@dataclass(frozen=True)
class IssuedReport:
    """A new report. The token is shown here once: put it into the buyer's link."""

    id: int
    access_token: str = field(repr=False)
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class OpenedReport:
    """What the holder of a token reads."""

    id: int
    html: str = field(repr=False)
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class CheckedReport:
    """A token's report and the end of its access."""

    id: int
    expires_at: datetime


@dataclass(frozen=True)
class ReportSummary:
    """A report without its content. Counts include accesses still pending."""

    id: int
    session_id: int
    created_at: datetime
    expires_at: datetime
    access_count: int
    last_accessed_at: datetime | None


def _html(value: str) -> str:
    if len(value.encode()) > 5 * KIB * KIB:
        raise InvalidInput("html", "report_html_not_empty", "must take at most 5 MiB")
    return value


@validated
def issue(
    tx: Session,
    *,
    session_id: Id,
    html: FilledText,
    questionnaire: QuestionnaireInput,
    valid_for: Validity,
    email: Email | None = None,
) -> IssuedReport:
    """Issue a report for a session, as the service.

    `html` takes at most 5 MiB and `questionnaire` 256 KiB; access ends `valid_for` (at most ten years)
    from now; `email` is the session's when not given. Raises SessionNotFound, InvalidInput.
    """
    token = tokens.new_report_token()
    row = {
        "session_id": session_id,
        "access_token": token,
        "report_html": _html(html),
        "questionnaire_data": questionnaire,
        "expires_at": func.now() + _hours(valid_for),
    }
    if email is not None:
        row["email"] = email
    made = tx.execute(
        insert(GeneratedReport)
        .values(row)
        .returning(GeneratedReport.id, GeneratedReport.created_at, GeneratedReport.expires_at)
    ).one()
    return IssuedReport(made.id, token, made.created_at, made.expires_at)


def _hours(span: timedelta) -> ColumnElement[timedelta]:
    """`span` as an interval without days: a day has 23 or 25 hours where the clocks change."""
    return func.make_interval(0, 0, 0, 0, 0, 0, span.total_seconds(), type_=Interval)


@validated
def open(  # noqa: A001 - the business's word
    tx: Session | Autocommit, token: str, *, ip_address: ClientIP = None, user_agent: UserAgent = None
) -> OpenedReport:
    """Read a report by its token, log the access and count it, in one statement; as anyone.

    Fastest with `db.autocommit`, where it is a transaction by itself and asks the database once. An
    unreadable `ip_address` and a blank `user_agent` become NULL, a long one is cut at 1,000 characters.
    Raises ReportNotFound, ReportExpired.
    """
    _look_at(token)
    if isinstance(tx, Autocommit):
        return OpenedReport(*tx.row(_OPEN_ALONE, (tx.access_counting, token, ip_address, user_agent)))
    found = tx.execute(_OPEN, {"token": token, "ip_address": ip_address, "user_agent": user_agent}).one()
    return OpenedReport(*found)


@validated
def check(tx: Session | Autocommit, token: str) -> CheckedReport:
    """Whether a token opens a report, and until when; nothing is logged; as anyone.

    Fastest with `db.autocommit`, as `open`. Raises ReportNotFound, ReportExpired.
    """
    _look_at(token)
    if isinstance(tx, Autocommit):
        return CheckedReport(*tx.row(_CHECK_ALONE, (token,)))
    return CheckedReport(*tx.execute(_CHECK, {"token": token}).one())


def _look_at(token: str) -> None:
    if tokens.REPORT_TOKEN.fullmatch(token) is None:
        raise ReportNotFound


@validated
def list_by_email(tx: Session, email: Email, *, limit: Limit = 100) -> list[ReportSummary]:
    """The reports of an address, longest valid first, as the service."""
    rows = tx.execute(_LIST, {"email": email, "limit": limit})
    return [ReportSummary(*row) for row in rows]


@validated
def extend(tx: Session, report_id: Id, *, expires_at: AwareDatetime, reason: Reason) -> datetime:
    """Let access end later, as the service; the change and its `reason` are recorded.

    Returns the new expiry. Raises ReportNotFound, InvalidInput (not later than now and than the present
    expiry, or more than ten years after the report was made).
    """
    later = update(GeneratedReport).where(
        GeneratedReport.id == report_id,
        GeneratedReport.expires_at < expires_at,
        func.clock_timestamp() < expires_at,
    )
    with _because(tx, reason):
        changed: datetime | None = tx.scalar(
            later.values(expires_at=expires_at).returning(GeneratedReport.expires_at)
        )
    if changed is None:
        _must_exist(tx, report_id)
        raise InvalidInput("expires_at", "later", "must be later than now and than before")
    return changed


@validated
def revoke(tx: Session, report_id: Id, *, reason: Reason) -> datetime:
    """End access now, as the service; the change and its `reason` are recorded.

    Returns the end of access; one that lies in the past stays. Raises ReportNotFound.
    """
    end_access(tx, GeneratedReport.id == report_id, reason)
    return _must_exist(tx, report_id)


def end_access(tx: Session, which: ColumnElement[bool], reason: str) -> int:
    """End access to all reports that `which` selects and that are open. Returns how many were."""
    # A report made in this very transaction must still end after it began.
    now = func.greatest(func.clock_timestamp(), GeneratedReport.created_at + timedelta(microseconds=1))
    ended = update(GeneratedReport).where(which, GeneratedReport.expires_at > func.clock_timestamp())
    with _because(tx, reason):
        return len(tx.scalars(ended.values(expires_at=now).returning(GeneratedReport.id)).all())


@validated
def purge_expired(tx: Session, *, grace: Grace, batch: BatchSize = DEFAULTS.retention_batch) -> int:
    """Delete up to `batch` reports that expired longer than `grace` ago, with their accesses.

    Oldest first, as the service. Returns how many went; fewer than `batch` means that none is left which
    nobody has locked.
    """
    gone: int = tx.scalars(_PURGE, {"batch": batch, "grace": grace}).one()
    return gone


def _must_exist(tx: Session, report_id: int) -> datetime:
    found = select(GeneratedReport.expires_at).where(GeneratedReport.id == report_id)
    expires_at: datetime | None = tx.scalar(found)
    if expires_at is None:
        raise ReportNotFound
    return expires_at


@contextmanager
def _because(tx: Session, reason: str) -> Iterator[None]:
    """Give the trigger that records changes of the expiry their reason."""
    tx.execute(select(func.set_config("carnivore.expiry_reason", reason, True)))
    yield
    tx.execute(select(func.set_config("carnivore.expiry_reason", "", True)))
