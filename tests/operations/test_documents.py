"""What the documents tell an operator to run exists, and the examples are what their readers can parse."""

import configparser
import re
from pathlib import Path

import pytest
import typer
import yaml
from typer.main import get_command

from carnivore_db.cli import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")], key=str)
COMMAND = re.compile(r"carnivore-db((?: [a-z]+)+)(?=[ `\n|\]\"]|$)")
SCHEDULING = (ROOT / "docs/scheduling.md").read_text()
RUNBOOK = (ROOT / "docs/runbook.md").read_text()


def exists(words: list[str]) -> bool:
    """Whether the first words are a command; those after it are its arguments."""
    found: typer.core.TyperGroup | object = get_command(app)
    for word in words:
        commands = getattr(found, "commands", None)
        if commands is None:
            return True
        if word not in commands:
            return False
        found = commands[word]
    return not hasattr(found, "commands")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_each_command_exists(document: Path) -> None:
    named = [found[1].split() for found in COMMAND.finditer(document.read_text())]
    assert [" ".join(words) for words in named if not exists(words)] == []


def test_a_command_that_is_none_would_be_found() -> None:
    assert not exists(["partition", "plan"])
    assert not exists(["partitions", "make"])
    assert not exists(["partitions"])
    assert exists(["archive", "restore", "report", "x"])


@pytest.mark.parametrize("document", ["runbook", "scheduling", "archive"])
def test_the_documents_name_commands(document: str) -> None:
    assert len(COMMAND.findall((ROOT / f"docs/{document}.md").read_text())) >= 3


def test_each_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for path in DOCUMENTS for name in re.findall(r"`make ([a-z-]+)", path.read_text())}
    assert named <= targets
    assert {"analyze", "partitions", "archive", "cleanup", "stats", "maintain"} <= targets


# The documents' own entries: each is a row of the runbook.
@pytest.mark.parametrize(
    "symptom",
    [
        "already exists",
        "permission denied",
        "tables are visible, but queries",
        "queries became slow",
        "no partition",
        "the disk fills",
        "index is bloated",
        "unusual access",
        "old month",
    ],
)
def test_the_runbook_has_each_of_the_documents_symptoms(symptom: str) -> None:
    rows = [line for line in RUNBOOK.splitlines() if line.startswith("| ")]
    assert any(symptom in row.split("|")[1] for row in rows)


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.+?)```", SCHEDULING, re.DOTALL)
    assert found
    return found


def test_the_cron_job_of_kubernetes_forbids_two_at_once() -> None:
    (block,) = blocks("yaml")
    job = yaml.safe_load(block)
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    program, *words = container["args"]
    assert program == "carnivore-db"
    assert exists(words)


def test_the_units_of_systemd_parse() -> None:
    units = {}
    for block in blocks("ini"):
        parser = configparser.ConfigParser()
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(block)
        units[block.split("\n")[0].rpartition(".")[2]] = parser
    assert exists(units["service"]["Service"]["ExecStart"].split()[1:])
    assert units["timer"]["Timer"]["Persistent"] == "true"


def test_the_line_of_cron_has_a_user_and_a_command() -> None:
    (line,) = blocks("cron")
    assert re.fullmatch(r"(\S+ ){5}carnivore \. \S+ && \S+/carnivore-db maintain\n", line)
