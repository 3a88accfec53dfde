"""What never changes in a row, not even for its owner, and the moment of its last change: nobody sets it."""

from functools import partial

from tests.security.personas import OWNERS, Session
from tests.security.registry import add
from tests.security.seed import ADA, MALLORY


def _rows_keep_what_is_immutable(s: Session, *, table: str, changes: dict[str, str]) -> None:
    for column, value in changes.items():
        for persona in OWNERS:
            change = f"UPDATE {table} SET {column} = {value}"
            error = s.as_(persona).refused(change, sqlstate="23000", constraint="immutable")
            assert error.diag.column_name == column
            s.as_(persona).allows(f"UPDATE {table} SET {column} = {column}")


EARLIER = "created_at - interval '1 second'"
NEW_ID = "gen_random_uuid()"
LEARNERS_OWN = {"id": NEW_ID, "user_id": f"'{MALLORY}'", "created_at": EARLIER}
IMMUTABLE = {
    "public.user_sessions": {"id": "id + 10000", "created_at": EARLIER},
    "public.cw_assessment_sessions": {"id": NEW_ID, "created_at": EARLIER},
    "public.calculator2_sessions": {
        "id": "id + 10000",
        "session_token": "reverse(session_token)",
        "created_at": EARLIER,
        "expires_at": "expires_at + interval '1 second'",
    },
    "public.stripe_events": {
        "id": "id || 'x'",
        "type": "'x'",
        "livemode": "NOT livemode",
        "payment_intent": "coalesce(payment_intent, '') || 'x'",
        "payload": "payload || '{\"forged\": 1}'",
        "received_at": "received_at - interval '1 second'",
    },
    "public.begun_checkouts": {
        "id": "id + 10000",
        "session_table": "'calculator2_sessions'",
        "session_key": "session_key || '1'",
        "amount": "amount + 1",
        "currency": "'eur'",
        "tier": "'doctor'",
        "begun_at": "begun_at - interval '1 second'",
    },
    "conversation.scenarios": {"code": "code || '_2'"},
    "vocabulary.users": {"id": NEW_ID, "created_at": EARLIER},
    "vocabulary.sessions": {"id": NEW_ID, "created_at": EARLIER},
    "vocabulary.user_api_keys": LEARNERS_OWN,
    "vocabulary.user_progress": LEARNERS_OWN,
    "vocabulary.export_history": {
        **LEARNERS_OWN,
        # What was asked for.
        "export_type": "CASE export_type WHEN 'csv' THEN 'pdf' ELSE 'csv' END",
        "export_format": "CASE export_format WHEN 'csv' THEN 'pdf' ELSE 'csv' END",
        "filters": 'filters || \'{"type": "all"}\'',
    },
}


def _a_change_moves(s: Session, *, table: str, column: str, changes: dict[str, str]) -> None:
    moved = f"SELECT bool_and({column} = now()) FROM {table} WHERE {{}}"
    for persona, change in changes.items():
        for forged in ("", f", {column} = now() + interval '1 day'", f", {column} = '2026-01-01'"):
            if forged and persona not in OWNERS:
                s.as_(persona).refused(f"UPDATE {table} SET {change}{forged}")
                continue
            with s.undone():
                assert s.superuser.value(moved.format("true")) is False
                s.as_(persona).allows(f"UPDATE {table} SET {change}{forged}")
                own = f"user_id = '{ADA}'" if persona == "ada" else "true"
                assert s.superuser.value(moved.format(own)) is True


for _table, _changes in IMMUTABLE.items():
    _name = _table.split(".")[1]
    add(
        f"rows of {_table} keep what is immutable",
        partial(_rows_keep_what_is_immutable, table=_table, changes=_changes),
        f"{_table} immutable refuse_change trg_{_name}_immutable trigger_{_name}_immutable {_name}_immutable"
        f" trigger_{_name}_request",
    )
for _table, _column, _changes in (
    ("public.user_sessions", "updated_at", {"service": "path_choice = 'custom'"}),
    ("public.cw_assessment_sessions", "updated_at", {"service": "first_name = 'Adah'"}),
    ("public.calculator2_sessions", "last_active_at", {"service": "report_token = NULL"}),
    ("vocabulary.users", "updated_at", {"service": "theme = 'dark'"}),
    ("vocabulary.user_api_keys", "updated_at", {"service": "is_active = false"}),
    ("vocabulary.user_progress", "updated_at", {"service": "new_words_count = 1"}),
    ("vocabulary.export_history", "updated_at", {"service": "file_url = file_url"}),
    ("conversation.profiles", "updated_at", {"service": "deleted_at = NULL", "owner": "email = email"}),
    ("conversation.sessions", "updated_at", {"ada": "is_completed = true", "owner": "scenario_id = 3"}),
    (
        "conversation.scenarios",
        "updated_at",
        {"bound service": "is_active = false", "owner": "sort_order = 9"},
    ),
):
    # Where the service changes it, so does the superuser.
    _changes.setdefault("superuser", next(reversed(_changes.values())))
    _check = partial(_a_change_moves, table=_table, column=_column, changes=_changes)
    _name = _table.split(".")[1]
    _about = f"{_table} {_column} update_{_name}_updated_at update_{_name}_last_active clause"
    add(f"a change moves {_column} of {_table}", _check, f"{_about} update_updated_at_column")
