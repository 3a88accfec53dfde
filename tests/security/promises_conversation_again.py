"""What is sent again: an archived message is stored no second time, and a retry meets no limit."""

from tests.security.personas import OWNERS, SERVICES, Session
from tests.security.promises_conversation_counting import SESSIONS, the_law
from tests.security.promises_conversation_limits import LIMIT, TOO_FAST
from tests.security.promises_conversation_messages import ARCHIVE, ENTERING, MESSAGES, RETRY
from tests.security.registry import promise
from tests.security.seed import ADA, CLIENT_A, NO_ONE, SCENE_B_OPEN, SCENE_OPEN

LOGS = "conversation.logs"
ONCE = f"{RETRY} ON CONFLICT DO NOTHING"
LONG_AGO = "timestamptz '2025-01-01 00:00+00'"


def _archived(s: Session) -> None:
    """Ada's open session, completed long ago, archived and opened again."""
    s.superuser.allows(
        f"INSERT INTO {MESSAGES} (session_id, role, chat_type, content, client_message_id, sent_at)"
        f" VALUES (%s, 'user', 'main', 'Hallo!', %s, {LONG_AGO})",
        [SCENE_OPEN, NO_ONE],
        rows=1,
    )
    s.superuser.allows(
        f"UPDATE {SESSIONS} SET is_completed = true, started_at = {LONG_AGO}, completed_at = {LONG_AGO}"
        " WHERE id = %s",
        [SCENE_OPEN],
    )
    s.superuser.allows("SELECT conversation.archive_messages(100, older_than => interval '30 days')")
    s.superuser.allows(f"UPDATE {SESSIONS} SET is_completed = false WHERE id = %s", [SCENE_OPEN], rows=1)
    assert s.superuser.value(f"SELECT count(*) FROM {ARCHIVE} WHERE client_message_id = %s", [NO_ONE]) == 1


@promise(f"{ENTERING} {ARCHIVE} clause")
def a_message_that_was_archived_is_stored_no_second_time(s: Session) -> None:
    _archived(s)
    again = (
        f"INSERT INTO {MESSAGES} (id, session_id, role, chat_type, content)"
        " VALUES (%s, %s, 'user', 'main', 'x')"
    )
    for persona in ("ada", *SERVICES, *OWNERS):
        with s.undone():
            asker = s.as_(persona)
            asker.allows(RETRY, [SCENE_OPEN, NO_ONE], rows=0)
            asker.allows(ONCE, [SCENE_OPEN, NO_ONE], rows=0)
            # Another one, one without a name, and one of this name in another session, are new.
            asker.allows(RETRY, [SCENE_OPEN, ADA], rows=1)
            asker.allows(RETRY, [SCENE_OPEN, None], rows=1)
            s.as_("service").allows(RETRY, [SCENE_B_OPEN, NO_ONE], rows=1)
            (key,) = s.superuser.row(f"SELECT id FROM {ARCHIVE} WHERE client_message_id = %s", [NO_ONE])
            met = asker.refused(
                again, [key, SCENE_OPEN], sqlstate="23505", constraint="messages_archive_pkey"
            )
            assert (met.diag.schema_name, met.diag.table_name) == ("conversation", "messages")
            the_law(s)


@promise(f"{MESSAGES} populate_user_id_on_insert populate_message_user_id clause")
def a_session_that_is_gone_when_its_turn_comes_is_no_session(s: Session) -> None:
    """As when its person left while the message waited for it."""
    s.superuser.allows(f"ALTER TABLE {MESSAGES} DISABLE TRIGGER check_session_not_completed")
    gone = {"sqlstate": "PT404", "constraint": "conversation_not_found"}
    for persona, session in (("ada", SCENE_B_OPEN), ("stranger", SCENE_OPEN), ("service", NO_ONE)):
        assert s.as_(persona).refused(RETRY, [session, None], **gone).diag.column_name == "session_id"


@promise(f"{MESSAGES} rate_limit_messages limit_messages clause")
def a_retry_at_the_limit_is_no_further_message(s: Session) -> None:
    s.superuser.allows(LIMIT.format("allowed = 1, per = '1 day'", "messages"), rows=1)
    for session, persona in ((SCENE_OPEN, "ada"), (SCENE_B_OPEN, "bob")):
        s.as_("service").allows(
            f"INSERT INTO {MESSAGES} (session_id, role, chat_type, content, sent_at)"
            " VALUES (%s, 'user', 'main', 'x', clock_timestamp() - interval '25 hours')",
            [session],
        )
        with s.undone():
            s.superuser.allows(LIMIT.format("enforced = false", "messages"), rows=1)
            s.as_(persona).allows(RETRY, [session, NO_ONE], rows=1)
            s.superuser.allows(LIMIT.format("enforced = true", "messages"), rows=1)
            s.as_(persona).refused(RETRY, [session, ADA], **TOO_FAST)
            s.as_(persona).refused(RETRY, [session, None], **TOO_FAST)
            s.as_(persona).allows(ONCE, [session, NO_ONE], rows=0)
            if persona == "bob":
                # It is ada's name for a message of hers, which the service sees.
                for asker in ("bob", *SERVICES):
                    s.as_(asker).refused(RETRY, [session, CLIENT_A], **TOO_FAST)


@promise(f"{LOGS} erase_profile clause")
def erasing_reaches_what_was_logged_of_a_persons_sessions(s: Session) -> None:
    log = (
        f"INSERT INTO {LOGS} (level, event_type, session_id, metadata)"
        " VALUES ('error', 'unknown_error', %s, %s)"
    )
    for session in (SCENE_OPEN, SCENE_B_OPEN, None):
        s.as_("service").allows(log, [session, '{"said": "Hm."}'], rows=1)
    of_nobody = log.replace("session_id, metadata", "user_id, metadata").replace(
        "unknown_error", "user_logout"
    )
    s.as_("service").allows(of_nobody, [ADA, '{"her": "own"}'], rows=1)
    s.as_("service").allows("SELECT conversation.erase_profile(%s)", [ADA])
    s.superuser.sees_nothing(f"SELECT FROM {LOGS} WHERE metadata ? 'her'")
    left = (
        f"SELECT metadata FROM {LOGS}"
        " WHERE event_type = 'unknown_error' AND session_id IS NOT DISTINCT FROM %s"
    )
    assert s.superuser.value(left, [SCENE_OPEN]) == {}
    assert s.superuser.value(left, [SCENE_B_OPEN]) == s.superuser.value(left, [None]) == {"said": "Hm."}
