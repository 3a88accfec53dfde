"""Sessions and assessments: the service's to write, a person's own to read, payments that never go back."""

from functools import partial
from itertools import product

from tests.security.personas import OUTSIDERS, OWNERS, SERVICES, Session
from tests.security.registry import add, promise
from tests.security.rights import OWN_SESSIONS
from tests.security.rows import insert, insertion
from tests.security.seed import ASSESSMENT

OWN = "SELECT id FROM public.user_sessions"
STATES = ("pending", "completed", "failed", "refunded")
WAYS = {
    ("pending", "completed"),
    ("pending", "failed"),
    ("failed", "pending"),
    ("failed", "completed"),
    ("completed", "refunded"),
}
TABLES = ("public.user_sessions", "public.calculator2_sessions", "public.cw_assessment_sessions")


@promise("public.user_sessions authenticated SELECT auth_user_sessions_read")
def a_person_reads_their_own_sessions_and_nobody_elses(s: Session) -> None:
    columns = ", ".join(OWN_SESSIONS.split())
    row = s.as_("ada").row(f"SELECT {columns} FROM public.user_sessions")
    assert {9001, "ada@example.com"} <= {value for value in row if not isinstance(value, dict)}
    assert s.as_("ada", claims='{"email": "ADA@Example.com"}').rows(OWN) == [(9001,)]
    s.as_("ada").sees_nothing(f"{OWN} WHERE id = 9002")
    s.as_("stranger").sees_nothing(OWN)


@promise("public.user_sessions authenticated anon policy SELECT")
def nobody_reads_sessions_by_a_claim_that_is_no_address_of_theirs(s: Session) -> None:
    for claims in (
        "",
        "{}",
        '{"email": null}',
        '{"email": ""}',
        '{"email": "%"}',
        '{"email": "%@example.com"}',
        '{"email": "ada@example.com "}',
        '{"email": "ada"}',
        '{"role": "service_role"}',
        '{"email": ["ada@example.com", "bob@example.com"]}',
    ):
        s.as_("stranger", claims=claims).sees_nothing(OWN)
    s.as_("anon", claims='{"email": "ada@example.com"}').refused(OWN)


@promise("public.user_sessions authenticated policy")
def an_address_that_differs_in_more_than_case_reads_nothing(s: Session) -> None:
    insert(s.superuser, "public.user_sessions", "id", email="kim@example.com")
    assert len(s.as_("stranger", claims='{"email": "KIM@example.com"}').rows(OWN)) == 1
    s.as_("stranger", claims='{"email": "\u212aim@example.com"}').sees_nothing(OWN)


@promise("auth.users anon authenticated")
def no_outsider_reads_or_writes_the_people_who_can_log_in(s: Session) -> None:
    for persona in OUTSIDERS:
        s.as_(persona).refused("SELECT FROM auth.users")
        s.as_(persona).refused("INSERT INTO auth.users (email) VALUES ('ada@example.com')")
        s.as_(persona).refused("UPDATE auth.users SET email = 'ada@example.com'")
        s.as_(persona).refused("DELETE FROM auth.users")


def _a_payment_goes_the_allowed_ways_only(s: Session, *, table: str) -> None:
    for before, after in product(STATES, STATES):
        with s.undone():
            key = insert(s.superuser, table, "id", payment_status=before)
            statement = f"UPDATE {table} SET payment_status = %s WHERE id = %s"
            if before == after or (before, after) in WAYS:
                s.as_("service").allows(statement, [after, key], rows=1)
                continue
            for persona in (*SERVICES, *OWNERS):
                error = s.as_(persona).refused(
                    statement, [after, key], sqlstate="23000", constraint="payment_transition"
                )
                assert error.diag.message_detail == f"{before} -> {after}"
                assert error.diag.column_name == "payment_status"


for _table in TABLES:
    _check = partial(_a_payment_goes_the_allowed_ways_only, table=_table)
    _about = f"{_table} payment enforce_payment_transition"
    add(f"a payment of {_table} goes the allowed ways only", _check, _about)


@promise("public.user_sessions public.cw_assessment_sessions fold_email")
def addresses_are_stored_in_lower_case(s: Session) -> None:
    for table in ("public.user_sessions", "public.cw_assessment_sessions"):
        for persona in SERVICES:
            with s.undone():
                stored = insert(s.as_(persona), table, "email", email="Eve@EXAMPLE.com")
                assert stored == "eve@example.com"
                s.as_(persona).allows(f"UPDATE {table} SET email = 'EVE@Other.COM'")
                s.superuser.sees_nothing(f"SELECT FROM {table} WHERE email <> 'eve@other.com'")


