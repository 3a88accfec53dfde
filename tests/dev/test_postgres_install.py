"""The search for an installed PostgreSQL: which one it takes, and what it says when none will do."""

import os
from pathlib import Path

import pytest

from carnivore_db.dev import postgres_install
from carnivore_db.dev.postgres_install import find_postgres
from carnivore_db.errors import PostgreSQLNotFound


def fake_install(bindir: Path, version: str, *, extensions: tuple[str, ...]) -> None:
    bindir.mkdir(parents=True)
    for name in ("initdb", "pg_ctl", "postgres"):
        program = bindir / name
        program.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    controls = bindir.parent / "share" / "extension"
    controls.mkdir(parents=True)
    for extension in extensions:
        (controls / f"{extension}.control").touch()


def test_without_postgresql_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_install, "_PLACES", ())
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(PostgreSQLNotFound) as caught:
        find_postgres()
    message = str(caught.value)
    assert "\n" not in message
    for hint in ("apt-get install postgresql", "brew install postgresql@17", "make setup"):
        assert hint in message


def test_the_search_follows_links_and_passes_over_the_unfit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = ("citext", "pgcrypto")
    fake_install(tmp_path / "old" / "bin", "14.9", extensions=both)
    # Numbered beyond any release, so that no system directory can supply what it lacks.
    fake_install(tmp_path / "bare" / "bin", "9917.1", extensions=("pgcrypto",))
    fake_install(tmp_path / "good" / "bin", "9918beta1", extensions=both)
    links = tmp_path / "links"
    links.mkdir()
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    monkeypatch.setattr(postgres_install, "_PLACES", ())

    unfit = [closed, tmp_path / "old" / "bin", tmp_path / "bare" / "bin", links]
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, unfit)))
    with pytest.raises(PostgreSQLNotFound, match=r"old/bin is version 14; .*bare/bin lacks citext"):
        find_postgres()

    (links / "initdb").symlink_to(tmp_path / "good" / "bin" / "initdb")
    assert find_postgres() == tmp_path / "good" / "bin"


def test_higher_versions_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("9.6", "16", "100", "18"):
        fake_install(tmp_path / version / "bin", version, extensions=())
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(postgres_install, "_PLACES", (f"{tmp_path}/*/bin".lstrip("/"),))
    in_path, *others = postgres_install._candidates()
    assert in_path == Path("/nonexistent")
    assert [path.parent.name for path in others] == ["100", "18", "16", "9.6"]
