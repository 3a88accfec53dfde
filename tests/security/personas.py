"""Who attacks: personas inside one transaction of a superuser's connection.

Each statement runs after `SET LOCAL ROLE`. Whoever logged in could leave that role again (`RESET ROLE`) or
take another (`SET ROLE`), as far as the login is a member: that is the login's matter and out of scope here.
A persona is judged by the statements that it sends as itself.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from tests.security.seed import (
    ADA,
    BOB,
    CALCULATOR_A,
    CALCULATOR_EXPIRED,
    EVE,
    MALLORY,
    NO_ONE,
    REPORT_A,
    REPORT_EXPIRED,
)

# The settings that make a persona, each reset when the next one speaks.
SETTINGS = {
    "role": "role",
    "claims": "request.jwt.claims",
    "headers": "request.headers",
    "report_token": "carnivore.report_token",
    "calculator_token": "carnivore.calculator_token",
    "access_counting": "carnivore.access_counting",
    "expiry_reason": "carnivore.expiry_reason",
    "reports_grace": "carnivore.reports_grace",
    "pages_grace": "carnivore.pages_grace",
    "search_path": "search_path",
    "time_zone": "TimeZone",
    "row_security": "row_security",
    "triggers": "session_replication_role",
}
NOBODY = dict.fromkeys(SETTINGS, "") | {
    "role": "none",
    "search_path": '"$user", public',
    "time_zone": "UTC",
    "row_security": "on",
    "triggers": "origin",
}


def logged_in(sub: str | None, email: str | None) -> dict[str, str]:
    """Somebody with these claims."""
    claims = {"role": "authenticated", "sub": sub, "email": email}
    return {"role": "authenticated", "claims": json.dumps(claims)}


ANON = {"role": "anon", "claims": json.dumps({"role": "anon"})}
STRANGER = logged_in(MALLORY, "mallory@example.com")
PERSONAS: dict[str, dict[str, str]] = {
    "superuser": {},
    "anon": ANON,
    "report holder": {**ANON, "report_token": REPORT_A},
    "report browser": {**ANON, "headers": json.dumps({"x-report-token": REPORT_A})},
    "late report holder": {**ANON, "report_token": REPORT_EXPIRED},
    "calculator holder": {**ANON, "calculator_token": CALCULATOR_A},
    "calculator browser": {**ANON, "headers": json.dumps({"x-calculator-token": CALCULATOR_A})},
    "late calculator holder": {**ANON, "calculator_token": CALCULATOR_EXPIRED},
    "guest": {"role": "anon"},
    "ada": logged_in(ADA, "ada@example.com"),
    "bob": logged_in(BOB, "bob@example.com"),
    "eve": logged_in(EVE, "eve@example.com"),
    "stranger": STRANGER,
    "anonymous": logged_in(NO_ONE, None),
    "nameless": logged_in(None, "ada@example.com"),
    "member with a report": {**STRANGER, "report_token": REPORT_A},
    "member with a calculator": {**STRANGER, "calculator_token": CALCULATOR_A},
    "reporting": {"role": "reporting"},
    "service": {"role": "service_role", "claims": json.dumps({"role": "service_role"})},
}
# Whoever is not the service, with as much in hand as one can have.
OUTSIDERS = ("anon", "report holder", "calculator holder", "stranger", "ada", "member with a report")
# Whoever is logged in and not ada: her rows are none of theirs.
OTHERS = ("bob", "eve", "stranger", "anonymous", "nameless")
VISITORS = ("anon", "guest", "report holder", "calculator holder")
# The service as Supabase has it, and where the migrating role could not grant it BYPASSRLS.
SERVICES = ("service", "bound service")
# Nobody stands above the triggers.
OWNERS = ("owner", "superuser")

Params = Sequence[Any]
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Asker:
    """A persona who speaks: what it is refused, what it may do and what it sees."""

    session: "Session"
    name: str
    settings: tuple[tuple[str, str], ...]

    def refused(
        self, statement: str, params: Params = (), *, sqlstate: str = "42501", constraint: str | None = None
    ) -> psycopg.Error:
        """The statement must fail with this SQLSTATE and constraint; the transaction goes on."""
        self.session.become(self)
        connection = self.session.connection
        connection.execute("SAVEPOINT attempt")
        try:
            self.session.execute(statement, params)
        except psycopg.Error as error:
            met = error
        else:
            raise AssertionError(f"{self.name} is not refused: {statement} {params or ''}")
        connection.execute("ROLLBACK TO attempt; RELEASE attempt")
        # PostgreSQL 18 has a code of its own for what RESTRICT refuses.
        found = (met.sqlstate.replace("23001", "23503") if met.sqlstate else None, met.diag.constraint_name)
        wanted = (sqlstate, constraint or found[1])
        assert found == wanted, f"{self.name} meets {found}, not {wanted}: {statement}: {met}"
        return met

    def allows(
        self, statement: str, params: Params = (), *, rows: int | None = None
    ) -> list[tuple[Any, ...]]:
        """The statement must pass, and touch this many rows. Returns what it returns."""
        self.session.become(self)
        try:
            found, count = self.session.execute(statement, params)
        except psycopg.Error as error:
            raise AssertionError(f"{self.name} is refused: {statement}: {error}") from error
        assert rows in {None, count}, f"{self.name} touches {count} rows, not {rows}: {statement}"
        return found

    def rows(self, statement: str, params: Params = ()) -> list[Row]:
        return self.allows(statement, params)

    def row(self, statement: str, params: Params = ()) -> Row:
        """The one row."""
        return self.allows(statement, params, rows=1)[0]

    def value(self, statement: str, params: Params = ()) -> Any:
        """The one value of the one row."""
        return self.row(statement, params)[0]

    def sees_nothing(self, statement: str, params: Params = ()) -> None:
        found = self.allows(statement, params)
        assert not found, f"{self.name} sees {len(found)} rows: {statement}"


# What changes partitions is refused where it would wait, and locks of autovacuum come and go by the clock: it
# passes over tables that are locked.
_QUIET = """
    LOCK TABLE public.report_access_log, public.generated_reports, conversation.logs, conversation.sessions,
        conversation.profiles IN SHARE UPDATE EXCLUSIVE MODE
