"""Every revision goes up, down and up again, with rows in the tables, and leaves no trace."""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from carnivore_db.schema import migrations, snapshot
from carnivore_db.schema.areas import AREAS, PLATFORM, Area
from carnivore_db.schema.snapshot import Snapshot
from tests.migrations.helpers import (
    HISTORY,
    RELEASE,
    assert_same,
    driver,
    fingerprint,
    fresh,
    heads,
    only,
    opened,
    put_rows,
    take_back,
)
from tests.support.databases import Shape, TestDatabase
from tests.support.rows import Row, contents, counts


@dataclass(frozen=True)
class State:
    """What a database holds: definitions and rows."""

    fingerprint: Snapshot
    rows: dict[str, list[Row]]


def seen(connection: Connection) -> State:
    return State(snapshot.fingerprint(connection), contents(driver(connection)))


def state(database: TestDatabase) -> State:
    with opened(database) as connection:
        return seen(connection)


def tamper(database: TestDatabase, script: str) -> None:
    with opened(database) as connection:
        connection.exec_driver_sql(script)
        connection.commit()


def without_history(whole: Snapshot) -> Snapshot:
    """All but Alembic's own table, which comes with the first revision and stays at base."""
    own = re.compile(r"carnivore(\.alembic_version(\..+)?)?")
    return only(whole, lambda identity: not own.fullmatch(identity))


def assert_gone_back(before: State, filled: State, now: State) -> None:
    """The definitions are those from before the upgrade; each row of the tables of then is there still."""
    assert_same(without_history(before.fingerprint), without_history(now.fingerprint))
    assert_nothing_lost(before, filled, now)


def assert_nothing_lost(before: State, one: State, other: State) -> None:
    """In the tables of before, both hold the same rows, in all the columns that both know."""
    for table in before.rows:
        left, right = one.rows[table], other.rows.get(table, [])
        known = {column for row in left for column in named(row)} & {
            column for row in right for column in named(row)
        }
        changed = texts(left, known) ^ texts(right, known)
        assert not changed, f"rows of {table} went or came: {changed}"
        assert len(left) == len(right), table


def texts(rows: list[Row], known: Collection[str]) -> set[str]:
    return {
        json.dumps({column: value for column, value in sorted(named(row).items()) if column in known})
        for row in rows
    }


# What the refinement of the chat calls by another name is the same still.
RENAMED = {"sent_at": "timestamp", "main_assistant": "scenario", "helper_assistant": "helper"}


def named(row: Row) -> Row:
    return {
        RENAMED.get(column, column): RENAMED.get(value, value) if isinstance(value, str) else value
        for column, value in row.items()
    }


def round_trip(database: TestDatabase, revision: str, *, after_down: str = "", after_up: str = "") -> None:
    """From the revision before, with the rows of its trip, up, down and up again; the two scripts play a bad
    downgrade and upgrade."""
    before, followed = state(database), heads(database)

    migrations.upgrade(database.migrator_url, revision)
    assert_nothing_lost(before, before, state(database))
    put_rows(database)
    after = state(database)

    take_back(database, revision)
    assert heads(database) == followed
    tamper(database, after_down)
    assert_gone_back(before, after, state(database))

    migrations.upgrade(database.migrator_url, revision)
    tamper(database, after_up)
    put_rows(database)
    assert_same(after.fingerprint, fingerprint(database))


def round_trips(database: TestDatabase, revisions: list[str]) -> None:
    for revision in revisions:
        try:
            round_trip(database, revision)
        except Exception as error:
            error.add_note(f"in the round trip of {revision}")
            raise


@pytest.mark.parametrize("area", AREAS)
def test_every_revision_goes_up_down_and_up_again(empty: TestDatabase, area: Area) -> None:
    """The trunk, and an area's branch where there is no other."""
    trunk = HISTORY[: HISTORY.index(PLATFORM) + 1]
    if area == AREAS[0]:
        round_trips(empty, trunk)
    else:
        migrations.upgrade(empty.migrator_url, PLATFORM)
    round_trips(empty, migrations.of_area(area))


