"""Ways around the chat's rules: names that shadow ours, and functions that look past row security."""

from tests.security.objects import functions
from tests.security.personas import Asker, Session
from tests.security.promises_conversation_people import (
    ARCHIVE,
    CHANGES,
    LOGS,
    MESSAGES,
    PROFILES,
    SESSIONS,
    TABLES,
)
from tests.security.promises_conversation_rows import SCENARIOS
from tests.security.promises_escape import PATH, TRAP, evil_is_untouched, prepare_evil
from tests.security.registry import promise
from tests.security.rights import JOBS, SPEAKERS
from tests.security.rows import insertion, owner
from tests.security.seed import ADA, EVE, NO_ONE, SCENE_OPEN

SPEAKING = (
    "active_user begin_profile begin_session calculate_session_duration increment_message_count"
    " populate_message_user_id prevent_messages_in_completed_sessions limit_messages"
    " update_profile_completion_counts count_completions update_updated_at_column next_monday search_path"
)
ALL = " ".join(sorted(SPEAKERS))


def _speaks(asker: Asker, session: str = SCENE_OPEN) -> None:
    """What is counted and guarded: something is said, the scene completed, another one begun and left."""
    asker.allows(
        f"INSERT INTO {MESSAGES} (session_id, role, chat_type, content) VALUES"
        f" ('{session}', 'user', 'main', 'Ja.'), ('{session}', 'helper_assistant', 'helper', 'Yes.')",
        rows=2,
    )
    asker.allows(f"UPDATE {SESSIONS} SET is_completed = true")
    asker.allows(f"INSERT INTO {SESSIONS} (user_id, scenario_id) VALUES ('{ADA}', 3)", rows=1)
    asker.allows(f"DELETE FROM {SESSIONS} WHERE NOT is_completed")


@promise(f"{ALL} {SPEAKING} policy delete_own_profile")
def nothing_that_a_person_says_runs_what_their_search_path_names(s: Session) -> None:
    """Not even auth.uid(), which on Supabase is not ours: active_user() calls it."""
    prepare_evil(s)
    asker = s.as_("ada", search_path=PATH)
    for table in sorted(SPEAKERS):
        assert asker.rows(f"SELECT {owner(table)} FROM {table}")
    assert asker.rows("SELECT id FROM conversation.public_scenarios")
    _speaks(asker)
    asker.allows("SELECT conversation.delete_own_profile()")
    asker.sees_nothing(f"SELECT id FROM {PROFILES}")
    evil_is_untouched(s)


@promise(
    f"{SPEAKING} archive_messages delete_expired_sessions delete_old_logs reset_weekly_limits erase_profile"
    " keep_message create_logs_partition close_logs_partition create_profile_for_new_user"
)
def nothing_that_the_service_or_the_owner_does_runs_what_their_search_path_names(s: Session) -> None:
    prepare_evil(s)
    s.superuser.allows("GRANT INSERT ON auth.users TO service_role")
    for persona in ("service", "owner"):
        asker = s.as_(persona, search_path=PATH)
        with s.undone():
            _speaks(asker)
            asker.allows(*insertion(LOGS), rows=1)
            asker.allows(f"UPDATE {PROFILES} SET email = email, deleted_at = NULL")
            asker.allows(f"UPDATE {SCENARIOS} SET sort_order = id")
            asker.allows(f"INSERT INTO auth.users (id, email) VALUES ('{NO_ONE}', 'new@example.com')", rows=1)
            for job in sorted(JOBS - {"conversation.run_job"}):
                asker.allows(f"SELECT {job}(10)")
            asker.allows("SELECT conversation.archive_messages(10, older_than => '1 hour')")
            asker.allows(f"SELECT conversation.erase_profile('{ADA}')")
            evil_is_untouched(s)
    asker.allows(*insertion(PROFILES), rows=1)
    asker.allows("SELECT carnivore.next_monday(pg_catalog.now())")
    asker.allows(f"SELECT carnivore.count_completions('{ADA}')")
    assert asker.value("SELECT carnivore.create_logs_partition('2031-07-01')") is True
    s.superuser.allows(
        f"CREATE TABLE conversation.logs_2031_08 PARTITION OF {LOGS}"
        " FOR VALUES FROM ('2031-08-01 00:00:00+00') TO ('2031-09-01 00:00:00+00')"
    )
    s.superuser.allows(f"ALTER TABLE conversation.logs_2031_08 OWNER TO {s.owner}")
    asker.allows("SELECT carnivore.close_logs_partition('conversation.logs_2031_08')")


@promise("prevent_message_updates keep_message keep_session_owner refuse_change refuse_rewriting search_path")
def no_guard_of_the_chat_runs_what_the_callers_search_path_names(s: Session) -> None:
    prepare_evil(s)
    for persona in ("owner", "superuser"):
        asker = s.as_(persona, search_path=PATH)
        for attempt in (
            f"UPDATE {MESSAGES} SET content = 'x'",
            f"UPDATE {ARCHIVE} SET content = 'x'",
            f"DELETE FROM {MESSAGES}",
            f"DELETE FROM {ARCHIVE}",
            f"TRUNCATE {MESSAGES}",
            f"UPDATE {SESSIONS} SET user_id = '{EVE}'",
            f"UPDATE {SCENARIOS} SET code = 'x'",
        ):
            asker.refused(attempt, sqlstate="23000")
        with s.undone():
            asker.allows(f"DELETE FROM {SESSIONS}")
            evil_is_untouched(s)


