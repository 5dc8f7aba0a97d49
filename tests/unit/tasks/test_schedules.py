"""Slots of the clock."""

import copy
import datetime
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoupi.tasks import aligned_schedule

TEN = datetime.timedelta(seconds=10)
START = datetime.datetime(2024, 8, 1, 12, tzinfo=datetime.UTC)


def at(second: float) -> datetime.datetime:
    return START + datetime.timedelta(seconds=second)


def asked(now: float, last: float, *, every: datetime.timedelta = TEN, offset: int = 0):
    schedule = aligned_schedule(every, offset, nowfun=lambda: at(now))
    return tuple(schedule.is_due(at(last)))


def test_between_slots_it_is_not_due() -> None:
    assert asked(12, 10) == (False, 8)


@pytest.mark.parametrize(("now", "last"), [(20, 10), (20.01, 19.99), (29, 12)])
def test_a_slot_that_began_since_is_due(now: float, last: float) -> None:
    is_due, left = asked(now, last)

    assert is_due
    assert left == pytest.approx(10 - now % 10)


@pytest.mark.parametrize(("now", "is_due"), [(16, False), (24.9, False), (25, True), (26, True)])
def test_an_offset_moves_the_slots(now: float, is_due: bool) -> None:
    assert asked(now, 15, offset=5)[0] is is_due


def test_slots_are_of_the_clock_not_of_the_start() -> None:
    assert asked(3, -1, every=datetime.timedelta(hours=1))[0]
    assert not asked(3, 0, every=datetime.timedelta(hours=1))[0]


def test_a_clock_set_forward_makes_up_for_nothing() -> None:
    assert asked(100_003, 10) == (True, 7)
    assert asked(100_004, 100_003) == (False, 6)


def test_a_clock_set_back_goes_on_with_the_next_slot() -> None:
    assert asked(13, 5000) == (False, 7)
    assert asked(20.1, 5000)[0]
    assert not asked(21, 20.1)[0]


def test_a_clock_that_is_nudged_over_a_slot_fires_once() -> None:
    # Fired at 20.001, then the clock went back by 10 ms.
    assert not asked(19.991, 20.001)[0]
    assert not asked(20.001, 20.001)[0]


@given(
    every=st.integers(1, 100_000),
    offset=st.integers(0, 1000),
    now=st.integers(0, 10_000_000),
)
def test_the_next_slot_is_never_past_and_never_more_than_one_away(
    every: int, offset: int, now: int
) -> None:
    length = datetime.timedelta(seconds=every)
    _, left = asked(now, now, every=length, offset=offset % every)

    assert 0 < left <= every
    then = at(now + left).timestamp()
    assert (then - offset % every) % every == pytest.approx(0, abs=1e-3)


def test_a_naive_time_is_utc() -> None:
    schedule = aligned_schedule(TEN, nowfun=lambda: at(12))

    assert tuple(schedule.is_due(at(10).replace(tzinfo=None))) == (False, 8)


def test_the_zone_of_the_last_run_does_not_matter() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=5, minutes=45))
    schedule = aligned_schedule(TEN, nowfun=lambda: at(12).astimezone(zone))

    assert tuple(schedule.is_due(at(10).astimezone(zone))) == (False, 8)


def test_it_can_be_copied_pickled_and_compared() -> None:
    schedule = aligned_schedule(TEN, 5)

    for twin in (copy.copy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert twin == schedule
        assert hash(twin) == hash(schedule)
        assert (twin.run_every, twin.offset_seconds) == (TEN, 5)
    assert schedule != aligned_schedule(TEN)
    assert schedule != "something else"
    assert schedule.seconds == 10
    assert "10 s" in repr(schedule)


def test_without_a_clock_it_takes_ours() -> None:
    remaining = aligned_schedule(TEN).remaining_estimate(START)

    assert datetime.timedelta(0) < remaining <= TEN


@pytest.mark.parametrize(("every", "offset"), [(0, 0), (-1, 0), (10, 10), (10, -1), (10, 11)])
def test_impossible_slots_are_refused(every: int, offset: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        aligned_schedule(datetime.timedelta(seconds=every), offset)


def test_the_answer_has_the_names_that_celery_gives_it() -> None:
    state = aligned_schedule(TEN, nowfun=lambda: at(12)).is_due(at(10))

    assert (state.is_due, state.next) == (False, 8)
