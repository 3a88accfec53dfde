"""Errors: every SQLSTATE and every rule has its type, its field and no row."""

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import chain
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import CheckConstraint, Constraint, ForeignKeyConstraint, Table, text

from carnivore_db import Database, Identity, errors, identity
from carnivore_db.connection.translation import Translation
from carnivore_db.errors import (
    RAISED_BY,
    AlreadyExists,
    AppendOnly,
    Busy,
    CarnivoreError,
    DatabaseError,
    Immutable,
    InvalidInput,
    NotFound,
    PermissionRefused,
    ProfileNotFound,
    SchemaMismatch,
    Unavailable,
)
from carnivore_db.schema import models
from tests.support.databases import Shape, TestDatabase

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


def raised(db: Database, *statements: str, who: Identity | None = None) -> CarnivoreError:
    """What the last of the statements raises; it and its cause tell nothing of what is stored."""

    def run() -> None:
        with db.transaction(who or Identity(str(db.engine.url.username))) as tx:
            for statement in statements:
                tx.execute(text(statement))

    with pytest.raises(CarnivoreError) as caught:
        run()
    assert SECRET not in f"{caught.value} {caught.value!r}"
    assert isinstance(caught.value.__cause__, psycopg.Error)
    if not isinstance(caught.value, Unavailable):
        assert SECRET not in f"{caught.value.__cause__} {caught.value.__cause__!r}"
    return caught.value


TRANSLATION = Translation(models.constraint_facts)


def refused(kind: type[psycopg.Error], rule: str, schema: str | None = None) -> CarnivoreError:
    """What the package makes of the driver's error about a rule."""
    unsaid = dict.fromkeys(("table_name", "column_name", "message_detail"))
    diag = SimpleNamespace(constraint_name=rule, schema_name=schema, **unsaid)
    return TRANSLATION.translate(type("Refused", (kind,), {"diag": diag})())


def broken(table: Table, constraint: Constraint, schema: str | None = None) -> CarnivoreError:
    """What the package makes of a row that a constraint refuses."""
    check = isinstance(constraint, CheckConstraint)
    kind = psycopg.errors.CheckViolation if check else psycopg.errors.ForeignKeyViolation
    return refused(kind, str(constraint.name), schema or table.schema or "public")


CONSTRAINTS = [
    (table, constraint)
    for table in models.tables()
    for constraint in sorted(table.constraints, key=lambda one: str(one.name))
    if isinstance(constraint, CheckConstraint | ForeignKeyConstraint)
]
EACH = pytest.mark.parametrize(
    ("table", "constraint"),
    [pytest.param(*found, id=f"{found[0].fullname}.{found[1].name}") for found in CONSTRAINTS],
)


@EACH
def test_every_constraint_names_a_field_or_has_a_type(table: Table, constraint: Constraint) -> None:
    error = broken(table, constraint)
    if isinstance(error, InvalidInput):
        assert error.field in table.columns
        assert error.rule == constraint.name
        if isinstance(constraint, ForeignKeyConstraint):
            assert error.field in constraint.columns
        if isinstance(constraint, CheckConstraint):
            assert re.search(rf"\b{error.field}\b", str(constraint.sqltext))
    else:
        assert isinstance(constraint, ForeignKeyConstraint)
        assert isinstance(error, NotFound)


@EACH
def test_a_constraint_says_nothing_that_nobody_reads(table: Table, constraint: Constraint) -> None:
    facts = models.constraint_facts().get((table.schema or "public", str(constraint.name)), {})
    assert len(facts) <= 1
    assert set(facts) <= {"field", "raises"}


def test_what_is_missing_has_one_type_whatever_refers_to_it() -> None:
    types = defaultdict(set)
    for table, constraint in CONSTRAINTS:
        if isinstance(constraint, ForeignKeyConstraint):
            types[constraint.referred_table.fullname].add(type(broken(table, constraint)))
    assert {target: found for target, found in types.items() if len(found) > 1} == {}
    assert len({kind for found in types.values() for kind in found} - {InvalidInput}) > 3


