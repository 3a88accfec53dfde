"""What of the chat never changes, not even for the owner, and the moment of a row's last change."""

from functools import partial

from tests.security.personas import OWNERS, SERVICES, Session
from tests.security.promises_conversation_counting import (
    COMPLETE,
    PROFILES,
    SCENARIOS,
    SESSIONS,
    the_law,
)
from tests.security.registry import add, promise
from tests.security.seed import ADA, BOB, EVE, SCENE_A, SCENE_OPEN

IMMUTABLE = {"sqlstate": "23000", "constraint": "immutable"}
OWNER = f"{SESSIONS} keep_session_owner immutable clause"


@promise(f"{SCENARIOS} scenarios_immutable refuse_change immutable")
def the_code_of_a_scene_never_changes(s: Session) -> None:
    for persona in OWNERS:
        for code in ("'market'", "upper(code)", "code || '_2'"):
            change = f"UPDATE {SCENARIOS} SET code = {code} WHERE id = 1"
            error = s.as_(persona).refused(change, **IMMUTABLE)
            assert (error.diag.table_name, error.diag.column_name) == ("scenarios", "code")
        s.as_(persona).allows(f"UPDATE {SCENARIOS} SET code = code, title = title || '.'")
    for persona in SERVICES:
        s.as_(persona).refused(f"UPDATE {SCENARIOS} SET code = 'market' WHERE id = 1")
        s.as_(persona).allows(f"UPDATE {SCENARIOS} SET title = title || '!'")


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


def _a_change_moves(s: Session, *, table: str, changes: dict[str, str]) -> None:
    moved = f"SELECT bool_and(updated_at = now()) FROM {table} WHERE {{}}"
    for persona, change in changes.items():
        for forged in ("", ", updated_at = now() + interval '1 day'", ", updated_at = '2026-01-01'"):
            if forged and persona not in OWNERS:
                s.as_(persona).refused(f"UPDATE {table} SET {change}{forged}")
                continue
            with s.undone():
                assert s.superuser.value(moved.format("true")) is False
                s.as_(persona).allows(f"UPDATE {table} SET {change}{forged}")
                assert (
                    s.superuser.value(moved.format(f"user_id = '{ADA}'" if persona == "ada" else "true"))
                    is True
                )


for _table, _changes in {
    PROFILES: {"service": "deleted_at = NULL", "owner": "email = email", "superuser": "email = email"},
    SESSIONS: {
        "service": "last_activity_at = now()",
        "ada": "is_completed = true",
        "owner": "scenario_id = 3",
    },
    SCENARIOS: {"bound service": "is_active = false", "owner": "sort_order = 9"},
}.items():
    add(
        f"a change moves updated_at of {_table}",
        partial(_a_change_moves, table=_table, changes=_changes),
        f"{_table} updated_at update_updated_at_column update_{_table.split('.')[1]}_updated_at clause",
    )
