"""Read and write the committed snapshot, `expected.json`."""

import json
from importlib import resources
from pathlib import Path

from carnivore_db.schema.snapshot import Snapshot, committable

_NAME = "expected.json"


def load_expected() -> Snapshot:
    """The snapshot that the package was released with.

    Raises FileNotFoundError when the package carries none.
    """
    text = (resources.files("carnivore_db.schema") / _NAME).read_text(encoding="utf-8")
    expected: Snapshot = json.loads(text)
    return expected


def write_expected(snapshot: Snapshot, path: Path) -> None:
    """Write a snapshot for committing: sorted, one fact a line, so that a diff reads well.

    Raises ValueError when the partitions of one table differ from each other.
    """
    text = json.dumps(committable(snapshot), indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
