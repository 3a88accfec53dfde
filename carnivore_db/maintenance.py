"""The scheduled jobs: short transactions, safe at any time and in any number at once."""

from sqlalchemy import Engine, text

_FOLD = text("SELECT public.fold_report_access(:batch)")


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
