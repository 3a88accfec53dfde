"""Sessions of people, changed at random by every kind of statement there is.

An area subclasses `Changing`, and adds changes of its own to `CHANGES`, which fit any table of sessions.
"""

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, ClassVar
from uuid import UUID

import psycopg

from carnivore_db import identity

ZONES = ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/St_Johns", "Europe/Berlin")
Row = dict[str, Any]


class Changing(ABC):
    """The sessions of one connection. Ids count up, so that a failure can be played again."""

    table: ClassVar[str]
    columns: ClassVar[Sequence[str]]
    kept: ClassVar[set[str]] = set()  # columns that no UPDATE may change
    reopened: ClassVar[str]  # what an UPDATE sets in an open session
    logins: ClassVar[str]  # who is added and deleted here
    people: ClassVar[str]  # who may have sessions
    writer: ClassVar[str] = "none"  # the role that adds, reopens, corrects and deletes
    some_of: ClassVar[str]  # a condition that some given rows meet: a MERGE deletes these

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        self._numbers = itertools.count(1)
        names = ", ".join(self.columns)
        self.words = {
            "table": self.table,
            "listed": f"(id, {names}) SELECT id, {names}",
            "as_given": ", ".join(f"{name} = given.{name}" for name in self.columns if name not in self.kept),
            # Rows given as JSON; the table's own types read them.
            "given": f"jsonb_populate_recordset(NULL::{self.table}, %(rows)s) AS given",
        }
        self.words["as_excluded"] = self.words["as_given"].replace("given.", "excluded.")

    @abstractmethod
    def a_row(self, choose: Random, key: UUID, *, ended: bool) -> Row:
        """A session of any of the people."""

    def run(self, statement: str, rows: Sequence[Row] = (), **values: Any) -> None:
        """A statement in which {table}, {given} and the other words stand."""
        values["rows"] = json.dumps(rows, default=str)
        self.connection.execute(statement.format(**self.words), values)

    @contextmanager
    def as_role(self, role: str, person: UUID | None = None) -> Iterator[None]:
        claims = identity.user(person, "").claims if person else {}
        for name, value in {"role": role, "request.jwt.claims": json.dumps(claims)}.items():
            self.connection.execute("SELECT set_config(%s, %s, true)", [name, value])
        yield
        self.connection.execute("SET LOCAL ROLE NONE")

    def ids(self, source: str) -> list[UUID]:
        """Of a table, and a condition if there is one."""
        return [key for (key,) in self.connection.execute(f"SELECT id FROM {source} ORDER BY id")]

    def new_id(self) -> UUID:
        return UUID(int=next(self._numbers))

    def some(self, choose: Random, where: str = "true") -> list[UUID]:
        """One session in half of the cases, else several; none when there is none."""
        ids = self.ids(f"{self.table} WHERE {where}")
        return choose.sample(ids, min(len(ids), choose.choice((1, 1, 1, 2, 3, 6))))

    def new_rows(self, choose: Random, *, ended: bool = True) -> list[Row]:
        return [self.a_row(choose, self.new_id(), ended=ended) for _ in range(choose.choice((1, 1, 3)))]

    def rows_for(self, choose: Random, where: str = "true", *, ended: float = 0.8) -> list[Row]:
        """New values for some of the sessions, of which such a share has ended."""
        return [self.a_row(choose, key, ended=choose.random() < ended) for key in self.some(choose, where)]


def add_people(place: Changing, choose: Random) -> None:
    ids = [place.new_id() for _ in range(choose.choice((1, 2)))]
    place.run(
        f"INSERT INTO {place.logins} (id, email) SELECT id, id || '@example.com' FROM unnest(%(ids)s) AS id",
        ids=ids,
    )


def delete_people(place: Changing, choose: Random) -> None:
    """Two or three are left always, and eight at most."""
    ids = place.ids(place.people)
    deleted = choose.sample(ids, max(len(ids) - 8, min(choose.choice((1, 1, 2)), len(ids) - 2), 0))
    place.run(f"DELETE FROM {place.logins} WHERE id = ANY(%(deleted)s)", deleted=deleted)


