"""Analytics: the role reads counts of real rows, as new as they say, and what is unusual among them."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg

from tests.operations.analytics.planting import (
    PATHS,
    STATES,
    Everything,
    Form,
    Report,
    Sale,
    plant,
    plant_sale,
)
from tests.security.personas import Session
from tests.security.registry import promise
from tests.security.rights import VIEWED
from tests.security.rows import insertion
from tests.security.rules import CHECK, UNIQUE, counter_examples, good_rows, required
from tests.support import analytics_law

JANUARY = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
FEBRUARY = JANUARY + timedelta(seconds=1)
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
# Opened or not, at once or still pending, before it was made and after; every path and state.
REPORTS = (
    Report(JANUARY),
    Report(JANUARY, (NEW_YEAR, FEBRUARY, FEBRUARY, MARCH)),
    Report(FEBRUARY, (MARCH, JANUARY, MARCH + DAY), pending=True),
    Report(MARCH, (JANUARY,), pending=True),
)
EXAMPLE = Everything(
    tuple(
        Sale(path, status, moment, REPORTS[: number % 5])
        for number, (path, status, moment) in enumerate(
            (path, status, moment)
            for path in PATHS
            for status in (*STATES, "completed", "refunded")
            for moment in (JANUARY, FEBRUARY)
        )
    ),
    tuple(
        Form(tier, status, moment, reported)
        for tier, reported in (("bundle", True), ("bundle", False), (None, False))
        for status in STATES
        for moment in (JANUARY, FEBRUARY)
    ),
    tuple((status, moment) for status in STATES for moment in (JANUARY, FEBRUARY, FEBRUARY)),
)
NOT_KEPT = "DELETE FROM public.stripe_events; DELETE FROM public.calculator2_sessions;"
AWAY = """
    INSERT INTO carnivore.archived_partitions (parent, month, part, file_url, detached_at, restored_as)
    VALUES (%s, %s, 1, 'file:///archive/1', %s, %s::regclass)
