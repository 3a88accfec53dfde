"""Partitions of the logs: months in UTC, closed to everybody, dropped whole when they are old."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import text

from carnivore_db import Database, errors
from carnivore_db.conversation import logs
from tests.conversation.samples import SERVICE, VISITOR, sign_up
from tests.support.callers import Caller
from tests.support.databases import TestDatabase, one
from tests.support.factories import put

pytestmark = pytest.mark.document(30)

CREATE = "SELECT carnivore.create_partition('conversation.logs', %s)"
HOLDER = "SELECT tableoid::regclass::text FROM conversation.logs"
PARTITIONS = """
    SELECT c.relname AS name, c.relrowsecurity AS secure,
        pg_get_expr(c.relpartbound, c.oid) AS bounds,
        ARRAY(SELECT g.grantee::regrole::text FROM aclexplode(c.relacl) AS g
            WHERE g.grantee <> c.relowner AND g.grantee <> 0
            UNION SELECT 'PUBLIC' FROM aclexplode(c.relacl) AS g WHERE g.grantee = 0) AS grantees,
        ARRAY(SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attacl IS NOT NULL) AS columns
    FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid
    WHERE inhparent = 'conversation.logs'::regclass ORDER BY c.relname
"""


def month_of(moment: datetime, ahead: int = 0) -> date:
    """The first of a month (UTC), so many after that of a moment."""
    number = moment.astimezone(UTC).year * 12 + moment.astimezone(UTC).month - 1 + ahead
    return date(number // 12, number % 12 + 1, 1)


def begins(month: date) -> datetime:
    return datetime(month.year, month.month, month.day, tzinfo=UTC)


def write(owner: psycopg.Connection, *moments: datetime) -> None:
    for moment in moments:
        put(owner, "conversation.logs", level="info", event_type="user_logout", created_at=moment)


def names(owner: psycopg.Connection) -> list[str]:
    return [row["name"] for row in owner.execute(PARTITIONS).fetchall()]


@pytest.fixture
def own(plain_database: TestDatabase) -> Iterator[psycopg.Connection]:
    """The owner in a database of the test's own, whose partitions may come and go."""
    with plain_database.connect(autocommit=True) as connection:
        connection.row_factory = dict_row
        yield connection


def test_there_is_a_month_for_now_and_for_three_months_to_come(own: psycopg.Connection) -> None:
    now = one(own, "SELECT now()")
    expected = [f"logs_{month_of(now, ahead):%Y_%m}" for ahead in range(4)]
    assert names(own) == sorted([*expected, "logs_default"])


@pytest.mark.parametrize(
    ("ahead", "offset"),
    [(0, timedelta(0)), (1, timedelta(microseconds=-1)), (1, timedelta(0)), (4, timedelta(microseconds=-1))],
    ids=["first of this month", "last of this month", "first of the next one", "last of the last one"],
)
def test_an_event_lies_in_its_month(
    caller_in: Callable[[str], Caller], owner: psycopg.Connection, ahead: int, offset: timedelta
) -> None:
    """Which is UTC's, whatever the time zone of whoever logs it."""
    moment = begins(month_of(one(owner, "SELECT now()"), ahead)) + offset
    caller_in("Pacific/Auckland").call(SERVICE, logs.write, "info", "user_logout", created_at=moment)
    assert one(owner, HOLDER) == f"conversation.logs_{moment:%Y_%m}"


@pytest.mark.parametrize("year", [2000, 2001, 2099])
def test_no_event_is_lost_for_want_of_a_month(caller: Caller, owner: psycopg.Connection, year: int) -> None:
    moment = datetime(year, 5, 17, tzinfo=UTC)
    made = caller.call(SERVICE, logs.write, "info", "user_logout", created_at=moment)
    assert one(owner, HOLDER) == "conversation.logs_default"
    (found,) = caller.call(SERVICE, logs.search).rows
    assert (found.id, found.created_at) == (made, moment)


