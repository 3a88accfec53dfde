"""Each set of areas installs, verifies, maintains itself, upgrades and is taken back without the others."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import pytest

from carnivore_db import Database
from carnivore_db.errors import ConfigurationError
from carnivore_db.operations import maintenance
from carnivore_db.operations.retention import BatchOptions
from carnivore_db.operations.verify.checks import verify
from carnivore_db.schema import areas, files, migrations
from carnivore_db.schema.areas import AREAS, PLATFORM, Area
from carnivore_db.schema.snapshot import committable
from tests.migrations.helpers import (
    RELEASE,
    assert_same,
    driver,
    fresh,
    heads,
    opened,
    put_rows,
    take,
)
from tests.support.databases import Shape, TestDatabase
from tests.support.rows import Row, contents

# Pairs are there for a while in the test of coming and going, too.
SETS = [
    pytest.param(wanted, id=" ".join(wanted), marks=[pytest.mark.slow] if size == 2 else [])
    for size in (1, 2, 3)
    for wanted in combinations(AREAS, size)
]
SCHEMAS = {
    PLATFORM: {"carnivore"},
    "weekly": {"public", "analytics"},
    "vocabulary": {"vocabulary"},
    "conversation": {"conversation"},
}
# What is outside our schemas and comes with the chat: the trigger on auth.users, the extension.
OUTSIDE = """
    SELECT tgname::text FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND NOT tgisinternal
    UNION ALL SELECT extname::text FROM pg_extension WHERE extname = 'citext'
"""
# What the areas have registered, and the last run of each job.
REGISTERED = """
    SELECT area, to_jsonb(r) FROM (
        SELECT area, to_jsonb(a) AS told FROM carnivore.areas AS a
        UNION ALL SELECT area, to_jsonb(j) FROM carnivore.jobs AS j
        UNION ALL SELECT area, to_jsonb(p) FROM carnivore.partitioned_tables AS p
    ) AS r WHERE area = ANY (%s) ORDER BY 1, 2
"""
Kept = tuple[dict[str, list[Row]], list[tuple[object, ...]]]


def problems(database: TestDatabase) -> list[str]:
    """What verify finds; rows of the DEFAULT partitions, which tests put there, are none."""
    with opened(database) as connection:
        report = verify(connection, now=datetime.now(UTC), months_ahead=1)
    found = [problem for section in report.sections[:11] for problem in section.differences]
    found = [problem for problem in found if not problem.endswith("rows that belong to a month")]
    return found + [line for line in report.sections[11].differences if not line.startswith("section 3 ")]


def assert_installed(database: TestDatabase, *wanted: Area) -> None:
    """The platform and exactly these areas are there, and every definition is as committed."""
    with opened(database) as connection:
        assert areas.installed(connection) == wanted
        assert set(areas.schemas(connection)) == set().union(*(SCHEMAS[name] for name in (PLATFORM, *wanted)))
        registered = {area for (area,) in driver(connection).execute("SELECT area FROM carnivore.areas")}
        outside = {name for (name,) in driver(connection).execute(OUTSIDE)}
    assert registered == {PLATFORM, *wanted}
    states = migrations.states(database.migrator_url)
    assert [area for area in AREAS if states[area].revision is not None] == list(wanted)
    assert all(states[area].current for area in wanted)
    assert heads(database) == ((RELEASE,) if wanted == AREAS else tuple(sorted(map(migrations.tip, wanted))))
    assert outside == ({"on_auth_user_created", "citext"} if "conversation" in wanted else set())
    assert problems(database) == []
    live = {kind: objects for kind, objects in committable(take(database)).items() if objects}
    assert_same(files.expected(*wanted), json.loads(json.dumps(live)))


def maintain(database: TestDatabase) -> None:
    """Every step of a run of all jobs ends well, and the scheduler's own run does."""
    db = Database(database.migrator_url)
    try:
        for step in maintenance.steps(db, BatchOptions(batch=100)):
            outcome = maintenance.run(db, step)
            # Nothing says where the archive is.
            assert outcome.status == ("skipped" if step.job == "archive" else "done"), outcome
    finally:
        db.close()
    with database.connect(database.shape.migrator, autocommit=True) as connection:
        connection.execute("CALL carnivore.maintain()")
        failed = connection.execute("SELECT job FROM carnivore.jobs WHERE last_error IS NOT NULL").fetchall()
        never = connection.execute(
            "SELECT job FROM carnivore.jobs WHERE last_succeeded_at IS NULL"
        ).fetchall()
    assert (failed, never) == ([], [("archive",)])


@pytest.mark.parametrize("wanted", SETS)
def test_a_set_of_areas_is_all_that_there_is(shape: Shape, wanted: tuple[Area, ...]) -> None:
    with fresh(shape) as database:
        migrations.upgrade_areas(database.migrator_url, wanted)
        assert_installed(database, *wanted)
        maintain(database)
        assert problems(database) == []


def kept(database: TestDatabase, *of: Area) -> Kept:
    """The rows of these areas, and what they have registered."""
    schemas = set().union(*(SCHEMAS[area] for area in of), {"auth"})
    with opened(database) as connection:
        rows = contents(driver(connection))
        registered = driver(connection).execute(REGISTERED, [list(of)]).fetchall()
    assert registered
    return {table: found for table, found in rows.items() if table.partition(".")[0] in schemas}, registered


