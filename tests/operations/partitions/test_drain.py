"""Rows of the DEFAULT partition find their month: all of them, as they are, counted once."""

from datetime import date

import psycopg
import pytest
from psycopg import errors as refused

from carnivore_db import Database, errors
from carnivore_db.operations.partitions.plan import Policy
from tests.conversation.samples import sign_up
from tests.operations.partitions.months import (
    LOG,
    LOGS,
    access,
    assert_as_the_package_makes_them,
    counts,
    forget,
    holders,
    inside,
    log,
    made,
    month,
    name,
    one,
    partitions,
    rows,
    run,
)
from tests.support.databases import TestDatabase

FAR = date(2031, 5, 1)
PREPARE = "SELECT carnivore.prepare_partition(%s::text::regclass, %s)"
ATTACH = "SELECT carnivore.attach_partition(%s::text::regclass, %s)"


def test_a_row_of_2031_and_one_of_no_month_find_their_partition(
    database: TestDatabase, owner: psycopg.Connection, migrating: Database
) -> None:
    (report,) = made(database, 1)
    forget(owner, month(-1), month(), month(1))
    person = sign_up(owner)
    moments = [inside(FAR), inside(month(-1)), inside(month(-1), 20), inside(month()), inside(month(1))]
    access(owner, report, *moments)
    log(owner, *moments, user=person.id)
    before = {table: rows(owner, table) for table in (LOG, LOGS)}
    counted = counts(owner)
    assert holders(owner, LOG) == {f"{LOG}_default": 5}

    outcome = run(migrating)

    assert (outcome.failed, outcome.left, outcome.busy) == ({}, [], False)
    for table in (LOG, LOGS):
        assert rows(owner, table) == before[table]
        assert holders(owner, table) == {
            name(table, FAR): 1, name(table, month(-1)): 2, name(table, month()): 1, name(table, month(1)): 1,
        }  # fmt: skip
    moved = {a.partition: a.rows for a in outcome.done if a.kind == "drain"}
    assert moved == {**holders(owner, LOG), **holders(owner, LOGS)}
    assert counts(owner) == counted
    assert_as_the_package_makes_them(database)
    assert run(migrating).done == []
    # What was off for the move is on again.
    for place in (LOG, f"{LOG}_default", name(LOG, FAR)):
        access(owner, report, inside(date(2044, 1, 1)))
        with pytest.raises(psycopg.IntegrityError) as kept:
            owner.execute(f"DELETE FROM {place}")
        assert kept.value.diag.constraint_name == "append_only"


def test_a_months_first_and_last_moment(owner: psycopg.Connection, migrating: Database) -> None:
    moments = ("2031-04-30 23:59:59.999999+00", "2031-05-01 00:00+00", "2031-05-31 23:59:59.999999+00")
    log(owner, *moments)
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        owner.execute(f"ALTER ROLE {one(owner, 'SELECT current_user')} SET TimeZone = '{zone}'")
    with migrating.engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL TimeZone = 'Pacific/Kiritimati'")
        for call in (PREPARE, ATTACH):
            assert connection.exec_driver_sql(call, (LOGS, FAR)).scalar() == 2
    owner.execute(f"ALTER ROLE {one(owner, 'SELECT current_user')} RESET TimeZone")
    assert holders(owner, LOGS) == {f"{LOGS}_default": 1, name(LOGS, FAR): 2}


def test_old_logs_stay_where_they_are_deleted(owner: psycopg.Connection, migrating: Database) -> None:
    log(owner, inside(month(-3)), inside(month(-1)))
    outcome = run(migrating)
    assert holders(owner, LOGS) == {f"{LOGS}_default": 1, name(LOGS, month(-1)): 1}
    assert [(a.month, a.rows) for a in outcome.left] == [(month(-3), 1)]
    run(migrating, policy=Policy(3, keep_old=True))
    assert holders(owner, LOGS) == {name(LOGS, month(-3)): 1, name(LOGS, month(-1)): 1}


