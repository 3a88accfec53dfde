"""`carnivore-db` as an operator types it: what it does, its exit status, what it must not print."""

import json
from collections.abc import Iterator

import pytest
from click.testing import Result
from typer.testing import CliRunner

from carnivore_db.cli import app
from carnivore_db.schema import migrations
from tests.support.databases import Shape, TestDatabase

SECRET = "hunter2"


def run(*arguments: str, url: object = None, **environment: str) -> Result:
    if url is not None:
        environment["DATABASE_URL"] = url.render_as_string(hide_password=False)
    return CliRunner().invoke(app, arguments, env={"DATABASE_URL": None, **environment})


@pytest.fixture
def empty_database(shape: Shape) -> Iterator[TestDatabase]:
    with shape.clone("template0") as made:
        shape.drop(made.name)
        shape.create(made.name)
        yield made


def test_upgrade_installs_everything_and_verify_agrees(empty_database: TestDatabase) -> None:
    url = empty_database.migrator_url
    upgraded = run("upgrade", url=url)
    assert upgraded.exit_code == 0
    assert f"{len(migrations.history())}/{len(migrations.history())}" in upgraded.output
    assert run("upgrade", url=url).exit_code == 0
    assert run("verify", url=url).exit_code == 0


def test_downgrade_asks_first(plain_database: TestDatabase) -> None:
    url = plain_database.migrator_url
    assert run("downgrade", "base", url=url).exit_code == 1
    assert migrations.current(url) == migrations.history()[-1]
    assert run("downgrade", "base", "--yes", url=url).exit_code == 0
    assert migrations.current(url) is None


def test_verify_names_a_hand_edit_and_exits_with_1(database: TestDatabase) -> None:
    with database.connect(autocommit=True) as connection:
        connection.execute("GRANT SELECT ON public.generated_reports TO anon")
    found = run("verify", "--json", url=database.migrator_url)
    assert found.exit_code == 1
    report = json.loads(found.output)
    differing = [section for section in report["sections"] if section["status"] == "differs"]
    assert "Row security and grants" in {section["title"] for section in differing}
    assert "generated_reports" in json.dumps(differing)


def test_verify_changes_nothing(plain_database: TestDatabase) -> None:
    counters = (
        "SELECT (SELECT count(*) FROM public.user_sessions), (SELECT count(*) FROM public.report_access_log),"
        " (SELECT last_value FROM public.user_sessions_id_seq)"
    )
    with plain_database.connect(autocommit=True) as connection:
        before = connection.execute(counters).fetchone()
        assert run("verify", url=plain_database.migrator_url).exit_code == 0
        assert connection.execute(counters).fetchone() == before


@pytest.mark.parametrize("command", ["upgrade", "verify", "maintain", "cleanup", "analyze"])
def test_an_unreachable_database_is_one_line_without_the_password(command: str) -> None:
    outcome = run(command, DATABASE_URL=f"postgresql://ada:{SECRET}@127.0.0.1:9/none")
    assert outcome.exit_code == 2
    assert "127.0.0.1" in outcome.output
    assert SECRET not in outcome.output
    assert "Traceback" not in outcome.output


def test_a_malformed_url_is_one_line_without_the_password() -> None:
    outcome = run("verify", DATABASE_URL=f"mysql://ada:{SECRET}@host/none")
    assert outcome.exit_code == 2
    assert "postgresql://" in outcome.output
    assert SECRET not in outcome.output


def test_no_url_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.chdir(str(tmp_path))
    outcome = run("upgrade")
    assert outcome.exit_code == 2
    assert "DATABASE_URL is not set" in outcome.output


def test_an_unknown_revision_is_one_line(plain_database: TestDatabase) -> None:
    outcome = run("upgrade", "nosuch", url=plain_database.migrator_url)
    assert outcome.exit_code == 2
    assert "nosuch" in outcome.output
    assert "Traceback" not in outcome.output
