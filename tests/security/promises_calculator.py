"""The calculator: a browser's token resumes and saves its own form and touches nothing else."""

import json
from typing import Any

from psycopg.types.json import Jsonb

from tests.security.personas import OWNERS, SERVICES, Session
from tests.security.registry import promise
from tests.security.rights import BY_TOKEN
from tests.security.seed import CALCULATOR_A, CALCULATOR_B, CALCULATOR_EXPIRED, REPORT_B

READ = "SELECT form_state FROM public.calculator2_sessions"
RESUME = "SELECT form_state, pricing_tier, payment_status FROM public.resume_calculator(%s)"
SAVE = "SELECT form_state, pricing_tier FROM public.save_calculator(%s, %s, %s)"
KEPT = (
    "SELECT id, amount_paid, payment_status, report_token, session_token, created_at, expires_at"
    " FROM public.calculator2_sessions ORDER BY id"
)
GUESSES = (
    "",
    " ",
    "%",
    "_" * 32,
    CALCULATOR_A[:31],
    CALCULATOR_A[:16] + "%",
    CALCULATOR_A.upper(),
    CALCULATOR_A.lower(),
    CALCULATOR_A + " ",
    CALCULATOR_A[::-1],
    "' OR true --",
)
TABLE = "public.calculator2_sessions"


@promise(f"{TABLE} policy SELECT anon authenticated")
def nobody_lists_calculator_sessions_without_a_token(s: Session) -> None:
    for persona in ("anon", "stranger", "ada", "report holder"):
        s.as_(persona).sees_nothing(READ)
        assert s.as_(persona).value(f"SELECT count(*) FROM {TABLE}") == 0


@promise(f"{TABLE} presented_calculator_token read_calculator2_sessions SELECT EXECUTE anon authenticated")
def the_holder_of_a_token_reads_its_calculator_session_and_no_other(s: Session) -> None:
    columns = ", ".join(BY_TOKEN[TABLE].split())
    for persona in ("calculator holder", "calculator browser", "member with a calculator"):
        row = s.as_(persona).row(f"SELECT {columns} FROM {TABLE}")
        assert {"age": 41, "sex": "f"} in row
    s.as_("calculator holder").refused(f"SELECT * FROM {TABLE}")
    s.as_("late calculator holder").sees_nothing(READ)
    headers = json.dumps({"x-calculator-token": CALCULATOR_EXPIRED})
    s.as_("stranger", headers=headers).sees_nothing(READ)


@promise(f"{TABLE} presented_calculator_token policy")
def a_guessed_calculator_token_reads_nothing(s: Session) -> None:
    for guess in GUESSES:
        for persona in ("anon", "stranger"):
            s.as_(persona, calculator_token=guess).sees_nothing(READ)
            s.as_(persona, headers=json.dumps({"x-calculator-token": guess})).sees_nothing(READ)
    s.as_("anon").refused(f"{READ} WHERE session_token LIKE 'calculator%'")


@promise(f"{TABLE} resume_calculator save_calculator refuse_calculator")
def a_guessed_calculator_token_resumes_and_saves_nothing(s: Session) -> None:
    everything = f"SELECT * FROM {TABLE} ORDER BY id"
    before = s.superuser.rows(everything)
    unknown = {"sqlstate": "PT404", "constraint": "calculator_not_found"}
    expired = {"sqlstate": "PT410", "constraint": "calculator_expired"}
    expiry = f"SELECT expires_at FROM {TABLE} WHERE id = 9003"
    ended = s.superuser.value(expiry).isoformat(timespec="microseconds")
    for persona in ("anon", "stranger", "calculator holder"):
        for guess in (*GUESSES, None):
            s.as_(persona).refused(RESUME, [guess], **unknown)
            s.as_(persona).refused(SAVE, [guess, "{}", "doctor"], **unknown)
        # The moment that the error tells is UTC's, wherever the client is.
        asker = s.as_(persona, time_zone="Asia/Tokyo")
        assert asker.refused(RESUME, [CALCULATOR_EXPIRED], **expired).diag.message_detail == ended
        asker.refused(SAVE, [CALCULATOR_EXPIRED, "{}", "doctor"], **expired)
    assert s.superuser.rows(everything) == before


@promise(f"{TABLE} resume_calculator save_calculator EXECUTE anon authenticated service_role")
def resuming_gives_back_exactly_what_was_saved(s: Session) -> None:
    for persona in ("anon", "stranger", *SERVICES):
        asker = s.as_(persona)
        with s.undone():
            assert asker.rows(RESUME, [CALCULATOR_A]) == [({"age": 41, "sex": "f"}, "bundle", "pending")]
            merged = {"age": 42, "sex": "f", "goals": ["sleep"]}
            saved = asker.rows(SAVE, [CALCULATOR_A, Jsonb({"age": 42, "goals": ["sleep"]}), None])
            assert saved == [(merged, "bundle")]
            assert asker.rows(SAVE, [CALCULATOR_A, None, "doctor"]) == [(merged, "doctor")]
            assert asker.rows(RESUME, [CALCULATOR_A]) == [(merged, "doctor", "pending")]


@promise(f"{TABLE} save_calculator")
def a_form_that_was_never_saved_begins_with_what_is(s: Session) -> None:
    s.superuser.allows(f"UPDATE {TABLE} SET form_state = NULL WHERE id = 9001", rows=1)
    assert s.as_("anon").rows(SAVE, [CALCULATOR_A, Jsonb({"age": 42}), None]) == [({"age": 42}, "bundle")]


