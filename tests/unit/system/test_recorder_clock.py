"""The recorder's own clock: which slots it orders, and which it leaves to beat."""

import threading

import pytest

from acoupi.services.entries import Aligned, Entry, Interval, When
from acoupi.services.recorder_clock import (
    LONGEST_SLEEP,
    LOOK_AGAIN,
    OUTBOX_MOST,
    Outbox,
    RecorderClock,
)
from tests.clocks import Clock
from tests.services import DEADLINE


class Recorder:
    """A recorder's clock, and when it ordered something: seconds since the start."""

    def __init__(self, clock: Clock, schedule: Interval | When) -> None:
        self.time = clock
        self.start = clock.seconds
        self.orders: list[float] = []
        self.is_busy = False
        entry = Entry("recording_task", "recording_task", "recording", schedule)
        self.clock = RecorderClock([entry], self.order, patience=2)

    def order(self, entry: Entry) -> bool:
        if not self.is_busy:
            self.orders.append(self.time.seconds - self.start)
        return not self.is_busy

    def came(self) -> bool:
        return self.clock.came("recording_task")

    def run(self, seconds: float, beat_every: float | None = None) -> list[bool]:
        """Let time pass, with an order of beat now and then; return the answers to these."""
        answers = []
        for step in range(1, round(seconds * 4) + 1):
            self.time.advance(0.25)
            if beat_every and step * 0.25 % beat_every == 0:
                answers.append(self.came())
            self.clock.tick()
        return answers


def test_while_orders_come_it_makes_none(clock: Clock) -> None:
    recorder = Recorder(clock, Interval(5))
    recorder.came()

    assert all(recorder.run(60, beat_every=5))

    assert recorder.orders == []


def test_without_orders_it_keeps_the_interval(clock: Clock) -> None:
    recorder = Recorder(clock, Interval(5))
    recorder.came()

    recorder.run(30)

    assert recorder.orders == [7, 12, 17, 22, 27]


def test_an_order_without_a_pause_between_recordings_is_for_the_next_frames(
    clock: Clock,
) -> None:
    recorder = Recorder(clock, Interval(5))
    recorder.run(8)
    assert recorder.orders == [2, 7]

    assert recorder.came()

    recorder.run(6)
    assert recorder.orders == [2, 7]


def test_before_the_first_order_it_waits_for_beat_to_start(clock: Clock) -> None:
    orders: list[Entry] = []
    entry = Entry("recording_task", "recording_task", "recording", Aligned(5))

    def order(entry: Entry) -> bool:
        orders.append(entry)
        return True

    keeper = RecorderClock([entry], order)
    for _ in range(19):
        clock.advance(1)
        keeper.tick()
    assert orders == []
    for _ in range(4):
        clock.advance(1)
        keeper.tick()

    assert orders == [entry]


def test_without_orders_it_keeps_the_slots_of_the_clock(clock: Clock) -> None:
    recorder = Recorder(clock, Aligned(10))  # a quarter of a second after one began

    recorder.run(40)

    assert recorder.orders == [11.75, 21.75, 31.75]


def test_a_slot_is_recorded_once_whoever_is_late(clock: Clock) -> None:
    recorder = Recorder(clock, Aligned(10))
    recorder.run(12)
    assert recorder.orders == [11.75]

    assert not recorder.came(), "of the slot that it has ordered itself"

    recorder.run(8)
    assert recorder.came(), "of the next slot"
    recorder.run(10)
    assert recorder.orders == [11.75]


def test_an_order_that_comes_before_it_has_looked_is_of_the_new_slot(clock: Clock) -> None:
    recorder = Recorder(clock, Aligned(10))
    recorder.run(12)
    clock.advance(8)

    assert recorder.came()

    recorder.run(9)
    assert recorder.orders == [11.75]


@pytest.mark.parametrize("step", [-3600, 3600])
def test_a_clock_that_is_set_costs_no_slot(clock: Clock, step: float) -> None:
    recorder = Recorder(clock, Aligned(10))
    recorder.run(12)
    clock.step(step)

    assert recorder.came()

    recorder.run(20)
    assert recorder.orders == [11.75, 21.75, 31.75]


def test_what_cannot_be_ordered_now_is_ordered_as_soon_as_it_can(clock: Clock) -> None:
    recorder = Recorder(clock, Aligned(60))
    recorder.is_busy = True
    recorder.run(65)
    recorder.is_busy = False

    recorder.run(1)

    assert len(recorder.orders) == 1


def test_it_sleeps_until_an_order_may_be_missing(clock: Clock) -> None:
    recorder = Recorder(clock, Interval(5))
    recorder.came()

    assert recorder.clock.tick() == LONGEST_SLEEP
    clock.advance(6)
    assert recorder.clock.tick() == 1
    recorder.is_busy = True
    clock.advance(1)
    assert recorder.clock.tick() == LOOK_AGAIN


def test_it_sleeps_until_the_next_slot_of_the_clock(clock: Clock) -> None:
    recorder = Recorder(clock, Aligned(10))  # a quarter of a second after one began
    recorder.came()

    assert recorder.clock.tick() == LONGEST_SLEEP
    clock.advance(7)
    assert recorder.clock.tick() == 2.75


def test_nothing_waits_for_what_is_sent() -> None:
    begun, gate, sent = threading.Event(), threading.Event(), list[int]()
    outbox = Outbox()

    def fail() -> None:
        begun.set()
        gate.wait(DEADLINE)
        raise ConnectionError("the broker is away")

    outbox(fail)
    assert begun.wait(DEADLINE)  # or it takes one of the places
    for number in range(OUTBOX_MOST + 10):
        outbox(lambda number=number: sent.append(number))  # type: ignore[misc]
    assert sent == []
    gate.set()
    outbox.close()

    assert sent == list(range(OUTBOX_MOST))
