"""The promises are worth something: damage any one rule of the schema, and a promise is broken.

Each mutant is applied in a savepoint, the promises are tried until one fails, and everything is taken back.
A mutant that no promise notices is a survivor: a rule that nothing tests.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

import psycopg
import pytest

from tests.security.mutants import Mutant, listed
from tests.security.mutants_given import GIVEN
from tests.security.mutants_taken import TAKEN
from tests.security.mutants_weakened import CLAUSES, WEAKENED
from tests.security.personas import Session
from tests.security.promises import PROMISES, Promise

# A regular expression: damages whose statement it finds, while a part of the schema is being made.
ONLY = os.environ.get("MUTANTS_ONLY", "")

KINDS: dict[str, Callable[[Session], Iterable[Mutant]]] = {
    **{kind: partial(listed, query=query) for kind, query in {**TAKEN, **GIVEN}.items()},
    **WEAKENED,
}
# What the shapes cannot make differ: a clause of a text, and one privilege or verb at a time. Both try all
# privileges at once.
PLAIN_ONLY = {
    *CLAUSES,
    "permissive policy for a verb",
    "privilege on a table",
    "privilege on a column",
    "privilege on a sequence",
}
CASES = [
    pytest.param(
        shape, kind, id=f"{shape}-{kind}", marks=pytest.mark.clauses if kind in CLAUSES else pytest.mark.slow
    )
    for shape in ("plain", "supabase")
    for kind in KINDS
    if shape == "plain" or kind not in PLAIN_ONLY
]


@pytest.fixture(scope="module")
def broken_anyway(connection: psycopg.Connection) -> Callable[[Promise, Session], str | None]:
    """How a promise is broken while nothing is damaged, or None; only a kept one can notice a mutant."""
    known: dict[str, str | None] = {}

    def ask(promise: Promise, session: Session) -> str | None:
        if promise.name not in known:
            known[promise.name] = promise.broken(session)
        return known[promise.name]

    return ask


class Refused(Exception):
    """PostgreSQL takes no such statement: nothing is damaged."""


def _killer(mutant: Mutant, session: Session, promises: list[Promise]) -> Promise | None:
    """The first promise that the mutant breaks: those that speak of the same things are asked first, then
    what the catalog says, then all others."""

    def distance(one: Promise) -> tuple[int, int]:
        shared = len(one.about & mutant.about)
        return (0 if shared else 1 if "catalog" in one.about else 2), -shared

    nearest = sorted(promises, key=distance)
    with session.undone():
        try:
            session.superuser.allows(mutant.statement)
        except AssertionError as error:
            if mutant.tentative:
                raise Refused from error
            raise
        return next((promise for promise in nearest if promise.broken(session) is not None), None)


@pytest.mark.parametrize(("planted", "kind"), CASES, indirect=["planted"])
def test_every_mutant_is_killed(
    kind: str,
    session: Session,
    broken_anyway: Callable[[Promise, Session], str | None],
    record_property: Callable[[str, object], None],
) -> None:
    survivors, killers, recent = [], Counter[str](), list(PROMISES)
    found = [one for one in KINDS[kind](session) if re.search(ONLY, f"{one} {one.statement}")]
    assert found or ONLY, "the catalog shows nothing of this kind"
    for mutant in found:
        session.anew()
        try:
            killer = _killer(mutant, session, recent)
        except Refused:
            continue
        if killer is None:
            survivors.append(str(mutant))
        else:
            reason = broken_anyway(killer, session)
            assert reason is None, f"broken without any damage: {killer.name}: {reason}"
            killers[killer.name] += 1
            # The next damage is likely to the same object.
            recent.remove(killer)
            recent.insert(0, killer)
    tried = killers.total() + len(survivors)
    record_property("mutants", tried)
    record_property("mutants killed", killers.total())
    assert not survivors, "\n".join([f"{len(survivors)} of {tried} survive:", *survivors])
