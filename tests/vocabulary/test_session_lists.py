"""A learner's sessions, newest first, page by page."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from carnivore_db.kit.paging import Cursor, Page
from carnivore_db.vocabulary import sessions
from tests.support.callers import Caller
from tests.vocabulary.samples import NOBODY, NOON, SERVICE, new_learner, start_session, themselves


def pages(caller: Caller, user_id: UUID, limit: int) -> list[list[UUID]]:
    """All pages of a learner's sessions, each asked for with the end of the one before."""
    found: list[list[UUID]] = []
    after: Cursor | None = None
    while True:
        page = caller.call(SERVICE, sessions.list_by_user, user_id, limit=limit, after=after)
        found.append([session.id for session in page.rows])
        assert len(found) <= 7  # else a page begins where the one before began
        if page.next is None:
            return found
        assert page.next == (page.rows[-1].started_at, page.rows[-1].id)
        after = page.next


def test_pages_hold_every_session_once_also_where_two_began_at_once(
    caller_in: Callable[[str], Caller],
) -> None:
    caller = caller_in("Pacific/Auckland")
    ada = new_learner(caller)
    began = [NOON, NOON, NOON - timedelta(microseconds=1), NOON, NOON + timedelta(hours=1), NOON]
    made = [start_session(caller, ada.id, started_at=moment) for moment in began]
    start_session(caller, new_learner(caller).id)
    start_session(caller, None)
    newest = [made[4].id, *sorted((made[n].id for n in (0, 1, 3, 5)), reverse=True), made[2].id]
    for limit in (1, 2, 3, 4, 6, 7):
        found = pages(caller, ada.id, limit)
        assert [key for page in found for key in page] == newest
        assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)


def test_a_learners_own_list_is_the_same(caller: Caller) -> None:
    ada = new_learner(caller)
    made = start_session(caller, ada.id).id
    for who in (SERVICE, themselves(ada)):
        assert [session.id for session in caller.call(who, sessions.list_by_user, ada.id).rows] == [made]
    assert caller.call(SERVICE, sessions.list_by_user, NOBODY) == Page([], None)
