"""Months of UTC: their numbers, the moments where they begin and end, and whether ranges hold them."""

from collections.abc import Sequence
from datetime import UTC, date, datetime


def number(moment: date) -> int:
    """The number of the month of a day, or of a moment with its time zone; the next month has one more."""
    if isinstance(moment, datetime):
        moment = moment.astimezone(UTC)
    return moment.year * 12 + moment.month - 1


def start(number: int) -> datetime:
    """The first moment of the month with this number."""
    return datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)


def end(month: date) -> datetime:
    """The moment when the month of this day is over."""
    return start(number(month) + 1)


def covered(ranges: Sequence[tuple[datetime, datetime]], month: int) -> bool:
    """Whether these sorted ranges [lower, upper), together, hold every moment of the month of this number."""
    reached, over = start(month), start(month + 1)
    for lower, upper in ranges:
        if lower <= reached < upper:
            reached = upper
    return reached >= over
