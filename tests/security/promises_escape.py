"""Ways around: names that shadow ours, functions that look over row security's shoulder, old plans."""

from tests.security.objects import functions, relations
from tests.security.personas import Asker, Session
from tests.security.promises_sessions import TABLES
from tests.security.registry import promise
from tests.security.rows import insertion
from tests.security.seed import CALCULATOR_A, REPORT_A

DEFINERS = "open_report check_report resume_calculator save_calculator fold_report_access search_path"
TRAP = "EV111"
PATH = "evil, pg_catalog, public"
# Whatever the functions name without a schema: name, arguments, result.
TRAPS = (
    ("lower", "text", "text"),
    ("lower", "varchar", "text"),
    ("now", "", "timestamptz"),
    ("statement_timestamp", "", "timestamptz"),
    ("current_setting", "text", "text"),
    ("current_setting", "text, boolean", "text"),
    ("btrim", "text", "text"),
    ("left", "text, integer", "text"),
    ("split_part", "text, text, integer", "text"),
    ("to_char", "timestamp, text", "text"),
    ("to_jsonb", "anyelement", "jsonb"),
    ("to_regclass", "text", "regclass"),
    ("date_trunc", "text, timestamp", "timestamp"),
    ("format", "text, regclass", "text"),
    ("format", "text, text", "text"),
    ("max", "timestamptz", "timestamptz"),
    ("sum", "bigint", "numeric"),
    ("clock_timestamp", "", "timestamptz"),
    ("round", "numeric", "numeric"),
    ("floor", "numeric", "numeric"),
    ("ceil", "numeric", "numeric"),
    ("cardinality", "anyarray", "integer"),
    ("unnest", "anyarray", "SETOF anyelement"),
    ("pg_get_expr", "pg_node_tree, oid", "text"),
    ("sum", "integer", "bigint"),
    ("max", "date", "date"),
    ("min", "date", "date"),
    ("jsonb_populate_record", "anyelement, jsonb", "anyelement"),
    ("jsonb_each_text", "jsonb, OUT key text, OUT value text", "SETOF record"),
)
OPERATORS = (
    ("=", "text", "text"),
    ("=", "varchar", "varchar"),
    ("=", "varchar", "text"),
    ("=", "bigint", "bigint"),
    ("=", "integer", "integer"),
    ("=", "uuid", "uuid"),
    ("=", "date", "date"),
    (">=", "date", "date"),
    ("-", "date", "date"),
    ("-", "date", "integer"),
    (">", "timestamptz", "timestamptz"),
    (">=", "timestamptz", "timestamptz"),
    ("<", "timestamptz", "timestamptz"),
    ("-", "timestamptz", "timestamptz"),
    ("-", "timestamptz", "interval"),
    ("<>", "uuid", "uuid"),
    ("<>", "text", "text"),
    ("-", "jsonb", "text"),
    ("~", "text", "text"),
)
# Tables named like ours, and what they are like.
SHADOWS = {
    "user_sessions": "public.user_sessions",
    "generated_reports": "public.generated_reports",
    "report_access_log": "public.report_access_log",
    "report_access_pending": "public.report_access_pending",
    "new_accesses": "public.report_access_log",
    "users": "vocabulary.users",
    "sessions": "vocabulary.sessions",
    "user_progress": "vocabulary.user_progress",
    "profiles": "conversation.profiles",
    "messages": "conversation.messages",
    "messages_archive": "conversation.messages_archive",
    "logs": "conversation.logs",
    "rate_limits": "conversation.rate_limits",
    "new_messages": "conversation.messages",
    "before_change": "vocabulary.sessions",
    "after_change": "vocabulary.sessions",
}


def prepare_evil(s: Session) -> None:
    """A schema of functions and operators that raise when they run, and of tables named like ours."""
    body = f"LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a trap ran' USING ERRCODE = '{TRAP}'; END $$"
    parts = ["CREATE SCHEMA evil", "GRANT ALL ON SCHEMA evil TO PUBLIC"]
    parts += [f"CREATE FUNCTION evil.{name}({args}) RETURNS {kind} {body}" for name, args, kind in TRAPS]
    for number, (sign, left, right) in enumerate(OPERATORS):
        parts.append(f"CREATE FUNCTION evil.op{number}({left}, {right}) RETURNS boolean {body}")
        parts.append(
            f"CREATE OPERATOR evil.{sign} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = evil.op{number})"
        )
    for table, source in SHADOWS.items():
        parts.append(f"CREATE TABLE evil.{table} (LIKE {source} INCLUDING DEFAULTS)")
    parts.append("GRANT ALL ON ALL TABLES IN SCHEMA evil TO PUBLIC")
    s.superuser.allows("; ".join(parts))


def evil_is_untouched(s: Session) -> None:
    for table in SHADOWS:
        s.superuser.sees_nothing(f"SELECT FROM evil.{table}")