@promise(SPEAKING)
def no_temporary_table_stands_in_for_the_chats(s: Session) -> None:
    shadows = (
        "profiles",
        "sessions",
        "messages",
        "rate_limits",
        "new_messages",
        "counted",
        "s",
        "m",
        "p",
        "l",
    )
    asker = s.as_("ada", search_path="pg_temp, conversation, pg_catalog")
    for name in shadows:
        asker.allows(f"CREATE TEMP TABLE {name} (LIKE {SESSIONS})")
    counts = f"SELECT message_count_main, message_count_helper FROM {SESSIONS} WHERE id = '{SCENE_OPEN}'"
    main, helper = s.superuser.row(counts)
    _speaks(asker)
    assert s.superuser.row(counts) == (main + 1, helper + 1)
    for name in shadows:
        asker.sees_nothing(f"SELECT FROM pg_temp.{name}")


@promise(f"{SPEAKING} delete_own_profile")
def no_temporary_type_speaks_with_the_owners_rights(s: Session) -> None:
    # A function that ran before in this connection has its types looked up already: make it forget.
    for function in functions(s, "carnivore", "conversation"):
        if not function.procedure:
            s.superuser.allows(f"ALTER FUNCTION {function.signature} COST 100")
    for kind in ("uuid", "timestamptz", "text", "interval", "bool"):
        with s.undone():
            asker = s.as_("ada")
            asker.allows(
                f"CREATE FUNCTION pg_temp.look(value pg_catalog.{kind}) RETURNS boolean"
                " LANGUAGE plpgsql AS $$ BEGIN IF current_user <> 'authenticated' THEN"
                f" RAISE EXCEPTION 'ran as %', current_user USING ERRCODE = '{TRAP}'; END IF;"
                " RETURN true; END $$"
            )
            asker.allows(f"CREATE DOMAIN pg_temp.{kind} AS pg_catalog.{kind} CHECK (pg_temp.look(VALUE))")
            _speaks(asker)
            asker.allows("SELECT conversation.delete_own_profile()")


@promise("archive_messages delete_expired_sessions delete_old_logs reset_weekly_limits erase_profile")
def who_may_call_a_job_needs_no_right_to_the_rows(s: Session) -> None:
    """A scheduler's role has EXECUTE and nothing else."""
    calls = [f"{job}(10)" for job in sorted(JOBS - {"conversation.run_job"})]
    s.superuser.allows("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA conversation TO anon")
    for call in (*calls, f"conversation.erase_profile('{ADA}')"):
        s.as_("anon").allows(f"SELECT {call}", rows=1)


@promise(f"rowsecurity policy {ALL}")
def a_function_in_a_persons_condition_sees_no_row_of_another(s: Session) -> None:
    """Row security comes first, however cheap the caller says the function is."""
    s.as_("ada").allows(
        "CREATE FUNCTION pg_temp.look(whose uuid) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql AS $$ BEGIN"
        f" IF whose IS DISTINCT FROM '{ADA}' THEN RAISE EXCEPTION 'seen: %', whose; END IF;"
        " RETURN true; END $$"
    )
    for table in sorted(SPEAKERS):
        assert s.as_("ada").rows(f"SELECT FROM {table} WHERE pg_temp.look({owner(table)})")
    s.as_("ada").allows(f"UPDATE {SESSIONS} SET {CHANGES[SESSIONS]} WHERE pg_temp.look(user_id)", rows=2)


@promise(f"rowsecurity {ALL}")
def the_planners_statistics_show_a_person_nothing(s: Session) -> None:
    s.superuser.allows(f"ANALYZE {', '.join(TABLES)}")
    statistics = (
        "SELECT tablename FROM pg_stats WHERE schemaname = 'conversation' AND tablename <> 'scenarios'"
    )
    assert s.superuser.rows(statistics)
    for persona in ("guest", "ada", "stranger"):
        s.as_(persona).sees_nothing(statistics)


@promise(f"policy active_user {ALL}")
def a_prepared_statement_follows_the_person_who_runs_it(s: Session) -> None:
    s.superuser.allows("DEALLOCATE ALL")  # no transaction takes a prepared statement back
    s.as_("ada").allows(f"PREPARE whose AS SELECT id::text FROM {PROFILES}")
    for _ in range(7):  # a generic plan comes after five
        for persona, found in (("ada", [(ADA,)]), ("eve", [(EVE,)]), ("stranger", [])):
            assert s.as_(persona).rows("EXECUTE whose") == found


@promise(f"rowsecurity {ALL}")
def switching_row_security_off_is_refused_to_a_person(s: Session) -> None:
    for table in sorted(SPEAKERS):
        for persona in ("ada", "stranger"):
            s.as_(persona, row_security="off").refused(f"SELECT FROM {table}")
