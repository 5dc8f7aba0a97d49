"""Where in the stream a recording begins."""

import datetime
from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoupi import data
from acoupi.audio.sources import AudioSource, Sink
from acoupi.audio.stream import STALL_SECONDS, CaptureStream
from acoupi.audio.system_clock import ClockState
from acoupi.components.audio_recorder.clip_planning import ClipPlan, ClipPlanner
from acoupi.errors import RecordingError
from tests.clocks import Clock

RATE = 1000
UTC = 1_700_000_000.0
"""A multiple of 10 s: when monotonic time is 0."""


class Silence(AudioSource):
    """A microphone whose time a test moves."""

    @property
    def key(self) -> Hashable:
        return "silence"

    def start(self, sink: Sink) -> None:
        self.sink = sink

    def stop(self) -> None:
        pass


class World(Clock):
    """A sensor whose clocks a test moves."""

    seconds = 1000.0
    state = ClockState(None, None)

    def __init__(self) -> None:
        super().__init__(datetime.datetime.fromtimestamp(UTC + self.seconds, tz=datetime.UTC))

    def open(self, ring_seconds: float = 30) -> CaptureStream:
        stream = CaptureStream(Silence("silence", RATE, 1), ring_seconds=ring_seconds).open()
        self.began = self.seconds
        return stream

    def hear(self, stream: CaptureStream, seconds: float) -> None:
        """Let time pass, with sound."""
        end = self.seconds + seconds
        while (frames := round((end - self.seconds) * RATE)) > 0:
            frames = min(frames, 100)
            stream.deliver(memoryview(bytes(2 * frames)), self.seconds)
            self.seconds += frames / RATE


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    world.install(monkeypatch)
    return world


def record(planner: ClipPlanner, stream: CaptureStream) -> ClipPlan:
    """Plan and make a recording all of which is there already."""
    plan = planner.plan(stream)
    planner.done(stream, plan, plan.frames)
    return plan


# -- without a gap -------------------------------------------------------


