"""Errors: every SQLSTATE and every rule has its type, its field and no row."""

import importlib
import pkgutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import CheckConstraint, Constraint, ForeignKeyConstraint, Table, text

import carnivore_db
from carnivore_db import Database, Identity, errors, identity
from carnivore_db.errors import (
    AlreadyExists,
    AppendOnly,
    Busy,
    CarnivoreError,
    DatabaseError,
    ExportTransition,
    Immutable,
    InvalidInput,
    PermissionRefused,
    ProfileNotFound,
    ProgressKept,
    SchemaMismatch,
    Unavailable,
)
from carnivore_db.schema.base import Base
from tests.support.databases import Shape, TestDatabase

for module in pkgutil.walk_packages(carnivore_db.__path__, "carnivore_db."):
    if module.name.endswith(".models"):
        importlib.import_module(module.name)

SECRET = "5ec2e7c0ffee@example.com"


@pytest.fixture(scope="module")
def database(plain_shape: Shape, plain_template: str) -> Iterator[TestDatabase]:
    with plain_shape.clone(plain_template) as made:
        yield made


@pytest.fixture(scope="module")
def owning(database: TestDatabase) -> Iterator[Database]:
    made = Database(database.migrator_url)
    yield made
    made.close()


def raised(db: Database, who: Identity, *statements: str) -> CarnivoreError:
    """What the last of the statements raises."""

    def run() -> None:
        with db.transaction(who) as tx:
            for statement in statements:
                tx.execute(text(statement))

    with pytest.raises(CarnivoreError) as caught:
        run()
    return caught.value


def constraints() -> Iterator[Any]:
    for table in Base.metadata.sorted_tables:
        for constraint in sorted(table.constraints, key=lambda one: str(one.name)):
            if isinstance(constraint, CheckConstraint | ForeignKeyConstraint):
                yield pytest.param(table, constraint, id=f"{table.fullname}.{constraint.name}")


@pytest.mark.parametrize(("table", "constraint"), constraints())
def test_every_constraint_names_a_field_or_has_a_type(table: Table, constraint: Constraint) -> None:
    check = isinstance(constraint, CheckConstraint)
    kind = psycopg.errors.CheckViolation if check else psycopg.errors.ForeignKeyViolation
    facts = SimpleNamespace(
        constraint_name=constraint.name,
        schema_name=table.schema or "public",
        table_name=table.name,
        column_name=None,
    )
    error = errors.translate(type("Refused", (kind,), {"diag": facts})())
    if isinstance(error, InvalidInput):
        assert error.field in table.columns
        assert error.rule == constraint.name
        if isinstance(constraint, ForeignKeyConstraint):
            assert error.field in constraint.columns
    else:
        assert isinstance(error, errors.NotFound)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("08000", Unavailable),
        ("08006", Unavailable),
        ("40001", Busy),
        ("40P01", Busy),
        ("55P03", Busy),
        ("57014", Busy),
        ("42501", PermissionRefused),
        ("42703", SchemaMismatch),
        ("42883", SchemaMismatch),
        ("42P01", SchemaMismatch),
        ("3F000", SchemaMismatch),
        ("53100", Unavailable),
        ("53300", Unavailable),
        ("57P01", Unavailable),
        ("57P03", Unavailable),
        ("22003", InvalidInput),
        ("22P02", InvalidInput),
        ("54001", InvalidInput),
        ("42601", DatabaseError),
        ("P0001", DatabaseError),
        ("XX000", DatabaseError),
    ],
)
def test_every_sqlstate_has_its_type(
    owning: Database, database: TestDatabase, code: str, expected: type
) -> None:
    statement = (
        f"DO $$ BEGIN RAISE EXCEPTION '{SECRET}' USING ERRCODE = '{code}', DETAIL = '{SECRET}'; END $$"
    )
    error = raised(owning, Identity(database.shape.migrator), statement)
    assert type(error) is expected
    if isinstance(error, DatabaseError):
        assert error.sqlstate == code
    assert SECRET not in f"{error} {error!r}"
    assert isinstance(error.__cause__, psycopg.Error)
    if not isinstance(error, Unavailable):
        assert SECRET not in f"{error.__cause__} {error.__cause__!r}"


