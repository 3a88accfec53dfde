"""Rows of the chat that nobody can merge by a rule stop its refinement before it changes anything."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy.exc import IntegrityError

from carnivore_db.schema import migrations
from tests.migrations import undecided
from tests.migrations.helpers import assert_same, driver, fingerprint, fresh, heads, opened
from tests.migrations.undecided import ALLOWED, BASELINE, BEYOND, CASES, EVERYTHING, Undecided
from tests.support import rows
from tests.support.databases import Shape, TestDatabase

TIP = migrations.tip("conversation")


@pytest.fixture(scope="module")
def prepared(plain_shape: Shape) -> Iterator[TestDatabase]:
    with fresh(plain_shape) as made:
        undecided.prepare(made)
        yield made


@pytest.fixture
def living(plain_shape: Shape, prepared: TestDatabase) -> Iterator[TestDatabase]:
    """A database at the baseline with rows, of its own."""
    with plain_shape.clone(prepared.name) as made:
        yield made


def run(database: TestDatabase, script: str) -> None:
    with database.connect() as connection:
        connection.execute(script)


def contents(database: TestDatabase) -> dict[str, list[rows.Row]]:
    with opened(database) as connection:
        return rows.contents(driver(connection))


def refused(database: TestDatabase) -> psycopg.Error:
    """The error with which the upgrade stops; the database is exactly as it was."""
    definitions, held = fingerprint(database), contents(database)
    with pytest.raises(IntegrityError) as stopped:
        migrations.upgrade(database.migrator_url, TIP)
    assert heads(database) == (BASELINE,)
    assert_same(definitions, fingerprint(database))
    assert contents(database) == held
    error = stopped.value.orig
    assert isinstance(error, psycopg.Error)
    assert error.diag.constraint_name == "needs_decision"
    assert not [secret for secret in undecided.SECRETS if secret in str(stopped.value)]
    return error


def assert_listed_and_corrected(database: TestDatabase, case: Undecided) -> None:
    run(database, case.spoil)
    detail = refused(database).diag.message_detail or ""
    assert tuple(detail.split("\n")) == case.lines
    run(database, case.correct)
    migrations.upgrade(database.migrator_url, TIP)
    assert heads(database) == (TIP,)


@pytest.mark.document("change 33", 42, 25, 15, 14, 17, 16)
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_rows_are_listed_and_nothing_is_changed(living: TestDatabase, case: Undecided) -> None:
    assert_listed_and_corrected(living, case)


def test_everything_is_listed_at_once(empty: TestDatabase) -> None:
    undecided.prepare(empty)
    assert_listed_and_corrected(empty, EVERYTHING)


def test_a_thousand_lines_are_listed_and_the_others_counted(living: TestDatabase) -> None:
    assert_listed_and_corrected(living, BEYOND)


def test_the_list_shrinks_as_rows_are_corrected(living: TestDatabase) -> None:
    run(living, CASES[0].spoil + CASES[1].spoil)
    refused(living)
    run(living, CASES[0].correct)
    assert refused(living).diag.message_detail == "\n".join(CASES[1].lines)


def test_rows_at_the_limits_stop_nothing(living: TestDatabase) -> None:
    run(living, ALLOWED)
    migrations.upgrade(living.migrator_url, TIP)
    migrations.downgrade(living.migrator_url, BASELINE)


@pytest.mark.document(42)
@pytest.mark.parametrize("name", undecided.LOOKALIKES)
def test_addresses_that_nobody_could_tell_apart_are_listed_too(living: TestDatabase, name: str) -> None:
    assert_listed_and_corrected(living, undecided.alike(name))
