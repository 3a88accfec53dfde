"""The scheduled jobs: short transactions, safe at any time and in any number at once."""

from datetime import date

from sqlalchemy import Engine, text

from carnivore_db.errors import CarnivoreError

_FOLD = text("SELECT public.fold_report_access(:batch)")
_MONTHS = text("""
    SELECT CAST(date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead) AS date)
    FROM generate_series(0, CAST(:ahead AS integer)) AS ahead ORDER BY 1
""")
# The function that makes a partition of each partitioned table, closed as its revision says.
_CREATE = {
    "report_access_log": text("SELECT carnivore.create_access_log_partition(CAST(:month AS date))"),
    "logs": text("SELECT carnivore.create_logs_partition(CAST(:month AS date))"),
}


def create_partitions(
    engine: Engine, *, months_ahead: int = 3
) -> tuple[list[str], dict[str, CarnivoreError]]:
    """Make the missing partitions from this month (UTC) to `months_ahead` later, as the migrating role.

    `engine` is a Database's. Returns the partitions made and those that could not be, with the reason: Busy
    (a lock was not to be had within two seconds), InvalidInput (the DEFAULT partition holds rows of that
    month).
    """
    with engine.connect() as connection:
        months = connection.scalars(_MONTHS, {"ahead": months_ahead}).all()
    made: list[str] = []
    failed: dict[str, CarnivoreError] = {}
    wanted: list[tuple[str, date]] = [(table, month) for table in _CREATE for month in months]
    for table, month in wanted:
        partition = f"{table}_{month:%Y_%m}"
        try:
            with engine.begin() as connection:
                connection.execute(text("SET LOCAL lock_timeout = '2s'"))
                if connection.scalar(_CREATE[table], {"month": month}):
                    made.append(partition)
        except CarnivoreError as error:
            failed[partition] = error  # the other months must not wait for this one
    return made, failed


def fold_access_counts(engine: Engine, *, batch: int = 1000) -> int:
    """Add pending accesses to their reports' counters, `batch` reports a transaction, until none is left
    whose report nobody else has locked.

    Returns how many deltas were folded. Any number may run at once: each takes what the others left.
    """
    total = 0
    while True:
        with engine.begin() as connection:
            folded = connection.scalar(_FOLD, {"batch": batch}) or 0
        if folded == 0:
            return total
        total += folded
