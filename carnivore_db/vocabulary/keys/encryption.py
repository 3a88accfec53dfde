"""Encryption of learners' API keys: AES-256-GCM, bound to the learner and the provider.

A ciphertext is `enc:v1:<key id>:<base64 of nonce, text and tag>`; the database takes nothing else
(document 001: "encryption must be implemented at application layer").
"""

import base64
import binascii
import re
import secrets
from collections.abc import Mapping
from typing import Self
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from carnivore_db.errors import ConfigurationError, DecryptionFailed, KeyMissing
from carnivore_db.settings import KEY_ID, Settings
from carnivore_db.vocabulary.models import CIPHERTEXT, Provider

_KEY_ID = re.compile(KEY_ID, re.ASCII)
_FORMAT = re.compile(CIPHERTEXT, re.ASCII)
_NONCE = 12  # bytes, as the standard wants them; random, which is safe for 2**32 texts a key


class Keyring:
    """The keys of this process by identifier, and the one that writes. Its repr shows identifiers alone."""

    def __init__(self, keys: Mapping[str, bytes], current: str) -> None:
        """`keys`: 32 bytes each, by identifiers of at most 32 of a-z, 0-9, _ and -. Raises
        ConfigurationError for others, KeyMissing when `current` is not among them."""
        self.current = current
        self._ciphers: dict[str, AESGCM] = {}
        if not all(_KEY_ID.fullmatch(key_id) and len(key) == 32 for key_id, key in keys.items()):
            raise ConfigurationError(
                "an encryption key has 32 bytes and an identifier of at most 32 characters"
            )
        if current not in keys:
            raise KeyMissing(current)
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}

    @classmethod
    def from_settings(cls, settings: Settings | None = None) -> Self:
        """CARNIVORE_DB_ENCRYPTION_KEYS and _KEY_ID. Raises ConfigurationError without one, KeyMissing."""
        settings = settings or Settings()
        keys = settings.encryption_keys
        if not keys and settings.encryption_key_id is None:
            raise ConfigurationError(
                "CARNIVORE_DB_ENCRYPTION_KEYS is not set. For a new key: carnivore-db keys generate"
            )
        current = settings.encryption_key_id or (next(iter(keys)) if len(keys) == 1 else None)
        if current is None:
            raise ConfigurationError(
                "CARNIVORE_DB_ENCRYPTION_KEY_ID must say which key of CARNIVORE_DB_ENCRYPTION_KEYS writes"
            )
        if current not in keys:
            raise KeyMissing(current)
        # Last, so that no frame that can fail has a key among its variables.
        return cls(
            {key_id: base64.b64decode(key.get_secret_value()) for key_id, key in keys.items()}, current
        )

    def __repr__(self) -> str:
        return f"<Keyring {sorted(self._ciphers)}, {self.current!r} writes>"

    def encrypt(self, plaintext: SecretStr, *, user_id: UUID, provider: Provider) -> str:
        """A ciphertext of `plaintext` that decrypts for this learner and this provider alone."""
        nonce = secrets.token_bytes(_NONCE)
        sealed = self._ciphers[self.current].encrypt(
            nonce, plaintext.get_secret_value().encode(), _bound(user_id, provider, self.current)
        )
        return self.prefix + _base64(nonce + sealed)

    def decrypt(self, ciphertext: str, *, user_id: UUID, provider: Provider) -> SecretStr:
        """What was encrypted. Raises KeyMissing (which key would be needed), DecryptionFailed (altered, moved
        from another learner or provider, or made with another key of this identifier)."""
        if _FORMAT.fullmatch(ciphertext) is None:
            raise DecryptionFailed
        _, _, key_id, text = ciphertext.split(":")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise KeyMissing(key_id)
        try:
            sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            # Base64 can spell the same bytes in several ways; one is ours.
            if _base64(sealed) == text:
                plain = cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], _bound(user_id, provider, key_id))
                return SecretStr(plain.decode())
        except (InvalidTag, binascii.Error, ValueError):
            pass
        raise DecryptionFailed  # here, so that nothing of the text is chained to it

    @property
    def prefix(self) -> str:
        """How every ciphertext of the key that writes begins."""
        return f"enc:v1:{self.current}:"


def new_key() -> str:
    """A new key, 256 random bits in base64, for CARNIVORE_DB_ENCRYPTION_KEYS."""
    return base64.b64encode(AESGCM.generate_key(256)).decode()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bound(user_id: UUID, provider: Provider, key_id: str) -> bytes:
    """The associated data: whose key of which service this is. It is checked and not stored."""
    return f"carnivore_db:v1:{key_id}:{user_id}:{provider}".encode()
