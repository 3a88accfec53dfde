"""Completing scenes: moments, durations and counts are the database's own, whoever changes whatever."""

from datetime import UTC, datetime
from functools import partial

from tests.security.personas import OWNERS, SERVICES, Session
from tests.security.registry import add, promise
from tests.security.seed import ADA, BOB, EVE, NO_ONE, SCENE_A, SCENE_B, SCENE_B_OPEN, SCENE_OPEN

PROFILES, SESSIONS, SCENARIOS = "conversation.profiles", "conversation.sessions", "conversation.scenarios"
# When this week began. No moment of a test is near the end of one, whenever the test runs.
MONDAY = "(date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC')"
WEEK = "interval '168 hours'"  # a day of an interval is longer where clocks are put back
ZONES = ("UTC", "Asia/Tokyo", "America/Los_Angeles")
COUNTED = f"SELECT completed_scenario_count, current_week_completion_count FROM {PROFILES} WHERE id = %s"
ENDS = f"SELECT week_reset_date FROM {PROFILES} WHERE id = %s"
TIMED = f"SELECT completed_at, duration_seconds FROM {SESSIONS} WHERE id = %s"
OF = f"UPDATE {SESSIONS} SET {{}} WHERE id = '{{}}'"
COMPLETE = OF.format("is_completed = true", SCENE_OPEN)
BEGIN = f"INSERT INTO {SESSIONS} (user_id, scenario_id) VALUES ('{{}}', 2)"
COUNTING = f"maintain_profile_counts update_profile_completion_counts count_completions {PROFILES} {SESSIONS}"
MEASURING = f"calculate_session_duration {SESSIONS}"


def completed(moment: str, whose: str = ADA, *, times: int = 1) -> str:
    """A statement that adds sessions which were begun and completed then: an expression of SQL."""
    row = f"('{whose}', 1, true, {moment}, {moment})"
    return (
        f"INSERT INTO {SESSIONS} (user_id, scenario_id, is_completed, started_at, completed_at)"
        f" VALUES {', '.join([row] * times)}"
    )


def the_law(s: Session) -> None:
    """What is counted is what there is: completed sessions, those of the week, and messages of each chat."""
    s.superuser.sees_nothing(
        f"SELECT FROM {PROFILES} AS p WHERE (completed_scenario_count, current_week_completion_count) <> ("
        f" SELECT count(*), count(*) FILTER (WHERE completed_at >= p.week_reset_date - {WEEK})"
        f" FROM {SESSIONS} WHERE user_id = p.id AND is_completed)"
    )
    s.superuser.sees_nothing(
        f"SELECT FROM {SESSIONS} AS s WHERE (message_count_main, message_count_helper) <> ("
        " SELECT count(*) FILTER (WHERE chat_type = 'main'), count(*) FILTER (WHERE chat_type = 'helper')"
        " FROM conversation.message_history WHERE session_id = s.id)"
    )


