"""The dashboards' count of a month that goes to cold storage: of all its rows, whenever they came."""

from datetime import date, timedelta

import pytest
from sqlalchemy import text

from carnivore_db.operations import analytics
from tests.operations.archive.archiving import BEGIN, LAST, LOGS, NAME, NOW, Archiving, days, stop_at

pytest_plugins = ["tests.operations.archive.archive_fixtures"]

NOON = BEGIN + timedelta(hours=12)
DAY, NEXT, LAST_DAY = "2024-02-01", "2024-02-02", "2024-02-29"
TICK = timedelta(microseconds=1)
OTHERS = """
    SELECT day, accesses, reports FROM analytics.access_days
    WHERE day NOT BETWEEN '2024-02-01' AND '2024-02-29' ORDER BY day
"""


def test_a_row_that_came_after_the_refresh_is_counted(archiving_anywhere: Archiving) -> None:
    archiving = archiving_anywhere
    archiving.odd_month()
    (first, second), (trial,) = archiving.reports(2), archiving.reports(1)
    archiving.owner.execute(
        "UPDATE public.user_sessions SET is_test = true"
        " WHERE id = (SELECT session_id FROM public.generated_reports WHERE id = %s)",
        [trial],
    )
    # What goes before it is another month, and another table.
    archiving.month(month=date(2024, 1, 1))
    archiving.month(LOGS)
    archiving.owner.execute(
        "INSERT INTO conversation.logs (level, event_type, created_at) VALUES ('info', 'user_logout', %s)",
        [NOON],
    )
    for moment in (BEGIN - TICK, LAST + TICK):
        archiving.open(first, moment)
    archiving.refresh()
    others = archiving.owner.execute(OTHERS).fetchall()
    assert [day for day, *_ in others] == [date(2024, 1, 31), date(2024, 3, 1), NOW.date()]
    before = archiving.rollup()
    # A day that has no access any more.
    archiving.owner.execute("INSERT INTO analytics.access_days VALUES ('2024-02-20', 1, 1, now())")
    for report, moment in ((first, NOON), (second, NOON), (second, LAST), (second, NOON + timedelta(days=1))):
        archiving.open(report, moment)
    archiving.open(trial, NOON)
    outcome = archiving.archive(logs=True)
    assert (len(outcome.done), outcome.failed) == (3, {})
    after = archiving.rollup()
    assert after.pop(DAY) == (before[DAY][0] + 2, before[DAY][1] + 2)
    assert after.pop(LAST_DAY) == (before[LAST_DAY][0] + 1, before[LAST_DAY][1] + 1)
    assert after.pop(NEXT) == (1, 1)
    assert after == {day: count for day, count in before.items() if day not in {DAY, LAST_DAY}}
    # No refresh changes what was settled.
    settled = archiving.rollup()
    archiving.refresh()
    assert archiving.rollup() == settled
    assert archiving.owner.execute(OTHERS).fetchall() == others


@pytest.mark.parametrize("point", ["write", "read back", "detach"])
def test_a_row_that_comes_while_its_month_goes_is_counted(archiving: Archiving, point: str) -> None:
    (report, *_) = archiving.odd_month()
    archiving.refresh()
    archiving.archive(on_step=stop_at(point, lambda: archiving.open(report, NOON)))
    assert archiving.rollup()[DAY] == (3, 1)
    assert archiving.rollup() == days(archiving.file(archiving.url()))


@pytest.mark.parametrize("point", ["compare", "count", "drop"])
def test_a_row_that_comes_once_the_month_has_left_waits_for_a_restore(
    archiving: Archiving, point: str
) -> None:
    (report, *_) = archiving.odd_month()
    archiving.refresh()
    before = archiving.rollup()

    def late() -> None:
        archiving.open(report, NOON)
        archiving.refresh()

    archiving.archive(on_step=stop_at(point, late))
    assert archiving.rollup() == before
    archiving.restore()
    archiving.refresh()
    assert archiving.rollup() == days(archiving.table(f"public.{NAME}"))
    assert archiving.rollup()[DAY] == (before[DAY][0] + 1, before[DAY][1])


def test_a_report_that_is_deleted_before_the_comparison_is_not_counted(archiving: Archiving) -> None:
    gone, kept = archiving.odd_month()
    archiving.refresh()

    def delete() -> None:
        archiving.owner.execute("DELETE FROM public.generated_reports WHERE id = %s", [gone])

    archiving.archive(on_step=stop_at("read back:again", delete))
    rows = archiving.file(archiving.url())
    assert {row[1] for row in rows} == {str(kept)}
    assert archiving.rollup() == days(rows)


def test_rows_that_come_for_an_archived_month_do_not_replace_its_days(archiving: Archiving) -> None:
    """A day may have its reports in both files: what their sum is, the files alone could tell."""
    (report, *_) = archiving.odd_month()
    archiving.archive()
    before = archiving.rollup()
    archiving.open(report, NOON)
    archiving.open(report, NOON + timedelta(days=1))
    archiving.month()
    assert [done.rows for done in archiving.archive().done] == [2]
    assert archiving.ledger("part") == [(1,), (2,)]
    assert archiving.rollup() == before
    # Together once more, they are counted together, on the way into the archive at the latest.
    archiving.restore(keep=timedelta(0))
    assert archiving.rollup() == before
    archiving.archive()
    rows = archiving.file(archiving.url())
    assert archiving.rollup() == days(rows)
    assert NEXT in archiving.rollup()


def test_a_file_without_rows_keeps_no_other_from_being_counted(archiving: Archiving) -> None:
    (report, *_) = archiving.reports()
    archiving.month()
    archiving.archive()
    assert archiving.rollup() == {}
    for file in ("the second", "the third"):
        archiving.open(report, NOON)
        archiving.open(report, NOON)
        archiving.month()
        archiving.archive()
        assert archiving.rollup() == {DAY: (2, 1)}, file


@pytest.mark.parametrize("refreshed", [False, True])
def test_a_month_that_came_back_is_counted_when_it_goes_again(archiving: Archiving, refreshed: bool) -> None:
    (report, gone) = archiving.odd_month()
    archiving.archive()
    archiving.restore(keep=timedelta(0))
    archiving.open(report, NOON)
    if refreshed:
        archiving.refresh()
    archiving.open(report, NOON + timedelta(days=1))
    for point in ("detach", "compare", "count", "drop"):
        with pytest.raises(KeyboardInterrupt):
            archiving.archive(on_step=stop_at(point))
    archiving.archive()
    assert archiving.ledger("part") == [(2,)]
    assert archiving.rollup() == days(archiving.file(archiving.url()))
    # Its restored partition was dropped by hand: the file has rows that are not in another's table.
    archiving.restore(keep=timedelta(0))
    archiving.owner.execute(f"DROP TABLE public.{NAME}")
    before = archiving.rollup()
    archiving.month()
    archiving.open(gone, NOON)
    archiving.archive()
    assert archiving.rollup() == before


def test_counting_again_changes_nothing(archiving: Archiving) -> None:
    """As after a kill between the count and the drop; and in any time zone."""
    archiving.odd_month()

    def again() -> None:
        before = archiving.rollup()
        for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
            with archiving.engine.begin() as connection:
                connection.execute(text(f"SET LOCAL TimeZone = '{zone}'"))
                analytics.settle(connection, BEGIN.date(), f"carnivore.{NAME}")
            assert archiving.rollup() == before

    archiving.archive(on_step=stop_at("drop", again))
    assert archiving.rollup() == days(archiving.file(archiving.url()))
