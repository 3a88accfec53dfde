"""What the parts of the story share: the console, the ways into the database, attempts that must fail."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.orm import Session

from carnivore_db import Database, identity


@dataclass
class Scene:
    """What the steps of the story hand on."""

    console: Console
    db: Database  # the application's way in
    owner: Database  # the migrating role's, for the attempts that even it must fail at
    unexpected: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.console.print(f"  {line}", highlight=False)


def example(name: str) -> str:
    return files("carnivore_db.dev.demo").joinpath(name).read_text(encoding="utf-8")


Attempt = tuple[str, Database, identity.Identity | None, Callable[[Session], Any], type[Exception]]


def refuse(scene: Scene, attempts: list[Attempt]) -> None:
    """Try what must fail, and show the answers."""
    table = Table("attempt", "answer", title=f"{len(attempts)} attempts")
    for name, way_in, who, attempt, wanted in attempts:
        table.add_row(name, _answer(scene, name, way_in, who, attempt, wanted))
    scene.console.print(table)


def _answer(
    scene: Scene,
    name: str,
    way_in: Database,
    who: identity.Identity | None,
    attempt: Callable[[Session], Any],
    wanted: type[Exception],
) -> str:
    try:
        # None: the owner itself, who is bound by no policy and by no grant.
        with way_in.transaction(who) if who else Session(way_in.engine) as tx:
            attempt(tx)
    except wanted as error:
        return f"{type(error).__name__}: {error}" if wanted is not LookupError else "no row"
    scene.unexpected.append(f"{name} was not refused")
    return "[bold red]NOT REFUSED[/]"


def sql(tx: Session, statement: str, **values: Any) -> Any:
    """The first value that raw SQL finds; finding nothing is a refusal too: LookupError."""
    found = tx.execute(text(statement), values).all()
    if not found:
        raise LookupError
    return found[0][0]
