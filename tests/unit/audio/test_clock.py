"""When a frame was captured."""

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoupi import data
from acoupi.audio.clock import SampleClock
from acoupi.audio.system_clock import ClockState, Timeline, read_clock_state, read_offset
from tests.clocks import Clock

RATE = 48_000
BLOCK = 4800
HOUR = 3600.0


def feed(clock: SampleClock, seconds: float, *, ppm: float = 0, late: Any = None) -> None:
    """Deliver blocks of a device that runs slow by so much, each late by what `late` gives."""
    for index in range(round(seconds * RATE / BLOCK)):
        frame = index * BLOCK
        clock.add(frame, true_time(frame, ppm) + (late() if late else 0.0))


def true_time(frame: int, ppm: float) -> float:
    return 1000 + frame / RATE * (1 + ppm * 1e-6)


def test_nothing_is_known_before_the_first_block() -> None:
    clock = SampleClock(RATE)

    assert not clock.is_set
    assert clock.measured_rate is None
    with pytest.raises(LookupError):
        clock.time_of(0)


@pytest.mark.parametrize("ppm", [-200, 0, 35.5, 400])
def test_over_an_hour_with_jitter_times_are_within_two_milliseconds(ppm: float) -> None:
    chance = random.Random(1)
    clock = SampleClock(RATE)

    def late() -> float:
        return chance.expovariate(1 / 0.004) + (0.3 if chance.random() < 0.01 else 0)

    feed(clock, HOUR, ppm=ppm, late=late)

    errors = sorted(
        abs(clock.time_of(frame) - true_time(frame, ppm))
        for frame in range(round((HOUR - 1000) * RATE), round(HOUR * RATE), RATE)
    )
    assert errors[int(len(errors) * 0.95)] < 0.002
    assert clock.measured_rate == pytest.approx(RATE / (1 + ppm * 1e-6), abs=0.05)


def test_a_crystal_that_warms_up_is_followed() -> None:
    clock = SampleClock(RATE)
    time, worst = 0.0, 0.0
    for index in range(20_000):
        clock.add(index * BLOCK, time)
        time += BLOCK / RATE * (1 + 1e-6 * index / 4000)  # 5 ppm in half an hour
        if index % 100 == 99:
            worst = max(worst, abs(clock.time_of((index + 1) * BLOCK) - time))

    assert worst < 0.002


def test_a_burst_of_very_late_blocks_moves_nothing() -> None:
    clock = SampleClock(RATE)
    lateness = iter([0.0] * 300 + [1.5] * 30 + [0.0] * 600)

    feed(clock, 60, late=lambda: next(lateness))

    assert clock.time_of(60 * RATE) == pytest.approx(1060, abs=1e-3)


def test_frames_and_times_are_opposites_also_across_a_break() -> None:
    clock = SampleClock(RATE)
    feed(clock, 100, ppm=50)
    clock.add(101 * RATE, 1101.3, is_break=True)

    for frame in (0, 1, 12_345, 99 * RATE, 101 * RATE, 200 * RATE):
        assert clock.frame_at(clock.time_of(frame)) == frame
    assert clock.time_of(101 * RATE) == 1101.3
    # The crystal is known still.
    assert clock.time_of(201 * RATE) == pytest.approx(1201.305, abs=2e-4)


def late_by_turns(chance: random.Random, seconds: float = 0.0) -> float:
    """Return how late blocks are through a sound server on a busy machine, as measured there."""
    kind = chance.random()
    if kind < 0.06:  # Waited for at another moment.
        return 0.086
    if kind < 0.35:  # Part of the next block came along.
        return chance.uniform(-0.018, 0)
    return chance.expovariate(1 / 0.001) + (chance.uniform(0, 0.3) if kind > 0.9 else 0) + seconds


