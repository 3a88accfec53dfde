"""Sessions, reports, accesses, forms and assessments of any kind, and how they get into the tables."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from hypothesis import strategies as st

PATHS = ("carnivore", "keto", "paleo", "custom")
STATES = ("pending", "completed", "failed", "refunded")
_numbers = itertools.count(1)

# Around the ends of days, weeks, months and years, in months with a partition and without one.
MOMENTS = st.one_of(
    st.timedeltas(timedelta(0), timedelta(days=65)).map(
        lambda span: datetime(2025, 12, 28, tzinfo=UTC) + span
    ),
    st.sampled_from(
        [
            first + tick
            for first in (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 2, tzinfo=UTC))
            for tick in (timedelta(0), timedelta(microseconds=-1))
        ]
    ),
    st.timedeltas(timedelta(0), timedelta(days=30)).map(lambda span: datetime(2001, 1, 1, tzinfo=UTC) + span),
)


@dataclass(frozen=True)
class Report:
    """A report, the moments when it was opened, and whether they are still to be added up."""

    created: datetime
    accesses: tuple[datetime, ...] = ()
    pending: bool = False


@dataclass(frozen=True)
class Sale:
    """A session with its reports."""

    path: str
    status: str
    created: datetime
    reports: tuple[Report, ...] = ()


@dataclass(frozen=True)
class Form:
    """A session of the calculator; `reported`: it has a report, of a session of its own."""

    tier: str | None
    status: str
    created: datetime
    reported: bool = False


@dataclass(frozen=True)
class Everything:
    """Whatever is planted together."""

    sales: tuple[Sale, ...] = ()
    forms: tuple[Form, ...] = ()
    assessments: tuple[tuple[str, datetime], ...] = ()


REPORTS = st.builds(Report, MOMENTS, st.lists(MOMENTS, max_size=6).map(tuple), st.booleans())
SALES = st.builds(
    Sale,
    st.sampled_from(PATHS),
    st.sampled_from(STATES),
    MOMENTS,
    st.lists(REPORTS, max_size=2).map(tuple),
)
FORMS = st.builds(Form, st.sampled_from((None, "bundle")), st.sampled_from(STATES), MOMENTS, st.booleans())
EVERYTHING = st.builds(
    Everything,
    st.lists(SALES, max_size=6).map(tuple),
    st.lists(FORMS, max_size=3).map(tuple),
    st.lists(st.tuples(st.sampled_from(STATES), MOMENTS), max_size=3).map(tuple),
)


def plant(connection: psycopg.Connection, rows: Everything, *, is_test: bool = False) -> None:
    """Put the rows in as the superuser; as test data, of which a form is known by Stripe or by its report."""
    for sale in rows.sales:
        plant_sale(connection, sale, is_test=is_test)
    for number, form in enumerate(rows.forms):
        token = None
        if form.reported:
            sale = Sale("keto", "completed", form.created, (Report(form.created),))
            (token,) = plant_sale(connection, sale, is_test=is_test)
        (key,) = connection.execute(
            "INSERT INTO public.calculator2_sessions"
            " (session_token, pricing_tier, payment_status, report_token,"
            " created_at, last_active_at, expires_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id::text",
            [f"{next(_numbers):032}", form.tier, form.status, token, form.created, form.created,
             form.created + timedelta(days=2)],
        ).fetchone() or ("",)  # fmt: skip
        # Its report tells of some; of the others, and of some of these too, Stripe does. A live event says
        # nothing.
        if (is_test and not form.reported) or number % 2:
            connection.execute(
                "INSERT INTO public.stripe_events"
                " (id, type, livemode, payload, outcome, session_table, session_key)"
                " VALUES (%s, 'charge.refunded', %s, '{}', 'applied', 'calculator2_sessions', %s)",
                [f"evt_{next(_numbers)}", not is_test, key],
            )
    for status, created in rows.assessments:
        connection.execute(
            "INSERT INTO public.cw_assessment_sessions"
            " (email, first_name, form_data, payment_status, created_at, is_test)"
            " VALUES ('ada@example.com', 'Ada', '{}', %s, %s, %s)",
            [status, created, is_test],
        )


def plant_sale(connection: psycopg.Connection, sale: Sale, *, is_test: bool = False) -> list[str]:
    """Put in a session with its reports and accesses. Returns the reports' tokens."""
    (session,) = connection.execute(
        "INSERT INTO public.user_sessions"
        " (email, path_choice, macro_data, payment_status, stripe_payment_id, created_at, is_test)"
        " VALUES ('ada@example.com', %s, '{}', %s, %s, %s, %s) RETURNING id",
        [sale.path, sale.status, f"pi_{next(_numbers)}", sale.created, is_test],
    ).fetchone() or (0,)
    tokens = []
    for report in sale.reports:
        tokens.append(f"{next(_numbers):064x}")
        (made,) = connection.execute(
            "INSERT INTO public.generated_reports"
            " (session_id, access_token, report_html, questionnaire_data, created_at, expires_at)"
            " VALUES (%s, %s, '<p>x</p>', '{}', %s, %s) RETURNING id",
            [session, tokens[-1], report.created, report.created + timedelta(days=30)],
        ).fetchone() or (0,)
        mode = "deferred" if report.pending else "immediate"
        connection.execute("SELECT set_config('carnivore.access_counting', %s, false)", [mode])
        for moment in report.accesses:
            connection.execute(
                "INSERT INTO public.report_access_log (report_id, accessed_at) VALUES (%s, %s)",
                [made, moment],
            )
    return tokens


def refresh(connection: psycopg.Connection, month: str | None = None) -> int:
    """Count anew, as whoever is connected."""
    (days,) = connection.execute("SELECT analytics.refresh(%s::date)", [month]).fetchone() or (0,)
    return int(days)


def rows(connection: psycopg.Connection) -> Callable[[str], list[tuple[Any, ...]]]:
    """A way to ask on this connection."""
    return lambda query: connection.execute(query).fetchall()  # type: ignore[call-overload, no-any-return]
