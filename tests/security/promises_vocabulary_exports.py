"""Exports: asked for by learners, made by the service, and never rewritten: states, moments and attempts."""

from itertools import product

from tests.security.personas import OTHERS, OWNERS, SERVICES, Session
from tests.security.registry import promise
from tests.security.rows import insert, insertion
from tests.security.seed import ADA, BOB, EVE

TABLE, FILES = "vocabulary.export_history", "vocabulary.abandoned_export_files"
STATES = ("pending", "processing", "completed", "failed", "expired")
FINISHED = ("completed", "failed", "expired")
# Each allowed way, and what must go with it.
WAYS = {
    ("pending", "processing"): "",
    ("processing", "processing"): "",  # a second worker takes what a lost one had
    ("processing", "completed"): ", records_count = 3, file_size_bytes = 9, file_url = 's3://x',"
    " expires_at = now()",
    ("processing", "failed"): ", error_message = 'no space left'",
    ("failed", "pending"): "",
    ("completed", "expired"): ", file_url = NULL",
}
CHANGE = f"UPDATE {TABLE} SET {{}} WHERE user_id = '{ADA}' AND status = '{{}}'"
NOTED = f"SELECT status, started_at, completed_at, retry_count FROM {TABLE} WHERE id = %s"
TRANSITION = "enforce_export_transition trigger_export_history_transition"
FACTS = {
    "records_count": "records_count + 1",
    "file_size_bytes": "file_size_bytes + 1",
    "data": "'{\"total\": 9}'",
    "error_message": "'something else'",
    "expires_at": "now()",
}


@promise(f"{TABLE} {TRANSITION} service_role UPDATE clause")
def an_export_goes_the_allowed_ways_only(s: Session) -> None:
    for before, after in product(STATES, STATES):
        statement = CHANGE.format(f"status = '{after}'{WAYS.get((before, after), '')}", before)
        for persona in (*SERVICES, *OWNERS):
            with s.undone():
                if (before, after) in WAYS:
                    s.as_(persona).allows(statement, rows=1)
                    continue
                wrong = {"sqlstate": "23000", "constraint": "export_transition"}
                error = s.as_(persona).refused(statement, **wrong)
                assert error.diag.message_detail == f"{before} -> {after}"


@promise(f"{TABLE} {TRANSITION} default clause")
def the_database_notes_when_an_export_began_and_ended_and_how_often(s: Session) -> None:
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            asker = s.as_(persona)
            key = insert(s.as_("eve"), TABLE, "id", user_id=EVE)
            status, started, ended, attempts = s.superuser.row(NOTED, [key])
            assert (status, started, ended, attempts) == ("pending", None, None, 0)
            for after, known_attempts in (
                ("processing", 0),
                ("processing", 1),
                ("failed", 1),
                ("pending", 2),
                ("processing", 2),
                ("processing", 3),
                ("completed", 3),
                ("expired", 3),
            ):
                moment = s.superuser.value("SELECT clock_timestamp()")
                change = f"status = '{after}'{WAYS[status, after]}"
                asker.allows(f"UPDATE {TABLE} SET {change} WHERE id = %s", [key], rows=1)
                began, finished = started, ended
                status, started, ended, attempts = s.superuser.row(NOTED, [key])
                assert attempts == known_attempts, after
                if after == "processing":
                    assert (started or moment) > moment
                else:
                    assert started == began, after
                if after in {"completed", "failed"}:
                    assert (ended or moment) > moment, after
                else:
                    assert ended == (finished if after == "expired" else None), after
            took = f"SELECT processing_time_seconds = round(extract(epoch FROM %s - %s), 3) FROM {TABLE}"
            assert s.superuser.value(f"{took} WHERE id = %s", [ended, started, key]) is True


