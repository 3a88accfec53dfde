"""The chat's keys: what follows a key that changes, what goes with a row that goes, and what keeps it."""

from typing import Any

from tests.security.personas import OWNERS, SERVICES, Session
from tests.security.promises_conversation_rows import (
    ARCHIVE,
    LOGS,
    MESSAGES,
    PROFILES,
    SCENARIOS,
    SESSIONS,
    TYPES,
)
from tests.security.registry import promise
from tests.security.rules import FOREIGN, UNIQUE
from tests.security.seed import ADA, BOB, EVE, NO_ONE, SCENE_A, SCENE_OPEN

HEARD = (MESSAGES, ARCHIVE, LOGS)
FKEYS = {
    "person": "profiles_id_fkey sessions_user_id_fkey messages_user_id_fkey messages_archive_user_id_fkey"
    " logs_user_id_fkey",
    "session": "messages_session_id_fkey messages_archive_session_id_fkey logs_session_id_fkey",
}
ALL = f"{PROFILES} {SESSIONS} {MESSAGES} {ARCHIVE} {LOGS}"


def _ids(s: Session, table: str, condition: str) -> set[Any]:
    return {key for (key,) in s.superuser.rows(f"SELECT id FROM {table} WHERE {condition}")}


def _kept(s: Session, table: str, condition: str) -> list[tuple[Any, ...]]:
    """The rows that the condition does not hold for."""
    return s.superuser.rows(f"SELECT * FROM {table} WHERE ({condition}) IS NOT TRUE ORDER BY id")


@promise(f"{ALL} {FKEYS['person']} UPDATE keep_session_owner prevent_message_updates")
def everything_of_a_persons_follows_their_key(s: Session) -> None:
    """A message that never changes and a session that keeps its person, too."""
    owned = {PROFILES: "id", **dict.fromkeys((SESSIONS, *HEARD), "user_id")}
    for change in (
        f"UPDATE auth.users SET id = '{NO_ONE}' WHERE id = '{ADA}'",
        # Where there is no login, as for a profile alone.
        (
            f"ALTER TABLE {PROFILES} DROP CONSTRAINT profiles_id_fkey;"
            f" UPDATE {PROFILES} SET id = '{NO_ONE}' WHERE id = '{ADA}'"
        ),
    ):
        with s.undone():
            before = {table: _ids(s, table, f"{column} = '{ADA}'") for table, column in owned.items()}
            s.superuser.allows(change)
            for table, column in owned.items():
                assert not _ids(s, table, f"{column} = '{ADA}'")
                found = _ids(s, table, f"{column} = '{NO_ONE}'")
                assert len(found) == len(before[table]) > 0
                assert table == PROFILES or found == before[table]


@promise(f"{SESSIONS} {MESSAGES} {ARCHIVE} {LOGS} {FKEYS['session']} UPDATE prevent_message_updates")
def everything_of_a_sessions_follows_its_key(s: Session) -> None:
    for persona in OWNERS:
        with s.undone():
            before = {table: _ids(s, table, f"session_id = '{SCENE_A}'") for table in HEARD}
            s.as_(persona).allows(f"UPDATE {SESSIONS} SET id = '{NO_ONE}' WHERE id = '{SCENE_A}'", rows=1)
            for table in HEARD:
                assert before[table]
                assert _ids(s, table, f"session_id = '{NO_ONE}'") == before[table]


@promise(f"{SCENARIOS} {SESSIONS} sessions_scenario_id_fkey UPDATE")
def sessions_follow_the_key_of_their_scene(s: Session) -> None:
    played = _ids(s, SESSIONS, "scenario_id = 2")
    assert played
    s.superuser.allows(f"UPDATE {SCENARIOS} SET id = 77 WHERE id = 2", rows=1)
    assert _ids(s, SESSIONS, "scenario_id = 77") == played


@promise(f"{TYPES} {LOGS} logs_event_type_fkey UPDATE")
def events_follow_the_name_of_their_type(s: Session) -> None:
    happened = _ids(s, LOGS, "event_type = 'session_created'")
    assert happened
    s.superuser.allows(f"UPDATE {TYPES} SET code = 'began' WHERE code = 'session_created'", rows=1)
    assert _ids(s, LOGS, "event_type = 'began'") == happened