def test_a_release_goes_up_down_and_up_again(empty: TestDatabase) -> None:
    for area in AREAS:
        migrations.upgrade(empty.migrator_url, migrations.tip(area))
    put_rows(empty)
    round_trip(empty, RELEASE)


@pytest.fixture(scope="module")
def own(plain_shape: Shape) -> dict[str, set[tuple[str, str]]]:
    """What each area adds to the platform, by kind and identity."""
    found: dict[str, set[tuple[str, str]]] = {}
    for name in (PLATFORM, *AREAS):
        with fresh(plain_shape) as made:
            migrations.upgrade(made.migrator_url, PLATFORM if name == PLATFORM else migrations.tip(name))
            found[name] = {(kind, key) for kind, part in fingerprint(made).items() for key in part}
    return {area: found[area] - found[PLATFORM] for area in AREAS}


@pytest.mark.parametrize("area", AREAS)
def test_a_revision_is_taken_back_where_the_other_areas_are(
    database: TestDatabase, own: dict[str, set[tuple[str, str]]], area: Area
) -> None:
    """They keep rows, triggers, grants and everything else."""
    put_rows(database)
    others = tuple(migrations.tip(other) for other in AREAS if other != area)

    def of_the_others() -> tuple[Snapshot, dict[str, list[Row]]]:
        now = state(database)
        kept = {
            kind: {
                key: told
                for key, told in part.items()
                # Its own partitions are of other months, where a month ended meanwhile.
                if (kind, key) not in own[area] and key in known[kind] and not key.startswith(f"{area}.")
            }
            for kind, part in now.fingerprint.items()
        }
        return kept, {table: rows for table, rows in now.rows.items() if ("tables", table) not in own[area]}

    known = fingerprint(database)
    before = of_the_others()
    assert len({table.split(".")[0] for table in before[1]}) >= len(AREAS)  # of two areas, and the logins
    for revision in reversed(migrations.of_area(area)):
        take_back(database, revision)
        assert set(heads(database)) >= set(others)
        definitions, rows = of_the_others()
        assert_same(before[0], definitions)
        assert rows == before[1], revision


def test_the_whole_history_goes_down_and_up_again(empty: TestDatabase) -> None:
    tamper(empty, "CREATE TABLE public.blog_posts (id integer); INSERT INTO public.blog_posts VALUES (1)")
    tamper(empty, "GRANT SELECT ON public.blog_posts TO PUBLIC")
    roles_before = roles(empty)
    put_rows(empty)
    untouched = state(empty)
    migrations.upgrade(empty.migrator_url)
    put_rows(empty)
    first = state(empty)
    roles_after = roles(empty)
    assert [role for role in roles_before if role not in roles_after] == []

    migrations.downgrade(empty.migrator_url, "base")
    at_base = state(empty)
    # On Supabase that is `auth`, `extensions` and the default privileges, too.
    assert_gone_back(untouched, first, at_base)
    assert ours(at_base.fingerprint) == {
        "carnivore",
        "carnivore.alembic_version",
        "carnivore.alembic_version.alembic_version_pkc",
        "carnivore.alembic_version.version_num",
    }
    assert at_base.fingerprint["schemas"]["carnivore"] == {"acl": {}, "owner": "migrator"}
    assert not at_base.fingerprint["tables"]["carnivore.alembic_version"]["row_security"]
    assert not [
        identity
        for kind in at_base.fingerprint.values()
        for identity, definition in kind.items()
        if identity.startswith("carnivore") and "comment" in definition
    ]
    assert heads(empty) == ()
    assert roles(empty) == roles_after

    migrations.upgrade(empty.migrator_url)
    put_rows(empty)
    assert_same(first.fingerprint, state(empty).fingerprint)


def ours(whole: Snapshot) -> Collection[str]:
    return {identity for kind in whole.values() for identity in kind if identity.startswith("carnivore")}


def roles(database: TestDatabase) -> list[tuple[object, ...]]:
    """Attributes and memberships of the four roles."""
    with database.connect() as connection:
        return connection.execute("""
            SELECT to_jsonb(r), (SELECT jsonb_agg(to_jsonb(m) ORDER BY m.roleid)
                                 FROM pg_auth_members AS m WHERE m.member = r.oid)
            FROM pg_roles AS r WHERE rolname IN ('anon', 'authenticated', 'service_role', 'reporting')
            ORDER BY rolname
        """).fetchall()


