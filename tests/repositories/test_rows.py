"""Rows that break a rule of the database itself, past all input types: our errors, and no row in them.

The rows are those of the promises, which try each constraint by plain SQL.
"""

from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb
from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Session

from carnivore_db import Identity, errors
from carnivore_db.errors import InvalidInput
from carnivore_db.schema.base import Base
from tests.security import promises_conversation_rows, promises_rows, promises_vocabulary_rows
from tests.security.rows import GOOD, Row, insertion
from tests.security.rules import CHECK, COUNTER_EXAMPLES
from tests.security.seed import ADA
from tests.support.callers import Caller
from tests.support.hostile import MARK, attempt

# They fill COUNTER_EXAMPLES.
PROMISED = (promises_conversation_rows, promises_rows, promises_vocabulary_rows)
NOBODY = 2**40  # an id that no row has
TOKEN = (MARK * 6)[:64]
EMAIL = f"{MARK}@example.com"
DOCUMENT = Jsonb({MARK: 1})
# A value in most columns that an error would show if it quoted the row.
MARKED: dict[str, Row] = {
    "public.user_sessions": {
        "email": EMAIL,
        "macro_data": DOCUMENT,
        "stripe_payment_id": f"pi_{MARK}",
    },
    "public.generated_reports": {
        "email": EMAIL,
        "access_token": TOKEN,
        "report_html": f"<p>{MARK}</p>",
        "questionnaire_data": DOCUMENT,
    },
    "public.report_access_log": {"ip_address": "2001:db8::5ec2:e7c0", "user_agent": MARK},
    "public.report_access_pending": {},
    "public.report_expiry_changes": {"changed_by": MARK, "reason": MARK},
    "public.pricing_tiers": {"code": f"x{MARK}"},
    "public.calculator2_sessions": {"session_token": (MARK * 3)[:32], "form_state": DOCUMENT},
    "public.cw_assessment_sessions": {
        "email": EMAIL,
        "first_name": MARK,
        "form_data": DOCUMENT,
        "payment_status": "pending",
        "stripe_session_id": f"cs_{MARK}",
    },
    "public.begun_checkouts": {"session_key": MARK, "currency": "usd"},
    "public.stripe_events": {"id": f"evt_{MARK}", "payload": DOCUMENT},
    "vocabulary.users": {"email": EMAIL, "username": MARK, "full_name": MARK},
    "vocabulary.sessions": {"session_data": DOCUMENT, "user_agent": MARK, "device_type": MARK},
    "vocabulary.user_api_keys": {},
    "vocabulary.user_progress": {},
    "vocabulary.export_history": {"filters": DOCUMENT, "data": DOCUMENT},
    "conversation.profiles": {"email": EMAIL},
    "conversation.scenarios": {"code": f"x{MARK}", "title": MARK, "initial_message_main": MARK},
    "conversation.sessions": {},
    "conversation.messages": {"content": MARK, "user_id": ADA},
    "conversation.messages_archive": {"content": MARK},
    "conversation.logs": {"metadata": DOCUMENT},
    "conversation.event_types": {"code": f"x{MARK}", "description": MARK},
}
AREAS = {"public", "vocabulary", "conversation"}
# No check stands there, but a key, a type or a parser.
OTHERWISE: list[tuple[str, dict[str, Any], type[Exception]]] = [
    ("public.generated_reports", {"session_id": NOBODY}, errors.SessionNotFound),
    ("public.report_access_log", {"report_id": NOBODY}, errors.ReportNotFound),
    ("public.calculator2_sessions", {"report_token": TOKEN}, errors.ReportNotFound),
    ("public.calculator2_sessions", {"pricing_tier": MARK}, InvalidInput),
    ("public.pricing_tiers", {"code": "bundle"}, errors.AlreadyExists),
    ("public.user_sessions", {"email": f"{MARK}@{'x' * 300}.com"}, InvalidInput),
    ("public.cw_assessment_sessions", {"first_name": MARK * 10}, InvalidInput),
    ("public.calculator2_sessions", {"amount_paid": 10**9}, InvalidInput),
    ("public.user_sessions", {"macro_data": f'{{"{MARK}": '}, InvalidInput),
    ("public.user_sessions", {"macro_data": f'{{"{MARK}": "\\u0000"}}'}, InvalidInput),
    ("public.user_sessions", {"macro_data": "[" * 100_000}, InvalidInput),
    ("public.user_sessions", {"stripe_payment_id": MARK + "\0"}, InvalidInput),
    ("public.user_sessions", {"stripe_payment_id": MARK + "\ud800"}, InvalidInput),
    ("public.report_access_log", {"ip_address": f"{MARK}"}, InvalidInput),
    ("public.generated_reports", {"expires_at": f"{MARK}"}, InvalidInput),
    ("public.generated_reports", {"session_id": 2**63}, InvalidInput),
    ("public.report_expiry_changes", {"nothing": MARK}, errors.SchemaMismatch),
    ("vocabulary.sessions", {"user_id": str(UUID(int=5))}, errors.UserNotFound),
    ("vocabulary.user_api_keys", {"user_id": str(UUID(int=5))}, errors.UserNotFound),
    ("vocabulary.user_progress", {"user_id": str(UUID(int=5))}, errors.UserNotFound),
    ("vocabulary.export_history", {"user_id": str(UUID(int=5))}, errors.UserNotFound),
    ("vocabulary.users", {"id": MARK}, InvalidInput),
    ("vocabulary.users", {"username": MARK * 10}, InvalidInput),
    ("vocabulary.users", {"full_name": MARK + "\0"}, InvalidInput),
    ("vocabulary.users", {"full_name": MARK + "\ud800"}, InvalidInput),
    ("vocabulary.sessions", {"session_type": MARK}, InvalidInput),
    ("vocabulary.sessions", {"session_data": f'{{"{MARK}": '}, InvalidInput),
    ("vocabulary.sessions", {"session_data": f'{{"{MARK}": "\\u0000"}}'}, InvalidInput),
    ("vocabulary.sessions", {"ip_address": MARK}, InvalidInput),
    ("vocabulary.sessions", {"started_at": MARK}, InvalidInput),
    ("vocabulary.sessions", {"qa_attempts": 2**31}, InvalidInput),
    ("vocabulary.sessions", {"engagement_score": 100}, InvalidInput),
    ("vocabulary.export_history", {"file_size_bytes": 2**63}, InvalidInput),
    ("vocabulary.user_progress", {"nothing": MARK}, errors.SchemaMismatch),
]


