"""The history is one line of well-named revisions that stand on their own."""

import ast
import sys
from pathlib import Path

import pytest
from alembic.script import Script, ScriptDirectory

from carnivore_db.schema import migrations

SCRIPTS = ScriptDirectory.from_config(migrations.config())
REVISIONS: dict[str, Script] = {script.revision: script for script in SCRIPTS.walk_revisions()}
FILES = sorted(Path(SCRIPTS.versions).glob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])


def imports(source: str) -> set[str]:
    """The top-level packages that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or "").split(".")[0])
    return found


@each_file
def test_a_revision_does_not_change_with_the_package(path: Path) -> None:
    """History is frozen and the package is not."""
    allowed = sys.stdlib_module_names | {"alembic", "sqlalchemy"}
    assert imports(path.read_text(encoding="utf-8")) <= allowed


def test_an_import_is_seen() -> None:
    source = "import alembic\ndef upgrade():\n    from carnivore_db.weekly import models\n    from . import x"
    assert imports(source) == {"alembic", "carnivore_db", "."}


def test_history_is_one_line() -> None:
    assert len(SCRIPTS.get_heads()) == len(SCRIPTS.get_bases()) == 1
    for script in REVISIONS.values():
        assert isinstance(script.down_revision, str | None)
        assert not script.nextrev or len(script.nextrev) == 1
        assert not script.branch_labels
        assert not script.dependencies
    assert len(REVISIONS) == len(FILES) == len(migrations.history())


@pytest.mark.parametrize("revision", migrations.history())
def test_a_revision_is_named_by_date_and_slug(revision: str) -> None:
    stem = Path(REVISIONS[revision].path).stem
    year, month, day, slug = stem.split("_", 3)
    assert [len(part) for part in (year, month, day)] == [4, 2, 2]
    assert f"{year}{month}{day}".isdigit()
    assert slug == revision
    assert len(revision) <= 32, "alembic_version.version_num is a varchar(32)"


def test_dates_follow_the_history() -> None:
    dates = [Path(REVISIONS[revision].path).stem[:10] for revision in migrations.history()]
    assert dates == sorted(dates)


@pytest.mark.parametrize("revision", migrations.history())
def test_a_revision_says_why_and_can_go_back(revision: str) -> None:
    script = REVISIONS[revision]
    assert "\nWhy: " in script.doc or "\nWhy: " in script.longdoc
    functions = {
        node.name: node
        for node in ast.parse(Path(script.path).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    for direction in ("upgrade", "downgrade"):
        assert any(isinstance(node, ast.Call) for node in ast.walk(functions[direction])), direction