"""
_VACUUM_EVERY = 5


class Session:
    """One transaction of a superuser's connection, in which personas take turns."""

    def __init__(self, connection: psycopg.Connection, owner: str) -> None:
        self.connection = connection
        self.owner = owner
        self.bound_role = f"bound_service_{connection.info.backend_pid}"
        self.login_role = f"login_{connection.info.backend_pid}"
        self._present: tuple[tuple[str, str], ...] | None = None
        self._begun = 0
        self._personas = {
            **PERSONAS,
            "owner": {"role": owner},
            "bound service": {**PERSONAS["service"], "role": self.bound_role},
            "login": {"role": self.login_role},
        }
        self._begin()

    def _begin(self) -> None:
        self.connection.execute(_QUIET)
        # Membership hands on grants and policies, not the attribute BYPASSRLS.
        role = sql.Identifier(self.bound_role)
        self.connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN INHERIT IN ROLE service_role").format(role))
        # The application's login before it has taken a role: a member of all three, with nothing of theirs.
        role = sql.Identifier(self.login_role)
        self.connection.execute(
            sql.SQL("CREATE ROLE {} NOLOGIN NOINHERIT IN ROLE anon, authenticated, service_role").format(role)
        )

    def anew(self) -> None:
        """Take everything back and begin another transaction: one with thousands of savepoints gets slow.

        What was taken back lies in the tables until they are vacuumed, which nobody else can do meanwhile.
        """
        self.connection.rollback()
        self._begun += 1
        if self._begun % _VACUUM_EVERY == 0:
            self.connection.autocommit = True
            self.connection.execute("VACUUM")
            self.connection.autocommit = False
        self._present = None
        self._begin()

    def as_(self, persona: str, **settings: str) -> Asker:
        """The persona, with settings of its own choice on top."""
        wanted = {**NOBODY, **self._personas[persona], **settings}
        return Asker(self, persona, tuple(wanted.items()))

    @property
    def superuser(self) -> Asker:
        return self.as_("superuser")

    def become(self, asker: Asker) -> None:
        if self._present == asker.settings:
            return
        self._present = None
        wanted = {SETTINGS[name]: value for name, value in asker.settings}
        role = wanted.pop("role")
        # Some settings are a superuser's to change: be one first, and the persona last.
        steps = [("role", "none"), *wanted.items(), ("role", role)]
        calls = ", ".join(["pg_catalog.set_config(%s, %s, true)"] * len(steps))
        self.connection.execute(f"SELECT {calls}", [text for step in steps for text in step])
        self._present = asker.settings

    def execute(self, statement: str, params: Params) -> tuple[list[Row], int]:
        """Run it and return its rows and their number; COPY too, which copies in `params`."""
        with self.connection.cursor() as cursor:
            if statement.startswith("COPY"):
                return self._copy(cursor, statement, params)
            # Without parameters psycopg leaves the statement's per cent signs alone.
            cursor.execute(statement, params or None)
            return (cursor.fetchall() if cursor.description is not None else []), cursor.rowcount

    @staticmethod
    def _copy(cursor: psycopg.Cursor, statement: str, lines: Params) -> tuple[list[Row], int]:
        with cursor.copy(statement) as copy:
            found = [(bytes(line),) for line in copy] if " TO " in statement else []
            for line in lines:
                copy.write(line)
        return found, cursor.rowcount

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Whatever happens inside is taken back, locks that a session holds too."""
        self.connection.execute("SAVEPOINT undone")
        try:
            yield
        finally:
            self.connection.execute("ROLLBACK TO undone; RELEASE undone; SELECT pg_advisory_unlock_all()")
            self._present = None
