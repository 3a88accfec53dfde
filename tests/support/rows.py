"""Rows for every table of ours, in plain SQL, whichever of the tables exist yet."""

from string import Template
from typing import Any

import psycopg

# What each script needs, and the script. Every value that must be unique is drawn at random, so that
# a database can be filled again and again.
_ROWS = {
    "auth.users": """
    INSERT INTO auth.users (id, email)
    VALUES (gen_random_uuid(), gen_random_uuid() || '@example.com');
    """,
    "public.user_sessions": """
    INSERT INTO public.user_sessions
        (email, path_choice, macro_data, payment_status, stripe_payment_id, is_test)
    VALUES
        ('Buyer@Example.com', 'carnivore', '{}', 'completed', 'pi_' || gen_random_uuid(), false),
        ('visitor@example.com', 'keto', '{"kcal": 1800}', 'pending', NULL, false),
        ('late@example.com', 'paleo', '{}', 'refunded', 'pi_' || gen_random_uuid(), false),
        ('test@example.com', 'custom', '{}', 'failed', NULL, true);
    """,
    "public.generated_reports": """
    INSERT INTO public.generated_reports
        (session_id, access_token, report_html, questionnaire_data, created_at, expires_at)
    SELECT session.id, replace(gen_random_uuid() || '' || gen_random_uuid(), '-', ''), '<h1>Report</h1>',
        '{"age": 40}', now() - span.age, now() - span.age + interval '30 days'
    FROM (SELECT max(id) AS id FROM public.user_sessions WHERE payment_status = 'completed') AS session,
        (VALUES (interval '1 day'), (interval '60 days')) AS span (age);
    """,
    "public.report_expiry_changes": """
    SET LOCAL carnivore.expiry_reason = 'extended';
    UPDATE public.generated_reports SET expires_at = expires_at + interval '1 day'
    WHERE session_id = (SELECT max(session_id) FROM public.generated_reports);
    RESET carnivore.expiry_reason;
    """,
    # January 2026 and this month have a partition each; 2001 and 2077 have none.
    "public.report_access_log": """
    SET LOCAL carnivore.access_counting = 'immediate';
    INSERT INTO public.report_access_log (report_id, accessed_at, ip_address, user_agent)
    SELECT report.id, access.moment, '2001:db8::1', 'Browser/1.0'
    FROM (SELECT max(id) AS id FROM public.generated_reports) AS report,
        (VALUES (now()), ('2026-01-15 12:00+00'), ('2001-01-01 00:00+00'), ('2077-07-01 00:00+00'))
            AS access (moment);
    """,
    "public.report_access_pending": """
    SET LOCAL carnivore.access_counting = 'deferred';
    INSERT INTO public.report_access_log (report_id, accessed_at)
    SELECT max(id), now() FROM public.generated_reports;
    SET LOCAL carnivore.access_counting = 'immediate';
    """,
    "analytics.access_days": "SELECT analytics.refresh();",
    "public.pricing_tiers": """
    INSERT INTO public.pricing_tiers (code) VALUES ('t' || replace(gen_random_uuid()::text, '-', ''));
    """,
    "public.calculator2_sessions": """
    INSERT INTO public.calculator2_sessions
        (session_token, form_state, pricing_tier, amount_paid, payment_status, report_token)
    SELECT replace(gen_random_uuid()::text, '-', ''), '{"step": 2}', max(tier.code), 29.90, 'completed',
        (SELECT max(access_token) FROM public.generated_reports)
    FROM public.pricing_tiers AS tier;
    INSERT INTO public.calculator2_sessions (session_token)
    VALUES (replace(gen_random_uuid()::text, '-', ''));
    """,
    "public.cw_assessment_sessions": """
    INSERT INTO public.cw_assessment_sessions
        (email, first_name, form_data, payment_status, stripe_session_id, stripe_payment_intent_id)
    VALUES
        ('Buyer@Example.com', 'Ada', '{"goal": "rest"}', 'completed',
            'cs_' || gen_random_uuid(), 'pi_' || gen_random_uuid()),
        ('visitor@example.com', 'Grace', '{}', 'pending', NULL, NULL);
    """,
    "public.begun_checkouts": """
    INSERT INTO public.begun_checkouts (session_table, session_key, amount, currency, tier)
    VALUES ('user_sessions', '1', 4900, 'usd', NULL), ('calculator2_sessions', '1', 0, 'eur', 'bundle');
    """,
    "public.stripe_events": """
    INSERT INTO public.stripe_events
        (id, type, livemode, payment_intent, payload, processed_at, outcome, session_table, session_key)
    VALUES ('evt_' || replace(gen_random_uuid()::text, '-', ''), 'payment_intent.succeeded', true, 'pi_1',
            '{"object": "event"}', now(), 'applied', 'user_sessions', '1'),
        ('evt_' || replace(gen_random_uuid()::text, '-', ''), 'charge.refunded', false, 'pi_2',
            '{"object": "event"}', NULL, 'waiting', NULL, NULL);
    """,
    "vocabulary.users": """
    INSERT INTO vocabulary.users (email, username, theme, last_login)
    SELECT key || '@Example.com', 'u' || replace(left(key, 20), '-', '_'), 'dark', now()
    FROM (SELECT gen_random_uuid()::text AS key FROM generate_series(1, 3)) AS made;
    """,
    # Ended on days in a row and not, still open, and a guest's.
    "vocabulary.sessions": """
    INSERT INTO vocabulary.sessions (user_id, session_type, started_at, ended_at, duration_minutes,
        descriptions_generated, qa_attempts, qa_correct, vocabulary_learned, session_data, ip_address)
    SELECT learner.id, kind.type::vocabulary.session_type, kind.began, kind.began + kind.took, kind.given,
        1, 10, 7, 3, '{"vocabulary": [{"word": "el gato", "translation": "the cat"}]}', '2001:db8::1'
    FROM vocabulary.users AS learner,
        (VALUES ('qa', timestamptz '2026-10-01 23:50+00', interval '20 minutes', NULL),
            ('vocabulary', '2026-10-03 09:00+00', '1 hour', 50),
            ('mixed', '2026-10-07 09:00+00', NULL, NULL)) AS kind (type, began, took, given);
    INSERT INTO vocabulary.sessions (session_type, ended_at) VALUES ('description', now());
    """,
    "vocabulary.user_progress": """
    UPDATE vocabulary.user_progress SET total_points = 5, mastered_words_count = 2;
    """,
    "vocabulary.user_api_keys": """
    INSERT INTO vocabulary.user_api_keys (user_id, openai_api_key, last_validated_at)
    SELECT id, 'enc:v1:test:' || repeat('A', 60), now() FROM vocabulary.users ON CONFLICT DO NOTHING;
    """,
    "vocabulary.export_history": """
    INSERT INTO vocabulary.export_history (user_id, export_type, export_format, filters)
    SELECT id, 'anki', 'apkg', '{"type": "vocabulary"}' FROM vocabulary.users;
    UPDATE vocabulary.export_history SET status = 'processing', records_count = 0
    WHERE status = 'pending';
    UPDATE vocabulary.export_history SET status = 'completed', records_count = 3, file_size_bytes = 1024,
        file_url = 'file:///tmp/export.apkg', expires_at = now() + interval '1 day'
    WHERE status = 'processing';
    INSERT INTO vocabulary.export_history (user_id, export_type, export_format)
    SELECT id, 'csv', 'csv' FROM vocabulary.users;
    """,
    "vocabulary.abandoned_export_files": """
    INSERT INTO vocabulary.abandoned_export_files (file_url)
    VALUES ('file:///tmp/' || gen_random_uuid() || '.csv');
    """,
    # A login made the profile. Rows as they should be: there is nothing to repair.
    "conversation.profiles": """
    INSERT INTO conversation.profiles (id, email, week_reset_date)
    SELECT id, email, now() FROM auth.users ON CONFLICT DO NOTHING;
    UPDATE conversation.profiles SET week_reset_date =
        (date_trunc('week', now() AT TIME ZONE 'UTC') + interval '7 days') AT TIME ZONE 'UTC'
    WHERE week_reset_date <> date_trunc('week', week_reset_date AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    """,
    # Two completed long ago and an open one, each with messages of both chats.
    "conversation.sessions": """
    INSERT INTO conversation.sessions (user_id, scenario_id, is_completed, started_at, last_activity_at,
        completed_at, duration_seconds)
    SELECT person.id, 1, true, began, began + interval '1 hour', began + interval '1 hour', 3600
    FROM conversation.profiles AS person,
        (VALUES (timestamptz '2024-05-01 10:00+00'), ('2026-01-31 23:30+00')) AS span (began)
    WHERE NOT EXISTS (SELECT FROM conversation.sessions AS s WHERE s.user_id = person.id);
    INSERT INTO conversation.sessions (user_id, scenario_id)
    SELECT person.id, 2 FROM conversation.profiles AS person
    WHERE NOT EXISTS (SELECT FROM conversation.sessions AS s
        WHERE s.user_id = person.id AND NOT s.is_completed);
    UPDATE conversation.profiles AS person SET completed_scenario_count = 2
    WHERE completed_scenario_count <> 2;
    """,
    # A completed session was open when its messages came.
    "conversation.messages": """
    ALTER TABLE conversation.messages DISABLE TRIGGER USER;
    INSERT INTO conversation.messages (session_id, $user_id role, chat_type, content, "$moment")
    SELECT s.id, $of_user said.role$role, said.chat$chat, said.content, s.started_at + said.after
    FROM conversation.sessions AS s, (VALUES ('$partner', 'main', 'Guten Tag!', interval '0'),
        ('user', 'main', 'Hallo', '1 minute'), ('user', 'helper', 'What is Hallo?', '1 minute'),
        ('$helper', 'helper', 'Hello.', '2 minutes')) AS said (role, chat, content, after)
    WHERE s.message_count_main = 0;
    ALTER TABLE conversation.messages ENABLE TRIGGER USER;
    UPDATE conversation.sessions AS s SET message_count_main = 2, message_count_helper = 2
    WHERE s.message_count_main = 0;
    """,
    "conversation.messages_archive": "SELECT conversation.archive_messages(4);",
    "conversation.event_types": """
    INSERT INTO conversation.event_types (code, description)
    VALUES ('t' || replace(gen_random_uuid()::text, '-', ''), 'A new type.');
    """,
    # This month has a partition, 2001 and 2077 have none.
    "conversation.logs": """
    INSERT INTO conversation.logs (level, event_type, user_id, session_id, metadata, created_at)
    SELECT 'info', 'session_created', s.user_id, s.id, '{"scene": 2}', event.moment
    FROM (SELECT * FROM conversation.sessions ORDER BY id LIMIT 1) AS s,
        (VALUES (now()), ('2001-01-01 00:00+00'), ('2077-07-01 00:00+00')) AS event (moment);
    INSERT INTO conversation.logs (level, event_type) VALUES ('error', 'database_error');
    """,
    "carnivore.partition_sizes": "SELECT carnivore.record_partition_sizes();",
}