@promise("public.cw_assessment_sessions set_completed_at trigger_cw_assessment_sessions_set_completed_at")
def the_database_says_when_an_assessment_was_completed(s: Session) -> None:
    completed = "SELECT completed_at = now() FROM public.cw_assessment_sessions WHERE id = %s"
    assert s.superuser.value(completed, [ASSESSMENT]) is None
    s.as_("service").allows("UPDATE public.cw_assessment_sessions SET payment_status = 'completed'", rows=1)
    assert s.superuser.value(completed, [ASSESSMENT]) is True
    key = insert(s.as_("service"), "public.cw_assessment_sessions", "id")
    assert s.superuser.value(completed, [key]) is True
    # The webhook repeats itself; the moment stays.
    s.superuser.allows("UPDATE public.cw_assessment_sessions SET completed_at = now() - interval '1 day'")
    s.as_("service").allows("UPDATE public.cw_assessment_sessions SET payment_status = 'completed'", rows=2)
    assert s.superuser.value(completed, [key]) is False
    s.as_("service").allows("UPDATE public.cw_assessment_sessions SET payment_status = 'refunded'", rows=2)
    assert s.superuser.value(completed, [key]) is False


@promise("public.cw_assessment_sessions completed_at_with_completed")
def a_completed_assessment_never_loses_its_moment(s: Session) -> None:
    key = insert(s.superuser, "public.cw_assessment_sessions", "id")
    s.superuser.refused(
        "UPDATE public.cw_assessment_sessions SET completed_at = NULL WHERE id = %s",
        [key],
        sqlstate="23514",
        constraint="completed_at_with_completed",
    )


@promise("public.stripe_events service_role INSERT UPDATE stripe_events_pkey")
def the_same_event_is_recorded_once(s: Session) -> None:
    for persona in SERVICES:
        with s.undone():
            statement, params = insertion("public.stripe_events")
            once = f"{statement} ON CONFLICT DO NOTHING RETURNING id"
            assert s.as_(persona).rows(once, params) == [("evt_new",)]
            assert s.as_(persona).rows(once, params) == []
            s.as_(persona).refused("UPDATE public.stripe_events SET payload = '{}'")
            s.as_(persona).refused("DELETE FROM public.stripe_events")


@promise(
    "public.user_sessions trg_user_sessions_paid public.cw_assessment_sessions"
    " trigger_cw_assessment_sessions_paid"
)
def the_payment_of_a_paid_session_stays_known(s: Session) -> None:
    immutable = {"sqlstate": "23000", "constraint": "immutable"}
    session = "UPDATE public.user_sessions SET {} WHERE id = 9001"
    assessment = "UPDATE public.cw_assessment_sessions SET {}"
    for persona in (*SERVICES, "owner"):
        asker = s.as_(persona)
        with s.undone():
            # Before it is paid, it is anybody's guess.
            unpaid = insert(s.superuser, "public.user_sessions", "id", payment_status="pending")
            asker.allows("UPDATE public.user_sessions SET stripe_payment_id = 'pi_2' WHERE id = %s", [unpaid])
            nameless = {"stripe_session_id": None, "stripe_payment_intent_id": None}
            with s.undone():
                key = insert(s.superuser, "public.cw_assessment_sessions", "id", **nameless)
                for column in nameless:
                    told = assessment.format(f"{column} = 'told_late' WHERE id = %s")
                    asker.allows(told, [key], rows=1)
            asker.allows(assessment.format("stripe_session_id = 'cs_new'"), rows=1)
            for status in ("completed", "refunded"):
                asker.allows(session.format(f"payment_status = '{status}'"), rows=1)
                asker.refused(session.format("stripe_payment_id = 'pi_new'"), **immutable)
                asker.allows(session.format("stripe_payment_id = 'pi_ada'"), rows=1)
                asker.allows(assessment.format(f"payment_status = '{status}'"), rows=1)
                for column in ("stripe_session_id", "stripe_payment_intent_id"):
                    asker.allows(assessment.format(f"{column} = {column}"), rows=1)
                for column in ("stripe_session_id", "stripe_payment_intent_id"):
                    for value in ("'x'", "NULL"):
                        asker.refused(assessment.format(f"{column} = {value}"), **immutable)