def _uses_tokens(asker: Asker) -> None:
    """What a browser does, with a right token and with a wrong one."""
    assert asker.value("SELECT report_id FROM public.open_report(%s, '192.0.2.1', 'x')", [REPORT_A]) == 9001
    assert asker.value("SELECT report_id FROM public.check_report(%s)", [REPORT_A]) == 9001
    assert len(asker.rows("SELECT FROM public.resume_calculator(%s)", [CALCULATOR_A])) == 1
    assert len(asker.rows("SELECT FROM public.save_calculator(%s, '{}', 'doctor')", [CALCULATOR_A])) == 1
    for call in (
        "open_report('x')",
        "check_report('x')",
        "resume_calculator('x')",
        "save_calculator('x', '{}')",
    ):
        asker.refused(f"SELECT FROM public.{call}", sqlstate="PT404")


@promise(DEFINERS)
def no_function_called_with_a_token_runs_what_the_callers_search_path_names(s: Session) -> None:
    prepare_evil(s)
    for persona in ("anon", "stranger", "service"):
        _uses_tokens(s.as_(persona, search_path=PATH))
    evil_is_untouched(s)


@promise("presented_report_token presented_calculator_token policy search_path")
def no_policy_runs_what_the_callers_search_path_names(s: Session) -> None:
    prepare_evil(s)
    for persona, table in (
        ("report holder", "public.generated_reports"),
        ("report browser", "public.generated_reports"),
        ("calculator holder", "public.calculator2_sessions"),
        ("calculator browser", "public.calculator2_sessions"),
    ):  # not user_sessions: its policy asks auth.email(), which on Supabase is not ours
        found = s.as_(persona, search_path=PATH).rows(f"SELECT created_at FROM {table}")
        assert len(found) == 1, persona


@promise(
    "fold_email fill_report_email record_expiry_change increment_report_access fold_report_access"
    " enforce_payment_transition set_completed_at update_user_sessions_updated_at search_path"
    " update_calculator2_sessions_last_active update_cw_assessment_sessions_updated_at"
)
def no_trigger_runs_what_the_callers_search_path_names(s: Session) -> None:
    prepare_evil(s)
    for persona in ("service", "owner"):
        for counting in ("", "deferred"):
            asker = s.as_(persona, search_path=PATH, access_counting=counting)
            with s.undone():
                for table in TABLES:
                    asker.allows(*insertion(table, payment_status="pending"), rows=1)
                    asker.allows(f"UPDATE {table} SET payment_status = payment_status")
                asker.allows("UPDATE public.cw_assessment_sessions SET payment_status = 'completed'")
                asker.allows("UPDATE public.user_sessions SET email = 'eve@example.com'")
                asker.allows(*insertion("public.generated_reports", email=None), rows=1)
                asker.allows(*insertion("public.report_access_log"), rows=1)
                asker.allows("SELECT public.fold_report_access()")
                evil_is_untouched(s)


@promise("refuse_change refuse_rewriting record_expiry_change enforce_payment_transition search_path")
def no_guard_runs_what_the_callers_search_path_names(s: Session) -> None:
    prepare_evil(s)
    for persona in ("owner", "superuser"):
        asker = s.as_(persona, search_path=PATH)
        broken = {"sqlstate": "23000"}
        asker.refused("UPDATE public.generated_reports SET report_html = 'x'", **broken)
        asker.refused("UPDATE public.user_sessions SET payment_status = 'pending'", **broken)
        asker.refused("DELETE FROM public.report_access_log", **broken)
        with s.undone():
            asker.allows("DELETE FROM public.generated_reports")


@promise("record_expiry_change search_path")
def no_record_of_an_expiry_runs_what_the_callers_search_path_names(s: Session) -> None:
    prepare_evil(s)
    for persona in ("service", "owner"):
        asker = s.as_(persona, search_path=PATH)
        later = "expires_at OPERATOR(pg_catalog.+) '1 day'::pg_catalog.interval"
        asker.allows(f"UPDATE public.generated_reports SET expires_at = {later}", rows=3)


@promise("refuse_report refuse_calculator close_access_log_partition create_access_log_partition search_path")
def no_helper_runs_what_the_owners_search_path_names(s: Session) -> None:
    """Called directly: beneath another function it would have that one's search path."""
    prepare_evil(s)
    s.superuser.allows(
        "CREATE TABLE public.report_access_log_2031_06 PARTITION OF public.report_access_log"
        " FOR VALUES FROM ('2031-06-01 00:00:00+00') TO ('2031-07-01 00:00:00+00')"
    )
    s.superuser.allows(f"ALTER TABLE public.report_access_log_2031_06 OWNER TO {s.owner}")
    asker = s.as_("owner", search_path=PATH)
    asker.refused("SELECT carnivore.refuse_report('x')", sqlstate="PT404")
    asker.refused("SELECT carnivore.refuse_calculator('x')", sqlstate="PT404")
    asker.allows("SELECT carnivore.close_access_log_partition('public.report_access_log_2031_06')")
    assert asker.value("SELECT carnivore.create_access_log_partition('2031-07-01')") is True


