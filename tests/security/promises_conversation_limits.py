"""Limits: scenes on offer, three a week, and so many messages a minute; and how long to wait."""

from datetime import UTC, datetime, timedelta

import psycopg

from tests.security.personas import OWNERS, SERVICES, Asker, Session
from tests.security.promises_conversation_counting import (
    BEGIN,
    COMPLETE,
    COUNTED,
    ENDS,
    MONDAY,
    SESSIONS,
    WEEK,
    completed,
    the_law,
)
from tests.security.registry import promise
from tests.security.seed import ADA, BOB, EVE, SCENE_B_OPEN, SCENE_OPEN

MESSAGES, LIMITS = "conversation.messages", "conversation.rate_limits"
LIMIT = f"UPDATE {LIMITS} SET {{}} WHERE code = '{{}}'"
OVER = {"sqlstate": "PT429", "constraint": "weekly_limit"}
TOO_FAST = {"sqlstate": "PT429", "constraint": "message_rate_limit"}
EVERYBODY = ("ada", *SERVICES, "owner")
SCENES = (
    f"{SESSIONS} {LIMITS} begin_session limit_completions update_profile_completion_counts"
    " maintain_profile_counts clause"
)
SPEED = f"{MESSAGES} {LIMITS} rate_limit_messages limit_messages clause"


def _none_is_open(s: Session) -> None:
    s.superuser.allows(f"DELETE FROM {SESSIONS} WHERE id = '{SCENE_OPEN}'", rows=1)


def _refused_until_monday(asker: Asker, statement: str) -> None:
    error = asker.refused(statement, **OVER)
    ends = asker.session.superuser.value(ENDS, [ADA])
    assert error.diag.message_detail == ends.astimezone(UTC).isoformat()
    assert (error.diag.schema_name, error.diag.table_name) == ("conversation", "sessions")


@promise(SCENES)
def the_week_has_three_scenes_and_a_fourth_is_neither_begun_nor_completed(s: Session) -> None:
    for persona in EVERYBODY:
        with s.undone():
            asker = s.as_(persona, time_zone="Asia/Tokyo")
            s.as_("service").allows(completed(MONDAY, times=3), rows=3)
            _refused_until_monday(asker, COMPLETE)
            assert s.superuser.row(COUNTED, [ADA]) == (4, 3)
            _none_is_open(s)
            _refused_until_monday(asker, BEGIN.format(ADA))
            if persona != "ada":
                _refused_until_monday(asker, completed(MONDAY))
                _refused_until_monday(asker, completed(f"{MONDAY} + interval '1 hour'"))
            # A place is free again.
            one = f"SELECT id FROM {SESSIONS} WHERE completed_at = {MONDAY} LIMIT 1"
            s.as_("service").allows(f"DELETE FROM {SESSIONS} WHERE id IN ({one})", rows=1)
            asker.allows(BEGIN.format(ADA), rows=1)
            asker.allows(f"UPDATE {SESSIONS} SET is_completed = true WHERE user_id = '{ADA}'")
            assert s.superuser.row(COUNTED, [ADA]) == (4, 3)
            the_law(s)


@promise(SCENES)
def scenes_of_other_weeks_and_of_other_people_are_nobodys_limit(s: Session) -> None:
    earlier = completed(f"{MONDAY} - interval '1 microsecond'")
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            asker = s.as_(persona)
            _none_is_open(s)
            for whose in (ADA, BOB):
                asker.allows(completed(MONDAY, whose, times=3), rows=3)
            asker.allows(earlier, rows=1)
            # Of a week with more scenes than allowed, too.
            s.superuser.allows(LIMIT.format("allowed = 1", "completed_scenarios"), rows=1)
            asker.allows(earlier, rows=1)
            s.superuser.allows(f"DELETE FROM {SESSIONS} WHERE user_id = '{ADA}' AND completed_at >= {MONDAY}")
            asker.allows(BEGIN.format(ADA), rows=1)
            asker.allows(f"UPDATE {SESSIONS} SET is_completed = true WHERE user_id = '{ADA}'")
            assert s.superuser.row(COUNTED, [ADA])[1] == 1
            the_law(s)


