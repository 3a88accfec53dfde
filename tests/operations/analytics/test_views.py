"""The views show what the rows add up to; test data changes none of them, and nothing of a person is seen."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings

from tests.operations.analytics.planting import (
    EVERYTHING,
    PATHS,
    STATES,
    Everything,
    Form,
    Report,
    Sale,
    plant,
    plant_sale,
    refresh,
    rows,
)
from tests.support import analytics_law

MOMENT = datetime(2026, 2, 14, 12, tzinfo=UTC)
LATER = datetime(2026, 2, 16, 23, 59, 59, tzinfo=UTC)
# One of each kind, all of which are opened.
ALL = Everything(
    tuple(
        Sale(path, status, MOMENT, (Report(MOMENT, (LATER,)), Report(MOMENT, (MOMENT, LATER), pending=True)))
        for path in PATHS
        for status in STATES
    ),
    tuple(Form("bundle", status, MOMENT, reported) for status in STATES for reported in (True, False)),
    tuple((status, MOMENT) for status in STATES),
)


@contextmanager
def taken_back(connection: psycopg.Connection) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        yield


def seen(connection: psycopg.Connection) -> dict[str, analytics_law.Rows]:
    """What the role sees."""
    connection.execute("SET LOCAL ROLE reporting")
    try:
        return analytics_law.shown(rows(connection))
    finally:
        connection.execute("RESET ROLE")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(real=EVERYTHING, test=EVERYTHING)
@example(real=ALL, test=ALL)
@example(real=Everything(), test=ALL)
def test_the_views_show_what_the_real_rows_add_up_to(
    connection: psycopg.Connection, real: Everything, test: Everything
) -> None:
    with taken_back(connection):
        plant(connection, real)
        refresh(connection)
        before = seen(connection)
        assert before == analytics_law.counted(rows(connection))
        plant(connection, test, is_test=True)
        refresh(connection)
        assert seen(connection) == before


def test_days_weeks_and_months_are_those_of_utc_in_any_session(connection: psycopg.Connection) -> None:
    with taken_back(connection):
        plant(connection, ALL)
        refresh(connection)
        before = seen(connection)
        for zone in ("Pacific/Auckland", "America/Los_Angeles"):
            connection.execute("SELECT set_config('TimeZone', %s, true)", [zone])
            refresh(connection)
            assert seen(connection) == before
    assert [row[0] for row in before["accesses_per_day"]] == [date(2026, 2, 14), date(2026, 2, 16)]
    assert [row[0] for row in before["accesses_per_week"]] == [date(2026, 2, 9), date(2026, 2, 16)]


def test_a_refund_was_paid_before(connection: psycopg.Connection) -> None:
    with taken_back(connection):
        for status in ("pending", "completed", "refunded"):
            plant_sale(connection, Sale("keto", status, MOMENT, (Report(MOMENT, (LATER,)),)))
        plant_sale(connection, Sale("keto", "completed", MOMENT))
        found = seen(connection)
    assert found["paths"] == [("keto", 4, 3, 1, 3, 3)]
    assert found["conversion"] == [
        (date(2026, 2, 1), "keto", 4, 3, 1, 2, 2, Decimal("0.7500"), Decimal("0.6667"), Decimal("1.0000"))
    ]


def test_the_first_access_is_not_told_from_the_rest_of_them(connection: psycopg.Connection) -> None:
    """A month goes to cold storage: the count stays, and the first access is known no more."""
    with taken_back(connection):
        plant_sale(connection, Sale("keto", "completed", MOMENT, (Report(MOMENT, (MOMENT, LATER)),)))
        connection.execute("ALTER TABLE public.report_access_log DETACH PARTITION report_access_log_2026_02")
        plant_sale(connection, Sale("keto", "completed", MOMENT, (Report(MOMENT, (LATER,)),)))
        found = [row[-3:] for row in seen(connection)["accesses_per_report"]]
    assert found == [(2, None, date(2026, 2, 16)), (1, date(2026, 2, 16), date(2026, 2, 16))]


SECRETS = {
    "address": "planted.person@example.com",
    "name": "Plantedname",
    "token": "5ec4e7" * 10 + "abcd",
    "form token": "plantedToken_0123456789-abcdefgh",
    "network": "203.0.113.77",
    "agent": "PlantedBrowser/9.9",
    "page": "plantedpage",
    "answer": "plantedanswer",
    "payment": "pi_planted",
}


def plant_secrets(connection: psycopg.Connection) -> None:
    answers = json.dumps({"k": SECRETS["answer"]})
    (session,) = connection.execute(
        "INSERT INTO public.user_sessions (email, path_choice, macro_data, payment_status, stripe_payment_id)"
        " VALUES (%s, 'keto', %s, 'completed', %s) RETURNING id",
        [SECRETS["address"], answers, SECRETS["payment"]],
    ).fetchone() or (0,)
    (report,) = connection.execute(
        "INSERT INTO public.generated_reports"
        " (session_id, email, access_token, report_html, questionnaire_data, expires_at)"
        " VALUES (%s, %s, %s, %s, %s, now() + interval '1 day') RETURNING id",
        [session, SECRETS["address"], SECRETS["token"], SECRETS["page"], answers],
    ).fetchone() or (0,)
    connection.execute(
        "INSERT INTO public.report_access_log (report_id, ip_address, user_agent) VALUES (%s, %s, %s)",
        [report, SECRETS["network"], SECRETS["agent"]],
    )
    connection.execute(
        "INSERT INTO public.calculator2_sessions (session_token, form_state, pricing_tier, report_token)"
        " VALUES (%s, %s, 'bundle', %s)",
        [SECRETS["form token"], answers, SECRETS["token"]],
    )
    connection.execute(
        "INSERT INTO public.cw_assessment_sessions"
        " (email, first_name, form_data, stripe_session_id, stripe_payment_intent_id)"
        " VALUES (%s, %s, %s, %s, %s)",
        [SECRETS["address"], SECRETS["name"], answers, "cs_planted", SECRETS["payment"]],
    )


READ_BY_REPORTING = """
    SELECT format('SELECT to_jsonb(t) FROM %s AS t', c.oid::regclass) FROM pg_class AS c
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relnamespace = 'analytics'::regnamespace
        AND has_table_privilege('reporting', c.oid, 'SELECT')
    UNION ALL
    SELECT format('SELECT to_jsonb(t) FROM %s(%s) AS t', p.oid::regproc, '''2000-01-01'', 1, 1, 1')
    FROM pg_proc AS p
    WHERE p.pronamespace = 'analytics'::regnamespace AND has_function_privilege('reporting', p.oid, 'EXECUTE')
"""


def test_nothing_of_a_person_is_shown(connection: psycopg.Connection) -> None:
    with taken_back(connection):
        plant_secrets(connection)
        refresh(connection)
        sources = [query for (query,) in connection.execute(READ_BY_REPORTING)]
        assert len(sources) == len(analytics_law.VIEWS) + 1
        connection.execute("SET LOCAL ROLE reporting")
        for source in sources:
            found = [json.dumps(row) for (row,) in connection.execute(source)]
            assert found, f"nothing to look through: {source}"
            for what, secret in SECRETS.items():
                assert not [row for row in found if secret.lower() in row.lower()], f"{what}: {source}"


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
@pytest.mark.parametrize("view", analytics_law.VIEWS)
def test_no_other_role_reads_them(connection: psycopg.Connection, view: str, role: str) -> None:
    with taken_back(connection):
        connection.execute(f"SET LOCAL ROLE {role}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"SELECT FROM analytics.{view}")


def test_a_login_is_given_the_role(connection: psycopg.Connection) -> None:
    """As the docs say: it reads the views, and no table."""
    with taken_back(connection):
        connection.execute("CREATE ROLE dashboards_of_a_test; GRANT reporting TO dashboards_of_a_test")
        connection.execute("SET LOCAL ROLE dashboards_of_a_test")
        assert analytics_law.shown(rows(connection)).keys() == analytics_law.VIEWS.keys()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT FROM public.user_sessions")
