"""What can be weakened: one part of a condition, one column or event of a guard, one clause of a function."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

from tests.security.equivalent import is_equivalent
from tests.security.mutants import OURS, TABLES, TRIGGERS, Mutant, catalog
from tests.security.operators import Source, damages
from tests.security.personas import Session

POLICIES = f"""
SELECT format('ALTER POLICY %I ON %s', polname, polrelid::regclass), pg_get_expr(polqual, polrelid),
    pg_get_expr(polwithcheck, polrelid), ARRAY[named, polname, 'policy']
FROM pg_policy JOIN {TABLES} AS t ON t.oid = polrelid"""
CONSTRAINTS = f"""
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %2$I', conrelid::regclass, conname),
    coalesce(pg_get_expr(conbin, conrelid), pg_get_constraintdef(pg_constraint.oid)), ARRAY[named, conname]
FROM pg_constraint JOIN {TABLES} AS t ON t.oid = conrelid
WHERE contype IN ('c', 'f') AND coninhcount = 0"""
GUARDS = f"""
SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass), pg_get_triggerdef(pg_trigger.oid),
    ARRAY[named, tgname, proname]
FROM {TRIGGERS}"""
# Name, kind, text, whether a BEFORE trigger runs it, and what it is about.
BODIES = f"""
SELECT pg_proc.oid::regproc::text, 'function', pg_get_functiondef(pg_proc.oid),
    EXISTS (SELECT FROM pg_trigger WHERE tgfoid = pg_proc.oid AND tgtype & 2 = 2), ARRAY[proname, 'clause']
        || ARRAY(SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgfoid = pg_proc.oid AND tgparentid = 0)
FROM pg_proc WHERE pronamespace IN {OURS}
UNION ALL
SELECT oid::regclass::text, 'view', format('CREATE OR REPLACE VIEW %s WITH (%s) AS %s', oid::regclass,
    array_to_string(reloptions, ', '), pg_get_viewdef(oid)), false, ARRAY[oid::regclass::text, 'view']
FROM pg_class WHERE relnamespace IN {OURS} AND relkind = 'v'
UNION ALL
SELECT format('%s of %s', tgname, named), 'trigger',
    format('DROP TRIGGER %I ON %s; %s', tgname, tgrelid::regclass, pg_get_triggerdef(pg_trigger.oid)),
    false, ARRAY[named, tgname, proname]
FROM {TRIGGERS}"""


def _one_less(parts: list[str], joint: str) -> list[str]:
    """The parts without one of them, each in turn; nothing when there is one alone."""
    less = [joint.join(parts[:place] + parts[place + 1 :]) for place in range(len(parts))]
    return [one for one in less if one]


def _without(text: str, joint: str) -> list[str]:
    """The text with one of the parts "(a) AND (b)" left out, each in turn, however deep they stand."""
    found = []
    for place in re.finditer(rf"\) {joint} \(", text):
        left, right = _partner(text, place.start(), -1), _partner(text, place.end() - 1, 1)
        found += [text[: place.start() + 1] + text[right + 1 :], text[:left] + text[place.end() - 1 :]]
    return sorted(set(found))


def _partner(text: str, place: int, step: int) -> int:
    """Where the parenthesis at this place is closed, or opened."""
    depth = 0
    while True:
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if not depth:
            return place
        place += step


def _policies(session: Session) -> Iterator[Mutant]:
    for alter, using, check, about in catalog(session, POLICIES):
        for clause, condition in (("USING", using), ("WITH CHECK", check)):
            if condition not in {None, "true"}:
                for weaker in ("true", *_without(condition, "AND")):
                    yield Mutant(f"{alter} {clause} ({weaker})", frozenset(about))


def _checks(session: Session) -> Iterator[Mutant]:
    for alter, condition, about in catalog(session, CONSTRAINTS):
        for weaker in _without(condition, "AND"):
            yield Mutant(f"{alter} CHECK ({weaker})", frozenset(about))


# What a foreign key does when the other row changes, and what it does instead.
ACTIONS = (
    (r" ON DELETE (CASCADE|SET NULL)", "", "DELETE"),
    (r" ON DELETE RESTRICT", " ON DELETE CASCADE", "DELETE"),
    (r" ON UPDATE CASCADE", "", "UPDATE"),
)


def _cascades(session: Session) -> Iterator[Mutant]:
    for alter, definition, about in catalog(session, CONSTRAINTS):
        for pattern, instead, verb in ACTIONS:
            other = re.sub(pattern, instead, definition)
            if other != definition:
                yield Mutant(f"{alter} {other}", frozenset({*about, verb}))


def _guards(session: Session) -> Iterator[Mutant]:
    """Triggers that watch one column less, or one event less."""
    for drop, definition, about in catalog(session, GUARDS):
        found = re.search(r"(BEFORE|AFTER) (.+?) ON ", definition)
        assert found, definition
        events = re.split(r" OR (?=INSERT|UPDATE|DELETE)", found[2])
        weaker = _one_less(events, " OR ")
        for event in events:
            for left in _one_less(event.removeprefix("UPDATE OF ").split(", "), ", "):
                weaker.append(found[2].replace(event, f"UPDATE OF {left}"))
        for moment in weaker:
            made = definition.replace(found[0], f"{found[1]} {moment} ON ", 1)
            yield Mutant(f"{drop}; {made}", frozenset(about))


def _conditions(session: Session) -> Iterator[Mutant]:
    """Triggers that act in one case less."""
    for drop, definition, about in catalog(session, GUARDS):
        for weaker in _without(definition, "OR"):
            yield Mutant(f"{drop}; {weaker}", frozenset(about))


def _clauses(session: Session) -> Iterator[Mutant]:
    for name, kind, text, before, about in catalog(session, BODIES):
        for damage, damaged in damages(Source(text, kind, before=before)):
            label = f"{name}: {damage}"
            if not is_equivalent(label):
                yield Mutant(damaged, frozenset(about), label, tentative=True)


def _part(session: Session, *, part: int) -> Iterator[Mutant]:
    return islice(_clauses(session), part, None, _PARTS)


# Most mutants are of this kind: in parts, for several workers.
_PARTS = 8
CLAUSES: dict[str, Callable[[Session], Iterator[Mutant]]] = {
    f"clause of a function or trigger, part {part + 1} of {_PARTS}": partial(_part, part=part)
    for part in range(_PARTS)
}
WEAKENED: dict[str, Callable[[Session], Iterator[Mutant]]] = {
    "weaker policy": _policies,
    "part of a CHECK": _checks,
    "ON DELETE or ON UPDATE": _cascades,
    "column or event of a trigger": _guards,
    "condition of a trigger": _conditions,
    **CLAUSES,
}
