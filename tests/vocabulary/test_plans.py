"""The plans of document 001's queries, the worker's and a learner's own, at a hundred thousand learners."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.support.databases import Shape
from tests.support.plans import indexes, walk

pytestmark = pytest.mark.slow

# Triggers are off for speed: what the rows add up to does not matter here, how many and which there are does.
ROWS = """
    SET LOCAL session_replication_role = replica;
    SELECT setseed(0.001);
    INSERT INTO vocabulary.users (id, email, username)
    SELECT lpad(to_hex(n), 32, '0')::uuid, n || '@example.com', 'learner_' || n
    FROM generate_series(1, 100000) AS n;
    -- Two in five learners never ended a session.
    INSERT INTO vocabulary.user_progress (user_id, total_sessions, last_activity_at)
    SELECT id, 3, CASE WHEN random() < 0.6 THEN now() - random() * interval '300 days' END
    FROM vocabulary.users;
    -- Three sessions a learner, and two thousand of the most diligent one.
    INSERT INTO vocabulary.sessions (user_id, session_type, started_at, ended_at)
    SELECT id, 'mixed', began, began + interval '20 minutes'
    FROM (SELECT id, now() - random() * interval '300 days' AS began
        FROM vocabulary.users, generate_series(1, 3)
        UNION ALL
        SELECT '{learner}', now() - n * interval '3 hours' FROM generate_series(1, 2000) AS n) AS made;
    -- Newest first: a few wait, are made or have failed, some can be fetched, nearly all have expired.
    INSERT INTO vocabulary.export_history
        (user_id, export_type, export_format, status, created_at, updated_at,
        records_count, file_size_bytes, file_url, expires_at, error_message)
    SELECT lpad(to_hex(floor(random() * 100000)::integer + 1), 32, '0')::uuid, 'csv', 'csv', status,
        now() - n * interval '1 minute', now() - n * interval '1 minute', 9, 900,
        CASE WHEN status = 'completed' THEN 'file:///exports/' || n END,
        now() + interval '1 day' - n * interval '1 minute', CASE WHEN status = 'failed' THEN 'disk full' END
    FROM (SELECT n, CASE WHEN n <= {waiting} THEN 'pending' WHEN n <= {waiting} + 10 THEN 'processing'
            WHEN n % 500 = 0 THEN 'failed' WHEN n < 6000 THEN 'completed' ELSE 'expired' END AS status
        FROM generate_series(1, 300000) AS n) AS made;
"""
LEARNER = UUID(int=77_777)
PROGRESS = "SELECT * FROM vocabulary.user_progress WHERE user_id = %(learner)s"
RECENT = "SELECT * FROM vocabulary.user_progress {} ORDER BY last_activity_at DESC LIMIT 10"
EXPORTS = "SELECT * FROM vocabulary.export_history WHERE user_id = %(learner)s"
SESSIONS = """
    SELECT * FROM vocabulary.sessions WHERE user_id = %(learner)s ORDER BY started_at DESC, id DESC LIMIT 20
"""
WORKER = """
    SELECT * FROM vocabulary.export_history
    WHERE status = 'pending' OR status = 'processing' AND updated_at < now() - interval '5 minutes'
    ORDER BY created_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
