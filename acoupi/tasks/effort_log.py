"""The recorder's notes on its effort (see `acoupi.effort`)."""

import datetime
import functools
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Concatenate, ParamSpec, TypeVar

from acoupi import data
from acoupi.audio import system_clock
from acoupi.components import types
from acoupi.data import NO_POWER, SET_BACK, EffortSpan, EffortState
from acoupi.effort import NOTE_SECONDS, CapturePlan
from acoupi.errors import StoreError

__all__ = ["EffortLog", "state_of_failure"]

STARTING = "the recorder was starting"
UNASKED = "the recorder was not asked to record: beat or the broker did not answer"
STOOD_STILL = "the recorder stood still: it was frozen, or the board was too busy"
OFF = "the recorder left no trace: no power, a crash, a restart, or a disk it could not write to"

_STEP_SECONDS = 1.0
"""Least difference between the clocks that counts as a step, seconds."""
_NOISE_SECONDS = 0.1
"""By how much two readings of the clocks may differ, seconds; what is recorded counts as such."""
_STEP_SHARE = 1e-3
"""Largest rate at which a clock that is being slewed may differ from the monotonic clock."""
_LATE_SECONDS = 5.0
"""By how much an attempt to record may be late, seconds."""
_UNKNOWN_INTERVAL = 30.0
"""Longest time between two attempts to record in one note, seconds, if no plan is known."""
_MOST_UNWRITTEN = 1000


P = ParamSpec("P")
T = TypeVar("T")