@given(delays=st.lists(st.floats(0, 8), max_size=12), interval=st.sampled_from([1.0, 3.0]))
def test_consecutive_recordings_are_contiguous_however_late_they_begin(
    delays: list[float], interval: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World()
        world.install(patch)
        stream, planner = world.open(), ClipPlanner(3, interval)
        world.hear(stream, 0.2)
        end = 0

        for delay in delays:
            world.hear(stream, delay)
            while True:
                plan = record(planner, stream)
                assert (plan.start, plan.frames, plan.gap) == (end, 3000, 0)
                end = plan.start + plan.frames
                world.hear(stream, max(0, (end - stream.written) / RATE))
                if not planner.is_behind(stream):
                    break

        assert stream.written - end < 3000


def test_what_the_ring_lost_is_a_gap_and_the_rest_is_recorded(world: World) -> None:
    stream, planner = world.open(), ClipPlanner(3, 3)
    world.hear(stream, 3)
    record(planner, stream)
    world.hear(stream, 40)

    plan = record(planner, stream)

    assert plan.start == stream.oldest == 13_500
    assert plan.gap == 13_500 - 3000
    assert planner.is_behind(stream)


def test_less_than_was_planned_is_gone_on_with(world: World) -> None:
    stream, planner = world.open(), ClipPlanner(3, 3)
    world.hear(stream, 3)
    plan = planner.plan(stream)

    planner.done(stream, plan, 1234)  # The disk was full.

    assert planner.plan(stream).start == 1234


def test_what_was_refused_is_not_recorded(world: World) -> None:
    stream, planner = world.open(), ClipPlanner(3, 3)
    world.hear(stream, 3)
    record(planner, stream)
    world.hear(stream, 3)

    planner.skip(stream)
    assert not planner.is_behind(stream)
    world.hear(stream, 5)
    plan = planner.plan(stream)

    # At 1011 s: with the slot (of 3 s since 1970) that it is in, and not before it was refused.
    assert (UTC + 1000 + plan.start / RATE) % 3 == 0
    assert plan.start >= 6000
    assert plan.gap == 0


def test_after_an_outage_all_that_the_new_stream_holds_is_recorded(world: World) -> None:
    stream, planner = world.open(), ClipPlanner(3, 3)
    world.hear(stream, 3)
    record(planner, stream)
    stream.fail(RecordingError("unplugged"))
    world.seconds += 7
    new = world.open()
    world.hear(new, 5)

    plan = record(planner, new)

    assert plan == ClipPlan(0, 3000, gap=7000)
    assert planner.plan(new).start == 3000


def test_what_an_ended_stream_still_holds_is_recorded_first(world: World) -> None:
    stream, planner = world.open(), ClipPlanner(3, 3)
    world.hear(stream, 8)
    record(planner, stream)
    stream.fail(RecordingError("it was unplugged"))

    assert planner.is_behind(None)
    assert planner.remains() is stream
    first = planner.plan_rest(stream)
    planner.done(stream, first, first.frames)
    second = planner.plan_rest(stream)
    planner.done(stream, second, second.frames)

    assert first == ClipPlan(3000, 3000)
    lost = data.IncompleteReason.DEVICE_LOST
    assert second == ClipPlan(6000, 2000, incomplete=(lost, "it was unplugged"))
    assert planner.remains() is None
    assert not planner.is_behind(None)


@pytest.mark.parametrize("is_closed", [False, True])
def test_what_came_before_a_device_fell_silent_is_recorded_too(
    world: World, is_closed: bool
) -> None:
    stream, planner = world.open(), ClipPlanner(3, 3)
    world.hear(stream, 3)
    record(planner, stream)
    world.hear(stream, 2)
    assert planner.remains() is None  # It may go on.

    world.seconds += STALL_SECONDS
    if is_closed:  # So that the device can be opened anew.
        stream.close()

    assert planner.remains() is stream
    assert planner.is_behind(None)
    rest = planner.plan_rest(stream)
    assert (rest.start, rest.frames) == (3000, 2000)
    assert rest.incomplete is not None
    assert rest.incomplete[0] is data.IncompleteReason.DEVICE_LOST
    planner.done(stream, rest, rest.frames)
    assert planner.remains() is None


def test_too_little_to_be_kept_is_not_recorded(world: World) -> None:
    stream, planner = world.open(), ClipPlanner(3, 3)
    world.hear(stream, 3)
    record(planner, stream)
    world.hear(stream, 0.05)

    stream.fail(RecordingError("it was unplugged"))

    assert planner.remains() is None
    assert not planner.is_behind(None)


@pytest.mark.parametrize(("heard", "frames"), [(3.5, 3000), (2, 2000)])
def test_a_slot_that_waited_when_the_device_was_lost_is_recorded_too(
    world: World, heard: float, frames: int
) -> None:
    stream, planner = world.open(), ClipPlanner(3, 10)
    world.hear(stream, 4)
    first = record(planner, stream)
    world.hear(stream, 6 + heard)
    stream.fail(RecordingError("it was unplugged"))

    assert planner.remains() is stream
    assert planner.is_behind(None)
    rest = planner.plan_rest(stream)
    planner.done(stream, rest, rest.frames)

    assert (rest.start, rest.frames, rest.gap) == (10_000, frames, 0)
    assert first.slot is not None
    assert rest.slot == first.slot + 1
    assert (rest.incomplete is None) == (frames == 3000)
    assert planner.remains() is None
    assert not planner.is_behind(None)


def test_a_stream_that_is_closed_while_it_delivers_is_no_loss(world: World) -> None:
    stream = world.open()
    world.hear(stream, 3)

    stream.close()

    assert stream.loss is None


# -- on slots ------------------------------------------------------------


@given(
    delays=st.lists(st.floats(0, 5), min_size=1, max_size=10),
    interval=st.sampled_from([6.0, 10.0, 12.5]),
)
def test_recordings_begin_at_the_frame_of_their_slot_however_late_their_tasks_run(
    delays: list[float], interval: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World()
        world.install(patch)
        stream, planner = world.open(), ClipPlanner(3, interval)
        slot = (UTC + 1000) // interval + 1
        for delay in delays:
            asked = slot * interval - UTC + delay
            world.hear(stream, max(0.0, asked - world.seconds))

            plan = record(planner, stream)

            assert plan.gap == 0
            assert plan.start == pytest.approx((slot * interval - UTC - 1000) * RATE, abs=1)
            slot += 1


def test_a_slot_that_was_missed_is_made_up_for_while_the_ring_holds_it(world: World) -> None:
    stream, planner = world.open(), ClipPlanner(3, 10)
    world.hear(stream, 4)
    record(planner, stream)
    world.hear(stream, 20)

    starts = [record(planner, stream).start]
    while planner.is_behind(stream):
        starts.append(record(planner, stream).start)

    assert starts == [10_000, 20_000]


def test_slots_that_the_ring_lost_are_a_gap(world: World) -> None:
    stream, planner = world.open(), ClipPlanner(3, 10)
    world.hear(stream, 4)
    record(planner, stream)
    world.hear(stream, 60)

    plan = record(planner, stream)

    assert plan.start == 40_000
    assert plan.gap == 3 * 3000


def test_a_recording_asked_for_twice_waits_for_the_next_slot(world: World) -> None:
    stream, planner = world.open(), ClipPlanner(3, 10)
    world.hear(stream, 4)
    record(planner, stream)

    assert planner.plan(stream).start == 10_000


def test_a_slot_that_began_before_the_stream_is_recorded_late(world: World) -> None:
    world.seconds = 1000.5
    stream, planner = world.open(), ClipPlanner(3, 10)
    world.hear(stream, 0.2)

    plan = planner.plan(stream)

    assert (plan.start, plan.frames, plan.gap, plan.incomplete) == (0, 3000, 500, None)


def test_a_late_recording_ends_before_the_next_slot(world: World) -> None:
    world.seconds = 1002
    stream, planner = world.open(), ClipPlanner(9, 10)
    world.hear(stream, 0.2)

    plan = record(planner, stream)

    assert (plan.start, plan.frames) == (0, 8000)
    assert plan.incomplete
    assert planner.plan(stream).start == 8000


def test_after_a_refusal_the_first_slot_is_on_time(world: World) -> None:
    stream, planner = world.open(), ClipPlanner(3, 10)
    for _ in range(4):
        planner.skip(stream)
        world.hear(stream, 10.4)

    plan = planner.plan(stream)

    assert (plan.start, plan.gap) == (40_000, 0)


@pytest.mark.parametrize("step", [3600, -3600])
def test_a_step_of_the_clock_neither_skips_nor_repeats_a_slot(world: World, step: float) -> None:
    stream, planner = world.open(), ClipPlanner(3, 10)
    world.hear(stream, 4)
    record(planner, stream)
    world.step(step)
    world.hear(stream, 8)

    first = record(planner, stream)
    world.hear(stream, 10)
    second = record(planner, stream)

    assert (first.start, second.start) == (10_000, 20_000)
    assert (stream.utc_of(20_000) - stream.utc_of(10_000)).total_seconds() == pytest.approx(10)


@pytest.mark.parametrize("step", [3600, -3600])
def test_once_the_clock_was_set_slots_follow_it(world: World, step: float) -> None:
    world.state = ClockState(False, None)
    stream, planner = world.open(), ClipPlanner(3, 10)
    world.hear(stream, 4)
    record(planner, stream)
    world.step(step + 2)
    world.state = ClockState(True, 0.01)
    world.hear(stream, 10)

    plan = record(planner, stream)

    assert plan.gap == 0
    assert (stream.utc_of(plan.start).timestamp() - UTC) % 10 == pytest.approx(0, abs=1e-3)


def test_a_slot_far_away_is_not_waited_for(world: World) -> None:
    stream, planner = world.open(), ClipPlanner(3, 600)
    world.hear(stream, 100)
    stream.read(stream.written - 10, 10, world.seconds + 1)

    plan = planner.plan(stream)

    assert plan.start == pytest.approx(100_000, abs=1)


def test_without_an_interval_a_recording_begins_when_asked(world: World) -> None:
    stream, planner = world.open(), ClipPlanner(3, None)
    world.hear(stream, 1)
    assert record(planner, stream).start == 0
    stream.read(0, 1000, world.seconds + 1)
    world.hear(stream, 7)

    assert planner.plan(stream).start == 8000
    assert not planner.is_behind(stream)


def test_warming_up_is_cut_away(world: World) -> None:
    stream = CaptureStream(Silence("silence", RATE, 1), warm_up=2).open()
    world.hear(stream, 5)

    assert ClipPlanner(3, 3).plan(stream).start == 2000
