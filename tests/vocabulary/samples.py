"""Learners, sessions and keys that tests begin with, made by the repositories."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr
from sqlalchemy.orm import Session

from carnivore_db import Identity, identity
from carnivore_db.vocabulary import sessions, users
from carnivore_db.vocabulary.keys import api_keys
from carnivore_db.vocabulary.keys.encryption import Keyring
from carnivore_db.vocabulary.models import LearningSession, Provider, User
from carnivore_db.vocabulary.payloads import Profile
from tests.support.callers import Caller
from tests.support.hostile import MARK

SERVICE = identity.service()
VISITOR = identity.anonymous()
NOBODY = UUID(int=5)  # an id that no row has
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEYS = {"old": b"o" * 32, "new": b"n" * 32}
OLD = Keyring({"old": KEYS["old"]}, "old")
NEW = Keyring(KEYS, "new")
PLAIN = SecretStr(f"sk-{MARK}")  # what no error, log or row may show


def new_learner(caller: Caller, email: str | None = None, **profile: Any) -> User:
    made = uuid4()
    return caller.call(SERVICE, users.register, made, email or f"{made}@example.com", Profile(**profile))


def themselves(learner: User) -> Identity:
    """The learner, logged in."""
    return identity.user(learner.id, learner.email)


def start_session(caller: Caller, user_id: UUID | None, **changes: Any) -> LearningSession:
    given = {"session_type": "mixed", "user_id": user_id, "started_at": NOON, **changes}
    return caller.call(SERVICE, sessions.start, **given)


def set_key(caller: Caller, user_id: UUID, *, keyring: Keyring = NEW, key: str = "", **changes: Any) -> None:
    plain = SecretStr(key) if key else PLAIN
    given = {"user_id": user_id, "provider": "openai", "key": plain, **changes}
    caller.call(SERVICE, api_keys.set, keyring, **given)


def taken(provider: Provider, key: SecretStr) -> bool:
    """A service that takes every key."""
    return True


def refused(provider: Provider, key: SecretStr) -> bool:
    return False


class _Undone(Exception):
    def __init__(self, result: object) -> None:
        self.result = result


def undone(caller: Caller, who: Identity, function: Callable[..., Any], **given: Any) -> Any:
    """What a function returns, in a transaction that is rolled back."""

    def body(tx: Session) -> None:
        raise _Undone(function(tx, **given))

    try:
        caller.run(who, body)
    except _Undone as over:
        return over.result
