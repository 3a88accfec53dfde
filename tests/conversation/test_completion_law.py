"""The law of the counts: at every commit they equal the person's completed sessions, all and the week's."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.conversation import playing
from tests.conversation.completion_law import INSTANT, WEEK, ZONES, broken, monday_of
from tests.conversation.playing import OPERATIONS, Operation, Playing
from tests.support.databases import Shape, TestDatabase

CHANGES = st.sampled_from(OPERATIONS)
SEEN = "SELECT id, completed_scenario_count, current_week_completion_count, week_reset_date"
SEEN += " FROM conversation.profiles ORDER BY id"


@pytest.fixture(scope="module")
def connection(plain_shape: Shape, plain_template: str) -> Iterator[psycopg.Connection]:
    with plain_shape.clone(plain_template) as database, database.connect() as opened:
        opened.prepare_threshold = None  # some tests change the schema under their statements
        yield opened


@pytest.fixture
def tx(connection: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A transaction in which one person has signed up, taken back at the end."""
    connection.rollback()
    connection.execute("INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), 'ada@example.com')")
    yield connection
    connection.rollback()


def play(tx: psycopg.Connection, ago: str, number: int = 1) -> None:
    """Sessions of everybody that were completed so long before this week's Monday."""
    tx.execute(
        "INSERT INTO conversation.sessions (user_id, scenario_id, is_completed, started_at, completed_at)"
        " SELECT id, 1, true, moment - interval '1 hour', moment FROM conversation.profiles,"
        " LATERAL (SELECT week_reset_date - interval '168 hours' - %s::interval AS moment) AS chosen,"
        " generate_series(1, %s)",
        [ago, number],
    )


def counts(tx: psycopg.Connection) -> tuple[int, int]:
    ((total, week),) = tx.execute(
        "SELECT completed_scenario_count, current_week_completion_count FROM conversation.profiles"
    ).fetchall()
    return total, week


