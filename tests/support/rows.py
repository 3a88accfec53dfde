"""Rows for every table of ours, in plain SQL, whichever of the tables exist yet."""

import psycopg

# What each script needs, and the script. Every value that must be unique is drawn at random, so that
# a database can be filled again and again.
_ROWS: tuple[tuple[str, str], ...] = (
    (
        "auth.users",
        """
        INSERT INTO auth.users (id, email)
        VALUES (gen_random_uuid(), gen_random_uuid() || '@example.com');
        """,
    ),
    (
        "public.user_sessions",
        """
        INSERT INTO public.user_sessions
            (email, path_choice, macro_data, payment_status, stripe_payment_id, is_test)
        VALUES
            ('Buyer@Example.com', 'carnivore', '{}', 'completed', 'pi_' || gen_random_uuid(), false),
            ('visitor@example.com', 'keto', '{"kcal": 1800}', 'pending', NULL, false),
            ('late@example.com', 'paleo', '{}', 'refunded', 'pi_' || gen_random_uuid(), false),
            ('test@example.com', 'custom', '{}', 'failed', NULL, true);
        """,
    ),
    (
        "public.generated_reports",
        """
        INSERT INTO public.generated_reports
            (session_id, access_token, report_html, questionnaire_data, created_at, expires_at)
        SELECT session.id, replace(gen_random_uuid() || '' || gen_random_uuid(), '-', ''), '<h1>Report</h1>',
            '{"age": 40}', now() - span.age, now() - span.age + interval '30 days'
        FROM (SELECT max(id) AS id FROM public.user_sessions WHERE payment_status = 'completed') AS session,
            (VALUES (interval '1 day'), (interval '60 days')) AS span (age);
        """,
    ),
    (
        "public.report_expiry_changes",
        """
        SET LOCAL carnivore.expiry_reason = 'extended';
        UPDATE public.generated_reports SET expires_at = expires_at + interval '1 day'
        WHERE session_id = (SELECT max(session_id) FROM public.generated_reports);
        RESET carnivore.expiry_reason;
        """,
    ),
    # January 2026 and this month have a partition each; 2001 and 2077 have none.
    (
        "public.report_access_log",
        """
        SET LOCAL carnivore.access_counting = 'immediate';
        INSERT INTO public.report_access_log (report_id, accessed_at, ip_address, user_agent)
        SELECT report.id, access.moment, '2001:db8::1', 'Browser/1.0'
        FROM (SELECT max(id) AS id FROM public.generated_reports) AS report,
            (VALUES (now()), ('2026-01-15 12:00+00'), ('2001-01-01 00:00+00'), ('2077-07-01 00:00+00'))
                AS access (moment);
        """,
    ),
    (
        "public.report_access_pending",
        """
        SET LOCAL carnivore.access_counting = 'deferred';
        INSERT INTO public.report_access_log (report_id, accessed_at)
        SELECT max(id), now() FROM public.generated_reports;
        SET LOCAL carnivore.access_counting = 'immediate';
        """,
    ),
    (
        "public.pricing_tiers",
        "INSERT INTO public.pricing_tiers (code) VALUES ('t' || replace(gen_random_uuid()::text, '-', ''));",
    ),
    (
        "public.calculator2_sessions",
        """
        INSERT INTO public.calculator2_sessions
            (session_token, form_state, pricing_tier, amount_paid, payment_status, report_token)
        SELECT replace(gen_random_uuid()::text, '-', ''), '{"step": 2}', max(tier.code), 29.90, 'completed',
            (SELECT max(access_token) FROM public.generated_reports)
        FROM public.pricing_tiers AS tier;
        INSERT INTO public.calculator2_sessions (session_token)
        VALUES (replace(gen_random_uuid()::text, '-', ''));
        """,
    ),
    (
        "public.cw_assessment_sessions",
        """
        INSERT INTO public.cw_assessment_sessions
            (email, first_name, form_data, payment_status, stripe_session_id, stripe_payment_intent_id)
        VALUES
            ('Buyer@Example.com', 'Ada', '{"goal": "rest"}', 'completed',
                'cs_' || gen_random_uuid(), 'pi_' || gen_random_uuid()),
            ('visitor@example.com', 'Grace', '{}', 'pending', NULL, NULL);
        """,
    ),
    (
        "public.stripe_events",
        """
        INSERT INTO public.stripe_events
            (id, type, livemode, payment_intent, payload, processed_at, outcome, session_table, session_key)
        VALUES ('evt_' || replace(gen_random_uuid()::text, '-', ''), 'payment_intent.succeeded', true, 'pi_1',
                '{"object": "event"}', now(), 'applied', 'user_sessions', '1'),
            ('evt_' || replace(gen_random_uuid()::text, '-', ''), 'charge.refunded', false, 'pi_2',
                '{"object": "event"}', NULL, 'waiting', NULL, NULL);
        """,
    ),
    (
        "vocabulary.users",
        """
        INSERT INTO vocabulary.users (email, username, theme, last_login)
        SELECT key || '@Example.com', 'u' || replace(left(key, 20), '-', '_'), 'dark', now()
        FROM (SELECT gen_random_uuid()::text AS key FROM generate_series(1, 3)) AS made;
        """,
    ),
    # Ended on days in a row and not, still open, and a guest's.
    (
        "vocabulary.sessions",
        """
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
    ),
    (
        "vocabulary.user_progress",
        "UPDATE vocabulary.user_progress SET total_points = 5, mastered_words_count = 2;",
    ),
    (
        "vocabulary.user_api_keys",
        """
        INSERT INTO vocabulary.user_api_keys (user_id, openai_api_key, last_validated_at)
        SELECT id, 'enc:v1:test:' || repeat('A', 60), now() FROM vocabulary.users ON CONFLICT DO NOTHING;
        """,
    ),
    (
        "vocabulary.export_history",
        """
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
    ),
    (
        "vocabulary.abandoned_export_files",
        """
        INSERT INTO vocabulary.abandoned_export_files (file_url)
        VALUES ('file:///tmp/' || gen_random_uuid() || '.csv');
        """,
    ),
)

