"""A schema that a caller puts before ours: whatever resolves there raises, or is a table that stays empty."""

from tests.security.personas import Session

TRAP = "EV111"
PATH = "evil, pg_catalog, public"
# Whatever the functions name without a schema.
FUNCTIONS = """
lower(text) RETURNS text
lower(varchar) RETURNS text
now() RETURNS timestamptz
statement_timestamp() RETURNS timestamptz
clock_timestamp() RETURNS timestamptz
current_setting(text) RETURNS text
current_setting(text, boolean) RETURNS text
btrim(text) RETURNS text
left(text, integer) RETURNS text
split_part(text, text, integer) RETURNS text
to_char(timestamp, text) RETURNS text
to_jsonb(anyelement) RETURNS jsonb
to_regclass(text) RETURNS regclass
date_trunc(text, timestamp) RETURNS timestamp
format(text, regclass) RETURNS text
format(text, text) RETURNS text
max(timestamptz) RETURNS timestamptz
max(date) RETURNS date
min(date) RETURNS date
sum(bigint) RETURNS numeric
sum(integer) RETURNS bigint
round(numeric) RETURNS numeric
floor(numeric) RETURNS numeric
ceil(numeric) RETURNS numeric
cardinality(anyarray) RETURNS integer
unnest(anyarray) RETURNS SETOF anyelement
pg_get_expr(pg_node_tree, oid) RETURNS text
pg_total_relation_size(oid) RETURNS bigint
pg_try_advisory_lock(bigint) RETURNS boolean
gen_random_uuid() RETURNS uuid
jsonb_populate_record(anyelement, jsonb) RETURNS anyelement
jsonb_each_text(jsonb, OUT key text, OUT value text) RETURNS SETOF record
"""
OPERATORS = """
= text text
= varchar varchar
= varchar text
= bigint bigint
= integer integer
= uuid uuid
= date date
>= date date
- date date
- date integer
> timestamptz timestamptz
>= timestamptz timestamptz
< timestamptz timestamptz
- timestamptz timestamptz
- timestamptz interval
<> uuid uuid
<> text text
- jsonb text
~ text text
"""
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
    "jobs": "carnivore.jobs",
    "partitioned_tables": "carnivore.partitioned_tables",
}
BODY = f"LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a trap ran' USING ERRCODE = '{TRAP}'; END $$"


def prepare_evil(s: Session) -> None:
    parts = ["CREATE SCHEMA evil", "GRANT ALL ON SCHEMA evil TO PUBLIC"]
    parts += [f"CREATE FUNCTION evil.{function} {BODY}" for function in FUNCTIONS.split("\n") if function]
    for number, operator in enumerate(OPERATORS.strip().split("\n")):
        sign, left, right = operator.split()
        parts.append(f"CREATE FUNCTION evil.op{number}({left}, {right}) RETURNS boolean {BODY}")
        parts.append(
            f"CREATE OPERATOR evil.{sign} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = evil.op{number})"
        )
    parts += [f"CREATE TABLE evil.{name} (LIKE {ours} INCLUDING DEFAULTS)" for name, ours in SHADOWS.items()]
    parts.append("GRANT ALL ON ALL TABLES IN SCHEMA evil TO PUBLIC")
    s.superuser.allows("; ".join(parts))


def evil_is_untouched(s: Session) -> None:
    for table in SHADOWS:
        s.superuser.sees_nothing(f"SELECT FROM evil.{table}")
