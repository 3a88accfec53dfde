"""People of the chat: their rows are theirs alone, and who left sees nothing."""

from functools import partial

from tests.security.people import CHANGES, UNKNOWN, a_visitor_does_nothing, nobody_reads_anothers_rows, others
from tests.security.personas import OTHERS, SERVICES, Session
from tests.security.registry import add, promise
from tests.security.rights import INSERTS, SPEAKERS, columns
from tests.security.rows import insert, insertion, of_ada, owner
from tests.security.seed import (
    ADA,
    BOB,
    EVE,
    MALLORY,
    NO_ONE,
    SCENE_A,
    SCENE_B,
    SCENE_B_OPEN,
    SCENE_OPEN,
)

PROFILES, SESSIONS, MESSAGES, ARCHIVE, LOGS, HISTORY = (
    f"conversation.{table}"
    for table in (
        "profiles",
        "sessions",
        "messages",
        "messages_archive",
        "logs",
        "message_history",
    )
)
TABLES = sorted(SPEAKERS - {HISTORY})
NOT_FOUND = {"sqlstate": "PT404", "constraint": "conversation_not_found"}


def _row_security_alone_keeps_others_out(s: Session, *, table: str) -> None:
    """With every grant and no trigger, nobody adds, changes or deletes another's row, gives one away or takes
    one; and their own only where there is a policy for it."""
    s.superuser.allows(f"GRANT ALL ON {table} TO authenticated")
    before, mine = others(s, table), f"WHERE {of_ada(table)}"
    own_added = table in INSERTS["authenticated"]
    given = {"user_id": None} if table == MESSAGES else {}
    for persona in ("ada", *OTHERS):
        asker = s.as_(persona, triggers="replica")
        for whose in (BOB if persona == "ada" else ADA, None) if own_added else (ADA, BOB, EVE, MALLORY):
            statement, params = insertion(table, **{**given, owner(table): whose})
            asker.refused(statement, params)
            asker.refused(f"{statement} ON CONFLICT DO NOTHING", params)
        if persona != "ada":
            asker.allows(f"UPDATE {table} SET {CHANGES[table]} {mine}", rows=0)
            asker.allows(f"DELETE FROM {table} {mine}", rows=0)
    asker = s.as_("ada", triggers="replica")
    if table == SESSIONS:
        for persona, whose in (("ada", BOB), ("ada", NO_ONE), ("ada", None), ("bob", ADA)):
            change = f"UPDATE {table} SET {CHANGES[table]}, user_id = %s, completed_at = now()"
            s.as_(persona, triggers="replica").refused(change, [whose])
        s.as_("ada").allows(f"UPDATE {table} SET {CHANGES[table]}", rows=2)
    else:
        asker.allows(f"UPDATE {table} SET {CHANGES[table]}", rows=0)
        asker.allows(f"DELETE FROM {table}", rows=0)
    for strength in ("KEY SHARE", "UPDATE"):
        asker.sees_nothing(f"SELECT FROM {table} WHERE {owner(table)} = '{BOB}' FOR {strength}")
    assert others(s, table) == before


def _who_left_sees_and_writes_nothing(s: Session, *, table: str) -> None:
    s.superuser.allows(f"UPDATE {PROFILES} SET deleted_at = now() WHERE id = '{ADA}'", rows=1)
    s.as_("ada").sees_nothing(f"SELECT FROM {table}")
    if table == HISTORY:
        return
    s.superuser.allows(f"GRANT ALL ON {table} TO authenticated")
    asker = s.as_("ada", triggers="replica")
    asker.allows(f"UPDATE {table} SET {CHANGES[table]}", rows=0)
    asker.allows(f"DELETE FROM {table}", rows=0)
    asker.refused(*insertion(table, **{owner(table): ADA}))
    assert s.as_("bob").rows(f"SELECT FROM {table}")


for _table in sorted(SPEAKERS):
    for _sentence, _check, _words in (
        ("nobody reads anothers rows of {}", nobody_reads_anothers_rows, "SELECT view"),
        ("who left sees and writes nothing in {}", _who_left_sees_and_writes_nothing, "SELECT active_user"),
        ("a visitor does nothing in {}", a_visitor_does_nothing, "anon"),
        ("row security alone keeps others out of {}", _row_security_alone_keeps_others_out, "INSERT UPDATE"),
    ):
        if _table != HISTORY or "view" in _words or "active_user" in _words:
            _name = _table.split(".")[1]
            _policies = " ".join(f"{_name}_{verb}_own" for verb in ("select", "insert", "update", "delete"))
            _about = f"{_table} {_words} {_policies} authenticated policy"
            add(_sentence.format(_table), partial(_check, table=_table), _about)


@promise(f"{SESSIONS} INSERT UPDATE DELETE authenticated policy sessions_insert_own sessions_delete_own")
def a_person_begins_completes_and_leaves_scenes_of_their_own(s: Session) -> None:
    asker = s.as_("eve")
    begun = f"INSERT INTO {SESSIONS} (user_id, scenario_id) VALUES ('{EVE}', 2) RETURNING id"
    with s.undone():
        key = asker.value(begun)
        complete = f"UPDATE {SESSIONS} SET is_completed = true WHERE id = %s RETURNING completed_at > now()"
        assert asker.value(complete, [key]) is True
    with s.undone():
        key = asker.value(begun)
        asker.allows(f"DELETE FROM {SESSIONS} WHERE id = %s", [key], rows=1)