def test_a_month_on_its_way_back_has_the_constraints_of_its_table() -> None:
    """The archive loads it in another schema."""
    parts = [found for found in CONSTRAINTS if found[0].dialect_options["postgresql"]["partition_by"]]
    assert len({table for table, _ in parts}) == 2
    for table, constraint in parts:
        there, aside = broken(table, constraint), broken(table, constraint, "carnivore")
        assert (type(aside), vars(aside)) == (type(there), vars(there))


# What functions raise with a name of theirs: the function's arguments, and what stands behind USING.
RULES = """
    SELECT coalesce(p.proargnames, '{}'), using_[1]
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace,
        regexp_matches(p.prosrc, 'USING ([^;]*CONSTRAINT = ''[^;]*);', 'g') AS using_
    WHERE n.nspname IN ('public', 'vocabulary', 'conversation', 'analytics', 'carnivore')
"""
# PostgREST's statuses, and the types that say the same.
STATUSES: dict[str, tuple[type[CarnivoreError], ...]] = {
    "PT404": (NotFound,),
    "no_data_found": (NotFound,),
    "PT410": (errors.Expired,),
    "PT429": (errors.RateLimited, errors.WeeklyLimitReached),
}


# A downgrade's, shown with what it says; and a job's, noted in carnivore.jobs.
NOTED = {"needs_decision", "month_overlaps"}


@pytest.fixture(scope="module")
def rules(database: TestDatabase) -> list[tuple[str, str, list[str]]]:
    """The rules that functions raise: each with its SQLSTATE's name and what it can be about, the column that
    is said with it, or else the function's arguments."""
    with database.connect() as connection:
        found = connection.execute(RULES).fetchall()
    said = []
    for arguments, using in found:
        facts = dict(re.findall(r"(\w+) = '(\w+)'", using))
        about = [facts["COLUMN"]] if "COLUMN" in facts else arguments
        said.append((facts["CONSTRAINT"], facts.get("ERRCODE", "raise_exception"), about))
    return said


def test_every_rule_of_a_function_has_a_type_or_a_field(rules: list[tuple[str, str, list[str]]]) -> None:
    named = {str(constraint.name) for table in models.tables() for constraint in table.constraints}
    of_a_status = tuple(chain(*STATUSES.values()))
    for rule, code, about in rules:
        if rule in RAISED_BY:
            assert rule not in named
            assert issubclass(RAISED_BY[rule], STATUSES.get(code, CarnivoreError)), rule
            assert code in STATUSES or not issubclass(RAISED_BY[rule], of_a_status), rule
            continue
        kind = getattr(psycopg.errors, code.title().replace("_", ""))
        error = refused(kind, rule)
        if not issubclass(kind, psycopg.IntegrityError):
            assert type(error) is DatabaseError, rule  # a defect, or a job's: nobody gave a wrong value
        elif rule not in {*named, *NOTED}:
            assert isinstance(error, InvalidInput), rule
            assert error.field in about, rule


def test_every_rule_of_a_type_is_one_that_a_function_raises(rules: list[tuple[str, str, list[str]]]) -> None:
    assert len(RAISED_BY) > 15
    assert set(RAISED_BY) <= {rule for rule, _, _ in rules}


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
def test_every_sqlstate_has_its_type(owning: Database, code: str, expected: type) -> None:
    told = f"ERRCODE = '{code}', DETAIL = '{SECRET}'"
    error = raised(owning, f"DO $$ BEGIN RAISE EXCEPTION '{SECRET}' USING {told}; END $$")
    assert type(error) is expected
    if isinstance(error, DatabaseError):
        assert error.sqlstate == code


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
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
    ],
)
def test_real_refusals_have_their_types(owning: Database, statements: str, expected: type) -> None:
    assert type(raised(owning, *statements.split("; "))) is expected


def test_a_lock_that_another_holds_is_busy(owning: Database, database: TestDatabase) -> None:
    table = "public.user_sessions"
    with database.connect() as other:
        other.execute(f"LOCK TABLE {table}")
        assert type(raised(owning, "SET LOCAL lock_timeout = '1ms'", f"SELECT * FROM {table}")) is Busy


