"""The rows that the promises are tried on: a few people, what is theirs, and something in every table."""

import re

import psycopg

REPORT_A = "a1" * 32  # ada's
REPORT_B = "b2" * 32  # bob's
REPORT_EXPIRED = "ed" * 32  # ada's, ended yesterday
CALCULATOR_A = "calculatorTokenA_0123456789-abcd"
CALCULATOR_B = "calculatorTokenB_0123456789-abcd"  # paid, and its report is bob's
CALCULATOR_EXPIRED = "calculatorTokenE_0123456789-abcd"
ASSESSMENT = "00000000-0000-4000-8000-000000000001"
# Learners: ada and bob with rows in every table, eve with none yet. Mallory has a login, and no row of ours.
ADA = "00000000-0000-4000-8000-0000000000a1"
BOB = "00000000-0000-4000-8000-0000000000b1"
EVE = "00000000-0000-4000-8000-0000000000e1"
MALLORY = "00000000-0000-4000-8000-0000000000f1"
NO_ONE = "00000000-0000-4000-8000-000000000404"
SITTING_A = "00000000-0000-4000-8000-0000000000a2"  # ada's, ended on the latest of her days
SITTING_OPEN = "00000000-0000-4000-8000-0000000000a3"  # ada's too
SITTING_B = "00000000-0000-4000-8000-0000000000b2"
SITTING_GUEST = "00000000-0000-4000-8000-0000000000c2"
SCENE_A = "00000000-0000-4000-8000-0000000000aa"  # ada's, completed
SCENE_OPEN = "00000000-0000-4000-8000-0000000000ab"  # ada's too
SCENE_B = "00000000-0000-4000-8000-0000000000bb"  # bob's, completed
SCENE_B_OPEN = "00000000-0000-4000-8000-0000000000bc"
MESSAGE_A = "00000000-0000-4000-8000-0000000000ac"  # in ada's open session
MESSAGE_B = "00000000-0000-4000-8000-0000000000bd"  # in bob's completed one
CLIENT_A = "00000000-0000-4000-8000-0000000000ca"  # what ada's client calls MESSAGE_A
CIPHERTEXT = "enc:v1:2026-03:" + "Ab3_-" * 12

ROWS = f"""
INSERT INTO public.user_sessions
    (id, email, path_choice, macro_data, payment_status, stripe_payment_id, created_at, updated_at) VALUES
    (9001, 'ada@example.com', 'keto', '{{"protein": 140}}', 'completed', 'pi_ada',
        now() - interval '20 days', now() - interval '20 days'),
    (9002, 'bob@example.com', 'paleo', '{{"protein": 90}}', 'completed', 'pi_bob',
        now() - interval '20 days', now() - interval '20 days');
INSERT INTO public.generated_reports
    (id, session_id, email, access_token, report_html, questionnaire_data, created_at, expires_at) VALUES
    (9001, 9001, 'ada@example.com', '{REPORT_A}', '<p>ada</p>', '{{"age": 41}}',
        now() - interval '10 days', now() + interval '30 days'),
    (9002, 9002, 'bob@example.com', '{REPORT_B}', '<p>bob</p>', '{{"age": 52}}',
        now() - interval '10 days', now() + interval '30 days'),
    (9003, 9001, 'ada@example.com', '{REPORT_EXPIRED}', '<p>old</p>', '{{"age": 40}}',
        now() - interval '10 days', now() + interval '30 days');
UPDATE public.generated_reports SET expires_at = now() - interval '1 day' WHERE id = 9003;
INSERT INTO public.report_access_log (report_id, accessed_at) VALUES (9001, now() - interval '2 days');
SET LOCAL carnivore.access_counting = 'deferred';
INSERT INTO public.report_access_log (report_id, accessed_at) VALUES (9002, now() - interval '1 day');
SET LOCAL carnivore.access_counting = '';
INSERT INTO public.calculator2_sessions
    (id, session_token, form_state, pricing_tier, amount_paid, payment_status, report_token,
        created_at, last_active_at, expires_at) VALUES
    (9001, '{CALCULATOR_A}', '{{"age": 41, "sex": "f"}}', 'bundle', NULL, 'pending', NULL,
        now() - interval '1 hour', now() - interval '1 hour', now() + interval '47 hours'),
    (9002, '{CALCULATOR_B}', '{{"age": 52}}', 'shopping', 49.00, 'completed', '{REPORT_B}',
        now() - interval '1 hour', now() - interval '1 hour', now() + interval '47 hours'),
    (9003, '{CALCULATOR_EXPIRED}', '{{"age": 30}}', NULL, NULL, 'pending', NULL,
        now() - interval '3 days', now() - interval '3 days', now() - interval '1 day');
INSERT INTO public.cw_assessment_sessions
    (id, email, first_name, form_data, stripe_session_id, stripe_payment_intent_id,
        created_at, updated_at) VALUES
    ('{ASSESSMENT}', 'ada@example.com', 'Ada', '{{"goal": "sleep"}}', 'cs_ada', 'pi_assessment',
        now() - interval '5 days', now() - interval '5 days');
INSERT INTO public.begun_checkouts (session_table, session_key, amount, currency) VALUES
    ('user_sessions', '9001', 4900, 'usd');
INSERT INTO public.stripe_events (id, type, livemode, payload, processed_at, outcome) VALUES
    ('evt_seed', 'checkout.session.completed', true, '{{"id": "evt_seed"}}', now(), 'applied');
INSERT INTO carnivore.archived_partitions (parent, month, part, file_url) VALUES
    ('public.report_access_log', '2019-12-01', 1, 's3://cold/seed.parquet');
"""