@promise(f"{TABLE} {TRANSITION} clause")
def moments_and_attempts_that_are_given_with_a_new_state_are_not_taken(s: Session) -> None:
    old = "'2001-01-01'"
    for persona in OWNERS:
        for before, after, forged in (
            ("pending", "processing", f"started_at = {old}, completed_at = {old}"),
            ("processing", "processing", f"started_at = {old}, completed_at = {old}, retry_count = 50"),
            ("processing", "completed", f"completed_at = {old}"),
            ("processing", "failed", f"completed_at = {old}"),
        ):
            change = f"status = '{after}', {forged}{WAYS[before, after]}"
            with s.undone():
                (key,) = s.superuser.row(
                    f"SELECT id FROM {TABLE} WHERE user_id = '{ADA}' AND status = '{before}'"
                )
                s.as_(persona).allows(f"UPDATE {TABLE} SET {change} WHERE id = %s", [key], rows=1)
                _, started, ended, attempts = s.superuser.row(NOTED, [key])
                assert attempts < 2, (before, after)
                assert all(moment is None or moment.year > 2001 for moment in (started, ended))


@promise(f"{TABLE} started_at completed_at retry_count")
def moments_and_attempts_of_a_finished_export_are_not_rewritten(s: Session) -> None:
    for persona in OWNERS:
        for status in FINISHED:
            for change in ("started_at = now()", "completed_at = now()", "retry_count = retry_count + 1"):
                s.as_(persona).refused(CHANGE.format(change, status), sqlstate="23000")


@promise(f"{TABLE} trigger_export_history_finished refuse_change")
def a_finished_export_is_not_rewritten_not_even_by_the_owner(s: Session) -> None:
    for persona in (*SERVICES, *OWNERS):
        asker = s.as_(persona)
        for status in FINISHED:
            facts = FACTS | ({"file_url": "'s3://y'"} if status == "completed" else {})
            for column, value in facts.items():
                statement = CHANGE.format(f"{column} = {value}", status)
                error = asker.refused(statement, sqlstate="23000", constraint="immutable")
                assert error.diag.column_name == column
                with s.undone():
                    asker.allows(CHANGE.format(f"{column} = {column}", status), rows=1)
        # Nor under the cover of a new state.
        for column, value in FACTS.items():
            statement = CHANGE.format(f"status = 'expired', file_url = NULL, {column} = {value}", "completed")
            asker.refused(statement, sqlstate="23000", constraint="immutable")


@promise(f"{TABLE} UPDATE service_role trigger_export_history_finished")
def the_service_notes_how_far_an_export_is(s: Session) -> None:
    for persona in SERVICES:
        for column, value in FACTS.items():
            for status in ("pending", "processing"):
                s.as_(persona).allows(CHANGE.format(f"{column} = {value}", status), rows=1)


@promise(f"{TABLE} INSERT authenticated service_role")
def an_export_begins_as_a_request(s: Session) -> None:
    for persona in ("eve", *SERVICES):
        with s.undone():
            assert insert(s.as_(persona), TABLE, "status") == "pending"
        for extra in (
            {"status": "completed"},
            {"records_count": 1},
            {"file_url": "file:///etc/passwd"},
            {"retry_count": 0},
            {"started_at": "2026-01-01"},
            {"data": "{}"},
        ):
            s.as_(persona).refused(*insertion(TABLE, **extra))


@promise(f"{TABLE} update_own_export_history UPDATE authenticated policy")
def a_learner_asks_again_for_their_failed_export_and_changes_nothing_else(s: Session) -> None:
    for status in STATES:
        again = CHANGE.format("status = 'pending'", status)
        with s.undone():
            s.as_("ada").allows(again, rows=1 if status == "failed" else 0)
        for persona in OTHERS:
            s.as_(persona).allows(again, rows=0)
        # Row security by itself: no trigger says that the way is forbidden.
        if status != "pending":
            forced = f"UPDATE {TABLE} SET status = '{status}'"
            s.as_("ada", triggers="replica").refused(forced)
        for column, value in FACTS.items():
            s.as_("ada").refused(CHANGE.format(f"{column} = {value}", status))
    others = f"SELECT * FROM {TABLE} WHERE user_id = '{BOB}' ORDER BY id"
    before = s.superuser.rows(others)
    s.as_("ada").allows(f"UPDATE {TABLE} SET status = 'pending'", rows=1)
    s.as_("ada").allows(f"UPDATE {TABLE} SET status = 'pending'", rows=0)
    assert s.superuser.rows(others) == before
    assert s.as_("ada").value(f"SELECT retry_count FROM {TABLE} WHERE retry_count > 0") == 1