@pytest.mark.document(9, 10)
def test_the_law_holds_after_every_operation(connection: psycopg.Connection) -> None:
    class Counting(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            connection.rollback()
            self.playing = Playing(connection)
            for _ in range(2):
                playing.sign_up(self.playing, random.Random(1))  # noqa: S311 - the same each time

        @rule(change=CHANGES, choose=st.randoms())
        def change(self, change: Operation, choose: random.Random) -> None:
            self.playing.attempt(change, choose)

        @rule(changes=st.lists(CHANGES, min_size=1, max_size=3), choose=st.randoms())
        def change_and_take_back(self, changes: list[Operation], choose: random.Random) -> None:
            before = connection.execute(SEEN).fetchall()
            with connection.transaction(force_rollback=True):
                for change in changes:
                    self.playing.attempt(change, choose)
            assert connection.execute(SEEN).fetchall() == before

        @invariant()
        def the_law(self) -> None:
            assert broken(connection) == []

        def teardown(self) -> None:
            connection.rollback()

    run_state_machine_as_test(
        Counting, settings=settings(max_examples=25, stateful_step_count=25, deadline=None)
    )


@pytest.mark.slow
@pytest.mark.document(9, 10)
def test_the_law_holds_after_ten_thousand_operations(
    plain_database: TestDatabase, record_property: Callable[[str, object], None]
) -> None:
    choose = random.Random(20251110)  # noqa: S311 - a test's choice, repeatable
    done: Counter[str] = Counter()
    counted = 0
    with plain_database.connect() as connection:
        made = Playing(connection)
        for _ in range(2):
            playing.sign_up(made, choose)
        while done.total() - made.refused < 10_000:
            change = choose.choice(OPERATIONS)
            with connection.transaction(force_rollback=choose.random() < 0.1):
                made.attempt(change, choose)
            done[change.__name__] += 1
            connection.commit()
            if done.total() % 5 == 0:
                assert broken(connection) == []
                (row,) = connection.execute(
                    "SELECT count(*) FROM conversation.sessions WHERE is_completed"
                ).fetchall()
                counted += row[0]
        assert broken(connection) == []
    assert set(done) == {operation.__name__ for operation in OPERATIONS}
    assert made.refused < done.total() / 5
    assert counted > 10_000  # at each look there were some sessions to count, five or more on average
    record_property("operations", dict(done))


OPEN = "INSERT INTO conversation.sessions (user_id, scenario_id) SELECT id, 1 FROM conversation.profiles"
CHANGED = {
    "a completed session comes": (
        "INSERT INTO conversation.sessions (user_id, scenario_id, is_completed)"
        " SELECT id, 2, true FROM conversation.profiles"
    ),
    "one is completed": "UPDATE conversation.sessions SET is_completed = true WHERE NOT is_completed",
    "one is reopened": (
        "DELETE FROM conversation.sessions WHERE NOT is_completed;"
        " UPDATE conversation.sessions SET is_completed = false"
    ),
    "one moves to another week": (
        "UPDATE conversation.sessions SET started_at = started_at - interval '9 days',"
        " completed_at = completed_at - interval '9 days' WHERE is_completed"
    ),
    "one is deleted": "DELETE FROM conversation.sessions",
}


@pytest.mark.document(9, 10)
@pytest.mark.parametrize("change", CHANGED)
@pytest.mark.parametrize("missing", [False, True], ids=["there", "missing"])
def test_the_check_notices_a_missing_trigger(tx: psycopg.Connection, change: str, *, missing: bool) -> None:
    play(tx, "0")
    tx.execute(OPEN)
    if missing:
        tx.execute("DROP TRIGGER maintain_profile_counts ON conversation.sessions")
    assert broken(tx) == []
    tx.execute(CHANGED[change])
    assert bool(broken(tx)) == missing


@pytest.mark.document(10)
def test_the_week_begins_with_its_first_microsecond(tx: psycopg.Connection) -> None:
    for zone in ZONES:
        tx.execute("SELECT set_config('TimeZone', %s, true)", [zone])
        tx.execute("DELETE FROM conversation.sessions")
        play(tx, "1 microsecond", 2)
        play(tx, "0")
        assert counts(tx) == (3, 1)
        assert broken(tx) == []


def odd_weeks(zone: str) -> list[datetime]:
    """The Mondays of the coming year at the end of a week in which the zone changes its clocks."""
    place = ZoneInfo(zone)
    mondays = [monday_of(datetime.now(UTC)) + WEEK * number for number in range(2, 56)]
    return [
        end for end in mondays if len({day.astimezone(place).utcoffset() for day in (end, end - WEEK)}) > 1
    ]


@pytest.mark.document(2, 10)
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"])
def test_a_week_in_which_clocks_change_is_as_long_as_any(tx: psycopg.Connection, zone: str) -> None:
    weeks = odd_weeks(zone)
    assert len(weeks) >= 2
    tx.execute("SELECT set_config('TimeZone', %s, true)", [zone])
    tx.execute("UPDATE conversation.rate_limits SET enforced = false")
    for monday in weeks:
        tx.execute("DELETE FROM conversation.sessions")
        tx.execute("UPDATE conversation.profiles SET week_reset_date = %s", [monday])
        for ago in ("1 microsecond", "29 minutes", "-29 minutes", "0"):
            play(tx, ago)
        assert counts(tx) == (4, 2)
        assert broken(tx) == []


@pytest.mark.document(9)
def test_many_rows_of_one_statement_are_each_counted_once(tx: psycopg.Connection) -> None:
    play(tx, "8 days", 30)
    assert counts(tx) == (30, 0)
    tx.execute("UPDATE conversation.sessions SET completed_at = completed_at")
    tx.execute("UPDATE conversation.sessions SET is_completed = true")
    assert counts(tx) == (30, 0)
    tx.execute("UPDATE conversation.rate_limits SET enforced = false")
    tx.execute("UPDATE conversation.sessions SET completed_at = now()")
    assert counts(tx) == (30, 30)
    tx.execute("DELETE FROM conversation.sessions")
    assert counts(tx) == (0, 0)


@pytest.mark.document(9)
def test_a_count_that_was_wrong_is_right_after_the_next_completion(tx: psycopg.Connection) -> None:
    play(tx, "8 days", 2)
    tx.execute("UPDATE conversation.profiles SET completed_scenario_count = 40")
    assert broken(tx) != []
    play(tx, "9 days")
    assert counts(tx) == (3, 0)
    assert broken(tx) == []


@pytest.mark.document(9)
def test_nobody_empties_the_table_behind_the_counts(tx: psycopg.Connection) -> None:
    play(tx, "0")
    for table in ("sessions", "profiles"):
        with pytest.raises(psycopg.errors.IntegrityError) as caught, tx.transaction():
            tx.execute(f"TRUNCATE conversation.{table} CASCADE")
        assert caught.value.diag.constraint_name == "append_only"
    assert broken(tx) == []


def test_who_signs_up_with_a_completed_session_in_one_statement_is_counted(tx: psycopg.Connection) -> None:
    tx.execute(
        "WITH me AS (INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), 'm@x.org') RETURNING id)"
        " INSERT INTO conversation.sessions (user_id, scenario_id, is_completed) SELECT id, 1, true FROM me"
    )
    assert broken(tx) == []
    found = tx.execute("SELECT completed_scenario_count FROM conversation.profiles WHERE email = 'm@x.org'")
    assert found.fetchone() == (1,)


def test_another_persons_sessions_leave_everybody_elses_row_alone(tx: psycopg.Connection) -> None:
    play(tx, "0")
    seen = "SELECT p.*, p.xmin, p.ctid FROM conversation.profiles AS p WHERE email = 'ada@example.com'"
    before = tx.execute(seen).fetchall()
    tx.execute("INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), 'eve@example.com')")
    tx.execute(
        "INSERT INTO conversation.sessions (user_id, scenario_id, is_completed)"
        " SELECT id, 1, true FROM conversation.profiles WHERE email = 'eve@example.com'"
    )
    tx.execute("DELETE FROM auth.users WHERE email = 'eve@example.com'")
    assert tx.execute(seen).fetchall() == before


def test_the_monday_of_a_moment_can_be_told_by_heart() -> None:
    monday = monday_of(datetime(2026, 11, 27, 5, tzinfo=UTC))
    assert monday.isoformat() == "2026-11-23T00:00:00+00:00"
    assert monday_of(monday) == monday_of(monday + WEEK - INSTANT) == monday
