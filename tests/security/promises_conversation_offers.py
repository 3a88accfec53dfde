"""What the chat offers everybody: its scenes, through a view for visitors, and its limits."""

from tests.security.objects import relations
from tests.security.personas import OTHERS, SERVICES, Session
from tests.security.promises_conversation_people import ARCHIVE, HISTORY
from tests.security.promises_conversation_rows import LIMITS, SCENARIOS
from tests.security.registry import promise

OFFERS = "conversation.public_scenarios"


@promise(f"{SCENARIOS} {OFFERS} anon SELECT policy view scenarios_select_active")
def a_visitor_sees_five_columns_of_the_scenes_on_offer(s: Session) -> None:
    found = {relation.name: relation.columns for relation in relations(s, "conversation")}
    assert found[OFFERS] == ["id", "title", "emoji", "sort_order", "is_active"]
    for persona in ("anon", "guest"):
        assert s.as_(persona).rows(f"SELECT id, is_active FROM {OFFERS} ORDER BY id") == [
            (scene, True) for scene in (1, 2, 3)
        ]
        for column in ("initial_message_main", "initial_message_helper", "code", "created_at", "*"):
            s.as_(persona).refused(f"SELECT {column} FROM {SCENARIOS}")
        s.as_(persona).sees_nothing(f"SELECT id FROM {SCENARIOS} WHERE NOT is_active")
        with s.undone():
            s.superuser.allows(f"UPDATE {SCENARIOS} SET is_active = NOT is_active")
            assert s.as_(persona).rows(f"SELECT title FROM {OFFERS}") == [("At the airport",)]


@promise(f"{SCENARIOS} {OFFERS} authenticated service_role SELECT policy view")
def a_retired_scene_is_the_services_to_see(s: Session) -> None:
    retired = f"SELECT code FROM {SCENARIOS} WHERE NOT is_active"
    for persona in ("ada", *OTHERS):
        s.as_(persona).sees_nothing(retired)
        assert s.as_(persona).rows(f"SELECT initial_message_main FROM {SCENARIOS}")
    for persona in SERVICES:
        assert s.as_(persona).rows(retired) == [("airport",)]
        s.as_(persona).sees_nothing(f"SELECT FROM {OFFERS} WHERE id NOT IN (1, 2, 3)")


@promise(f"{OFFERS} {HISTORY} view")
def no_view_shows_what_its_reader_could_not_read(s: Session) -> None:
    s.superuser.allows(f"REVOKE ALL ON {SCENARIOS} FROM anon; REVOKE ALL ON {ARCHIVE} FROM authenticated")
    s.as_("anon").refused(f"SELECT FROM {OFFERS}")
    s.as_("ada").refused(f"SELECT FROM {HISTORY}")


@promise(f"{LIMITS} authenticated SELECT policy rate_limits_select_enforced mistake conversation")
def a_limit_that_does_not_count_is_the_services_to_see(s: Session) -> None:
    s.superuser.allows(f"UPDATE {LIMITS} SET enforced = false WHERE code = 'messages'")
    for persona in ("ada", *OTHERS):
        assert s.as_(persona).rows(f"SELECT code FROM {LIMITS}") == [("completed_scenarios",)]
    for persona in SERVICES:
        assert len(s.as_(persona).rows(f"SELECT code FROM {LIMITS}")) == 2