"""
ROLLUP = "SELECT day, accesses, reports FROM analytics.access_days ORDER BY day"


def _planted(s: Session, *rows: Any, is_test: bool = False, how: Callable[..., Any] = plant) -> None:
    """Damage to another rule may refuse the rows: then the promise is broken too."""
    s.become(s.superuser)
    try:
        for row in rows:
            how(s.connection, row, is_test=is_test)
    except psycopg.Error as error:
        raise AssertionError(f"the rows are refused: {error}") from error
    s.become(s.as_("superuser", access_counting="immediate"))


def _refresh(s: Session, month: str | None = None, **settings: str) -> int:
    return int(s.as_("owner", **settings).value("SELECT analytics.refresh(%s::date)", [month]))


def _sold(s: Session, *moments: datetime, is_test: bool = False) -> None:
    sale = Sale("keto", "completed", NEW_YEAR, (Report(NEW_YEAR, moments),))
    _planted(s, sale, is_test=is_test, how=plant_sale)


@promise(f"{' '.join(sorted(VIEWED))} view refresh clause analytics reporting SELECT USAGE access_days")
def the_views_show_what_the_real_rows_add_up_to(s: Session) -> None:
    for zone in ("UTC", "Pacific/Auckland", "America/Los_Angeles"):
        with s.undone():
            _planted(s, EXAMPLE)
            _planted(s, EXAMPLE, is_test=True)
            _refresh(s, time_zone=zone)
            shown = analytics_law.shown(s.as_("reporting", time_zone=zone).rows)
            counted = analytics_law.counted(s.superuser.rows)
            for view, rows in counted.items():
                assert shown[view] == rows, view
            assert all(counted.values())


@promise("analytics.paths analytics.conversion analytics.calculator_funnel view clause")
def the_views_show_what_few_rows_add_up_to(s: Session) -> None:
    """Here no row makes up for another."""
    s.superuser.allows(NOT_KEPT)
    s.superuser.allows("DELETE FROM public.user_sessions")
    opened = (Report(JANUARY, (MARCH,)), Report(JANUARY))
    few = Everything(
        (
            Sale("keto", "pending", JANUARY, (Report(JANUARY, (MARCH,)),)),
            Sale("paleo", "completed", JANUARY, opened),
            Sale("paleo", "completed", JANUARY),
            Sale("paleo", "completed", JANUARY),  # a third has a report
            Sale("paleo", "pending", JANUARY),
            Sale("custom", "failed", JANUARY),
            Sale("carnivore", "completed", JANUARY, (Report(JANUARY, (MARCH,), pending=True),)),
        ),
        (Form("bundle", "completed", JANUARY, reported=True), Form(None, "pending", JANUARY)),
    )
    for is_test in (False, True):
        _planted(s, few, is_test=is_test)
        shown = analytics_law.shown(s.as_("reporting").rows)
        assert shown == {**analytics_law.counted(s.superuser.rows), **_without_days(shown)}
        # Somebody else's event, and one of another table.
        s.superuser.allows(
            "INSERT INTO public.stripe_events"
            " (id, type, livemode, payload, outcome, session_table, session_key)"
            " SELECT 'evt_x' || id || %s, 'x', false, '{}', 'applied', 'user_sessions', id::text"
            " FROM public.calculator2_sessions",
            [str(is_test)],
        )


@promise("analytics.accesses_per_report view")
def a_first_access_that_may_have_gone_is_not_shown(s: Session) -> None:
    s.as_("service").allows("INSERT INTO public.report_access_log (report_id) VALUES (9001), (9001)")
    first = "SELECT first_access IS NULL FROM analytics.accesses_per_report WHERE report_id = 9001"
    assert s.as_("reporting").value(first) is False
    gone = "DELETE FROM public.report_access_log WHERE report_id = 9001 AND accessed_at < now()"
    s.as_("superuser", triggers="replica").allows(gone, rows=1)
    assert s.as_("reporting").value(first) is True


def _without_days(shown: dict[str, Any]) -> dict[str, Any]:
    """Nothing was counted anew."""
    return {view: shown[view] for view in ("accesses_per_day", "accesses_per_week")}


@promise("refresh clause analytics.access_days")
def a_month_is_counted_alone(s: Session) -> None:
    s.superuser.allows("DELETE FROM public.user_sessions")
    _refresh(s)
    assert s.superuser.rows(ROLLUP) == []
    _sold(s, NEW_YEAR, JANUARY, FEBRUARY, FEBRUARY, MARCH)
    last = MARCH - timedelta(seconds=1)
    _sold(s, FEBRUARY, last)
    february = [(FEBRUARY.date(), 3, 2), (last.date(), 1, 1)]
    assert _refresh(s, "2026-02-28", time_zone="Pacific/Auckland") == 2
    assert s.superuser.rows(ROLLUP) == february
    assert _refresh(s) == 5
    everything = s.superuser.rows(ROLLUP)
    assert [row[0] for row in everything] == [
        one.date() for one in (NEW_YEAR, JANUARY, FEBRUARY, last, MARCH)
    ]
    s.superuser.allows("DELETE FROM public.user_sessions")
    assert _refresh(s, "2026-02-01", time_zone="Pacific/Auckland") == 2
    assert s.superuser.rows(ROLLUP) == [row for row in everything if row not in february]
    assert _refresh(s) == 3
    assert s.superuser.rows(ROLLUP) == []


@promise("refresh clause analytics.access_days accesses_per_week view")
def a_count_says_when_it_was_made(s: Session) -> None:
    s.superuser.allows("DELETE FROM public.user_sessions")
    _sold(s, JANUARY, FEBRUARY)
    _refresh(s)
    s.superuser.allows(
        "UPDATE analytics.access_days SET counted_at = '2020-01-01', accesses = 7, reports = 7"
    )
    weeks = "SELECT counted_at < '2020-02-01' FROM analytics.accesses_per_week"
    assert s.as_("reporting").rows(weeks) == [(True,)]
    _refresh(s, "2026-02-01")
    assert s.as_("reporting").rows(weeks) == [(True,)]
    now = "SELECT day, accesses, reports, counted_at = now() FROM analytics.accesses_per_day ORDER BY day"
    (january, february) = s.as_("reporting").rows(now)
    assert (january, february) == ((JANUARY.date(), 7, 7, False), (FEBRUARY.date(), 1, 1, True))


@promise("refresh clause analytics.access_days archived_partitions")
def a_month_in_cold_storage_keeps_its_days(s: Session) -> None:
    s.superuser.allows("DELETE FROM public.user_sessions; DELETE FROM carnivore.archived_partitions")
    _refresh(s)
    _sold(s, NEW_YEAR, NEW_YEAR, FEBRUARY)
    _refresh(s)
    before = s.superuser.rows(ROLLUP)
    s.superuser.allows("DELETE FROM public.user_sessions")
    _sold(s, NEW_YEAR, JANUARY, MARCH)
    now, log = datetime.now(UTC), "public.report_access_log"
    for parent, detached, restored, kept in (
        (log, now, None, True),
        (log, None, None, False),
        ("conversation.logs", now, None, False),
        (log, now, "public.report_access_log_default", False),
    ):
        with s.undone():
            s.superuser.allows(AWAY, [parent, "2026-01-01", detached, restored])
            _refresh(s)
            january = before[:1] if kept else [(NEW_YEAR.date(), 1, 1), (JANUARY.date(), 1, 1)]
            assert s.superuser.rows(ROLLUP) == [*january, (MARCH.date(), 1, 1)]
    with s.undone():
        s.superuser.allows(AWAY, [log, "2026-01-01", now, "public.report_access_log_default"])
        s.superuser.allows("UPDATE carnivore.archived_partitions SET restored_as = 4000000000::oid::regclass")
        _refresh(s)
        assert s.superuser.rows(ROLLUP)[:1] == before[:1]


@promise("refresh clause")
def one_counts_at_a_time(s: Session) -> None:
    _refresh(s)
    assert s.superuser.value(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted"
    )


def _unusual(s: Session, *limits: int, persona: str = "reporting", since: datetime = NEW_YEAR) -> list[Any]:
    """With limits of addresses, of a burst and of opens after the end; reports are numbered from 0."""
    places = ", ".join(["%s"] * len(limits))
    rows = s.as_(persona).rows(
        f"SELECT * FROM analytics.unusual_access(%s, {places}) WITH ORDINALITY ORDER BY ordinality",
        [since, *limits],
    )
    first = s.superuser.value("SELECT min(id) FROM public.generated_reports")
    return [(report - first, *counts) for report, *counts, _ in rows]


@promise("unusual_access clause analytics EXECUTE USAGE")
def unusual_access_is_found(s: Session) -> None:
    s.superuser.allows("DELETE FROM public.user_sessions")
    s.superuser.allows("ALTER SEQUENCE public.generated_reports_id_seq RESTART WITH 500")
    # 0 has addresses, 1 a burst, 2 opens after its end, 3 is quiet, 4 is a trial's.
    for is_test in (False, False, False, False, True):
        _sold(s, is_test=is_test)
    second, minute = timedelta(seconds=1), timedelta(seconds=60)

    def opened(report: int, *accesses: tuple[datetime, str]) -> None:
        for moment, address in accesses:
            s.superuser.allows(
                "INSERT INTO public.report_access_log (report_id, accessed_at, ip_address)"
                " VALUES (%s, %s, %s)",
                [500 + report, moment, f"10.0.0.{address}"],
            )

    noon = NEW_YEAR + DAY / 2
    opened(0, *((noon + minute * number, str(number % 3)) for number in range(4)))
    almost = minute - timedelta(microseconds=500)
    opened(
        1, *((noon + span, "7") for span in (0 * second, second, almost, 3 * minute, 5 * minute, 7 * minute))
    )
    opened(3, (noon + 2 * second, "8"))
    opened(4, *((noon + second * number, str(number)) for number in range(9)))
    # Its end was NEW_YEAR + 30 days; at noon it was moved before noon, and later to the morning after.
    change = (
        "INSERT INTO public.report_expiry_changes"
        " (report_id, changed_at, changed_by, old_expires_at, new_expires_at) VALUES (%s, %s, 'x', %s, %s)"
    )
    end, morning = NEW_YEAR + 30 * DAY, noon + DAY / 2
    s.superuser.allows(change, [502, noon, end, noon - 4 * minute])
    s.superuser.allows(change, [502, noon + 6 * minute, noon - 4 * minute, morning])
    s.superuser.allows(change, [503, noon + second, NEW_YEAR, end])
    s.superuser.allows(change, [503, noon + 6 * minute, end, NEW_YEAR])
    s.as_("superuser", triggers="replica").allows(
        "UPDATE public.generated_reports SET expires_at = %s WHERE id = 502", [morning]
    )
    late = (noon - 2 * minute, noon, noon + 3 * minute, noon + 7 * minute, morning, morning + DAY)
    opened(2, *((moment, "9") for moment in late))
    found = {
        (3, 99, 99): [(0, 4, 3, 1, 0)],
        (99, 3, 99): [(1, 6, 1, 3, 0)],
        (99, 99, 4): [(2, 6, 1, 1, 4)],
        (4, 4, 5): [],
        (3, 3, 2): [(2, 6, 1, 1, 4), (0, 4, 3, 1, 0), (1, 6, 1, 3, 0)],
        (1, 3, 4): [(0, 4, 3, 1, 0), (1, 6, 1, 3, 0), (2, 6, 1, 1, 4), (3, 1, 1, 1, 0)],
        (3, 1, 4): [(1, 6, 1, 3, 0), (0, 4, 3, 1, 0), (2, 6, 1, 1, 4), (3, 1, 1, 1, 0)],
    }
    for limits, reports in found.items():
        for persona in ("reporting", "service", "owner"):
            shown = _unusual(s, *limits, persona=persona)
            assert shown == reports, f"{limits}: {shown}"
    assert _unusual(s, 3, 3, 4, since=morning) == []
    assert _unusual(s, 1, 1, 1, since=morning) == [(2, 2, 1, 1, 2)]
    query = "SELECT report_id FROM analytics.unusual_access(%s, 9, 9, 9, %s)"
    assert s.as_("reporting").rows(query, [NEW_YEAR, True]) == [(504,)]
    assert s.as_("reporting").rows(query, [NEW_YEAR, False]) == []


@promise("catalog analytics view additive")
def views_of_analytics_are_barriers_and_reporting_alone_may_read_them(s: Session) -> None:
    """What is granted, for many a statement on a view is refused for another reason before it is for that."""
    views = "FROM pg_class AS c WHERE relkind = 'v' AND relnamespace = 'analytics'::regnamespace"
    granted = f"SELECT c.oid::regclass::text, grantee::regrole::text, privilege_type, is_grantable {views}"
    found = s.superuser.rows(
        granted.replace("WHERE", ", aclexplode(relacl) WHERE") + " AND grantee <> relowner ORDER BY 1"
    )
    assert found == [(view, "reporting", "SELECT", False) for view in sorted(VIEWED)]
    options = s.superuser.rows(f"SELECT DISTINCT reloptions {views}")
    assert options == [(["security_barrier=true"],)]


@promise("analytics.access_days access_days_pkey")
def no_two_rows_are_of_one_day(s: Session) -> None:
    known = s.superuser.value("SELECT min(day) FROM analytics.access_days")
    s.superuser.refused(
        *insertion("analytics.access_days", day=known), sqlstate=UNIQUE, constraint="access_days_pkey"
    )


counter_examples(
    {
        ("analytics.access_days", "reports_within_accesses", CHECK): [
            {"reports": 0},
            {"reports": 4},
            {"reports": -1, "accesses": -1},
        ]
    }
)
good_rows({"analytics.access_days": [{"reports": 1}, {"reports": 3}, {"day": date(1999, 1, 1)}]})
required({"analytics.access_days": "accesses reports counted_at"})


@promise("refresh clause access_days")
def two_refreshes_wait_for_each_other(s: Session) -> None:
    held = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        " AND objid = 'analytics.access_days'::regclass AND granted"
    )
    assert s.superuser.value(held) == 0
    _refresh(s)
    assert s.superuser.value(held) == 1
