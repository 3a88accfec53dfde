"""People who leave and come back, and people whose data are erased: what goes and what stays."""

from typing import Any

from tests.security.personas import OWNERS, SERVICES, Session
from tests.security.promises_conversation_counting import BEGIN, COMPLETE, PROFILES, SESSIONS, the_law
from tests.security.registry import promise
from tests.security.seed import ADA, BOB, EVE, NO_ONE, SCENE_A, SCENE_B_OPEN, SCENE_OPEN

MESSAGES, ARCHIVE, LOGS = "conversation.messages", "conversation.messages_archive", "conversation.logs"
LEAVE = "SELECT conversation.delete_own_profile()"
ERASE = "SELECT conversation.erase_profile(%s)"
LEFT = f"SELECT deleted_at, erased_at FROM {PROFILES} WHERE id = %s"
RETURN = f"UPDATE {PROFILES} SET deleted_at = NULL WHERE id = %s"
SAY = f"INSERT INTO {MESSAGES} (session_id, role, chat_type, content) VALUES (%s, %s, 'main', 'Hm.')"
NOT_FOUND = {"sqlstate": "PT404", "constraint": "profile_not_found"}
GONE = {"sqlstate": "23000", "constraint": "profile_deleted"}
IMMUTABLE = {"sqlstate": "23000", "constraint": "messages_immutable"}
OWN = {PROFILES: "id", **dict.fromkeys((SESSIONS, MESSAGES, ARCHIVE, LOGS), "user_id")}
ALL = " ".join(OWN)


def _everything(s: Session, whose: str, *, but: str = "") -> dict[str, list[tuple[Any, ...]]]:
    """The rows of one person, or of all others, as JSON without these keys."""
    without = "".join(f" - '{key}'" for key in but.split())
    return {
        table: s.superuser.rows(
            f"SELECT to_jsonb(r){without} FROM {table} AS r WHERE {column} {whose} ORDER BY 1"
        )
        for table, column in OWN.items()
    }


OTHERS = f"<> '{ADA}'"
HERS = f"= '{ADA}'"


@promise(f"{PROFILES} delete_own_profile active_user clause")
def a_person_leaves_once_and_alone(s: Session) -> None:
    for persona, key in (("ada", ADA), ("eve", EVE)):
        with s.undone():
            others = s.superuser.rows(f"SELECT * FROM {PROFILES} WHERE id <> '{key}' ORDER BY id")
            moment = s.as_(persona).value(LEAVE)
            assert moment == s.superuser.value("SELECT now()")
            assert s.superuser.row(LEFT, [key]) == (moment, None)
            assert s.superuser.rows(f"SELECT * FROM {PROFILES} WHERE id <> '{key}' ORDER BY id") == others
            s.as_(persona).refused(LEAVE, **NOT_FOUND)
    for persona in ("stranger", "anonymous", "nameless"):
        s.as_(persona).refused(LEAVE, **NOT_FOUND)
    for persona in ("anon", *SERVICES):
        s.as_(persona).refused(LEAVE)


@promise(f"{ALL} delete_own_profile active_user policy clause")
def a_person_who_has_left_sees_and_writes_nothing_and_may_come_back(s: Session) -> None:
    seen = {table: s.as_("ada").rows(f"SELECT * FROM {table} ORDER BY id") for table in OWN}
    assert all(seen.values())
    bobs = {table: s.as_("bob").rows(f"SELECT * FROM {table} ORDER BY id") for table in OWN}
    before = _everything(s, HERS, but="deleted_at updated_at")
    leaves = f"UPDATE {PROFILES} SET deleted_at = now() WHERE id = '{ADA}'"
    for leaving, statement in (("ada", LEAVE), ("bound service", leaves)):
        with s.undone():
            s.as_(leaving).allows(statement, rows=1)
            for table in (*OWN, "conversation.message_history"):
                s.as_("ada").sees_nothing(f"SELECT FROM {table}")
            s.as_("ada").allows(f"UPDATE {SESSIONS} SET is_completed = true", rows=0)
            s.as_("ada").allows(f"DELETE FROM {SESSIONS}", rows=0)
            s.as_("ada").refused(BEGIN.format(ADA))
            for role in ("user", "main_assistant"):
                s.as_("ada").refused(
                    SAY, [SCENE_OPEN, role], sqlstate="PT404", constraint="conversation_not_found"
                )
            for table in OWN:
                assert s.as_("bob").rows(f"SELECT * FROM {table} ORDER BY id") == bobs[table]
            assert _everything(s, HERS, but="deleted_at updated_at") == before
            for persona in SERVICES:
                with s.undone():
                    s.as_(persona).allows(RETURN, [ADA], rows=1)
                    for table in (SESSIONS, MESSAGES, ARCHIVE, LOGS):
                        assert s.as_("ada").rows(f"SELECT * FROM {table} ORDER BY id") == seen[table]
                    s.as_("ada").allows(SAY, [SCENE_OPEN, "user"], rows=1)
                    s.as_("ada").allows(COMPLETE, rows=1)


