"""Rows that are due for each rule of the retention, beside rows of the same kind that are not."""

from pathlib import Path
from typing import Any

import psycopg

from carnivore_db.kit.storage import DATABASE, OWNER

DUE = ("calculator_sessions", "reports", "idle_conversations", "old_logs", "exports")
# How many there are of each, as `fill` makes them. One report more is old enough, and is held by an access.
DELETED = dict.fromkeys(DUE, 6)
PAGES = "report_pages"

_CALCULATOR = """
INSERT INTO public.calculator2_sessions
    (session_token, payment_status, pricing_tier, amount_paid, created_at, last_active_at, expires_at)
SELECT replace(gen_random_uuid()::text, '-', ''), kind.status, kind.tier, kind.paid,
    now() - kind.age - interval '2 days', now() - kind.age - interval '2 days', now() - kind.age
FROM (VALUES ('pending', NULL, NULL, interval '1 hour', true), ('failed', NULL, NULL, '3 days', true),
    ('completed', 'bundle', 29.90, '9 days', false), ('pending', NULL, NULL, '-1 hour', false))
    AS kind (status, tier, paid, age, due), generate_series(1, CASE WHEN kind.due THEN %(number)s ELSE 1 END)
"""
_REPORTS = """
WITH session AS (
    INSERT INTO public.user_sessions (email, path_choice, macro_data)
    VALUES ('ada@example.com', 'keto', '{}') RETURNING id
)
INSERT INTO public.generated_reports
    (session_id, access_token, report_html, questionnaire_data, created_at, expires_at)
SELECT session.id, replace(gen_random_uuid() || '' || gen_random_uuid(), '-', ''), '<p>old</p>', '{}',
    now() - kind.age - interval '1 day', now() - kind.age
FROM session, (VALUES (interval '91 days', true), ('400 days', true), ('100 days', false), ('89 days', false),
    ('-1 day', false))
    AS kind (age, due), generate_series(1, CASE WHEN kind.due THEN %(number)s ELSE 1 END)
"""
_ACCESSES = """
INSERT INTO public.report_access_log (report_id) SELECT id FROM public.generated_reports
WHERE expires_at > now() OR expires_at BETWEEN now() - interval '101 days' AND now() - interval '99 days'
"""
_EXPORTS = """
WITH learner AS (
    INSERT INTO vocabulary.users (email) VALUES (gen_random_uuid() || '@example.com') RETURNING id
)
INSERT INTO vocabulary.export_history (user_id, export_type, export_format, status, records_count,
    file_size_bytes, file_url, started_at, completed_at, expires_at, created_at, updated_at)
SELECT learner.id, 'csv', 'csv', 'completed', 1, 1,
    'file://' || %(folder)s::text || '/' || learner.id || '/' || gen_random_uuid() || '-0.csv',
    now() - interval '9 days', now() - interval '9 days', now() + kind.remains, now() - interval '9 days',
    now() - interval '9 days'
FROM learner, (VALUES (interval '-1 hour', true), ('1 hour', false)) AS kind (remains, due),
    generate_series(1, CASE WHEN kind.due THEN 2 * %(number)s ELSE 1 END)
RETURNING substr(file_url, 8)
"""
_CONVERSATIONS = """
WITH person AS (
    INSERT INTO auth.users (id, email)
    SELECT gen_random_uuid(), gen_random_uuid() || '@example.com'
    FROM generate_series(1, 2 * %(number)s + 1) RETURNING id
)
INSERT INTO conversation.sessions (user_id, scenario_id, started_at, last_activity_at)
SELECT id, 1, now() - age, now() - age FROM (
    SELECT id, CASE WHEN row_number() OVER (ORDER BY id) = 1 THEN interval '1 day' ELSE '8 days' END AS age
    FROM person) AS begun
"""
# Half of what is due lies in a month, half in none; what is not due is as old as the month that goes on.
_LOGS = """
INSERT INTO conversation.logs (level, event_type, created_at)
SELECT 'info', 'user_logout', kind.moment
FROM (VALUES (timestamptz '2024-05-05', true), ('2024-07-07', true),
    (date_trunc('month', now(), 'UTC'), false))
    AS kind (moment, due), generate_series(1, CASE WHEN kind.due THEN %(number)s ELSE 1 END)
"""


def fill(owner: psycopg.Connection, folder: Path, number: int = 3) -> list[Path]:
    """Twice `number` rows that are due for each rule; returns the exports' files, made below `folder`."""
    values = {"number": number, "folder": str(folder)}
    with owner.transaction():
        # As the migrating role, whose partition it is then.
        owner.execute("SELECT set_config('role', tableowner, true) FROM pg_tables WHERE tablename = 'logs'")
        owner.execute("SELECT carnivore.create_partition('conversation.logs', '2024-05-01')")
        owner.execute("SET LOCAL ROLE none")
        for script in (_CALCULATOR, _REPORTS, _ACCESSES, _LOGS):
            owner.execute(script, values if "%(" in script else None)
        owner.execute("SET LOCAL session_replication_role = replica")
        files = [Path(path) for (path,) in owner.execute(_EXPORTS, values)]
        owner.execute("SET LOCAL session_replication_role = origin")
        owner.execute(_CONVERSATIONS, values)
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    mark(owner, folder)
    return files


def mark(owner: psycopg.Connection, folder: Path) -> None:
    """The files below `folder` are this database's."""
    (database,) = owner.execute(DATABASE).fetchone() or ("",)
    (folder / OWNER).write_text(database)


# What is left of each kind, without what the jobs themselves log.
_KEPT = {
    "calculator_sessions": "SELECT id::text FROM public.calculator2_sessions",
    "reports": "SELECT id::text FROM public.generated_reports",
    "exports": "SELECT id::text FROM vocabulary.export_history WHERE status = 'completed'",
    "idle_conversations": "SELECT id::text FROM conversation.sessions",
    "old_logs": "SELECT id::text FROM conversation.logs WHERE event_type = 'user_logout'",
}


def kept(owner: psycopg.Connection) -> dict[str, set[str]]:
    return {rule: {key for (key,) in owner.execute(query)} for rule, query in _KEPT.items()}


def stumble(owner: psycopg.Connection) -> None:
    """From now on no conversation can be deleted."""
    owner.execute(
        "CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'geheim' USING ERRCODE = '23514', CONSTRAINT = 'a_rule'; END $$;"
        "CREATE TRIGGER fail BEFORE DELETE ON conversation.sessions"
        " FOR EACH ROW EXECUTE FUNCTION public.fail()"
    )


def failures(owner: psycopg.Connection) -> list[dict[str, Any]]:
    """What the chat's log says of jobs that failed, without ids and moments."""
    found = owner.execute(
        "SELECT metadata - '{job_id,started_at,finished_at}'::text[] FROM conversation.logs"
        " WHERE level = 'error' AND metadata ?& '{job_id,started_at,finished_at}'"
    )
    return [facts for (facts,) in found]
