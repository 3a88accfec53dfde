"""The rollup of the access log behind the views of the schema analytics, and its refresh."""

from collections.abc import Callable
from datetime import date

from sqlalchemy import BigInteger, CheckConstraint, Engine, text
from sqlalchemy.orm import Mapped, mapped_column

from carnivore_db.base import Base, Moment

_MONTHS = text("""
    SELECT DISTINCT CAST(date_trunc('month', accessed_at AT TIME ZONE 'UTC') AS date) AS month
    FROM public.report_access_log
    UNION SELECT CAST(date_trunc('month', CAST(day AS timestamp)) AS date) FROM analytics.access_days
    ORDER BY month
""")
_REFRESH = text("SELECT analytics.refresh(CAST(:month AS date))")


class AccessDay(Base):
    __tablename__ = "access_days"
    __table_args__ = (
        CheckConstraint("reports >= 1 AND reports <= accesses", name="reports_within_accesses"),
        {
            "schema": "analytics",
            "comment": "Accesses by day, counted beforehand; analytics.refresh counts again.",
        },
    )

    day: Mapped[date] = mapped_column(
        primary_key=True, comment="The day, in UTC; one without accesses has no row."
    )
    accesses: Mapped[int] = mapped_column(BigInteger, comment="How often reports were opened.")
    reports: Mapped[int] = mapped_column(BigInteger, comment="How many different reports.")
    counted_at: Mapped[Moment] = mapped_column(comment="What was logged by this moment is counted.")


def refresh(engine: Engine, *, on_step: Callable[[date, int], None] | None = None) -> int:
    """Count the days of every month anew, each month in a transaction of its own, as the migrating role.

    `on_step` is told each month (UTC) and how many days were written or taken out. Returns how many in all.
    Any number may run at once: each waits for the other's month. A month in cold storage keeps its days.
    """
    # The ledger and the log must be seen as they are when the lock is had.
    committed = engine.execution_options(isolation_level="READ COMMITTED")
    with committed.connect() as connection:
        months = connection.scalars(_MONTHS).all()
    total = 0
    for month in months:
        with committed.begin() as connection:
            days: int = connection.execute(_REFRESH, {"month": month}).scalar_one()
        total += days
        if on_step is not None:
            on_step(month, days)
    return total
