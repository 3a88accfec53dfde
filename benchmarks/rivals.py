"""The designs that a team would otherwise use, on tables of their own in the schema `rivals_*` of a world.

`rivals_document` is document 012 with its faults mended, and no more: its BIGSERIAL keys, its indexes beside
UNIQUE columns, its row trigger. `rivals_bare` is our log without any counting. `rivals_statement` counts by a
statement's trigger as it is usually written. All constraints that the documents name are there.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import psycopg
from sqlalchemy import BigInteger, ForeignKey, Identity, String, func
from sqlalchemy.dialects.postgresql import INET, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

TWINS = ("user_sessions", "generated_reports", "report_access_log")
SHARED = {
    "user_sessions": "id, email, path_choice, macro_data, payment_status, stripe_payment_id, created_at,"
    " updated_at",
    "generated_reports": "id, session_id, email, access_token, report_html, questionnaire_data, created_at,"
    " expires_at, access_count, last_accessed_at",
    "report_access_log": "id, report_id, accessed_at, ip_address, user_agent",
}
DOCUMENT = r"""
CREATE SCHEMA rivals_document;
CREATE TABLE rivals_document.user_sessions (
    id BIGSERIAL PRIMARY KEY,
    email VARCHAR(255) NOT NULL CHECK (email ~* '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Z|a-z]{2,}$'),
    path_choice VARCHAR(50) NOT NULL CHECK (path_choice IN ('carnivore', 'keto', 'paleo', 'custom')),
    macro_data JSONB NOT NULL,
    payment_status VARCHAR(50) NOT NULL DEFAULT 'pending'
        CHECK (payment_status IN ('pending', 'completed', 'failed', 'refunded')),
    stripe_payment_id VARCHAR(100) UNIQUE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CHECK (payment_status <> 'completed' OR stripe_payment_id IS NOT NULL)
);
CREATE INDEX idx_user_sessions_email ON rivals_document.user_sessions (email);
CREATE INDEX idx_user_sessions_stripe_payment_id ON rivals_document.user_sessions (stripe_payment_id);
CREATE TABLE rivals_document.generated_reports (
    id BIGSERIAL PRIMARY KEY,
    session_id BIGINT NOT NULL REFERENCES rivals_document.user_sessions (id) ON DELETE CASCADE,
    email VARCHAR(255) NOT NULL,
    access_token VARCHAR(64) NOT NULL UNIQUE CHECK (char_length(access_token) = 64),
    report_html TEXT NOT NULL CHECK (report_html <> ''),
    questionnaire_data JSONB NOT NULL CHECK (questionnaire_data <> '{}'::jsonb),
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    access_count BIGINT NOT NULL DEFAULT 0 CHECK (access_count >= 0),
    last_accessed_at TIMESTAMP WITH TIME ZONE,
    CHECK (expires_at > created_at),
    CHECK (last_accessed_at >= created_at)
);
CREATE UNIQUE INDEX idx_generated_reports_access_token ON rivals_document.generated_reports (access_token);
CREATE INDEX idx_generated_reports_email_expires
    ON rivals_document.generated_reports (email, expires_at DESC);
CREATE INDEX idx_generated_reports_expires_at ON rivals_document.generated_reports (expires_at);
CREATE INDEX idx_generated_reports_session_id ON rivals_document.generated_reports (session_id);
CREATE TABLE rivals_document.report_access_log (
    id BIGSERIAL,
    report_id BIGINT NOT NULL REFERENCES rivals_document.generated_reports (id) ON DELETE CASCADE,
    accessed_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    ip_address INET,
    user_agent TEXT CHECK (user_agent <> ''),
    PRIMARY KEY (id, accessed_at)
) PARTITION BY RANGE (accessed_at);
CREATE INDEX idx_report_access_log_report_id_accessed
    ON rivals_document.report_access_log (report_id, accessed_at DESC);
CREATE FUNCTION rivals_document.increment_report_access() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE rivals_document.generated_reports
    SET access_count = access_count + 1, last_accessed_at = NEW.accessed_at
    WHERE id = NEW.report_id;
    RETURN NEW;
END
$$;
CREATE TRIGGER trg_increment_report_access AFTER INSERT ON rivals_document.report_access_log
    FOR EACH ROW EXECUTE FUNCTION rivals_document.increment_report_access();
