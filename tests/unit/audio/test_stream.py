"""The ring between a microphone and a file."""

import gc
import math
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoupi import data
from acoupi.audio.pool import StreamPool
from acoupi.audio.stream import STALL_SECONDS, WATCH_SECONDS, CaptureStream
from acoupi.errors import DeviceUnavailableError, RecordingError
from tests.clocks import Clock
from tests.services import DEADLINE

FAR = 1e12


class MovingClock(Clock):
    """A clock that a test moves, or that moves on whenever it is looked at."""

    seconds = 100.0
    each_look = 0.0
    """By how much it goes on whenever somebody looks."""

    def monotonic(self) -> float:
        self.seconds += self.each_look
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MovingClock:
    clock = MovingClock()
    clock.install(monkeypatch)
    return clock


@pytest.fixture
def in_thread() -> Iterator[Callable[..., threading.Thread]]:
    """Run something beside the test, and see that it ends."""
    threads = []

    def run(target: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        threads.append(thread)
        return thread

    yield run
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()


# -- reading by frame index ----------------------------------------------


def test_what_was_delivered_is_read_by_frame(hand_source: Any, frames_from: Any) -> None:
    source = hand_source(channels=2)
    with CaptureStream(source) as stream:
        source.deliver(100)
        source.deliver(50)

        assert stream.read(90, 20, FAR) == frames_from(90, 20, 2)


@given(
    blocks=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    step=st.integers(1, 25),
    channels=st.integers(1, 3),
)
def test_consecutive_reads_are_the_stream(
    hand_source: Any, frames_from: Any, blocks: list[int], step: int, channels: int
) -> None:
    source = hand_source(channels=channels)
    position, got = 0, b""

    with CaptureStream(source, ring_seconds=0.064) as stream:
        for block in blocks:
            source.deliver(block)
            while position + step <= stream.written:
                got += stream.read(position, step, FAR)
                position += step

    assert got == frames_from(0, position, channels)
    assert stream.overruns(0, position) == []


def test_a_read_waits_for_sound_that_is_still_to_come(
    hand_source: Any, frames_from: Any, in_thread: Any
) -> None:
    source = hand_source()
    with CaptureStream(source) as stream:
        source.deliver(10)
        got: list[bytes] = []
        reader = in_thread(lambda: got.append(stream.read(5, 10, FAR)))

        source.deliver(10)

        reader.join(DEADLINE)
    assert got == [frames_from(5, 10)]


def test_sound_that_was_read_too_late_is_silence_and_an_overrun(
    hand_source: Any, frames_from: Any
) -> None:
    source = hand_source()
    with CaptureStream(source, ring_seconds=0.1) as stream:
        for _ in range(13):
            source.deliver(10)

        content = stream.read(0, 100, FAR)

    assert content == bytes(2 * 30) + frames_from(30, 70)
    assert [(o.frame, o.frames) for o in stream.overruns(0, 100)] == [(0, 30)]


def test_a_block_larger_than_the_ring_leaves_its_end(hand_source: Any, frames_from: Any) -> None:
    source = hand_source()
    with CaptureStream(source, ring_seconds=0.05) as stream:
        source.deliver(7)
        source.deliver(120)

        assert stream.read(77, 50, FAR) == frames_from(77, 50)


def test_more_than_the_ring_holds_cannot_be_asked_for(hand_source: Any) -> None:
    with (
        CaptureStream(hand_source(), ring_seconds=0.1) as stream,
        pytest.raises(ValueError, match="1 to 100"),
    ):
        stream.read(0, 101, FAR)


def test_an_overrun_is_counted_and_silence_stands_in_its_place(
    hand_source: Any, frames_from: Any
) -> None:
    source = hand_source()
    with CaptureStream(source) as stream:
        source.deliver(100, time=10.0)
        source.deliver(100, time=10.35, overrun=True)

        got = stream.read(0, 450, FAR)

    assert got == frames_from(0, 100) + bytes(2 * 250) + frames_from(100, 100)
    assert stream.overruns(0, 450) == [data.Overrun(100, 250)]
    assert stream.overruns(300, 100) == [data.Overrun(300, 50)]
    assert stream.overruns(350, 100) == []


def test_an_overrun_longer_than_the_ring_is_counted_in_full(
    hand_source: Any, frames_from: Any
) -> None:
    source = hand_source()
    with CaptureStream(source, ring_seconds=0.1) as stream:
        source.deliver(50, time=10.0)
        source.deliver(50, time=12.0, overrun=True)

        assert stream.written == 2050
        assert stream.read(2000, 50, FAR) == frames_from(50, 50)
        assert stream.read(1950, 50, FAR) == bytes(100)


# -- when ----------------------------------------------------------------


def test_frames_and_times_are_each_others_opposite(hand_source: Any) -> None:
    source = hand_source()
    with CaptureStream(source) as stream:
        source.deliver(100, time=50.0)

    assert stream.time_of(0) == 50.0
    assert stream.time_of(250) == pytest.approx(50.25)
    assert stream.frame_at(50.25) == 250
    assert stream.frame_at(1.0) == 0


def test_late_blocks_do_not_move_the_clock(hand_source: Any) -> None:
    source = hand_source()
    lateness = [0.2, 0.0, 0.13, 0.07, 0.002, 0.3, 0.04]
    with CaptureStream(source) as stream:
        for index, late in enumerate(lateness):
            source.deliver(100, time=50 + index * 0.1 + late)

    assert stream.time_of(0) == pytest.approx(50.0, abs=1e-3)


def test_a_device_whose_clock_is_slow_is_followed(hand_source: Any) -> None:
    source = hand_source()
    with CaptureStream(source) as stream:
        for index in range(1000):
            source.deliver(100, time=50 + index * 0.1 * (1 + 100e-6))

    assert stream.time_of(99_900) == pytest.approx(50 + 99.9 * (1 + 100e-6), abs=1e-4)


def test_after_an_overrun_time_goes_on_from_there(hand_source: Any) -> None:
    source = hand_source()
    with CaptureStream(source) as stream:
        source.deliver(100, time=50.0)
        source.deliver(100, time=53.0, overrun=True)

    assert stream.written == 3100
    assert stream.time_of(3000) == 53.0


def test_utc_follows_the_system_clock(hand_source: Any, clock: MovingClock) -> None:
    source = hand_source()
    with CaptureStream(source) as stream:
        source.deliver(100, time=90.0)

        ago = (data.utc_now() - stream.utc_of(0)).total_seconds()

    assert ago == pytest.approx(10)


def test_the_first_recording_begins_with_the_stream(hand_source: Any, clock: MovingClock) -> None:
    source = hand_source()
    with CaptureStream(source) as stream:
        source.deliver(100, time=clock.seconds)

        assert stream.next_frame() == 0


def test_the_next_recording_begins_at_once(hand_source: Any, clock: MovingClock) -> None:
    source = hand_source()
    with CaptureStream(source) as stream:
        source.deliver(1000, time=clock.seconds)
        stream.read(0, 10, FAR)
        clock.seconds += 3.5

        assert stream.next_frame() == 3500


# -- what goes wrong -----------------------------------------------------


def test_a_device_that_delivers_nothing_is_unavailable(
    hand_source: Any, clock: MovingClock
) -> None:
    with CaptureStream(hand_source()) as stream:
        clock.seconds += STALL_SECONDS
        clock.each_look = STALL_SECONDS / 2

        with pytest.raises(DeviceUnavailableError, match="delivers nothing"):
            stream.read(0, 1, FAR)


def test_a_device_is_given_up_well_within_ten_seconds() -> None:
    assert STALL_SECONDS <= 8


def test_a_device_that_stops_is_a_recording_error(hand_source: Any, clock: MovingClock) -> None:
    source = hand_source()
    with CaptureStream(source) as stream:
        source.deliver(10)
        clock.each_look = STALL_SECONDS / 2

        with pytest.raises(RecordingError, match="stopped"):
            stream.read(0, 11, FAR)


class Frozen(MovingClock):
    """A clock that jumps at its nth look: the process was stopped meanwhile."""

    left = 0
    """Looks until it jumps."""

    def thawed(self) -> None:
        """Happens at the look after the jump, as a source that goes on."""

    def monotonic(self) -> float:
        self.left -= 1
        if self.left == 0:
            self.seconds += 12
        if self.left == -1:
            self.thawed()
        return super().monotonic()


@pytest.mark.parametrize("deadline", [FAR, 101.0])
def test_a_wait_that_was_frozen_does_not_blame_the_device(
    hand_source: Any, monkeypatch: pytest.MonkeyPatch, deadline: float
) -> None:
    clock, source = Frozen(), hand_source()
    clock.install(monkeypatch)
    with CaptureStream(source) as stream:
        source.deliver(10, time=100.0)
        clock.left = 3
        clock.thawed = lambda: source.deliver(1000, time=100.01)

        stream.read(0, 1010, deadline)

    assert stream.failure is None


def test_a_look_that_was_frozen_does_not_blame_the_device(
    hand_source: Any, clock: MovingClock
) -> None:
    with CaptureStream(hand_source()) as stream:
        stream.watch()
        clock.seconds += 12

        assert stream.loss is None

        for _ in range(2 * math.ceil(STALL_SECONDS)):
            clock.seconds += WATCH_SECONDS
            assert stream.loss is None or clock.seconds >= 112 + STALL_SECONDS

        assert stream.loss is not None


def test_a_device_that_is_watched_is_lost_in_time(hand_source: Any, clock: MovingClock) -> None:
    with CaptureStream(hand_source()) as stream:
        stream.watch()
        began = clock.seconds
        while stream.loss is None:
            clock.seconds += WATCH_SECONDS

    assert clock.seconds - began == STALL_SECONDS


def test_a_machine_that_is_always_late_still_gives_a_device_up(
    hand_source: Any, clock: MovingClock
) -> None:
    with CaptureStream(hand_source()) as stream:
        clock.each_look = 30

        with pytest.raises(DeviceUnavailableError):
            stream.read(0, 1, clock.seconds + 1000)


def test_a_deadline_is_kept(hand_source: Any, clock: MovingClock) -> None:
    source = hand_source()
    with CaptureStream(source) as stream:
        source.deliver(10)

        with pytest.raises(RecordingError, match="slower"):
            stream.read(0, 11, clock.seconds)


def test_what_the_source_reports_reaches_the_reader(hand_source: Any) -> None:
    source = hand_source()
    with CaptureStream(source) as stream:
        source.deliver(10)
        stream.fail(RecordingError("unplugged"))

        assert stream.read(0, 10, FAR)
        with pytest.raises(RecordingError, match="unplugged"):
            stream.read(0, 11, FAR)
    assert not stream.is_alive


def test_each_reader_has_an_error_of_its_own(hand_source: Any) -> None:
    with CaptureStream(hand_source()) as stream:
        stream.fail(RecordingError("unplugged", why="somebody pulled."))
        with pytest.raises(RecordingError) as first:
            stream.read(0, 1, FAR)
        first.value.kept = "a recording of the first"

        with pytest.raises(RecordingError, match="unplugged") as second:
            stream.read(0, 1, FAR)

    assert second.value.kept is None
    assert second.value.why == "somebody pulled."


def test_closing_wakes_the_reader(hand_source: Any, in_thread: Any) -> None:
    stream = CaptureStream(hand_source()).open()
    errors: list[Exception] = []

    def read() -> None:
        try:
            stream.read(0, 1, FAR)
        except RecordingError as error:
            errors.append(error)

    reader = in_thread(read)
    stream.close()

    reader.join(DEADLINE)
    assert len(errors) == 1


def test_a_source_that_does_not_start_is_stopped(hand_source: Any) -> None:
    source = hand_source()
    source.error = DeviceUnavailableError("no")

    with pytest.raises(DeviceUnavailableError):
        CaptureStream(source).open()

    assert source.stops == 1


def test_a_source_that_waits_loses_nothing(
    hand_source: Any, frames_from: Any, in_thread: Any
) -> None:
    source = hand_source(waits=True)
    stream = CaptureStream(source, ring_seconds=0.05).open()

    def pump() -> None:
        while source.deliver(20):
            pass

    in_thread(pump)
    got = b"".join(stream.read(start, 25, FAR) for start in range(0, 5000, 25))
    stream.close()

    assert got == frames_from(0, 5000)
    assert stream.overruns(0, 5000) == []


# -- one stream for each device ------------------------------------------


def test_a_stream_stays_open_between_uses(hand_source: Any) -> None:
    pool, source = StreamPool(), hand_source()

    for _ in range(3):
        with pool.using(lambda: source):
            source.deliver(10)

    assert (source.starts, source.stops) == (1, 0)
    pool.close("hand")
    assert source.stops == 1


def test_a_stream_is_closed_after_use_if_asked(hand_source: Any) -> None:
    pool, source = StreamPool(), hand_source()

    with pool.using(lambda: source, keep=False):
        pass

    assert source.stops == 1


def test_a_look_at_a_stream_that_was_open_leaves_it_open(hand_source: Any) -> None:
    pool, source = StreamPool(), hand_source()
    with pool.using(lambda: source):
        pass

    with pool.using(lambda: source, keep=False):
        pass

    assert source.stops == 0


def test_two_recorders_share_a_device(hand_source: Any) -> None:
    pool, one, two = StreamPool(), hand_source(), hand_source()

    with pool.using(lambda: one) as first, pool.using(lambda: two) as second:
        assert first is second

    assert two.starts == 0


def test_a_device_in_use_at_another_rate_is_refused(hand_source: Any) -> None:
    pool, one, two = StreamPool(), hand_source(1000), hand_source(2000)

    with (
        pool.using(lambda: one),
        pytest.raises(DeviceUnavailableError) as caught,
        pool.using(lambda: two),
    ):
        pass

    assert "2000 Hz" in caught.value.message
    assert "1000 Hz" in str(caught.value.why)


def test_an_idle_device_changes_its_rate(hand_source: Any) -> None:
    pool, one, two = StreamPool(), hand_source(1000), hand_source(2000)
    with pool.using(lambda: one):
        pass

    with pool.using(lambda: two) as stream:
        assert stream.samplerate == 2000

    assert one.stops == 1


def test_a_device_that_failed_is_opened_anew(hand_source: Any) -> None:
    pool, source = StreamPool(), hand_source()

    with pytest.raises(RecordingError), pool.using(lambda: source):
        raise RecordingError("unplugged")
    with pool.using(lambda: source):
        pass

    assert (source.starts, source.stops) == (2, 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a fault of ours")])
def test_what_is_not_the_devices_fault_leaves_the_stream_open(
    hand_source: Any, error: BaseException
) -> None:
    pool, source = StreamPool(), hand_source()

    with pytest.raises(type(error)), pool.using(lambda: source):
        raise error

    assert source.stops == 0


def test_a_device_that_fell_silent_while_idle_is_opened_anew(
    hand_source: Any, clock: MovingClock
) -> None:
    pool, source = StreamPool(), hand_source()
    with pool.using(lambda: source):
        source.deliver(10)

    clock.seconds += STALL_SECONDS + 1
    with pool.using(lambda: source):
        pass

    assert source.starts == 2


def test_a_device_held_by_an_idle_stream_of_ours_is_freed(hand_source: Any) -> None:
    pool, idle, wanted = StreamPool(), hand_source(), hand_source()
    wanted_class = type("Other", (hand_source,), {"key": property(lambda _: "other")})
    wanted = wanted_class()

    def start(sink: Any) -> None:
        if not idle.stops:
            raise DeviceUnavailableError("busy")

    wanted.start = start
    with pool.using(lambda: idle):
        pass

    with pool.using(lambda: wanted):
        pass

    assert idle.stops == 1


def test_streams_do_not_keep_rings_after_they_are_closed(hand_source: Any) -> None:
    pool, source = StreamPool(), hand_source()
    with pool.using(lambda: source, keep=False):
        pass
    source.sink = None

    gc.collect()

    assert [
        o for o in gc.get_objects() if isinstance(o, CaptureStream) and o.source is source
    ] == []


def test_a_fork_opens_its_own_and_leaves_its_parents_alone(
    hand_source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, source, own = StreamPool(), hand_source(), hand_source()
    with pool.using(lambda: source):
        pass
    monkeypatch.setattr(os, "getpid", lambda: -1)

    pool.close("hand")
    with pool.using(lambda: own):
        pass

    assert source.stops == 0
    assert own.starts == 1