def test_areas_come_and_go_and_leave_the_others_alone(shape: Shape) -> None:
    """Every one is taken back, with rows in all, and comes again; the three, one by one, are the release."""
    with fresh(shape) as database:
        url = database.migrator_url
        there: tuple[Area, ...] = ()
        for area in (*AREAS, *AREAS):
            if area in there:
                put_rows(database)
                others = tuple(other for other in there if other != area)
                before = kept(database, *others)
                migrations.downgrade_area(url, area)
                assert_installed(database, *others)
                assert kept(database, *others) == before
                with pytest.raises(ConfigurationError, match=f"{area} is not installed"):
                    migrations.downgrade_area(url, area)
            migrations.upgrade_areas(url, [area])
            there = tuple(known for known in AREAS if known in (*there, area))
            assert_installed(database, *there)
        steps: list[str] = []
        migrations.upgrade_areas(url, AREAS, on_step=steps.append)
        assert (heads(database), steps) == ((RELEASE,), [])


LATER = '''"""{doc}

Why: a test has more of it.
"""

from alembic import op

revision = "{revision}"
down_revision = {after}
branch_labels = None
depends_on = None


def upgrade() -> None:
    {up}


def downgrade() -> None:
    {down}
'''


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with one more revision of one area, and one more release."""
    source = migrations.ini_file()
    shutil.copy(source, tmp_path)
    shutil.copytree(source.parent / "alembic", tmp_path / "alembic")
    versions = tmp_path / "alembic" / "versions"
    more = LATER.format(
        doc="More.",
        revision="later",
        after=repr(migrations.tip("weekly")),
        up='op.execute("CREATE TABLE public.later (id integer)")',
        down='op.execute("DROP TABLE public.later")',
    )
    release = LATER.format(
        doc="A release.", revision="0.2.0", after=repr((RELEASE, "later")), up="pass", down="pass"
    )
    (versions / "weekly" / "99_later.py").write_text(more, encoding="utf-8")
    (versions / "releases" / "0_2_0.py").write_text(release, encoding="utf-8")
    monkeypatch.setattr(migrations, "ini_file", lambda: tmp_path / source.name)


def has_later(database: TestDatabase) -> bool:
    with database.connect() as connection:
        return connection.execute("SELECT to_regclass('public.later') IS NOT NULL").fetchone() == (True,)


@pytest.fixture
def old(shape: Shape, request: pytest.FixtureRequest) -> Iterator[TestDatabase]:
    """A database as the last package left it, whose new one is not there yet."""
    with fresh(shape) as database:
        migrations.upgrade_areas(database.migrator_url, request.param)
        request.getfixturevalue("later")
        yield database


@pytest.mark.parametrize("old", [AREAS], indirect=True, ids=" ".join)
@pytest.mark.parametrize("by_area", [False, True])
def test_a_database_at_a_release_goes_to_the_next(old: TestDatabase, by_area: bool) -> None:
    url = old.migrator_url
    assert (migrations.tip("weekly"), migrations.missing(url)) == ("later", 2)
    assert [area for area, state in migrations.states(url).items() if not state.current] == ["weekly"]
    if by_area:
        migrations.upgrade_areas(url, ["weekly"])
    else:
        migrations.upgrade(url)
    assert (heads(old), has_later(old), migrations.missing(url)) == (("0.2.0",), True, 0)
    assert all(state.current for state in migrations.states(url).values())
    migrations.downgrade_area(url, "weekly")
    assert heads(old) == tuple(sorted(map(migrations.tip, ("vocabulary", "conversation"))))


@pytest.mark.parametrize(
    "old", [("weekly",), ("weekly", "vocabulary"), ("vocabulary",)], indirect=True, ids=" ".join
)
def test_an_area_alone_goes_to_its_new_tip(old: TestDatabase, request: pytest.FixtureRequest) -> None:
    url, before = old.migrator_url, set(heads(old))
    weekly = migrations.states(url)["weekly"]
    migrations.upgrade_areas(url, ["weekly"])
    assert set(heads(old)) == before - {weekly.revision} | {"later"}
    assert has_later(old)
    assert migrations.states(url)["weekly"].current


IMPORTED = """
import importlib, pkgutil, sys
area, *others = sys.argv[1:]
room = importlib.import_module(f"carnivore_db.{area}")
for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
    importlib.import_module(found.name)
print(*(name for name in sys.modules if name.startswith(tuple(f"carnivore_db.{other}" for other in others))))
print(*(name for name in sys.modules if name.startswith(f"carnivore_db.{area}.")))
"""


@pytest.mark.parametrize("area", AREAS)
def test_an_area_s_modules_import_none_of_another(area: Area) -> None:
    others = [other for other in AREAS if other != area]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, area, *others], capture_output=True, text=True, check=True
    )
    of_others, its_own = done.stdout.split("\n")[:2]
    assert of_others == ""
    assert len(its_own.split()) > 5
    assert area != "weekly" or "carnivore_db.weekly.reports" in its_own.split()
