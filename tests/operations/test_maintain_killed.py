"""`maintain` killed at random points, as process, backend and server: no row is lost, none left behind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.operations.archive.killing import Job, killable, survives
from tests.support.databases import APPLICATION, Shape, TestDatabase

pytestmark = pytest.mark.slow

POINTS = 20
# Two months whose accesses lie in the DEFAULT partition, this one among them, and deltas to fold; reports and
# calculator sessions that are due, and others that stay.
FILL = """
    SET carnivore.access_counting = 'deferred';
    DO $$ BEGIN
        EXECUTE format('DROP TABLE public.report_access_log_%s',
            to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM'));
    END $$;
    INSERT INTO public.user_sessions (email, path_choice, macro_data)
    SELECT 'reader' || n || '@example.com', 'keto', '{}' FROM generate_series(1, 400) AS n;
    INSERT INTO public.generated_reports
        (session_id, access_token, report_html, questionnaire_data, created_at, expires_at)
    SELECT id, encode(sha256(id::text::bytea), 'hex'), '<p>meat</p>', '{"age": 40}',
        now() - interval '3 years',
        now() + CASE WHEN id % 2 = 0 THEN interval '1 year' ELSE interval '-1 year' END
    FROM public.user_sessions;
    INSERT INTO public.report_access_log (report_id, accessed_at, user_agent)
    SELECT r.id, moment, 'Browser ' || n
    FROM public.generated_reports AS r, generate_series(1, 40) AS n,
        LATERAL (VALUES (date_trunc('month', now()) + n * interval '1 minute'),
            ('2031-05-01 00:00+00'::timestamptz + n * interval '11 hours')) AS at (moment)
    WHERE r.expires_at > now();
    INSERT INTO public.calculator2_sessions
        (session_token, payment_status, created_at, last_active_at, expires_at)
    SELECT left(encode(sha256(n::text::bytea), 'hex'), 32),
        CASE WHEN n % 10 = 0 THEN 'completed' ELSE 'pending' END, now() - interval '9 days',
        now() - interval '8 days', now() - interval '7 days'
    FROM generate_series(1, 6000) AS n;
"""
# What must be there whenever it is asked: the accesses of reports that stay, as they were.
KEPT = """
    SELECT l.id, l.report_id, l.accessed_at, l.user_agent FROM public.report_access_log AS l
    JOIN public.generated_reports AS r ON r.id = l.report_id WHERE r.expires_at > now() ORDER BY 1, 3
"""
# Column and pending are the rows, for each report that is there.
UNTRUE = """
    SELECT c.report_id FROM public.report_access_counts AS c
    WHERE c.access_count <>
        (SELECT count(*) FROM public.report_access_log AS l WHERE l.report_id = c.report_id)
"""
STRANDED = """
    SELECT (SELECT count(*) FROM public.report_access_log AS l
        WHERE NOT EXISTS (SELECT FROM public.generated_reports AS r WHERE r.id = l.report_id)),
    (SELECT count(*) FROM public.generated_reports WHERE expires_at > now()),
    (SELECT count(*) FROM public.calculator2_sessions WHERE payment_status = 'completed')
"""
# Of what is due: reports, calculator sessions, rows of the DEFAULT partition, deltas.
DUE = """
    SELECT (SELECT count(*) FROM public.generated_reports WHERE expires_at < now()),
        (SELECT count(*) FROM public.calculator2_sessions WHERE payment_status = 'pending'),
        (SELECT count(*) FROM public.report_access_log_default),
        (SELECT count(*) FROM public.report_access_pending)
"""


def rows(database: TestDatabase, query: str) -> list[tuple[Any, ...]]:
    with database.connect(autocommit=True) as owner:
        return owner.execute(query).fetchall()  # type: ignore[call-overload,no-any-return]


def test_maintain_survives_every_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    monkeypatch.setenv("CARNIVORE_DB_EXPORT_LOCATION", str(tmp_path))
    with killable() as killed:
        shape = Shape("plain", killed.server, migrator="postgres", login=APPLICATION)
        shape.create("full")
        shape.migrate("full")
        with psycopg.connect(killed.server.dsn("full"), autocommit=True) as owner:
            owner.execute(FILL)
        full = TestDatabase(shape, "full")
        kept, due = rows(full, KEPT), rows(full, DUE)
        assert len(kept) == 200 * 40 * 2
        assert due == [(200, 5400, 200 * 40 * 2, 200 * 40 * 2)]

        @contextmanager
        def fresh() -> Iterator[Job]:
            with shape.clone("full") as database:
                yield Job(database, ["maintain", "--batch", "100"])

        def check(database: TestDatabase, finished: bool) -> None:
            assert rows(database, KEPT) == kept
            assert rows(database, UNTRUE) == []
            assert rows(database, STRANDED) == [(0, 200, 600)]
            if finished:
                assert rows(database, DUE) == [(0, 0, 0, 0)]

        done = survives(killed, fresh, check, points=POINTS)
    record_property("kills", len(done))
    assert len(done) == POINTS
    # Some were in time: else nothing was killed at all.
    assert sum(not one.ended for one in done) > POINTS / 2
