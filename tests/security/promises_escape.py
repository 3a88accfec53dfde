"""Ways around the rules: names that shadow ours, functions that look past row security, old plans.

What is done with a caller's search path is a list of deeds; the other attacks are tried in every area.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.security.evil import PATH, TRAP, evil_is_untouched, prepare_evil
from tests.security.law import the_law
from tests.security.objects import functions, relations
from tests.security.people import CHANGES
from tests.security.personas import Asker, Session
from tests.security.promises_sessions import TABLES as PAID
from tests.security.registry import add, promise
from tests.security.rights import JOBS, LEARNERS, SPEAKERS
from tests.security.rows import insertion, owner
from tests.security.seed import (
    ADA,
    CALCULATOR_A,
    EVE,
    MALLORY,
    NO_ONE,
    REPORT_A,
    SCENE_OPEN,
)

REPORTS, CALCULATORS = "public.generated_reports", "public.calculator2_sessions"
SITTINGS, EXPORTS = "vocabulary.sessions", "vocabulary.export_history"
PROFILES, SCENES, MESSAGES = "conversation.profiles", "conversation.sessions", "conversation.messages"
TOKENS = "open_report check_report resume_calculator save_calculator fold_report_access search_path"
COUNTING = (
    "fill_user_progress create_user_progress keep_user_progress update_user_progress_from_session"
    " recompute_user_progress recount_user_progress recompute_after_truncate count_user_sessions"
    " derive_duration search_path"
)
SPEAKING = (
    "active_user begin_profile begin_session calculate_session_duration increment_message_count"
    " populate_message_user_id prevent_messages_in_completed_sessions limit_messages limit_completions"
    " recognise_archived refuse_departed update_profile_completion_counts count_completions"
    " update_updated_at_column next_monday delete_own_profile search_path"
)
JOB_NAMES = "archive_messages delete_expired_sessions delete_old_logs reset_weekly_limits erase_profile"
Deed = Callable[[Session, Asker], None]


def _is(column: str, value: str, kind: str) -> str:
    """A condition that runs nobody's operator but PostgreSQL's own."""
    return f"{column} OPERATOR(pg_catalog.=) '{value}'::pg_catalog.{kind}"


def _uses_tokens(asker: Asker) -> None:
    """What a browser does, with a right token and with a wrong one."""
    assert asker.value("SELECT report_id FROM public.open_report(%s, '192.0.2.1', 'x')", [REPORT_A]) == 9001
    assert asker.value("SELECT report_id FROM public.check_report(%s)", [REPORT_A]) == 9001
    asker.allows("SELECT FROM public.resume_calculator(%s)", [CALCULATOR_A], rows=1)
    asker.allows("SELECT FROM public.save_calculator(%s, '{}', 'doctor')", [CALCULATOR_A], rows=1)
    for call in (
        "open_report('x')",
        "check_report('x')",
        "resume_calculator('x')",
        "save_calculator('x', '{}')",
    ):
        asker.refused(f"SELECT FROM public.{call}", sqlstate="PT404")


def _learns(whose: str, asker: Asker) -> None:
    """Everything that is counted: sessions that end on the latest day, on a later one and before."""
    for moment in ("03-03 10:30", "03-03 10:20", "03-04 10:30", "02-09 10:30"):
        asker.allows(
            f"INSERT INTO {SITTINGS} (user_id, session_type, started_at, ended_at)"
            f" VALUES ('{whose}', 'qa', '2026-02-01', '2026-{moment}+00')"
        )
    mine = f"WHERE {_is('user_id', whose, 'uuid')}"
    asker.allows(f"UPDATE {SITTINGS} SET ended_at = '2026-03-03 10:40+00' {mine}")
    asker.allows(f"UPDATE {SITTINGS} SET started_at = '2026-02-02', duration_minutes = NULL {mine}")
    asker.allows(
        f"INSERT INTO vocabulary.user_progress (user_id, new_words_count) VALUES ('{whose}', 1)"
        " ON CONFLICT (user_id) DO UPDATE SET new_words_count = 2"
    )
    asker.allows(f"DELETE FROM {SITTINGS} {mine}")


def _speaks(asker: Asker) -> None:
    """What is counted and guarded: something is said, the scene completed, another one begun and left."""
    asker.allows(
        f"INSERT INTO {MESSAGES} (session_id, role, chat_type, content) VALUES"
        f" ('{SCENE_OPEN}', 'user', 'main', 'Ja.'), ('{SCENE_OPEN}', 'helper_assistant', 'helper', 'Yes.')",
        rows=2,
    )
    asker.allows(f"UPDATE {SCENES} SET is_completed = true")
    asker.allows(f"INSERT INTO {SCENES} (user_id, scenario_id) VALUES ('{ADA}', 3)", rows=1)
    asker.allows(f"DELETE FROM {SCENES} WHERE NOT is_completed")


def _no_name_of_the_callers_runs(s: Session, *, deed: Deed, personas: str) -> None:
    prepare_evil(s)
    for persona in personas.split():
        with s.undone():
            deed(s, s.as_(persona, search_path=PATH))
            evil_is_untouched(s)


def _deed(personas: str, about: str) -> Callable[[Deed], Deed]:
    """What these do runs nothing that their search path names.

    Learners are missing, and readers of user_sessions: their policies ask auth.uid() and auth.email(), which
    on Supabase are not ours.
    """

    def register(deed: Deed) -> Deed:
        check = partial(_no_name_of_the_callers_runs, deed=deed, personas=personas)
        name = f"who {deed.__name__.replace('_', ' ')} runs nothing that their search path names"
        add(name, check, f"{about} search_path")
        return deed

    return register


@_deed("anon stranger service", TOKENS)
def uses_a_token(_: Session, asker: Asker) -> None:
    _uses_tokens(asker)


@_deed(
    "service owner",
    "fold_email fill_report_email record_expiry_change increment_report_access fold_report_access"
    " enforce_payment_transition set_completed_at update_user_sessions_updated_at"
    " update_calculator2_sessions_last_active update_cw_assessment_sessions_updated_at",
)
def pays_and_reports(_: Session, asker: Asker) -> None:
    for table in PAID:
        asker.allows(*insertion(table, payment_status="pending"), rows=1)
        asker.allows(f"UPDATE {table} SET payment_status = payment_status")
    asker.allows("UPDATE public.cw_assessment_sessions SET payment_status = 'completed'")
    asker.allows("UPDATE public.user_sessions SET email = 'eve@example.com'")
    later = "expires_at OPERATOR(pg_catalog.+) '1 day'::pg_catalog.interval"
    asker.allows(f"UPDATE {REPORTS} SET expires_at = {later}", rows=3)
    asker.allows(*insertion(REPORTS, email=None), rows=1)
    for counting in ("off", "deferred"):
        asker.allows(f"SET LOCAL carnivore.access_counting = '{counting}'")
        asker.allows(*insertion("public.report_access_log"), rows=1)
        asker.allows("SELECT public.fold_report_access()")


@_deed("service owner", "delete_expired_reports delete_expired_calculator_sessions delete_report_pages")
def deletes_what_is_due(_: Session, asker: Asker) -> None:
    asker.allows("SELECT public.delete_expired_calculator_sessions()", rows=1)
    asker.allows("SELECT public.delete_expired_reports(10, '0')", rows=1)


@_deed(
    "owner superuser",
    "refuse_change refuse_rewriting refuse_truncate table_of record_expiry_change enforce_payment_transition",
)
def meets_the_guards_of_reports(_: Session, asker: Asker) -> None:
    broken = {"sqlstate": "23000"}
    asker.refused(f"UPDATE {REPORTS} SET report_html = 'x'", **broken)
    asker.refused("UPDATE public.user_sessions SET payment_status = 'pending'", **broken)
    asker.refused("DELETE FROM public.report_access_log", **broken)
    asker.refused("TRUNCATE public.report_access_log", **broken)
    asker.allows(f"DELETE FROM {REPORTS}")


@_deed(
    "owner",
    "refuse_report refuse_calculator close_partition create_partition partition_plan count_due table_of"
    " record_job create_next_partition refuse_archived count_completions next_monday record_partition_sizes"
    " count_user_sessions",
)
def calls_the_helpers(s: Session, asker: Asker) -> None:
    """Directly: beneath another function they would have that one's search path."""
    asker.refused("SELECT carnivore.refuse_report('x')", sqlstate="PT404")
    asker.refused("SELECT carnivore.refuse_calculator('x')", sqlstate="PT404")
    asker.allows("SELECT carnivore.next_monday(pg_catalog.now())")
    asker.allows(f"SELECT carnivore.count_completions('{ADA}')")
    asker.allows(f"SELECT carnivore.count_user_sessions('{ADA}')")
    asker.allows(f"SELECT carnivore.table_of('{REPORTS}'::pg_catalog.regclass)")
    asker.allows("SELECT FROM carnivore.partition_plan(3)")
    asker.allows("SELECT carnivore.create_next_partition(9, true)")
    asker.allows("SELECT carnivore.count_due('old_logs')")
    asker.allows("SELECT carnivore.record_job('fold', pg_catalog.now(), NULL, NULL)")
    asker.allows("SELECT carnivore.record_partition_sizes()")
    asker.allows("SELECT carnivore.refuse_archived('public.report_access_log')")
    for table in ("public.report_access_log", "conversation.logs"):
        assert asker.value(f"SELECT carnivore.create_partition('{table}', '2031-07-01')") is True
        s.superuser.allows(
            f"CREATE TABLE {table}_2031_06 PARTITION OF {table}"
            " FOR VALUES FROM ('2031-06-01 00:00:00+00') TO ('2031-07-01 00:00:00+00')"
        )
        s.superuser.allows(f"ALTER TABLE {table}_2031_06 OWNER TO {s.owner}")
        asker.allows(f"SELECT carnivore.close_partition('{table}_2031_06', '{table}')")


