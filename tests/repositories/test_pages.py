"""Lists that are read page by page: each row once and in order, whatever is written between two pages."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from carnivore_db import Identity
from carnivore_db.conversation import logs, messages
from carnivore_db.conversation import sessions as plays
from carnivore_db.kit.paging import Cursor, Page
from carnivore_db.vocabulary import sessions as lessons
from carnivore_db.weekly import access_log
from tests.conversation.samples import LONG_AGO, SERVICE, Person, completed, sign_up, tidy
from tests.conversation.speaking import say, started
from tests.support.callers import KINDS, Caller
from tests.support.databases import TestDatabase
from tests.vocabulary.samples import new_learner, start_session, themselves
from tests.weekly.samples import issue_report

HOUR = timedelta(hours=1)


# Makes an empty list: the key that it is asked by, and the person who may read it, as the service may.
Begin = Callable[[Caller, psycopg.Connection], tuple[Any, Identity | None]]
Add = Callable[[Caller, psycopg.Connection, Any, datetime], object]


def a_report(caller: Caller, _: psycopg.Connection) -> tuple[int, None]:
    return issue_report(caller).id, None


def a_learner(caller: Caller, _: psycopg.Connection) -> tuple[UUID, Identity]:
    learner = new_learner(caller)
    return learner.id, themselves(learner)


def a_person(_: Caller, owner: psycopg.Connection) -> tuple[UUID, Identity]:
    person = sign_up(owner)
    return person.id, person.identity


def a_chat(caller: Caller, owner: psycopg.Connection) -> tuple[UUID, Identity]:
    person = sign_up(owner)
    return started(caller, person), person.identity


def empty_logs(_: Caller, owner: psycopg.Connection) -> tuple[None, None]:
    owner.execute("DELETE FROM conversation.logs")
    return None, None


def add_access(caller: Caller, _: psycopg.Connection, report: int, moment: datetime) -> None:
    caller.call(SERVICE, access_log.record, report, accessed_at=moment)


def add_event(caller: Caller, _1: psycopg.Connection, _2: None, moment: datetime) -> None:
    caller.call(SERVICE, logs.write, "info", "user_logout", created_at=moment)


# The function, the column that it orders by, and whether it begins with the newest row.
LISTS: dict[str, tuple[Callable[..., Page[Any]], str, bool, Begin, Add]] = {
    "accesses": (access_log.history, "accessed_at", True, a_report, add_access),
    "lessons": (
        lessons.list_by_user,
        "started_at",
        True,
        a_learner,
        lambda caller, _, learner, moment: start_session(caller, learner, started_at=moment),
    ),
    "plays": (
        plays.history,
        "completed_at",
        True,
        a_person,
        lambda _, owner, person, moment: completed(owner, Person(person, ""), moment),
    ),
    "messages": (
        messages.page,
        "sent_at",
        False,
        a_chat,
        lambda caller, _, session, moment: say(caller, session, sent_at=moment),
    ),
    "events": (logs.search, "created_at", True, empty_logs, add_event),
}


class Paged:
    """One of the lists, empty."""

    def __init__(self, name: str, caller: Caller, owner: psycopg.Connection) -> None:
        self.function, self.moment, self.newest_first, begin, add = LISTS[name]
        self.caller = caller
        self.key, self.whose = begin(caller, owner)
        self.add = lambda moment: add(caller, owner, self.key, moment)

    def page(self, caller: Caller | None = None, who: Identity = SERVICE, **given: Any) -> Page[Any]:
        asked = () if self.key is None else (self.key,)
        return (caller or self.caller).call(who, self.function, *asked, **given)

    def place(self, row: Any) -> tuple[datetime, object]:
        return getattr(row, self.moment), row.id

    def walk(self, limit: int, between: Callable[[], None] = lambda: None, **given: Any) -> list[Any]:
        """All places of the list, page by page."""
        found: list[Any] = []
        after: Cursor | None = None
        while True:
            page = self.page(limit=limit, after=after, **given)
            found += map(self.place, page.rows)
            assert len(found) <= 1000  # pages that repeat would never end
            assert len(page.rows) <= limit
            if page.next is None:
                return found
            assert len(page.rows) == limit
            assert page.next == found[-1]
            after = page.next
            between()


Make = Callable[[], Paged]


@pytest.fixture(scope="module")
def owner(area_database: TestDatabase) -> Iterator[psycopg.Connection]:
    tidy(area_database)
    with area_database.connect(autocommit=True) as connection:
        connection.row_factory = dict_row
        yield connection


@pytest.fixture(params=list(LISTS))
def make(request: pytest.FixtureRequest, module_caller: Caller, owner: psycopg.Connection) -> Make:
    """Each call makes another list."""
    return lambda: Paged(request.param, module_caller, owner)


@pytest.mark.document(20)
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 1000])
def test_pages_neither_repeat_nor_hide_a_row(make: Make, limit: int) -> None:
    """Over the borders of months, with many rows of one moment, while others are written."""
    others = make()
    others.add(LONG_AGO)
    mine = make()
    moments = [LONG_AGO + number * timedelta(days=13) for number in (0, 1, 1, 1, 1, 1, 2, 9, 3, 3, 2, 2)]
    moments.append(LONG_AGO - timedelta(microseconds=1))
    for moment in moments:
        mine.add(moment)
    there = mine.walk(1000)
    assert there == sorted(there, reverse=mine.newest_first)
    assert [moment for moment, _ in there] == sorted(moments, reverse=mine.newest_first)
    calls = 0

    def others_write() -> None:
        nonlocal calls
        calls += 1
        for moment in moments if calls <= 3 else ():
            mine.add(moment)

    assert mine.walk(limit) == there
    found = mine.walk(limit, others_write)
    assert calls >= 3 or limit == 1000
    assert len(found) == len(set(found))
    assert [place for place in found if place in there] == there
    if mine.whose is not None:
        assert mine.walk(limit, who=mine.whose) == mine.walk(1000)
        assert others.page(who=mine.whose) == Page([], None)


def test_a_last_page_that_is_full_is_the_last(make: Make) -> None:
    mine = make()
    for _ in range(4):
        mine.add(LONG_AGO)
    assert mine.page(limit=4).next is None
    page = mine.page(limit=3)
    assert page.next == Cursor(*mine.place(page.rows[2]))
    rest = mine.page(limit=3, after=page.next)
    assert (len(rest.rows), rest.next) == (1, None)


def test_a_cursor_means_the_same_in_every_time_zone(make: Make, area_database: TestDatabase) -> None:
    mine = make()
    for hour in range(6):
        mine.add(LONG_AGO + hour * HOUR)

    def elsewhere(zone: str, **given: Any) -> Page[Any]:
        url = area_database.app_url.update_query_dict({"options": f"-c timezone={zone}"})
        with KINDS["sync"](url) as caller:
            return mine.page(caller, limit=3, **given)

    first = elsewhere("Pacific/Auckland")
    second = elsewhere("America/Los_Angeles", after=first.next)
    hours = [mine.place(row)[0].astimezone(UTC).hour for row in first.rows + second.rows]
    assert hours == sorted(range(12, 18), reverse=mine.newest_first)
