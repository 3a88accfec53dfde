"""Encryption of learners' keys: what comes back, what does not, and that no error shows a key."""

import string
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from carnivore_db.errors import CarnivoreError, ConfigurationError, DecryptionFailed, KeyMissing
from carnivore_db.vocabulary.keys.encryption import Keyring, new_key
from carnivore_db.vocabulary.models import PROVIDERS, Provider
from tests.support.hostile import MARK, logged, told
from tests.vocabulary.samples import KEYS, NEW, OLD, PLAIN

ADA, EVE = UUID(int=1), UUID(int=2)
OTHER = Keyring({"new": b"x" * 32}, "new")  # the same identifier, another key
ALPHABET = string.ascii_letters + string.digits + "_-"
# The last character of base64 has bits to spare, unless the length is right.


def seal(plain: SecretStr = PLAIN, keyring: Keyring = NEW) -> str:
    return keyring.encrypt(plain, user_id=ADA, provider="openai")


def failure(ciphertext: str, keyring: Keyring = NEW, user_id: UUID = ADA, provider: Provider = "openai"):
    """The error of a decryption, which shows the plaintext nowhere, and whose log does not either."""
    with logged() as lines, pytest.raises(CarnivoreError) as caught:
        keyring.decrypt(ciphertext, user_id=user_id, provider=provider)
    said = [*told(caught.value), *lines]
    assert any("keyring" in text for text in said)  # the local variables are really read
    for secret in (MARK, *(repr(key) for key in KEYS.values())):
        assert not any(secret in text for text in said)
    return caught.value


@settings(deadline=None)
@given(
    plain=st.text(st.characters(codec="utf-8"), min_size=1),
    user_id=st.uuids(),
    provider=st.sampled_from(PROVIDERS),
    keyring=st.sampled_from([OLD, NEW]),
)
def test_what_was_encrypted_is_decrypted(
    plain: str, user_id: UUID, provider: Provider, keyring: Keyring
) -> None:
    sealed = keyring.encrypt(SecretStr(plain), user_id=user_id, provider=provider)
    assert sealed.startswith(keyring.prefix)
    for reader in (keyring, NEW):
        assert reader.decrypt(sealed, user_id=user_id, provider=provider).get_secret_value() == plain


def test_two_encryptions_of_one_key_differ() -> None:
    assert len({seal() for _ in range(100)}) == 100


def test_a_ciphertext_does_not_hold_the_key() -> None:
    assert MARK not in seal()
    assert f"{NEW.decrypt(seal(), user_id=ADA, provider='openai')!r}" == "SecretStr('**********')"


@pytest.mark.parametrize(
    ("user_id", "provider"), [(EVE, "openai"), (ADA, "unsplash"), (ADA, "anthropic"), (uuid4(), "unsplash")]
)
def test_a_ciphertext_moved_to_another_learner_or_provider(user_id: UUID, provider: Provider) -> None:
    assert type(failure(seal(), user_id=user_id, provider=provider)) is DecryptionFailed


def test_a_ciphertext_of_a_key_that_is_missing_names_the_key() -> None:
    error = failure(seal(), keyring=OLD)
    assert isinstance(error, KeyMissing)
    assert error.key_id == "new"
    assert "'new'" in str(error)


def test_a_ciphertext_of_another_key_of_the_same_name() -> None:
    assert type(failure(seal(), keyring=OTHER)) is DecryptionFailed


def test_a_ciphertext_that_claims_another_key() -> None:
    moved = seal().replace(NEW.prefix, OLD.prefix)
    assert type(failure(moved)) is DecryptionFailed


def test_a_ciphertext_altered_in_any_character() -> None:
    sealed = seal(SecretStr(MARK + "x"))
    for place, character in enumerate(sealed[:-1]):
        for other in ("A", "b", "5", "-", "_", ":", "=", "\n", "é", "\0"):
            if other != character:
                error = failure(sealed[:place] + other + sealed[place + 1 :])
                assert type(error) in {DecryptionFailed, KeyMissing}


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_ciphertext_altered_in_its_last_character(length: int) -> None:
    sealed = seal(SecretStr("x" * length))
    taken = []
    for other in set(ALPHABET) - {sealed[-1]}:
        try:
            NEW.decrypt(sealed[:-1] + other, user_id=ADA, provider="openai")
        except DecryptionFailed:
            continue
        taken.append(other)
    assert taken == []


def test_a_ciphertext_cut_short_or_made_longer() -> None:
    sealed = seal()
    for length in range(len(sealed)):
        assert type(failure(sealed[:length])) in {DecryptionFailed, KeyMissing}
    for more in ("A", "AA", "AAAA", "=", "\n", " ", sealed):
        assert type(failure(sealed + more)) is DecryptionFailed


@pytest.mark.parametrize(
    "foreign",
    [
        *("", MARK[::-1], "enc:v1:", "\ud800", "\0" * 50, "enc:v2:new:" + "A" * 39),
        *(f"enc:v1:{key_id}:" + "A" * 39 for key_id in ("", "NEW", "new", "new:new", "new\n", "n" * 33)),
        *("enc:v1:new:" + "A" * length for length in (38, 40, 41)),
    ],
)
def test_what_is_not_ours(foreign: str) -> None:
    assert type(failure(foreign)) is DecryptionFailed


def test_a_new_key_is_256_bits_and_never_the_same() -> None:
    made = {new_key() for _ in range(20)}
    assert len(made) == 20
    assert all(len(key) == 44 for key in made)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Keyring(KEYS, "none"), KeyMissing),
        (lambda: Keyring({}, "new"), KeyMissing),
        (lambda: Keyring({"new": MARK.encode()}, "new"), ConfigurationError),
        (lambda: Keyring({"new": b"x" * 16}, "new"), ConfigurationError),
        (lambda: Keyring({"New": b"x" * 32}, "New"), ConfigurationError),
        (lambda: Keyring({"a:b": b"x" * 32}, "a:b"), ConfigurationError),
        (lambda: Keyring({"x" * 33: b"x" * 32}, "x" * 33), ConfigurationError),
        (lambda: Keyring({"new\n": b"x" * 32}, "new\n"), ConfigurationError),
    ],
)
def test_keys_that_make_no_keyring(make: Callable[[], Keyring], expected: type[Exception]) -> None:
    with pytest.raises(expected) as caught:
        make()
    assert MARK not in f"{caught.value} {caught.value!r}"


def test_a_keyring_prints_identifiers_alone() -> None:
    shown = f"{NEW} {NEW!r} {vars(NEW)}"
    assert "'new', 'old'" in shown
    for key in KEYS.values():
        assert key.decode() not in shown