def _one_at_a_time(
    method: "Callable[Concatenate[EffortLog, P], T]",
) -> "Callable[Concatenate[EffortLog, P], T]":
    """Allow one thread at a time: the recorder's, or the one that watches the microphone."""

    @functools.wraps(method)
    def locked(self: "EffortLog", /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            return method(self, *args, **kwargs)

    return locked


class EffortLog:
    """Notes in the store why nothing was recorded, in the recorder's process.

    An ongoing cause is one note that grows. It is written when it begins, and
    then every 30 s, so that a power cut hides little and the card is not worn
    out. Notes that the store does not accept are kept in memory and written
    later: a failing store never keeps the recorder from recording.

    Parameters
    ----------
    store
        Receives the notes.
    plan
        When the program plans to record; None: not known.
    logger
        Gets a line for each note.
    """

    def __init__(
        self, store: types.Store, plan: CapturePlan | None, logger: logging.Logger
    ) -> None:
        self._lock = threading.RLock()
        self._store = store
        self._plan = plan
        self._logger = logger
        self._deployment: data.Deployment | None = None
        self._began: datetime.datetime | None = None
        self._is_introduced = False
        self._was_running = False
        """Whether this process recorded for another deployment before."""
        self._known_until: datetime.datetime | None = None
        self._clocks: tuple[datetime.datetime, float] | None = None
        self._set_on: datetime.datetime | None = None
        """When the clock was last set while this process ran, by the new one."""
        self.steps = 0
        """How often the clock was set since this process began."""
        self._clock: data.BootClock | None = None
        self._idle_since: float | None = None
        """When the last attempt ended; None during one, and before the first."""
        self._open: EffortSpan | None = None
        self._written_at = 0.0
        self._is_written = True
        self._unwritten: list[tuple[data.Deployment, EffortSpan]] = []

    @_one_at_a_time
    def begin(self, deployment: data.Deployment) -> None:
        """Note, before an attempt to record, what happened since the last one.

        At the first attempt of a process that is the time for which the recorder
        was off; at any attempt, a step of the clock.
        """
        self._unasked()
        self._idle_since = None
        now = data.utc_now()
        if self._deployment is None or self._deployment.id != deployment.id:
            self.end()
            self._was_running = self._deployment is not None
            self._deployment, self._began, self._is_introduced = deployment, now, False
            self._known_until = now
        self._deployment = deployment
        self._clock = _doubted_clock()
        if not self._is_introduced:
            self._introduce(deployment)
        self._compare_clocks(now)

    @_one_at_a_time
    def waited(self, late: float = 0.0) -> None:
        """Note that this process was frozen, or that it was not asked to record.

        To be called every few seconds.

        Parameters
        ----------
        late
            By how much this call comes too late, seconds.
        """
        if late <= _LATE_SECONDS:
            self._unasked()
            return
        if self._idle_since is not None:
            self._idle_since += late  # nobody could ask
        now = data.utc_now()
        start = now - datetime.timedelta(seconds=late)
        self._write(EffortSpan(start, now, EffortState.NOT_RUNNING, STOOD_STILL, self._clock))

    @_one_at_a_time
    def stand_by(self) -> None:
        """Note nothing until the next attempt: no deployment is running."""
        self._idle_since = None

    def _unasked(self) -> None:
        """Note if the next attempt to record is overdue.

        What is known to keep it from recording may be what keeps others from asking,
        as a full disk does: then that goes on.
        """
        if self._plan is None or self._idle_since is None:
            return
        idle = data.monotonic() - self._idle_since
        if idle <= self._interval + _LATE_SECONDS:
            return
        now = data.utc_now()
        self._compare_clocks(now, is_missing=True)  # a note has the times of one clock
        going_on = self._open
        if going_on is not None and (going_on.detail == UNASKED or self._is_hindered):
            self._grow(replace(going_on, end=max(now, going_on.end)))
            return
        start, known = now - datetime.timedelta(seconds=idle), self._known_until
        if known is not None and abs((start - known).total_seconds()) <= self._interval:
            start = known
        self.end()
        if start < now:
            self._open = EffortSpan(start, now, EffortState.NOT_RUNNING, UNASKED, self._clock)
            self._grow(self._open, at_once=True)

    @property
    def _is_hindered(self) -> bool:
        hindrances = (EffortState.DISK_FULL, EffortState.DEVICE_MISSING)
        return self._open is not None and self._open.state in hindrances

    @_one_at_a_time
    def refused(self, state: EffortState, detail: str) -> None:
        """Note that a condition did not hold."""
        self._idle_since = data.monotonic()
        self._note(state, detail)

    @_one_at_a_time
    def failed(self, error: Exception) -> None:
        """Note that the recorder failed."""
        self._idle_since = data.monotonic()
        self._note(state_of_failure(error), str(error) or type(error).__name__)

    @_one_at_a_time
    def recorded(self, recording: data.Recording) -> None:
        """Take note of a recording; it needs no entry of its own."""
        self._idle_since = data.monotonic()
        self.end()
        self._known_until = recording.created_on + datetime.timedelta(seconds=recording.duration)

    @_one_at_a_time
    def stored(self) -> None:
        """Write earlier notes that the store did not accept; now it has accepted a recording."""
        self._write_waiting()

    @_one_at_a_time
    def device_missing(self, since: datetime.datetime, error: Exception) -> None:
        """Note that the microphone has been missing since then; see `DeviceListener`."""
        if self._deployment is None:
            return
        state, detail, now = EffortState.DEVICE_MISSING, str(error), data.utc_now()
        self._compare_clocks(now, is_missing=True)
        if self._set_on is not None and not self._set_on <= since <= now:
            since = self._set_on  # it was told by the clock of before
        going_on = self._open
        if going_on is not None and going_on.state is state and going_on.start <= since:
            self._grow(replace(going_on, end=max(now, going_on.end)))
        elif since < now:
            self.end()
            self._open = EffortSpan(since, now, state, detail, self._clock)
            self._grow(self._open, at_once=True)

    @_one_at_a_time
    def device_back(self) -> None:
        """Note that the microphone is back."""
        self._compare_clocks(data.utc_now(), is_missing=True)
        if self._open is not None and self._open.state is EffortState.DEVICE_MISSING:
            self._grow(replace(self._open, end=max(data.utc_now(), self._open.end)), at_once=True)
            self.end()

    @_one_at_a_time
    def end(self) -> None:
        """Write the notes that are not yet written."""
        if self._open is not None and not self._is_written:
            self._write(self._open)
        self._open, self._is_written = None, True

    def _introduce(self, deployment: data.Deployment) -> None:
        """Write the plan, and the time for which the recorder was off."""
        began = self._began or data.utc_now()
        boot = self._clock or system_clock.read_boot_clock()
        try:
            last = self._store.get_alive_until(deployment)
            here = self._alive_in_boot(deployment, boot)
            told = None if here is None else self._alive_by_right_clock(deployment, boot)
            if self._plan is not None:
                self._store.note_plan(deployment, self._plan, began)
        except StoreError as error:
            self._logger.warning("The store cannot tell how the recorder ended: %s", error)
            return
        self._is_introduced = True
        if self._was_running:
            return
        since = max(last or deployment.started_on, deployment.started_on)
        if here is not None:
            since = max(here, told) if told is not None and told <= began else here
        # What was last told may have been told by another clock than that of this boot.
        is_first = self._clock is not None and here is None and last is not None
        if since < began:
            detail = STARTING if last is None else NO_POWER if is_first else OFF
            self._write(EffortSpan(since, began, EffortState.NOT_RUNNING, detail, self._clock))
        elif is_first or (since - began).total_seconds() > 2 * self._interval + NOTE_SECONDS:
            self._write(EffortSpan(began, since, EffortState.CLOCK_UNKNOWN, SET_BACK, self._clock))

    def _alive_in_boot(
        self, deployment: data.Deployment, boot: data.BootClock | None
    ) -> datetime.datetime | None:
        """Return until when there was a recorder in this boot, by its present clock."""
        if boot is None:
            return None
        # What it told since it was set stays as it was told.
        until = self._store.get_alive_in_boot(
            deployment, boot.boot_id, before_set=self._clock is None
        )
        if until is None:
            return None
        return data.from_microseconds(round((until - _NOISE_SECONDS + boot.offset_s) * 1e6))

    def _alive_by_right_clock(
        self, deployment: data.Deployment, boot: data.BootClock | None
    ) -> datetime.datetime | None:
        """Return what was last told, but by the clock of this boot before it was set.

        None while the clock is not set: then it cannot be compared with what others told.
        """
        if boot is None or self._clock is not None:
            return None
        return self._store.get_alive_until(deployment, without=boot.boot_id)

    def _compare_clocks(self, now: datetime.datetime, *, is_missing: bool = False) -> None:
        """Note if the system clock was set since the last attempt."""
        monotonic = data.monotonic()
        before, self._clocks = self._clocks, (now, monotonic)
        if before is None:
            return
        elapsed = monotonic - before[1]
        step = (now - before[0]).total_seconds() - elapsed
        if abs(step) <= _STEP_SECONDS + _STEP_SHARE * elapsed:
            return
        expected = now - datetime.timedelta(seconds=step)
        going_on = self._open
        if is_missing and going_on is not None and going_on.state is EffortState.DEVICE_MISSING:
            # Until now, by the clock that it was told by.
            self._open = replace(going_on, end=max(going_on.end, expected))
            self._is_written = False
        self.end()
        self.steps += 1
        way = "forward" if step > 0 else "back"
        detail = f"the clock was set {way} by {abs(step):.1f} s"
        self._logger.warning("Effort: %s", detail)
        start, end = min(now, expected), max(now, expected)
        # It is removed when times from before the step are corrected.
        clock = system_clock.read_boot_clock()
        self._write(EffortSpan(start, end, EffortState.CLOCK_UNKNOWN, detail, clock))
        self._known_until = self._set_on = now
        self._clock = _doubted_clock()

    def _note(self, state: EffortState, detail: str) -> None:
        now, attempt, steps = data.utc_now(), self._clocks, self.steps
        lasted = 0.0 if attempt is None else data.monotonic() - attempt[1]
        # The clock may have been set during the attempt.
        self._compare_clocks(now, is_missing=state is EffortState.DEVICE_MISSING)
        began = now - datetime.timedelta(seconds=lasted)
        reach = datetime.timedelta(seconds=self._interval)
        end = max(now, began + reach) if self._plan is not None else max(now, began)
        start, known = began, self._known_until if self.steps == steps else None
        if known is not None and began - reach - reach <= known <= now:
            start = known
        going_on = self._open
        if (
            going_on is not None
            and (going_on.state, going_on.detail) == (state, detail)
            and going_on.start <= start <= going_on.end + reach
        ):
            self._grow(replace(going_on, end=max(end, going_on.end)))
            return
        self.end()
        if start < end:
            self._open = EffortSpan(start, end, state, detail, self._clock)
            self._grow(self._open, at_once=True)

    def _grow(self, span: EffortSpan, *, at_once: bool = False) -> None:
        self._open, self._is_written = span, False
        self._known_until = max(span.end, self._known_until or span.end)
        if at_once or data.monotonic() - self._written_at >= NOTE_SECONDS:
            self._written_at = data.monotonic()
            self._is_written = True
            self._write(span)

    @property
    def _interval(self) -> float:
        """Seconds from one attempt to the next."""
        if self._plan is None:
            return _UNKNOWN_INTERVAL
        return max(self._plan.interval, self._plan.duration)

    def _write(self, span: EffortSpan) -> None:
        if self._deployment is None:
            return
        self._unwritten = [*self._unwritten, (self._deployment, span)][-_MOST_UNWRITTEN:]
        self._write_waiting()

    def _write_waiting(self) -> None:
        waiting, self._unwritten = self._unwritten, []
        for position, (deployment, note) in enumerate(waiting):
            try:
                self._store.note_effort(deployment, [note])
            except StoreError as error:
                self._unwritten = waiting[position:]
                self._logger.warning("The store does not accept effort notes now: %s", error)
                return


def _doubted_clock() -> data.BootClock | None:
    """Return the clock used for notes now, as long as it may still be corrected."""
    is_set = system_clock.read_clock_state().is_synchronised
    return None if is_set else system_clock.read_boot_clock()


def state_of_failure(error: BaseException) -> EffortState:
    """Return the effort state for a failure of the recorder: the disk's fault or the device's.

    Examples
    --------
    >>> state_of_failure(RuntimeError("no such device"))
    <EffortState.DEVICE_MISSING: 'device_missing'>
    """
    cause: BaseException | None = error
    while cause is not None:
        # An OSError of the file system has an errno; one of a sound library has none.
        if isinstance(cause, OSError) and cause.errno is not None:
            return EffortState.DISK_FULL
        cause = cause.__cause__
    return EffortState.DEVICE_MISSING
