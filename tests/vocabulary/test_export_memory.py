"""An export takes no more memory when there are more sessions: 100,000 beside 1,000, in a process each."""

from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from psycopg.rows import dict_row

from carnivore_db import Database
from carnivore_db.vocabulary.models import ExportType
from tests.support.databases import Shape
from tests.support.processes import python
from tests.vocabulary.export_support import TYPES, Exporting, Folder

pytest_plugins = ["tests.vocabulary.export_fixtures"]
pytestmark = pytest.mark.slow

FEW, MANY = 1_000, 100_000
MB = 1024  # kB
# How much more the many may take. PDF alone keeps its pages: about 0.3 kB a session.
MOST = {"csv": 20 * MB, "json": 20 * MB, "anki": 20 * MB, "pdf": 60 * MB}
LEARN = """
    INSERT INTO vocabulary.sessions (user_id, session_type, started_at, session_data)
    SELECT %s, 'qa', '2026-01-01'::timestamptz + n * interval '1 minute',
        jsonb_build_object('vocabulary', jsonb_build_array(
            jsonb_build_object('word', 'palabra ' || n, 'translation', repeat('word ', 20))))
    FROM generate_series(1, %s) AS n
"""
# The peak of this process alone: getrusage would begin at its parent's.
WORKER = """
from pathlib import Path
from carnivore_db import Database
from carnivore_db.vocabulary.exports.worker import Storage, work

def memory(which):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which))

database, storage = Database(), Storage({location!r})
before = memory("VmRSS:")
(outcome,) = work(database, storage)
print(outcome.status, outcome.export.records_count, memory("VmHWM:") - before)
"""


@pytest.fixture(scope="module")
def crowd(plain_shape: Shape, plain_template: str) -> Iterator[Exporting]:
    with plain_shape.clone(plain_template) as database, database.connect(autocommit=True) as owner:
        owner.row_factory = dict_row  # type: ignore[assignment]
        db = Database(database.app_url)
        yield Exporting(database, db, owner)  # type: ignore[arg-type]
        db.close()


@pytest.fixture(scope="module")
def learners(crowd: Exporting) -> dict[int, UUID]:
    """A learner with few sessions and one with many, by their number; each session has a word of its own."""
    made = {number: crowd.learner() for number in (FEW, MANY)}
    for number, learner in made.items():
        crowd.owner.execute(LEARN, [learner, number])
    return made


@pytest.mark.parametrize("export_type", TYPES)
def test_memory_does_not_grow_with_the_sessions(
    crowd: Exporting,
    learners: dict[int, UUID],
    folder: Folder,
    export_type: ExportType,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    monkeypatch.setenv("DATABASE_URL", crowd.database.app_url.render_as_string(hide_password=False))
    grown = {}
    for number, learner in learners.items():
        crowd.ask(learner, export_type)
        with python(WORKER.format(location=folder.location)) as process:
            said, _ = process.communicate()
        status, records, growth = said.split()
        assert (status, int(records)) == ("completed", number)
        grown[number] = int(growth)
    record_property(f"{export_type}: kB by sessions", str(grown))
    assert grown[MANY] - grown[FEW] < MOST[export_type]
