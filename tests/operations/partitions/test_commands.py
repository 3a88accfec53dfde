"""`carnivore-db partitions`: what it prints, in three forms, and what its exit status says."""

import json
from datetime import UTC, date, datetime

import psycopg
import pytest
from click.testing import Result

from carnivore_db import Database
from tests.cli import running
from tests.operations.partitions.months import (
    LOG,
    LOGS,
    forget,
    holders,
    inside,
    log,
    month,
    name,
    partitions,
    run,
)
from tests.support.databases import TestDatabase

FAR = date(2031, 5, 1)


@pytest.fixture
def database(plain_database: TestDatabase) -> TestDatabase:
    return plain_database


def command(database: TestDatabase, *arguments: str, **environment: str) -> Result:
    return running.run("partitions", *arguments, url=database.migrator_url, **environment)


@pytest.fixture
def forgotten(owner: psycopg.Connection, migrating: Database) -> None:
    """All is made but one month of each, and rows of 2031 wait."""
    assert run(migrating, at=datetime.now(UTC)).failed == {}
    forget(owner, month(2), tables=[LOG])
    log(owner, inside(FAR), inside(month(-3)))


@pytest.mark.usefixtures("forgotten")
def test_a_plan_says_what_and_why_and_does_nothing(database: TestDatabase, owner: psycopg.Connection) -> None:
    before = partitions(owner, LOG) | partitions(owner, LOGS)
    table = command(database, "plan")
    assert table.exit_code == 0
    for words in ("2031-05", "drain", "1 row in the DEFAULT", f"{month(2):%Y-%m}", "2 months ahead", "left"):
        assert words in table.output
    found = command(database, "plan", "--json")
    assert json.loads(found.output) == [
        {
            "table": LOGS,
            "month": "2031-05",
            "kind": "drain",
            "reason": "1 row in the DEFAULT partition",
            "rows": 1,
        },
        {"table": LOG, "month": f"{month(2):%Y-%m}", "kind": "create", "reason": "2 months ahead", "rows": 0},
        {
            "table": LOGS,
            "month": f"{month(-3):%Y-%m}",
            "kind": "left",
            "reason": "1 row older than the table's are kept: deleted where they are",
            "rows": 1,
        },
    ]
    more = json.loads(command(database, "plan", "--json", "--months-ahead", "5").output)
    assert len(more) == 3 + 2 * 2
    by_setting = command(database, "plan", "--json", CARNIVORE_DB_PARTITION_MONTHS_AHEAD="5")
    assert json.loads(by_setting.output) == more
    assert partitions(owner, LOG) | partitions(owner, LOGS) == before


@pytest.mark.usefixtures("forgotten")
def test_the_sql_of_a_plan_does_what_apply_does(
    database: TestDatabase, owner: psycopg.Connection, migrating: Database
) -> None:
    script = command(database, "plan", "--sql").output
    with database.connect(database.shape.migrator, autocommit=True) as connection:
        connection.execute(script)
    assert holders(owner, LOGS) == {f"{LOGS}_default": 1, name(LOGS, FAR): 1}
    assert name(LOG, month(2)) in partitions(owner, LOG)
    assert "statement_timeout = 2000;" in script
    assert run(migrating, at=datetime.now(UTC)).done == []


@pytest.mark.usefixtures("forgotten")
def test_apply_says_what_it_did_and_is_done(database: TestDatabase, owner: psycopg.Connection) -> None:
    did = command(database, "apply")
    assert did.exit_code == 0
    assert f"{name(LOGS, FAR)}: 1 row in the DEFAULT partition, 1 moved" in did.output
    assert f"{name(LOG, month(2))}: 2 months ahead" in did.output
    assert "Partitions made: 2. Rows moved: 1." in did.output
    assert holders(owner, LOGS) == {f"{LOGS}_default": 1, name(LOGS, FAR): 1}
    again = command(database, "apply", "--json")
    assert again.exit_code == 0
    told = json.loads(again.output)
    assert (told["done"], told["failed"], told["busy"]) == ([], {}, False)
    assert [one["rows"] for one in told["left"]] == [1]
    assert "Partitions made: none missing." in command(database, "apply").output


@pytest.mark.usefixtures("forgotten")
def test_a_second_run_says_so_and_is_no_failure(
    database: TestDatabase, owner: psycopg.Connection, migrating: Database
) -> None:
    others: list[Result] = []

    def meanwhile(*_: object) -> None:
        others.extend((command(database, "apply"), command(database, "apply", "--json")))

    run(migrating, on_step=meanwhile)
    words, data = others[:2]
    assert (words.exit_code, data.exit_code) == (0, 0)
    assert "Another run is at work" in words.output
    assert json.loads(data.output) == {"busy": True, "done": [], "failed": {}, "left": []}


@pytest.mark.usefixtures("forgotten")
def test_a_month_that_could_not_be_made_is_exit_status_1(
    database: TestDatabase, owner: psycopg.Connection
) -> None:
    owner.execute(f"CREATE TABLE {name(LOG, month(2))} (kept boolean)")
    did = command(database, "apply", "--json")
    assert did.exit_code == 1
    told = json.loads(did.stdout)
    assert [one["month"] for one in told["done"]] == ["2031-05"]
    assert told["failed"].keys() == {name(LOG, month(2))}
    assert "is no partition" in did.stderr
