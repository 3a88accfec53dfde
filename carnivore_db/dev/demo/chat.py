"""The role-play chat's part of the story: a scene played to its end, the week's limit, an erasure."""

from uuid import UUID, uuid4

from rich.markup import escape
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.orm import Session

from carnivore_db import errors, identity
from carnivore_db.conversation import jobs, logs, messages, profiles, scenarios, sessions
from carnivore_db.conversation.models import ERASED
from carnivore_db.conversation.profiles import Allowance
from carnivore_db.dev.demo.scene import Attempt, Scene, refuse, sql


def play(scene: Scene) -> None:
    """A person plays three scenes, which is the week's allowance; somebody else tries to look in."""
    console = scene.console
    console.rule("A person signs up and plays a scene")
    ada, bob = uuid4(), uuid4()
    played = _play(scene, ada, bob)
    console.rule("What must fail, and does")
    _refuse(scene, ada, bob, played)
    console.rule("She asks for erasure")
    _erase(scene, ada)


def _her(user_id: UUID) -> identity.Identity:
    return identity.user(user_id, "ada@example.com")


def _play(scene: Scene, ada: UUID, bob: UUID) -> UUID:
    with Session(scene.owner.engine) as tx, tx.begin():
        for person, name in ((ada, "Ada"), (bob, "Bob")):
            login = {"id": person, "email": f"{name}.{person}@example.com"}
            tx.execute(text("INSERT INTO auth.users (id, email) VALUES (:id, :email)"), login)
    with scene.db.transaction(identity.anonymous()) as tx:
        offered = scenarios.list_public(tx)
    scene.say("On offer: " + ", ".join(f"{each.emoji} {each.title}" for each in offered))
    allowances = dict[str, Allowance]()
    with scene.db.transaction(_her(ada)) as tx:
        opening = scenarios.get(tx, "marketplace").initial_message_main
        first = sessions.start(tx, ada, "marketplace")
        allowances["new"] = profiles.allowance(tx, ada)
        mine = uuid4()
        messages.send(tx, first.id, opening, role="main_assistant")
        messages.send(tx, first.id, "Ein Kilo Äpfel, bitte.", client_message_id=mine)
    with scene.db.transaction(_her(ada)) as tx:
        # The network failed, and her browser sends it again.
        messages.send(tx, first.id, "Ein Kilo Äpfel, bitte.", client_message_id=mine)
        page = messages.page(tx, first.id)
        sessions.complete(tx, first.id)
        allowances["one completed"] = profiles.allowance(tx, ada)
    shown = Table("said by", "what", title="messages")
    for message in page.rows:
        shown.add_row(message.role, message.content)
    scene.console.print(shown)
    with scene.db.transaction(_her(ada)) as tx:
        for code in ("party", "kebab"):
            sessions.complete(tx, sessions.start(tx, ada, code).id)
        allowances["three completed"] = profiles.allowance(tx, ada)
    table = Table("", "used", "remaining", "resets at (UTC)", title="the week")
    for when, each in allowances.items():
        table.add_row(when, str(each.used), str(each.remaining), f"{each.resets_at:%A %Y-%m-%d %H:%M}")
    scene.console.print(table)
    handled = {job: jobs.run(scene.owner.engine, job) for job in jobs.JOBS}
    scene.say(f"Jobs: {', '.join(f'{job} {rows}' for job, rows in handled.items())}.")
    counted = [each.used for each in allowances.values()]
    if (
        [message.role for message in page.rows] != ["main_assistant", "user"]
        or counted != [0, 1, 3]
        or any(handled.values())
    ):
        scene.unexpected.append("the scene was not played as it must be")
    return first.id


def _refuse(scene: Scene, ada: UUID, bob: UUID, played: UUID) -> None:
    app, owner = scene.db, scene.owner
    his = identity.user(bob, "bob@example.com")
    attempts: list[Attempt] = [
        (
            "a message into a completed session",
            app,
            _her(ada),
            lambda tx: messages.send(tx, played, "Noch etwas!"),
            errors.SessionCompleted,
        ),
        (
            "a fourth scene this week",
            app,
            _her(ada),
            lambda tx: sessions.start(tx, ada, "party"),
            errors.WeeklyLimitReached,
        ),
        (
            "a session opened again by its person",
            app,
            _her(ada),
            lambda tx: sessions.reopen(tx, played),
            errors.PermissionRefused,
        ),
        ("somebody else's session", app, his, lambda tx: sessions.get(tx, played), errors.SessionNotFound),
        (
            "counters written by the person",
            app,
            _her(ada),
            lambda tx: sql(
                tx, "UPDATE conversation.profiles SET current_week_completion_count = 0 RETURNING id"
            ),
            errors.PermissionRefused,
        ),
        (
            "a message rewritten, as the owner",
            owner,
            None,
            lambda tx: sql(tx, "UPDATE conversation.messages SET content = 'Nein.' RETURNING id"),
            errors.AppendOnly,
        ),
        (
            "opening lines, as a visitor",
            app,
            identity.anonymous(),
            lambda tx: sql(tx, "SELECT initial_message_main FROM conversation.scenarios"),
            errors.PermissionRefused,
        ),
    ]
    refuse(scene, attempts)


def _erase(scene: Scene, ada: UUID) -> None:
    with scene.db.transaction(identity.service()) as tx:
        redacted = profiles.erase(tx, ada)
        her = profiles.get(tx, ada)
        (session,) = sessions.history(tx, ada, scenario="marketplace").rows
        left = {message.content for message in messages.page(tx, session.id).rows}
        logged = logs.search(tx, user_id=ada, event_type="account_erased").rows
    scene.say(f"{redacted} messages redacted, {her.completed_scenario_count} scenes still counted.")
    scene.say(
        f"Left of what was said: {escape(', '.join(left))}. Her address: {her.email.partition('-')[0]}-..."
    )
    if left != {ERASED} or her.completed_scenario_count != 3 or len(logged) != 1:
        scene.unexpected.append("the erasure left something, or took too much")