"""
# Each query, and the indexes that it may use, all of which it must.
QUERIES = {
    "progress by user_id": (PROGRESS, {"unique_user_progress"}),
    "recent activity": (RECENT.format(""), {"idx_user_progress_last_activity"}),
    "recent activity of those who were active": (
        RECENT.format("WHERE last_activity_at IS NOT NULL"),
        {"idx_user_progress_last_activity"},
    ),
    "exports by user": (EXPORTS, {"idx_export_history_user_id"}),
    **{
        f"exports by status {status}": (
            f"SELECT * FROM vocabulary.export_history WHERE status = '{status}'",
            {"idx_export_history_status"},
        )
        for status in ("pending", "processing", "completed", "failed")
    },
    "a learner's sessions, newest first": (SESSIONS, {"idx_sessions_user_id_started_at"}),
}
OWN = {
    name: QUERIES[name]
    for name in ("progress by user_id", "exports by user", "a learner's sessions, newest first")
}
# What a client sends that leaves the choice of rows to row security.
UNASKED = {
    "progress": ("SELECT * FROM vocabulary.user_progress", {"unique_user_progress"}),
    "exports": ("SELECT * FROM vocabulary.export_history", {"idx_export_history_user_id"}),
    "sessions": (
        "SELECT * FROM vocabulary.sessions ORDER BY started_at DESC LIMIT 20",
        {"idx_sessions_user_id_started_at"},
    ),
}


def filled(shape: Shape, template: str, waiting: int) -> Iterator[psycopg.Connection]:
    with shape.clone(template) as database:
        with database.connect(autocommit=True) as connection:
            with connection.transaction():
                connection.execute(ROWS.replace("{learner}", str(LEARNER)).replace("{waiting}", str(waiting)))
            connection.execute("VACUUM (ANALYZE)")
        with database.connect() as connection:
            yield connection


@pytest.fixture(scope="module")
def big(plain_shape: Shape, plain_template: str) -> Iterator[psycopg.Connection]:
    """Three dozen exports wait."""
    yield from filled(plain_shape, plain_template, 36)


@pytest.fixture(scope="module")
def busy(plain_shape: Shape, plain_template: str) -> Iterator[psycopg.Connection]:
    """Three thousand exports wait, as after a night without a worker."""
    yield from filled(plain_shape, plain_template, 3000)


@pytest.fixture
def explain(request: pytest.FixtureRequest) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """The nodes of a query's plan, each with what it did; the plan is printed (`pytest -rP` shows it)."""
    opened: list[psycopg.Connection] = []

    def nodes(connection: psycopg.Connection, query: str, **settings: str) -> list[dict[str, Any]]:
        connection.rollback()
        opened.append(connection)
        for name, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, true)", [name.replace("__", "."), value])
        values = {"learner": LEARNER}
        shown = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS) {query}", values).fetchall()
        print(f"{query}\n", *(f"    {line}\n" for (line,) in shown))  # noqa: T201 - for whoever wants to see it
        row = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", values).fetchone()
        assert row is not None
        return list(walk(row[0][0]["Plan"]))

    yield nodes
    for connection in opened:
        connection.rollback()


def assert_uses(nodes: list[dict[str, Any]], wanted: set[str]) -> None:
    """It uses these indexes and no other, reads no table as a whole, and sorts nothing that an index has."""
    assert indexes(nodes) == wanted
    assert not [node for node in nodes if node["Node Type"] in {"Seq Scan", "Sort"}]
    assert nodes[0]["Actual Rows"] > 0


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_uses_its_index(big: psycopg.Connection, explain: Callable[..., Any], name: str) -> None:
    query, wanted = QUERIES[name]
    assert_uses(explain(big, query), wanted)


@pytest.mark.parametrize("name", OWN)
def test_a_learner_asks_for_their_own_rows_by_the_same_index(
    big: psycopg.Connection, explain: Callable[..., Any], name: str
) -> None:
    query, wanted = OWN[name]
    assert_uses(explain(big, query, **as_learner()), wanted)


@pytest.mark.parametrize("name", UNASKED)
def test_row_security_finds_a_learners_rows_by_the_index(
    big: psycopg.Connection, explain: Callable[..., Any], name: str
) -> None:
    query, wanted = UNASKED[name]
    assert_uses(explain(big, query, **as_learner()), wanted)


def as_learner() -> dict[str, str]:
    claims = json.dumps({"role": "authenticated", "sub": str(LEARNER)})
    return {"request__jwt__claims": claims, "role": "authenticated"}


@pytest.mark.parametrize(
    "load",
    [
        pytest.param("big", id="few wait"),
        pytest.param("busy", id="many wait"),
    ],
)
def test_a_worker_finds_the_next_export_without_reading_the_expired_ones(
    request: pytest.FixtureRequest, explain: Callable[..., Any], load: str
) -> None:
    nodes = explain(request.getfixturevalue(load), WORKER, role="service_role")
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan"]
    assert sum(node.get("Rows Removed by Filter", 0) for node in nodes) < 5000
