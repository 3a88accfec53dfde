"""A law about rows that must hold after every change, tried with changes in any order."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

Change = Callable[[Any, random.Random], None]


def holds_after_every_change(
    connection: psycopg.Connection,
    begin: Callable[[], Any],
    changes: Sequence[Change],
    check: Callable[[], None],
    *,
    see: Callable[[], object] = lambda: None,
    examples: int = 25,
) -> None:
    """`check` raises AssertionError where the law is broken, and is called after every change.

    `begin` gives what the changes are called with; everything is rolled back at the end of an example. `see`
    gives what must be as before when changes were rolled back.
    """
    some = st.sampled_from(changes)

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            connection.rollback()
            self.place = begin()

        @rule(change=some, choose=st.randoms())
        def change(self, change: Change, choose: random.Random) -> None:
            change(self.place, choose)

        @rule(chosen=st.lists(some, min_size=1, max_size=3), choose=st.randoms())
        def change_and_take_back(self, chosen: list[Change], choose: random.Random) -> None:
            before = see()
            with connection.transaction(force_rollback=True):
                for change in chosen:
                    change(self.place, choose)
            assert see() == before

        @invariant()
        def the_law(self) -> None:
            check()

        def teardown(self) -> None:
            connection.rollback()

    run_state_machine_as_test(
        Machine, settings=settings(max_examples=examples, stateful_step_count=25, deadline=None)
    )


def holds_after_ten_thousand_changes(
    connection: psycopg.Connection,
    place: Any,
    changes: Sequence[Change],
    check: Callable[[], None],
    *,
    counted: str,
    seed: int,
    refused: Callable[[], int] = lambda: 0,
) -> dict[str, int]:
    """Each change in a transaction of its own, one in ten rolled back; checked after every fifth.

    `counted`: the query of the rows that the law is about. `refused`: how many changes were refused so far.
    Returns how often each change was made.
    """
    choose = random.Random(seed)  # noqa: S311 - a test's choice, repeatable
    done: Counter[str] = Counter()
    seen = 0
    while done.total() - refused() < 10_000:
        change = choose.choice(changes)
        with connection.transaction(force_rollback=choose.random() < 0.1):
            change(place, choose)
        done[change.__name__] += 1
        connection.commit()
        if done.total() % 5 == 0:
            check()
            seen += len(connection.execute(counted).fetchall())  # type: ignore[call-overload]
    check()
    assert set(done) == {change.__name__ for change in changes}
    assert refused() < done.total() / 5
    assert seen > 10_000  # at each look there were some rows to count, five or more on average
    return dict(done)