@promise(SCENES)
def a_scene_that_is_completed_already_is_nobodys_limit(s: Session) -> None:
    s.as_("service").allows(completed(MONDAY, times=3), rows=3)
    s.superuser.allows(LIMIT.format("allowed = 1", "completed_scenarios"), rows=1)
    again = f"UPDATE {SESSIONS} SET is_completed = true WHERE is_completed AND user_id = '{ADA}'"
    for persona in (*SERVICES, *OWNERS):
        s.as_(persona).allows(again, rows=4)


@promise(SCENES)
def a_week_that_is_over_holds_nobody_back(s: Session) -> None:
    for persona in EVERYBODY:
        with s.undone():
            _none_is_open(s)
            s.as_("service").allows(completed(f"{MONDAY} - {WEEK}", times=3), rows=3)
            # The job has not run yet.
            s.superuser.allows(
                "UPDATE conversation.profiles SET current_week_completion_count = 3,"
                f" week_reset_date = {MONDAY} WHERE id = '{ADA}'"
            )
            s.as_(persona).allows(BEGIN.format(ADA), rows=1)
            s.as_(persona).allows(f"UPDATE {SESSIONS} SET is_completed = true WHERE user_id = '{ADA}'")
            assert s.superuser.row(COUNTED, [ADA]) == (5, 1)


@promise(SCENES)
def whoever_has_an_open_session_meets_that_instead_of_the_limit(s: Session) -> None:
    for persona in EVERYBODY:
        with s.undone():
            s.as_("service").allows(completed(MONDAY, times=3), rows=3)
            open_already = {"sqlstate": "23505", "constraint": "idx_sessions_active_per_user"}
            s.as_(persona).refused(BEGIN.format(ADA), **open_already)


@promise(SCENES)
def a_limit_that_is_not_enforced_or_is_another_one_stops_no_scene(s: Session) -> None:
    more = BEGIN.format(ADA), f"UPDATE {SESSIONS} SET is_completed = true WHERE user_id = '{ADA}'"
    for persona in EVERYBODY:
        for change, allowed in (
            (LIMIT.format("enforced = false", "completed_scenarios"), True),
            (LIMIT.format("allowed = 4", "completed_scenarios"), True),
            (LIMIT.format("allowed = 1, per = '7 days'", "messages"), False),
        ):
            with s.undone():
                s.superuser.allows(change, rows=1)
                s.as_("service").allows(completed(MONDAY, times=2), rows=2)
                s.as_(persona).allows(COMPLETE, rows=1)
                if not allowed:
                    s.as_(persona).refused(more[0], **OVER)
                    continue
                for statement in more:
                    s.as_(persona).allows(statement)
                # What was completed then is no more than corrected now.
                s.superuser.allows(LIMIT.format("enforced = true, allowed = 3", "completed_scenarios"))
                later = "completed_at = completed_at + interval '1 minute'"
                s.as_("service").allows(f"UPDATE {SESSIONS} SET {later} WHERE user_id = '{ADA}'", rows=5)
                the_law(s)


@promise(f"{SESSIONS} conversation.scenarios begin_session clause")
def a_scene_that_is_not_on_offer_is_not_begun(s: Session) -> None:
    begin = f"INSERT INTO {SESSIONS} (user_id, scenario_id) SELECT '{EVE}', {{}} FROM conversation.scenarios"
    retired = s.superuser.value("SELECT id FROM conversation.scenarios WHERE NOT is_active")
    for persona in ("eve", *SERVICES, *OWNERS):
        for scene in (retired, 404):
            wrong = {"sqlstate": "PT404", "constraint": "scenario_not_found"}
            error = s.as_(persona).refused(f"{begin.format(scene)} LIMIT 1", **wrong)
            found = (error.diag.schema_name, error.diag.table_name, error.diag.column_name)
            assert found == ("conversation", "sessions", "scenario_id")
        with s.undone():
            s.as_(persona).allows(f"{begin.format(2)} LIMIT 1", rows=1)
            # Whoever is in the middle of it completes it.
            s.superuser.allows("UPDATE conversation.scenarios SET is_active = false WHERE id = 2", rows=1)
            s.as_(persona).allows(
                f"UPDATE {SESSIONS} SET is_completed = true WHERE user_id = '{EVE}'", rows=1
            )
            the_law(s)
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            ended = completed(MONDAY, EVE).replace("1, true", f"{retired}, true")
            s.as_(persona).allows(ended, rows=1)


