"""Alembic from Python: where the revisions are, what is installed, and running them with progress."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection

from carnivore_db.connection.requirements import unpooled
from carnivore_db.errors import ConfigurationError
from carnivore_db.schema.areas import AREAS, PLATFORM, Area

VERSION_SCHEMA = "carnivore"


def ini_file() -> Path:
    """alembic.ini: inside the installed package, or beside it in a checkout."""
    package = Path(str(files("carnivore_db")))
    packed = package / "alembic.ini"
    return packed if packed.exists() else package.parent / "alembic.ini"


def config(url: URL | None = None, *, on_step: Callable[[str], None] | None = None) -> Config:
    """Alembic's configuration for `url` (DATABASE_URL when None).

    `on_step` is called with each revision's id when its work is done, just before it is committed.
    """
    made = Config(str(ini_file()))
    made.attributes["url"] = url
    if on_step is not None:

        def report(*, step: Any, **_: Any) -> None:
            on_step(step.up_revision_id)

        made.attributes["on_version_apply"] = report
    return made


def upgrade(url: URL, revision: str = "head", *, on_step: Callable[[str], None] | None = None) -> None:
    """Bring the database to `revision` ("head": every area). Does nothing when it is there."""
    command.upgrade(config(url, on_step=on_step), revision)


def downgrade(url: URL, revision: str, *, on_step: Callable[[str], None] | None = None) -> None:
    """Take the database back to `revision` ("base": nothing of ours). Rows of dropped tables go."""
    command.downgrade(config(url, on_step=on_step), revision)


def upgrade_areas(url: URL, areas: Collection[Area], *, on_step: Callable[[str], None] | None = None) -> None:
    """Install `areas`, or bring them up to date, and leave the others as they are.

    A database that has every area then is at the release, as after `upgrade`.
    """
    for area in (area for area in AREAS if area in areas):
        if states(url)[area].revision != tip(area):
            upgrade(url, tip(area), on_step=on_step)
    if all(state.current for state in states(url).values()):
        upgrade(url, on_step=on_step)


def downgrade_area(url: URL, area: Area, *, on_step: Callable[[str], None] | None = None) -> None:
    """Take one area back, with its rows; platform and other areas stay as they are.

    Raises ConfigurationError when it is not installed.
    """
    if states(url)[area].revision is None:
        raise ConfigurationError(f"the area {area} is not installed")
    downgrade(url, f"{area}@{PLATFORM}", on_step=on_step)


@dataclass(frozen=True)
class AreaState:
    """An area of a database: the revision that it is at (None: not installed), and the package's latest."""

    area: Area
    revision: str | None
    latest: str

    @property
    def current(self) -> bool:
        """Whether it is installed and up to date."""
        return self.revision == self.latest


def states(url: URL) -> dict[Area, AreaState]:
    """Every area of the database at `url`. Raises ConfigurationError for revisions of another package."""
    with _looking(url) as connection:
        return read_states(connection)


def read_states(connection: Connection) -> dict[Area, AreaState]:
    """As `states`, on a connection. Reads the version table, which the migrating role may."""
    found = {script.revision for script in _applied(_heads(connection))}
    return {
        area: AreaState(area, next((revision for revision in line if revision in found), None), line[0])
        for area, line in lines().items()
    }


def tip(area: Area) -> str:
    """The last revision of an area's branch."""
    return lines()[area][0]


def history() -> list[str]:
    """All revisions, oldest first, each after those that it stands on."""
    return [script.revision for script in reversed(list(_scripts().walk_revisions()))]


def missing(url: URL, areas: Collection[Area] = AREAS) -> int:
    """How many revisions an upgrade of these areas would run."""
    known = lines()
    wanted = {known[area][0] for area in areas}
    heads = wanted if len(wanted) < len(AREAS) else set(_scripts().get_heads())
    return len({script.revision for script in _applied(heads)} - set(applied(url)))


def applied(url: URL) -> list[str]:
    """The revisions that the database at `url` has, latest first. Raises ConfigurationError as `states`."""
    with _looking(url) as connection:
        return [script.revision for script in _applied(_heads(connection))]


def of_area(area: Area) -> list[str]:
    """The revisions of an area's branch alone, oldest first."""
    return lines()[area][::-1]


@contextmanager
def _looking(url: URL) -> Iterator[Connection]:
    with unpooled(url).connect() as connection:
        yield connection


def _heads(connection: Connection) -> tuple[str, ...]:
    context = MigrationContext.configure(connection, opts={"version_table_schema": VERSION_SCHEMA})
    return context.get_current_heads()


def lines() -> dict[Area, list[str]]:
    """The revisions of each area's branch alone, latest first; the files are read once for all."""
    scripts = list(_scripts().walk_revisions())
    return {area: [script.revision for script in scripts if _own(script, area)] for area in AREAS}


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(config())


def _applied(heads: Iterable[str]) -> list[Script]:
    heads = tuple(heads)
    if not heads:
        return []
    try:
        return list(_scripts().iterate_revisions(heads, "base"))
    except CommandError:
        named = ", ".join(sorted(heads))
        raise ConfigurationError(
            f"the database is at revision {named}, which this package does not know"
        ) from None


def _own(script: Script, area: Area) -> bool:
    """Whether a revision is an area's alone: not the trunk's, not a release."""
    return set(script.branch_labels) == {area}
