"""Jobs over all learners' API keys: re-encryption after a rotation, and periodic validation.

Short transactions as the service, one learner or one batch each; safe at any time and to repeat.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from carnivore_db import identity
from carnivore_db.database import Database
from carnivore_db.errors import CarnivoreError, DecryptionFailed, KeyMissing
from carnivore_db.inputs import BatchSize, Grace, Limit, validated
from carnivore_db.vocabulary import api_keys
from carnivore_db.vocabulary.encryption import Keyring
from carnivore_db.vocabulary.models import UserApiKeys

_FIRST = UUID(int=0)


@dataclass
class Reencrypted:
    """How many learners' rows are under the current key now, and why others are not, by learner."""

    done: int = 0
    failed: dict[UUID, str] = field(default_factory=dict)


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
    batch: BatchSize = 500,
    on_progress: Callable[[int, int], Any] = lambda done, total: None,
) -> Reencrypted:
    """Encrypt with the key that writes whatever was encrypted with an older one, `batch` rows a transaction.

    Keys stay in use meanwhile; an old key can go once nothing failed. `on_progress` gets rows seen and all.
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
    columns = (getattr(UserApiKeys, api_keys.column(provider)) for provider in api_keys.PROVIDERS)
    return or_(*(~func.starts_with(column, keyring.prefix) for column in columns))


def _renew(tx: Session, keyring: Keyring, row: UserApiKeys, result: Reencrypted) -> None:
    renewed = {}
    try:
        for provider in api_keys.PROVIDERS:
            sealed = getattr(row, api_keys.column(provider))
            if sealed is not None:
                plain = keyring.decrypt(sealed, user_id=row.user_id, provider=provider)
                renewed[api_keys.column(provider)] = keyring.encrypt(
                    plain, user_id=row.user_id, provider=provider
                )
    except (KeyMissing, DecryptionFailed) as error:
        result.failed[row.user_id] = str(error)
        return
    mine = update(UserApiKeys).where(UserApiKeys.id == row.id)
    tx.execute(mine.values(**renewed))
    # The database took the new ciphertext for a new key; it is the old one, as valid as it was.
    tx.execute(mine.values(last_validated_at=row.last_validated_at))
    result.done += 1


@validated
def revalidate(
    db: Database,
    keyring: Keyring,
    check: api_keys.Check,
    *,
    older_than: Grace = timedelta(days=30),
    limit: Limit = 1000,
) -> Revalidated:
    """Ask the services about active keys that were last validated `older_than` ago or never, oldest first.

    A learner with a refused key is disabled; one whose check raised stays as it is, for the next run.
    """
    due = (
        select(UserApiKeys.user_id)
        .where(
            UserApiKeys.is_active,
            or_(*(getattr(UserApiKeys, api_keys.column(each)).is_not(None) for each in api_keys.PROVIDERS)),
            func.coalesce(UserApiKeys.last_validated_at, "-infinity") <= func.now() - older_than,
        )
        .order_by(UserApiKeys.last_validated_at.asc().nulls_first(), UserApiKeys.id)
        .limit(limit)
    )
    with db.transaction(identity.service()) as tx:
        learners = tx.scalars(due).all()
    result = Revalidated()
    for learner in learners:
        try:
            with db.transaction(identity.service()) as tx:
                taken = api_keys.validate(tx, keyring, learner, check)
        except Exception as error:  # noqa: BLE001 - whatever a service's library raises
            result.failed[learner] = str(error) if isinstance(error, CarnivoreError) else type(error).__name__
            continue
        if all(taken.values()):
            result.valid += 1
        else:
            result.disabled.append(learner)
    return result