@promise(f"{SESSIONS} {MESSAGES} begin_session increment_message_count clause")
def nobody_begins_or_says_anything_for_a_person_who_has_left(s: Session) -> None:
    s.as_("ada").allows(LEAVE)
    completed = f"INSERT INTO {SESSIONS} (user_id, scenario_id, is_completed) VALUES ('{ADA}', 1, true)"
    for persona in (*SERVICES, *OWNERS):
        for statement in (BEGIN.format(ADA), completed):
            error = s.as_(persona).refused(statement, **GONE)
            assert (error.diag.schema_name, error.diag.table_name) == ("conversation", "sessions")
        for role in ("user", "main_assistant"):
            error = s.as_(persona).refused(SAY, [SCENE_OPEN, role], **GONE)
            assert (error.diag.schema_name, error.diag.table_name) == ("conversation", "messages")
        both = SAY + f", ('{SCENE_B_OPEN}', 'user', 'main', 'Hm.')"
        s.as_(persona).refused(both, [SCENE_OPEN, "user"], **GONE)
        # The others go on.
        with s.undone():
            s.as_(persona).allows(BEGIN.format(EVE), rows=1)
            s.as_(persona).allows(SAY, [SCENE_B_OPEN, "user"], rows=1)
    s.as_("bob").allows(SAY, [SCENE_B_OPEN, "user"], rows=1)
    s.as_("eve").allows(BEGIN.format(EVE), rows=1)


@promise(f"{ALL} erase_profile prevent_message_updates clause")
def erasing_a_person_redacts_what_they_said_and_keeps_the_counts(s: Session) -> None:
    said = f"SELECT count(*) FROM conversation.message_history WHERE user_id = '{ADA}'"
    kept = "content email metadata updated_at deleted_at erased_at"
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            s.as_("service").allows(
                f"INSERT INTO {LOGS} (level, event_type, user_id) VALUES ('info', 'user_logout', %s)", [ADA]
            )
            others, before = _everything(s, OTHERS), _everything(s, HERS, but=kept)
            assert s.as_(persona).value(ERASE, [ADA]) == s.superuser.value(said) == 6
            assert _everything(s, OTHERS) == others
            after = _everything(s, HERS, but=kept)
            for table in (PROFILES, SESSIONS, MESSAGES, ARCHIVE):
                assert after[table] == before[table], table
            for table in (MESSAGES, ARCHIVE):
                assert {
                    text
                    for (text,) in s.superuser.rows(f"SELECT content FROM {table} WHERE user_id = '{ADA}'")
                } == {"[erased]"}
            now = s.superuser.value("SELECT now()")
            assert s.superuser.row(LEFT, [ADA]) == (now, now)
            address = s.superuser.value(f"SELECT email::text FROM {PROFILES} WHERE id = '{ADA}'")
            assert address == f"erased-{ADA}@erased.invalid"
            logged = f"FROM {LOGS} WHERE user_id = '{ADA}' AND"
            assert s.superuser.rows(
                f"SELECT level, session_id, metadata {logged} event_type = 'account_erased'"
            ) == [("info", None, {"messages": 6})]
            assert s.superuser.rows(f"SELECT DISTINCT metadata {logged} event_type = 'session_created'") == [
                ({},)
            ]
            assert s.superuser.rows(f"SELECT metadata {logged} event_type = 'user_logout'") == [(None,)]
            the_law(s)