def test_real_refusals_have_their_types(owning: Database, database: TestDatabase) -> None:
    owner = Identity(database.shape.migrator)
    for statement, expected in (
        ("SELECT * FROM public.nothing", SchemaMismatch),
        ("SELECT nothing FROM public.user_sessions", SchemaMismatch),
        ("SELECT public.nothing()", SchemaMismatch),
        ("SELECT * FROM nowhere.nothing", SchemaMismatch),
        ("SELECT 1 / 0", InvalidInput),
        ("SELECT 'x'::int", InvalidInput),
        ("SELECT '[5'::jsonb", InvalidInput),
        ("SELEKT", DatabaseError),
        ("SET LOCAL statement_timeout = '1ms'; SELECT pg_sleep(60)", Busy),
        ("SET LOCAL ROLE anon; SELECT * FROM public.user_sessions", PermissionRefused),
    ):
        assert type(raised(owning, owner, *statement.split("; "))) is expected, statement


def test_a_lock_that_another_holds_is_busy(owning: Database, database: TestDatabase) -> None:
    with database.connect() as other:
        other.execute("LOCK TABLE public.user_sessions")
        error = raised(
            owning,
            Identity(database.shape.migrator),
            "SET LOCAL lock_timeout = '1ms'",
            "SELECT * FROM public.user_sessions",
        )
    assert type(error) is Busy


def test_a_database_without_the_schema_says_so(plain_shape: Shape, plain_template: str) -> None:
    with plain_shape.clone(None) as empty:
        db = Database(empty.app_url)
        error = raised(db, identity.service(), "SELECT * FROM public.user_sessions")
        db.close()
    assert type(error) is SchemaMismatch
    assert "carnivore-db upgrade" in str(error)


ROW = (
    "INSERT INTO public.user_sessions (id, email, path_choice, macro_data, stripe_payment_id)"
    f" VALUES (7, '{SECRET}', 'keto', '{{}}', 'pi_1')"
)
REPORT = (
    "INSERT INTO public.generated_reports (id, session_id, access_token, report_html, questionnaire_data,"
    f" expires_at) VALUES (7, 7, '{'5ec2e7c0' * 8}', '{SECRET}', '{{}}', now() + interval '1 day')"
)


@pytest.mark.parametrize(
    ("table", "change", "columns"),
    [
        ("user_sessions", "id = 8", ("id",)),
        ("user_sessions", "created_at = 'epoch'", ("created_at",)),
        ("generated_reports", "email = 'eve@example.com'", ("email",)),
        (
            "generated_reports",
            "report_html = 'x', access_token = repeat('0', 64)",
            ("access_token", "report_html"),
        ),
    ],
)
def test_what_never_changes_is_named(
    owning: Database, database: TestDatabase, table: str, change: str, columns: tuple[str, ...]
) -> None:
    error = raised(
        owning, Identity(database.shape.migrator), ROW, REPORT, f"UPDATE public.{table} SET {change}"
    )
    assert isinstance(error, Immutable)
    assert (error.table, error.columns) == (table, columns)
    assert all(column in str(error) for column in columns)
    assert SECRET not in f"{error} {error.__cause__}"


ACCESS = "INSERT INTO public.report_access_log (report_id) VALUES (7)"
CHANGE = "UPDATE public.generated_reports SET expires_at = expires_at + interval '1 day'"


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("report_expiry_changes", "DELETE FROM public.report_expiry_changes"),
        ("report_expiry_changes", "UPDATE public.report_expiry_changes SET reason = 'x'"),
        ("report_expiry_changes", "TRUNCATE public.report_expiry_changes"),
        ("report_access_log", "TRUNCATE public.report_access_log"),
        ("report_access_log", "DELETE FROM public.report_access_log"),
        ("report_access_log", "UPDATE public.report_access_log SET id = 0"),
    ],
)
def test_a_trail_that_is_append_only_is_named(
    owning: Database, database: TestDatabase, table: str, statement: str
) -> None:
    error = raised(owning, Identity(database.shape.migrator), ROW, REPORT, ACCESS, CHANGE, statement)
    assert isinstance(error, AppendOnly)
    assert error.table == table


def test_a_value_that_exists_names_its_index(owning: Database, database: TestDatabase) -> None:
    again = ROW.replace("(7,", "(8,")
    error = raised(owning, Identity(database.shape.migrator), ROW, again)
    assert isinstance(error, AlreadyExists)
    assert error.rule == "idx_user_sessions_stripe_payment_id"
    assert SECRET not in f"{error} {error.__cause__}"