def add_ended(place: Changing, choose: Random) -> None:
    rows = place.new_rows(choose)
    with place.as_role(place.writer):
        place.run("INSERT INTO {table} {listed} FROM {given}", rows)


def copy(place: Changing, choose: Random) -> None:
    rows = place.new_rows(choose)
    names = ("id", *place.columns)
    statement = f"COPY {place.table} ({', '.join(names)}) FROM STDIN"
    with place.connection.cursor() as cursor, cursor.copy(statement) as stream:
        for row in rows:
            stream.write_row([row[name] for name in names])


def rewrite(place: Changing, choose: Random) -> None:
    """Every column at once: ends some and reopens some in the same statement."""
    place.run(
        "UPDATE {table} AS session SET {as_given} FROM {given} WHERE session.id = given.id",
        place.rows_for(choose),
    )


def reopen(place: Changing, choose: Random) -> None:
    ids = place.some(choose)
    with place.as_role(place.writer):
        place.run(f"UPDATE {{table}} SET {place.reopened} WHERE id = ANY(%(ids)s)", ids=ids)


def delete(place: Changing, choose: Random) -> None:
    """Some; or most of them when they have become many."""
    ids = place.ids(place.table)
    deleted = choose.sample(ids, len(ids) - 10) if len(ids) > 50 else place.some(choose)
    with place.as_role(place.writer):
        place.run("DELETE FROM {table} WHERE id = ANY(%(deleted)s)", deleted=deleted)


def change_nothing(place: Changing, choose: Random) -> None:
    """No row, or each row as it was."""
    column = place.reopened.split()[0]
    place.run(f"UPDATE {{table}} SET {column} = {column} WHERE {choose.choice(('false', 'true'))}")


def insert_or_update(place: Changing, choose: Random) -> None:
    place.run(
        "INSERT INTO {table} {listed} FROM {given} ON CONFLICT (id) DO UPDATE SET {as_excluded}",
        place.rows_for(choose) + place.new_rows(choose),
    )


def merge(place: Changing, choose: Random) -> None:
    """Deletes, updates and inserts, in one statement."""
    names = ", ".join(place.columns)
    values = ", ".join(f"given.{name}" for name in place.columns)
    place.run(
        "MERGE INTO {table} AS session USING {given} ON session.id = given.id"
        f" WHEN MATCHED AND given.{place.some_of} THEN DELETE"
        " WHEN MATCHED THEN UPDATE SET {as_given}"
        f" WHEN NOT MATCHED THEN INSERT (id, {names}) VALUES (given.id, {values})",
        place.rows_for(choose) + place.new_rows(choose),
    )


def change_several_times(place: Changing, choose: Random) -> None:
    """Inserts twice, updates twice and deletes, of which some may mean the same session."""
    new = place.new_rows(choose)
    place.run(
        f"""WITH given AS (SELECT * FROM {{given}}),
            added AS (INSERT INTO {{table}} {{listed}} FROM given
                WHERE id = ANY(%(new)s) AND {place.some_of}),
            added_too AS (INSERT INTO {{table}} {{listed}} FROM given
                WHERE id = ANY(%(new)s) AND NOT {place.some_of}),
            changed AS (UPDATE {{table}} AS session SET {{as_given}} FROM given WHERE session.id = given.id),
            reopened AS (UPDATE {{table}} SET {place.reopened} WHERE id = ANY(%(reopened)s))
        DELETE FROM {{table}} WHERE id = ANY(%(deleted)s)""",
        new + place.rows_for(choose),
        new=[row["id"] for row in new],
        reopened=place.some(choose),
        deleted=place.some(choose),
    )


def move_elsewhere(place: Changing, choose: Random) -> None:
    """Another TimeZone, in which the same moments have other dates, and weeks begin at other moments."""
    place.connection.execute("SELECT set_config('TimeZone', %s, false)", [choose.choice(ZONES)])


CHANGES = (
    add_people,
    delete_people,
    add_ended,
    copy,
    rewrite,
    reopen,
    delete,
    change_nothing,
    insert_or_update,
    merge,
    change_several_times,
    move_elsewhere,
)
