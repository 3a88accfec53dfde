"""When each scheduled job ran last and how that went: the table `carnivore.jobs`."""

import json
from typing import Any

import psycopg
from sqlalchemy import Engine, text

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