@_deed("service owner", COUNTING)
def counts_a_learners_sessions(s: Session, asker: Asker) -> None:
    _learns(ADA, asker)
    the_law(s)
    asker.allows("SELECT vocabulary.recompute_user_progress(%s)", [ADA])
    asker.allows(f"DELETE FROM vocabulary.users WHERE {_is('id', ADA, 'uuid')}", rows=1)


@_deed("owner", COUNTING)
def empties_the_learners_sessions(s: Session, asker: Asker) -> None:
    asker.refused("DELETE FROM vocabulary.user_progress", sqlstate="23000")
    asker.allows(f"TRUNCATE {SITTINGS}")
    the_law(s)


@_deed(
    "service owner",
    "fold_email create_user_progress enforce_export_transition forget_validation update_users_updated_at"
    " update_user_api_keys_updated_at update_user_progress_updated_at update_export_history_updated_at"
    " keep_export_file",
)
def meets_the_guards_of_learners(_: Session, asker: Asker) -> None:
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


@_deed("ada", f"{' '.join(sorted(SPEAKERS))} {SPEAKING} policy")
def speaks_and_leaves(_: Session, asker: Asker) -> None:
    """Not even auth.uid() is met there, which on Supabase is not ours: active_user() calls it."""
    for table in sorted(SPEAKERS):
        assert asker.rows(f"SELECT {owner(table)} FROM {table}")
    assert asker.rows("SELECT id FROM conversation.public_scenarios")
    _speaks(asker)
    asker.allows("SELECT conversation.delete_own_profile()")
    asker.sees_nothing(f"SELECT id FROM {PROFILES}")


