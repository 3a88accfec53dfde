"""The law of the counters under any sequence of operations: column + pending = rows, at every step."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

import psycopg
import pytest

from tests.support import laws, reports
from tests.support.databases import Shape

YEAR_2000, YEAR_2031 = datetime(2000, 1, 1, tzinfo=UTC), datetime(2031, 5, 1, tzinfo=UTC)
MODES = ("immediate", "deferred")


@pytest.fixture(scope="module")
def connection(plain_shape: Shape, plain_template: str) -> Iterator[psycopg.Connection]:
    with plain_shape.clone(plain_template) as database, database.connect() as opened:
        yield opened


def as_role(tx: psycopg.Connection, role: str, mode: str = "immediate") -> None:
    tx.execute(
        "SELECT set_config('role', %s, true), set_config('carnivore.access_counting', %s, true)", [role, mode]
    )


def made(tx: psycopg.Connection) -> dict[int, str]:
    """The tokens of the reports by id; one at least is never deleted."""
    as_role(tx, "none")
    return dict(tx.execute("SELECT id, access_token FROM public.generated_reports ORDER BY id").fetchall())


def open_one(tx: psycopg.Connection, choose: Random) -> None:
    token = choose.choice([*made(tx).values()])
    as_role(tx, "anon", choose.choice(MODES))
    tx.execute("SELECT public.open_report(%s)", [token])


def insert_a_batch(tx: psycopg.Connection, choose: Random) -> None:
    """Late rows, early rows, rows of months without a partition, and none at all."""
    ids = choose.choices([*made(tx)], k=choose.randrange(21))
    moment = YEAR_2000 + timedelta(days=36_524) * choose.random()
    as_role(tx, "service_role", choose.choice(MODES))
    tx.execute(
        "INSERT INTO public.report_access_log (report_id, accessed_at)"
        " SELECT unnest(%s::bigint[]), coalesce(%s::timestamptz, now())",
        [ids, choose.choice((None, moment))],
    )


def insert_into_the_default_partition(tx: psycopg.Connection, choose: Random) -> None:
    report, number = choose.choice([*made(tx)]), choose.randint(1, 10**6)
    as_role(tx, "none", choose.choice(MODES))
    tx.execute(
        "INSERT INTO public.report_access_log_default (id, report_id, accessed_at)"
        " VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        [-number, report, YEAR_2031 + timedelta(hours=number % 9)],
    )


def fold(tx: psycopg.Connection, choose: Random) -> None:
    as_role(tx, "service_role")
    tx.execute("SELECT public.fold_report_access(%s)", [choose.randint(1, 4)])


def delete(tx: psycopg.Connection, choose: Random) -> None:
    ids = [*made(tx)]
    as_role(tx, "service_role")
    deleted = choose.sample(ids, min(1, len(ids) - 1))
    tx.execute("DELETE FROM public.generated_reports WHERE id = ANY(%s)", [deleted])


def test_the_law_holds_after_every_operation(connection: psycopg.Connection) -> None:
    def begin() -> psycopg.Connection:
        reports.make(connection, 4)
        return connection

    def check() -> None:
        as_role(connection, "none")
        assert connection.execute(reports.BROKEN).fetchall() == []

    changes = (open_one, insert_a_batch, insert_into_the_default_partition, fold, delete)
    laws.holds_after_every_change(connection, begin, changes, check, examples=40)


def test_in_immediate_mode_the_column_is_right_after_any_insert(connection: psycopg.Connection) -> None:
    connection.rollback()
    first, second = reports.make(connection, 2)
    late = datetime(2026, 3, 1, tzinfo=UTC)
    connection.execute("SET LOCAL ROLE service_role")
    connection.execute(
        "INSERT INTO public.report_access_log (report_id, accessed_at)"
        " VALUES (%s, now()), (%s, %s), (%s, now() + interval '1 hour'), (%s, now())",
        [first, second, late, first, first],
    )
    found = connection.execute(
        "SELECT id, access_count, last_accessed_at - now(), last_accessed_at = created_at"
        " FROM public.generated_reports ORDER BY id"
    ).fetchall()
    # The late row belongs to a report younger than it: counted, and its creation is the latest access.
    assert found == [(first, 3, timedelta(hours=1), False), (second, 1, timedelta(0), True)]
    assert connection.execute("SELECT count(*) FROM public.report_access_pending").fetchone() == (0,)
    connection.rollback()
