"""Does what the plan says, a month a transaction, and makes no writer wait longer than it is allowed to.

Safe at any time: one run at a time works, a killed one leaves whole months, and the next run does the rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import psycopg
from sqlalchemy import Engine, text

from carnivore_db.errors import Busy, CarnivoreError, InvalidInput, SchemaMismatch
from carnivore_db.operations.locks import MONTHS, patiently, turn
from carnivore_db.operations.partitions.plan import Action, Policy, plan
from carnivore_db.schema.areas import AREAS, schemas
from carnivore_db.schema.diff import compare
from carnivore_db.schema.files import expected
from carnivore_db.schema.snapshot import INSTANCES, PARTITIONS, take

# Called before each month that is made: with it, how many are through, and how many there are.
OnStep = Callable[[Action, int, int], None]

# Seconds. Between two attempts writers have the tables to themselves.
_LONGEST_PAUSE = 5.0
# A wait of half the time leaves the other half for what is done with the locks.
_LIMITS = text("""
    SELECT set_config('lock_timeout', CAST(greatest(CAST(:limit AS integer) / 2, 1) AS text), true),
        set_config('carnivore.parent_first', :parent_first, true)
""")
_ALL_TOLD = text("SELECT set_config('statement_timeout', :limit, true)")
_PREPARE = text("SELECT carnivore.prepare_partition(CAST(CAST(:table AS text) AS regclass), :month)")
_ATTACH = text("SELECT carnivore.attach_partition(CAST(CAST(:table AS text) AS regclass), :month)")
_QUERY_CANCELED = "57014"


@dataclass(slots=True)
class Outcome:
    """What a run did: `done` with the rows that were moved; `failed` by partition, with the reason; `left`,
    rows that stay in a DEFAULT partition. `busy`: another run is at work, and this one did nothing."""

    done: list[Action] = field(default_factory=list)
    failed: dict[str, CarnivoreError] = field(default_factory=dict)
    left: list[Action] = field(default_factory=list)
    busy: bool = False


def apply(
    engine: Engine,
    *,
    policy: Policy,
    lock_timeout_ms: int,
    patience: float = 60,
    at: datetime | None = None,
    on_step: OnStep | None = None,
) -> Outcome:
    """Make the months that are missing, this month and those ahead among them, and move the DEFAULT
    partitions' rows into theirs.

    `engine` is a Database's, as the migrating role, on a direct connection: a session's lock keeps a second
    run out, and a pooling proxy would lose it. `at` has a time zone, and is now when not given. No writer
    waits longer than `lock_timeout_ms` for one attempt; a month that cannot be had is tried again for
    `patience` seconds, with growing pauses, then it is in `failed`: Busy (a lock, or its rows did not move in
    that time), InvalidInput (a table or partition of a person's stands in the way), SchemaMismatch (it was
    made and is not as the package makes it). The other months are made all the same.

    Raises ValueError for an `at` without time zone.
    """
    outcome = Outcome()
    with turn(engine, MONTHS) as mine:
        if mine is None:
            outcome.busy = True
            return outcome
        with engine.begin() as connection:
            actions = plan(connection, policy, at)
        outcome.left = [action for action in actions if action.kind == "left"]
        for action in actions:
            if action.kind == "conflict":
                outcome.failed[action.partition] = InvalidInput("month", "overlaps", action.reason)
        wanted = [action for action in actions if action.doable]
        for number, action in enumerate(wanted):
            if on_step:
                on_step(action, number, len(wanted))
            try:
                moved = _made(engine, action, lock_timeout_ms, patience)
            except CarnivoreError as error:
                outcome.failed[action.partition] = error  # the other months must not wait for this one
                continue
            if moved is not None:  # else somebody has made it since
                outcome.done.append(replace(action, rows=moved))
        _verify(engine, outcome)
    return outcome


def statements(action: Action, lock_timeout_ms: int) -> str:
    """The SQL that makes one month, for a person to run: one attempt, and no other month depends on it."""
    call = f"('{action.table}', '{action.month}')"
    return "\n".join(
        (
            f"-- {action.partition}: {action.reason}",
            "BEGIN;",
            f"SET LOCAL lock_timeout = {max(lock_timeout_ms // 2, 1)};",
            f"SELECT carnivore.prepare_partition{call};",
            f"SET LOCAL statement_timeout = {lock_timeout_ms};",
            f"SELECT carnivore.attach_partition{call};",
            "COMMIT;",
        )
    )


def _made(engine: Engine, action: Action, limit: int, patience: float) -> int | None:
    """Make a month, trying again while it is refused; how many rows it got, None when it was there."""
    return patiently(
        lambda parent_first: _attempt(engine, action, limit, parent_first), patience, _LONGEST_PAUSE
    )


def _attempt(engine: Engine, action: Action, limit: int, parent_first: bool) -> int | None:
    month = {"table": action.table, "month": action.month}
    with engine.begin() as connection:
        connection.execute(_LIMITS, {"limit": limit, "parent_first": "on" if parent_first else "off"})
        if connection.execute(_PREPARE, month).scalar_one() is None:
            return None
        connection.execute(_ALL_TOLD, {"limit": str(limit)})
        try:
            moved: int = connection.execute(_ATTACH, month).scalar_one()
        except Busy as error:
            cause = error.__cause__
            if isinstance(cause, psycopg.Error) and cause.sqlstate == _QUERY_CANCELED:
                raise Busy(f"its rows did not move within {limit} ms, and writers wait no longer") from cause
            raise
        return moved


def _verify(engine: Engine, outcome: Outcome) -> None:
    """Hold each month that was made against the package's own; one that differs has failed."""
    made = {action.partition: action for action in outcome.done}
    if not made:
        return
    patterns = {PARTITIONS: expected(*AREAS)[PARTITIONS]}
    with engine.connect() as connection:
        live = take(connection, schemas(connection))[INSTANCES]
    found: dict[str, list[str]] = {}
    for difference in compare(
        patterns, {**patterns, INSTANCES: {name: live[name] for name in made if name in live}}
    ):
        found.setdefault(difference.identity, []).append(difference.describe())
    for name in made.keys() - live.keys():
        found[name] = ["it is gone again"]
    for name, differences in found.items():
        outcome.failed[name] = SchemaMismatch("; ".join(differences))
    outcome.done = _without(outcome.done, found)


def _without(actions: Sequence[Action], names: dict[str, list[str]]) -> list[Action]:
    return [action for action in actions if action.partition not in names]
