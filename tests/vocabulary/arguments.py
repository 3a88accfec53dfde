"""For every repository function that takes input, arguments that it accepts."""

from datetime import timedelta
from uuid import uuid4

from carnivore_db.kit.paging import Cursor
from carnivore_db.vocabulary import exports, progress, sessions, users
from carnivore_db.vocabulary.keys import api_keys
from carnivore_db.vocabulary.models import User
from carnivore_db.vocabulary.payloads import Filters, Profile, Work
from tests.support.bad_input import Good
from tests.support.callers import Caller
from tests.vocabulary.samples import (
    NEW,
    NOON,
    PLAIN,
    SERVICE,
    new_learner,
    set_key,
    start_session,
    taken,
)


def good_arguments(caller: Caller, ada: User) -> Good:
    """Arguments by function, about `ada` and rows of hers that are made here."""
    set_key(caller, ada.id)
    open_session, done = start_session(caller, ada.id), start_session(caller, ada.id)
    caller.call(SERVICE, sessions.end, done.id, ended_at=NOON + timedelta(minutes=20))
    export = caller.call(SERVICE, exports.request, ada.id, "csv")
    failed = caller.call(SERVICE, exports.take)
    while failed is not None and failed.id != export.id:  # an earlier test's waited longer
        failed = caller.call(SERVICE, exports.take)
    assert failed is not None
    caller.call(SERVICE, exports.fail, failed.id, failed.retry_count, "no room")
    mine, session = {"user_id": ada.id}, {"session_id": open_session.id}
    return {
        users.register: {"user_id": uuid4(), "email": f"{uuid4()}@example.com", "profile": Profile()},
        users.get: mine,
        users.find_by_email: {"email": ada.email},
        users.save_profile: {**mine, "profile": Profile(full_name="Ada Lovelace")},
        users.change_email: {**mine, "email": ada.email},
        users.record_login: mine,
        users.erase: {"user_id": new_learner(caller).id},
        sessions.start: {
            "session_type": "qa",
            "user_id": ada.id,
            "session_id": uuid4(),
            "started_at": NOON,
            "user_agent": "Browser/1.0",
            "ip_address": None,
            "device_type": "phone",
        },
        sessions.get: session,
        sessions.list_by_user: {**mine, "limit": 5, "after": Cursor(NOON, open_session.id)},
        sessions.save: {**session, "work": Work(qa_attempts=5), "session_data": {"a": 1}},
        sessions.end: {
            **session,
            "work": Work(qa_attempts=5),
            "ended_at": NOON + timedelta(minutes=5),
            "duration_minutes": 4,
        },
        sessions.correct: {
            "session_id": done.id,
            "started_at": NOON,
            "ended_at": NOON + timedelta(minutes=5),
            "duration_minutes": 4,
            "session_type": "qa",
        },
        sessions.reopen: {"session_id": done.id},
        sessions.assign: {**session, **mine},
        sessions.remove: {"session_id": start_session(caller, ada.id).id},
        progress.get: mine,
        progress.recently_active: {"limit": 5},
        progress.save_words: {**mine, "mastered": 1, "learning": 2, "new": 3},
        progress.award_points: {**mine, "points": 0},
        progress.recompute: mine,
        api_keys.set: {"keyring": NEW, **mine, "provider": "openai", "key": PLAIN},
        api_keys.get: {"keyring": NEW, **mine, "provider": "openai"},
        api_keys.status: mine,
        api_keys.validate: {"keyring": NEW, **mine, "check": taken},
        api_keys.disable: mine,
        api_keys.remove: {**mine, "provider": "openai"},
        exports.request: {**mine, "export_type": "csv", "filters": Filters(ended_only=True)},
        exports.get: {"export_id": export.id},
        exports.list_by_user: {**mine, "status": None, "limit": 5},
        exports.list_by_status: {"status": "failed", "limit": 5},
        exports.retry: {"export_id": export.id},
    }
