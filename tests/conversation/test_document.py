"""Nothing that the document numbers is without a test."""

import re
from pathlib import Path

import pytest

from tests.support.document import NUMBERS

TESTS = Path(__file__).parents[1]
MARKED = re.compile(r"pytest\.mark\.document\(([^)]*)\)")


def shown() -> set[str]:
    found = set()
    for path in TESTS.rglob("test_*.py"):
        for arguments in MARKED.findall(path.read_text(encoding="utf-8")):
            found |= {argument.strip().strip('"') for argument in arguments.split(",")}
    return found


def test_every_number_has_a_test() -> None:
    assert [number for number in NUMBERS if number not in shown()] == []


# A migration strategy is words: those of the README, which must name what there is.
@pytest.mark.document(44)
def test_the_readme_says_how_to_migrate() -> None:
    readme = (TESTS.parent / "README.md").read_text(encoding="utf-8")
    revisions = {
        found[1]
        for path in (TESTS.parent / "alembic" / "versions").rglob("*.py")
        if (found := re.search(r'^revision = "(.+)"$', path.read_text(encoding="utf-8"), re.MULTILINE))
    }
    assert "critical_fixes_rows" in revisions
    assert revisions <= set(re.findall(r"^\|[^|]*\| `([\w.]+)` \|", readme, re.MULTILINE))
    for heading in ("## Migrations", "### A database with rows in it", "### A new revision"):
        assert f"\n{heading}\n" in readme
