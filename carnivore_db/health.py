"""When each scheduled job ran last and how that went: the table `carnivore.jobs`."""

import json
from datetime import timedelta
from typing import Any

import psycopg
from sqlalchemy import CheckConstraint, Engine, Text, text
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.orm import Mapped, mapped_column

from carnivore_db.base import Base, JsonObject, Moment, Now


class Job(Base):
    """A scheduled job and its last run."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("every > '00:00:00'::interval", name="every_positive"),
        {"schema": "carnivore", "comment": "The scheduled jobs and the last run of each."},
    )

    job: Mapped[str] = mapped_column(Text, primary_key=True, comment="Its name.")
    every: Mapped[timedelta] = mapped_column(
        INTERVAL,
        server_default=text("'2 days'::interval"),
        comment="How long it may go without success: then it is overdue.",
    )
    last_started_at: Mapped[Moment | None] = mapped_column(comment="When the last run began.")
    last_finished_at: Mapped[Moment | None] = mapped_column(comment="When the last run ended, well or not.")
    last_succeeded_at: Mapped[Moment | None] = mapped_column(comment="When a run last ended well.")
    last_error: Mapped[str | None] = mapped_column(
        Text,
        comment="SQLSTATE and rule, or the kind of error, of the last run; NULL when it ended well."
        " Never a text: that could quote a row.",
    )
    last_result: Mapped[JsonObject | None] = mapped_column(comment="What the last run did, as counts.")
    created_at: Mapped[Now] = mapped_column(
        comment="Since when the job is known; a job that never ran is overdue from then on."
    )


_RECORD = text("""
    SELECT carnivore.record_job(
        :job, clock_timestamp() - make_interval(secs => :seconds), :error, CAST(:result AS jsonb))
""")


def record(
    engine: Engine, job: str, *, seconds: float, error: BaseException | None, result: dict[str, Any]
) -> None:
    """Note a run that ends now and took `seconds`, well when `error` is None; as the migrating role.

    A transaction of its own: what the run did may have been rolled back. A job that the table does not know
    yet is added.
    """
    values = {
        "job": job,
        "seconds": seconds,
        "error": None if error is None else code(error),
        "result": json.dumps(result),
    }
    with engine.begin() as connection:
        connection.execute(_RECORD, values)


def code(error: BaseException) -> str:
    """What may be kept of an error: its SQLSTATE and rule, or its kind; never its text."""
    cause = error.__cause__
    if isinstance(cause, psycopg.Error) and cause.sqlstate:
        return " ".join(filter(None, (cause.sqlstate, cause.diag.constraint_name)))
    return type(error).__name__
