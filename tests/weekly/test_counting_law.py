"""The law of the counters under any sequence of operations: column + pending = rows, at every step."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.support import reports
from tests.support.databases import Shape

MOMENTS = st.datetimes(
    min_value=datetime(2000, 1, 1),  # noqa: DTZ001 - the strategy adds the zone
    max_value=datetime(2099, 12, 31),  # noqa: DTZ001 - the strategy adds the zone
    timezones=st.just(UTC),
)
YEAR_2031 = datetime(2031, 5, 1, tzinfo=UTC)
MODES = st.sampled_from(["immediate", "deferred"])


@pytest.fixture(scope="module")
def connection(plain_shape: Shape, plain_template: str) -> Iterator[psycopg.Connection]:
    with plain_shape.clone(plain_template) as database, database.connect() as opened:
        yield opened


def test_the_law_holds_after_every_operation(connection: psycopg.Connection) -> None:
    class Counting(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            connection.rollback()
            self.tokens = reports.make(connection, 4)

        def as_role(self, role: str, mode: str) -> None:
            connection.execute(
                "SELECT set_config('role', %s, true), set_config('carnivore.access_counting', %s, true)",
                [role, mode],
            )

        def pick(self, place: int) -> int:
            return sorted(self.tokens)[place % len(self.tokens)]

        @rule(place=st.integers(0, 3), mode=MODES)
        def open(self, place: int, mode: str) -> None:
            if self.tokens:
                self.as_role("anon", mode)
                connection.execute("SELECT public.open_report(%s)", [self.tokens[self.pick(place)]])

        @rule(places=st.lists(st.integers(0, 3), max_size=20), at=st.none() | MOMENTS, mode=MODES)
        def insert_batch(self, places: list[int], at: datetime | None, mode: str) -> None:
            """Late rows, early rows, rows of months without a partition, and none at all."""
            if self.tokens:
                self.as_role("service_role", mode)
                connection.execute(
                    "INSERT INTO public.report_access_log (report_id, accessed_at)"
                    " SELECT unnest(%s::bigint[]), coalesce(%s::timestamptz, now())",
                    [[self.pick(place) for place in places], at],
                )

        @rule(place=st.integers(0, 3), mode=MODES, number=st.integers(1, 10**6))
        def insert_into_the_default_partition(self, place: int, mode: str, number: int) -> None:
            if self.tokens:
                self.as_role("none", mode)
                connection.execute(
                    "INSERT INTO public.report_access_log_default (id, report_id, accessed_at)"
                    " VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                    [
                        -number,
                        self.pick(place),
                        datetime(2031, 5, 1, tzinfo=UTC) + timedelta(hours=number % 9),
                    ],
                )

        @rule(batch=st.integers(1, 4))
        def fold(self, batch: int) -> None:
            self.as_role("service_role", "immediate")
            connection.execute("SELECT public.fold_report_access(%s)", [batch])

        @rule(place=st.integers(0, 3))
        def delete(self, place: int) -> None:
            if len(self.tokens) > 1:
                gone = self.pick(place)
                self.as_role("service_role", "immediate")
                connection.execute("DELETE FROM public.generated_reports WHERE id = %s", [gone])
                del self.tokens[gone]

        @invariant()
        def the_law(self) -> None:
            self.as_role("none", "immediate")
            assert connection.execute(reports.BROKEN).fetchall() == []

        def teardown(self) -> None:
            connection.rollback()

    run_state_machine_as_test(
        Counting, settings=settings(max_examples=40, stateful_step_count=25, deadline=None)
    )


def test_in_immediate_mode_the_column_is_right_after_any_insert(connection: psycopg.Connection) -> None:
    connection.rollback()
    first, second = reports.make(connection, 2)
    late = datetime(2026, 3, 1, tzinfo=UTC)
    connection.execute("SET LOCAL ROLE service_role")
    connection.execute(
        "INSERT INTO public.report_access_log (report_id, accessed_at)"
        " VALUES (%s, now()), (%s, %s), (%s, now() + interval '1 hour'), (%s, now())",
        [first, second, late, first, first],
    )
    found = connection.execute(
        "SELECT id, access_count, last_accessed_at - now(), last_accessed_at = created_at"
        " FROM public.generated_reports ORDER BY id"
    ).fetchall()
    # The late row belongs to a report younger than it: counted, and its creation is the latest access.
    assert found == [(first, 3, timedelta(hours=1), False), (second, 1, timedelta(0), True)]
    assert connection.execute("SELECT count(*) FROM public.report_access_pending").fetchone() == (0,)
    connection.rollback()
