"""The access log: append, read and count (document 012). All of it is the service's."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import func, select, text, tuple_
from sqlalchemy.orm import Session

from carnivore_db.errors import ReportNotFound
from carnivore_db.kit.inputs import (
    AccessedAt,
    BatchSize,
    ClientIP,
    Id,
    Limit,
    Occurrences,
    Threshold,
    UserAgent,
    validated,
)
from carnivore_db.kit.paging import NumberCursor, Page, page_of
from carnivore_db.settings import DEFAULTS
from carnivore_db.weekly.models import ReportAccess

_INSERT = text("""
    INSERT INTO public.report_access_log (report_id, accessed_at, ip_address, user_agent)
    SELECT access.report_id, coalesce(access.accessed_at, now()), access.ip_address, access.user_agent
    FROM unnest(
        CAST(:report_ids AS bigint[]), CAST(:accessed_at AS timestamptz[]),
        CAST(:ip_addresses AS inet[]), CAST(:user_agents AS text[])
    ) AS access (report_id, accessed_at, ip_address, user_agent)
""")

# As open_report does, the report is locked before the log's foreign key shares it: a share lock first and an
# update after it, from many clients, would build a multixact for each of them.
_RECORD = text("""
    INSERT INTO public.report_access_log (report_id, accessed_at, ip_address, user_agent)
    SELECT report.id, coalesce(CAST(:accessed_at AS timestamptz), now()), CAST(:ip_address AS inet),
        :user_agent
    FROM public.generated_reports AS report WHERE report.id = :report_id
        AND current_setting('carnivore.access_counting', true) IS DISTINCT FROM 'deferred'
    FOR NO KEY UPDATE
""")

_COUNT = text("""
    SELECT access_count, last_accessed_at FROM public.report_access_counts
    WHERE report_id = :report_id
""")

_PER_DAY = text("""
    SELECT CAST(access.accessed_at AT TIME ZONE 'UTC' AS date) AS day, count(*) AS accesses
    FROM public.report_access_log AS access
    JOIN public.generated_reports AS report ON report.id = access.report_id
    JOIN public.user_sessions AS session ON session.id = report.session_id
    WHERE access.accessed_at >= CAST(:month AS timestamp) AT TIME ZONE 'UTC'
        AND access.accessed_at
            < (CAST(:month AS timestamp) + interval '1 month') AT TIME ZONE 'UTC'
        AND (CAST(:report_id AS bigint) IS NULL OR access.report_id = :report_id)
        AND (:include_test OR NOT session.is_test)
    GROUP BY day ORDER BY day
""")

_UNUSUAL = text("""
    SELECT report_id, accesses, addresses, burst, after_end
    FROM analytics.unusual_access(:since, :addresses, :burst, :after_end, :include_test) WITH ORDINALITY
    ORDER BY ordinality LIMIT :limit
""")


class Access(BaseModel):
    """An access to record: now, when `accessed_at` (2000 to 2099) is not given.

    Raises pydantic's ValidationError, without the values; `record_many` takes plain dicts too and names the
    one that is wrong.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    report_id: Id
    accessed_at: AccessedAt | None = None
    ip_address: Annotated[ClientIP, Field(repr=False)] = None
    user_agent: Annotated[UserAgent, Field(repr=False)] = None


@dataclass(frozen=True)
class LoggedAccess:
    """One row of the audit trail."""

    id: int
    accessed_at: datetime
    ip_address: IPv4Address | IPv6Address | IPv4Interface | IPv6Interface | None = field(repr=False)
    user_agent: str | None = field(repr=False)


@dataclass(frozen=True)
class AccessCount:
    """All accesses of a report, pending ones included."""

    access_count: int
    last_accessed_at: datetime | None


@dataclass(frozen=True)
class UnusualAccess:
    """A report opened from many addresses, many times within some 60 seconds (`burst`), or after its end."""

    report_id: int
    accesses: int
    addresses: int
    burst: int
    after_end: int = 0


@validated
def record(
    tx: Session,
    report_id: Id,
    *,
    accessed_at: AccessedAt | None = None,
    ip_address: ClientIP = None,
    user_agent: UserAgent = None,
) -> None:
    """Log one access; now, when `accessed_at` (2000 to 2099) is not given.

    Bad client metadata becomes NULL. Raises ReportNotFound, InvalidInput.
    """
    access = Access(
        report_id=report_id, accessed_at=accessed_at, ip_address=ip_address, user_agent=user_agent
    )
    deferred = tx.info.get("access_counting") == "deferred"
    if deferred or not tx.execute(_RECORD, access.model_dump()).rowcount:  # type: ignore[attr-defined]
        _insert(tx, [access])


