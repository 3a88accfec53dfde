"""Check a token: the function beside the bare statement, the package beside what a team would write."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import psycopg
from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import Session

from benchmarks import asynchronous, synchronous
from benchmarks.bench import Bench
from benchmarks.mature import World
from benchmarks.rivals import Report
from benchmarks.rounds import Comparison, Operation, Side, Turns
from carnivore_db import identity
from carnivore_db.connection.autocommit import Autocommit
from carnivore_db.weekly import reports

BARE = "SELECT id, expires_at FROM public.generated_reports WHERE access_token = %s AND expires_at > now()"
FUNCTION = "SELECT report_id, expires_at FROM public.check_report(%s)"
FUNCTION_IN_SQL = "SELECT report_id, expires_at FROM rivals_bare.check_report(%s)"
POLICY = "SELECT id, expires_at FROM public.generated_reports"
CLAIMS = (
    "SELECT set_config('request.jwt.claims', '{\"role\": \"anon\"}', true),"
    " set_config('carnivore.report_token', %s, true)"
)


def found(row: object) -> None:
    """A comparison in which nothing is found compares nothing."""
    if row is None:
        raise LookupError("a token of an open report opened nothing")


def prepared(world: World, statement: str, tokens: list[str], *, prepare: bool = True) -> Any:
    """Each client has a connection, in autocommit, where the statement is prepared (or not)."""

    def do(connection: psycopg.Connection, token: str) -> None:
        found(connection.execute(statement, [token], prepare=prepare).fetchone())

    return synchronous.through_psycopg(world, asynchronous.turns(tokens), do)


def four_round_trips(world: World, tokens: list[str], *, pipelined: bool = False) -> Any:
    """As the application, under the policy: role, claims and token set first, in a transaction.

    `pipelined`: sent together. BEGIN is written out there, for the driver awaits the answer to its own.
    """

    @contextmanager
    def connect(clients: range) -> Iterator[list[Operation]]:
        with ExitStack() as stack:

            def operation(client: int) -> Operation:
                connection = stack.enter_context(psycopg.connect(world.login_dsn, autocommit=True))
                turns = Turns(tokens, client)

                def asked() -> psycopg.Cursor:
                    connection.execute("BEGIN")
                    connection.execute("SET LOCAL ROLE anon")
                    connection.execute(CLAIMS, [turns.next()])
                    cursor = connection.execute(POLICY)
                    connection.execute("COMMIT")
                    return cursor

                def run() -> None:
                    with connection.pipeline() if pipelined else nullcontext():
                        cursor = asked()
                    found(cursor.fetchone())

                return run

            yield [operation(client) for client in clients]

    return connect


def one_message(world: World, statement: str, tokens: list[str], *, parameter: bool = False) -> Any:
    """Role, claims, token and the question in one message, which is one transaction by itself."""
    whole = f"SELECT set_config('role', 'anon', true); {CLAIMS}; {statement}"

    @contextmanager
    def connect(clients: range) -> Iterator[list[Operation]]:
        with ExitStack() as stack:

            def operation(client: int) -> Operation:
                connection = stack.enter_context(psycopg.connect(world.login_dsn, autocommit=True))
                cursor = psycopg.ClientCursor(connection)
                turns = Turns(tokens, client)

                def run() -> None:
                    token = turns.next()
                    cursor.execute(whole, [token, token] if parameter else [token])
                    cursor.set_result(-1)
                    found(cursor.fetchone())

                return run

            yield [operation(client) for client in clients]

    return connect


def core(world: World, tokens: list[str], *, transaction: bool) -> Any:
    """SQLAlchemy Core: the function alone in autocommit, or within a transaction of a role."""

    @contextmanager
    def connect(clients: range) -> Iterator[list[Operation]]:
        isolation = {} if transaction else {"isolation_level": "AUTOCOMMIT"}
        # No policy and no grant in the way of autocommit: the owner's.
        url = world.url if transaction else world.server.url(world.name)
        engine = create_engine(url, pool_size=len(clients), **isolation)
        call = text(FUNCTION.replace("%s", ":token"))
        claims = text(CLAIMS.replace("%s", ":token").replace('{"role": "anon"}', "{}"))

        def operation(client: int) -> Operation:
            turns = Turns(tokens, client)

            def run() -> None:
                token = {"token": turns.next()}
                with engine.begin() as connection:
                    if transaction:
                        connection.execute(text("SET LOCAL ROLE anon"))
                        connection.execute(claims, token)
                    found(connection.execute(call, token).one())

            return run

        yield [operation(client) for client in clients]
        engine.dispose()

    return connect


def orm(world: World, tokens: list[str]) -> Any:
    """A session, a query for the mapped report, the check in the application."""

    @contextmanager
    def connect(clients: range) -> Iterator[list[Operation]]:
        engine = create_engine(world.server.url(world.name), pool_size=len(clients))

        def operation(client: int) -> Operation:
            turns = Turns(tokens, client)

            def run() -> None:
                with Session(engine) as session, session.begin():
                    report = session.scalars(
                        select(Report).where(Report.access_token == turns.next())
                    ).one_or_none()
                    found(report)

            return run

        yield [operation(client) for client in clients]
        engine.dispose()

    return connect


def checked(tx: Session | Autocommit, token: str) -> None:
    found(reports.check(tx, token))


def run(bench: Bench) -> None:
    """The function, the package and the rivals; with one client and with eight."""
    world = bench.system
    tokens = world.tokens()
    draws, visitor = asynchronous.turns(tokens), identity.anonymous()
    for clients in (1, 8):
        sides = [
            Side("bare prepared statement", prepared(world, BARE, tokens)),
            Side("check_report (plpgsql)", prepared(world, FUNCTION, tokens)),
            Side("the same in SQL", prepared(world, FUNCTION_IN_SQL, tokens)),
            Side("the document's table", prepared(world, BARE.replace("public", "rivals_document"), tokens)),
        ]
        bench.compare(Comparison("check: the function", sides, clients, "processes"), seconds=2)
    for clients in (1, 8):
        sides = [
            Side("psycopg, autocommit", prepared(world, FUNCTION, tokens)),
            Side(
                "the package, statements prepared",
                synchronous.called(world, None, checked, draws, prepare_threshold=5),
            ),
            Side(
                "the package, in a transaction",
                synchronous.called(world, visitor, checked, draws, prepare_threshold=5),
            ),
            Side("under the policy, four round trips", four_round_trips(world, tokens)),
            Side("under the policy, pipelined", four_round_trips(world, tokens, pipelined=True)),
            Side("under the policy, one message", one_message(world, POLICY, tokens)),
            Side("role and function, one message", one_message(world, FUNCTION, tokens, parameter=True)),
            Side("SQLAlchemy Core, autocommit", core(world, tokens, transaction=False)),
            Side("SQLAlchemy Core, role in a transaction", core(world, tokens, transaction=True)),
            Side("SQLAlchemy ORM query", orm(world, tokens)),
        ]
        bench.compare(Comparison("check: through the layers", sides, clients))
    for clients in (1, 8):
        sides = [
            Side("psycopg, autocommit", prepared(world, FUNCTION, tokens, prepare=False)),
            Side("the package", synchronous.called(world, None, checked, draws)),
        ]
        bench.compare(Comparison("check: statements not prepared", sides, clients))
    values = [(token,) for token in tokens]
    asynchronous.compare(
        bench,
        "check",
        Side("psycopg, autocommit", asynchronous.asked(world, FUNCTION, asynchronous.turns(values))),
        Side(
            "the package",
            asynchronous.called(world, None, checked, draws, prepare_threshold=5),
        ),
    )