def test_partitions_are_closed(database: TestDatabase) -> None:
    """Row security and grants are not inherited: each has its own, the new ones too."""
    with database.connect(autocommit=True) as owner:
        owner.row_factory = dict_row
        person = sign_up(owner)
        with database.connect(database.shape.migrator, autocommit=True) as migrator:
            # As Supabase has it in its own schema: whoever makes a table gives it away.
            migrator.execute(
                "ALTER DEFAULT PRIVILEGES IN SCHEMA conversation"
                " GRANT ALL ON TABLES TO anon, authenticated, service_role"
            )
            migrator.execute(CREATE, [date(2031, 5, 1)])
        write(owner, datetime(2031, 5, 2, tzinfo=UTC))
        found = owner.execute(PARTITIONS).fetchall()
        assert len(found) == 6
        for partition in found:
            assert partition["secure"], partition
            assert (partition["grantees"], partition["columns"]) == ([], []), partition
    db = Database(database.app_url)
    for partition in found:
        for who in (person.identity, VISITOR, SERVICE):
            with pytest.raises(errors.PermissionRefused), db.transaction(who) as tx:
                tx.execute(text(f"SELECT FROM conversation.{partition['name']}"))
    db.close()


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles", "Asia/Kolkata"])
def test_a_month_is_utcs_and_is_made_once(own: psycopg.Connection, zone: str) -> None:
    own.execute("SELECT set_config('TimeZone', %s, false)", [zone])
    # Whichever of its days is given.
    for day, made in ((date(2031, 5, 31), True), (date(2031, 5, 1), False), (date(2031, 6, 1), True)):
        assert one(own, CREATE, day) is made
    own.execute("SET TimeZone = 'UTC'")
    bounds = {row["name"]: row["bounds"] for row in own.execute(PARTITIONS).fetchall()}
    assert bounds["logs_2031_05"] == (
        "FOR VALUES FROM ('2031-05-01 00:00:00+00') TO ('2031-06-01 00:00:00+00')"
    )
    assert bounds["logs_2031_06"] == (
        "FOR VALUES FROM ('2031-06-01 00:00:00+00') TO ('2031-07-01 00:00:00+00')"
    )


def test_months_that_ended_thirty_days_ago_are_dropped_whole(own: psycopg.Connection) -> None:
    with own.transaction():  # one moment for all
        now = one(own, "SELECT now()")
        months = [month_of(now, ahead) for ahead in (-14, -3, -2, -1, 0)]
        for month in months[:-1]:
            assert one(own, CREATE, month)
        write(own, *(begins(month) for month in months))
        old = [m for m in months if begins(month_of(begins(m), 1)) <= now - timedelta(days=30)]
        assert months[0] in old
        assert months[-1] not in old
        assert one(own, "SELECT conversation.delete_old_logs()") == len(old)
    left = set(names(own))
    for month in months:
        assert (f"logs_{month:%Y_%m}" in left) == (month not in old)
    # What is left has all of its events, also those that are older than thirty days.
    rows = own.execute("SELECT created_at FROM conversation.logs WHERE event_type = 'user_logout'").fetchall()
    assert {row["created_at"] for row in rows} == {begins(m) for m in months if m not in old}
    facts = one(own, "SELECT metadata FROM conversation.logs WHERE event_type = 'cleanup_job_executed'")
    assert facts["partitions"] == [f"logs_{month:%Y_%m}" for month in old]
    assert facts["deleted"] == len(old)


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/Los_Angeles"])
def test_old_months_are_told_in_every_time_zone(own: psycopg.Connection, zone: str) -> None:
    """A month of the thirty days before now is not old, wherever the job is run."""
    own.execute("SELECT set_config('TimeZone', %s, false)", [zone])
    for month in (date(2024, 1, 1), date(2024, 2, 1), date(2024, 12, 1)):
        assert one(own, CREATE, month)
    before = names(own)
    own.execute("SELECT conversation.delete_old_logs()")
    assert set(before) - set(names(own)) == {"logs_2024_01", "logs_2024_02", "logs_2024_12"}


def test_old_events_of_no_month_go_in_batches(own: psycopg.Connection) -> None:
    now = one(own, "SELECT now()")
    old = [now - timedelta(days=30 * years, minutes=1) for years in range(12, 17)]
    young = [begins(month_of(now, 9)), begins(month_of(now, 20))]
    write(own, *old, *young)
    assert one(own, "SELECT count(*) FROM conversation.logs_default") == 7
    batch = "SELECT conversation.delete_old_logs(2)"
    assert [one(own, batch) for _ in range(4)] == [2, 2, 1, 0]
    rows = own.execute("SELECT created_at FROM conversation.logs_default").fetchall()
    assert {row["created_at"] for row in rows} == set(young)


def test_the_oldest_of_them_go_first(own: psycopg.Connection) -> None:
    now = one(own, "SELECT now()")
    write(own, *(now - timedelta(days=400 + days) for days in (2, 0, 1)))
    own.execute("SELECT conversation.delete_old_logs(2)")
    assert one(own, "SELECT created_at FROM conversation.logs_default") == now - timedelta(days=400)
