"""Scenes to play (document 20251110150000): read by everybody, written by the service."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from sqlalchemy import insert, select, text, update
from sqlalchemy.orm import Session

from carnivore_db.conversation.models import Scenario
from carnivore_db.conversation.payloads import Code, Opening, Title
from carnivore_db.errors import ScenarioNotFound
from carnivore_db.kit.inputs import FilledText, validated
from carnivore_db.kit.rows import FRESH, one

_PUBLIC = text(
    "SELECT id, title, emoji, sort_order FROM conversation.public_scenarios ORDER BY sort_order, id"
)
Emoji = Annotated[FilledText, Field(max_length=16)]
Place = Annotated[int, Field(strict=True, ge=-32768, le=32767)]


@dataclass(frozen=True)
class PublicScenario:
    """What a visitor sees of a scene."""

    id: int
    title: str
    emoji: str
    sort_order: int


def list_public(tx: Session) -> list[PublicScenario]:
    """The scenes on offer in their order, for visitors too."""
    return [PublicScenario(*row) for row in tx.execute(_PUBLIC)]


def list_active(tx: Session) -> list[Scenario]:
    """The scenes on offer in their order, opening lines included, for people who logged in."""
    offered = select(Scenario).where(Scenario.is_active).order_by(Scenario.sort_order, Scenario.id)
    return list(tx.scalars(offered, execution_options=FRESH))


@validated
def get(tx: Session, code: Code) -> Scenario:
    """The scene of this code. Raises ScenarioNotFound, also for one that the caller may not see."""
    return one(tx, select(Scenario).where(Scenario.code == code), ScenarioNotFound)


@validated
def add(
    tx: Session,
    code: Code,
    *,
    title: Title,
    emoji: Emoji,
    initial_message_main: Opening,
    initial_message_helper: Opening,
    sort_order: Place = 0,
) -> Scenario:
    """A new scene on offer, as the service. `emoji` takes at most 16 bytes; the code never changes.

    Raises AlreadyExists (the code or the title), InvalidInput.
    """
    row = {
        "code": code,
        "title": title,
        "emoji": emoji,
        "initial_message_main": initial_message_main,
        "initial_message_helper": initial_message_helper,
        "sort_order": sort_order,
    }
    return tx.scalars(insert(Scenario).values(row).returning(Scenario)).one()


@validated
def offer(tx: Session, code: Code, *, is_active: bool) -> Scenario:
    """Offer a scene or retire it, as the service; sessions that play it go on. Raises ScenarioNotFound."""
    change = update(Scenario).where(Scenario.code == code).values(is_active=is_active)
    return one(tx, change.returning(Scenario), ScenarioNotFound)