LEARNER = (
    f"INSERT INTO vocabulary.users (id, email, full_name) VALUES ('{UUID(int=7)}', '{SECRET}', '{SECRET}')"
)
EXPORT = (
    "INSERT INTO vocabulary.export_history (user_id, export_type, export_format, filters)"
    f" VALUES ('{UUID(int=7)}', 'csv', 'csv', '{{\"a\": \"{SECRET}\"}}')"
)


@pytest.mark.parametrize("new", ["pending", "completed", "failed", "expired"])
def test_a_state_that_an_export_cannot_go_to_is_named(
    owning: Database, database: TestDatabase, new: str
) -> None:
    change = f"UPDATE vocabulary.export_history SET status = '{new}'"
    error = raised(owning, Identity(database.shape.migrator), LEARNER, EXPORT, change)
    assert isinstance(error, ExportTransition)
    assert (error.old, error.new) == ("pending", new)
    assert str(error) == f"an export cannot go from pending to {new}"
    assert SECRET not in f"{error!r} {error.__cause__}"


def test_progress_that_is_deleted_alone_is_refused(owning: Database, database: TestDatabase) -> None:
    statement = "DELETE FROM vocabulary.user_progress"
    error = raised(owning, Identity(database.shape.migrator), LEARNER, statement)
    assert type(error) is ProgressKept


@pytest.mark.parametrize(
    ("table", "change", "columns"),
    [
        ("users", f"id = '{UUID(int=8)}'", ("id",)),
        ("users", "created_at = 'epoch'", ("created_at",)),
        ("user_progress", f"user_id = '{UUID(int=8)}'", ("user_id",)),
        ("export_history", "export_type = 'json', export_format = 'json'", ("export_type", "export_format")),
    ],
)
def test_what_never_changes_of_a_learner_is_named(
    owning: Database, database: TestDatabase, table: str, change: str, columns: tuple[str, ...]
) -> None:
    statement = f"UPDATE vocabulary.{table} SET {change}"
    error = raised(owning, Identity(database.shape.migrator), LEARNER, EXPORT, statement)
    assert isinstance(error, Immutable)
    assert (error.table, error.columns) == (table, columns)
    assert SECRET not in f"{error} {error.__cause__}"


# Somebody of the chat, with a session in which a message was said.
LOGIN = f"INSERT INTO auth.users (id, email) VALUES ('{UUID(int=7)}', '{SECRET}')"
START = "INSERT INTO conversation.sessions (id, user_id, scenario_id) VALUES"
START += f" ('{UUID(int=7)}', '{UUID(int=7)}', 1)"
SAY = "INSERT INTO conversation.messages (session_id, role, chat_type, content) VALUES"
SAY += f" ('{UUID(int=7)}', 'user', 'main', '{SECRET}')"
CHAT = (LOGIN, START, SAY)
COMPLETE = "UPDATE conversation.sessions SET is_completed = true"


@pytest.mark.parametrize(
    ("statements", "expected", "facts"),
    [
        (["UPDATE conversation.messages SET content = 'x'"], AppendOnly, {"table": "messages"}),
        (["DELETE FROM conversation.messages"], AppendOnly, {"table": "messages"}),
        ([COMPLETE, SAY], errors.SessionCompleted, {}),
        (["UPDATE conversation.profiles SET deleted_at = now()", SAY], errors.ProfileDeleted, {}),
        ([SAY.replace(str(UUID(int=7)), str(UUID(int=8)))], errors.SessionNotFound, {}),
        (["UPDATE conversation.sessions SET scenario_id = 99"], errors.ScenarioNotFound, {}),
        (
            ["INSERT INTO conversation.sessions SELECT gen_random_uuid(), gen_random_uuid(), 1"],
            ProfileNotFound,
            {},
        ),
        (["SELECT conversation.erase_profile(gen_random_uuid())"], ProfileNotFound, {}),
        (
            ["INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), ' ')"],
            InvalidInput,
            {"field": "email", "rule": "email_not_empty"},
        ),
        (
            ["UPDATE conversation.sessions SET user_id = gen_random_uuid()"],
            Immutable,
            {"table": "sessions", "columns": ("user_id",)},
        ),
        (
            ["UPDATE conversation.scenarios SET code = 'fair'"],
            Immutable,
            {"table": "scenarios", "columns": ("code",)},
        ),
    ],
)
def test_what_the_chat_refuses_has_its_type(
    owning: Database,
    database: TestDatabase,
    statements: list[str],
    expected: type,
    facts: dict[str, object],
) -> None:
    error = raised(owning, Identity(database.shape.migrator), *CHAT, *statements)
    assert type(error) is expected
    assert vars(error) == facts
    assert SECRET not in f"{error} {error!r} {error.__cause__}"