@_deed("service owner", f"{SPEAKING} {JOB_NAMES} keep_message create_profile_for_new_user log_failed_job")
def runs_the_chat(s: Session, asker: Asker) -> None:
    s.superuser.allows("GRANT INSERT ON auth.users TO service_role")
    _speaks(asker)
    asker.allows(*insertion("conversation.logs"), rows=1)
    asker.allows(f"UPDATE {PROFILES} SET email = email, deleted_at = NULL")
    asker.allows("UPDATE conversation.scenarios SET sort_order = id")
    asker.allows(f"INSERT INTO auth.users (id, email) VALUES ('{NO_ONE}', 'new@example.com')", rows=1)
    for job in sorted(JOBS - {"conversation.run_job"}):
        asker.allows(f"SELECT {job}(10)")
    asker.allows("SELECT conversation.archive_messages(10, older_than => '1 hour')")
    asker.allows("SELECT conversation.log_failed_job('x', NULL, NULL, NULL, NULL)")
    asker.allows(f"SELECT conversation.erase_profile('{ADA}')")


@_deed("owner", "begin_profile")
def makes_a_profile(_: Session, asker: Asker) -> None:
    asker.allows(*insertion(PROFILES), rows=1)


@_deed(
    "owner superuser",
    "prevent_message_updates check_erasure keep_message keep_session_owner refuse_change refuse_rewriting",
)
def meets_the_guards_of_the_chat(_: Session, asker: Asker) -> None:
    for attempt in (
        f"UPDATE {MESSAGES} SET content = 'x'",
        f"UPDATE {MESSAGES} SET content = '[erased]'",
        "UPDATE conversation.messages_archive SET content = 'x'",
        f"DELETE FROM {MESSAGES}",
        "DELETE FROM conversation.messages_archive",
        f"TRUNCATE {MESSAGES}",
        f"UPDATE {SCENES} SET user_id = '{EVE}'",
        "UPDATE conversation.scenarios SET code = 'x'",
    ):
        asker.refused(attempt, sqlstate="23000")
    asker.allows(f"DELETE FROM {SCENES}")


