"""Learners' keys of other services, encrypted (document 001): set, get, validate, disable.

A key is a SecretStr wherever it is plain, so that no repr, log or traceback shows it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, SecretStr
from pydantic_core import PydanticCustomError
from sqlalchemy import Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from carnivore_db.errors import ApiKeyInactive, ApiKeyNotFound, Busy
from carnivore_db.kit.inputs import validated
from carnivore_db.kit.rows import FRESH, one
from carnivore_db.vocabulary.keys.encryption import Keyring
from carnivore_db.vocabulary.models import PROVIDERS, Provider, UserApiKeys

# Asks a service whether it takes a key. It raises when it could not find out.
Check = Callable[[Provider, SecretStr], bool]


@dataclass(frozen=True)
class KeyStatus:
    """What may be shown of a learner's keys."""

    providers: tuple[Provider, ...]
    is_active: bool
    last_validated_at: datetime | None


def _plain(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not (0 < len(text) <= 1000 and text.isascii() and text.isprintable() and " " not in text):
        raise PydanticCustomError("api_key", "must be 1 to 1,000 printable ASCII characters without spaces")
    return value


PlainKey = Annotated[SecretStr, AfterValidator(_plain)]


def column(provider: Provider) -> str:
    """The column of a provider's key."""
    return f"{provider}_api_key"


@validated
def set(  # noqa: A001 - the business's word
    tx: Session, keyring: Keyring, user_id: UUID, provider: Provider, key: PlainKey
) -> KeyStatus:
    """Store a learner's key, in place of an older one; all their keys are active again, and not validated.

    As the learner or the service. Raises UserNotFound, PermissionRefused, InvalidInput.
    """
    sealed = keyring.encrypt(key, user_id=user_id, provider=provider)
    values = {column(provider): sealed, "is_active": True}
    stored = insert(UserApiKeys).values(user_id=user_id, **values)
    stored = stored.on_conflict_do_update(index_elements=[UserApiKeys.user_id], set_=values)
    return _status(tx.scalars(stored.returning(UserApiKeys), execution_options=FRESH).one())


@validated
def get(tx: Session, keyring: Keyring, user_id: UUID, provider: Provider) -> SecretStr:
    """A learner's key, plain, to call the service with.

    Raises ApiKeyNotFound, ApiKeyInactive, KeyMissing, DecryptionFailed.
    """
    row = one(tx, _mine(user_id), ApiKeyNotFound)
    sealed: str | None = getattr(row, column(provider))
    if sealed is None:
        raise ApiKeyNotFound
    if not row.is_active:
        raise ApiKeyInactive
    return keyring.decrypt(sealed, user_id=user_id, provider=provider)


@validated
def status(tx: Session, user_id: UUID) -> KeyStatus:
    """Which keys a learner has and whether they are in use; none and in use when there never was one."""
    row = tx.scalars(_mine(user_id), execution_options=FRESH).one_or_none()
    return KeyStatus((), is_active=True, last_validated_at=None) if row is None else _status(row)


@validated
def validate(tx: Session, keyring: Keyring, user_id: UUID, check: Check) -> dict[Provider, bool]:
    """Ask the services about each of a learner's keys, as the service role; says which were taken.

    All taken: `last_validated_at` is now and the keys are active. One refused: they are disabled. Nothing is
    noted when `check` raises. The transaction stays open while they are asked. Raises Busy when the keys were
    changed or disabled meanwhile, ApiKeyNotFound, KeyMissing, DecryptionFailed.
    """
    stored = read(tx, user_id)
    taken = ask(keyring, stored, check)
    record_validation(tx, stored, taken)
    return taken


@dataclass(frozen=True)
class StoredKeys:
    """A learner's ciphertexts as they were read, and whether they were in use."""

    user_id: UUID
    sealed: dict[Provider, str] = field(repr=False)
    is_active: bool


@validated
def read(tx: Session, user_id: UUID) -> StoredKeys:
    """A learner's keys, still encrypted, for `ask`. Raises ApiKeyNotFound when there is none."""
    row = one(tx, _mine(user_id), ApiKeyNotFound)
    sealed = {each: text for each in PROVIDERS if (text := getattr(row, column(each))) is not None}
    if not sealed:
        raise ApiKeyNotFound
    return StoredKeys(user_id, sealed, row.is_active)


def ask(keyring: Keyring, stored: StoredKeys, check: Check) -> dict[Provider, bool]:
    """What the services say of these keys; no transaction is needed. Raises KeyMissing, DecryptionFailed, and
    whatever `check` raises."""
    return {
        provider: check(provider, keyring.decrypt(text, user_id=stored.user_id, provider=provider))
        for provider, text in stored.sealed.items()
    }


def record_validation(tx: Session, stored: StoredKeys, taken: Mapping[Provider, bool]) -> None:
    """Note what `ask` found, if the keys are still those and still in use or not. Raises Busy otherwise."""
    values: dict[str, object] = {"is_active": all(taken.values())}
    if values["is_active"]:
        values["last_validated_at"] = func.now()
    unchanged = (
        UserApiKeys.user_id == stored.user_id,
        UserApiKeys.is_active.is_(stored.is_active),
        *(
            getattr(UserApiKeys, column(provider)).is_not_distinct_from(stored.sealed.get(provider))
            for provider in PROVIDERS
        ),
    )
    noted = update(UserApiKeys).where(*unchanged).values(**values).returning(UserApiKeys.id)
    if tx.scalars(noted).one_or_none() is None:
        raise Busy("the keys were changed while they were validated")


@validated
def disable(tx: Session, user_id: UUID) -> KeyStatus:
    """Take a learner's keys out of use until one is set again; twice is no error. Raises ApiKeyNotFound."""
    return _status(_change(tx, user_id, is_active=False))


@validated
def remove(tx: Session, user_id: UUID, provider: Provider) -> KeyStatus:
    """Delete a learner's key. Raises ApiKeyNotFound when there is none, also the second time."""
    there = getattr(UserApiKeys, column(provider)).is_not(None)
    gone = update(UserApiKeys).where(UserApiKeys.user_id == user_id, there).values({column(provider): None})
    return _status(one(tx, gone.returning(UserApiKeys), ApiKeyNotFound))


def _change(tx: Session, user_id: UUID, **values: object) -> UserApiKeys:
    change = update(UserApiKeys).where(UserApiKeys.user_id == user_id).values(**values)
    return one(tx, change.returning(UserApiKeys), ApiKeyNotFound)


def _mine(user_id: UUID) -> Select[UserApiKeys]:
    return select(UserApiKeys).where(UserApiKeys.user_id == user_id)


def _status(row: UserApiKeys) -> KeyStatus:
    stored = tuple(provider for provider in PROVIDERS if getattr(row, column(provider)) is not None)
    return KeyStatus(stored, row.is_active, row.last_validated_at)