def _messages(count: int, session: str, sent_at: str = "clock_timestamp()", role: str = "user") -> str:
    chat = "helper" if role == "helper_assistant" else "main"
    return (
        f"INSERT INTO {MESSAGES} (session_id, role, chat_type, content, sent_at)"
        f" SELECT '{session}', '{role}', '{chat}', 'x', {sent_at} FROM generate_series(1, {count})"
    )


def _one_more(session: str, role: str = "user") -> str:
    chat = "helper" if role == "helper_assistant" else "main"
    return (
        f"INSERT INTO {MESSAGES} (session_id, role, chat_type, content)"
        f" VALUES ('{session}', '{role}', '{chat}', 'one more')"
    )


def _lasting(s: Session) -> None:
    """Whatever time the attempts take, none of the messages is forgotten between them."""
    s.superuser.allows(LIMIT.format("per = '1 day'", "messages"), rows=1)


def _seconds(error: psycopg.Error) -> int:
    """How long the sender is told to wait."""
    detail = error.diag.message_detail or ""
    assert detail.isdecimal(), detail
    return int(detail)


@promise(SPEED)
def a_person_sends_thirty_messages_a_minute(s: Session) -> None:
    for persona in (*SERVICES, *OWNERS):
        with s.undone():
            asker = s.as_(persona)
            asker.allows(_messages(40, SCENE_OPEN, "clock_timestamp() - interval '2 minutes'"), rows=40)
            asker.allows(_messages(29, SCENE_OPEN), rows=29)
            asker.allows(_messages(1, SCENE_OPEN), rows=1)
            error = asker.refused(_messages(1, SCENE_OPEN), **TOO_FAST)
            assert 0 < _seconds(error) <= 60
            assert (error.diag.schema_name, error.diag.table_name) == ("conversation", "messages")
            # Neither what was said long ago nor what is not a person's.
            asker.allows(_messages(1, SCENE_OPEN, "clock_timestamp() - interval '61 seconds'"), rows=1)
            for role in ("main_assistant", "helper_assistant"):
                asker.allows(_messages(1, SCENE_OPEN, role=role), rows=1)
            asker.allows(_messages(1, SCENE_B_OPEN), rows=1)
            the_law(s)
    # All at once, too.
    for persona in SERVICES:
        s.as_(persona).refused(_messages(31, SCENE_OPEN), **TOO_FAST)
        with s.undone():
            s.as_(persona).allows(_messages(31, SCENE_OPEN, role="main_assistant"), rows=31)
            s.as_(persona).allows(_messages(30, SCENE_OPEN), rows=30)


@promise(SPEED)
def a_person_who_sends_too_fast_is_told_how_long_to_wait(s: Session) -> None:
    s.superuser.allows(f"DELETE FROM {SESSIONS} WHERE id = '{SCENE_OPEN}'")
    s.superuser.allows(
        f"INSERT INTO {SESSIONS} (id, user_id, scenario_id) VALUES ('{SCENE_OPEN}', '{ADA}', 1)"
    )
    for allowed, per in ((2, "2 days"), (1, "1 day")):
        with s.undone():
            s.as_("service").allows(LIMIT.format(f"allowed = {allowed}, per = '{per}'", "messages"), rows=1)
            s.as_("service").allows(_messages(5, SCENE_OPEN, f"clock_timestamp() - interval '{per}'"), rows=5)
            s.as_("service").allows(
                _messages(1, SCENE_OPEN, f"clock_timestamp() - interval '{per}' + interval '1 hour'"), rows=1
            )
            if allowed == 2:
                s.as_("ada").allows(_one_more(SCENE_OPEN), rows=1)
            # An hour from the one that is the first to be forgotten, and no second too short.
            rest = (
                f"SELECT ceil(extract(epoch FROM min(sent_at) + interval '{per}' - clock_timestamp()))"
                f" FROM {MESSAGES} WHERE sent_at > now() - interval '{per}' + interval '1 minute'"
            )
            for persona in EVERYBODY:
                before = s.superuser.value(rest)
                error = s.as_(persona).refused(_one_more(SCENE_OPEN), **TOO_FAST)
                assert 3000 < s.superuser.value(rest) <= _seconds(error) <= before <= 3600