@promise("presented_report_token presented_calculator_token policy search_path")
def no_policy_runs_what_the_callers_search_path_names(s: Session) -> None:
    prepare_evil(s)
    for bearer, table in (("report", REPORTS), ("calculator", CALCULATORS)):
        for persona in (f"{bearer} holder", f"{bearer} browser"):
            s.as_(persona, search_path=PATH).allows(f"SELECT created_at FROM {table}", rows=1)


@dataclass(frozen=True)
class Area:
    """What is tried in an area: what people do there, and what they see of its tables."""

    schema: str
    about: str
    does: Callable[[Asker], None]
    doers: tuple[str, ...]
    path: str
    # Names of tables and of aliases that a function uses.
    shadows: str
    columns: str
    kinds: str
    tables: str
    # Who looks at which column: nothing but this of ada's is to be seen.
    looks: tuple[tuple[str, str, str], ...]
    seen: str
    changes: dict[str, str]
    asked: str
    found: dict[str, list[tuple[object, ...]]]
    strangers: tuple[str, ...]


def _own(tables: set[str]) -> tuple[tuple[str, str, str], ...]:
    return tuple(("ada", table, f"{owner(table)}::text") for table in sorted(tables))


LEARNING = "users sessions user_progress before_change after_change ended days streaks change sums moved"
AREAS = (
    Area(
        schema="public",
        about=TOKENS,
        does=_uses_tokens,
        doers=("anon", "stranger"),
        path="pg_temp, public, pg_catalog",
        shadows="user_sessions report_access_log report_access_pending report_expiry_changes pricing_tiers"
        " calculator2_sessions cw_assessment_sessions stripe_events new_accesses delta locked report session",
        columns="id bigint, report_id bigint, accessed_at timestamptz",
        kinds="jsonb inet timestamptz record",
        tables=f"{REPORTS} {CALCULATORS} public.user_sessions",
        looks=(
            ("report holder", REPORTS, "report_html"),
            ("calculator holder", CALCULATORS, "form_state::text"),
            ("ada", "public.user_sessions", "email::text"),
        ),
        seen="ada|41",
        changes={},
        asked=f"SELECT id FROM {REPORTS}",
        found={"report holder": [(9001,)], "anon": [], "stranger": []},
        strangers=("anon", "stranger", "report holder", "calculator holder"),
    ),
    Area(
        schema="vocabulary",
        about=COUNTING,
        does=partial(_learns, EVE),
        doers=("eve", "service"),
        path="pg_temp, vocabulary, pg_catalog",
        shadows=f"{LEARNING} marks progress",
        columns=f"LIKE {SITTINGS}",
        kinds="date uuid record jsonb",
        tables=" ".join(sorted(LEARNERS)),
        looks=_own(LEARNERS),
        seen=ADA,
        changes={table: CHANGES[table] for table in LEARNERS},
        asked="SELECT id::text FROM vocabulary.users",
        found={"ada": [(ADA,)], "eve": [(EVE,)], "stranger": []},
        strangers=("guest", "ada", "stranger"),
    ),
    Area(
        schema="conversation",
        about=SPEAKING,
        does=_speaks,
        doers=("ada",),
        path="pg_temp, conversation, pg_catalog",
        shadows="profiles sessions messages rate_limits new_messages counted s m p l",
        columns=f"LIKE {SCENES}",
        kinds="uuid timestamptz text interval bool",
        tables=" ".join(sorted(SPEAKERS - {"conversation.message_history"})),
        looks=_own(SPEAKERS),
        seen=ADA,
        changes={SCENES: CHANGES[SCENES]},
        asked=f"SELECT id::text FROM {PROFILES}",
        found={"ada": [(ADA,)], "eve": [(EVE,)], "stranger": []},
        strangers=("guest", "ada", "stranger"),
    ),
)