def test_what_came_changed_and_went_since_is_caught_up_with(
    database: TestDatabase, owner: psycopg.Connection
) -> None:
    """Between the copy and the locks: a report is deleted, a person leaves, rows come."""
    stays, goes = made(database, 2)
    leaving, erased = sign_up(owner, "one@example.com"), sign_up(owner, "two@example.com")
    for report in (stays, goes):
        access(owner, report, inside(FAR))
    for person in (leaving, erased):
        log(owner, inside(FAR), user=person.id)
    with database.connect(database.shape.migrator) as ddl:
        for table in (LOG, LOGS):
            assert ddl.execute(PREPARE, [table, FAR]).fetchone() == (2,)
        owner.execute("DELETE FROM public.generated_reports WHERE id = %s", [goes])
        owner.execute("DELETE FROM auth.users WHERE id = %s", [leaving.id])
        owner.execute("SELECT conversation.erase_profile(%s)", [erased.id])
        # Equal to PostgreSQL, and another text.
        owner.execute("""UPDATE conversation.logs SET metadata = '{"n": 1.00}' WHERE metadata ? 'n'""")
        access(owner, stays, inside(FAR), inside(FAR))
        log(owner, inside(FAR))
        before = {table: rows(owner, table) for table in (LOG, LOGS)}
        counted = counts(owner)
        for table in (LOG, LOGS):
            assert ddl.execute(ATTACH, [table, FAR]).fetchone() == (3,)
    assert {table: rows(owner, table) for table in (LOG, LOGS)} == before
    assert holders(owner, LOG) == {name(LOG, FAR): 3}
    assert holders(owner, LOGS)[name(LOGS, FAR)] == 3
    assert counts(owner) == counted


@pytest.mark.parametrize("compared", ["*=", "="])
def test_a_value_that_changed_to_an_equal_one_is_caught_up_with(
    database: TestDatabase, owner: psycopg.Connection, compared: str
) -> None:
    """What PostgreSQL calls equal may be another text. The move compares what is stored; = would not."""
    function = one(owner, "SELECT pg_get_functiondef('carnivore.attach_partition'::regproc)")
    assert function.count(" *= ") == 1
    owner.execute(function.replace(" *= ", f" {compared} "))
    log(owner, inside(FAR), inside(FAR, 20))
    copied = rows(owner, LOGS)
    with database.connect(database.shape.migrator) as ddl:
        assert ddl.execute(PREPARE, [LOGS, FAR]).fetchone() == (2,)
        owner.execute(
            """UPDATE conversation.logs SET metadata = '{"n": 1.00}' WHERE created_at = %s""", [inside(FAR)]
        )
        changed = rows(owner, LOGS)
        assert ddl.execute(ATTACH, [LOGS, FAR]).fetchone() == (2,)
    assert changed != copied
    assert rows(owner, LOGS) == (changed if compared == "*=" else copied)
    assert holders(owner, LOGS) == {name(LOGS, FAR): 2}


def test_rows_that_do_not_arrive_stop_the_move(database: TestDatabase, owner: psycopg.Connection) -> None:
    """A rule swallows what comes to the new table: the numbers differ, and nothing has happened."""
    log(owner, inside(FAR))
    with database.connect(database.shape.migrator) as ddl:
        ddl.execute(PREPARE, [LOGS, FAR])
        log(owner, inside(FAR))
        before = rows(owner, LOGS)
        ddl.execute(f"CREATE RULE swallow AS ON INSERT TO {name(LOGS, FAR)} DO INSTEAD NOTHING")
        with pytest.raises(refused.InternalError_) as stopped:
            ddl.execute(ATTACH, [LOGS, FAR])
        assert stopped.value.diag.constraint_name == "rows_moved"
        ddl.rollback()
    assert rows(owner, LOGS) == before
    assert name(LOGS, FAR) not in partitions(owner, LOGS)


