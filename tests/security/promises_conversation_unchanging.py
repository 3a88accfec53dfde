"""A session of the chat stays its person's, not even the owner gives it away."""

from tests.security.personas import OWNERS, SERVICES, Session
from tests.security.promises_conversation_counting import (
    COMPLETE,
    SESSIONS,
    the_law,
)
from tests.security.registry import promise
from tests.security.seed import ADA, BOB, EVE, SCENE_A, SCENE_OPEN

IMMUTABLE = {"sqlstate": "23000", "constraint": "immutable"}
OWNER = f"{SESSIONS} keep_session_owner immutable clause"


@promise(OWNER)
def a_session_stays_its_persons(s: Session) -> None:
    for persona in OWNERS:
        for scene in (SCENE_A, SCENE_OPEN):
            for whose in (BOB, EVE):
                change = f"UPDATE {SESSIONS} SET user_id = '{whose}' WHERE id = '{scene}'"
                error = s.as_(persona).refused(change, **IMMUTABLE)
                assert (error.diag.table_name, error.diag.column_name) == ("sessions", "user_id")
        s.as_(persona).allows(f"UPDATE {SESSIONS} SET user_id = user_id")
    for persona in ("ada", *SERVICES):
        s.as_(persona).refused(f"UPDATE {SESSIONS} SET user_id = '{ADA}'")


@promise(OWNER)
def a_person_whom_row_security_hides_is_not_taken_for_one_that_is_gone(s: Session) -> None:
    s.superuser.allows(f"GRANT UPDATE (user_id) ON {SESSIONS} TO authenticated, service_role")
    s.superuser.allows(f"CREATE POLICY mistake ON {SESSIONS} TO authenticated USING (true)")
    for persona in ("ada", "eve", "stranger", *SERVICES):
        s.as_(persona).refused(f"UPDATE {SESSIONS} SET user_id = '{EVE}' WHERE id = '{SCENE_A}'", **IMMUTABLE)


@promise(f"{SESSIONS} maintain_profile_counts update_profile_completion_counts clause")
def completions_are_counted_where_nothing_keeps_a_session_its_persons(s: Session) -> None:
    s.superuser.allows(f"DROP TRIGGER IF EXISTS keep_session_owner ON {SESSIONS}")
    s.superuser.allows(COMPLETE, rows=1)
    for change in (
        f"user_id = '{EVE}' WHERE id = '{SCENE_A}'",
        f"user_id = CASE user_id WHEN '{ADA}' THEN uuid '{BOB}' ELSE '{ADA}' END WHERE is_completed",
        f"user_id = '{ADA}', completed_at = now() WHERE user_id = '{BOB}' AND is_completed",
        f"user_id = '{EVE}' WHERE is_completed",
    ):
        s.as_("owner").allows(f"UPDATE {SESSIONS} SET {change}")
        the_law(s)
