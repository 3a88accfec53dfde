"""Migrating twice changes nothing, and two deployments at once do no harm."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from carnivore_db.schema import migrations
from tests.migrations import racing
from tests.migrations.helpers import (
    HISTORY,
    RELEASE,
    assert_same,
    eventually,
    fingerprint,
    fresh,
    heads,
    put_rows,
    waiting,
)
from tests.support.databases import Shape, TestDatabase

CATALOGS = (
    "pg_attrdef", "pg_attribute", "pg_class", "pg_constraint", "pg_default_acl", "pg_depend",
    "pg_description", "pg_extension", "pg_index", "pg_inherits", "pg_namespace", "pg_policy",
    "pg_proc", "pg_rewrite", "pg_sequence", "pg_trigger", "pg_type",
    "carnivore.alembic_version", "public.pricing_tiers",
)  # fmt: skip


@pytest.fixture(scope="module")
def race() -> Iterator[racing.Race]:
    with racing.racers() as ready:
        yield ready


def versions(database: TestDatabase) -> dict[str, list[tuple[str, ...]]]:
    """Every row version of the catalogs: whatever DDL did shows here, even when it undid itself."""
    with database.connect() as connection:
        return {
            catalog: connection.execute(
                f"SELECT ctid::text, xmin::text, tableoid::text FROM {catalog} ORDER BY ctid"
            ).fetchall()
            for catalog in CATALOGS
        }


def test_a_second_upgrade_changes_nothing(database: TestDatabase) -> None:
    put_rows(database)
    before, definitions = versions(database), fingerprint(database)
    steps: list[str] = []
    migrations.upgrade(database.migrator_url, on_step=steps.append)
    assert steps == []
    assert_same(definitions, fingerprint(database))
    assert versions(database) == before


def test_row_versions_show_ddl_that_undid_itself(plain_database: TestDatabase) -> None:
    before = versions(plain_database)
    with plain_database.connect() as connection:
        connection.execute("ALTER TABLE public.user_sessions DISABLE ROW LEVEL SECURITY")
        connection.execute("ALTER TABLE public.user_sessions ENABLE ROW LEVEL SECURITY")
    assert versions(plain_database) != before


@pytest.mark.parametrize("attempt", range(2))
def test_two_upgrades_at_once(shape: Shape, race: racing.Race, attempt: int) -> None:
    with fresh(shape) as database:
        first, second = race(database.migrator_url, database.migrator_url)
        assert sorted((first, second)) == [[], HISTORY]
        assert heads(database) == (RELEASE,)


@pytest.mark.parametrize("attempt", range(2))
def test_two_databases_of_one_new_cluster_at_once(
    spare_shape: Shape, race: racing.Race, attempt: int
) -> None:
    """Roles belong to the cluster, and both find them missing."""
    with fresh(spare_shape) as one, fresh(spare_shape) as other:
        assert race(one.migrator_url, other.migrator_url) == [HISTORY, HISTORY]
        assert_same(fingerprint(one), fingerprint(other))
        with one.connect() as connection:
            made = connection.execute(
                "SELECT rolname, rolcanlogin, rolinherit, rolbypassrls FROM pg_roles"
                " WHERE rolname IN ('anon', 'authenticated', 'service_role', 'reporting') ORDER BY 1"
            ).fetchall()
        assert made == [
            ("anon", False, False, False),
            ("authenticated", False, False, False),
            ("reporting", False, False, False),
            ("service_role", False, False, True),
        ]


@pytest.mark.parametrize("outcome", ["commit", "rollback"])
def test_roles_that_another_migration_is_just_making(spare_shape: Shape, outcome: str) -> None:
    with (
        fresh(spare_shape) as database,
        ThreadPoolExecutor(1) as thread,
        database.connect() as other,
    ):
        other.execute(
            "CREATE ROLE anon NOLOGIN; CREATE ROLE authenticated; CREATE ROLE service_role BYPASSRLS;"
            " CREATE ROLE reporting"
        )
        migrating = thread.submit(migrations.upgrade, database.migrator_url)
        eventually(lambda: migrating.done() or waiting(database) == 1)
        assert not migrating.done()
        getattr(other, outcome)()
        migrating.result()
        assert heads(database) == (RELEASE,)
