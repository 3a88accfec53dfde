"""Rows of progress: one a learner from the first moment to the last; words are theirs, totals nobody's."""

from functools import partial
from itertools import permutations

from tests.security.law import ended, the_law
from tests.security.personas import OWNERS, SERVICES, Session
from tests.security.registry import add, promise
from tests.security.seed import ADA, BOB, EVE, MALLORY, NO_ONE, SITTING_A
from tests.support import progress_law

PROGRESS, SESSIONS = "vocabulary.user_progress", "vocabulary.sessions"


@promise(f"{PROGRESS} trigger_user_progress_fill fill_user_progress count_user_sessions clause")
def whatever_totals_a_new_row_of_progress_is_given_the_sessions_are_counted(s: Session) -> None:
    given = (
        f"user_id, {', '.join(progress_law.SUMS)}, current_streak_days, last_streak_date, last_activity_at"
    )
    forged = f"INSERT INTO {PROGRESS} ({given}) VALUES ('{ADA}', {', '.join(['900'] * 8)}, now(), now())"
    for statement in (
        ended("2026-03-09 23:30", "2026-03-11 09:00", "2026-03-11 08:00", "2026-03-14 09:00"),
        *(ended("2026-03-10 00:30", kind=kind) for kind in ("description", "qa", "vocabulary")),
        *(ended("2026-03-11 07:00", counts=counts) for counts in ("1, 0, 0", "0, 1, 0", "0, 0, 1")),
    ):
        s.superuser.allows(statement)
        the_law(s)
        for persona, zone in (("owner", "Asia/Tokyo"), ("superuser", "America/Los_Angeles")):
            with s.undone():
                gone = f"DELETE FROM {PROGRESS} WHERE user_id = '{ADA}'"
                s.as_("superuser", triggers="replica").allows(gone)
                s.as_(persona, time_zone=zone).allows(forged)
                the_law(s)


@promise(f"{PROGRESS} fill_user_progress INSERT authenticated service_role")
def learners_and_the_service_write_the_words_by_insert_or_update(s: Session) -> None:
    before = s.superuser.rows(f"SELECT * FROM {PROGRESS} WHERE user_id <> '{ADA}' ORDER BY id")
    for number, persona in enumerate(("ada", *SERVICES, "owner")):
        s.as_(persona).allows(
            f"INSERT INTO {PROGRESS} (user_id, mastered_words_count) VALUES ('{ADA}', %s)"
            " ON CONFLICT (user_id) DO UPDATE SET mastered_words_count = excluded.mastered_words_count",
            [700 + number],
            rows=1,
        )
        found = s.as_("ada").row(f"SELECT mastered_words_count, learning_words_count FROM {PROGRESS}")
        assert found == (700 + number, 3)
        the_law(s)
    assert s.superuser.rows(f"SELECT * FROM {PROGRESS} WHERE user_id <> '{ADA}' ORDER BY id") == before


@promise(f"vocabulary.users {PROGRESS} trigger_users_create_progress create_user_progress")
def every_learner_has_a_row_of_progress_from_the_first_moment(s: Session) -> None:
    # It is the database's own doing: nobody needs a right to it.
    s.superuser.allows(f"REVOKE ALL ON {PROGRESS} FROM authenticated, service_role")
    for persona in ("stranger", *SERVICES, *OWNERS):
        with s.undone():
            s.as_(persona).allows(
                f"INSERT INTO vocabulary.users (id, email) VALUES ('{MALLORY}', 'mallory@example.com')"
            )
            the_law(s)
    s.as_("service").allows("COPY vocabulary.users (email) FROM STDIN", ["x@y.com\n", "z@y.com\n"], rows=2)
    the_law(s)


@promise(f"{PROGRESS} DELETE trigger_user_progress_keep keep_user_progress")
def progress_goes_with_its_learner_and_not_alone(s: Session) -> None:
    kept = {"sqlstate": "23000", "constraint": "user_progress_kept"}
    for persona in OWNERS:
        s.as_(persona).refused(f"DELETE FROM {PROGRESS} WHERE user_id = '{ADA}'", **kept)
        s.as_(persona).refused(f"DELETE FROM {PROGRESS}", **kept)
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            s.as_(persona).allows(f"DELETE FROM vocabulary.users WHERE id = '{ADA}'", rows=1)
            the_law(s)


@promise("keep_user_progress")
def a_learner_hidden_by_a_policy_is_not_taken_for_a_deleted_one(s: Session) -> None:
    s.superuser.allows(f"GRANT SELECT, DELETE ON {PROGRESS}, vocabulary.users TO anon")
    s.superuser.allows("GRANT USAGE ON SCHEMA vocabulary TO anon")
    s.superuser.allows(f"CREATE POLICY mine ON {PROGRESS} TO anon USING (true)")
    s.as_("anon").refused(f"DELETE FROM {PROGRESS}", sqlstate="23000", constraint="user_progress_kept")


