"""A worker's own clock: it records its slots whether or not an order comes for them.

Beat orders recordings through the broker, which may be full, gone, or compromised. So the worker
that records reads the same schedule, and makes an order itself if none has come in time. Each slot
of the clock is recorded once: a later order is answered "already recorded". Continuous recordings
need no such check: each order is for the next frames of the stream, and none is recorded twice.

The worker that looks for faults does so in the same way, and sends what it finds: a beat or a
broker that is down is a fault that must be reported.

Results go to other workers through an `Outbox`; recording does not wait for it.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from acoupi import clock
from acoupi.services.entries import (
    Aligned,
    ClockSteps,
    Entry,
    Interval,
    UnknownSchedule,
    When,
)

__all__ = ["Outbox", "RecorderClock"]

logger = logging.getLogger(__name__)

GRACE = 2.0
"""Longest time that an order may be late, seconds: much less than the ring of a recorder holds."""
LOOK_AGAIN = 0.5
"""Seconds until an order is repeated that a busy worker has refused."""
LEAST_SLEEP, LONGEST_SLEEP = 0.05, 5.0
"""Seconds between two looks at the clock, which may have been set."""
START_PATIENCE = 20.0
"""Seconds that beat is given for its first order after the start."""
OUTBOX_MOST = 64
"""Most results that wait to be sent; recovery sends any others from the store."""
OUTBOX_PATIENCE = 5.0
"""Seconds to send waiting results when the worker stops."""
SAY_EVERY = 60.0


@dataclass
class _Slots:
    """The state of the slots of one entry."""

    entry: Entry
    last_run: datetime
    """When its slot started, on the wall clock."""
    due: float | None
    """When to order it here, on the monotonic clock; None: it has been ordered."""
    was_ordered_here: bool = False


class RecorderClock:
    """Orders recordings for which no order came.

    Parameters
    ----------
    entries
        Entries of the recording tasks; those with an `UnknownSchedule` are left out.
    order
        Runs an entry here; returns False while the worker is busy.
    patience
        How long to wait for the first order, seconds.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        order: Callable[[Entry], bool],
        patience: float = START_PATIENCE,
    ) -> None:
        self._order = order
        self._lock = threading.Lock()
        self._steps = ClockSteps()
        wall = clock.utc_now()
        self._begin = clock.monotonic() + patience
        self._slots = [
            _Slots(entry, wall, self._begin if _is_interval(entry) else None)
            for entry in entries
            if not isinstance(entry.schedule, UnknownSchedule)
        ]
        self._is_needed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder-clock", daemon=True)

    def start(self) -> None:
        """Start following the schedule."""
        if self._slots:
            self._thread.start()

    def stop(self) -> None:
        """Stop ordering."""
        self._stop.set()

    def came(self, task: str) -> bool:
        """Note that an order came; return whether its slot has not been recorded yet."""
        with self._lock:
            self._look()
            self._begin = min(self._begin, clock.monotonic())
            known = [slots for slots in self._slots if slots.entry.task == task]
            return [self._accept(slots) for slots in known].count(False) == 0

    def tick(self) -> float:
        """Make orders that have not come in time; return the seconds until the next check."""
        with self._lock:
            self._look()
            now = clock.monotonic()
            for slots in self._slots if now >= self._begin else ():
                if slots.due is not None and now >= slots.due:
                    self._serve(slots, now)
            nearest = min(seconds for slots in self._slots for seconds in self._waits(slots, now))
            return min(max(nearest, LEAST_SLEEP), LONGEST_SLEEP)

    def _waits(self, slots: _Slots, now: float) -> Iterator[float]:
        """Yield the seconds until an order is due, and until the next slot of the clock."""
        if slots.due is not None:
            yield max(slots.due, self._begin) - now
        if not isinstance(slots.entry.schedule, Interval | UnknownSchedule):
            yield slots.entry.schedule.is_due(slots.last_run)[1]

    def _accept(self, slots: _Slots) -> bool:
        every = slots.entry.schedule
        if isinstance(every, Interval):
            slots.due = clock.monotonic() + every.seconds + _grace(slots.entry)
        elif slots.was_ordered_here:
            return False
        else:
            slots.due = None
        if self._is_needed:
            logger.info("Orders are arriving again.")
        self._is_needed = False
        return True

    def _serve(self, slots: _Slots, now: float) -> None:
        if not self._order(slots.entry):
            slots.due = now + LOOK_AGAIN
            return
        if not self._is_needed:
            logger.warning(
                "No order of %s has come in time: this worker keeps time itself.", slots.entry.task
            )
        self._is_needed = slots.was_ordered_here = True
        every = slots.entry.schedule
        slots.due = now + every.seconds if isinstance(every, Interval) else None

    def _look(self) -> None:
        """Start the slots that are due by the wall clock."""
        has_stepped = bool(self._steps.stepped())
        for slots in self._slots:
            if isinstance(slots.entry.schedule, Interval | UnknownSchedule):
                continue
            if has_stepped:
                slots.last_run, slots.due = clock.utc_now(), None
                slots.was_ordered_here = False
            elif _is_due(slots.entry.schedule, slots.last_run):
                slots.last_run = clock.utc_now()
                slots.due = clock.monotonic() + _grace(slots.entry)
                slots.was_ordered_here = False

    def _run(self) -> None:
        seconds = LOOK_AGAIN
        while not self._stop.wait(seconds):
            try:
                seconds = self.tick()
            except Exception:
                seconds = LONGEST_SLEEP
                logger.exception("The recorder's own clock failed; it continues.")


def _is_interval(entry: Entry) -> bool:
    return isinstance(entry.schedule, Interval)


def _is_due(when: When, last_run: datetime) -> bool:
    is_due, _ = when.is_due(last_run)
    return bool(is_due)


def _grace(entry: Entry) -> float:
    every = entry.schedule.seconds if isinstance(entry.schedule, Interval | Aligned) else 60.0
    return min(GRACE, every / 2)


class Outbox:
    """Sends in a thread of its own, so that nothing waits for a broker."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(OUTBOX_MOST)
        self._said_on: float | None = None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def __call__(self, send: Callable[[], None]) -> None:
        """Send something soon."""
        try:
            self._waiting.put_nowait(send)
        except queue.Full:
            self._say("too many are waiting already")

    def close(self) -> None:
        """Send waiting results, for a short time."""
        try:
            self._waiting.put(None, timeout=OUTBOX_PATIENCE)
        except queue.Full:
            return
        self._thread.join(OUTBOX_PATIENCE)

    def _run(self) -> None:
        while (send := self._waiting.get()) is not None:
            try:
                send()
            except Exception as error:  # noqa: BLE001 - the store knows what is to be done
                self._say(f"{type(error).__name__}: {error}")

    def _say(self, why: str) -> None:
        now = clock.monotonic()
        if self._said_on is None or now - self._said_on >= SAY_EVERY:
            self._said_on = now
            logger.error("A recording could not be passed on; recovery will do so later: %s.", why)