# The names that the refinement of the chat changes: what tells, the new one, the old one.
_SENT = "conversation.messages.sent_at"
_ARCHIVE = "conversation.messages_archive"
_RENAMED = {
    "user_id": (_SENT, "user_id,", ""),
    "of_user": (_SENT, "s.user_id,", ""),
    "role": (_SENT, "::conversation.message_role", ""),
    "chat": (_SENT, "::conversation.chat_type_enum", ""),
    "moment": (_SENT, "sent_at", "timestamp"),
    "partner": (_ARCHIVE, "main_assistant", "scenario"),
    "helper": (_ARCHIVE, "helper_assistant", "helper"),
}

REPORTS = "public.generated_reports"
Row = dict[str, Any]

_TABLES = """
    SELECT format('%I.%I', n.nspname, c.relname)
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND (n.nspname IN ('public', 'vocabulary', 'conversation', 'analytics')
            OR (n.nspname, c.relname) = ('auth', 'users'))
    ORDER BY 1
"""


def fill(connection: psycopg.Connection) -> None:
    """Put a row or more into each table of ours that exists, in one transaction, as the owner of the tables.

    Among them are accesses in months with a partition and without one, changes of an expiry, and
    accesses still pending. Raises LookupError for a table that this module knows no rows for.
    """
    with connection.transaction():
        for table, script in _ROWS.items():
            if _exists(connection, table):
                names = {
                    key: new if _exists(connection, told_by) else old
                    for key, (told_by, new, old) in _RENAMED.items()
                }
                connection.execute(Template(script).safe_substitute(names))
        for table in tables(connection):
            if not _value(connection, f"SELECT EXISTS (SELECT FROM {table})"):
                raise LookupError(f"tests/support/rows.py has no rows for {table}: add some")


