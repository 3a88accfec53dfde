"""Scenes: what they may be, who reads which, how clients know them."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from carnivore_db import errors
from carnivore_db.conversation import scenarios, sessions
from carnivore_db.conversation.scenarios import PublicScenario
from tests.conversation.samples import SERVICE, VISITOR, Person
from tests.support.callers import Caller
from tests.support.databases import one

BAKERY: dict[str, Any] = {
    "title": "At the bakery",
    "emoji": "🥨",
    "initial_message_main": "Grüß Gott! Was darf es sein?",
    "initial_message_helper": "You are buying bread. Ask me for the names of the rolls.",
}
FAMILY = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}"  # 14 bytes


def codes(found: list[Any]) -> list[str]:
    return [scene.code for scene in found]


@pytest.mark.document(34, 38)
def test_three_scenes_are_there_in_their_order(
    caller_of_each_shape: Caller, signed_up: Callable[[], Person]
) -> None:
    for who in (SERVICE, signed_up().identity):
        found = caller_of_each_shape.call(who, scenarios.list_active)
        assert codes(found) == ["marketplace", "party", "kebab"]
        assert [scene.id for scene in found] == [scene.sort_order for scene in found] == [1, 2, 3]
        assert all(scene.initial_message_main and scene.initial_message_helper for scene in found)
        assert caller_of_each_shape.call(who, scenarios.get, "party").id == 2


@pytest.mark.document(34)
def test_a_new_scene_has_the_next_id_and_a_code_of_its_own(
    caller_of_each_shape: Caller, signed_up: Callable[[], Person]
) -> None:
    first = caller_of_each_shape.call(SERVICE, scenarios.add, "bakery", **BAKERY)
    second = caller_of_each_shape.call(SERVICE, scenarios.add, "bank", **{**BAKERY, "title": "At the bank"})
    assert (first.id, second.id) == (4, 5)
    assert (first.code, first.is_active, first.sort_order) == ("bakery", True, 0)
    # By sort_order, then by id.
    seen = caller_of_each_shape.call(signed_up().identity, scenarios.list_active)
    assert codes(seen) == ["bakery", "bank", "marketplace", "party", "kebab"]


@pytest.mark.document(34)
def test_a_code_never_changes_whoever_asks(caller: Caller, owner: psycopg.Connection) -> None:
    change = "UPDATE conversation.scenarios SET code = 'fair' WHERE id = 1"
    with pytest.raises(psycopg.errors.IntegrityError) as caught:
        owner.execute(change)
    assert caught.value.diag.constraint_name == "immutable"
    with pytest.raises(errors.PermissionRefused):
        caller.run(SERVICE, lambda tx: tx.execute(text(change)))
    assert one(owner, "SELECT code FROM conversation.scenarios WHERE id = 1") == "marketplace"


@pytest.mark.document(17, 34)
@pytest.mark.parametrize(
    ("code", "changes", "rule"),
    [
        ("party", {}, "scenarios_code_key"),
        ("bakery", {"title": "At a party"}, "scenarios_title_key"),
    ],
    ids=["code", "title"],
)
def test_a_code_and_a_title_are_one_scenes(
    caller: Caller, code: str, changes: dict[str, str], rule: str
) -> None:
    with pytest.raises(errors.AlreadyExists) as caught:
        caller.call(SERVICE, scenarios.add, code, **{**BAKERY, **changes})
    assert caught.value.rule == rule


@pytest.mark.document(16)
@pytest.mark.parametrize(
    ("emoji", "fits"),
    [("🥨", True), (FAMILY + "!!", True), (FAMILY + "!!!", False), ("🥨" * 4, True), ("🥨" * 5, False)],
)
def test_an_emoji_takes_sixteen_bytes(caller: Caller, emoji: str, *, fits: bool) -> None:
    assert (len(emoji.encode()) <= 16) is fits
    if fits:
        assert caller.call(SERVICE, scenarios.add, "bakery", **{**BAKERY, "emoji": emoji}).emoji == emoji
        return
    with pytest.raises(errors.InvalidInput) as caught:
        caller.call(SERVICE, scenarios.add, "bakery", **{**BAKERY, "emoji": emoji})
    assert (caught.value.field, caught.value.rule) == ("emoji", "emoji_length")


@pytest.mark.document(38)
def test_a_change_of_a_scene_is_noted(caller: Caller) -> None:
    before = caller.call(SERVICE, scenarios.get, "party")
    after = caller.call(SERVICE, scenarios.offer, "party", is_active=False)
    assert after.updated_at > before.updated_at
    assert after.created_at == before.created_at


@pytest.mark.document(38)
def test_the_order_of_scenes_is_the_services_to_choose(caller: Caller, owner: psycopg.Connection) -> None:
    caller.call(SERVICE, scenarios.add, "last", **BAKERY, sort_order=9)
    caller.call(SERVICE, scenarios.add, "first", **{**BAKERY, "title": "First"}, sort_order=-1)
    expected = ["first", "marketplace", "party", "kebab", "last"]
    assert codes(caller.call(SERVICE, scenarios.list_active)) == expected
    public = caller.call(VISITOR, scenarios.list_public)
    by_id = {row["id"]: row["code"] for row in owner.execute("SELECT id, code FROM conversation.scenarios")}
    assert [by_id[scene.id] for scene in public] == expected


@pytest.mark.document(28)
def test_a_visitor_sees_the_scenes_on_offer(
    caller_of_each_shape: Caller, signed_up: Callable[[], Person]
) -> None:
    caller_of_each_shape.call(SERVICE, scenarios.offer, "party", is_active=False)
    for who in (VISITOR, signed_up().identity, SERVICE):
        assert caller_of_each_shape.call(who, scenarios.list_public) == [
            PublicScenario(1, "At the marketplace", "🥕", 1),
            PublicScenario(3, "At the kebab shop", "🥙", 3),
        ]


@pytest.mark.document(28)
def test_a_visitor_sees_five_columns_and_no_opening_line(caller: Caller) -> None:
    def row(statement: str) -> list[dict[str, Any]]:
        return caller.run(
            VISITOR, lambda tx: [dict(found) for found in tx.execute(text(statement)).mappings()]
        )

    shown = row("SELECT * FROM conversation.public_scenarios ORDER BY id")
    assert shown[0] == {
        "id": 1,
        "title": "At the marketplace",
        "emoji": "🥕",
        "sort_order": 1,
        "is_active": True,
    }
    assert len(shown) == 3
    for hidden in ("initial_message_main", "initial_message_helper", "code", "created_at", "updated_at", "*"):
        with pytest.raises(errors.PermissionRefused):
            row(f"SELECT {hidden} FROM conversation.scenarios")
    with pytest.raises(errors.PermissionRefused):
        caller.call(VISITOR, scenarios.list_active)


@pytest.mark.document(28)
def test_a_retired_scene_is_seen_by_the_service_alone(caller: Caller, person: Person) -> None:
    caller.call(SERVICE, scenarios.offer, "party", is_active=False)
    retired = text("SELECT id FROM conversation.scenarios WHERE NOT is_active")
    for who in (VISITOR, person.identity):
        assert caller.run(who, lambda tx: tx.execute(retired).all()) == []
    with pytest.raises(errors.ScenarioNotFound):
        caller.call(person.identity, scenarios.get, "party")
    assert caller.call(SERVICE, scenarios.get, "party").is_active is False
    assert codes(caller.call(SERVICE, scenarios.list_active)) == ["marketplace", "kebab"]


def test_a_scene_that_is_retired_is_played_to_its_end(caller: Caller, person: Person) -> None:
    playing = caller.call(person.identity, sessions.start, person.id, "party")
    caller.call(SERVICE, scenarios.offer, "party", is_active=False)
    assert caller.call(person.identity, sessions.complete, playing.id).is_completed
    with pytest.raises(errors.ScenarioNotFound):
        caller.call(person.identity, sessions.start, person.id, "party")
    caller.call(SERVICE, scenarios.offer, "party", is_active=True)
    again = caller.call(person.identity, sessions.start, person.id, "party")
    assert again.scenario_id == playing.scenario_id


def test_scenes_are_the_services_to_write(caller: Caller, owner: psycopg.Connection, person: Person) -> None:
    before = owner.execute("SELECT * FROM conversation.scenarios ORDER BY id").fetchall()
    for who in (VISITOR, person.identity):
        with pytest.raises(errors.PermissionRefused):
            caller.call(who, scenarios.add, "bakery", **BAKERY)
        with pytest.raises(errors.PermissionRefused):
            caller.call(who, scenarios.offer, "party", is_active=False)
    with pytest.raises(errors.PermissionRefused):
        caller.run(SERVICE, lambda tx: tx.execute(text("DELETE FROM conversation.scenarios")))
    assert owner.execute("SELECT * FROM conversation.scenarios ORDER BY id").fetchall() == before


@pytest.mark.document(40)
def test_a_scene_that_was_played_stays(owner: psycopg.Connection, person: Person, caller: Caller) -> None:
    playing = caller.call(person.identity, sessions.start, person.id, "kebab")
    # The second is what newer servers say.
    with pytest.raises((psycopg.errors.ForeignKeyViolation, psycopg.errors.RestrictViolation)):
        owner.execute("DELETE FROM conversation.scenarios WHERE code = 'kebab'")
    owner.execute("BEGIN; UPDATE conversation.scenarios SET id = 33 WHERE code = 'kebab'")
    assert one(owner, "SELECT scenario_id FROM conversation.sessions WHERE id = %s", playing.id) == 33
    owner.execute("ROLLBACK")