def test_a_database_without_the_schema_says_so(plain_shape: Shape, plain_template: str) -> None:
    with plain_shape.clone(None) as empty:
        db = Database(empty.app_url)
        error = raised(db, "SELECT * FROM public.user_sessions", who=identity.service())
        db.close()
    assert type(error) is SchemaMismatch
    assert "carnivore-db upgrade" in str(error)


SEVEN, EIGHT = UUID(int=7), UUID(int=8)
ROW = (
    "INSERT INTO public.user_sessions (id, email, path_choice, macro_data, stripe_payment_id)"
    f" VALUES (7, '{SECRET}', 'keto', '{{}}', 'pi_1')"
)
REPORT = (
    "INSERT INTO public.generated_reports (id, session_id, access_token, report_html, questionnaire_data,"
    f" expires_at) VALUES (7, 7, '{'5ec2e7c0' * 8}', '{SECRET}', '{{}}', now() + interval '1 day')"
)
ACCESS = "INSERT INTO public.report_access_log (report_id) VALUES (7)"
CHANGE = "UPDATE public.generated_reports SET expires_at = expires_at + interval '1 day'"
WEEKLY = (ROW, REPORT, ACCESS, CHANGE)
LEARNING = (
    f"INSERT INTO vocabulary.users (id, email, full_name) VALUES ('{SEVEN}', '{SECRET}', '{SECRET}')",
    (
        "INSERT INTO vocabulary.export_history (user_id, export_type, export_format, filters)"
        f" VALUES ('{SEVEN}', 'csv', 'csv', '{{\"a\": \"{SECRET}\"}}')"
    ),
)
# Somebody of the chat, with a session in which a message was said.
START = f"INSERT INTO conversation.sessions (id, user_id, scenario_id) VALUES ('{SEVEN}', '{SEVEN}', 1)"
SAY = (
    "INSERT INTO conversation.messages (session_id, role, chat_type, content)"
    f" VALUES ('{SEVEN}', 'user', 'main', '{SECRET}')"
)
CHAT = (f"INSERT INTO auth.users (id, email) VALUES ('{SEVEN}', '{SECRET}')", START, SAY)
COMPLETE = "UPDATE conversation.sessions SET is_completed = true"
REQUIRED = "SET LOCAL carnivore.profile_required = 'on'"
NEW_LOGIN = "INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), ' ')"
NOBODYS = "INSERT INTO conversation.sessions SELECT gen_random_uuid(), gen_random_uuid(), 1"
TOKEN = "report_html = 'x', access_token = repeat('0', 64)"
FORMAT = "export_type = 'json', export_format = 'json'"


def kept(schema: str, table: str, change: str, *columns: str) -> tuple[list[str], type, dict[str, Any]]:
    """A change of what never changes."""
    update = f"UPDATE {schema}.{table} SET {change}"
    return [update], Immutable, {"table": table, "columns": columns}


def trail(schema: str, table: str, statement: str) -> tuple[list[str], type, dict[str, Any]]:
    """A change of what is only added to."""
    return [statement.format(f"{schema}.{table}")], AppendOnly, {"table": table}