@promise(f"{ALL} {FKEYS['person']} DELETE")
def everything_of_a_persons_goes_with_their_login_and_events_stay(s: Session) -> None:
    tables = (SESSIONS, MESSAGES, ARCHIVE)
    events = _ids(s, LOGS, f"user_id = '{ADA}'")
    others = {table: _kept(s, table, f"user_id = '{ADA}'") for table in tables}
    for statement in (
        f"DELETE FROM auth.users WHERE id = '{ADA}'",
        f"DELETE FROM {PROFILES} WHERE id = '{ADA}'",
    ):
        with s.undone():
            s.superuser.allows(statement, rows=1)
            assert not _ids(s, PROFILES, f"id = '{ADA}'")
            for table in tables:
                assert not _ids(s, table, f"user_id = '{ADA}'")
                assert _kept(s, table, f"user_id = '{ADA}'") == others[table]
            assert events
            assert events <= _ids(s, LOGS, "user_id IS NULL AND session_id IS NULL")
            assert _ids(s, LOGS, f"user_id = '{BOB}'")


@promise(f"{SESSIONS} {MESSAGES} {ARCHIVE} {LOGS} {FKEYS['session']} DELETE")
def everything_of_a_sessions_goes_with_it_and_events_stay(s: Session) -> None:
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            events = _ids(s, LOGS, f"session_id = '{SCENE_A}'")
            assert events
            s.as_(persona).allows(f"DELETE FROM {SESSIONS} WHERE id = '{SCENE_A}'", rows=1)
            for table in (MESSAGES, ARCHIVE):
                assert not _ids(s, table, f"session_id = '{SCENE_A}'")
            assert events <= _ids(s, LOGS, f"session_id IS NULL AND user_id = '{ADA}'")
            assert _ids(s, MESSAGES, f"session_id = '{SCENE_OPEN}'")


@promise(f"{SCENARIOS} {SESSIONS} sessions_scenario_id_fkey DELETE")
def a_scene_that_somebody_plays_is_not_deleted(s: Session) -> None:
    for persona in OWNERS:
        played = f"DELETE FROM {SCENARIOS} WHERE id = 1"
        s.as_(persona).refused(played, sqlstate=FOREIGN, constraint="sessions_scenario_id_fkey")
        with s.undone():
            s.as_(persona).allows(f"DELETE FROM {SCENARIOS} WHERE code = 'airport'", rows=1)


@promise(f"{TYPES} {LOGS} logs_event_type_fkey DELETE")
def a_type_of_events_that_happened_is_not_deleted(s: Session) -> None:
    happened = f"DELETE FROM {TYPES} WHERE code = 'session_created'"
    s.superuser.refused(happened, sqlstate=FOREIGN, constraint="logs_event_type_fkey")
    s.superuser.allows(f"DELETE FROM {TYPES} WHERE code = 'user_logout'", rows=1)


@promise(f"{PROFILES} on_auth_user_created create_profile_for_new_user begin_profile")
def a_login_brings_its_profile(s: Session) -> None:
    """Whoever makes it: on Supabase that is the auth service, which has no right to anything of ours."""
    signing_up = f"INSERT INTO auth.users (id, email) VALUES ('{NO_ONE}', 'New.Person@Example.COM')"
    s.superuser.allows("GRANT INSERT ON auth.users TO anon")
    s.superuser.allows("CREATE POLICY mine ON auth.users FOR INSERT TO anon WITH CHECK (true)")
    s.as_("anon").allows(signing_up, rows=1)
    assert s.superuser.row(
        "SELECT email::text, completed_scenario_count, current_week_completion_count,"
        " week_reset_date > now() AND week_reset_date <= now() + interval '7 days'"
        f" FROM {PROFILES} WHERE id = '{NO_ONE}'"
    ) == ("New.Person@Example.COM", 0, 0, True)


@promise(f"{PROFILES} email collation profiles_email_key")
def addresses_that_differ_in_case_are_one_wherever_citext_is_looked_for(s: Session) -> None:
    """citext compares by case where its schema is not in the search path; the column's collation does not."""
    count = f"SELECT count(*) FROM {PROFILES} WHERE email "
    for path in ("pg_catalog", "public", "extensions, public", "conversation", ""):
        for persona in (*SERVICES, *OWNERS):
            asker = s.as_(persona, search_path=path)
            for condition in (
                "= 'ADA@Example.COM'",
                "= ANY (ARRAY['Ada@EXAMPLE.com'])",
                "IN ('ADA@example.com')",
            ):
                assert asker.value(count + condition) == 1, (persona, path, condition)
            change = f"UPDATE {PROFILES} SET email = 'EVE@Example.COM' WHERE id = '{BOB}'"
            asker.refused(change, sqlstate=UNIQUE, constraint="profiles_email_key")
            own = f"UPDATE {PROFILES} SET email = 'EVE@Example.COM' WHERE id = '{EVE}'"
            with s.undone():
                asker.allows(own, rows=1)