def test_a_table_of_that_name_is_left_alone_and_named(owner: psycopg.Connection, migrating: Database) -> None:
    """Whoever made it: its rows are not ours to delete, and the other months are made."""
    table = name(LOGS, FAR)
    owner.execute(f"CREATE TABLE {table} (LIKE {LOGS} INCLUDING ALL)")
    owner.execute(f"INSERT INTO {table} (level, event_type) VALUES ('info', 'user_logout')")
    log(owner, inside(FAR), inside(date(2031, 6, 1)))
    outcome = run(migrating)
    (failure,) = outcome.failed.items()
    assert failure[0] == table
    assert isinstance(failure[1], errors.InvalidInput)
    assert failure[1].field == "logs_2031_05"
    assert holders(owner, LOGS) == {f"{LOGS}_default": 1, name(LOGS, date(2031, 6, 1)): 1}
    assert one(owner, f"SELECT count(*) FROM {table}") == 1


def test_a_table_that_was_not_prepared_is_not_attached(owner: psycopg.Connection) -> None:
    """Also not with the right shape: what it has and DEFAULT has not would be deleted."""
    table = name(LOGS, FAR)
    owner.execute(f"CREATE TABLE {table} (LIKE {LOGS} INCLUDING ALL)")
    owner.execute(
        f"INSERT INTO {table} (level, event_type, created_at) VALUES ('info', 'user_logout', '2031-05-02Z')"
    )
    with pytest.raises(refused.UndefinedObject):
        owner.execute(ATTACH, [LOGS, FAR])
    assert one(owner, f"SELECT count(*) FROM {table}") == 1


def test_a_partition_made_by_hand_across_the_month_is_a_persons_to_settle(
    owner: psycopg.Connection, migrating: Database
) -> None:
    owner.execute(
        f"CREATE TABLE {LOGS}_by_hand PARTITION OF {LOGS} FOR VALUES FROM ('2031-05-10Z') TO ('2031-07-01Z')"
    )
    log(owner, inside(FAR, 2), inside(FAR, 20), inside(date(2031, 6, 1)))
    outcome = run(migrating)
    assert outcome.failed.keys() == {name(LOGS, FAR)}
    assert "2031-05-10" in str(outcome.failed[name(LOGS, FAR)])
    assert holders(owner, LOGS) == {f"{LOGS}_default": 1, f"{LOGS}_by_hand": 2}
    assert name(LOGS, month(3)) in partitions(owner, LOGS)


def test_a_partition_that_is_not_as_the_package_makes_it_is_told(
    owner: psycopg.Connection, migrating: Database
) -> None:
    forget(owner, month(3))
    damaged = one(owner, "SELECT pg_get_functiondef('carnivore.close_partition'::regproc)")
    off = f"' || CASE WHEN parent = '{LOGS}'::regclass THEN 'DISABLE' ELSE 'ENABLE' END || '"
    owner.execute(damaged.replace("ENABLE", off))
    outcome = run(migrating)
    assert outcome.failed.keys() == {name(LOGS, month(3))}
    problem = outcome.failed[name(LOGS, month(3))]
    assert isinstance(problem, errors.SchemaMismatch)
    assert "row_security is false, expected true" in str(problem)
    assert name(LOG, month(3)) in {action.partition for action in outcome.done}


def test_archived_months_are_no_gaps(owner: psycopg.Connection, migrating: Database) -> None:
    run(migrating)
    gone, gap = name(LOG, month(-2)), name(LOG, month(-1))
    owner.execute(
        "CREATE TABLE IF NOT EXISTS carnivore.archived_partitions"
        " (parent text NOT NULL, month date NOT NULL, part integer NOT NULL, file_url text NOT NULL)"
    )
    owner.execute(
        "INSERT INTO carnivore.archived_partitions (parent, month, part, file_url) VALUES (%s, %s, 1, 'memory://x')",
        [LOG, month(-2)],
    )
    owner.execute("GRANT SELECT ON carnivore.archived_partitions TO PUBLIC")
    owner.execute(f"DROP TABLE {gone}, {gap}")
    assert [action.partition for action in run(migrating).done] == [gap]


@pytest.mark.parametrize("parent", ["public.generated_reports", "conversation.messages", None])
def test_other_tables_have_no_months(owner: psycopg.Connection, parent: str | None) -> None:
    with pytest.raises(psycopg.errors.CheckViolation) as wrong:
        owner.execute(PREPARE, [parent, FAR])
    assert wrong.value.diag.constraint_name == "parent_valid"
