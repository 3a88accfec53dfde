"""Bad input, field by field: the rule and the field by name, the value nowhere."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from carnivore_db.errors import CalculatorNotFound, InvalidInput, ReportNotFound
from carnivore_db.weekly import access_log, assessments, calculator, reports, sessions
from tests.support.bad_input import BAD_ADDRESSES, BAD_LIMITS, BAD_TEXTS, BAD_UUIDS, Good, check, refused
from tests.support.callers import Caller
from tests.support.hostile import BAD_OBJECTS, MARK, attempt
from tests.weekly.arguments import good_arguments
from tests.weekly.samples import SERVICE

NOW = datetime.now(UTC)
NAIVE = datetime(2026, 2, 14)  # noqa: DTZ001 - that is what is tested


@pytest.fixture(scope="module")
def good(module_caller: Caller) -> Good:
    return good_arguments(module_caller)


EMAILS = (sessions.start, sessions.list_by_email, reports.issue, reports.list_by_email, assessments.submit)
JSON = {
    "macro_data": (sessions.start,),
    "questionnaire": (reports.issue,),
    "form_state": (calculator.start, calculator.save),
    "form_data": (assessments.submit, assessments.merge_form),
}
IDS = {
    "session_id": (
        sessions.get,
        sessions.record_payment,
        sessions.mark_test,
        reports.issue,
        calculator.link_report,
        calculator.record_payment,
    ),
    "report_id": (
        reports.extend,
        reports.revoke,
        access_log.record,
        access_log.history,
        access_log.count,
        access_log.counts_per_day,
    ),
}
LIMITS = (sessions.list_by_email, reports.list_by_email, access_log.history, access_log.unusual)
BATCHES = (reports.purge_expired, access_log.fold, calculator.purge_expired)
REPORT_TOKENS = (reports.open, reports.check)
FORM_TOKENS = (calculator.resume, calculator.save, calculator.choose_tier)


def test_good_input_is_accepted(module_caller: Caller, good: Good) -> None:
    unpaid_and_unsent = {sessions.find_by_payment, assessments.find_by_checkout}
    for function, given in good.items():
        if function not in unpaid_and_unsent:
            module_caller.call(SERVICE, function, **given)


@pytest.mark.parametrize("field", JSON)
def test_json_that_is_no_object_or_cannot_be_kept(module_caller: Caller, good: Good, field: str) -> None:
    check(module_caller, good, JSON[field], field, BAD_OBJECTS)


@pytest.mark.parametrize("field", JSON)
def test_a_known_key_of_the_wrong_type_is_named(module_caller: Caller, good: Good, field: str) -> None:
    key = {"macro_data": "protein", "form_state": "units"}.get(field, "goal")
    for function in JSON[field]:
        for value in ([MARK], {MARK: 1}, MARK * 100):
            error = refused(module_caller, good, function, field, {"other": 1, key: value})
            assert isinstance(error, InvalidInput)
            assert (error.field, error.rule) == (f"{field}.{key}", "payload")


def test_an_address_that_is_none(module_caller: Caller, good: Good) -> None:
    check(module_caller, good, EMAILS, "email", BAD_ADDRESSES)
    check(module_caller, good, [sessions.start, assessments.submit], "email", {"email_valid": [None]})


def test_an_id_that_no_bigint_holds(module_caller: Caller, good: Good) -> None:
    bad: dict[str, list[Any]] = {
        "less_than": [2**63, 10**400],
        "greater_than_equal": [-(2**63) - 1],
        "int_type": ["1", 1.0, True, MARK, b"1", [1]],
    }
    for field, functions in IDS.items():
        check(module_caller, good, functions, field, bad)
    functions = (assessments.get, assessments.merge_form, assessments.complete, assessments.submit)
    check(module_caller, good, functions, "assessment_id", BAD_UUIDS)


def test_a_limit_out_of_bounds(module_caller: Caller, good: Good) -> None:
    types = {"int_type": BAD_LIMITS["int_type"]}
    check(module_caller, good, LIMITS, "limit", BAD_LIMITS)
    check(
        module_caller, good, BATCHES, "batch", {"greater_than_equal": [0, -1], "less_than_equal": [100_001]}
    )
    check(module_caller, good, BATCHES, "batch", {**types, "less_than_equal": [2**70]})
    bounds = {"greater_than_equal": [1, 0, -1]}
    check(module_caller, good, [access_log.unusual], "addresses", bounds)
    check(module_caller, good, [access_log.unusual], "burst", bounds)
    check(module_caller, good, [access_log.unusual], "after_end", {"greater_than_equal": [0, -1]})


def test_a_threshold_out_of_bounds(module_caller: Caller, good: Good) -> None:
    check(module_caller, good, [access_log.unusual], "burst", {"less_than_equal": [10**400]})


def test_a_span_out_of_bounds(module_caller: Caller, good: Good) -> None:
    too_long = [timedelta.max, timedelta(days=3653, microseconds=1)]
    too_short = [timedelta(0), timedelta(microseconds=-1), timedelta.min]
    bad = {"less_than_equal": too_long, "greater_than": too_short, "time_delta_type": [None, [MARK]]}
    check(module_caller, good, [reports.issue], "valid_for", bad)
    bad = {"less_than_equal": [timedelta.max], "greater_than_equal": too_short[1:]}
    check(module_caller, good, [reports.purge_expired], "grace", bad)


def test_a_moment_out_of_bounds(module_caller: Caller, good: Good) -> None:
    moments = [
        (reports.extend, "expires_at"),
        (access_log.record, "accessed_at"),
        (access_log.unusual, "since"),
    ]
    for function, field in moments:
        check(module_caller, good, [function], field, {"timezone_aware": [NAIVE]})
    far = [datetime(year, 12, 31, tzinfo=UTC) for year in (1, 1999, 2100, 9999)]
    check(module_caller, good, [access_log.record], "accessed_at", {"accessed_at_in_range": far})
    check(module_caller, good, [reports.extend], "expires_at", {"later": far[:2]})
    check(module_caller, good, [reports.extend], "expires_at", {"expiry_within_ten_years": far[2:]})
    check(module_caller, good, [access_log.counts_per_day], "month", {"date_from_datetime_parsing": [MARK]})


def test_a_cursor_is_a_moment_and_an_id(module_caller: Caller, good: Good) -> None:
    for after in (MARK, 5, (NOW,), (NOW, MARK), (MARK, 1), {"id": 1}):
        error = refused(module_caller, good, access_log.history, "after", after)
        assert isinstance(error, InvalidInput)
        assert error.field.startswith("after")


@pytest.mark.parametrize("after", [(NAIVE, 1), (NOW, 2**63)], ids=["naive", "huge"])
def test_a_cursor_out_of_bounds(module_caller: Caller, good: Good, after: tuple[datetime, int]) -> None:
    error = refused(module_caller, good, access_log.history, "after", after)
    assert isinstance(error, InvalidInput)
    assert error.field.startswith("after")


def test_text_that_is_blank_long_or_cannot_be_kept(module_caller: Caller, good: Good) -> None:
    for functions, field, length in (
        ([assessments.submit], "first_name", 100),
        ([reports.extend, reports.revoke], "reason", 200),
        ([calculator.start, calculator.save, calculator.choose_tier], "pricing_tier", 50),
        ([sessions.record_payment], "stripe_payment_id", 100),
        ([assessments.attach_checkout], "stripe_session_id", 255),
        ([assessments.find_by_checkout], "stripe_session_id", 255),
    ):
        long = (MARK * 30)[: length + 1]
        bad = {**BAD_TEXTS, "not_empty": ["", " \n\t"], "string_too_long": [long]}
        check(module_caller, good, functions, field, bad)


def test_a_page_that_is_blank_large_or_cannot_be_kept(module_caller: Caller, good: Good) -> None:
    large = [MARK * (6 * 1024 * 1024 // len(MARK)), "\N{GRINNING FACE}" * 1024 * 1024 * 2]
    bad = {**BAD_TEXTS, "not_empty": ["", " \n"], "report_html_not_empty": large}
    check(module_caller, good, [reports.issue], "html", bad)


def test_a_choice_that_there_is_not(module_caller: Caller, good: Good) -> None:
    literals = {"literal_error": [MARK, "", "KETO", "Completed", None, 5]}
    check(module_caller, good, [sessions.start], "path_choice", literals)
    check(module_caller, good, [sessions.record_payment, calculator.record_payment], "status", literals)
    amounts: dict[str, list[Any]] = {
        "greater_than_equal": [-1, "-0.01"],
        "decimal_max_places": ["1.001"],
        "decimal_whole_digits": [10**8],
        "decimal_max_digits": [10**400],
        "finite_number": ["NaN", float("inf")],
        "decimal_parsing": [MARK],
    }
    check(module_caller, good, [calculator.record_payment], "amount_paid", amounts)


def test_a_token_of_the_wrong_form_finds_nothing(module_caller: Caller, good: Good) -> None:
    tokens = [
        *(MARK, "", MARK * 100, MARK + "\0", MARK + "\ud800", MARK.upper() * 5 + "ABCD"),
        *(f"{MARK:\u00e4<64}", f"{MARK:\u00e4<32}", f"{MARK:0<32}\n", f"{MARK:0<64}\n", f"{MARK:+<32}"),
    ]
    for functions, expected in ((REPORT_TOKENS, ReportNotFound), (FORM_TOKENS, CalculatorNotFound)):
        for function in functions:
            for token in tokens:
                error = refused(module_caller, good, function, "token", token)
                assert isinstance(error, expected)
        not_text = {"string_type": [None, 5, [MARK], UUID(int=5)]}
        check(module_caller, good, functions, "token", not_text)
    bad = {"access_token_valid": tokens, "string_type": [None, 5]}
    check(module_caller, good, [calculator.link_report], "report_token", bad)


def test_a_batch_names_the_access_that_is_wrong(module_caller: Caller, good: Good) -> None:
    right = {"report_id": good[access_log.count]["report_id"]}
    for accesses, field in (
        ([right, {"report_id": MARK}], "accesses.1.report_id"),
        ([{}], "accesses.0.report_id"),
        ([right, right, {**right, "accessed_at": NAIVE}], "accesses.2.accessed_at"),
        ([{**right, "accessed_at": datetime(2100, 1, 1, tzinfo=UTC)}], "accesses.0.accessed_at"),
        ([MARK], "accesses.0"),
        (MARK, "accesses"),
        (5, "accesses"),
        (None, "accesses"),
    ):
        error = refused(module_caller, good, access_log.record_many, "accesses", accesses)
        assert isinstance(error, InvalidInput)
        assert error.field == field
    assert module_caller.call(SERVICE, access_log.count, right["report_id"]).access_count <= 2


def test_an_argument_given_by_position_is_named_too(module_caller: Caller, good: Good) -> None:
    given = good[calculator.save]
    error = attempt(lambda: module_caller.call(SERVICE, calculator.save, given["token"], [MARK]))
    assert isinstance(error, InvalidInput)
    assert error.field == "form_state"