@promise(DEFINERS)
def no_temporary_table_stands_in_for_ours(s: Session) -> None:
    names = {table.name.split(".")[1] for table in relations(s, "public") if not table.view}
    for persona in ("anon", "stranger"):
        asker = s.as_(persona, search_path="pg_temp, public, pg_catalog")
        with s.undone():
            for name in names:
                asker.allows(
                    f"CREATE TEMP TABLE {name} (id bigint, access_token text, expires_at timestamptz)"
                )
            for name in ("new_accesses", "delta", "locked", "report", "session"):
                asker.allows(
                    f"CREATE TEMP TABLE {name} (id bigint, report_id bigint, accessed_at timestamptz)"
                )
            fake = "INSERT INTO pg_temp.generated_reports VALUES (9001, %s, 'infinity')"
            asker.allows(fake, ["f0" * 32])
            asker.refused("SELECT FROM public.open_report(%s)", ["f0" * 32], sqlstate="PT404")
            _uses_tokens(asker)
            for name in names - {"generated_reports"}:
                asker.sees_nothing(f"SELECT FROM pg_temp.{name}")


@promise(DEFINERS)
def no_temporary_type_runs_with_the_owners_rights(s: Session) -> None:
    # A function that ran before in this connection has its types looked up already: make it forget.
    for function in functions(s):
        if not function.procedure:
            s.superuser.allows(f"ALTER FUNCTION {function.signature} COST 100")
    for kind, base in (
        ("jsonb", "jsonb"),
        ("inet", "inet"),
        ("timestamptz", "timestamptz"),
        ("record", "text"),
    ):
        with s.undone():
            asker = s.as_("anon")
            asker.allows(
                f"CREATE FUNCTION pg_temp.look(value {base}) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
                f" IF current_user <> 'anon' THEN RAISE EXCEPTION 'ran as %', current_user"
                f" USING ERRCODE = '{TRAP}'; END IF; RETURN true; END $$"
            )
            asker.allows(f"CREATE DOMAIN pg_temp.{kind} AS pg_catalog.{base} CHECK (pg_temp.look(VALUE))")
            _uses_tokens(asker)


@promise("public.generated_reports public.calculator2_sessions policy rowsecurity")
def a_function_in_the_callers_condition_sees_no_hidden_row(s: Session) -> None:
    """Row security comes first, however cheap the caller says the function is."""
    for persona, table, column in (
        ("report holder", "public.generated_reports", "report_html"),
        ("calculator holder", "public.calculator2_sessions", "form_state::text"),
        ("ada", "public.user_sessions", "email::text"),
    ):
        asker = s.as_(persona)
        with s.undone():
            asker.allows(
                "CREATE FUNCTION pg_temp.look(value text) RETURNS boolean COST 0.0000001"
                " LANGUAGE plpgsql AS $$ BEGIN"
                " IF value ~ 'bob|52' THEN RAISE EXCEPTION 'seen: %', value; END IF; RETURN true; END $$"
            )
            assert len(asker.rows(f"SELECT FROM {table} WHERE pg_temp.look({column})")) == 1


@promise("public.generated_reports public.calculator2_sessions public.user_sessions rowsecurity")
def the_planners_statistics_show_an_outsider_nothing(s: Session) -> None:
    s.superuser.allows("ANALYZE public.generated_reports, public.calculator2_sessions, public.user_sessions")
    statistics = "SELECT most_common_vals FROM pg_stats WHERE schemaname IN ('public', 'carnivore')"
    assert s.superuser.rows(statistics)
    for persona in ("anon", "stranger", "report holder"):
        s.as_(persona).sees_nothing(statistics)
        s.as_(persona).refused("SELECT FROM pg_statistic")


@promise("public.generated_reports policy presented_report_token")
def a_prepared_statement_follows_the_token_that_is_presented(s: Session) -> None:
    s.superuser.allows("DEALLOCATE ALL")  # no transaction takes a prepared statement back
    s.as_("report holder").allows("PREPARE lookup AS SELECT id FROM public.generated_reports")
    for _ in range(7):  # a generic plan comes after five
        assert s.as_("report holder").rows("EXECUTE lookup") == [(9001,)]
        s.as_("anon").sees_nothing("EXECUTE lookup")
        s.as_("stranger").sees_nothing("EXECUTE lookup")


@promise("rowsecurity public.generated_reports public.calculator2_sessions")
def switching_row_security_off_is_refused_to_an_outsider(s: Session) -> None:
    for table in ("public.generated_reports", "public.calculator2_sessions"):
        for persona in ("report holder", "calculator holder", "stranger"):
            s.as_(persona, row_security="off").refused(f"SELECT created_at FROM {table}")