@pytest.mark.parametrize("revision", ["012_access_log", "012_reports"])
def test_no_access_is_lost_on_the_way_down(plain_database: TestDatabase, revision: str) -> None:
    put_rows(plain_database)
    with plain_database.connect() as connection:
        before = counts(connection)
    migrations.downgrade(plain_database.migrator_url, revision)
    with plain_database.connect() as connection:
        assert counts(connection) == before


BEGUN = """
    INSERT INTO carnivore.archived_partitions (parent, month, part, file_url)
    VALUES ('public.report_access_log', '2026-01-01', 1, 'file:///a'), ('conversation.logs', '2026-01-01', 1, 'file:///l')
"""


@pytest.mark.parametrize("area", ["weekly", "conversation"])
def test_an_area_stays_while_months_of_it_are_in_the_archive(
    plain_database: TestDatabase, area: Area
) -> None:
    """Which files there are, the ledger alone knows. Months whose file was only begun are there still."""
    put_rows(plain_database)
    tamper(plain_database, BEGUN)
    tamper(plain_database, "UPDATE carnivore.archived_partitions SET detached_at = now()")
    migrations.downgrade(plain_database.migrator_url, migrations.tip(area))  # of the release alone
    before = state(plain_database)
    with pytest.raises(IntegrityError, match=r"the archive holds months of .*; nothing was changed"):
        migrations.downgrade_area(plain_database.migrator_url, area)
    after = state(plain_database)
    assert_same(before.fingerprint, after.fingerprint)
    assert before.rows == after.rows

    tamper(plain_database, "UPDATE carnivore.archived_partitions SET detached_at = NULL")
    migrations.downgrade_area(plain_database.migrator_url, area)
    with plain_database.connect() as connection:
        left = connection.execute(
            "SELECT split_part(parent, '.', 1) FROM carnivore.archived_partitions"
        ).fetchall()
    assert left == [("conversation" if area == "weekly" else "public",)]


# What a downgrade may have done or left undone, and what the failure must name.
BAD_DOWNGRADES = {
    "CREATE FUNCTION public.left_behind() RETURNS integer LANGUAGE sql AS 'SELECT 1'": (
        "function public.left_behind()"
    ),
    "GRANT INSERT ON public.user_sessions TO anon": "grants on public.user_sessions",
    "DROP POLICY auth_user_sessions_read ON public.user_sessions": "policy public.user_sessions.auth_user",
    "DROP TABLE public.report_access_log_2026_02": "report_access_log_2026_02",
    "DELETE FROM public.user_sessions WHERE email = 'visitor@example.com'": "visitor@example.com",
    "UPDATE public.user_sessions SET path_choice = 'paleo' WHERE path_choice = 'keto'": "paleo",
}


@pytest.fixture(scope="module")
def filled(plain_shape: Shape, plain_template: str) -> Iterator[TestDatabase]:
    with plain_shape.clone(plain_template) as made:
        put_rows(made)
        yield made


@pytest.mark.parametrize("script", BAD_DOWNGRADES)
def test_the_comparison_notices_a_bad_downgrade(filled: TestDatabase, script: str) -> None:
    before = state(filled)
    with opened(filled) as connection:
        connection.exec_driver_sql(script)
        now = seen(connection)
    with pytest.raises(AssertionError) as failure:
        assert_gone_back(before, before, now)
    assert BAD_DOWNGRADES[script] in str(failure.value)


@pytest.mark.parametrize("when", ["after_down", "after_up"])
def test_the_round_trip_notices_a_bad_revision(plain_database: TestDatabase, when: str) -> None:
    last = migrations.tip("weekly")
    take_back(plain_database, last)
    with pytest.raises(AssertionError, match=r"grants on public\.user_sessions"):
        round_trip(plain_database, last, **{when: "GRANT INSERT ON public.user_sessions TO anon"})
