"""Ways around the learners' rules: names that shadow ours, and functions that look past row security."""

from tests.security.law import the_law
from tests.security.objects import functions
from tests.security.personas import Asker, Session
from tests.security.promises_escape import PATH, TRAP, evil_is_untouched, prepare_evil
from tests.security.promises_vocabulary_people import CHANGES
from tests.security.registry import promise
from tests.security.rights import LEARNERS
from tests.security.rows import insertion, owner
from tests.security.seed import ADA, EVE, MALLORY

SESSIONS, EXPORTS = "vocabulary.sessions", "vocabulary.export_history"
COUNTING = (
    "fill_user_progress create_user_progress keep_user_progress update_user_progress_from_session"
    " recompute_user_progress recount_user_progress recompute_after_truncate count_user_sessions"
    " derive_duration search_path"
)


def _is(column: str, value: str, kind: str) -> str:
    """A condition that runs nobody's operator but PostgreSQL's own."""
    return f"{column} OPERATOR(pg_catalog.=) '{value}'::pg_catalog.{kind}"


def _learns(asker: Asker, whose: str) -> None:
    """Everything that is counted: sessions that end on the latest day, on a later one and before."""
    for moment in (
        "2026-03-03 10:30+00",
        "2026-03-03 10:20+00",
        "2026-03-04 10:30+00",
        "2026-02-09 10:30+00",
    ):
        asker.allows(
            f"INSERT INTO {SESSIONS} (user_id, session_type, started_at, ended_at)"
            f" VALUES ('{whose}', 'qa', '2026-02-01', '{moment}')"
        )
    mine = f"WHERE {_is('user_id', whose, 'uuid')}"
    asker.allows(f"UPDATE {SESSIONS} SET ended_at = '2026-03-03 10:40+00' {mine}")
    asker.allows(f"UPDATE {SESSIONS} SET started_at = '2026-02-02', duration_minutes = NULL {mine}")
    asker.allows(
        f"INSERT INTO vocabulary.user_progress (user_id, new_words_count) VALUES ('{whose}', 1)"
        " ON CONFLICT (user_id) DO UPDATE SET new_words_count = 2"
    )
    asker.allows(f"DELETE FROM {SESSIONS} {mine}")


# Learners are missing here: their policies ask auth.uid(), which on Supabase is not ours.
@promise(COUNTING)
def no_counting_of_sessions_runs_what_the_callers_search_path_names(s: Session) -> None:
    prepare_evil(s)
    for persona in ("service", "owner"):
        asker = s.as_(persona, search_path=PATH)
        with s.undone():
            _learns(asker, ADA)
            the_law(s)
            asker.allows("SELECT vocabulary.recompute_user_progress(%s)", [ADA])
            asker.allows(f"DELETE FROM vocabulary.users WHERE {_is('id', ADA, 'uuid')}", rows=1)
            evil_is_untouched(s)
    asker.refused("DELETE FROM vocabulary.user_progress", sqlstate="23000")
    asker.allows(f"TRUNCATE {SESSIONS}")
    asker.allows(f"SELECT carnivore.count_user_sessions('{ADA}')")
    the_law(s)


@promise(
    "fold_email create_user_progress enforce_export_transition forget_validation update_users_updated_at"
    " update_user_api_keys_updated_at update_user_progress_updated_at update_export_history_updated_at"
    " keep_export_file search_path"
)
def no_guard_of_learners_rows_runs_what_the_callers_search_path_names(s: Session) -> None:
    prepare_evil(s)
    for persona in ("service", "owner"):
        asker = s.as_(persona, search_path=PATH)
        with s.undone():
            asker.allows(*insertion("vocabulary.users", email="Mallory@Example.com"), rows=1)
            asker.allows(f"UPDATE vocabulary.users SET email = 'M@X.com' WHERE {_is('id', MALLORY, 'uuid')}")
            asker.allows("UPDATE vocabulary.user_api_keys SET openai_api_key = NULL")
            asker.allows("UPDATE vocabulary.user_progress SET new_words_count = 4")
            for before, change in (
                ("failed", "status = 'pending'"),
                ("pending", "status = 'processing'"),
                ("processing", "status = 'failed', error_message = 'x'"),
                ("completed", "status = 'expired', file_url = NULL"),
            ):
                asker.allows(f"UPDATE {EXPORTS} SET {change} WHERE {_is('status::text', before, 'text')}")
            asker.refused(f"UPDATE {EXPORTS} SET data = '[]'", sqlstate="23000", constraint="immutable")
            evil_is_untouched(s)


