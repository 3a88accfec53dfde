"""Input types: what they accept, what they refuse and how they name it, without a database."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from carnivore_db.errors import InvalidInput
from carnivore_db.kit import inputs
from carnivore_db.kit.inputs import (
    AccessedAt,
    BatchSize,
    ClientIP,
    Email,
    FilledText,
    Grace,
    Id,
    Limit,
    Text,
    UserAgent,
    Validity,
    validated,
)
from carnivore_db.weekly import tokens
from carnivore_db.weekly.payloads import FormState, FormStateInput

MARK = "5ec2e7c0ffee"


@validated
def take(
    *,
    email: Email | None = None,
    text: Text = "",
    filled: FilledText = "x",
    ip: ClientIP = None,
    agent: UserAgent = None,
    accessed_at: AccessedAt | None = None,
    valid_for: Validity | None = None,
    grace: Grace | None = None,
    key: Id = 1,
    limit: Limit = 1,
    batch: BatchSize = 1,
    form: FormStateInput | None = None,
) -> dict[str, Any]:
    """What was given, as the repositories see it."""
    return locals()


def refusal(**given: Any) -> tuple[str, str]:
    """The field and the rule of a refusal, which is chained to nothing and does not repeat the value."""
    with pytest.raises(InvalidInput) as caught:
        take(**given)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    assert MARK not in f"{error} {error!r}"
    return error.field, error.rule


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("Ada@Example.COM", "ada@example.com"),
        (" ada@example.com\n", "ada@example.com"),
        ("o'brien+tag%1_x.y-z@mail.sub-domain.example.co", "o'brien+tag%1_x.y-z@mail.sub-domain.example.co"),
        ("a" * 243 + "@example.com", "a" * 243 + "@example.com"),
    ],
)
def test_an_address_is_stored_in_lower_case(given: str, stored: str) -> None:
    assert take(email=given)["email"] == stored


@pytest.mark.parametrize(
    "address",
    [
        "a@b.c|d",
        "a@b.c",
        "a@b.c0",
        "a@b",
        "a@.com",
        "a@b..com",
        "a@-b.com",
        "a@b-.com",
        "@b.com",
        "a b@c.com",
        "a@b.com@c.com",
        "a@b.com\nx",
        "ä@b.com",
        "a@bü.com",
        "\u0430@b.com",
        "\N{KELVIN SIGN}@b.com",
        "a" * 244 + "@example.com",
        "",
        5,
        b"a@b.com",
    ],
)
def test_what_is_no_address_is_refused(address: object) -> None:
    assert refusal(email=address) == ("email", "email_valid")


@given(st.text())
def test_no_text_makes_an_address_that_is_not_ascii(address: str) -> None:
    try:
        stored = take(email=address)["email"]
    except InvalidInput:
        return
    assert stored.isascii()
    assert stored == stored.lower().strip()


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 2001:DB8:0::1 ", "2001:db8::1"),
        (ip_address("::1"), "::1"),
        *(
            (bad, None)
            for bad in ("unknown", "", "x" * 10_000, "1.2.3", "::1::", 7, None, b"\x7f\0\0\1", "1\0")
        ),
    ],
)
def test_an_address_that_cannot_be_read_is_none(given: object, stored: str | None) -> None:
    assert take(ip=given)["ip"] == stored


@pytest.mark.parametrize("address", ["::1%eth0", "fe80::1%25"])
def test_a_zone_is_not_kept(address: str) -> None:
    assert "%" not in (take(ip=address)["ip"] or "")


@given(st.text() | st.ip_addresses().map(str))
def test_any_text_is_an_address_or_none(given: str) -> None:
    kept = take(ip=given)["ip"]
    if kept is not None and "%" not in kept:
        assert ip_interface(kept).ip == ip_address(given.strip())


@given(st.text() | st.text(min_size=990, max_size=1010) | st.integers() | st.binary() | st.none())
@example("x" * 10_000)
@example(" " * 1000 + "x")
@example("\0" * 10)
@example("\ud800")
def test_any_user_agent_is_kept_in_part_or_none(given: object) -> None:
    kept = take(agent=given)["agent"]
    if isinstance(given, str) and given[:1000].replace("\0", "").strip():
        assert kept is not None
    if kept is not None:
        assert isinstance(given, str)
        assert 1 <= len(kept) <= 1000
        assert kept.strip()
        assert "\0" not in kept
        assert kept.encode().decode() == kept
        if given.isprintable():
            assert given.startswith(kept)


JSON_TEXTS = st.text() | st.text(st.sampled_from('\\u0"\0n'), max_size=12)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | JSON_TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(JSON_TEXTS, inner, max_size=4),
    max_leaves=10,
)


def texts_and_numbers(value: object) -> list[object]:
    """Every key and every leaf of a JSON value."""
    if isinstance(value, dict):
        return [*value, *(leaf for inner in value.values() for leaf in texts_and_numbers(inner))]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in texts_and_numbers(inner)]
    return [value]


def expected_rule(value: dict[str, Any], limit: int) -> str | None:
    leaves = texts_and_numbers(value)
    texts = [leaf for leaf in leaves if isinstance(leaf, str)]
    if any(isinstance(leaf, float) and not abs(leaf) <= 1e308 for leaf in leaves):
        return "json_value"
    if any(0xD800 <= ord(character) <= 0xDFFF for text in texts for character in text):
        return "json_value"
    if any("\0" in text for text in texts):
        return "no_nul"
    return "json_size" if len(json.dumps(value, ensure_ascii=False).encode()) > limit else None


@given(st.dictionaries(JSON_TEXTS, JSON_VALUES, max_size=4))
@example({"a": "\\u0000"})
@example({"a": "\\\\u0000"})
@example({"\\\0": 1})
@example({"a": '"\\\\\0'})
def test_json_is_kept_or_refused_for_what_is_wrong_with_it(value: dict[str, Any]) -> None:
    rule = expected_rule(value, 60)
    if rule is None:
        assert inputs.check_json(value, 60) == value
    else:
        with pytest.raises(ValueError, match="must") as caught:
            inputs.check_json(value, 60)
        assert getattr(caught.value, "type", None) == rule


def test_a_known_key_is_checked_and_an_unknown_one_kept() -> None:
    form = {"step": "2", "units": "metric", "other": {"units": 5}, "age": None}
    assert take(form=form)["form"] == form
    assert take(form=FormState(step=2, other=1))["form"] == {"step": 2, "other": 1}
    for key, value in (
        ("units", MARK),
        ("step", [MARK]),
        ("age", True),
        ("goal", MARK * 20),
        ("sex", {MARK: MARK}),
        ("weight", MARK * 20),
    ):
        assert refusal(form={"other": MARK, key: value}) == (f"form.{key}", "payload")


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("text", "a\0b" + MARK, "no_nul"),
        ("text", "\udc00" + MARK, "utf8"),
        ("text", b"bytes", "string_type"),
        ("filled", " \t\n\u00a0", "not_empty"),
        ("key", 2**63, "less_than"),
        ("key", -(2**63) - 1, "greater_than_equal"),
        ("key", True, "int_type"),
        ("key", "1", "int_type"),
        ("limit", 0, "greater_than_equal"),
        ("limit", 1001, "less_than_equal"),
        ("batch", 0, "greater_than_equal"),
        ("batch", 100_001, "less_than_equal"),
        ("valid_for", timedelta(0), "greater_than"),
        ("valid_for", timedelta.max, "less_than_equal"),
        ("grace", timedelta(microseconds=-1), "greater_than_equal"),
        ("grace", timedelta.max, "less_than_equal"),
        ("accessed_at", datetime(2026, 1, 1), "timezone_aware"),  # noqa: DTZ001
        ("accessed_at", datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), "accessed_at_in_range"),
        ("accessed_at", datetime(2100, 1, 1, tzinfo=UTC), "accessed_at_in_range"),
        ("accessed_at", datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), "accessed_at_in_range"),
        ("accessed_at", datetime.max.replace(tzinfo=timezone(-timedelta(hours=14))), "accessed_at_in_range"),
    ],
)
def test_a_value_out_of_bounds_is_refused(field: str, value: object, rule: str) -> None:
    assert refusal(**{field: value}) == (field, rule)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("text", ""),
        ("text", "\\u0000"),
        ("filled", " x "),
        ("key", 2**63 - 1),
        ("key", -(2**63)),
        ("limit", 1000),
        ("batch", 100_000),
        ("valid_for", timedelta(microseconds=1)),
        ("valid_for", timedelta(days=3653)),
        ("grace", timedelta(0)),
        ("accessed_at", datetime(2000, 1, 1, tzinfo=UTC)),
        ("accessed_at", datetime(2099, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_a_value_within_bounds_passes_unchanged(field: str, value: object) -> None:
    assert take(**{field: value})[field] == value


@validated
def two(first: Limit, *, second: Limit = 1) -> int:
    return first + second


@pytest.mark.parametrize(
    "wrong_call", [two, lambda: two(1, 2), lambda: two(1, third=3), lambda: two(1, first=1)]
)
def test_a_wrong_call_is_the_callers_fault(wrong_call: Callable[[], int]) -> None:
    with pytest.raises(TypeError, match=r"two\(\)"):
        wrong_call()


def test_the_first_wrong_value_is_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        two(first=0, second=0)
    assert caught.value.field == "first"
    assert two(2, second=3) == 5


def test_an_argument_given_by_position_is_named_too() -> None:
    with pytest.raises(InvalidInput) as caught:
        two(0)
    assert caught.value.field == "first"


def test_new_tokens_have_their_form_and_never_repeat() -> None:
    for new, form in (
        (tokens.new_report_token, tokens.REPORT_TOKEN),
        (tokens.new_calculator_token, tokens.CALCULATOR_TOKEN),
    ):
        made = {new() for _ in range(100)}
        assert len(made) == 100
        assert all(form.fullmatch(token) for token in made)
