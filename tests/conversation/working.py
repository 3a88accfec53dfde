"""The chat's jobs: what is due for each, how it fails in the middle, and what is in the log of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from carnivore_db import Database
from carnivore_db.conversation import jobs
from tests.conversation.samples import sign_up
from tests.conversation.speaking import OLD, opened, spoken
from tests.support.databases import TestDatabase, one
from tests.support.factories import put

SECRET = "geheim"  # what people wrote, and no log of a job may quote
GATE = 20251110  # an advisory lock
MONDAY = datetime(2024, 4, 29, tzinfo=UTC)


def _weeks(owner: psycopg.Connection, number: int) -> None:
    for _ in range(number):
        person = sign_up(owner)
        owner.execute(
            "UPDATE conversation.profiles SET week_reset_date = %s, current_week_completion_count = 2"
            " WHERE id = %s",
            [MONDAY, person.id],
        )


def _sessions(owner: psycopg.Connection, number: int) -> None:
    for _ in range(number):
        opened(owner, sign_up(owner))


def _logs(owner: psycopg.Connection, number: int) -> None:
    for day in range(number):
        said = {"metadata": {"said": SECRET}, "created_at": OLD + timedelta(days=day)}
        put(owner, "conversation.logs", level="info", event_type="user_logout", **said)


def _messages(owner: psycopg.Connection, number: int) -> None:
    spoken(owner, sign_up(owner), said=number)


@dataclass(frozen=True)
class Work:
    """A job as tests know it."""

    job: jobs.Job
    make_due: Callable[[psycopg.Connection, int], None]
    due: str  # the rows that are due
    event: str  # what its batches are logged as
    count: str  # and the fact that says how many rows
    touched: str  # the table whose rows it touches, and how
    verb: str

    def left(self, owner: psycopg.Connection) -> int:
        return len(owner.execute(self.due).fetchall())


WORK: dict[str, Work] = {
    work.job: work
    for work in (
        Work(
            "reset_weekly_limits",
            _weeks,
            "SELECT id FROM conversation.profiles WHERE week_reset_date <= now()"
            " ORDER BY week_reset_date, id",
            "weekly_limit_reset",
            "reset",
            "conversation.profiles",
            "UPDATE",
        ),
        Work(
            "delete_expired_sessions",
            _sessions,
            "SELECT id FROM conversation.sessions WHERE NOT is_completed"
            " AND last_activity_at < now() - interval '7 days' ORDER BY started_at, id",
            "session_expiration_cleanup",
            "deleted",
            "conversation.sessions",
            "DELETE",
        ),
        Work(
            "delete_old_logs",
            _logs,
            "SELECT id FROM conversation.logs_default WHERE created_at < now() - interval '30 days'"
            " ORDER BY created_at",
            "cleanup_job_executed",
            "deleted",
            "conversation.logs_default",
            "DELETE",
        ),
        Work(
            "archive_messages",
            _messages,
            "SELECT id FROM conversation.messages ORDER BY sent_at, id",
            "messages_archived",
            "archived",
            "conversation.messages",
            "DELETE",
        ),
    )
}
# A trigger of the test's: the fourth row that a job touches makes it fail, or wait at a gate. What a sequence
# has counted is not rolled back.
STUMBLE = f"""
    CREATE SEQUENCE public.touched;
    CREATE FUNCTION public.stumble() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('public.touched') = 4 THEN
            IF TG_ARGV[0] = 'wait' THEN
                PERFORM pg_advisory_xact_lock({GATE});
            ELSE
                RAISE EXCEPTION '{SECRET} %', to_jsonb(OLD) USING DETAIL = '{SECRET}', HINT = '{SECRET}',
                    ERRCODE = 'P0001', CONSTRAINT = 'of_the_test';
            END IF;
        END IF;
        IF TG_OP = 'DELETE' THEN
            RETURN OLD;
        END IF;
        RETURN NEW;
    END
    $$;
    CREATE TRIGGER a_stumble BEFORE {{verb}} ON {{table}}
        FOR EACH ROW EXECUTE FUNCTION public.stumble({{how}});
"""


@contextmanager
def stumbling(owner: psycopg.Connection, work: Work, how: str) -> Iterator[None]:
    """The job fails at its fourth row ('fail'), or waits there until the gate is open ('wait')."""
    statement = STUMBLE.format(verb=work.verb, table=work.touched, how=how)
    owner.execute(statement)
    try:
        yield
    finally:
        owner.execute("DROP FUNCTION public.stumble() CASCADE")
        owner.execute("DROP SEQUENCE public.touched")


@contextmanager
def gate(database: TestDatabase) -> Iterator[None]:
    """Closed while the block runs."""
    with database.connect() as keeper:
        keeper.execute("SELECT pg_advisory_lock(%s)", [GATE])
        yield


@contextmanager
def working(database: TestDatabase, **settings: str) -> Iterator[Database]:
    """A Database of the migrating role, on connections with these settings."""
    url = database.migrator_url
    if settings:
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        url = url.update_query_dict({"options": options})
    made = Database(url)
    yield made
    made.close()


def logged(owner: psycopg.Connection, event: str) -> list[dict[str, Any]]:
    """The events of a type in order."""
    return owner.execute(
        "SELECT level, user_id, session_id, metadata FROM conversation.logs WHERE event_type = %s"
        " ORDER BY metadata->>'started_at', metadata->>'finished_at'",
        [event],
    ).fetchall()


def failure(owner: psycopg.Connection) -> dict[str, Any]:
    """The facts of the one failure in the log, which quotes nothing."""
    assert one(owner, "SELECT count(*) FROM conversation.logs WHERE event_type = 'cleanup_job_failed'") == 1
    (event,) = logged(owner, "cleanup_job_failed")
    assert (event["level"], event["user_id"], event["session_id"]) == ("error", None, None)
    facts: dict[str, Any] = event["metadata"]
    assert SECRET not in str(facts)
    return facts
