"""Plans of queries: their nodes, and the indexes that they use."""

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import URL, event, text
from sqlalchemy.orm import Session

from carnivore_db import Database, Identity


def plan(tx: Session, query: Callable[[Session], object]) -> list[dict[str, Any]]:
    """The nodes of the plan of the last statement that `query` sends."""
    sent: list[tuple[str, Any]] = []
    connection = tx.connection()

    def note(_1: object, _2: object, statement: str, parameters: Any, *_: object) -> None:
        sent.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    query(tx)
    event.remove(connection, "before_cursor_execute", note)
    statement, parameters = sent[-1]
    (shown,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
    return list(walk(shown["Plan"]))


def nodes_of(
    url: URL, who: Identity, query: Callable[[Session], object], before: str = "SELECT"
) -> list[dict[str, Any]]:
    """The plan of a query, of somebody who did something before; all is taken back."""
    database = Database(url)
    with database.engine.connect() as connection, Session(connection) as tx:
        tx.execute(text(before))
        connection.exec_driver_sql(*who.statement())
        found = plan(tx, query)
    database.close()
    return found


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A node of a plan, and all below it."""
    yield node
    for below in node.get("Plans", []):
        yield from walk(below)


def indexes(nodes: list[dict[str, Any]]) -> set[str]:
    return {node["Index Name"] for node in nodes if "Index Name" in node}
