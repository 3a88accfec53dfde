"""`carnivore-db` as an operator types it: what it does, its exit status, what it must not print."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from carnivore_db.schema import migrations
from carnivore_db.schema.areas import AREAS, Area
from tests.cli.running import NOWHERE, PASSWORD, run
from tests.support.databases import Shape, TestDatabase


@pytest.fixture
def empty_database(shape: Shape) -> Iterator[TestDatabase]:
    yield from _empty(shape)


@pytest.fixture
def empty(plain_shape: Shape) -> Iterator[TestDatabase]:
    """On plain PostgreSQL alone."""
    yield from _empty(plain_shape)


def _empty(shape: Shape) -> Iterator[TestDatabase]:
    with shape.clone("template0") as made:
        shape.drop(made.name)
        shape.create(made.name)
        yield made


def installed(database: TestDatabase) -> dict[str, str | None]:
    """What `areas --json` says, whose `current` is looked at too."""
    shown = json.loads(run("areas", "--json", url=database.migrator_url).output)
    assert all(area["current"] == (area["revision"] == area["latest"]) for area in shown)
    return {area["area"]: area["revision"] for area in shown}


def test_upgrade_installs_everything_and_verify_agrees(empty_database: TestDatabase) -> None:
    url = empty_database.migrator_url
    upgraded = run("upgrade", url=url)
    assert upgraded.exit_code == 0
    assert f"{len(migrations.history())}/{len(migrations.history())}" in upgraded.output
    assert run("upgrade", url=url).exit_code == 0
    assert run("verify", url=url).exit_code == 0
    assert installed(empty_database) == {area: migrations.tip(area) for area in AREAS}


def test_downgrade_asks_first(plain_database: TestDatabase) -> None:
    url = plain_database.migrator_url
    for arguments in (["base"], ["--area", "weekly"]):
        assert run("downgrade", *arguments, url=url).exit_code == 1
    assert migrations.applied(url)[0] == migrations.history()[-1]
    assert run("downgrade", "base", "--yes", url=url).exit_code == 0
    assert migrations.applied(url) == []


@pytest.mark.parametrize("area", AREAS)
def test_an_area_is_installed_looked_at_kept_up_and_taken_back_alone(empty: TestDatabase, area: Area) -> None:
    """Every command knows what is there, and asks for nothing of the others."""
    url = empty.migrator_url
    only = dict.fromkeys(AREAS) | {area: migrations.tip(area)}
    for _ in range(2):
        assert run("upgrade", "--area", area, url=url).exit_code == 0
        assert installed(empty) == only
    found = {command: run(*command.split(), url=url) for command in EVERYWHERE}
    assert [outcome.exit_code for outcome in found.values()] == [0] * len(EVERYWHERE)
    verified = json.loads(found["verify --json"].output)["sections"]
    assert verified[-1]["facts"]["areas"] == [f"{area} at {migrations.tip(area)}"]
    assert verified[9]["status"] == ("ok" if area == "weekly" else "skipped")
    shown = json.loads(found["stats --json"].output)
    partitioned = {"weekly": ["public.report_access_log"], "conversation": ["conversation.logs"]}.get(
        area, []
    )
    assert [months["table"] for months in shown["months"]] == partitioned
    assert {part["table"] for part in shown["partitions"]} == set(partitioned)
    assert {table["name"].split(".")[0] for table in shown["tables"]} == SCHEMAS[area] | {"carnivore"}
    jobs = {step["job"] for step in json.loads(found["maintain --json"].output)["steps"]}
    assert jobs == {"partitions", "archive", "sizes", *JOBS[area]}
    due = json.loads(found["cleanup --dry-run --json"].output)
    assert due == {rule: {"due": 0, "held": 0} for rule in DELETING[area]}
    others = [other for other in AREAS if other != area]
    other = found["areas"].output
    assert all(f"{name} " in other for name in AREAS)
    assert other.count("not installed") == len(others)

    assert run("upgrade", *(f"--area={name}" for name in others), url=url).exit_code == 0
    assert migrations.applied(url)[0] == migrations.history()[-1]  # with all of them it is the release
    assert run("downgrade", "--yes", *(f"--area={name}" for name in others), url=url).exit_code == 0
    assert installed(empty) == only
    assert run("verify", url=url).exit_code == 0
    assert run("downgrade", "--yes", "--area", area, url=url).exit_code == 0
    assert installed(empty) == dict.fromkeys(AREAS)
    again = run("downgrade", "--yes", "--area", area, url=url)
    assert (again.exit_code, again.stderr.strip()) == (2, f"the area {area} is not installed")


EVERYWHERE = [
    "maintain --json",
    "cleanup --dry-run --json",
    "analyze",
    "stats --json",
    "verify --json",
    "areas",
]
SCHEMAS = {"weekly": {"public", "analytics"}, "vocabulary": {"vocabulary"}, "conversation": {"conversation"}}
DELETING = {
    "weekly": {"calculator_sessions", "reports", "report_pages"},
    "vocabulary": {"exports"},
    "conversation": {"idle_conversations", "old_logs"},
}
JOBS = {
    "weekly": {"fold", "analytics", *DELETING["weekly"]},
    "vocabulary": DELETING["vocabulary"],
    "conversation": {"weekly_limits", "message_archive", *DELETING["conversation"]},
}


@pytest.mark.parametrize(
    "arguments", [("upgrade",), ("downgrade", "--yes"), ("demo",)], ids=lambda words: words[0]
)
def test_an_unknown_area_is_told_with_those_there_are(arguments: tuple[str, ...]) -> None:
    outcome = run(*arguments, "--area", "weekly", "--area", "monthly")
    assert outcome.exit_code == 2
    assert f"monthly is none of {', '.join(AREAS)}" in " ".join(outcome.output.replace("│", "").split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("upgrade", "head", "--area", "weekly"),
        ("downgrade", "--yes"),
        ("downgrade", "base", "--area", "weekly"),
    ],
    ids=" ".join,
)
def test_it_is_a_revision_or_areas(arguments: tuple[str, ...]) -> None:
    outcome = run(*arguments)
    assert outcome.exit_code == 2
    assert "either a revision or --area" in outcome.output


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


def test_verify_asks_for_as_many_months_as_the_settings(plain_database: TestDatabase) -> None:
    with plain_database.connect() as connection:
        connection.execute(
            "DO $$ BEGIN EXECUTE 'DROP TABLE public.report_access_log_'"
            " || to_char(now() AT TIME ZONE 'UTC' + interval '2 months', 'YYYY_MM'); END $$"
        )

    def verified(*arguments: str, **environment: str) -> Result:
        return run("verify", *arguments, url=plain_database.migrator_url, **environment)

    one = {"CARNIVORE_DB_PARTITION_MONTHS_AHEAD": "1"}
    assert [verified().exit_code, verified(**one).exit_code] == [1, 0]
    assert [verified("--months-ahead", "2", **one).exit_code, verified("--months-ahead", "0").exit_code] == [
        1,
        0,
    ]
    assert "partitioned table public.report_access_log: no partition for" in verified().output


LOOK = [
    *("upgrade", "upgrade --area weekly", "downgrade base --yes", "areas", "verify", "stats"),
    *("maintain", "cleanup", "cleanup --dry-run", "analyze", "partitions plan", "partitions apply"),
    *("archive run", "archive list", "exports work", "exports expire", "exports list", "keys reencrypt"),
]
SETTINGS = {
    "CARNIVORE_DB_ENCRYPTION_KEYS": json.dumps({"k1": base64.b64encode(bytes(32)).decode()}),
    "CARNIVORE_DB_ARCHIVE_LOCATION": "memory://cold",
}


@pytest.mark.parametrize("command", LOOK)
def test_what_an_operator_can_mend_is_one_line_and_exit_status_2(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # no .env
    for url, words in (
        (NOWHERE, "127.0.0.1"),
        (f"mysql://ada:{PASSWORD}@host/none", "postgresql://"),
        (None, "DATABASE_URL is not set"),
    ):
        outcome = run(*command.split(), DATABASE_URL=url, **SETTINGS)
        assert outcome.exit_code == 2
        assert words in outcome.stderr
        assert len(outcome.stderr.strip().splitlines()) == 1


def test_an_unknown_revision_is_one_line(plain_database: TestDatabase) -> None:
    outcome = run("upgrade", "nosuch", url=plain_database.migrator_url)
    assert outcome.exit_code == 2
    assert "nosuch" in outcome.stderr