def test_a_limit_says_how_long_to_wait(owning: Database, database: TestDatabase) -> None:
    one_a_week = "UPDATE conversation.rate_limits SET allowed = 1, per = '7 days'"
    waiting = raised(owning, Identity(database.shape.migrator), one_a_week, *CHAT, SAY)
    assert isinstance(waiting, errors.RateLimited)
    assert timedelta(days=6) < waiting.retry_after <= timedelta(days=7)
    again = START.replace(f"('{UUID(int=7)}'", f"('{UUID(int=8)}'")
    full = raised(owning, Identity(database.shape.migrator), one_a_week, *CHAT, COMPLETE, again)
    assert isinstance(full, errors.WeeklyLimitReached)
    assert (full.resets_at.weekday(), full.resets_at.utcoffset()) == (0, timedelta(0))
    assert full.resets_at.isoformat() in str(full)


def test_a_job_that_there_is_not_has_its_type(owning: Database, database: TestDatabase) -> None:
    with pytest.raises(errors.JobNotFound), owning.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(
            text("CALL conversation.run_job('x')")
        )


@pytest.mark.parametrize("schema", ["conversation", "vocabulary"])
def test_two_areas_have_sessions_and_each_its_people(schema: str) -> None:
    facts = SimpleNamespace(
        constraint_name="sessions_user_id_fkey", schema_name=schema, table_name="sessions", column_name=None
    )
    error = errors.translate(type("Refused", (psycopg.errors.ForeignKeyViolation,), {"diag": facts})())
    assert type(error) is {"conversation": ProfileNotFound, "vocabulary": errors.UserNotFound}[schema]


@pytest.mark.parametrize(
    ("error", "facts", "says"),
    [
        (errors.SessionCompleted(), {}, "completed"),
        (errors.ProfileDeleted(), {}, "has left"),
        (errors.RateLimited(timedelta(seconds=7)), {"retry_after": timedelta(seconds=7)}, "wait 7 seconds"),
        (errors.ProfileNotFound(), {}, "No profile"),
        (errors.ScenarioNotFound(), {}, "No scene"),
        (errors.JobNotFound(), {}, "No job"),
        (errors.KeyMissing("k1"), {"key_id": "k1"}, "encryption key 'k1' is not among CARNIVORE_DB_"),
        (errors.DecryptionFailed(), {}, "not one that was made for this user and provider"),
        (errors.ApiKeyNotFound(), {}, "no key for this provider"),
        (errors.ApiKeyInactive(), {}, "disabled"),
        (errors.UserNotFound(), {}, "No learner"),
        (errors.ExportNotFound(), {}, "No export"),
        (errors.ExportLost(), {}, "Another worker"),
        (errors.ExportTransition("failed", "completed"), {"old": "failed", "new": "completed"}, "an export"),
        (errors.StorageError("PermissionError"), {"reason": "PermissionError"}, "PermissionError"),
        (errors.SessionEnded(None), {"ended_at": None}, "had ended before"),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, Exception) else "",
)
def test_an_error_has_its_facts_and_says_them(
    error: CarnivoreError, facts: dict[str, object], says: str
) -> None:
    assert vars(error) == facts
    assert says in str(error)


def test_the_end_of_a_session_is_told_in_utc() -> None:
    ended = datetime(2026, 5, 1, 14, 20, tzinfo=timezone(timedelta(hours=2)))
    error = errors.SessionEnded(ended)
    assert error.ended_at == ended
    assert error.ended_at.utcoffset() == timedelta(0)
    assert str(error) == "the session had ended before, at 2026-05-01T12:20:00+00:00"


def test_every_error_is_of_one_family_and_says_something() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    ours = [kind for kind in kinds if kind.__module__ == errors.__name__]
    assert len(ours) > 15
    for kind in ours:
        assert issubclass(kind, CarnivoreError)
        assert (kind.__doc__ or "").strip()


def test_the_end_of_access_is_in_the_message() -> None:
    error = errors.ReportExpired(datetime(2026, 2, 14, 12, tzinfo=UTC))
    assert str(error) == "The report's access ended at 2026-02-14T12:00:00+00:00"
