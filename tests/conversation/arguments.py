"""For every repository function of the chat that takes input, arguments that it accepts."""

from datetime import timedelta
from uuid import uuid4

import psycopg

from carnivore_db.conversation import limits, logs, messages, profiles, scenarios, sessions
from carnivore_db.kit.paging import Cursor
from tests.conversation.samples import LONG_AGO, SERVICE, completed, sign_up
from tests.support.bad_input import Good
from tests.support.callers import Caller


def good_arguments(caller: Caller, owner: psycopg.Connection) -> Good:
    """Arguments by function, about people who sign up here; each as the service gives them."""
    ada, bob, eve = (sign_up(owner) for _ in range(3))
    mine = {"user_id": ada.id}
    playing = caller.call(SERVICE, sessions.start, ada.id, "party").id
    played = completed(owner, ada, LONG_AGO)
    others = [caller.call(SERVICE, sessions.start, person.id, "kebab").id for person in (bob, eve)]
    reopened = completed(owner, sign_up(owner), LONG_AGO)
    session = {"session_id": playing}
    return {
        profiles.get: mine,
        profiles.find_by_email: {"email": ada.email},
        profiles.allowance: mine,
        profiles.change_email: {**mine, "email": ada.email},
        profiles.deactivate: {"user_id": eve.id},
        profiles.restore: {"user_id": eve.id},
        profiles.erase: {"user_id": sign_up(owner).id},
        scenarios.get: {"code": "party"},
        scenarios.add: {
            "code": f"scene_{uuid4().hex}",
            "title": f"Scene {uuid4()}",
            "emoji": "🥨",
            "initial_message_main": "Grüß Gott!",
            "initial_message_helper": "You are buying bread.",
            "sort_order": 9,
        },
        scenarios.offer: {"code": "kebab", "is_active": True},
        sessions.start: {**mine, "scenario": "party"},
        sessions.get: session,
        sessions.find_open: mine,
        sessions.complete: {"session_id": others[0]},
        sessions.abandon: {"session_id": others[1]},
        sessions.reopen: {"session_id": reopened},
        sessions.history: {**mine, "scenario": "party", "limit": 5, "after": Cursor(LONG_AGO, played)},
        messages.send: {
            **session,
            "content": "Hallo!",
            "role": "user",
            "chat_type": "main",
            "client_message_id": uuid4(),
            "sent_at": LONG_AGO,
        },
        messages.page: {
            **session,
            "chat_type": "main",
            "limit": 5,
            "after": Cursor(LONG_AGO, playing),
            "newest_first": True,
        },
        logs.write: {
            "level": "info",
            "event_type": "session_created",
            **mine,
            **session,
            "metadata": {"a": 1},
            "created_at": LONG_AGO,
        },
        logs.search: {
            "metadata": {"a": 1},
            **session,
            **mine,
            "level": "info",
            "event_type": "session_created",
            "since": LONG_AGO - timedelta(days=1),
            "limit": 5,
            "after": Cursor(LONG_AGO, playing),
        },
        logs.add_event_type: {"code": f"event_{uuid4().hex}", "description": "It happened."},
        limits.change: {
            "limit": "messages",
            "allowed": 30,
            "per": timedelta(minutes=1),
            "enforced": True,
        },
    }
