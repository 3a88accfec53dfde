"""A search of the logs reads the index of each month, and nothing as a whole."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from carnivore_db.conversation import logs
from carnivore_db.conversation.models import Log
from carnivore_db.kit.paging import Page
from tests.conversation.samples import SERVICE, Person, sign_up
from tests.support.databases import Shape, TestDatabase
from tests.support.plans import indexes, nodes_of

# Three months of events, few of which are of one session or have one fact.
FILL = """
    SELECT carnivore.create_partition('conversation.logs', month)
    FROM unnest(ARRAY['2031-05-01', '2031-06-01', '2031-07-01']::date[]) AS month;
    INSERT INTO conversation.sessions (id, user_id, scenario_id, is_completed, started_at, completed_at)
    SELECT md5(n::text)::uuid, p.id, 1, true, '2025-01-01 00:00+00', '2025-02-01 00:00+00'
    FROM conversation.profiles AS p, generate_series(1, 200) AS n;
    INSERT INTO conversation.logs (level, event_type, user_id, session_id, metadata, created_at)
    SELECT (ARRAY['error', 'warn', 'info', 'debug'])[n % 4 + 1], 'api_call_completed', p.id,
        md5((n % 200 + 1)::text)::uuid, jsonb_build_object('call', n, 'model', n % 3),
        timestamptz '2031-05-01 00:00+00' + (n % 90) * interval '1 day'
    FROM conversation.profiles AS p, generate_series(1, 20000) AS n;
"""
FILLED = UUID("c4ca4238-a0b9-2382-0dcc-509a6f75849b")  # md5 of '1'
MONTHS = ("logs_2031_05", "logs_2031_06", "logs_2031_07")
# The query, the index, and what PostgreSQL calls its part in a partition.
PLANS: dict[str, tuple[Callable[[Session], Page[Log]], str, str]] = {
    "metadata": (lambda tx: logs.search(tx, metadata={"call": 77}), "idx_logs_metadata", "metadata_idx"),
    "session": (
        lambda tx: logs.search(tx, session_id=FILLED, limit=20),
        "idx_logs_session",
        "session_id_created_at_idx",
    ),
}


@pytest.fixture(scope="module")
def filled(plain_shape: Shape, plain_template: str) -> Iterator[tuple[TestDatabase, Person]]:
    """A database with twenty thousand events of somebody, and of nobody else."""
    with plain_shape.clone(plain_template) as made:
        with made.connect(autocommit=True) as owner:
            person = sign_up(owner)
            with owner.transaction():
                owner.execute(FILL)
            owner.execute("VACUUM (ANALYZE)")
        yield made, person


def whole(nodes: list[dict[str, Any]]) -> list[str]:
    """Months with events that are read as a whole."""
    scans = [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"]
    return [month for month in scans if month in MONTHS]


@pytest.mark.document(19, 23)
@pytest.mark.parametrize("by", PLANS)
def test_a_search_uses_its_index(filled: tuple[TestDatabase, Person], by: str) -> None:
    database, _ = filled
    query, _, name = PLANS[by]
    nodes = nodes_of(database.app_url, SERVICE, query)
    assert {f"{month}_{name}" for month in MONTHS} <= indexes(nodes)
    assert whole(nodes) == []


@pytest.mark.document(19, 23)
@pytest.mark.parametrize("by", PLANS)
def test_without_its_index_a_search_takes_another_way(filled: tuple[TestDatabase, Person], by: str) -> None:
    """The plans above could be others."""
    database, _ = filled
    query, index, name = PLANS[by]
    nodes = nodes_of(database.migrator_url, SERVICE, query, f"DROP INDEX conversation.{index}")
    assert not [found for found in indexes(nodes) if found.endswith(name)]


def test_a_search_since_then_leaves_earlier_months_out(filled: tuple[TestDatabase, Person]) -> None:
    database, _ = filled
    with database.connect() as owner:
        (june,) = owner.execute("SELECT timestamptz '2031-06-15 00:00+00'").fetchone() or (None,)
    nodes = nodes_of(database.app_url, SERVICE, lambda tx: logs.search(tx, since=june))
    read = {node["Relation Name"] for node in nodes if "Relation Name" in node}
    assert read & set(MONTHS) == set(MONTHS[1:])


@pytest.mark.document(24)
def test_row_security_finds_a_persons_events(filled: tuple[TestDatabase, Person]) -> None:
    """Somebody of whom there are none reads none."""
    database, _ = filled
    with database.connect(autocommit=True) as owner:
        stranger = sign_up(owner)
    nodes = nodes_of(database.app_url, stranger.identity, lambda tx: logs.search(tx, limit=20))
    assert whole(nodes) == []