def _no_temporary_table_stands_in(s: Session, area: Area) -> None:
    counts = f"SELECT message_count_main, message_count_helper FROM {SCENES} WHERE id = '{SCENE_OPEN}'"
    main, helper = s.superuser.row(counts)
    for persona in area.doers:
        with s.undone():
            asker = s.as_(persona, search_path=area.path)
            for name in area.shadows.split():
                asker.allows(f"CREATE TEMP TABLE {name} ({area.columns})")
            area.does(asker)
            the_law(s)
            if area.does is _speaks:
                assert s.superuser.row(counts) == (main + 1, helper + 1)
            for name in area.shadows.split():
                asker.sees_nothing(f"SELECT FROM pg_temp.{name}")


def _no_temporary_type_runs_with_the_owners_rights(s: Session, area: Area) -> None:
    # A function that ran before in this connection has its types looked up already: make it forget.
    for function in functions(s):
        if not function.procedure:
            s.superuser.allows(f"ALTER FUNCTION {function.signature} COST 100")
    persona = area.doers[0]
    role = "anon" if persona == "anon" else "authenticated"
    for kind in area.kinds.split():
        base = "text" if kind == "record" else kind
        with s.undone():
            asker = s.as_(persona)
            asker.allows(
                f"CREATE FUNCTION pg_temp.look(value pg_catalog.{base}) RETURNS boolean LANGUAGE plpgsql"
                f" AS $$ BEGIN IF current_user <> '{role}' THEN RAISE EXCEPTION 'ran as %', current_user"
                f" USING ERRCODE = '{TRAP}'; END IF; RETURN true; END $$"
            )
            asker.allows(f"CREATE DOMAIN pg_temp.{kind} AS pg_catalog.{base} CHECK (pg_temp.look(VALUE))")
            area.does(asker)
            if area.schema == "conversation":
                asker.allows("SELECT conversation.delete_own_profile()")