@promise(COUNTING)
def no_temporary_table_stands_in_for_a_learners(s: Session) -> None:
    shadows = ("users", "sessions", "user_progress", "before_change", "after_change")
    for persona in ("eve", "service"):
        with s.undone():
            asker = s.as_(persona, search_path="pg_temp, vocabulary, pg_catalog")
            for name in (
                *shadows,
                "ended",
                "days",
                "streaks",
                "change",
                "sums",
                "moved",
                "marks",
                "progress",
            ):
                asker.allows(f"CREATE TEMP TABLE {name} (LIKE {SESSIONS})")
            _learns(asker, EVE)
            the_law(s)
            for name in shadows:
                asker.sees_nothing(f"SELECT FROM pg_temp.{name}")


@promise(COUNTING)
def no_temporary_type_counts_with_the_owners_rights(s: Session) -> None:
    # A function that ran before in this connection has its types looked up already: make it forget.
    for function in functions(s, "carnivore", "vocabulary"):
        if not function.procedure:
            s.superuser.allows(f"ALTER FUNCTION {function.signature} COST 100")
    for kind in ("date", "uuid", "record", "jsonb"):
        base = "text" if kind == "record" else kind
        with s.undone():
            asker = s.as_("eve")
            asker.allows(
                f"CREATE FUNCTION pg_temp.look(value {base}) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
                f" IF current_user <> 'authenticated' THEN RAISE EXCEPTION 'ran as %', current_user"
                f" USING ERRCODE = '{TRAP}'; END IF; RETURN true; END $$"
            )
            asker.allows(f"CREATE DOMAIN pg_temp.{kind} AS pg_catalog.{base} CHECK (pg_temp.look(VALUE))")
            _learns(asker, EVE)


@promise(f"rowsecurity policy {' '.join(sorted(LEARNERS))}")
def a_function_in_a_learners_condition_sees_no_row_of_another(s: Session) -> None:
    """Row security comes first, however cheap the caller says the function is."""
    s.as_("ada").allows(
        "CREATE FUNCTION pg_temp.look(whose uuid) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql AS $$ BEGIN"
        f" IF whose IS DISTINCT FROM '{ADA}' THEN RAISE EXCEPTION 'seen: %', whose; END IF;"
        " RETURN true; END $$"
    )
    for table in sorted(LEARNERS):
        seen = f"WHERE pg_temp.look({owner(table)})"
        assert s.as_("ada").rows(f"SELECT FROM {table} {seen}")
        s.as_("ada").allows(f"UPDATE {table} SET {CHANGES[table]} {seen}")


@promise(f"rowsecurity {' '.join(sorted(LEARNERS))}")
def the_planners_statistics_show_a_learner_nothing(s: Session) -> None:
    s.superuser.allows(f"ANALYZE {', '.join(sorted(LEARNERS))}")
    statistics = "SELECT tablename FROM pg_stats WHERE schemaname = 'vocabulary'"
    assert s.superuser.rows(statistics)
    for persona in ("guest", "ada", "stranger"):
        s.as_(persona).sees_nothing(statistics)


@promise(f"policy {' '.join(sorted(LEARNERS))}")
def a_prepared_statement_follows_the_learner_who_runs_it(s: Session) -> None:
    s.superuser.allows("DEALLOCATE ALL")  # no transaction takes a prepared statement back
    s.as_("ada").allows("PREPARE whose AS SELECT id::text FROM vocabulary.users")
    for _ in range(7):  # a generic plan comes after five
        for persona, found in (("ada", [(ADA,)]), ("eve", [(EVE,)]), ("stranger", [])):
            assert s.as_(persona).rows("EXECUTE whose") == found


@promise(f"rowsecurity {' '.join(sorted(LEARNERS))}")
def switching_row_security_off_is_refused_to_a_learner(s: Session) -> None:
    for table in sorted(LEARNERS):
        for persona in ("ada", "stranger"):
            s.as_(persona, row_security="off").refused(f"SELECT FROM {table}")
