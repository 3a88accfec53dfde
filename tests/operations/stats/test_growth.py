"""Growth is measured since the sample nearest to 30 days ago."""

from datetime import date, timedelta

import pytest

from carnivore_db.operations.stats.read import Growth, growth

TODAY = date(2026, 11, 28)


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


@pytest.mark.parametrize(
    ("ages", "chosen"),
    [
        ([60, 30, 1], 30),
        ([400, 31, 28], 31),
        ([35, 26], 26),
        ([31, 29], 31),
        ([29, 31], 31),
        ([400], 400),
        ([1], 1),
        ([3, 0], 3),
    ],
)
def test_the_nearest_sample_to_thirty_days_is_taken(ages: list[int], chosen: int) -> None:
    found = growth([(ago(age), 1000 + age) for age in ages], TODAY, 5000)
    assert found == Growth(ago(chosen), chosen, 5000 - 1000 - chosen)


def test_todays_sample_alone_is_none() -> None:
    assert growth([], TODAY, 5000) is None
    assert growth([(TODAY, 1)], TODAY, 5000) is None


def test_a_table_can_shrink() -> None:
    found = growth([(ago(10), 500)], TODAY, 100)
    assert found is not None
    assert found.bytes == -400
    assert found.bytes_per_day == -40