@promise(f"{TABLE} save_calculator")
def saving_touches_neither_money_nor_token_nor_expiry_nor_another_session(s: Session) -> None:
    before = s.superuser.rows(KEPT)
    other = f"SELECT * FROM {TABLE} WHERE id <> 9001 ORDER BY id"
    others = s.superuser.rows(other)
    payload = {
        "payment_status": "completed",
        "amount_paid": 1,
        "expires_at": "2099-01-01",
        "session_token": "x",
    }
    s.as_("anon").allows(SAVE, [CALCULATOR_A, Jsonb(payload), "bundle"], rows=1)
    assert s.superuser.rows(KEPT) == before
    assert s.superuser.rows(other) == others


@promise(f"{TABLE} save_calculator form_state_valid calculator2_sessions_pricing_tier_fkey")
def a_form_that_is_no_object_or_too_long_and_an_unknown_tier_are_not_saved(s: Session) -> None:
    rule = {"sqlstate": "23514", "constraint": "form_state_valid"}
    for form in ([], [1], "x", 1, None, {"k": "x" * 65536}):
        error = s.as_("anon").refused(SAVE, [CALCULATOR_A, Jsonb(form), None], **rule)
        assert (error.diag.schema_name, error.diag.table_name) == ("public", "calculator2_sessions")
    half = Jsonb({"a": "x" * 40000})
    s.as_("anon").allows(SAVE, [CALCULATOR_A, half, None], rows=1)
    s.as_("anon").refused(SAVE, [CALCULATOR_A, Jsonb({"b": "x" * 40000}), None], **rule)
    for tier in ("free", "", "BUNDLE"):
        s.as_("anon").refused(
            SAVE,
            [CALCULATOR_A, "{}", tier],
            sqlstate="23503",
            constraint="calculator2_sessions_pricing_tier_fkey",
        )


@promise(f"{TABLE} save_calculator")
def an_error_tells_the_holder_of_a_token_no_more_than_the_session_does(s: Session) -> None:
    forms: tuple[Any, ...] = ([], {"k": "x" * 65536})
    s.superuser.allows("SET LOCAL session_replication_role = replica")  # what is paid takes no form at all
    s.superuser.allows(f"UPDATE {TABLE} SET payment_status = 'pending' WHERE id = 9002", rows=1)
    s.superuser.allows("SET LOCAL session_replication_role = origin")
    for form in forms:
        error = s.as_("anon").refused(SAVE, [CALCULATOR_B, Jsonb(form), None], sqlstate="23514")
        shown = str(error)
        assert REPORT_B not in shown, "the error shows the report's token"
        assert "49.00" not in shown, "the error shows the amount"


@promise(f"{TABLE} trg_calculator2_sessions_paid_tier save_calculator")
def a_paid_session_keeps_the_tier_that_was_paid(s: Session) -> None:
    for status in ("completed", "refunded"):
        s.as_("service").allows(f"UPDATE {TABLE} SET payment_status = '{status}' WHERE id = 9002", rows=1)
        s.as_("anon").allows(SAVE, [CALCULATOR_B, "{}", "shopping"], rows=1)
        s.as_("anon").refused(SAVE, [CALCULATOR_B, "{}", "doctor"], sqlstate="23000")
        s.as_("anon").refused(SAVE, [CALCULATOR_B, '{"age": 31}', None], sqlstate="23000")
        for change in ("pricing_tier = 'doctor'", "pricing_tier = NULL", "form_state = '{}'"):
            for persona in (*SERVICES, *OWNERS):
                alone = f"UPDATE {TABLE} SET {change} WHERE id = 9002"
                s.as_(persona).refused(alone, sqlstate="23000", constraint="immutable")


@promise(
    f"{TABLE} public.begun_checkouts trg_calculator2_sessions_begun keep_begun_tier save_calculator clause"
)
def a_tier_does_not_change_under_a_checkout(s: Session) -> None:
    begin = (
        "INSERT INTO public.begun_checkouts (session_table, session_key, amount, currency, tier)"
        " VALUES (%s, %s, 499, 'usd', %s)"
    )
    free = f"UPDATE {TABLE} SET pricing_tier = %s WHERE id = 9001"
    wrong = {"sqlstate": "23000", "constraint": "immutable"}
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            # Another session's, or another table's with the same key.
            for table, key in (("calculator2_sessions", "9003"), ("user_sessions", "9001")):
                s.as_(persona).allows(begin, [table, key, "bundle"], rows=1)
            s.as_("anon").allows(SAVE, [CALCULATOR_A, "{}", "doctor"], rows=1)
            for table, key in (("calculator2_sessions", "9001"), ("user_sessions", "9001")):
                s.as_(persona).allows(begin, [table, key, "shopping"], rows=1)
                s.as_(persona).allows(begin, ["calculator2_sessions", "9003", "mealPlan"], rows=1)
            s.as_("anon").refused(SAVE, [CALCULATOR_A, "{}", "bundle"], **wrong)
            s.as_(persona).refused(free, ["mealPlan"], **wrong)
            s.as_(persona).refused(free, [None], **wrong)
            s.as_("anon").allows(SAVE, [CALCULATOR_A, '{"age": 31}', "shopping"], rows=1)
            s.as_("anon").allows(SAVE, [CALCULATOR_A, '{"age": 32}', None], rows=1)


@promise("public.pricing_tiers calculator2_sessions_pricing_tier_fkey")
def a_tier_in_use_is_not_deleted(s: Session) -> None:
    s.superuser.refused(
        "DELETE FROM public.pricing_tiers WHERE code = 'shopping'",
        sqlstate="23503",
        constraint="calculator2_sessions_pricing_tier_fkey",
    )
    for persona in SERVICES:
        s.as_(persona).refused("DELETE FROM public.pricing_tiers")