def test_through_a_sound_server_times_are_within_two_milliseconds() -> None:
    chance = random.Random(3)
    clock = SampleClock(RATE)
    stamps = []
    for index in range(36_000):
        frame = index * BLOCK
        assert not clock.add(frame, true_time(frame, 12) + late_by_turns(chance))
        if index % 30 == 29:
            stamps.append(clock.time_of(frame) - true_time(frame, 12))

    middle = sorted(stamps)[len(stamps) // 2]
    assert sorted(abs(stamp - middle) for stamp in stamps)[int(len(stamps) * 0.95)] < 0.002


def test_a_load_that_comes_and_goes_moves_nothing() -> None:
    chance = random.Random(9)
    clock = SampleClock(RATE)
    stamps = []
    for index in range(36_000):
        frame = index * BLOCK
        is_busy = index < 600 or 9000 < index < 18_000
        wild = is_busy and chance.random() < 0.95  # Then 6 of 10 seconds have no usual block.
        late = chance.uniform(-0.0194, 0.1) if wild else chance.gauss(0, 1e-4)
        clock.add(frame, true_time(frame, -7) + late)
        if index % 30 == 29:
            stamps.append(clock.time_of(frame) - true_time(frame, -7))

    assert max(abs(stamp) for stamp in stamps[100:]) < 0.001


@given(
    st.integers(0, 2**32),
    st.lists(st.sampled_from(["feed", "ask", "find", "break", "steer"]), max_size=40),
)
def test_what_was_said_stays_and_times_only_grow(seed: int, steps: list[str]) -> None:
    chance = random.Random(seed)
    clock, frame = SampleClock(RATE), 0
    said: dict[int, float] = {}
    clock.add(frame, true_time(frame, 50))
    for step in steps:
        if step == "feed":
            for _ in range(chance.randrange(1, 300)):
                frame += BLOCK
                clock.add(frame, true_time(frame, 50) + late_by_turns(chance))
        elif step == "ask":
            asked = chance.randrange(max(0, frame - 30 * RATE), frame + 1)
            said[asked] = clock.time_of(asked)
        elif step == "find":
            found = clock.frame_at(true_time(frame, 50) - chance.uniform(0, 20))
            assert clock.frame_at(clock.time_of(found)) == found
        elif step == "break":
            frame += BLOCK + chance.randrange(RATE)
            clock.add(frame, true_time(frame, 50) + chance.uniform(0, 0.2), is_break=True)
        else:
            clock.steer()

    assert {asked: clock.time_of(asked) for asked in said} == said
    times = [clock.time_of(at) for at in range(0, frame + RATE, RATE // 10)]
    assert all(before < after for before, after in pairwise(times))


def test_recordings_that_follow_each_other_meet_in_time() -> None:
    chance = random.Random(5)
    clock, starts = SampleClock(RATE), []
    for index in range(6000):
        frame = index * BLOCK
        clock.add(frame, true_time(frame, 30) + late_by_turns(chance))
        if index % 30 == 20:
            starts.append(clock.time_of(len(starts) * 3 * RATE))

    gaps = [after - before - 3 for before, after in pairwise(starts)]
    # The device is 30 ppm slow, and the line is bent by 500 ppm at most.
    assert all(abs(gap) <= 3e-3 for gap in gaps)
    assert all(abs(gap) < 0.3e-3 for gap in gaps[-20:])


def test_a_time_that_is_still_to_come_stays_if_it_is_held() -> None:
    clock = SampleClock(RATE)
    feed(clock, 60, ppm=-80)
    start = clock.frame_at(1070)
    clock.hold(start)
    said = clock.time_of(start)

    for index in range(600, 900):
        clock.add(index * BLOCK, true_time(index * BLOCK, -80) + 0.02)
        clock.steer()

    assert clock.time_of(start) == said == pytest.approx(1070, abs=1 / RATE)
    assert clock.time_of(start + RATE) != said + 1


def test_sound_lost_in_silence_is_noticed_once_it_is_sure() -> None:
    chance = random.Random(6)
    clock = SampleClock(RATE)
    feed(clock, 40, late=lambda: late_by_turns(chance))
    clock.time_of(0)

    found = []
    for index in range(400, 800):
        frame = index * BLOCK + sum(round(lost * RATE) for _, lost in found)
        real = (index * BLOCK) / RATE + 0.4
        if lost := clock.add(frame, 1000 + real + late_by_turns(chance)):
            found.append((index, lost))

    assert [lost for _, lost in found] == [pytest.approx(0.4, abs=0.01)]
    assert found[0][0] < 400 + 200
    assert clock.time_of(900 * BLOCK) == pytest.approx(1000 + 90, abs=0.03)


@pytest.mark.parametrize("ppm", [-1000, 1000])
def test_a_wrong_rate_is_no_loss(ppm: float) -> None:
    chance = random.Random(7)
    clock = SampleClock(RATE)
    for index in range(6000):
        frame = index * BLOCK
        assert not clock.add(frame, true_time(frame, ppm) + late_by_turns(chance))
        if index == 20:
            clock.time_of(0)  # And never again: the line is not steered.


def test_a_rate_is_measured_only_after_half_a_minute() -> None:
    clock = SampleClock(RATE)

    feed(clock, 20, ppm=100)

    assert clock.measured_rate is None


# -- what UTC is ---------------------------------------------------------


@pytest.mark.parametrize("step", [HOUR, -HOUR, 2.0])
@pytest.mark.parametrize("is_synchronised", [None, False, True])
def test_a_step_of_the_system_clock_moves_no_sample(
    clock: Clock, step: float, is_synchronised: bool | None
) -> None:
    clock.state = ClockState(is_synchronised, 0.01 if is_synchronised else None)
    timeline = Timeline()
    before = timeline.offset

    for _ in range(20):
        clock.advance(3)
        timeline.look()
        timeline.settle()
    clock.step(step)
    for _ in range(20):
        clock.advance(3)
        timeline.look()
        timeline.settle()

    assert timeline.offset == pytest.approx(before, abs=1e-6)
    assert timeline.state.is_synchronised is False


def test_a_clock_that_was_set_is_followed_between_recordings(clock: Clock) -> None:
    clock.state = ClockState(False, None)
    timeline = Timeline()
    before = timeline.offset
    clock.advance(60)
    clock.step(123_456)
    clock.state = ClockState(True, 0.02)

    timeline.look()
    assert timeline.offset == before
    assert timeline.settle()

    assert timeline.offset == pytest.approx(before + 123_456)
    assert timeline.state == ClockState(True, 0.02)
    assert not timeline.settle()


def test_a_step_ends_synchronisation_and_is_believed_once_it_is_back(clock: Clock) -> None:
    clock.state = ClockState(True, 0.02)
    timeline = Timeline()
    before = timeline.offset
    clock.step(-50)
    clock.state = ClockState(False, None)
    clock.advance(5)
    assert not timeline.settle()
    clock.advance(60)
    clock.state = ClockState(True, 0.02)

    assert timeline.settle()

    assert timeline.offset == pytest.approx(before - 50)


def test_a_clock_set_by_hand_is_believed_after_ten_minutes(clock: Clock) -> None:
    clock.state = ClockState(None, None)
    timeline = Timeline()
    before = timeline.offset
    clock.step(77)
    clock.advance(1)
    assert not timeline.settle()
    clock.advance(601)

    assert timeline.settle()

    assert timeline.offset == pytest.approx(before + 77)


def test_a_clock_that_is_slewed_is_followed(clock: Clock) -> None:
    clock.state = ClockState(None, None)
    timeline = Timeline()
    before = timeline.offset

    for _ in range(1000):
        clock.advance(3)
        clock.step(3 * 400e-6)
        timeline.look()

    assert timeline.offset == pytest.approx(before + 1.2)


def test_the_kernel_is_asked_and_may_not_know() -> None:
    state = read_clock_state()

    assert state.is_synchronised in (None, True, False)
    assert (state.error is None) == (state.is_synchronised is not True)


def test_the_offset_is_that_of_the_two_clocks() -> None:
    expected = data.utc_now().timestamp() - data.monotonic()

    assert read_offset() == pytest.approx(expected, abs=1)
