"""Counting: at every commit progress is what the ended sessions add up to, whoever changed whatever."""

from decimal import Decimal
from functools import partial

from tests.security.law import ended, the_law
from tests.security.personas import OWNERS, SERVICES, Session
from tests.security.registry import add, promise
from tests.security.seed import ADA, BOB, EVE, SITTING_A, SITTING_B, SITTING_GUEST, SITTING_OPEN
from tests.support import progress_law

PROGRESS, SESSIONS = "vocabulary.user_progress", "vocabulary.sessions"
COUNTING = "update_user_progress_from_session count_user_sessions"
OF = f"UPDATE {SESSIONS} SET {{}} WHERE id = '{{}}'"
# What is done to sessions, by whom, in the zone where the client is; the law must hold after every statement.
EVERYBODY = ("ada", *SERVICES, "owner")
CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "when a session ends, is corrected, opens again and is deleted": (
        EVERYBODY,
        (
            OF.format("user_agent = 'x'", SITTING_OPEN),
            OF.format("ended_at = '2026-03-03 10:30+00'", SITTING_OPEN),
            OF.format("ended_at = '2026-03-03 10:30+00'", SITTING_OPEN),
            OF.format("ended_at = '2026-03-04 00:30+00', duration_minutes = 9", SITTING_OPEN),
            # Nothing is counted otherwise than before, but the day.
            OF.format("ended_at = '2026-03-05 00:30+00'", SITTING_OPEN),
            OF.format("ended_at = '2026-03-01 00:30+00', started_at = '2026-02-01'", SITTING_OPEN),
            OF.format("ended_at = NULL", SITTING_OPEN),
            OF.format("ended_at = '2026-03-03 10:30+00', session_type = 'description'", SITTING_OPEN),
            OF.format("session_type = 'vocabulary'", SITTING_OPEN),
            f"DELETE FROM {SESSIONS} WHERE id = '{SITTING_OPEN}'",
            f"DELETE FROM {SESSIONS}",
        ),
    ),
    "when any counter is corrected after the end": (
        ("ada", "bound service"),
        tuple(
            OF.format(f"qa_attempts = qa_attempts + 3, {counter} = {counter} + {step}", SITTING_A)
            if counter != "qa_attempts"
            else OF.format(f"qa_attempts = qa_attempts + {step}", SITTING_A)
            for counter in progress_law.SUMS.values()
            for step in (2, -1)
        ),
    ),
    "when a session is not of a kind any more": (
        ("ada", "bound service"),
        tuple(
            OF.format(change, SITTING_A)
            for change in (
                "session_type = 'mixed', descriptions_generated = 5, vocabulary_learned = 5",
                "descriptions_generated = 0",
                "qa_attempts = 0, qa_correct = 0",
                "vocabulary_learned = 0",
                "session_type = 'description'",
                "session_type = 'mixed'",
                "session_type = 'qa'",
                "session_type = 'mixed'",
                "session_type = 'vocabulary'",
                "session_type = 'mixed'",
            )
        ),
    ),
    "when sessions come already ended, in any order of their days": (
        ("ada", "bound service"),
        (
            ended("2026-03-02 20:00"),
            ended("2026-03-02 19:00", counts="1, 0, 0"),
            ended("2026-03-03 08:00", counts="0, 1, 0"),
            ended("2026-03-03 07:00", counts="0, 0, 1"),
            ended("2026-03-03 06:00", kind="description"),
            ended("2026-03-03 09:00", kind="qa"),
            ended("2026-03-03 09:30", kind="vocabulary"),
            ended("2026-03-07 08:00"),
            ended("2026-02-27 08:00"),
            ended("2026-03-08 08:00", "2026-03-09 08:00", "2026-03-09 07:00"),
            ended("2026-02-20 08:00", "2026-03-20 08:00"),
            ended("2026-03-20 10:00", "2026-03-20 09:00", counts="1, 1, 1"),
            ended("2026-02-28 08:00"),
            f"DELETE FROM {SESSIONS} WHERE ended_at > '2026-03-09'",
            f"DELETE FROM {SESSIONS} WHERE ended_at::date = '2026-03-02'",
        ),
    ),
    "when the service hands sessions over": (
        SERVICES,
        (
            OF.format(f"user_id = '{BOB}'", SITTING_A),
            OF.format(f"user_id = '{EVE}', ended_at = ended_at + interval '1 day'", SITTING_GUEST),
            OF.format("user_id = NULL", SITTING_B),
            OF.format(f"user_id = '{EVE}'", SITTING_OPEN),
            f"UPDATE {SESSIONS} SET user_id = CASE user_id WHEN '{ADA}' THEN uuid '{BOB}' ELSE '{ADA}' END",
            f"UPDATE {SESSIONS} SET user_id = NULL",
        ),
    ),
    "when one statement changes sessions of many": (
        SERVICES,
        (
            f"UPDATE {SESSIONS} SET phrases_saved = 5, ended_at = started_at + interval '2 days'",
            ended("2026-03-10 08:00", "2026-03-12 08:00", whose=BOB).removesuffix(")")
            + f"), ('qa', '{EVE}', now(), now(), 1, 2, 3), ('qa', NULL, now(), now(), 1, 2, 3)",
            (
                f"WITH one AS (UPDATE {SESSIONS} SET qa_attempts = 90, ended_at = '2026-03-11'"
                f" WHERE id = '{SITTING_A}'), two AS (DELETE FROM {SESSIONS} WHERE id = '{SITTING_B}')"
                f" INSERT INTO {SESSIONS} (user_id, session_type, ended_at) VALUES ('{ADA}', 'qa', now())"
            ),
            (
                f"INSERT INTO {SESSIONS} (id, user_id, session_type, ended_at) VALUES"
                f" ('{SITTING_A}', '{ADA}', 'qa', now()), (DEFAULT, '{BOB}', 'qa', now())"
                " ON CONFLICT (id) DO UPDATE SET qa_attempts = 7, qa_correct = 0, session_type = 'mixed'"
            ),
            (
                f"MERGE INTO {SESSIONS} AS old"
                f" USING (VALUES (uuid '{SITTING_A}'), ('{SITTING_B}')) AS new (id)"
                " ON old.id = new.id WHEN MATCHED THEN DELETE"
                " WHEN NOT MATCHED THEN INSERT (user_id, session_type, ended_at)"
                f" VALUES ('{EVE}', 'qa', now())"
            ),
            f"DELETE FROM {SESSIONS}",
        ),
    ),
}