@promise(f"{FILES} keep_export_file trigger_export_history_keep_file clause")
def the_file_of_an_export_that_goes_is_noted_for_deletion(s: Session) -> None:
    noted = f"SELECT file_url FROM {FILES} ORDER BY file_url"
    everything = [("s3://exports/gone.csv",), ("s3://exports/one.csv",)]
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            s.as_(persona).allows(f"DELETE FROM vocabulary.users WHERE id = '{ADA}'", rows=1)
            assert s.as_("service").rows(noted) == everything
            # Bob's has the same address; nothing is wrong with that.
            s.as_(persona).allows(f"DELETE FROM vocabulary.users WHERE id = '{BOB}'", rows=1)
            assert s.as_("bound service").rows(noted) == everything
    # Whoever deletes: it is the database's own doing.
    s.superuser.allows(f"GRANT USAGE ON SCHEMA vocabulary TO anon; GRANT DELETE ON {TABLE} TO anon")
    s.superuser.allows(f"CREATE POLICY mine ON {TABLE} TO anon USING (true)")
    s.as_("anon").allows(f"DELETE FROM {TABLE}", rows=10)
    assert s.superuser.rows(noted) == everything


@promise(f"{FILES} keep_export_file trigger_export_history_keep_file clause")
def the_file_that_a_worker_has_begun_is_noted_too_when_its_export_goes(s: Session) -> None:
    for state in ("pending", "processing"):
        data = f"""'{{"file": "s3://exports/{state}.csv"}}'"""
        s.superuser.allows(f"UPDATE {TABLE} SET data = {data} WHERE status = '{state}'")
    s.superuser.allows(f"DELETE FROM {TABLE} WHERE status <> 'completed'")
    noted = s.superuser.rows(f"SELECT file_url FROM {FILES} ORDER BY file_url")
    assert noted == [("s3://exports/gone.csv",), ("s3://exports/processing.csv",)]


@promise(f"{FILES} keep_export_file trigger_export_history_keep_attempt clause")
def the_file_of_an_attempt_that_came_to_nothing_is_noted(s: Session) -> None:
    begun = """UPDATE vocabulary.export_history SET data = '{"file": "s3://exports/half.csv"}'"""
    noted = f"SELECT count(*) FROM {FILES} WHERE file_url = 's3://exports/half.csv'"
    finished = "records_count = 1, file_size_bytes = 1, file_url = 's3://exports/new.csv', expires_at = now()"
    for change, notes in (
        ("status = 'processing', data = '{}'", 1),
        ("status = 'failed', error_message = 'full'", 1),
        ("status = 'failed', error_message = 'full', data = '{}'", 0),
        (f"status = 'completed', {finished}", 0),
        ("records_count = 5", 0),
    ):
        for persona in SERVICES:
            with s.undone():
                s.superuser.allows(f"{begun} WHERE status = 'processing'")
                s.as_(persona).allows(f"UPDATE {TABLE} SET {change} WHERE status = 'processing'")
                assert s.superuser.value(noted) == notes, change
    with s.undone():
        s.superuser.allows(f"{begun} WHERE status = 'pending'")
        s.as_("service").allows(f"UPDATE {TABLE} SET status = 'processing' WHERE status = 'pending'")
        assert s.superuser.value(noted) == 0
    # No file, nothing to note.
    s.as_("service").allows(f"UPDATE {TABLE} SET status = 'processing' WHERE status = 'processing'")
    assert s.superuser.value(f"SELECT count(*) FROM {FILES}") == 1
