"""Jobs over all learners' API keys: re-encryption after a rotation, and periodic validation.

Short transactions as the service, one learner or one batch each; safe at any time and to repeat.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, or_, select, update
from sqlalchemy.orm import Session

from carnivore_db import identity
from carnivore_db.database import Database
from carnivore_db.errors import CarnivoreError, DecryptionFailed, KeyMissing
from carnivore_db.kit.inputs import BatchSize, Grace, validated
from carnivore_db.settings import DEFAULTS
from carnivore_db.vocabulary.keys import api_keys
from carnivore_db.vocabulary.keys.encryption import Keyring
from carnivore_db.vocabulary.models import PROVIDERS, Provider, UserApiKeys

_FIRST = UUID(int=0)


@dataclass
class Reencrypted:
    """How many keys are under the one that writes now, and why others are not, by learner and provider."""

    done: int = 0
    failed: dict[tuple[UUID, Provider], str] = field(default_factory=dict)


@dataclass
class Revalidated:
    """Learners whose keys were all taken, those with a refused key, those nobody could be asked about."""

    valid: int = 0
    disabled: list[UUID] = field(default_factory=list)
    failed: dict[UUID, str] = field(default_factory=dict)


@validated
def reencrypt(
    db: Database,
    keyring: Keyring,
    *,
    batch: BatchSize = DEFAULTS.key_batch,
    on_progress: Callable[[int, int], Any] = lambda done, total: None,
) -> Reencrypted:
    """Encrypt with the key that writes whatever was encrypted with an older one.

    `batch` learners are a transaction. Keys stay in use meanwhile; an old key can go once nothing failed for
    want of it. `on_progress` gets learners seen and all.
    """
    result = Reencrypted()
    with db.transaction(identity.service()) as tx:
        total = tx.scalar(select(func.count()).where(_outdated(keyring))) or 0
    seen, last = 0, _FIRST
    while True:
        with db.transaction(identity.service()) as tx:
            rows = _lock(tx, keyring, last, batch)
            for row in rows:
                _renew(tx, keyring, row, result)
        if not rows:
            return result
        seen, last = seen + len(rows), rows[-1].id
        on_progress(seen, max(seen, total))


def _lock(tx: Session, keyring: Keyring, after: UUID, batch: int) -> list[UserApiKeys]:
    # Waits for rows that somebody is writing: their old ciphertext may be read a moment longer.
    outdated = select(UserApiKeys).where(_outdated(keyring), UserApiKeys.id > after)
    return list(tx.scalars(outdated.order_by(UserApiKeys.id).limit(batch).with_for_update(key_share=True)))


def _outdated(keyring: Keyring) -> ColumnElement[bool]:
    columns = (getattr(UserApiKeys, api_keys.column(provider)) for provider in PROVIDERS)
    return or_(*(~func.starts_with(column, keyring.prefix) for column in columns))


def _renew(tx: Session, keyring: Keyring, row: UserApiKeys, result: Reencrypted) -> None:
    renewed = {}
    for provider in PROVIDERS:
        sealed: str | None = getattr(row, api_keys.column(provider))
        if sealed is None or sealed.startswith(keyring.prefix):
            continue
        try:
            plain = keyring.decrypt(sealed, user_id=row.user_id, provider=provider)
        except (KeyMissing, DecryptionFailed) as error:
            result.failed[row.user_id, provider] = str(error)
            continue
        renewed[api_keys.column(provider)] = keyring.encrypt(plain, user_id=row.user_id, provider=provider)
    if not renewed:
        return
    mine = update(UserApiKeys).where(UserApiKeys.id == row.id)
    tx.execute(mine.values(**renewed))
    # The database took the new ciphertext for a new key; it is the old one, as valid as it was.
    tx.execute(mine.values(last_validated_at=row.last_validated_at))
    result.done += len(renewed)


@validated
def revalidate(
    db: Database,
    keyring: Keyring,
    check: api_keys.Check,
    *,
    older_than: Grace = timedelta(days=30),
    batch: BatchSize = DEFAULTS.key_batch,
) -> Revalidated:
    """Ask the services about all active keys that were last validated `older_than` ago or never.

    No transaction is open while they are asked. A learner with a refused key is disabled; one whose check
    raised, or who changed something meanwhile, stays as it is, for the next run.
    """
    result = Revalidated()
    last = _FIRST
    while True:
        with db.transaction(identity.service()) as tx:
            due = tx.execute(_due(older_than, last, batch)).all()
        if not due:
            return result
        last = due[-1].id
        for row in due:
            try:
                _revalidate(db, keyring, row.user_id, check, result)
            except Exception as error:  # noqa: BLE001 - whatever a service's library raises
                known = isinstance(error, CarnivoreError)
                result.failed[row.user_id] = str(error) if known else type(error).__name__


def _due(older_than: timedelta, after: UUID, batch: int) -> Select[UUID, UUID]:
    columns = (getattr(UserApiKeys, api_keys.column(each)) for each in PROVIDERS)
    validated_at = UserApiKeys.last_validated_at
    return (
        select(UserApiKeys.id, UserApiKeys.user_id)
        .where(
            UserApiKeys.id > after,
            UserApiKeys.is_active,
            or_(*(column.is_not(None) for column in columns)),
            or_(validated_at.is_(None), validated_at <= func.now() - older_than),
        )
        .order_by(UserApiKeys.id)
        .limit(batch)
    )


def _revalidate(
    db: Database, keyring: Keyring, learner: UUID, check: api_keys.Check, result: Revalidated
) -> None:
    with db.transaction(identity.service()) as tx:
        stored = api_keys.read(tx, learner)
    if not stored.is_active:
        return  # disabled since
    taken = api_keys.ask(keyring, stored, check)
    with db.transaction(identity.service()) as tx:
        api_keys.record_validation(tx, stored, taken)
    if all(taken.values()):
        result.valid += 1
    else:
        result.disabled.append(learner)
