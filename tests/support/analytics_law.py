"""What the views of the schema analytics must show, counted in Python from the rows themselves."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

PAID = {"completed", "refunded"}
SESSIONS = "SELECT id, path_choice, payment_status, created_at FROM public.user_sessions WHERE NOT is_test"
REPORTS = """
    SELECT id, session_id, created_at, expires_at, access_count, last_accessed_at
    FROM public.generated_reports
"""
ACCESSES = "SELECT report_id, accessed_at FROM public.report_access_log"
PENDING = "SELECT report_id, access_count, last_accessed_at FROM public.report_access_pending"
FORMS = """
    SELECT id::text, access.session_id, pricing_tier, payment_status, report_token, form.created_at
    FROM public.calculator2_sessions AS form
    LEFT JOIN (SELECT access_token, session_id FROM public.generated_reports) AS access
        ON access.access_token = form.report_token
"""
TRIALS = """
    SELECT session_key FROM public.stripe_events
    WHERE session_table = 'calculator2_sessions' AND NOT livemode
"""
ASSESSMENTS = "SELECT payment_status, created_at FROM public.cw_assessment_sessions WHERE NOT is_test"

Rows = list[tuple[Any, ...]]


def day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()


def month(moment: datetime) -> date:
    return day(moment).replace(day=1)


def as_text(row: tuple[Any, ...]) -> tuple[str, ...]:
    """An order that NULLs have a place in."""
    return tuple(map(str, row))


def share(part: int, whole: int) -> Decimal | None:
    if not whole:
        return None
    return (Decimal(part) / whole).quantize(Decimal("0.0001"), ROUND_HALF_UP)


class Law:
    """What somebody who sees all rows finds now, without test data, and what a view makes of them."""

    def __init__(self, rows: Callable[[str], Rows]) -> None:
        self.sessions = {row[0]: row[1:] for row in rows(SESSIONS)}
        self.reports = {row[0]: row[1:] for row in rows(REPORTS) if row[1] in self.sessions}
        self.accesses = [row for row in rows(ACCESSES) if row[0] in self.reports]
        self.counts = {report: row[3] for report, row in self.reports.items()}
        self.latest = {report: row[4] for report, row in self.reports.items()}
        for report, number, moment in rows(PENDING):
            if report in self.reports:
                self.counts[report] += number
                known = (self.latest[report], moment, self.reports[report][1])
                self.latest[report] = max(one for one in known if one is not None)
        trials = {key for (key,) in rows(TRIALS)}
        self.forms = [
            row[2:]
            for row in rows(FORMS)
            if row[0] not in trials and (row[1] is None or row[1] in self.sessions)
        ]
        self.assessed = rows(ASSESSMENTS)

    def accesses_per_day(self) -> Rows:
        opened: dict[date, list[int]] = defaultdict(list)
        for report, moment in self.accesses:
            opened[day(moment)].append(report)
        return [(when, len(found), len(set(found))) for when, found in opened.items()]

    def accesses_per_week(self) -> Rows:
        weeks: dict[date, list[int]] = defaultdict(lambda: [0, 0])
        for when, accesses, reports in self.accesses_per_day():
            monday = when - timedelta(days=when.weekday())
            weeks[monday][0] += accesses
            weeks[monday][1] += reports
        return [(monday, *counts) for monday, counts in weeks.items()]

    def accesses_per_report(self) -> Rows:
        moments: dict[int, list[datetime]] = defaultdict(list)
        for report, moment in self.accesses:
            moments[report].append(moment)
        return [
            (
                report,
                self.sessions[session][0],
                day(created),
                day(expires),
                self.counts[report],
                day(min(moments[report])) if 0 < self.counts[report] == len(moments[report]) else None,
                None if self.latest[report] is None else day(self.latest[report]),
            )
            for report, (session, created, expires, *_) in self.reports.items()
        ]

    def _made(self, session: int) -> list[int]:
        return [report for report, row in self.reports.items() if row[0] == session]

    def paths(self) -> Rows:
        found: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
        for session, (path, status, _) in self.sessions.items():
            made = self._made(session)
            step = (1, status in PAID, status == "refunded", len(made), sum(self.counts[r] > 0 for r in made))
            found[path] = [one + more for one, more in zip(found[path], step, strict=True)]
        return [(path, *counts) for path, counts in found.items()]

    def conversion(self) -> Rows:
        found: dict[tuple[date, str], list[int]] = defaultdict(lambda: [0] * 5)
        for session, (path, status, created) in self.sessions.items():
            made = self._made(session) if status in PAID else []
            step = (
                1,
                status in PAID,
                status == "refunded",
                bool(made),
                any(self.counts[report] > 0 for report in made),
            )
            place = (month(created), path)
            found[place] = [one + more for one, more in zip(found[place], step, strict=True)]
        return [
            (*place, *counts, *map(share, (counts[1], *counts[3:]), (counts[0], counts[1], counts[3])))
            for place, counts in found.items()
        ]

    def calculator_funnel(self) -> Rows:
        found: dict[date, list[int]] = defaultdict(lambda: [0] * 5)
        for tier, status, token, created in self.forms:
            step = (1, tier is not None, status in PAID, status == "refunded", token is not None)
            place = day(created)
            found[place] = [one + more for one, more in zip(found[place], step, strict=True)]
        return [(place, *counts) for place, counts in found.items()]

    def assessments(self) -> Rows:
        found: dict[tuple[date, str], int] = defaultdict(int)
        for status, created in self.assessed:
            found[month(created), status] += 1
        return [(*place, number) for place, number in found.items()]


VIEWS: dict[str, tuple[str, Callable[[Law], Rows]]] = {
    "accesses_per_day": ("day, accesses, reports", Law.accesses_per_day),
    "accesses_per_week": ("week, accesses, report_days", Law.accesses_per_week),
    "accesses_per_report": (
        "report_id, path_choice, created_on, expires_on, accesses, first_access, last_access",
        Law.accesses_per_report,
    ),
    "paths": ("path_choice, sessions, paid, refunded, reports, opened", Law.paths),
    "conversion": (
        (
            "month, path_choice, sessions, paid, refunded, with_report, opened, paid_share, report_share,"
            " opened_share"
        ),
        Law.conversion,
    ),
    "calculator_funnel": (
        "day, started, tier_chosen, paid, refunded, with_report",
        Law.calculator_funnel,
    ),
    "assessments": ("month, payment_status, assessments", Law.assessments),
}


def shown(ask: Callable[[str], Rows], names: Iterable[str] = VIEWS) -> dict[str, Rows]:
    """What the views show to whoever asks, sorted, without when it was counted."""
    return {
        name: sorted(ask(f"SELECT {columns} FROM analytics.{name}"), key=as_text)
        for name, (columns, _) in VIEWS.items()
        if name in names
    }


def counted(ask: Callable[[str], Rows], names: Iterable[str] = VIEWS) -> dict[str, Rows]:
    """What they should show: the rollup as of a refresh now, the others at every moment."""
    law = Law(ask)
    return {name: sorted(VIEWS[name][1](law), key=as_text) for name in names}
