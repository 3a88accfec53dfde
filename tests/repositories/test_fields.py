"""Bad input, field by field, in every area: the rule and the field by name, the value nowhere."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest

import carnivore_db.conversation
import carnivore_db.vocabulary
import carnivore_db.weekly
from carnivore_db import Database
from carnivore_db.conversation import jobs, limits, logs, messages
from carnivore_db.conversation import sessions as plays
from carnivore_db.errors import CalculatorNotFound, InvalidInput, ReportNotFound
from carnivore_db.kit.paging import Cursor
from carnivore_db.vocabulary import exports, progress
from carnivore_db.vocabulary import sessions as lessons
from carnivore_db.vocabulary.keys import api_keys
from carnivore_db.vocabulary.keys import jobs as key_jobs
from carnivore_db.weekly import access_log, assessments, calculator, reports, sessions
from tests.support.bad_input import SERVICE, Bad, Function, Good, check, parameters, refused
from tests.support.callers import Caller
from tests.support.databases import TestDatabase
from tests.support.hostile import BAD_OBJECTS, MARK, attempt
from tests.vocabulary.samples import KEYS, NEW, NOON, start_session

NAIVE = datetime(2026, 2, 14)  # noqa: DTZ001 - that is what is tested
FAR = [datetime(year, 12, 31, tzinfo=UTC) for year in (1, 1999, 2100, 9999)]
INSTANT = timedelta(microseconds=1)
NO_TOKENS = [
    *(MARK, "", MARK * 100, MARK + "\0", MARK + "\ud800", MARK.upper() * 5 + "ABCD"),
    *(f"{MARK:\u00e4<64}", f"{MARK:\u00e4<32}", f"{MARK:0<32}\n", f"{MARK:0<64}\n", f"{MARK:+<32}"),
    *(f"{MARK:0<63}", f"{MARK:0<65}", f"{MARK:G<64}", f"{MARK:A<64}", f"{MARK:\u0660<64}", f"{MARK:0<62}''"),
]
BIG_PAGES = [MARK * (6 * 1024 * 1024 // len(MARK)), "\N{GRINNING FACE}" * 1024 * 1024 * 2]
NO_CODES = ["", MARK, *(f"{start}{MARK}" for start in "A_\u00e4"), *(f"x{MARK}{end}" for end in "!\n\0")]


def whole(lowest: int, highest: int) -> Bad:
    return {
        "int_type": ["5", 5.0, True, MARK, b"1", [1]],
        "greater_than_equal": [lowest - 1, lowest - 2**70],
        "less_than_equal": [highest + 1, highest + 2**70, 10**400],
    }


def text(longest: int | None = None, *, blank: bool = False) -> Bad:
    found: Bad = {
        "no_nul": [MARK + "\0"],
        "utf8": [MARK + "\ud800"],
        "string_type": [5, MARK.encode(), [MARK]],
    }
    if not blank:
        found["not_empty"] = ["", " \n\t"]
    if longest:
        found["string_too_long"] = [(MARK * 1000)[: longest + 1]]
    return found


def span(longest: timedelta, shortest: timedelta = INSTANT) -> Bad:
    lowest = "greater_than" if shortest == INSTANT else "greater_than_equal"
    return {
        "less_than_equal": [longest + INSTANT, timedelta.max],
        lowest: [shortest - INSTANT, timedelta(microseconds=-1), timedelta.min],
        "time_delta_type": [[MARK]],
    }


BIGINTS: Bad = {
    "less_than": [2**63, 10**400],
    "greater_than_equal": [-(2**63) - 1],
    "int_type": ["1", 1.0, True, MARK, b"1", [1]],
}
UUIDS: Bad = {"uuid_parsing": [MARK, ""], "uuid_type": [5, [MARK]]}
ADDRESSES: Bad = {
    "email_valid": [
        *(f"{MARK}{rest}" for rest in ("", "@x.c|d", "|d@x.com", "@x", "@x..com", "@-x.com", "@x.com@x.com")),
        *(
            f"{MARK}@x.{rest}"
            for rest in ("c", "c0m", "com.", "com x", "com\nx", "\N{CYRILLIC SMALL LETTER ES}om")
        ),
        *(f"{MARK}{rest}@x.com" for rest in (" ", "\u00e4", "<", '"', ",", ";", "\\")),
        *(MARK * 30 + "@example.com", "", "@x.com", 5, MARK.encode(), [MARK]),
    ],
    "no_nul": [f"{MARK}\0@x.com"],
    "utf8": [f"{MARK}\ud800@x.com"],
}
CHOICES: Bad = {"literal_error": [MARK, "", "KETO", "Completed", "Main", "scenario", 5, [MARK]]}
BOOLEANS: Bad = {"bool_parsing": [MARK], "bool_type": [[MARK]]}
MOMENTS: Bad = {
    "timezone_aware": [NAIVE],
    "datetime_from_date_parsing": [MARK],
    "datetime_type": [[MARK]],
}
CODES: Bad = {
    "string_pattern_mismatch": NO_CODES,
    "string_too_long": [f"x{MARK * 5}"],
    "string_type": [5, [MARK], MARK.encode()],
    "string_unicode": [f"x{MARK}\ud800"],
}
COUNTS = whole(0, 2**31 - 1)
WORK = whole(0, 100_000)
SHARES: Bad = {
    "greater_than_equal": [-0.01, float("-inf")],
    "less_than_equal": [1.01, float("inf"), 10**300, float("nan")],
    "float_type": [[MARK]],
    "float_parsing": [MARK],
}
LINKS: Bad = {"string_pattern_mismatch": [f"ftp://{MARK}", f"https://{MARK} x", MARK, ""]}
# They are not repeated.
STRANGE_KEYS: Bad = {"extra_forbidden": [{"user_id": MARK}, {MARK: None}, {MARK: 5}]}
# By argument, or by key of one, the values that it never takes, and the rule they break.
FIELDS: dict[str, Bad] = {
    **dict.fromkeys(("user_id", "export_id", "client_message_id", "assessment_id", "session_id"), UUIDS),
    "report_id": BIGINTS,
    "email": ADDRESSES,
    **dict.fromkeys(
        ("macro_data", "questionnaire", "form_state", "form_data", "session_data", "metadata"), BAD_OBJECTS
    ),
    **dict.fromkeys(
        ("path_choice", "status", "session_type", "provider", "export_type", "role", "chat_type", "level"),
        CHOICES,
    ),
    **dict.fromkeys(("is_test", "include_test", "is_active", "newest_first", "enforced"), BOOLEANS),
    "revoke_on_refund": BOOLEANS,
    **dict.fromkeys(("expires_at", "accessed_at", "since", "started_at", "ended_at"), MOMENTS),
    **dict.fromkeys(("sent_at", "created_at"), MOMENTS),
    "month": {"date_from_datetime_parsing": [MARK], "date_type": [[MARK]]},
    "limit": whole(1, 1000),
    "batch": whole(1, 100_000),
    "addresses": whole(2, 2**31 - 1),
    "burst": whole(2, 2**31 - 1),
    "after_end": whole(1, 2**31 - 1),
    **dict.fromkeys(("points", "mastered", "learning", "new"), COUNTS),
    "duration_minutes": WORK,
    "sort_order": whole(-(2**15), 2**15 - 1),
    "allowed": whole(1, 100_000),
    "amount_paid": {
        "greater_than_equal": [-1, "-0.01"],
        "decimal_max_places": ["1.001"],
        "decimal_whole_digits": [10**8],
        "decimal_max_digits": [10**400],
        "finite_number": ["NaN", float("inf")],
        "decimal_parsing": [MARK],
    },
    "valid_for": span(timedelta(days=3653)),
    "grace": span(timedelta(days=36530), timedelta(0)),
    "within": span(timedelta(days=36530), timedelta(0)),
    "per": span(timedelta(days=7), timedelta(seconds=1)),
    "html": {**text(), "report_html_not_empty": BIG_PAGES},
    "reason": text(200),
    "pricing_tier": text(50),
    "tier": text(50),
    "amount": whole(0, 10**12 - 1),
    "currency": {
        "string_pattern_mismatch": ["", "USD", "us", "usd\n", "u$d", MARK],
        "string_type": [5, [MARK]],
    },
    "stripe_payment_id": text(100),
    "stripe_session_id": text(255),
    "stripe_payment_intent_id": text(255),
    "first_name": text(100),
    "device_type": text(50, blank=True),
    "title": text(200),
    "emoji": {**text(16), "emoji_length": ["🥨" * 5, MARK + "ä" * 3]},
    "initial_message_main": text(8000),
    "initial_message_helper": text(8000),
    "description": text(200),
    "content": text(8000, blank=True),
    **dict.fromkeys(("code", "scenario", "event_type"), CODES),
    "token": {"string_type": [5, [MARK], UUID(int=5)]},
    "report_token": {"access_token_valid": NO_TOKENS, "string_type": [5]},
    "keyring": {"is_instance_of": [MARK, KEYS, 5]},
    "check": {"callable_type": [MARK, 5]},
    "profile.username": {
        "string_pattern_mismatch": ["ab", "", *(f"{MARK}{end}" for end in "!\n\u00e4\0"), MARK * 5],
        "string_type": [5, [MARK]],
        "string_unicode": [MARK + "\ud800"],
    },
    "profile.full_name": {**text(255), "string_too_short": ["x"]},
    "profile.avatar_url": {**text(blank=True), **LINKS, "string_too_long": [f"https://{MARK * 200}"]},
    "profile.target_words_per_day": whole(1, 100),
    **dict.fromkeys(("profile.profile_completed", "profile.enable_notifications"), BOOLEANS),
    **dict.fromkeys(("profile.spanish_level", "profile.preferred_difficulty"), CHOICES),
    **dict.fromkeys(("profile.theme", "profile.language", "profile.default_description_style"), CHOICES),
    **dict.fromkeys(("work.images_processed", "work.descriptions_generated", "work.qa_attempts"), WORK),
    **dict.fromkeys(("work.qa_correct", "work.vocabulary_learned", "work.phrases_saved"), WORK),
    **dict.fromkeys(("work.engagement_score", "work.completion_rate"), SHARES),
    **dict.fromkeys(("filters.since", "filters.until"), MOMENTS),
    "filters.session_types": {"list_type": [MARK, 5]},
    "filters.ended_only": BOOLEANS,
    **dict.fromkeys(("profile", "work", "filters"), STRANGE_KEYS),
}
# What single functions have besides, or instead.
OF_FUNCTIONS: dict[tuple[Function, str], Bad] = {
    **{
        (function, "session_id"): BIGINTS
        for function in (
            *(sessions.get, sessions.record_payment, sessions.mark_test, reports.issue),
            *(calculator.link_report, calculator.record_payment),
        )
    },
    (sessions.find_by_payment, "stripe_payment_id"): text(),
    (limits.change, "limit"): CHOICES,
    (access_log.record, "accessed_at"): {**MOMENTS, "accessed_at_in_range": FAR},
    (reports.extend, "expires_at"): {
        **MOMENTS,
        "later": FAR[:2],
        "expiry_within_ten_years": FAR[2:],
    },
    (lessons.start, "started_at"): {**MOMENTS, "started_at_in_range": FAR},
    (lessons.end, "ended_at"): {**MOMENTS, "ended_at_in_range": FAR},
    (lessons.correct, "ended_at"): {**MOMENTS, "ended_at_in_range": FAR},
    (logs.write, "event_type"): {**CODES, "logs_event_type_fkey": [f"x{MARK}"]},
}
# Client metadata never costs a report or a session: what cannot be kept becomes None.
LENIENT = {"ip_address", "user_agent"}
# These have tests of their own below, or where keys are set.
OTHERS = {"accesses", "event", "after", "key", "table"}
# The scheduled jobs and the exports' workers are called by this package alone.
NOT_REPOSITORIES = {
    *(jobs.run, key_jobs.reencrypt, key_jobs.revalidate, api_keys.read),
    *(exports.complete, exports.expire, exports.fail, exports.forget_abandoned, exports.give_up),
    *(exports.next_abandoned, exports.note_progress, exports.take, exports.take_expired),
}


def repositories() -> set[Function]:
    """Every function of the areas that checks its input, and has some."""
    found = set()
    for area in (carnivore_db.weekly, carnivore_db.vocabulary, carnivore_db.conversation):
        for module in pkgutil.walk_packages(area.__path__, f"{area.__name__}."):
            for name, function in inspect.getmembers(importlib.import_module(module.name), callable):
                of_the_module = getattr(function, "__module__", "") == module.name
                if of_the_module and hasattr(function, "__wrapped__") and not name.startswith("_"):
                    found |= {function} if parameters(function) else set()
    return found


def test_no_function_and_no_argument_is_left_out(good: Good) -> None:
    assert repositories() - NOT_REPOSITORIES == set(good)
    assert len(good) > 80
    for function, given in good.items():
        assert list(given) == parameters(function), function
        assert set(given) <= {*FIELDS, *LENIENT, *OTHERS}, function


def test_good_input_is_accepted(module_caller: Caller, new_arguments: Callable[[], Good]) -> None:
    for function, given in new_arguments().items():
        assert (
            attempt(lambda function=function, given=given: module_caller.call(SERVICE, function, **given))
            is None
        )


@pytest.mark.parametrize("field", FIELDS)
def test_a_value_that_breaks_a_rule(module_caller: Caller, good: Good, field: str) -> None:
    name, _, key = field.partition(".")
    functions = [function for function, given in good.items() if name in given]
    assert functions
    for function in functions:
        bad = OF_FUNCTIONS.get((function, field), FIELDS[field])
        check(module_caller, good, function, name, bad, within=key)


@pytest.mark.parametrize(
    ("function", "field", "kib"),
    [
        (sessions.start, "macro_data", 64),
        (calculator.save, "form_state", 64),
        (assessments.submit, "form_data", 256),
        (lessons.save, "session_data", 64),
        (logs.write, "metadata", 64),
    ],
)
def test_a_document_at_its_largest_is_kept_and_a_byte_more_is_refused(
    module_caller: Caller, new_arguments: Callable[[], Good], function: Function, field: str, kib: int
) -> None:
    good, room = new_arguments(), kib * 1024 - len('{"a": "ß"}'.encode())
    assert refused(module_caller, good, function, field, {"a": "ß" + "x" * room}) is None
    large = {"a": "ß" + MARK + "x" * (room + 1 - len(MARK))}
    check(module_caller, good, function, field, {"json_size": [large]})


@pytest.mark.parametrize(
    ("function", "field", "key"),
    [
        (sessions.start, "macro_data", "protein"),
        (reports.issue, "questionnaire", "goal"),
        (calculator.start, "form_state", "units"),
        (calculator.save, "form_state", "units"),
        (assessments.submit, "form_data", "goal"),
        (assessments.merge_form, "form_data", "goal"),
        (lessons.save, "session_data", "vocabulary"),
        (lessons.save, "session_data", "phrases"),
    ],
)
def test_a_known_key_of_the_wrong_type_is_named(
    module_caller: Caller, good: Good, function: Function, field: str, key: str
) -> None:
    bad: list[Any] = [[MARK], {MARK: 1}, MARK * 100]
    if field == "session_data":  # lists of words
        bad += [[{}], [{"word": ""}], [{"word": 5}], [{"word": MARK * 50}], [{"word": "a"}, {"word": None}]]
        bad += [[{"word": "a", "translation": MARK * 50}], [{"word": "a", "example": MARK * 200}]]
    for value in bad:
        error = refused(module_caller, good, function, field, {"other": 1, key: value})
        assert isinstance(error, InvalidInput)
        assert (error.field, error.rule) == (f"{field}.{key}", "payload")


def test_an_item_of_a_list_is_named(module_caller: Caller, good: Good) -> None:
    error = refused(module_caller, good, exports.request, "filters", {"session_types": ["qa", MARK]})
    assert isinstance(error, InvalidInput)
    assert (error.field, error.rule) == ("filters.session_types.1", "literal_error")


def cursors(good: Good) -> list[Function]:
    found = [function for function, given in good.items() if "after" in given]
    assert len(found) == 5
    return found


def test_a_cursor_is_a_moment_and_an_id(module_caller: Caller, good: Good) -> None:
    for function in cursors(good):
        # A cursor of another list is none of this one.
        key, other = (1, uuid4()) if function == access_log.history else (uuid4(), 1)
        wrong = (MARK, 5, (NOON,), (NOON, MARK), (MARK, key), (NAIVE, key), (NOON, key, 1), (NOON, other))
        for after in (*wrong, (NOON, 2**63), {"id": 1}):
            error = refused(module_caller, good, function, "after", after)
            assert isinstance(error, InvalidInput), (function, after)
            assert error.field.split(".")[0] == "after"


@pytest.mark.parametrize(("year", "hours"), [(1, 14), (1, 0), (9999, 0), (9999, -14)])
def test_a_cursor_may_lie_at_the_ends_of_time(
    module_caller: Caller, good: Good, year: int, hours: int
) -> None:
    """In these zones the moment lies in a year that Python does not have."""
    day = (1, 1, 0) if year == 1 else (12, 31, 23)
    moment = datetime(year, *day, tzinfo=timezone(timedelta(hours=hours)))
    for function in cursors(good):
        after = Cursor(moment, 1 if function == access_log.history else UUID(int=0))
        assert refused(module_caller, good, function, "after", after) is None
    assert refused(module_caller, good, logs.search, "since", moment) is None
    user_id, after = good[lessons.list_by_user]["user_id"], Cursor(moment, UUID(int=0))
    listed = module_caller.call(SERVICE, lessons.list_by_user, user_id, after=after)
    assert bool(listed.rows) is (year == 9999)


def test_a_moment_corrected_out_of_bounds_is_named(module_caller: Caller, good: Good) -> None:
    """Of an open session: an ended one names its end, which lies before its new beginning."""
    open_session = {lessons.correct: {"session_id": start_session(module_caller, None).id}}
    check(module_caller, open_session, lessons.correct, "started_at", {"started_at_in_range": FAR})


def test_a_token_of_the_wrong_form_finds_nothing(module_caller: Caller, good: Good) -> None:
    for functions, expected in (
        ((reports.open, reports.check), ReportNotFound),
        ((calculator.resume, calculator.save, calculator.choose_tier), CalculatorNotFound),
    ):
        for function in functions:
            for token in NO_TOKENS:
                assert isinstance(refused(module_caller, good, function, "token", token), expected)


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


@pytest.mark.document(13, 14)
@pytest.mark.parametrize(("role", "chat_type"), [("main_assistant", "helper"), ("helper_assistant", "main")])
def test_a_role_in_the_wrong_chat(module_caller: Caller, good: Good, role: str, chat_type: str) -> None:
    given = {messages.send: {**good[messages.send], "chat_type": chat_type, "content": MARK}}
    error = refused(module_caller, given, messages.send, "role", role)
    assert isinstance(error, InvalidInput)
    assert (error.field, error.rule) == ("role", "messages_role_chat_type_valid")


BATCHES = {**whole(1, 100_000), "int_type": ["5", 5.0, True, None]}


@pytest.mark.parametrize(
    ("run", "field", "bad"),
    [
        (jobs.run, "job", {"literal_error": [MARK, "", None, 5]}),
        (jobs.run, "batch", BATCHES),
        (key_jobs.reencrypt, "batch", BATCHES),
    ],
)
def test_what_no_job_is_run_with(area_database: TestDatabase, run: Function, field: str, bad: Bad) -> None:
    db = Database(area_database.migrator_url)
    good = (db.engine, "reset_weekly_limits") if run == jobs.run else (db, NEW)
    for rule, values in bad.items():
        for value in values:
            given = dict(zip(inspect.signature(run).parameters, good, strict=False))
            with pytest.raises(InvalidInput) as caught:
                run(**{**given, field: value})
            assert (caught.value.field, caught.value.rule) == (field, rule)
            assert MARK not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"
    db.close()


@pytest.mark.parametrize(
    ("function", "first", "field"),
    [
        (calculator.save, "token", "form_state"),
        (progress.award_points, "user_id", "points"),
        (messages.send, "session_id", "content"),
    ],
)
def test_an_argument_given_by_position_is_named_too(
    module_caller: Caller, good: Good, function: Function, first: str, field: str
) -> None:
    error = attempt(lambda: module_caller.call(SERVICE, function, good[function][first], [MARK]))
    assert isinstance(error, InvalidInput)
    assert error.field == field


def test_a_call_that_is_wrong_is_no_bad_input(module_caller: Caller) -> None:
    for call in (
        lambda: module_caller.call(SERVICE, plays.start, uuid4()),
        lambda: module_caller.call(SERVICE, plays.get, uuid4(), nothing=MARK),
    ):
        with pytest.raises(TypeError) as caught:
            call()
        assert MARK not in str(caught.value)
