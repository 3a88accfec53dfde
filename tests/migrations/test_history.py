"""The history: a trunk, a branch of well-named revisions for each area, and releases where they meet."""

import ast
import sys
from itertools import chain
from pathlib import Path

import pytest

from carnivore_db.schema import migrations
from carnivore_db.schema.areas import AREAS, PLATFORM
from tests.migrations.helpers import BEFORE, HISTORY, RELEASE, SCRIPTS

PATHS = {revision: Path(SCRIPTS.get_revision(revision).path) for revision in HISTORY}
RELEASES = [revision for revision in HISTORY if len(BEFORE[revision]) > 1]
LINES = {PLATFORM: HISTORY[:2]} | {area: migrations.of_area(area) for area in AREAS}
each_revision = pytest.mark.parametrize("revision", HISTORY)


def imports(source: str) -> set[str]:
    """The top-level packages that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or "").split(".")[0])
    return found


def calls(revision: str, direction: str) -> bool:
    """Whether a revision's upgrade or downgrade does anything."""
    (function,) = (
        node
        for node in ast.parse(PATHS[revision].read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == direction
    )
    return any(isinstance(node, ast.Call) for node in ast.walk(function))


@each_revision
def test_a_revision_does_not_change_with_the_package(revision: str) -> None:
    """History is frozen and the package is not."""
    allowed = sys.stdlib_module_names | {"alembic", "sqlalchemy"}
    assert imports(PATHS[revision].read_text(encoding="utf-8")) <= allowed


def test_an_import_is_seen() -> None:
    source = "import alembic\ndef upgrade():\n    from carnivore_db.weekly import models\n    from . import x"
    assert imports(source) == {"alembic", "carnivore_db", "."}


def test_each_branch_is_one_line_on_the_trunk() -> None:
    assert (SCRIPTS.get_bases(), SCRIPTS.get_heads()) == ([HISTORY[0]], [RELEASE])
    for name, line in LINES.items():
        below = () if name == PLATFORM else (PLATFORM,)
        assert [BEFORE[revision] for revision in line] == [below, *((revision,) for revision in line[:-1])]
    assert LINES[PLATFORM][-1] == PLATFORM
    assert sorted(chain(*LINES.values(), RELEASES)) == sorted(HISTORY)
    assert not [revision for revision in HISTORY if SCRIPTS.get_revision(revision).dependencies]


def test_the_first_revision_of_a_branch_alone_has_its_label() -> None:
    """Alembic gives a label to the whole branch, so that each file but the first must leave it out."""
    labels = {revision: SCRIPTS.get_revision(revision).module.branch_labels for revision in HISTORY}
    assert labels == dict.fromkeys(HISTORY) | {LINES[area][0]: (area,) for area in AREAS}


def test_a_release_brings_the_tips_of_all_areas_together_and_does_nothing_else() -> None:
    for release in RELEASES:
        reached = {script.revision for script in SCRIPTS.iterate_revisions(release, "base")}
        assert all(set(line) & reached for line in LINES.values())
        assert not calls(release, "upgrade")
        assert not calls(release, "downgrade")
        assert PATHS[release].relative_to(SCRIPTS.versions) == Path(
            f"releases/{release.replace('.', '_')}.py"
        )


@pytest.mark.parametrize("name", LINES)
def test_the_files_of_a_branch_are_numbered_in_its_order(name: str) -> None:
    files = sorted(path.relative_to(SCRIPTS.versions) for path in PATHS.values() if path.parent.name == name)
    assert files == [PATHS[revision].relative_to(SCRIPTS.versions) for revision in LINES[name]]
    assert [file.name[:3] for file in files] == [f"{number:02}_" for number in range(1, len(files) + 1)]
    for file, revision in zip(files, LINES[name], strict=True):
        slug = file.stem[3:]
        # Ids are one name space: those of documents have a number in front, a baseline its area's name.
        assert revision.endswith(slug) or revision == f"{name}_{slug}"


def test_no_other_file_is_among_the_revisions() -> None:
    assert set(Path(SCRIPTS.versions).rglob("*.py")) == set(PATHS.values())


@each_revision
def test_a_revision_says_why_and_can_go_back(revision: str) -> None:
    script = SCRIPTS.get_revision(revision)
    assert len(revision) <= 32, "alembic_version.version_num is a varchar(32)"
    assert "\nWhy: " in script.doc or "\nWhy: " in script.longdoc
    if revision not in RELEASES:
        assert calls(revision, "upgrade")
        assert calls(revision, "downgrade")
