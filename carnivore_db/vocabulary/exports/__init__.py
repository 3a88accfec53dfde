"""Exports of a learner's data (document 001): requested, queued, finished, expired.

`worker` makes the files and needs the extra `exports`; these functions do not.
"""

from carnivore_db.vocabulary.exports.queue import (
    FORMATS,
    LOST,
    complete,
    count_expired,
    expire,
    fail,
    forget_abandoned,
    get,
    give_up,
    list_by_status,
    list_by_user,
    next_abandoned,
    note_progress,
    request,
    retry,
    take,
    take_expired,
)

__all__ = [
    "FORMATS",
    "LOST",
    "complete",
    "count_expired",
    "expire",
    "fail",
    "forget_abandoned",
    "get",
    "give_up",
    "list_by_status",
    "list_by_user",
    "next_abandoned",
    "note_progress",
    "request",
    "retry",
    "take",
    "take_expired",
]
