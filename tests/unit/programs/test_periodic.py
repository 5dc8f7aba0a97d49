"""Schedules, and how long a message about a slot is worth running."""

import datetime

import pytest
from celery.schedules import BaseSchedule, crontab, schedule

from acoupi.programs.core.periodic import as_schedule, seconds_between_slots


class Whenever(BaseSchedule):
    """A schedule of a kind that nobody knows."""


@pytest.mark.parametrize("value", [10, 0.5, datetime.timedelta(minutes=2)])
def test_numbers_are_seconds(value: float | datetime.timedelta) -> None:
    seconds = value.total_seconds() if isinstance(value, datetime.timedelta) else value

    assert as_schedule(value).run_every == datetime.timedelta(seconds=seconds)


def test_celery_schedules_stay_as_they_are() -> None:
    every_hour = crontab(minute=0)

    assert as_schedule(every_hour) is every_hour


@pytest.mark.parametrize("value", [0, -5, datetime.timedelta(0)])
def test_an_interval_that_is_not_longer_than_zero_is_refused(
    value: float | datetime.timedelta,
) -> None:
    with pytest.raises(ValueError, match="longer than 0"):
        as_schedule(value)


@pytest.mark.parametrize("value", ["10", True, None])
def test_what_says_nothing_about_when_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="a schedule is"):
        as_schedule(value)


@pytest.mark.parametrize(
    ("when", "seconds"),
    [
        (schedule(10), 10),
        (schedule(datetime.timedelta(minutes=2)), 120),
        # Beat works these out each time.
        (crontab(minute="0,50"), None),
        (Whenever(), None),
    ],
    ids=["seconds", "timedelta", "crontab", "unknown"],
)
def test_the_time_between_slots_is_known_where_it_is_always_the_same(
    when: BaseSchedule, seconds: float | None
) -> None:
    assert seconds_between_slots(when) == seconds