@promise(f"{SESSIONS} INSERT authenticated policy sessions_insert_own")
def nobody_begins_a_scene_for_another(s: Session) -> None:
    for persona, whose in (("eve", ADA), ("eve", MALLORY), ("stranger", EVE), ("stranger", MALLORY)):
        begun = f"INSERT INTO {SESSIONS} (user_id, scenario_id) VALUES ('{whose}', 2)"
        s.as_(persona).refused(begun)
        s.as_(persona).refused(f"{begun} ON CONFLICT DO NOTHING")


@promise(f"{SESSIONS} UPDATE authenticated policy sessions_update_own")
def a_person_opens_no_completed_session_again(s: Session) -> None:
    for condition in (f"id = '{SCENE_A}'", "is_completed", "true"):
        s.as_("ada").refused(f"UPDATE {SESSIONS} SET is_completed = false WHERE {condition}")
    for change in (
        "completed_at = NULL",
        "completed_at = now()",
        "is_completed = false, completed_at = NULL",
    ):
        s.as_("ada").refused(f"UPDATE {SESSIONS} SET {change} WHERE id = '{SCENE_A}'")
    # Open it stays without harm, as it was.
    s.as_("bob").refused(f"UPDATE {SESSIONS} SET is_completed = is_completed WHERE id = '{SCENE_B_OPEN}'")


@promise(f"{SESSIONS} DELETE authenticated policy sessions_delete_own")
def a_person_deletes_no_completed_session(s: Session) -> None:
    for condition in (f"id = '{SCENE_A}'", "is_completed", f"id = '{SCENE_B_OPEN}'"):
        s.as_("ada").allows(f"DELETE FROM {SESSIONS} WHERE {condition}", rows=0)
    s.as_("ada").allows(f"DELETE FROM {SESSIONS}", rows=1)
    assert s.as_("ada").rows(f"SELECT id::text FROM {SESSIONS}") == [(SCENE_A,)]


@promise(f"{MESSAGES} INSERT authenticated policy messages_insert_own")
def nobody_speaks_in_anothers_session(s: Session) -> None:
    given = columns(INSERTS, "authenticated", MESSAGES)
    for persona, session in (("ada", SCENE_B_OPEN), ("ada", SCENE_B), *((one, SCENE_OPEN) for one in OTHERS)):
        s.as_(persona).refused(*insertion(MESSAGES, only=given, session_id=session), **NOT_FOUND)
    for persona in ("stranger", "nameless"):
        s.as_(persona).refused(*insertion(MESSAGES, only=given, session_id=NO_ONE), **NOT_FOUND)


@promise(f"{SESSIONS} {MESSAGES} UPDATE SELECT policy")
def nobody_takes_over_a_row_of_the_chat_through_a_conflict(s: Session) -> None:
    begun = f"INSERT INTO {SESSIONS} (id, user_id, scenario_id) VALUES (%s, '{ADA}', 2)"
    for key in (SCENE_B, SCENE_B_OPEN):
        s.as_("ada").refused(f"{begun} ON CONFLICT (id) DO UPDATE SET is_completed = true", [key])
        s.as_("ada").allows(f"{begun} ON CONFLICT DO NOTHING", [key], rows=0)
    s.as_("ada").allows(f"{begun} ON CONFLICT (id) DO UPDATE SET is_completed = true", [SCENE_OPEN], rows=1)


@promise(f"{PROFILES} active_user delete_own_profile authenticated EXECUTE UPDATE")
def a_person_leaves_alone_and_once(s: Session) -> None:
    """And comes not back: neither by deleting nor by asking again."""
    missing = {"sqlstate": "PT404", "constraint": "profile_not_found"}
    leave = "SELECT conversation.delete_own_profile()"
    for persona in UNKNOWN:
        s.as_(persona).refused(leave, **missing)
    s.as_("ada").allows(leave, rows=1)
    s.as_("ada").refused(leave, **missing)
    s.as_("ada").refused(f"UPDATE {PROFILES} SET deleted_at = NULL")
    gone = f"SELECT id::text FROM {PROFILES} WHERE deleted_at IS NOT NULL"
    assert s.superuser.rows(gone) == [(ADA,)]
    assert s.as_("bob").rows(f"SELECT id::text FROM {PROFILES}") == [(BOB,)]


@promise(f"{PROFILES} {SESSIONS} {MESSAGES} {ARCHIVE} {LOGS} policy service_role service_role_sessions")
def the_service_plays_for_anybody_where_it_may_not_bypass_row_security(s: Session) -> None:
    for persona in SERVICES:
        with s.undone():
            asker = s.as_(persona)
            key = insert(asker, SESSIONS, "id")
            said = insert(asker, MESSAGES, "user_id::text", session_id=key)
            assert said == EVE
            asker.allows(f"UPDATE {SESSIONS} SET is_completed = true WHERE id = %s", [key], rows=1)
            insert(asker, LOGS, "id", user_id=EVE, session_id=key)
            assert len(asker.rows(f"SELECT FROM {HISTORY} WHERE user_id = '{EVE}'")) == 1
            asker.allows(f"UPDATE {PROFILES} SET email = 'eve@other.com' WHERE id = '{EVE}'", rows=1)
            asker.allows(f"UPDATE {PROFILES} SET deleted_at = now() WHERE id = '{EVE}'", rows=1)
            asker.allows(f"DELETE FROM {SESSIONS} WHERE id = %s", [key], rows=1)