# What is done to sessions, and by whom; the law must hold after every statement.
CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "when a person completes sessions, begins others and abandons one": (
        ("ada", *SERVICES, "owner"),
        (
            COMPLETE,
            COMPLETE,
            BEGIN.format(ADA),
            f"UPDATE {SESSIONS} SET is_completed = true WHERE user_id = '{ADA}'",
            BEGIN.format(ADA),
            f"DELETE FROM {SESSIONS} WHERE user_id = '{ADA}' AND NOT is_completed",
        ),
    ),
    "when sessions come completed, are corrected, opened again and deleted": (
        (*SERVICES, "owner"),
        (
            f"DELETE FROM {SESSIONS} WHERE id = '{SCENE_OPEN}'",
            completed(MONDAY),
            completed(f"{MONDAY} - interval '1 microsecond'"),
            completed(f"{MONDAY} + interval '1 day'"),
            completed(MONDAY, EVE),
            OF.format(f"completed_at = {MONDAY}", SCENE_A),
            OF.format(f"completed_at = {MONDAY} - interval '1 microsecond'", SCENE_A),
            OF.format(f"started_at = {MONDAY} - interval '1 year'", SCENE_A),
            OF.format(f"completed_at = {MONDAY} + interval '1 hour'", SCENE_A),
            OF.format("is_completed = false", SCENE_A),
            OF.format("is_completed = true", SCENE_A),
            OF.format("is_completed = false, completed_at = NULL", SCENE_A),
            f"DELETE FROM {SESSIONS} WHERE id = '{SCENE_A}'",
            f"DELETE FROM {SESSIONS} WHERE completed_at = {MONDAY}",
            f"DELETE FROM {SESSIONS}",
        ),
    ),
    "when one statement changes sessions of many": (
        (*SERVICES, "owner"),
        (
            f"UPDATE {SESSIONS} SET is_completed = true",
            (
                f"INSERT INTO {SESSIONS} (user_id, scenario_id, is_completed, started_at) VALUES"
                f" ('{EVE}', 1, true, {MONDAY}), ('{ADA}', 2, true, now()), ('{EVE}', 3, false, now())"
            ),
            f"UPDATE {SESSIONS} SET started_at = {MONDAY}, completed_at = {MONDAY} WHERE is_completed",
            (
                f"UPDATE {SESSIONS} SET started_at = {MONDAY} - {WEEK}, completed_at = {MONDAY} - {WEEK}"
                " WHERE is_completed AND scenario_id = 1"
            ),
            (
                f"WITH one AS (UPDATE {SESSIONS} SET is_completed = false WHERE id = '{SCENE_A}'),"
                f" two AS (DELETE FROM {SESSIONS} WHERE id = '{SCENE_B}')"
                f" INSERT INTO {SESSIONS} (user_id, scenario_id, is_completed) VALUES ('{EVE}', 1, true)"
            ),
            (
                f"INSERT INTO {SESSIONS} (id, user_id, scenario_id) VALUES ('{SCENE_B_OPEN}', '{BOB}', 1)"
                " ON CONFLICT (id) DO UPDATE SET is_completed = false"
            ),
            (
                f"MERGE INTO {SESSIONS} AS old USING (VALUES (uuid '{SCENE_A}'), ('{SCENE_B}')) AS new (id)"
                " ON old.id = new.id WHEN MATCHED THEN UPDATE SET is_completed = true WHEN NOT MATCHED THEN"
                f" INSERT (user_id, scenario_id, is_completed) VALUES ('{BOB}', 1, true)"
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
        f"completions are counted {_sentence}",
        partial(_the_law_holds, personas=_personas, statements=_statements),
        f"{COUNTING} clause",
    )


@promise(f"{COUNTING} default")
def completions_are_counted_from_the_beginning(s: Session) -> None:
    the_law(s)
    assert s.as_("ada").row(COUNTED, [ADA]) == (1, 0)
    assert s.as_("eve").row(COUNTED, [EVE]) == (0, 0)
    s.as_("ada").allows(COMPLETE, rows=1)
    assert s.as_("ada").row(COUNTED, [ADA]) == (2, 1)
    the_law(s)


@promise(f"{COUNTING} next_monday clause")
def a_week_that_is_over_ends_with_the_next_completion_and_none_ends_early(s: Session) -> None:
    next_one = s.superuser.value(f"SELECT {MONDAY} + {WEEK}")
    for weeks, persona in ((-60, "ada"), (-1, "bound service"), (0, "ada"), (1, "owner"), (3, "ada")):
        with s.undone():
            moved = f"UPDATE {PROFILES} SET week_reset_date = {MONDAY} + {weeks + 1} * {WEEK} WHERE id = %s"
            s.superuser.allows(moved, [ADA], rows=1)
            before = s.superuser.value(ENDS, [ADA])
            s.as_(persona).allows(COMPLETE, rows=1)
            assert s.superuser.value(ENDS, [ADA]) == max(before, next_one)
            the_law(s)
            s.as_("service").allows(f"DELETE FROM {SESSIONS} WHERE user_id = '{ADA}'")
            assert s.superuser.row(COUNTED, [ADA]) == (0, 0)


@promise(f"{COUNTING} next_monday clause")
def a_week_has_168_hours_wherever_the_client_is(s: Session) -> None:
    # The clocks there are put forward on the Sunday, and back on the other one.
    for zone, monday, next_monday in (
        ("Europe/Berlin", "2040-03-19", "2040-03-26"),
        ("Europe/Berlin", "2040-10-22", "2040-10-29"),
        ("Asia/Tokyo", "2040-10-22", "2040-10-29"),
    ):
        for persona in ("service", "owner"):
            with s.undone():
                ends = f"UPDATE {PROFILES} SET week_reset_date = '{next_monday} 00:00+00' WHERE id = %s"
                s.superuser.allows(ends, [EVE], rows=1)
                asker = s.as_(persona, time_zone=zone)
                for moment in ("00:00+00", "00:30+00", "12:00+00"):
                    asker.allows(completed(f"timestamptz '{monday} {moment}'", EVE))
                asker.allows(completed(f"timestamptz '{monday} 00:00+00' - interval '1 minute'", EVE))
                assert s.superuser.row(COUNTED, [EVE]) == (4, 3)
                over = {"sqlstate": "PT429", "constraint": "weekly_limit"}
                for moment in ("00:00+00", "00:30+00", "12:00+00"):
                    asker.refused(completed(f"timestamptz '{monday} {moment}'", EVE), **over)


@promise(f"{COUNTING} clause")
def what_counts_nothing_leaves_a_profile_alone_and_what_counts_is_counted_once(s: Session) -> None:
    written = (
        f"SELECT n_tup_upd FROM pg_stat_xact_user_tables WHERE relid = '{PROFILES}'::regclass UNION ALL"
        " SELECT 0 ORDER BY 1 DESC LIMIT 1"
    )
    for statement, times in (
        (OF.format("started_at = started_at - interval '1 year'", SCENE_A), 0),
        (OF.format("is_completed = true, completed_at = completed_at", SCENE_A), 0),
        (OF.format("last_activity_at = now()", SCENE_A), 0),
        (OF.format(f"completed_at = {MONDAY}", SCENE_A), 1),
        (BEGIN.format(EVE), 0),
        (f"DELETE FROM {SESSIONS} WHERE user_id = '{EVE}'", 0),
        (OF.format("started_at = now()", SCENE_OPEN), 0),
        (COMPLETE, 1),
        (completed(MONDAY), 1),
        (f"DELETE FROM {SESSIONS} WHERE id = '{SCENE_A}'", 1),
    ):
        before = s.superuser.value(written)
        s.as_("service").allows(statement, rows=1)
        assert s.superuser.value(written) == before + times, statement


@promise("on_auth_user_created create_profile_for_new_user begin_profile next_monday clause")
def a_login_makes_a_profile_with_nothing_counted_and_a_week_that_ends_on_monday(s: Session) -> None:
    s.superuser.allows("GRANT INSERT ON auth.users TO service_role")
    made = f"SELECT email::text, {COUNTED.removeprefix('SELECT ')}"
    for persona in ("service", *OWNERS):
        for zone in ZONES:
            with s.undone():
                login = "INSERT INTO auth.users (id, email) VALUES (%s, 'No.One@example.com')"
                s.as_(persona, time_zone=zone).allows(login, [NO_ONE], rows=1)
                assert s.superuser.row(made, [NO_ONE]) == ("No.One@example.com", 0, 0)
                ends = s.superuser.value(ENDS, [NO_ONE])
                assert ends == s.superuser.value(f"SELECT {MONDAY} + {WEEK}")


@promise(f"create_profile_for_new_user {PROFILES} email_not_empty profiles_email_key clause")
def nobody_has_a_profile_without_an_address_of_their_own(s: Session) -> None:
    login = "INSERT INTO auth.users (id, email) VALUES (%s, %s)"
    addresses = (None, "", " ", "m\u00fcller@example.com", "ADA@example.com", "ada@EXAMPLE.com")
    for persona in OWNERS:
        for address in addresses:
            with s.undone():
                s.as_(persona).allows(login, [NO_ONE, address], rows=1)
                assert s.superuser.value(f"SELECT count(*) FROM {PROFILES} WHERE id = '{NO_ONE}'") == 0
            # As the document wants it, where the database is told so.
            with s.undone():
                s.superuser.allows("SET LOCAL carnivore.profile_required = 'on'")
                wrong = {"sqlstate": "23514", "constraint": "email_not_empty"}
                error = s.as_(persona).refused(login, [NO_ONE, address], **wrong)
                found = (error.diag.schema_name, error.diag.table_name, error.diag.column_name)
                assert found == ("conversation", "profiles", "email")


@promise(f"{PROFILES} email collation idx_profiles_email")
def addresses_are_one_in_whatever_case_where_the_locale_thinks_otherwise(s: Session) -> None:
    """As in a Turkish one, where citext takes I and i for two letters."""
    s.superuser.allows(f"ALTER TABLE {PROFILES} DROP CONSTRAINT profiles_email_key")
    change = f"UPDATE {PROFILES} SET email = %s WHERE id = '{EVE}'"
    taken = {"sqlstate": "23505", "constraint": "idx_profiles_email"}
    for persona in OWNERS:
        s.as_(persona).refused(change, ["ADA@Example.COM"], **taken)
        s.as_(persona).allows(change, ["EVE@example.com"], rows=1)


@promise(f"begin_profile {PROFILES} clause")
def a_new_profile_takes_no_counts_and_no_week_from_anybody(s: Session) -> None:
    row = (
        f"INSERT INTO {PROFILES} (id, email, completed_scenario_count, current_week_completion_count,"
        f" week_reset_date) VALUES ('{EVE}', 'eve@example.com', 7, 3, {MONDAY} + 20 * {WEEK})"
    )
    for persona in OWNERS:
        with s.undone():
            s.superuser.allows(f"DELETE FROM {PROFILES} WHERE id = '{EVE}'", rows=1)
            s.as_(persona, time_zone="Asia/Tokyo").allows(row, rows=1)
            assert s.superuser.row(COUNTED, [EVE]) == (0, 0)
            assert s.superuser.value(ENDS, [EVE]) == s.superuser.value(f"SELECT {MONDAY} + {WEEK}")


@promise("next_monday clause search_path")
def weeks_begin_on_monday_at_midnight_utc_wherever_the_client_is(s: Session) -> None:
    for zone in (*ZONES, "Europe/Berlin", "Pacific/Auckland"):
        for moment, found in (
            ("2026-03-01 23:59:59.999999", datetime(2026, 3, 2, tzinfo=UTC)),
            ("2026-03-02 00:00", datetime(2026, 3, 9, tzinfo=UTC)),
            ("2026-03-27 12:00", datetime(2026, 3, 30, tzinfo=UTC)),  # the clocks are put forward
            ("2026-10-23 12:00", datetime(2026, 10, 26, tzinfo=UTC)),  # and back
        ):
            asked = f"SELECT carnivore.next_monday('{moment}+00')"
            assert s.as_("owner", time_zone=zone).value(asked) == found, (zone, moment)


@promise(f"{MEASURING} clause")
def the_database_notes_when_a_session_was_completed_and_how_long_it_took(s: Session) -> None:
    took = "floor(extract(epoch FROM completed_at - started_at))::int"
    for persona in ("ada", *SERVICES, *OWNERS):
        with s.undone():
            s.as_(persona).allows(COMPLETE, rows=1)
            assert s.superuser.value(
                f"SELECT completed_at > now() AND completed_at <= clock_timestamp()"
                f" AND duration_seconds = {took} AND duration_seconds > 0"
                f" FROM {SESSIONS} WHERE id = '{SCENE_OPEN}'"
            )
    row = (
        f"INSERT INTO {SESSIONS} (user_id, scenario_id, is_completed, started_at, completed_at)"
        " VALUES (%s, 1, true, {}, {}) RETURNING {}, duration_seconds"
    )
    just_now = "completed_at BETWEEN statement_timestamp() AND clock_timestamp()"
    for persona in (*SERVICES, *OWNERS):
        for started, ended, noted, seconds in (
            ("clock_timestamp() - interval '10.5 seconds'", "NULL", just_now, 10),
            (
                "now() - interval '90 s'",
                "now() - interval '30 s'",
                "completed_at = now() - interval '30 s'",
                60,
            ),
            # By a clock that is ahead of the server's: no session ends before it began.
            ("clock_timestamp() + interval '1 hour'", "NULL", "completed_at = started_at", 0),
            ("'2000-01-01Z'", "'2099-12-31Z'", "completed_at = '2099-12-31Z'", 2**31 - 1),
        ):
            with s.undone():
                found = s.as_(persona).row(row.format(started, ended, noted), [EVE])
                assert found == (True, seconds), started


@promise(f"{MEASURING} completed_at_with_completed clause")
def a_correction_measures_a_session_anew_and_opening_it_again_empties_both(s: Session) -> None:
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            s.superuser.allows(f"DELETE FROM {SESSIONS} WHERE id = '{SCENE_OPEN}'")
            asker = s.as_(persona)
            for change, seconds in (
                ("started_at = '2026-02-02 10:00+00', completed_at = '2026-02-02 10:01+00'", 60),
                ("started_at = '2026-02-02 10:00:30+00'", 30),
                ("completed_at = '2026-02-02 10:02+00'", 90),
                ("last_activity_at = '2026-02-02 10:03+00'", 90),
            ):
                asker.allows(OF.format(change, SCENE_A), rows=1)
                assert s.superuser.row(TIMED, [SCENE_A])[1] == seconds, change
            asker.allows(OF.format("is_completed = false", SCENE_A), rows=1)
            assert s.superuser.row(TIMED, [SCENE_A]) == (None, None)
            # Of one that goes on nobody says when it ended.
            wrong = {"sqlstate": "23514", "constraint": "completed_at_with_completed"}
            asker.refused(OF.format("completed_at = now()", SCENE_A), **wrong)
    # Nor how long it took.
    for persona in OWNERS:
        for scene in (SCENE_A, SCENE_OPEN):
            before = s.superuser.row(TIMED, [scene])
            s.as_(persona).allows(OF.format("duration_seconds = 5", scene), rows=1)
            assert s.superuser.row(TIMED, [scene]) == before
        row = f"INSERT INTO {SESSIONS} (user_id, scenario_id, duration_seconds) VALUES (%s, 1, 5)"
        with s.undone():
            assert s.as_(persona).value(f"{row} RETURNING duration_seconds", [EVE]) is None