@promise(f"{ALL} erase_profile prevent_message_updates deleted_at_with_erased clause")
def erasing_twice_erases_nothing_more_and_nobody_undoes_it(s: Session) -> None:
    s.as_("ada").allows(LEAVE)
    left = f"UPDATE {PROFILES} SET deleted_at = '2026-03-03 10:00+00' WHERE id = %s RETURNING deleted_at"
    moment = s.as_("service").value(left, [ADA])
    s.as_("service").allows(ERASE, [ADA])
    erased = s.superuser.row(LEFT, [ADA])
    assert erased == (moment, s.superuser.value("SELECT now()"))
    s.superuser.allows(f"UPDATE {PROFILES} SET erased_at = erased_at - interval '1 day' WHERE id = %s", [ADA])
    erased = s.superuser.row(LEFT, [ADA])
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            assert s.as_(persona).value(ERASE, [ADA]) == 0
            assert s.superuser.row(LEFT, [ADA]) == erased
            noted = "SELECT metadata ? 'messages' FROM conversation.logs WHERE event_type = 'account_erased'"
            assert s.superuser.rows(noted) == [(True,)] * 2
        back = {"sqlstate": "23514", "constraint": "deleted_at_with_erased"}
        s.as_(persona).refused(RETURN, [ADA], **back)
        for statement in (BEGIN.format(ADA), SAY % (f"'{SCENE_OPEN}'", "'user'")):
            s.as_(persona).refused(statement, **GONE)
    for persona in SERVICES:
        s.as_(persona).refused(f"UPDATE {PROFILES} SET erased_at = NULL")
        kept = {"sqlstate": "23514", "constraint": "email_with_erased"}
        s.as_(persona).refused(
            f"UPDATE {PROFILES} SET email = 'ada@example.com' WHERE id = %s", [ADA], **kept
        )
    for table in OWN:
        s.as_("ada").sees_nothing(f"SELECT FROM {table}")


@promise("erase_profile clause EXECUTE")
def only_the_service_erases_and_only_somebody_who_is_there(s: Session) -> None:
    before = _everything(s, f"<> '{NO_ONE}'")
    for persona in (*SERVICES, *OWNERS):
        for nobody in (NO_ONE, None):
            s.as_(persona).refused(ERASE, [nobody], **NOT_FOUND)
    for persona in ("anon", "ada", "bob", "stranger"):
        s.as_(persona).refused(ERASE, [ADA])
    assert _everything(s, f"<> '{NO_ONE}'") == before


@promise(f"{MESSAGES} {ARCHIVE} prevent_message_updates check_erasure clause")
def nothing_is_redacted_but_what_an_erased_person_said_and_nothing_else_of_it(s: Session) -> None:
    redact = "UPDATE {} SET content = '[erased]'{} WHERE session_id = '{}'"
    for table in (MESSAGES, ARCHIVE):
        for persona in OWNERS:
            s.as_(persona).refused(redact.format(table, "", SCENE_A), **IMMUTABLE)
            with s.undone():
                s.as_("ada").allows(LEAVE)
                s.as_("service").allows(ERASE, [BOB])
                s.as_(persona).refused(redact.format(table, "", SCENE_A), **IMMUTABLE)
    s.as_("service").allows(ERASE, [ADA])
    # What came behind the rules' back.
    with s.undone():
        for table, more in ((MESSAGES, ""), (ARCHIVE, ", created_at")):
            s.as_("superuser", triggers="replica").allows(
                f"INSERT INTO {table} (id, session_id, user_id, role, chat_type, content, sent_at{more})"
                f" SELECT gen_random_uuid(), '{SCENE_OPEN}', '{ADA}', 'user', 'main', 'x', now()"
                + (", now()" if more else "")
            )
            for persona in OWNERS:
                change = f"UPDATE {table} SET content = {{}} WHERE content = 'x'"
                for wrong in ("'y'", "content", "'[erased]', sent_at = '2026-01-01'", "'[Erased]'"):
                    s.as_(persona).refused(change.format(wrong), **IMMUTABLE)
                with s.undone():
                    s.as_(persona).allows(change.format("'[erased]'"), rows=1)
    for table in (MESSAGES, ARCHIVE):
        for persona in OWNERS:
            for change in ("content = '[erased]'", "content = 'x'", "sent_at = now()", f"user_id = '{BOB}'"):
                s.as_(persona).refused(f"UPDATE {table} SET {change} WHERE user_id = '{ADA}'", **IMMUTABLE)
