"""Servers, databases and identities that every test can ask for."""

import os
from collections import Counter
from collections.abc import Iterator

import pytest

from carnivore_db import Database
from carnivore_db.dev.local import LocalPostgres, server
from tests.support import document
from tests.support.databases import APPLICATION, Shape, TestDatabase, in_memory


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    document.note(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many damages to the schema were tried, and how many of them a promise noticed; and which tests
    show what document 20251110150000 asks for."""
    totals: Counter[str] = Counter()
    found = [
        report
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport)
    ]
    for report in found:
        for name, number in report.user_properties:
            if name in {"mutants", "mutants killed"} and report.when == "call":
                totals[name] += number
    if any(name == document.PROPERTY for report in found for name, _ in report.user_properties):
        terminalreporter.write_sep("-", "document 20251110150000, number by number")
        for line in document.matrix(found):
            terminalreporter.write_line(line)
    if totals:
        line = f"{totals['mutants killed']} of {totals['mutants']} damages to the schema broke a promise"
        terminalreporter.write_sep("-", line)


@pytest.fixture(scope="session")
def plain_shape() -> Iterator[Shape]:
    """Plain PostgreSQL: DATABASE_URL's server when set, else a private one."""
    with server(in_memory()) as running:
        yield Shape("plain", running, migrator=running.user, login=APPLICATION)


@pytest.fixture(scope="session")
def supabase_shape() -> Iterator[Shape]:
    """Supabase's shape, always on a private server: its superuser has another name."""
    with LocalPostgres("supabase_admin", parent=in_memory()) as running:
        yield Shape("supabase", running, migrator="postgres", login="authenticator")


@pytest.fixture(scope="session")
def plain_template(plain_shape: Shape, worker_id: str) -> Iterator[str]:
    yield from _template(plain_shape, worker_id)


@pytest.fixture(scope="session")
def supabase_template(supabase_shape: Shape, worker_id: str) -> Iterator[str]:
    yield from _template(supabase_shape, worker_id)


def _template(shape: Shape, worker_id: str) -> Iterator[str]:
    name = f"carnivore_template_{os.getpid()}_{worker_id}"
    shape.create(name)
    shape.migrate(name)
    yield name
    shape.drop(name)  # the server may be DATABASE_URL's


@pytest.fixture(params=["plain", "supabase"])
def shape(request: pytest.FixtureRequest) -> Shape:
    """Each of the two shapes in turn."""
    found: Shape = request.getfixturevalue(f"{request.param}_shape")
    return found


@pytest.fixture
def database(shape: Shape, request: pytest.FixtureRequest) -> Iterator[TestDatabase]:
    """A migrated database of its own, in each of the two shapes."""
    with shape.clone(request.getfixturevalue(f"{shape.name}_template")) as made:
        yield made


@pytest.fixture
def plain_database(plain_shape: Shape, plain_template: str) -> Iterator[TestDatabase]:
    """A migrated database of its own on plain PostgreSQL, for what no shape can change."""
    with plain_shape.clone(plain_template) as made:
        yield made


@pytest.fixture
def db(plain_database: TestDatabase) -> Iterator[Database]:
    """The package's way into `plain_database`."""
    made = Database(plain_database.app_url)
    yield made
    made.close()