def _exists(connection: psycopg.Connection, name: str) -> object:
    """Whether there is this table, or this column of a table."""
    schema, table, *column = name.split(".")
    return _value(
        connection,
        "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(%s) AND NOT attisdropped"
        " AND %s::name IN (attname, ''))",
        f"{schema}.{table}",
        *(column or [""]),
    )


def tables(connection: psycopg.Connection) -> list[str]:
    """The tables that exist in our schemas, qualified; partitions are part of their table."""
    return [name for (name,) in connection.execute(_TABLES)]


def contents(connection: psycopg.Connection) -> dict[str, list[Row]]:
    """Every row of every table as JSON has it, with the partition that it lies in.

    Without the reports' counters, which have accesses still pending added to them: see `counts`.
    """
    with connection.transaction():
        connection.execute("SET LOCAL search_path = ''")
        connection.execute("SET LOCAL TimeZone = 'UTC'")
        found = {}
        for table in tables(connection):
            counters = " - 'access_count' - 'last_accessed_at'" if table == REPORTS else ""
            inside = f"CASE WHEN t.tableoid <> '{table}'::regclass THEN t.tableoid::regclass END"
            row = f"to_jsonb(t){counters} || jsonb_strip_nulls(jsonb_build_object('partition', {inside}))"
            rows = connection.execute(f"SELECT {row} AS row FROM {table} AS t ORDER BY row")
            found[table] = [row for (row,) in rows]
        # A message that was archived is a message still.
        for row in found.pop(_ARCHIVE, []):
            found["conversation.messages"].append(row)
        return found


def counts(connection: psycopg.Connection) -> dict[int, int]:
    """How often each report was opened, accesses still pending included."""
    view = "public.report_access_counts"
    if _value(connection, "SELECT to_regclass(%s) IS NOT NULL", view):
        return dict(connection.execute(f"SELECT report_id, access_count FROM {view}"))
    return dict(connection.execute(f"SELECT id, access_count FROM {REPORTS}"))


def _value(connection: psycopg.Connection, query: str, *values: str) -> object:
    (value,) = connection.execute(query, values or None).fetchone() or (None,)
    return value