"""
# The floor: rows that are kept and not counted.
BARE = """
CREATE SCHEMA rivals_bare;
CREATE TABLE rivals_bare.report_access_log (
    LIKE public.report_access_log INCLUDING ALL,
    FOREIGN KEY (report_id) REFERENCES public.generated_reports (id) ON DELETE CASCADE
) PARTITION BY RANGE (accessed_at);
CREATE TABLE rivals_bare.copied (report_id bigint, accessed_at timestamptz, ip_address inet, user_agent text);
"""
STATEMENT = """
CREATE SCHEMA rivals_statement;
CREATE TABLE rivals_statement.generated_reports (LIKE public.generated_reports INCLUDING ALL);
CREATE TABLE rivals_statement.report_access_log (
    LIKE public.report_access_log INCLUDING ALL,
    FOREIGN KEY (report_id) REFERENCES rivals_statement.generated_reports (id) ON DELETE CASCADE
) PARTITION BY RANGE (accessed_at);
CREATE FUNCTION rivals_statement.count_accesses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE rivals_statement.generated_reports AS report
    SET access_count = report.access_count + added.accesses,
        last_accessed_at = greatest(report.last_accessed_at, added.latest)
    FROM (
        SELECT report_id, count(*) AS accesses, max(accessed_at) AS latest FROM new_rows GROUP BY report_id
    ) AS added
    WHERE report.id = added.report_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_accesses AFTER INSERT ON rivals_statement.report_access_log
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION rivals_statement.count_accesses();
"""
# The same look-up in the other language: an SQL function that is SECURITY DEFINER cannot be inlined.
FUNCTION = """
CREATE FUNCTION rivals_bare.check_report(token text) RETURNS TABLE (report_id bigint, expires_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT report.id, report.expires_at FROM public.generated_reports AS report
    WHERE report.access_token = token AND report.expires_at > statement_timestamp()
$$;
"""

# The whole access in one statement, so that designs differ by their counting alone.
OPEN_AND_LOG = """
    WITH report AS (
        SELECT id, report_html, created_at, expires_at FROM {reports}.generated_reports
        WHERE access_token = %s AND expires_at > now()
    ), logged AS (
        INSERT INTO {log}.report_access_log (report_id, ip_address, user_agent)
        SELECT id, %s::inet, %s FROM report
    )
    SELECT * FROM report
"""
RECORD = "INSERT INTO {log}.report_access_log (report_id, ip_address, user_agent) VALUES (%s, %s::inet, %s)"
BATCH = """
    INSERT INTO {log}.report_access_log (report_id, ip_address, user_agent)
    SELECT report_id, '10.1.2.3', %s FROM unnest(%s::bigint[]) AS report_id
"""


def create(owner: psycopg.Connection, months: Sequence[date]) -> None:
    """The rivals' tables, with the partitions of these months and a DEFAULT one."""
    for part in (DOCUMENT, BARE, STATEMENT, FUNCTION):
        owner.execute(part)
    for schema in ("rivals_document", "rivals_bare", "rivals_statement"):
        for month in months:
            after = date(month.year + month.month // 12, month.month % 12 + 1, 1)
            owner.execute(
                f"CREATE TABLE {schema}.report_access_log_{month:%Y_%m}"
                f" PARTITION OF {schema}.report_access_log"
                f" FOR VALUES FROM ('{month} 00:00:00+00') TO ('{after} 00:00:00+00')"
            )
        owner.execute(
            f"CREATE TABLE {schema}.report_access_log_default PARTITION OF {schema}.report_access_log DEFAULT"
        )


def copy(owner: psycopg.Connection, table: str, schema: str = "rivals_document") -> None:
    """Our rows into the twin of a table."""
    columns = SHARED[table]
    owner.execute(
        f"INSERT INTO {schema}.{table} ({columns}) SELECT {columns} FROM public.{table} ORDER BY id"
    )
    continue_ids(owner, f"{schema}.{table}")


def continue_ids(owner: psycopg.Connection, table: str) -> None:
    """New rows get ids behind those that are there."""
    owner.execute(
        "SELECT setval(pg_get_serial_sequence(%s, 'id'), max(id))"
        f" FROM {table} HAVING pg_get_serial_sequence(%s, 'id') IS NOT NULL AND max(id) IS NOT NULL",
        [table] * 2,
    )


class Base(DeclarativeBase):
    pass


class Report(Base):
    """The report as a team would map it, on our table: the counter is the application's."""

    __tablename__ = "generated_reports"
    __table_args__ = {"schema": "public"}  # noqa: RUF012 - SQLAlchemy's way

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    session_id: Mapped[int] = mapped_column(BigInteger)
    email: Mapped[str] = mapped_column(String(255))
    access_token: Mapped[str] = mapped_column(String(64))
    report_html: Mapped[str]
    questionnaire_data: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    access_count: Mapped[int] = mapped_column(BigInteger)
    last_accessed_at: Mapped[datetime | None]


class Access(Base):
    """An access as a team would map it, on the log that nothing counts."""

    __tablename__ = "report_access_log"
    __table_args__ = {"schema": "rivals_bare"}  # noqa: RUF012 - SQLAlchemy's way

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    report_id: Mapped[int] = mapped_column(ForeignKey(Report.id))
    accessed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ip_address: Mapped[str | None] = mapped_column(INET)
    user_agent: Mapped[str | None]