def table_of(name: str) -> Any:
    return Base.metadata.tables[name.removeprefix("public.")]


def put(tx: Session, table: str, row: Row) -> None:
    """Where a trigger would mend the row, or ask for its parent first, there is none."""
    if not table.startswith("public."):
        bare(tx)
    insert(tx, table, row)


def bare(tx: Session) -> None:
    tx.connection().exec_driver_sql("SET LOCAL session_replication_role = replica")


def insert(tx: Session, table: str, row: Row) -> None:
    statement, values = insertion(table, **{**MARKED[table], **row})
    tx.connection().exec_driver_sql(statement, tuple(values))


def test_the_rows_are_good_before_they_are_broken(owning_caller: Caller, owner_identity: Identity) -> None:
    def body(tx: Session) -> None:
        bare(tx)
        for table in MARKED:
            insert(tx, table, {})
        raise LookupError

    with pytest.raises(LookupError):
        owning_caller.run(owner_identity, body)


def test_every_check_has_its_breakers() -> None:
    checks = {
        (f"{table.schema or 'public'}.{table.name}", str(constraint.name))
        for table in Base.metadata.sorted_tables
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint) and (table.schema or "public") in AREAS
    }
    checks -= {(table, rule) for table, rule in checks if table == "conversation.rate_limits"}  # three rows
    unbreakable = {
        ("public.cw_assessment_sessions", "completed_at_with_completed"),  # a trigger sets completed_at
        ("vocabulary.export_history", "export_type_valid"),  # the pair of type and format is looked at first
    }
    broken = {(table, rule) for table, rule, sqlstate in COUNTER_EXAMPLES if sqlstate == CHECK}
    assert checks - unbreakable == {(table, rule) for table, rule in broken if table in MARKED}
    assert {table for table, _ in checks} <= set(MARKED)


@pytest.mark.document(1, 2, 8, 12, 15, 16, 25)
@pytest.mark.parametrize("table", MARKED)
def test_a_broken_check_is_named_and_no_row_is_quoted(
    owning_caller: Caller, owner_identity: Identity, table: str
) -> None:
    for (broken, rule, sqlstate), changes in COUNTER_EXAMPLES.items():
        for change in changes if (broken, sqlstate) == (table, CHECK) else ():
            error = attempt(lambda change=change: owning_caller.call(owner_identity, put, table, change))
            assert isinstance(error, InvalidInput), (rule, change)
            assert error.rule == rule, change


@pytest.mark.parametrize("table", MARKED)
def test_a_missing_value_is_named_and_no_row_is_quoted(
    owning_caller: Caller, owner_identity: Identity, table: str
) -> None:
    required = [column.name for column in table_of(table).columns if not column.nullable]
    assert required
    for column in set(required) & {*GOOD[table], *MARKED[table]}:

        def body(tx: Session, column: str = column) -> None:
            bare(tx)
            insert(tx, table, {column: None})

        error = attempt(lambda body=body: owning_caller.run(owner_identity, body))
        assert isinstance(error, InvalidInput)
        assert (error.field, error.rule) == (column, "required")


@pytest.mark.parametrize(("table", "change", "expected"), OTHERWISE)
def test_what_the_database_refuses_in_other_ways(
    owning_caller: Caller, owner_identity: Identity, table: str, change: Row, expected: type[Exception]
) -> None:
    assert type(attempt(lambda: owning_caller.call(owner_identity, insert, table, change))) is expected


@pytest.mark.parametrize("table", MARKED)
def test_a_value_that_is_there_already_is_not_quoted(
    owning_caller: Caller, owner_identity: Identity, table: str
) -> None:
    kinds: dict[type, object] = {UUID: UUID(int=77), int: 77}
    keys = {
        column.name: kinds[column.type.python_type]
        for column in table_of(table).primary_key
        if column.name not in MARKED[table] and column.type.python_type in kinds
    }

    def body(tx: Session) -> None:
        bare(tx)
        for _ in range(2):
            insert(tx, table, keys)

    error = attempt(lambda: owning_caller.run(owner_identity, body), str(UUID(int=77)))
    assert isinstance(error, errors.AlreadyExists)


@pytest.mark.parametrize("ended", ["2026-05-01 11:00:00+00", "infinity", "-infinity", "2099-01-01 00:00+00"])
def test_no_trigger_stands_before_a_check(
    owning_caller: Caller, owner_identity: Identity, ended: str
) -> None:
    """The duration is derived of these moments before the checks look at them."""
    row = {"id": uuid4(), "user_id": None, "ended_at": ended, "duration_minutes": None}
    error = attempt(lambda: owning_caller.call(owner_identity, insert, "vocabulary.sessions", row))
    if ended.startswith("2099"):
        assert error is None
    else:
        assert isinstance(error, InvalidInput)
        assert error.rule == "ended_at_in_range"
