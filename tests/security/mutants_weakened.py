"""What can be weakened: one part of a condition, one column or event of a guard, one clause of a function."""

import re
from collections.abc import Callable, Iterator

from tests.security.mutants import OURS, TABLES, TRIGGERS, Mutant, catalog
from tests.security.personas import Session

POLICIES = f"""
SELECT format('ALTER POLICY %I ON %s', polname, polrelid::regclass), pg_get_expr(polqual, polrelid),
    ARRAY[relname, polname, 'policy']
FROM pg_policy JOIN {TABLES} AS t ON t.oid = polrelid"""
CONSTRAINTS = f"""
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %2$I', conrelid::regclass, conname),
    coalesce(pg_get_expr(conbin, conrelid), pg_get_constraintdef(pg_constraint.oid)), ARRAY[relname, conname]
FROM pg_constraint JOIN {TABLES} AS t ON t.oid = conrelid
WHERE contype IN ('c', 'f') AND coninhcount = 0"""
GUARDS = f"""
SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass), pg_get_triggerdef(pg_trigger.oid),
    ARRAY[relname, tgname, proname]
FROM {TRIGGERS}"""
BODIES = f"""
SELECT pg_get_functiondef(oid), '', ARRAY[proname] FROM pg_proc WHERE pronamespace IN {OURS}
UNION ALL
SELECT format('CREATE OR REPLACE VIEW %s WITH (security_invoker = true) AS %s', oid::regclass,
    pg_get_viewdef(oid)), '', ARRAY[relname, 'view']
FROM pg_class WHERE relnamespace IN {OURS} AND relkind = 'v'"""

# A clause of a function or view, and what it is replaced by; each place in turn.
CLAUSES = (
    # The token and the expiry, in every function that takes a token.
    (r"\w+\.(access|session)_token = (token|\$1)", "true"),
    (r"\w+\.(access|session)_token = (token|\$1)", r"lower(\g<0>::text) <> 'x'"),
    (r"\w+\.expires_at > statement_timestamp\(\)", "true"),
    (r"IF NOT FOUND THEN", "IF false THEN"),
    (r"IF expired_at IS NULL THEN", "IF true THEN"),
    (r"IF headers IS NOT NULL THEN", "IF false THEN"),
    (r"current_setting\('carnivore\.\w+_token', true\)", "''"),
    (r"'x-\w+-token'", "'x-nothing'"),
    # Counting.
    (r"(?i)greatest\(report\.last_accessed_at, ", "greatest("),
    (r", (delta|pending)\.latest, ", ", "),
    (r"(?i)(greatest\([^()]+), report\.created_at\)", r"\1)"),
    (r"report\.access_count \+ delta\.accesses", "delta.accesses"),
    (r" \+ COALESCE\(pending\.accesses, \(0\)::bigint\)", ""),
    (r"= 'deferred' THEN(?=\s+INSERT)", "= 'never' THEN"),
    (r"RETURN NULL;\n    END IF;", "END IF;"),
    # Guards and what fills in.
    (r"\('\w+', '\w+'\),", ""),
    (r"NEW\.payment_status = OLD\.payment_status\s+OR", ""),
    (r"lower\(", "("),
    (r"coalesce\(nullif\(current_setting\('role'\), 'none'\), session_user\)", "current_user"),
    (r"nullif\(current_setting\('carnivore\.expiry_reason', true\), ''\)", "NULL"),
    (r"IF TG_OP = 'DELETE' THEN", "IF false THEN"),
    (r"AND NEW\.completed_at IS NULL", ""),
    (r":= now\(\)", ":= clock_timestamp() - interval '1 year'"),
    # What a browser saves.
    (r"coalesce\(session\.form_state, '{}'\) \|\| ", ""),
    (r"coalesce\(\$3, session\.pricing_tier\)", "$3"),
    # Partitions to come.
    (r"EXECUTE format\('(ALTER TABLE|REVOKE|CREATE TRIGGER)[^;]+;", ""),
    (r"00:00:00\+00", "00:00:00"),
)


def _one_less(parts: list[str], joint: str) -> list[str]:
    """The parts without one of them, each in turn; nothing when there is one alone."""
    less = [joint.join(parts[:place] + parts[place + 1 :]) for place in range(len(parts))]
    return [one for one in less if one]


def _weaker(condition: str) -> list[str]:
    """A condition "((a) AND (b) ...)" with one of its parts left out."""
    return _one_less([f"({part})" for part in condition[2:-2].split(") AND (")], " AND ")


def _policies(session: Session) -> Iterator[Mutant]:
    for alter, condition, about in catalog(session, POLICIES):
        for weaker in ("true", *_weaker(condition)):
            if weaker != condition:
                yield Mutant(f"{alter} USING ({weaker})", frozenset(about))


def _checks(session: Session) -> Iterator[Mutant]:
    for alter, condition, about in catalog(session, CONSTRAINTS):
        for weaker in _weaker(condition):
            yield Mutant(f"{alter} CHECK ({weaker})", frozenset(about))


def _cascades(session: Session) -> Iterator[Mutant]:
    for alter, definition, about in catalog(session, CONSTRAINTS):
        without = re.sub(r" ON DELETE (CASCADE|SET NULL)", "", definition)
        if without != definition:
            yield Mutant(f"{alter} {without}", frozenset({*about, "DELETE"}))


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


def _clauses(session: Session) -> Iterator[Mutant]:
    bodies = catalog(session, BODIES)
    for pattern, weaker in CLAUSES:
        assert any(re.search(pattern, body) for body, _, _ in bodies), f"no function says {pattern}"
        for body, _, about in bodies:
            for place in re.finditer(pattern, body):
                yield Mutant(
                    body[: place.start()] + place.expand(weaker) + body[place.end() :], frozenset(about)
                )


WEAKENED: dict[str, Callable[[Session], Iterator[Mutant]]] = {
    "weaker policy": _policies,
    "part of a CHECK": _checks,
    "ON DELETE": _cascades,
    "column or event of a trigger": _guards,
    "clause of a function": _clauses,
}
