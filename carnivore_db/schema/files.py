"""The committed snapshots, `expected/<area>.json`: the platform, and what each area adds to it."""

import json
from functools import cache
from importlib import resources
from typing import Any

from carnivore_db.schema.areas import PLATFORM, Area
from carnivore_db.schema.snapshot import Snapshot, committable

FOLDER = "expected"


def expected(*areas: Area) -> Snapshot:
    """The snapshot of a database that has the platform and these areas, as the package was released with.

    Raises FileNotFoundError when the package carries none.
    """
    whole: Snapshot = {}
    for part in (PLATFORM, *areas):
        for kind, objects in _part(part).items():
            whole[kind] = whole.get(kind, {}) | objects
    return whole


@cache
def _part(name: str) -> Snapshot:
    text = (resources.files("carnivore_db.schema") / FOLDER / f"{name}.json").read_text(encoding="utf-8")
    found: Snapshot = _joined(json.loads(text))
    return found


def own(snapshot: Snapshot, platform: Snapshot) -> Snapshot:
    """What an area adds: its snapshot less what the platform has."""
    return {
        kind: {name: found for name, found in objects.items() if name not in platform.get(kind, {})}
        for kind, objects in snapshot.items()
    }


def rendered(snapshot: Snapshot) -> str:
    """A snapshot as it is committed: sorted, one fact a line, a text of several lines as a list of them.

    Raises ValueError when the partitions of one table differ from each other.
    """
    plain = _split({kind: objects for kind, objects in committable(snapshot).items() if objects})
    return json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _split(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _split(item) for key, item in value.items()}
    if isinstance(value, str) and "\n" in value:
        return {"lines": value.split("\n")}
    return value


def _joined(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"lines"}:
            return "\n".join(value["lines"])
        return {key: _joined(item) for key, item in value.items()}
    return value