@validated
def record_many(tx: Session, accesses: Sequence[Access]) -> int:
    """Log accesses in one statement and count them in deferred mode, so that batches never meet.

    Returns how many. All or none: raises ReportNotFound when one of the reports does not exist.
    """
    setting = "carnivore.access_counting"
    before = tx.scalar(select(func.current_setting(setting, True))) or ""
    tx.execute(select(func.set_config(setting, "deferred", True)))
    _insert(tx, accesses)
    tx.execute(select(func.set_config(setting, before, True)))
    return len(accesses)


def _insert(tx: Session, accesses: Sequence[Access]) -> None:
    tx.execute(
        _INSERT,
        {
            "report_ids": [access.report_id for access in accesses],
            "accessed_at": [access.accessed_at for access in accesses],
            "ip_addresses": [access.ip_address for access in accesses],
            "user_agents": [access.user_agent for access in accesses],
        },
    )


@validated
def history(
    tx: Session, report_id: Id, *, limit: Limit = 100, after: NumberCursor | None = None
) -> Page[LoggedAccess]:
    """The accesses of a report, newest first.

    Pass the last page's `next` as `after`: rows added in between neither repeat nor hide one.
    """
    rows = select(
        ReportAccess.id,
        ReportAccess.accessed_at,
        ReportAccess.ip_address,
        ReportAccess.user_agent,
    ).where(ReportAccess.report_id == report_id)
    place = tuple_(ReportAccess.accessed_at, ReportAccess.id)
    if after is not None:
        rows = rows.where(place < tuple_(after.at, after.id))
    rows = rows.order_by(ReportAccess.accessed_at.desc(), ReportAccess.id.desc()).limit(limit + 1)
    found = [LoggedAccess(*row) for row in tx.execute(rows)]
    return page_of(found, limit, lambda access: (access.accessed_at, access.id))


@validated
def count(tx: Session, report_id: Id) -> AccessCount:
    """How often a report was opened, and when last. Raises ReportNotFound."""
    found = tx.execute(_COUNT, {"report_id": report_id}).one_or_none()
    if found is None:
        raise ReportNotFound
    return AccessCount(*found)


@validated
def counts_per_day(
    tx: Session, month: date, *, report_id: Id | None = None, include_test: bool = False
) -> dict[date, int]:
    """Accesses on each day (UTC) of the month of `month`, days without any left out.

    Of one report, or of all; sessions marked as test data are left out unless asked for.
    """
    first = month.replace(day=1)
    wanted = {"month": first, "report_id": report_id, "include_test": include_test}
    return {row.day: row.accesses for row in tx.execute(_PER_DAY, wanted)}


@validated
def unusual(
    tx: Session,
    *,
    since: AwareDatetime,
    addresses: Threshold = DEFAULTS.unusual_addresses,
    burst: Threshold = DEFAULTS.unusual_burst,
    after_end: Occurrences = DEFAULTS.unusual_after_end,
    limit: Limit = 100,
    include_test: bool = False,
) -> list[UnusualAccess]:
    """Reports opened since `since` from `addresses` addresses or more, `burst` times within 60 seconds, or
    `after_end` times when they had expired or were revoked, by what their end was at that moment.

    An open that is refused is not logged: those after the end were recorded otherwise. The most unusual
    first; sessions marked as test data are left out unless asked for.
    """
    wanted = {
        "since": since,
        "addresses": addresses,
        "burst": burst,
        "after_end": after_end,
        "limit": limit,
        "include_test": include_test,
    }
    return [UnusualAccess(*row) for row in tx.execute(_UNUSUAL, wanted)]


@validated
def fold(tx: Session, *, batch: BatchSize = DEFAULTS.retention_batch) -> int:
    """Add the pending deltas of up to `batch` reports to their counters.

    Returns how many deltas it took, with those of deleted reports, which the last batch forgets; 0 means
    that none is left whose report nobody else has locked. Any number of folders may run at once.
    """
    return tx.scalar(select(func.public.fold_report_access(batch))) or 0