REPORTS = "public.generated_reports"

_TABLES = """
    SELECT format('%I.%I', n.nspname, c.relname)
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND (n.nspname IN ('public', 'vocabulary', 'conversation')
            OR (n.nspname, c.relname) = ('auth', 'users'))
    ORDER BY 1
"""


def fill(connection: psycopg.Connection) -> None:
    """Put a row or more into each table of ours that exists, in one transaction, as the owner of the tables.

    Among them are accesses in months with a partition and without one, changes of an expiry, and
    accesses still pending. Raises LookupError for a table that this module knows no rows for.
    """
    with connection.transaction():
        for table, script in _ROWS:
            if _value(connection, "SELECT to_regclass(%s) IS NOT NULL", table):
                connection.execute(script)
        for table in tables(connection):
            if not _value(connection, f"SELECT EXISTS (SELECT FROM {table})"):
                raise LookupError(f"tests/support/rows.py has no rows for {table}: add some")


def tables(connection: psycopg.Connection) -> list[str]:
    """The tables that exist in our schemas, qualified; partitions are part of their table."""
    return [name for (name,) in connection.execute(_TABLES)]


def contents(connection: psycopg.Connection) -> dict[str, list[str]]:
    """Every row of every table as text, with the partition that it lies in.

    Without the reports' counters, which have accesses still pending added to them: see `counts`.
    """
    with connection.transaction():
        connection.execute("SET LOCAL search_path = ''")
        connection.execute("SET LOCAL TimeZone = 'UTC'")
        found = {}
        for table in tables(connection):
            counters = " - 'access_count' - 'last_accessed_at'" if table == REPORTS else ""
            row = f"t.tableoid::regclass || ' ' || (to_jsonb(t){counters})::text"
            rows = connection.execute(f"SELECT {row} AS row FROM {table} AS t ORDER BY row")
            found[table] = [text for (text,) in rows]
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