def _a_function_in_a_condition_sees_no_hidden_row(s: Session, area: Area) -> None:
    """Row security comes first, however cheap the caller says the function is."""
    for persona, table, column in area.looks:
        asker = s.as_(persona)
        with s.undone():
            asker.allows(
                "CREATE FUNCTION pg_temp.look(value text) RETURNS boolean COST 0.0000001"
                f" LANGUAGE plpgsql AS $$ BEGIN IF value !~ '{area.seen}' OR value IS NULL THEN"
                " RAISE EXCEPTION 'seen: %', value; END IF; RETURN true; END $$"
            )
            assert asker.rows(f"SELECT FROM {table} WHERE pg_temp.look({column})")
            if table in area.changes:
                asker.allows(f"UPDATE {table} SET {area.changes[table]} WHERE pg_temp.look({column})")


def _the_planners_statistics_show_nothing(s: Session, area: Area) -> None:
    s.superuser.allows(f"ANALYZE {', '.join(area.tables.split())}")
    statistics = f"SELECT FROM pg_stats WHERE schemaname = '{area.schema}' AND tablename <> 'scenarios'"
    assert s.superuser.rows(statistics)
    for persona in area.strangers:
        s.as_(persona).sees_nothing(statistics)
        s.as_(persona).refused("SELECT FROM pg_statistic")


def _a_prepared_statement_follows_who_runs_it(s: Session, area: Area) -> None:
    s.superuser.allows("DEALLOCATE ALL")  # no transaction takes a prepared statement back
    s.as_(next(iter(area.found))).allows(f"PREPARE whose AS {area.asked}")
    for _ in range(7):  # a generic plan comes after five
        for persona, found in area.found.items():
            assert s.as_(persona).rows("EXECUTE whose") == found


def _switching_row_security_off_is_refused(s: Session, area: Area) -> None:
    for _, table, column in area.looks:
        for persona in area.strangers[1:]:
            s.as_(persona, row_security="off").refused(f"SELECT {column} FROM {table}")


for _attack, _of in (
    (_no_temporary_table_stands_in, "{about}"),
    (_no_temporary_type_runs_with_the_owners_rights, "{about}"),
    (_a_function_in_a_condition_sees_no_hidden_row, "rowsecurity policy {tables}"),
    (_the_planners_statistics_show_nothing, "rowsecurity {tables}"),
    (_a_prepared_statement_follows_who_runs_it, "policy {tables} {about}"),
    (_switching_row_security_off_is_refused, "rowsecurity {tables}"),
):
    for _area in AREAS:
        add(
            f"in {_area.schema}{_attack.__name__.replace('_', ' ')}",
            partial(_attack, area=_area),
            _of.format(about=_area.about, tables=_area.tables),
        )


@promise(TOKENS)
def no_token_of_a_temporary_report_opens_it(s: Session) -> None:
    for persona in ("anon", "stranger"):
        with s.undone():
            asker = s.as_(persona, search_path="pg_temp, public, pg_catalog")
            for table in relations(s, "public"):
                if not table.view:
                    asker.allows(
                        f"CREATE TEMP TABLE {table.name.split('.')[1]}"
                        " (id bigint, access_token text, expires_at timestamptz)"
                    )
            fake = "INSERT INTO pg_temp.generated_reports VALUES (9001, %s, 'infinity')"
            asker.allows(fake, ["f0" * 32])
            asker.refused("SELECT FROM public.open_report(%s)", ["f0" * 32], sqlstate="PT404")
            _uses_tokens(asker)


@promise(JOB_NAMES)
def who_may_call_a_job_needs_no_right_to_the_rows(s: Session) -> None:
    """A scheduler's role has EXECUTE and nothing else."""
    calls = [f"{job}(10)" for job in sorted(JOBS - {"conversation.run_job"})]
    s.superuser.allows("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA conversation TO anon")
    for call in (*calls, f"conversation.erase_profile('{ADA}')"):
        s.as_("anon").allows(f"SELECT {call}", rows=1)
