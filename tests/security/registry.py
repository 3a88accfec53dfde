"""What a promise is, and the list that the modules promises_*.py fill."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.security.personas import Session

Check = Callable[[Session], None]


@dataclass(frozen=True)
class Promise:
    """A sentence about the database, and the attempts that would show it broken.

    `about` names the tables, functions, constraints, roles and verbs it speaks of: a mutation of one of them
    is put before this promise early.
    """

    name: str
    check: Check
    about: frozenset[str]

    def broken(self, session: Session) -> str | None:
        """How the promise is broken, or None; the database is left as it was."""
        with session.undone():
            try:
                self.check(session)
            except Exception as error:  # noqa: BLE001 - what is damaged may answer anything
                return str(error) or type(error).__name__
        return None


PROMISES: list[Promise] = []


def add(name: str, check: Check, about: str) -> None:
    assert name not in {known.name for known in PROMISES}, name
    PROMISES.append(Promise(name, check, frozenset(about.split())))


def promise(about: str) -> Callable[[Check], Check]:
    """The function's name is the promise."""

    def register(check: Check) -> Check:
        add(check.__name__.replace("_", " "), check, about)
        return check

    return register
