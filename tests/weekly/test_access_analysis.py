"""What the access log tells: accesses per day of a month, and unusual ones."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from carnivore_db.weekly import access_log, reports
from carnivore_db.weekly.access_log import UnusualAccess
from tests.support.callers import Caller
from tests.weekly.samples import SERVICE, issue_report, record, start_session

ZONES = ["UTC", "Pacific/Auckland", "America/Los_Angeles", "Asia/Kolkata"]
NOON = datetime(2026, 2, 14, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize("zone", ZONES)
def test_days_and_months_are_those_of_utc(caller_in: Callable[[str], Caller], zone: str) -> None:
    caller = caller_in(zone)
    made = issue_report(caller)
    tick = timedelta(microseconds=1)
    for first in (at(2026, 2, 1), at(2026, 3, 1), at(2026, 2, 14), at(2027, 1, 1)):
        record(caller, made.id, first - tick, first, first)

    def counted(month: date) -> dict[date, int]:
        return caller.call(SERVICE, access_log.counts_per_day, month, report_id=made.id)

    assert counted(date(2026, 1, 20)) == {date(2026, 1, 31): 1}
    assert counted(date(2026, 2, 28)) == {
        date(2026, 2, 1): 2,
        date(2026, 2, 13): 1,
        date(2026, 2, 14): 2,
        date(2026, 2, 28): 1,
    }
    assert list(counted(date(2026, 2, 1))) == sorted(counted(date(2026, 2, 1)))
    assert counted(date(2026, 3, 1)) == {date(2026, 3, 1): 2}
    assert counted(date(2026, 12, 1)) == {date(2026, 12, 31): 1}
    assert counted(date(2027, 1, 31)) == {date(2027, 1, 1): 2}
    assert counted(date(2026, 4, 1)) == {}


def test_counts_are_of_one_report_or_of_all_and_without_test_data(caller: Caller) -> None:
    real = issue_report(caller, start_session(caller).id)
    other = issue_report(caller, start_session(caller).id)
    test = issue_report(caller, start_session(caller, is_test=True).id)
    for report, accesses in ((real, 1), (other, 2), (test, 4)):
        record(caller, report.id, *[NOON] * accesses)

    def counted(**which: object) -> int:
        per_day = caller.call(SERVICE, access_log.counts_per_day, date(2026, 2, 1), **which)
        return per_day.get(date(2026, 2, 14), 0)

    assert counted() == 3
    assert counted(include_test=True) == 7
    assert counted(report_id=other.id) == 2
    assert counted(report_id=test.id) == 0
    assert counted(report_id=test.id, include_test=True) == 4


@pytest.mark.parametrize("month", [date(1, 1, 1), date(9999, 12, 31)])
def test_the_ends_of_the_calendar_are_months_too(caller: Caller, month: date) -> None:
    record(caller, issue_report(caller).id, NOON)
    assert caller.call(SERVICE, access_log.counts_per_day, month) == {}


def unusual(caller: Caller, **wanted: object) -> list[UnusualAccess]:
    return caller.call(SERVICE, access_log.unusual, **{"since": NOON, **wanted})


def test_a_report_opened_from_many_addresses_is_unusual(caller: Caller) -> None:
    shared, quiet, nameless = (issue_report(caller) for _ in range(3))
    for number in range(5):
        record(caller, shared.id, NOON + number * timedelta(hours=1), ip_address=f"10.0.0.{number}")
        record(caller, quiet.id, NOON + number * timedelta(hours=1), ip_address=f"10.0.0.{number % 4}")
        record(caller, nameless.id, NOON + number * timedelta(hours=1), ip_address="unknown")
    assert unusual(caller) == [UnusualAccess(shared.id, accesses=5, addresses=5, burst=1)]
    assert [found.report_id for found in unusual(caller, addresses=4)] == [shared.id, quiet.id]
    assert unusual(caller, addresses=6) == []
    assert unusual(caller, since=NOON + SECOND) == []


def test_a_report_opened_many_times_in_a_minute_is_unusual(caller: Caller) -> None:
    burst, steady = issue_report(caller), issue_report(caller)
    record(caller, burst.id, *(NOON + number * SECOND for number in range(20)), ip_address="10.0.0.1")
    record(caller, steady.id, *(NOON + number * timedelta(minutes=1) for number in range(30)))
    assert unusual(caller) == [UnusualAccess(burst.id, accesses=20, addresses=1, burst=20)]
    assert unusual(caller, burst=21) == []


def test_a_burst_over_the_turn_of_a_minute_is_a_burst(caller: Caller) -> None:
    made = issue_report(caller)
    record(caller, made.id, *(NOON - 10 * SECOND + number * SECOND for number in range(20)))
    found = unusual(caller, since=NOON - timedelta(hours=1))
    assert [report.report_id for report in found] == [made.id]


def test_the_most_unusual_comes_first(caller: Caller) -> None:
    made = [issue_report(caller) for _ in range(4)]
    for report, addresses, burst in zip(made, (2, 6, 0, 4), (2, 0, 40, 0), strict=True):
        for number in range(addresses):
            record(caller, report.id, NOON + number * timedelta(hours=1), ip_address=f"10.0.0.{number}")
        record(caller, report.id, *[NOON + timedelta(days=1)] * burst)
    # By how many times a limit is exceeded: 40 of 4, 6 of 2, 4 of 2, 2 of 2.
    order = [made[2].id, made[1].id, made[3].id, made[0].id]
    assert [found.report_id for found in unusual(caller, addresses=2, burst=4)] == order
    assert [found.report_id for found in unusual(caller, addresses=2, burst=4, limit=2)] == order[:2]


def test_a_report_opened_after_its_end_is_unusual(caller: Caller, owner: psycopg.Connection) -> None:
    """Its end as it was at the moment of each access: revocations and extensions move it."""
    now = datetime.now(UTC)
    expired = issue_report(caller)
    record(caller, expired.id, expired.expires_at - SECOND, expired.expires_at, expired.expires_at + SECOND)
    revoked = issue_report(caller)
    record(caller, revoked.id, now)
    end = caller.call(SERVICE, reports.revoke, revoked.id, reason="refund")
    record(caller, revoked.id, end + SECOND, end + 2 * SECOND, end + 3 * SECOND)
    found = unusual(caller, since=now - SECOND)
    assert found == [
        UnusualAccess(revoked.id, accesses=4, addresses=0, burst=4, after_end=3),
        UnusualAccess(expired.id, accesses=3, addresses=0, burst=3, after_end=2),
    ]
    assert [one.report_id for one in unusual(caller, since=now - SECOND, after_end=3)] == [revoked.id]
    assert unusual(caller, since=now - SECOND, after_end=4) == []
    # Opened while it had ended, and again when it was extended.
    extended = issue_report(caller)
    caller.call(SERVICE, reports.revoke, extended.id, reason="mistake")
    later = now + timedelta(days=9)
    caller.call(SERVICE, reports.extend, extended.id, expires_at=later, reason="mistake")
    ((first,), (second,)) = [
        row.values()
        for row in owner.execute(
            "SELECT changed_at FROM report_expiry_changes WHERE report_id = %s ORDER BY id", [extended.id]
        )
    ]
    record(caller, extended.id, first - SECOND, (first + (second - first) / 2), second + SECOND)
    (last,) = [one for one in unusual(caller, since=now - 5 * SECOND) if one.report_id == extended.id]
    assert (last.accesses, last.after_end) == (3, 1)


def test_test_data_is_not_unusual(caller: Caller, owner: psycopg.Connection) -> None:
    made = issue_report(caller)
    record(caller, made.id, *(NOON + number * SECOND for number in range(20)))
    owner.execute("UPDATE public.user_sessions SET is_test = true")
    assert unusual(caller) == []
    assert [found.report_id for found in unusual(caller, include_test=True)] == [made.id]
