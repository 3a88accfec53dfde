"""The law of the counts: at every commit they equal the person's completed sessions, all and the week's."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import psycopg
import pytest

from tests.conversation.completion_law import INSTANT, WEEK, broken, monday_of
from tests.conversation.playing import OPERATIONS, Playing
from tests.support import laws
from tests.support.changing import ZONES, add_people
from tests.support.databases import Shape, TestDatabase

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


def with_two(playing: Playing) -> Playing:
    for _ in range(2):
        add_people(playing, random.Random(1))  # noqa: S311 - the same each time
    return playing


@pytest.mark.document(9, 10)
def test_the_law_holds_after_every_operation(connection: psycopg.Connection) -> None:
    def check() -> None:
        assert broken(connection) == []

    laws.holds_after_every_change(
        connection,
        lambda: with_two(Playing(connection)),
        OPERATIONS,
        check,
        see=lambda: connection.execute(SEEN).fetchall(),
    )


@pytest.mark.slow
@pytest.mark.document(9, 10)
def test_the_law_holds_after_ten_thousand_operations(
    plain_database: TestDatabase, record_property: Callable[[str, object], None]
) -> None:
    with plain_database.connect() as connection:
        made = with_two(Playing(connection))

        def check() -> None:
            assert broken(connection) == []

        done = laws.holds_after_ten_thousand_changes(
            connection,
            made,
            OPERATIONS,
            check,
            counted="SELECT FROM conversation.sessions WHERE is_completed",
            seed=20251110,
            refused=lambda: made.refused,
        )
    record_property("operations", done)


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
