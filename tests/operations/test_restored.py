"""A database restored from a dump is the same database: it verifies, maintains, goes back and comes again."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from carnivore_db.dev.postgres_install import find_postgres
from carnivore_db.schema import migrations
from tests.cli import running
from tests.support import rows
from tests.support.databases import Shape, TestDatabase

# How it is dumped and restored.
WAYS = {
    "custom": (["-Fc"], []),
    "jobs": (["-Fd", "-j2"], ["-j2"]),
    "another owner": (["-Fc", "--no-owner"], ["--no-owner", "--role=other_deployer"]),
    "plain": (["-Fp"], None),
}


def program(name: str) -> str:
    """pg_dump of the server's own version; npm's packages have none."""
    path = find_postgres() / name
    if not path.exists():
        pytest.skip(f"{path.parent} has no {name}")
    return str(path)


def did(*command: str, **options: object) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture
def filled(plain_database: TestDatabase) -> TestDatabase:
    with plain_database.connect() as connection:
        rows.fill(connection)
    return plain_database


@pytest.fixture
def restored(filled: TestDatabase, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[TestDatabase]:
    shape, (dumping, restoring) = filled.shape, WAYS[request.param]
    name = f"carnivore_restored_{os.getpid()}_{time.monotonic_ns()}"
    with psycopg.connect(shape.server.dsn("postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        if request.param == "another owner":
            admin.execute("CREATE ROLE other_deployer LOGIN CREATEROLE; GRANT service_role TO other_deployer")
            admin.execute(f"ALTER DATABASE {name} OWNER TO other_deployer")
            shape = replace(shape, migrator="other_deployer")
        file = str(tmp_path / "dump")
        did(program("pg_dump"), *dumping, "-f", file, "-d", filled.shape.server.dsn(filled.name))
        if restoring is None:
            did(program("psql"), "-q", "-v", "ON_ERROR_STOP=1", "-f", file, "-d", shape.server.dsn(name))
        else:
            did(program("pg_restore"), *restoring, "-d", shape.server.dsn(name), file)
        yield TestDatabase(shape, name)
        admin.execute(f"DROP DATABASE {name} (FORCE)")
        admin.execute("DROP ROLE IF EXISTS other_deployer")


@pytest.mark.parametrize(
    "restored",
    [pytest.param(way, marks=[] if way == "plain" else [pytest.mark.slow]) for way in WAYS],
    indirect=True,
)
def test_a_restored_database_is_the_same(restored: TestDatabase) -> None:
    url = restored.migrator_url
    assert "Mended: 0. Left: 0." in running.run("repair", url=url).output
    # As the first one's would be: rows wait for their month, and logs that are old for their end.
    for command in ("partitions apply", "cleanup"):
        assert running.run(*command.split(), url=url, CARNIVORE_DB_EXPORT_LOCATION=None).exit_code in {0, 1}
    verified = running.run("verify", url=url)
    assert verified.exit_code == 0, verified.output
    # What is damaged there is seen as everywhere else.
    with restored.connect(autocommit=True) as connection:
        connection.execute("GRANT SELECT ON public.user_sessions TO anon")
        connection.execute("ALTER TABLE conversation.logs DROP CONSTRAINT level_valid")
    seen = running.run("verify", url=url).output
    assert "grants on public.user_sessions" in seen
    assert "constraint conversation.logs.level_valid: missing" in seen
    migrations.downgrade(url, "base")
    migrations.upgrade(url)
    assert running.run("verify", url=url).exit_code == 0


def test_a_restored_copy_does_not_touch_the_first_ones_files(shape: Shape) -> None:
    """Its identity is another; a copy of the server's files would have the same."""
    identity = "SELECT format('%s/%s', system_identifier, oid) FROM pg_control_system(), pg_database"
    with psycopg.connect(shape.server.dsn("postgres")) as connection:
        found = connection.execute(identity).fetchall()
    assert len({one for (one,) in found}) == len(found) > 2
