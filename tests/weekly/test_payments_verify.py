"""The webhook's signature: Stripe's own library refuses what Stripe did not just sign."""

import hashlib
import hmac
import json
import time
import traceback

import pytest

from carnivore_db.errors import ConfigurationError, SignatureInvalid
from carnivore_db.weekly import payments
from tests.weekly.stripe_payloads import checkout, new_payment

SECRET = "whsec_0f7d2b6a9c1e4f3b8a5d7c6e9f0a1b2c"
EVENT = checkout("completed", {"carnivore_session": "user_sessions:1"}, new_payment())
BODY = json.dumps(EVENT, ensure_ascii=False, indent=2).encode()


def sign(body: bytes, secret: str = SECRET, *, age: int = 0) -> str:
    moment = int(time.time()) - age
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


def test_a_signed_event_is_given_back() -> None:
    assert payments.verify(BODY, sign(BODY), SECRET) == EVENT


def test_one_of_several_signatures_is_enough() -> None:
    # As while a secret is rolled: one signature for each.
    moment, right = sign(BODY).split(",")
    wrong = sign(BODY, "whsec_other").split(",")[1]
    assert payments.verify(BODY, f"{moment},{wrong},{right},v0=00", SECRET) == EVENT


def refused(body: bytes, signature: str, secret: str = SECRET, **options: int) -> str:
    """What the refusal says."""
    with pytest.raises(SignatureInvalid) as caught:
        payments.verify(body, signature, secret, **options)
    return "".join(traceback.format_exception(caught.value)) + repr(caught.value)


def test_a_wrong_secret_is_refused() -> None:
    refused(BODY, sign(BODY, "whsec_other"))
    refused(BODY, sign(BODY), "whsec_other")


@pytest.mark.parametrize(
    "body",
    [
        BODY.replace(b"user_sessions:1", b"user_sessions:2"),
        BODY + b" ",
        BODY[:-1],
        b"",
        b"{}",
        b"\xff\xfe",
        b"\0" + BODY,
    ],
)
def test_a_changed_body_is_refused(body: bytes) -> None:
    assert body != BODY
    refused(body, sign(BODY))


def test_an_old_signature_is_refused() -> None:
    refused(BODY, sign(BODY, age=301))
    assert payments.verify(BODY, sign(BODY, age=290), SECRET) == EVENT
    assert payments.verify(BODY, sign(BODY, age=3000), SECRET, tolerance=3600) == EVENT
    refused(BODY, sign(BODY, age=60), tolerance=30)


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "t=1",
        "v1=00",
        "t=,v1=",
        "t=x,v1=00",
        "garbage",
        ",,,===",
        "t=" + "9" * 5000 + ",v1=00",
        "x" * 100_000,
        "t=1,v1=\u00e9",
    ],
    ids=lambda signature: signature[:10],
)
def test_a_malformed_signature_is_refused(signature: str) -> None:
    refused(BODY, signature)


def test_a_request_without_a_signature_is_refused() -> None:
    refused(BODY, {}.get("Stripe-Signature"))


def test_a_refusal_quotes_neither_secret_nor_body() -> None:
    said = refused(BODY, sign(BODY, "whsec_other"))
    assert SECRET not in said
    assert "ada@example.com" not in said


def test_a_body_that_is_no_text_is_refused_even_when_signed() -> None:
    refused(b"\xff\xfe", sign(b"\xff\xfe"))


def test_no_tolerance_is_no_unlimited_tolerance() -> None:
    refused(BODY, sign(BODY, age=100_000), tolerance=0)


@pytest.mark.parametrize("secret", ["", "  ", "\n", [], [""], [SECRET, " "]])
def test_a_blank_secret_lets_nobody_sign(secret: str | list[str]) -> None:
    """Whoever knows that it is blank could sign."""
    for known in ("", "  ", SECRET):
        with pytest.raises(ConfigurationError, match="must not be blank"):
            payments.verify(BODY, sign(BODY, known), secret)


def test_several_secrets_while_one_takes_the_place_of_another() -> None:
    for signing in ("whsec_old", "whsec_new"):
        assert payments.verify(BODY, sign(BODY, signing), ["whsec_old", "whsec_new"]) == EVENT
    with pytest.raises(SignatureInvalid):
        payments.verify(BODY, sign(BODY, "whsec_other"), ["whsec_old", "whsec_new"])
