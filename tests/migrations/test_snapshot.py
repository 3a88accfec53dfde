"""The committed snapshot and the schema reference are what `upgrade head` makes on an empty database."""

import json
from pathlib import Path

from carnivore_db.schema import migrations
from carnivore_db.schema.diff import compare
from carnivore_db.schema.files import load_expected
from carnivore_db.schema.reference import markdown
from carnivore_db.schema.snapshot import Snapshot, committable
from tests.migrations.helpers import take
from tests.support.databases import TestDatabase

REFERENCE = Path(__file__).parents[2] / "docs" / "schema.md"
REMEDY = "The schema has changed: run `make snapshot`, and look at what it changes before you commit."


def made(database: TestDatabase) -> Snapshot:
    return committable(take(database))


def committed() -> Snapshot:
    try:
        return load_expected()
    except FileNotFoundError:
        return {}


def test_the_committed_snapshot_is_what_the_migrations_make(database: TestDatabase) -> None:
    live = made(database)
    found = [difference.describe() for difference in compare(committed(), live)]
    assert not found, "\n".join([REMEDY, *found])
    assert json.loads(json.dumps(live)) == committed(), REMEDY


def test_the_schema_reference_is_of_this_schema(plain_database: TestDatabase) -> None:
    text = REFERENCE.read_text(encoding="utf-8") if REFERENCE.exists() else ""
    assert text == markdown(made(plain_database)), REMEDY


def test_a_snapshot_does_not_depend_on_who_migrated(
    empty: TestDatabase, plain_database: TestDatabase
) -> None:
    migrations.upgrade(empty.migrator_url)
    assert json.dumps(made(empty)) == json.dumps(made(plain_database))
