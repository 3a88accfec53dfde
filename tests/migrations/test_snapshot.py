"""The committed snapshots and the schema reference are what the revisions make of empty databases."""

from importlib import resources
from pathlib import Path

import pytest

from carnivore_db.dev import snapshots
from carnivore_db.schema import files, reference
from carnivore_db.schema.areas import AREAS, PLATFORM
from carnivore_db.schema.snapshot import Snapshot
from tests.support.databases import Shape

REFERENCE = Path(__file__).parents[2] / "docs" / "schema"
COMMITTED = Path(str(resources.files("carnivore_db.schema"))) / files.FOLDER
REMEDY = "The schema has changed: run `make snapshot`, and look at what it changes before you commit."


def texts(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in found}


@pytest.fixture(scope="module")
def taken(plain_shape: Shape) -> dict[str, Snapshot]:
    return snapshots.take_all(plain_shape.server)


def test_the_committed_snapshots_are_what_the_revisions_make(taken: dict[str, Snapshot]) -> None:
    assert list(taken) == [PLATFORM, *AREAS]
    live = {f"{name}.json": files.rendered(snapshot) for name, snapshot in taken.items()}
    assert texts(COMMITTED) == live, REMEDY


def test_the_schema_reference_is_of_this_schema(taken: dict[str, Snapshot]) -> None:
    assert texts(REFERENCE) == reference.pages(snapshots.whole(taken)), REMEDY
