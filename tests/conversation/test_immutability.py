"""Messages never change: no column, for nobody, in neither of the two tables."""

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import text

from carnivore_db import Database, Identity, errors
from tests.conversation.samples import SERVICE, VISITOR, sign_up
from tests.conversation.speaking import archive, opened, spoken
from tests.support.databases import Shape, TestDatabase

TABLES = ("messages", "messages_archive")
COLUMNS = """
    SELECT attname AS name, format_type(atttypid, NULL) AS type FROM pg_attribute
    WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
"""
# Another value of each type; of the keys, one that exists.
OTHER = {
    "uuid": "gen_random_uuid()",
    "text": "'Auf Wiedersehen'",
    "timestamp with time zone": "'2001-01-01 00:00+00'",
    "conversation.message_role": "'main_assistant'",
    "conversation.chat_type_enum": "'helper'",
}
# Everybody may update, as far as grants and policies go: only the trigger is in the way.
GRANTED = """
    GRANT UPDATE ON conversation.{table} TO anon, authenticated, service_role;
    CREATE POLICY everybody_updates ON conversation.{table} FOR UPDATE TO anon, authenticated, service_role
        USING (true) WITH CHECK (true);
    CREATE POLICY everybody_selects ON conversation.{table} FOR SELECT TO anon USING (true);
"""
WHO = ("owner", "superuser", "service", "person", "stranger", "visitor")


class Talk(NamedTuple):
    """A database with a message in each of the two tables, and who is about."""

    database: TestDatabase
    db: Database  # as the superuser, who may become anybody
    owner: psycopg.Connection
    people: dict[str, Identity]
    keys: dict[str, str]

    def changes(self, table: str) -> dict[str, str]:
        """A change of each column that the table has."""
        found = self.owner.execute(COLUMNS, [f"conversation.{table}"]).fetchall()
        assert len(found) >= 9
        return {row["name"]: self.keys.get(row["name"], OTHER[row["type"]]) for row in found}

    def run(self, who: Identity, statement: str) -> int:
        with self.db.transaction(who) as tx:
            result: Any = tx.execute(text(statement))
            return int(result.rowcount)

    def contents(self) -> list[Any]:
        return [
            self.owner.execute(f"SELECT * FROM conversation.{table} ORDER BY id").fetchall()
            for table in TABLES
        ]


@pytest.fixture
def talk(database: TestDatabase) -> Iterator[Talk]:
    shape: Shape = database.shape
    with database.connect(autocommit=True) as owner:
        owner.row_factory = dict_row
        person, stranger = sign_up(owner), sign_up(owner)
        spoken(owner, person, said=1)
        archive(owner, 1)
        spoken(owner, person, said=1)
        other = opened(owner, person)
        people = {
            "owner": Identity(shape.migrator),
            "superuser": Identity(shape.server.user),
            "service": SERVICE,
            "person": person.identity,
            "stranger": stranger.identity,
            "visitor": VISITOR,
        }
        keys = {"session_id": f"'{other}'", "user_id": f"'{stranger.id}'"}
        db = Database(shape.url(database.name, shape.server.user))
        made = Talk(database, db, owner, people, keys)
        assert [len(rows) for rows in made.contents()] == [1, 1]
        yield made
        db.close()


@pytest.mark.document(4, 37)
@pytest.mark.parametrize("table", TABLES)
def test_nobody_changes_any_column(talk: Talk, table: str) -> None:
    before = talk.contents()
    for who in WHO:
        expected = errors.AppendOnly if who in {"owner", "superuser"} else errors.PermissionRefused
        for column, value in talk.changes(table).items():
            with pytest.raises(expected):
                talk.run(talk.people[who], f"UPDATE conversation.{table} SET {column} = {value}")
    assert talk.contents() == before


@pytest.mark.document(4, 37)
@pytest.mark.parametrize("table", TABLES)
def test_nobody_would_if_they_were_allowed_to(talk: Talk, table: str) -> None:
    """It is not for want of a right: with every right there is, the trigger refuses everybody."""
    talk.owner.execute(GRANTED.format(table=table))
    before = talk.contents()
    for who in WHO:
        for column, value in talk.changes(table).items():
            if who == "stranger":  # to whom a condition shows no row
                continue
            with pytest.raises(errors.AppendOnly) as refused:
                talk.run(talk.people[who], f"UPDATE conversation.{table} SET {column} = {value}")
            assert refused.value.table == table
    assert talk.contents() == before


@pytest.mark.document(4, 37)
@pytest.mark.parametrize("table", TABLES)
def test_without_the_trigger_the_owner_changes_every_column(talk: Talk, table: str) -> None:
    """What is refused above is refused by the trigger alone."""
    owner = talk.owner
    owner.execute(f"DROP TRIGGER {table}_immutable ON conversation.{table}")
    before = talk.contents()
    for column, value in talk.changes(table).items():
        with owner.transaction(force_rollback=True):
            owner.execute("SELECT set_config('role', %s, true)", [talk.people["owner"].role])
            assert owner.execute(f"UPDATE conversation.{table} SET {column} = {value}").rowcount == 1
            owner.execute("RESET ROLE")
            assert talk.contents() != before


OTHER_WAYS = {
    "to what it is": "UPDATE conversation.{table} SET content = content",
    "by a condition on another table": (
        "UPDATE conversation.{table} AS m SET content = s.id::text FROM conversation.sessions AS s"
        " WHERE s.id = m.session_id"
    ),
    "by MERGE": (
        "MERGE INTO conversation.{table} AS m USING conversation.{table} AS n ON n.id = m.id"
        " WHEN MATCHED THEN UPDATE SET content = 'x'"
    ),
    "by a second INSERT": (
        "INSERT INTO conversation.{table} (id, session_id, user_id, role, chat_type, content, sent_at,"
        " created_at) SELECT m.id, s.id, m.user_id, m.role, m.chat_type, 'x', m.sent_at, m.created_at"
        " FROM conversation.{table} AS m, conversation.sessions AS s WHERE NOT s.is_completed"
        " ON CONFLICT (id) DO UPDATE SET content = excluded.content"
    ),
    "both keys at once": "UPDATE conversation.{table} SET session_id = {session_id}, user_id = {user_id}",
}


@pytest.mark.document(4, 37)
def test_no_other_way_leads_to_a_change(talk: Talk) -> None:
    before = talk.contents()
    for table, way, who in product(TABLES, OTHER_WAYS.values(), ("owner", "superuser")):
        with pytest.raises(errors.AppendOnly):
            talk.run(talk.people[who], way.format(table=table, **talk.keys))
    assert talk.contents() == before


@pytest.mark.document(4, 37)
def test_a_message_is_not_taken_away_either(talk: Talk) -> None:
    """It goes with its session or its person, which takes the counts with it."""
    before = talk.contents()
    for table, verb, who in product(TABLES, ("DELETE FROM", "TRUNCATE"), WHO):
        expected = errors.AppendOnly if who in {"owner", "superuser"} else errors.PermissionRefused
        with pytest.raises(expected):
            talk.run(talk.people[who], f"{verb} conversation.{table}")
    assert talk.contents() == before
    talk.owner.execute("DELETE FROM conversation.sessions")
    assert talk.contents() == [[], []]