@promise(SPEED)
def a_limit_lasts_as_long_where_clocks_were_put_forward_meanwhile(s: Session) -> None:
    # In this zone that was yesterday.
    day = (datetime.now(UTC) - timedelta(days=1)).timetuple().tm_yday
    zone = f"AAA0BBB,{day - 1}/0,{(day + 99) % 365}/0"
    s.superuser.allows(LIMIT.format("allowed = 1, per = '3 days'", "messages"), rows=1)
    s.superuser.allows(f"DELETE FROM {SESSIONS} WHERE id = '{SCENE_B_OPEN}'", rows=1)
    begun = f"INSERT INTO {SESSIONS} (id, user_id, scenario_id) VALUES ('{SCENE_B_OPEN}', '{BOB}', 1)"
    s.superuser.allows(begun, rows=1)
    sent = "clock_timestamp() - interval '71.5 hours'"
    s.as_("service", time_zone=zone).allows(_messages(1, SCENE_B_OPEN, sent), rows=1)
    for persona in ("bob", *SERVICES, "owner"):
        asker = s.as_(persona, time_zone=zone)
        moved = "extract(timezone FROM now()) - extract(timezone FROM now() - interval '3 days')"
        assert asker.value(f"SELECT {moved}") == 3600
        error = asker.refused(_one_more(SCENE_B_OPEN), **TOO_FAST)
        assert 1200 < _seconds(error) <= 1800


@promise(SPEED)
def nobodys_messages_but_a_persons_own_make_them_wait(s: Session) -> None:
    _lasting(s)
    s.as_("service").allows(_messages(30, SCENE_B_OPEN, "now()"), rows=30)
    s.as_("service").allows(_messages(40, SCENE_OPEN, "now()", role="main_assistant"), rows=40)
    s.as_("bob").refused(_one_more(SCENE_B_OPEN), **TOO_FAST)
    s.as_("bob").allows(_one_more(SCENE_B_OPEN, "helper_assistant"), rows=1)
    for persona in EVERYBODY:
        with s.undone():
            s.as_(persona).allows(_one_more(SCENE_OPEN), rows=1)


@promise(SPEED)
def messages_are_as_free_as_the_service_says(s: Session) -> None:
    _lasting(s)
    s.as_("service").allows(_messages(30, SCENE_OPEN, "now()"), rows=30)
    for persona in EVERYBODY:
        s.as_(persona).refused(_one_more(SCENE_OPEN), **TOO_FAST)
        for change in ("enforced = false", "allowed = 40"):
            with s.undone():
                s.as_("bound service").allows(LIMIT.format(change, "messages"), rows=1)
                for _ in range(5):
                    s.as_(persona).allows(_one_more(SCENE_OPEN), rows=1)
        with s.undone():
            s.as_("service").allows(LIMIT.format("allowed = 1", "completed_scenarios"), rows=1)
            s.as_("service").allows(LIMIT.format("allowed = 31", "messages"), rows=1)
            s.as_(persona).allows(_one_more(SCENE_OPEN), rows=1)
            s.as_(persona).refused(_one_more(SCENE_OPEN), **TOO_FAST)


@promise("check_erasure refuse_departed limit_completions refuse_truncate table_of SECURITY DEFINER")
def a_guard_asks_with_its_owners_rights(s: Session) -> None:
    """What its caller may read does not open or close it."""
    s.superuser.allows(f"GRANT TRUNCATE, UPDATE ON {MESSAGES} TO service_role")
    s.superuser.allows(f"REVOKE SELECT ON conversation.profiles, {LIMITS} FROM authenticated, service_role")
    broken = {"sqlstate": "23000"}
    for persona in SERVICES:
        s.as_(persona).refused(f"TRUNCATE {MESSAGES}", constraint="append_only", **broken)
        change = f"UPDATE {MESSAGES} SET content = '[erased]'"
        s.as_(persona).refused(change, constraint="messages_immutable", **broken)
    s.as_("superuser").allows(completed(MONDAY, times=3), rows=3)
    for persona in ("ada", *SERVICES):
        s.as_(persona).refused(COMPLETE, **OVER)
    s.superuser.allows("UPDATE conversation.profiles SET deleted_at = now()")
    said = f"INSERT INTO {MESSAGES} (session_id, role, chat_type, content)"
    for persona in SERVICES:
        s.as_(persona).refused(
            f"{said} VALUES ('{SCENE_OPEN}', 'main_assistant', 'main', 'Ja.')",
            constraint="profile_deleted",
            **broken,
        )