LEARNING = f"""
INSERT INTO vocabulary.users (id, email, username, full_name, created_at, updated_at) VALUES
    ('{ADA}', 'ada@example.com', 'ada', 'Ada A', now() - interval '20 days', now() - interval '20 days'),
    ('{BOB}', 'bob@example.com', 'bob', 'Bob B', now() - interval '20 days', now() - interval '20 days'),
    ('{EVE}', 'eve@example.com', 'eve', 'Eve E', now() - interval '20 days', now() - interval '20 days');
INSERT INTO vocabulary.sessions
    (id, user_id, session_type, started_at, ended_at, images_processed, descriptions_generated,
        qa_attempts, qa_correct, vocabulary_learned, phrases_saved, created_at) VALUES
    (DEFAULT, '{ADA}', 'mixed', '2026-03-01 10:00+00', '2026-03-01 10:30+00', 3, 2, 10, 7, 5, 1, DEFAULT),
    ('{SITTING_A}', '{ADA}', 'qa', '2026-03-02 10:00+00', '2026-03-02 10:10+00', 1, 0, 4, 4, 0, 2, DEFAULT),
    ('{SITTING_OPEN}', '{ADA}', 'qa', '2026-03-03 10:00+00', NULL, 9, 9, 9, 9, 9, 9, DEFAULT),
    ('{SITTING_B}', '{BOB}', 'description', '2026-02-01 10:00+00', '2026-02-01 11:00+00', 1, 1, 2, 1, 1, 1,
        DEFAULT),
    ('{SITTING_GUEST}', NULL, 'qa', '2026-03-02 10:00+00', '2026-03-02 11:00+00', 1, 1, 1, 1, 1, 1, DEFAULT);
INSERT INTO vocabulary.user_api_keys
    (user_id, openai_api_key, unsplash_api_key, anthropic_api_key, last_validated_at, created_at,
        updated_at)
SELECT id, '{CIPHERTEXT}', '{CIPHERTEXT}', '{CIPHERTEXT}', now() - interval '1 day',
    now() - interval '9 days', now() - interval '9 days' FROM vocabulary.users WHERE username <> 'eve';
UPDATE vocabulary.user_progress SET mastered_words_count = 2, learning_words_count = 3, total_points = 40
WHERE user_id IN ('{ADA}', '{BOB}');
INSERT INTO vocabulary.export_history
    (user_id, export_type, export_format, status, records_count, file_size_bytes, file_url, error_message,
        started_at, completed_at, expires_at, created_at, updated_at)
SELECT users.id, 'csv', 'csv', state.name, 3, 1024,
    CASE WHEN state.name = 'completed' THEN 's3://exports/one.csv' END,
    CASE WHEN state.name = 'failed' THEN 'no space left' END, now() - interval '2 days',
    now() - interval '1 day', now() + interval '1 day', now() - interval '3 days', now() - interval '1 day'
FROM vocabulary.users,
    unnest(ARRAY['pending', 'processing', 'completed', 'failed', 'expired']) AS state (name)
WHERE username <> 'eve';
INSERT INTO vocabulary.abandoned_export_files (file_url) VALUES ('s3://exports/gone.csv');
"""