def _the_law_holds(s: Session, *, personas: tuple[str, ...], statements: tuple[str, ...]) -> None:
    for persona in personas:
        with s.undone():
            for statement in statements:
                s.as_(persona).allows(statement)
                the_law(s)


for _sentence, (_personas, _statements) in CASES.items():
    add(
        f"progress is what the sessions add up to {_sentence}",
        partial(_the_law_holds, personas=_personas, statements=_statements),
        f"{PROGRESS} {SESSIONS} update_user_progress_from_session clause",
    )


@promise(f"{PROGRESS} average_accuracy default {COUNTING}")
def progress_adds_up_what_was_there_from_the_beginning(s: Session) -> None:
    the_law(s)
    found = s.as_("ada").row(
        "SELECT total_sessions, total_questions_answered, total_questions_correct, average_accuracy,"
        " total_time_spent_minutes, average_completion_time_seconds, current_streak_days,"
        f" last_streak_date::text FROM {PROGRESS}"
    )
    assert found == (2, 14, 11, Decimal("78.57"), 40, 1200, 2, "2026-03-02")
    assert s.as_("eve").row(
        f"SELECT total_sessions, average_accuracy, average_completion_time_seconds, last_activity_at"
        f" FROM {PROGRESS}"
    ) == (0, 0, 0, None)


@promise(f"{PROGRESS} update_user_progress_from_session clause")
def the_days_of_a_streak_are_utcs_wherever_the_client_is(s: Session) -> None:
    for zone, moments in (
        # Here the evening of a day is the next day already, and there the morning is the day before.
        ("Asia/Tokyo", ("2026-03-04 20:00", "2026-03-05 10:00")),
        ("America/Los_Angeles", ("2026-03-04 12:00", "2026-03-05 03:00")),
        ("Asia/Tokyo", ("2026-03-03 20:00",)),
        ("America/Los_Angeles", ("2026-03-03 02:00",)),
    ):
        for persona in ("ada", "bound service"):
            with s.undone():
                asker = s.as_(persona, time_zone=zone)
                asker.allows(ended(*moments))
                the_law(s)
                asker.allows(f"UPDATE {SESSIONS} SET qa_attempts = 99 WHERE user_id = '{ADA}'")
                the_law(s)


@promise(f"{PROGRESS} COPY {COUNTING}")
def sessions_that_the_service_copies_in_are_counted(s: Session) -> None:
    row = "{}\tqa\t2026-03-01 10:00+00\t2026-03-0{} 10:00+00\t4\n"
    lines = [row.format(whose, day) for whose in (ADA, BOB, r"\N") for day in (3, 5)]
    copy = f"COPY {SESSIONS} (user_id, session_type, started_at, ended_at, qa_attempts) FROM STDIN"
    s.as_("service").allows(copy, lines, rows=6)
    the_law(s)


@promise(f"{PROGRESS} trigger_sessions_truncated recompute_after_truncate")
def emptying_the_sessions_at_once_leaves_no_progress(s: Session) -> None:
    s.superuser.allows(f"GRANT TRUNCATE ON {SESSIONS} TO anon; GRANT USAGE ON SCHEMA vocabulary TO anon")
    for persona in (*OWNERS, "anon"):
        with s.undone():
            s.as_(persona).allows(f"TRUNCATE {SESSIONS}")
            the_law(s)
            assert s.superuser.value(f"SELECT max(total_sessions) FROM {PROGRESS}") == 0