@promise(f"{PROGRESS} update_user_progress_from_session recompute_user_progress clause")
def progress_that_its_owner_emptied_is_counted_again(s: Session) -> None:
    s.as_("owner").allows(f"TRUNCATE {PROGRESS}")
    for persona, statement in (
        ("service", "SELECT vocabulary.recompute_user_progress('{}')"),
        ("ada", ended("2026-03-03 08:00", whose="{}")),
        ("bound service", ended("2026-03-03 08:00", "2026-03-04 08:00", whose="{}", counts="1, 1, 1")),
    ):
        with s.undone():
            for learner, name in ((ADA, "ada"), (BOB, "bob"), (EVE, "eve")):
                s.as_(name if persona == "ada" else persona).allows(statement.replace("{}", learner))
            the_law(s)
    for learner in (ADA, BOB, EVE):
        s.as_("service").allows(f"DELETE FROM vocabulary.users WHERE id = '{learner}'", rows=1)
    the_law(s)


PERSON = f"INSERT INTO vocabulary.users (id, email) VALUES ('{MALLORY}', 'mallory@example.com')"
SITTING = ended("2026-03-03 08:00", whose=MALLORY, kind="qa", counts="1, 2, 3")
WORDS = f"INSERT INTO {PROGRESS} (user_id, new_words_count) VALUES ('{MALLORY}', 7)"


def _may_come_in_one_statement(s: Session, *, statements: tuple[str, ...]) -> None:
    for persona in ("stranger", "bound service"):
        for statement in statements:
            with s.undone():
                s.as_(persona).allows(statement)
                the_law(s)


for _sentence, _parts in (
    ("with a session", (PERSON, SITTING)),
    ("with words", (PERSON, WORDS)),
    ("with a session and words", (PERSON, SITTING, WORDS)),
):
    add(
        f"a learner {_sentence} may come in one statement",
        partial(
            _may_come_in_one_statement,
            statements=tuple(
                f"WITH {', '.join(f'part{number} AS ({part})' for number, part in enumerate(parts))} {last}"
                for *parts, last in permutations(_parts)
            ),
        ),
        f"{PROGRESS} create_user_progress trigger_user_progress_fill clause",
    )


@promise(
    f"{PROGRESS} recompute_user_progress recount_user_progress count_user_sessions EXECUTE service_role"
    " clause"
)
def the_service_proves_progress_and_repairs_what_is_wrong(s: Session) -> None:
    recompute = "SELECT name, stored, counted FROM vocabulary.recompute_user_progress(%s)"
    for persona in SERVICES:
        for learner in (ADA, BOB, EVE):
            s.as_(persona).sees_nothing(recompute, [learner])
        for column in progress_law.COUNTED:
            with s.undone():
                damage = {"_at": "now()", "_date": "'2020-01-01'"}.get(column[column.rindex("_") :], "77")
                s.superuser.allows(f"UPDATE {PROGRESS} SET {column} = {damage} WHERE user_id = '{ADA}'")
                ((name, stored, found),) = s.as_(persona).rows(recompute, [ADA])
                assert (name, stored == found) == (column, False)
                the_law(s)
                s.as_(persona).sees_nothing(recompute, [ADA])
        two = "total_sessions = 77, current_streak_days = 77"
        with s.undone():
            s.superuser.allows(f"UPDATE {PROGRESS} SET {two} WHERE user_id = '{ADA}'")
            names = [name for name, _, _ in s.as_(persona).rows(recompute, [ADA])]
            assert names == ["current_streak_days", "total_sessions"]
        unknown = {"sqlstate": "P0002", "constraint": "user_not_found"}
        for learner in (NO_ONE, None):
            s.as_(persona).refused(recompute, [learner], **unknown)


@promise(f"{SESSIONS} update_user_progress_from_session clause")
def the_smallest_change_is_counted(s: Session) -> None:
    counters = "descriptions_generated images_processed qa_attempts vocabulary_learned phrases_saved"
    for column in (*counters.split(), "duration_minutes", "qa_correct"):
        correct = f"UPDATE {SESSIONS} SET qa_attempts = 9 WHERE id = '{SITTING_A}'"
        s.superuser.allows(correct)
        s.superuser.allows(f"UPDATE {SESSIONS} SET {column} = {column} + 1 WHERE id = '{SITTING_A}'", rows=1)
        the_law(s)
    s.superuser.allows(
        f"INSERT INTO {SESSIONS} (session_type, user_id, started_at, ended_at)"
        f" VALUES ('mixed', '{ADA}', '2026-02-01 10:00+00', '2026-02-01 10:00+00')"
    )
    the_law(s)