# A profile comes with its login. A message enters an open session; the two oldest go into the archive.
CONVERSATION = f"""
INSERT INTO auth.users (id, email) VALUES ('{ADA}', 'ada@example.com'), ('{BOB}', 'bob@example.com'),
    ('{EVE}', 'eve@example.com'), ('{MALLORY}', 'mallory@example.com');
DELETE FROM conversation.profiles WHERE id = '{MALLORY}';
INSERT INTO conversation.scenarios
    (code, title, emoji, initial_message_main, initial_message_helper, is_active) VALUES
    ('airport', 'At the airport', '🛫', 'Guten Tag!', 'You are late.', false);
INSERT INTO conversation.sessions (id, user_id, scenario_id, started_at, last_activity_at) VALUES
    ('{SCENE_A}', '{ADA}', 1, '2026-02-02 10:00+00', '2026-02-02 10:00+00'),
    ('{SCENE_B}', '{BOB}', 3, '2026-02-02 10:00+00', '2026-02-02 10:00+00');
INSERT INTO conversation.messages (id, session_id, role, chat_type, content, sent_at) VALUES
    (DEFAULT, '{SCENE_A}', 'main_assistant', 'main', 'Guten Morgen!', '2026-02-02 10:00+00'),
    (DEFAULT, '{SCENE_B}', 'main_assistant', 'main', 'Servus!', '2026-02-02 10:01+00'),
    (DEFAULT, '{SCENE_A}', 'user', 'main', 'Drei Äpfel, bitte.', '2026-02-02 10:10+00'),
    (DEFAULT, '{SCENE_A}', 'user', 'helper', 'What is an apple?', '2026-02-02 10:11+00'),
    (DEFAULT, '{SCENE_A}', 'helper_assistant', 'helper', 'Ein Apfel.', '2026-02-02 10:12+00'),
    ('{MESSAGE_B}', '{SCENE_B}', 'user', 'main', 'Ohne Zwiebeln.', '2026-02-02 10:15+00');
UPDATE conversation.sessions SET is_completed = true, completed_at = '2026-02-02 10:30+00';
SELECT conversation.archive_messages(2, older_than => interval '1 day');
INSERT INTO conversation.sessions (id, user_id, scenario_id, started_at, last_activity_at)
SELECT open.id, whose, 2, now() - interval '2 days', now() - interval '2 days'
FROM (VALUES (uuid '{SCENE_OPEN}', uuid '{ADA}'), ('{SCENE_B_OPEN}', '{BOB}')) AS open (id, whose);
INSERT INTO conversation.messages
    (id, session_id, role, chat_type, content, sent_at, client_message_id) VALUES
    ('{MESSAGE_A}', '{SCENE_OPEN}', 'user', 'main', 'Hallo!', now() - interval '1 day', '{CLIENT_A}'),
    (DEFAULT, '{SCENE_OPEN}', 'helper_assistant', 'helper', 'Say "hello".', now() - interval '1 day', NULL);
"""
EVENT = f"""
INSERT INTO conversation.logs (level, event_type, user_id, session_id, metadata, created_at) VALUES
    ('info', 'session_created', '{ADA}', '{SCENE_A}', '{{"scene": 1}}', %(moment)s),
    ('warn', 'session_created', '{BOB}', '{SCENE_B}', '{{"scene": 3}}', %(moment)s)
"""
ACCESS = """
INSERT INTO public.report_access_log (id, report_id, accessed_at) VALUES (9001, 9002, %(moment)s)
"""
# What goes into each partition of a table.
PARTITIONED = {"public.report_access_log": ACCESS, "conversation.logs": EVENT}
BOUNDS = """
SELECT pg_get_expr(relpartbound, oid) FROM pg_class
WHERE relispartition AND relkind = 'r' AND oid IN (
    SELECT inhrelid FROM pg_inherits WHERE inhparent = %s::regclass)
"""
OUTSIDE_ALL_MONTHS = "2020-05-05 00:00:00+00"

SIZES = """
INSERT INTO carnivore.partition_sizes (day, relation, bytes, rows) VALUES
    ('2026-03-01', 'public.stripe_events', 8192, 10);
"""


def plant(connection: psycopg.Connection) -> None:
    """Put the rows in, some into each partition among them."""
    for script in (ROWS, LEARNING, CONVERSATION, SIZES):
        connection.execute(script)
    for table, statement in PARTITIONED.items():
        for (bound,) in connection.execute(BOUNDS, [table]).fetchall():
            first = re.search(r"FROM \('(.+?)'\)", bound)
            connection.execute(statement, {"moment": first[1] if first else OUTSIDE_ALL_MONTHS})
    connection.execute("SELECT analytics.refresh()")
    # No rollback takes a sequence back, and the mutations insert a lot: stay clear of the ids above.
    for (name,) in connection.execute(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'S'"
    ).fetchall():
        connection.execute(f"ALTER SEQUENCE {name} RESTART WITH 1000000")
    connection.commit()