@pytest.mark.parametrize(
    ("statements", "expected", "facts"),
    [
        kept("public", "user_sessions", "id = 8", "id"),
        kept("public", "user_sessions", "created_at = 'epoch'", "created_at"),
        kept("public", "generated_reports", "email = 'eve@example.com'", "email"),
        kept("public", "generated_reports", TOKEN, "access_token", "report_html"),
        kept("vocabulary", "users", f"id = '{EIGHT}'", "id"),
        kept("vocabulary", "users", "created_at = 'epoch'", "created_at"),
        kept("vocabulary", "user_progress", f"user_id = '{EIGHT}'", "user_id"),
        kept("vocabulary", "export_history", FORMAT, "export_type", "export_format"),
        kept("conversation", "sessions", "user_id = gen_random_uuid()", "user_id"),
        kept("conversation", "scenarios", "code = 'fair'", "code"),
        *(
            trail("public", table, statement)
            for table in ("report_expiry_changes", "report_access_log")
            for statement in ("DELETE FROM {}", "UPDATE {} SET id = 0", "TRUNCATE {}")
        ),
        trail("conversation", "messages", "UPDATE {} SET content = 'x'"),
        trail("conversation", "messages", "DELETE FROM {}"),
        ([ROW.replace("(7,", "(8,")], AlreadyExists, {"rule": "idx_user_sessions_stripe_payment_id"}),
        *(
            (
                [f"UPDATE vocabulary.export_history SET status = '{new}'"],
                errors.ExportTransition,
                {"old": "pending", "new": new},
            )
            for new in ("pending", "completed", "failed", "expired")
        ),
        (["DELETE FROM vocabulary.user_progress"], errors.ProgressKept, {}),
        ([COMPLETE, SAY], errors.SessionCompleted, {}),
        (["UPDATE conversation.profiles SET deleted_at = now()", SAY], errors.ProfileDeleted, {}),
        ([SAY.replace(str(SEVEN), str(EIGHT))], errors.SessionNotFound, {}),
        (["UPDATE conversation.sessions SET scenario_id = 99"], errors.ScenarioNotFound, {}),
        ([NOBODYS], ProfileNotFound, {}),
        (["SELECT conversation.erase_profile(gen_random_uuid())"], ProfileNotFound, {}),
        ([REQUIRED, NEW_LOGIN], InvalidInput, {"field": "email", "rule": "email_not_empty"}),
    ],
)
def test_what_the_areas_refuse_has_its_type_and_says_what_it_is_about(
    owning: Database, statements: list[str], expected: type, facts: dict[str, Any]
) -> None:
    error = raised(owning, *WEEKLY, *LEARNING, *CHAT, *statements)
    assert type(error) is expected
    assert vars(error) == facts
    said = facts.get("columns", ())
    assert all(column in str(error) for column in said)


def test_a_limit_says_how_long_to_wait(owning: Database) -> None:
    one_a_week = "UPDATE conversation.rate_limits SET allowed = 1, per = '7 days'"
    waiting = raised(owning, one_a_week, *CHAT, SAY)
    assert isinstance(waiting, errors.RateLimited)
    assert timedelta(days=6) < waiting.retry_after <= timedelta(days=7)
    again = START.replace(f"('{SEVEN}'", f"('{EIGHT}'")
    full = raised(owning, one_a_week, *CHAT, COMPLETE, again)
    assert isinstance(full, errors.WeeklyLimitReached)
    assert (full.resets_at.weekday(), full.resets_at.utcoffset()) == (0, timedelta(0))
    assert full.resets_at.isoformat() in str(full)


@pytest.mark.parametrize("procedure", ["conversation.run_job", "carnivore.run_job"])
def test_a_job_that_there_is_not_has_its_type(owning: Database, procedure: str) -> None:
    with pytest.raises(errors.JobNotFound), owning.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text(f"CALL {procedure}('x')"))


@pytest.mark.parametrize("schema", ["conversation", "vocabulary"])
def test_two_areas_have_sessions_and_each_its_people(schema: str) -> None:
    error = refused(psycopg.errors.ForeignKeyViolation, "sessions_user_id_fkey", schema)
    assert type(error) is {"conversation": ProfileNotFound, "vocabulary": errors.UserNotFound}[schema]


FIRST, LATER = errors.Busy(), errors.Busy()


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
        (errors.SignatureInvalid(), {}, "not signed by Stripe"),
        (errors.PaidTwice(), {}, "already paid by another payment"),
        (errors.ArchiveFirst("5 old logs wait"), {}, "5 old logs wait"),
        (
            errors.StepFailed({"made": 1}, {"x": FIRST, "y": LATER}),
            {"did": {"made": 1}, "first": FIRST},
            "y: A",
        ),
        (errors.NotReadable("42501 nothing"), {"reason": "42501 nothing"}, "42501 nothing"),
        (errors.ConfigurationError(), {}, "A setting is missing or wrong"),
        (
            errors.MissingExtra("exports", "fpdf"),
            {"extra": "exports"},
            "pip install 'carnivore-db[exports]' is needed: fpdf is missing",
        ),
        (errors.LocalServerError(), {}, "private server"),
        (errors.PostgreSQLNotFound(), {}, "No PostgreSQL server"),
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
