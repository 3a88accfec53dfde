"""The access log: recorded one by one and in batches, read page by page, counted."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy.orm import Session

from carnivore_db import errors
from carnivore_db.kit.paging import Page
from carnivore_db.weekly import access_log
from carnivore_db.weekly.access_log import Access
from tests.support.callers import Caller
from tests.support.databases import one
from tests.weekly.samples import NOBODY, SERVICE, issue_report, record

NOON = datetime(2026, 2, 14, 12, tzinfo=UTC)
PENDING = "SELECT coalesce(sum(access_count), 0)::int FROM public.report_access_pending"
COUNTED = "SELECT access_count FROM public.generated_reports WHERE id = %s"


def test_an_access_is_now_unless_said_otherwise(caller: Caller) -> None:
    made = issue_report(caller)
    caller.call(SERVICE, access_log.record, made.id)
    caller.call(SERVICE, access_log.record, made.id, accessed_at=NOON, ip_address="::1", user_agent="curl")
    latest, earlier = caller.call(SERVICE, access_log.history, made.id).rows
    assert made.created_at < latest.accessed_at < made.created_at + timedelta(hours=1)
    assert (latest.ip_address, latest.user_agent) == (None, None)
    assert (earlier.accessed_at, str(earlier.ip_address), earlier.user_agent) == (NOON, "::1", "curl")


@pytest.mark.parametrize(
    "ip_address",
    [
        "unknown",
        "x" * 10_000,
        "1.2.3.4.5",
        "",
        "fe80::1%eth0",
    ],
)
def test_an_unreadable_address_becomes_null(caller: Caller, ip_address: str) -> None:
    made = issue_report(caller)
    caller.call(SERVICE, access_log.record, made.id, ip_address=ip_address)
    record(caller, made.id, NOON, ip_address=ip_address, user_agent=" \n")
    accesses = caller.call(SERVICE, access_log.history, made.id).rows
    assert [(access.ip_address, access.user_agent) for access in accesses] == [(None, None)] * 2


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 2, 1, tzinfo=UTC),
        datetime(2026, 6, 15, tzinfo=UTC),
        datetime(2031, 1, 1, tzinfo=UTC),
        datetime(2000, 1, 1, tzinfo=UTC),
        datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC),
    ],
)
def test_no_access_is_lost_for_want_of_a_partition(
    caller_in: Callable[[str], Caller], owner: psycopg.Connection, moment: datetime
) -> None:
    caller = caller_in("Pacific/Auckland")
    made = issue_report(caller)
    caller.call(SERVICE, access_log.record, made.id, accessed_at=moment)
    its_own = f"report_access_log_{moment:%Y_%m}"
    there = one(owner, "SELECT to_regclass(%s)::text", its_own)
    assert there == its_own or moment.year != 2026 or moment.month > 3
    holder = one(owner, "SELECT tableoid::regclass::text FROM public.report_access_log")
    assert holder == (there or "report_access_log_default")
    counted = caller.call(SERVICE, access_log.count, made.id)
    # A clock that runs late never puts an access before the report.
    assert counted == access_log.AccessCount(1, max(moment, made.created_at))


def test_the_latest_access_never_moves_back(caller: Caller) -> None:
    made = issue_report(caller)
    first, second = made.created_at + timedelta(hours=1), made.created_at + timedelta(hours=2)
    for moment in (second, first):
        caller.call(SERVICE, access_log.record, made.id, accessed_at=moment)
    assert caller.call(SERVICE, access_log.count, made.id) == access_log.AccessCount(2, second)
    record(caller, made.id, first)
    assert caller.call(SERVICE, access_log.count, made.id) == access_log.AccessCount(3, second)
    caller.call(SERVICE, access_log.fold)
    assert caller.call(SERVICE, access_log.count, made.id) == access_log.AccessCount(3, second)


def test_a_report_that_is_gone_is_not_found(caller: Caller, owner: psycopg.Connection) -> None:
    made = issue_report(caller)
    for function, arguments in (
        (access_log.record, (NOBODY,)),
        (access_log.record_many, ([Access(report_id=made.id), Access(report_id=NOBODY)],)),
        (access_log.count, (NOBODY,)),
    ):
        with pytest.raises(errors.ReportNotFound):
            caller.call(SERVICE, function, *arguments)
    assert one(owner, "SELECT count(*) FROM public.report_access_log") == 0
    assert one(owner, PENDING) == 0
    assert caller.call(SERVICE, access_log.history, NOBODY) == Page([], None)


def test_a_batch_is_counted_at_once_and_folded_later(caller: Caller, owner: psycopg.Connection) -> None:
    one_report, other = issue_report(caller), issue_report(caller)
    batch = [
        Access(report_id=one_report.id, accessed_at=NOON),
        {"report_id": other.id, "accessed_at": NOON, "ip_address": "10.0.0.1", "user_agent": "b" * 2000},
        Access(report_id=one_report.id),
    ]
    assert caller.call(SERVICE, access_log.record_many, batch) == 3
    assert caller.call(SERVICE, access_log.record_many, []) == 0
    assert (one(owner, PENDING), one(owner, COUNTED, one_report.id)) == (3, 0)
    before = [caller.call(SERVICE, access_log.count, made.id) for made in (one_report, other)]
    assert [counted.access_count for counted in before] == [2, 1]
    (access,) = caller.call(SERVICE, access_log.history, other.id).rows
    assert (str(access.ip_address), access.user_agent) == ("10.0.0.1", "b" * 1000)

    assert caller.call(SERVICE, access_log.fold, batch=1) == 2
    assert caller.call(SERVICE, access_log.fold) == 1
    assert caller.call(SERVICE, access_log.fold) == 0
    assert (one(owner, PENDING), one(owner, COUNTED, one_report.id)) == (0, 2)
    assert [caller.call(SERVICE, access_log.count, made.id) for made in (one_report, other)] == before


def test_a_batch_leaves_the_way_of_counting_as_it_was(caller: Caller, owner: psycopg.Connection) -> None:
    made = issue_report(caller)

    def body(tx: Session) -> None:
        access_log.record_many(tx, [Access(report_id=made.id)])
        access_log.record(tx, made.id)

    caller.run(SERVICE, body)
    assert (one(owner, PENDING), one(owner, COUNTED, made.id)) == (1, 1)
