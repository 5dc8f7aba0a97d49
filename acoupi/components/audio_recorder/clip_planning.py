"""Where in the stream the next recording begins.

Without an interval a recording begins now. With an interval no longer than the
recordings, each begins at the frame after the end of the last one. With a longer
one, recordings begin on slots: multiples of the interval in UTC since 1970, the
same on every device. However late the call, a recording begins at its proper
frame as long as the ring still holds it; what the ring no longer holds is counted
as a gap.
"""

import math
from dataclasses import dataclass

from acoupi import data
from acoupi.audio.stream import CaptureStream

__all__ = ["KEEP_SECONDS", "ClipPlan", "ClipPlanner", "Incomplete"]

KEEP_SECONDS = 0.1
"""An interrupted recording is kept if it is at least this long, seconds."""

_LONGEST_WAIT = 10.0
"""Longest wait for a slot, seconds (or the length of a recording, if that is longer)."""
_NOT_READY = "the microphone was not ready when it should have begun"


Incomplete = tuple[data.IncompleteReason, str]
"""Why a recording is shorter than planned: the reason, and the details."""


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """The part of a stream that is to become a recording."""

    start: int
    """First frame; it may be still to come."""
    frames: int
    gap: int = 0
    """Lost frames of planned time before it."""
    slot: int | None = None
    """Number of its slot."""
    incomplete: Incomplete | None = None
    """Why it is shorter than planned."""


class ClipPlanner:
    """Plans the recordings of one recorder.

    Parameters
    ----------
    duration
        Of a recording, seconds.
    interval
        Seconds from start to start; None: on request.
    """

    def __init__(self, duration: float, interval: float | None) -> None:
        self.duration = duration
        self.interval = interval
        self._stream: CaptureStream | None = None
        self._next: int | None = None
        self._slot: int | None = None
        self._skipped: tuple[CaptureStream, int] | None = None

    @property
    def is_continuous(self) -> bool:
        """Whether recordings follow each other without a gap."""
        return self.interval is not None and self.interval <= self.duration

    def plan(self, stream: CaptureStream) -> ClipPlan:
        """Return what to record next from a stream that has already delivered sound."""
        frames = max(1, round(self.duration * stream.samplerate))
        was_set = stream.timeline.settle()
        if self.interval is None or stream.source.waits_for_reader:
            return ClipPlan(stream.next_frame(), frames)
        if self.is_continuous:
            return self._plan_next(stream, frames)
        if was_set:
            self._slot = None
        plan = self._plan_slot(stream, frames)
        stream.clock.hold(plan.start)  # It begins exactly at its planned time.
        return plan

    def done(self, stream: CaptureStream, plan: ClipPlan, frames: int) -> None:
        """Note how many frames of a plan were recorded."""
        self._stream, self._next, self._skipped = stream, plan.start + frames, None
        if plan.slot is not None:
            self._slot = plan.slot

    def skip(self, stream: CaptureStream | None) -> None:
        """Note that the sound captured until now is not wanted."""
        self._next = self._slot = self._skipped = None
        if self.interval is None or stream is None or not stream.clock.is_set:
            return
        now = stream.frame_at(data.monotonic())
        self._skipped = (stream, now)
        if not self.is_continuous:
            self._slot = self._slot_at(stream, now)

    def forget(self) -> None:
        """Release the stream."""
        self._stream = self._skipped = None

    def remains(self) -> CaptureStream | None:
        """Return a stream that has ended but holds 0.1 s or more of unrecorded sound."""
        stream = self._stream
        if stream is None or stream.loss is None:
            return None
        start = self._start_of_rest(stream)
        if start is None or stream.written - start < KEEP_SECONDS * stream.samplerate:
            return None
        return stream

    def plan_rest(self, stream: CaptureStream) -> ClipPlan:
        """Return what to record of a stream that has ended."""
        frames = max(1, round(self.duration * stream.samplerate))
        slot = self._waiting_slot(stream)
        start = self._start_of_rest(stream) or 0
        if slot is not None and self._slot is not None:
            gap = frames * (slot - self._slot - 1)
        else:
            gap = start - (self._next or 0)
        left = stream.written - start
        loss = stream.loss
        reason = (data.IncompleteReason.DEVICE_LOST, loss.message) if loss else None
        return ClipPlan(
            start,
            min(frames, left),
            gap,
            slot,
            reason if left < frames else None,
        )

    def _start_of_rest(self, stream: CaptureStream) -> int | None:
        """Return the first frame in the ring for the next recording; None if there is none."""
        if self.is_continuous:
            return None if self._next is None else max(self._next, stream.oldest)
        slot = self._waiting_slot(stream)
        return None if slot is None else self._frame_of(stream, slot)

    def _waiting_slot(self, stream: CaptureStream) -> int | None:
        """Return the first slot after the last recording that the ring holds from its beginning."""
        if self._slot is None or self.is_continuous:
            return None
        now = self._slot_at(stream, stream.written)
        for slot in self._missed(stream, now):
            if stream.oldest <= self._frame_of(stream, slot) <= stream.written:
                return slot
        return None

    def is_behind(self, stream: CaptureStream | None) -> bool:
        """Return whether the ring holds a recording that can be made at once."""
        stream = stream or self._stream
        if stream is None or self.interval is None or stream.source.waits_for_reader:
            return False
        if self.remains() is not None:
            return True
        if stream.loss is not None or stream is not self._stream:
            return False
        if self.is_continuous:
            frames = round(self.duration * stream.samplerate)
            waiting = stream.written - self._next if self._next is not None else 0
            return waiting >= min(frames, stream.capacity // 2)
        return self._waiting_slot(stream) is not None

    def seconds_to_next(self, stream: CaptureStream) -> float | None:
        """Return how long it is until the next slot begins; None where there are none."""
        if self.interval is None or self.is_continuous or not stream.clock.is_set:
            return None
        now = self._slot_at(stream, stream.written)
        return (self._frame_of(stream, now + 1) - stream.written) / stream.samplerate

    def _plan_next(self, stream: CaptureStream, frames: int) -> ClipPlan:
        before, position = self._stream, self._next
        if position is None or before is None:
            return ClipPlan(self._first(stream), frames)
        if before is stream:
            start = max(position, stream.oldest)
            return ClipPlan(start, frames, gap=start - position)
        # The device was lost: everything that the new stream holds is wanted.
        start = stream.oldest
        away = stream.time_of(start) - before.time_of(position)
        return ClipPlan(start, frames, gap=max(0, round(away * stream.samplerate)))

    def _first(self, stream: CaptureStream) -> int:
        """Return where to start after a pause: at the interval in which recording resumes."""
        if self._skipped is None or self._skipped[0] is not stream:
            return stream.next_frame()
        slot = self._slot_at(stream, stream.frame_at(data.monotonic()))
        return max(self._frame_of(stream, slot), self._skipped[1], stream.oldest)

    def _plan_slot(self, stream: CaptureStream, frames: int) -> ClipPlan:
        now = self._slot_at(stream, stream.frame_at(data.monotonic()))
        if self._slot is not None and self._slot > now + 1:
            self._slot = None  # The clock was set back.
        missed = self._missed(stream, now)
        lost = frames * (missed.start - self._slot - 1) if self._slot is not None else 0
        for slot in missed:
            start = self._frame_of(stream, slot)
            late = stream.oldest - start
            if late <= 0:
                return ClipPlan(start, frames, gap=lost, slot=slot)
            if late < frames and slot == now:
                return self._plan_late(stream, slot, frames, lost)
            lost += frames if self._slot is not None else 0
        start = self._frame_of(stream, max(now, self._slot or now) + 1)
        if (start - stream.written) / stream.samplerate > max(_LONGEST_WAIT, self.duration):
            # The caller does not follow slots: better now than never.
            return ClipPlan(stream.next_frame(), frames, gap=lost)
        return ClipPlan(start, frames, gap=lost, slot=max(now, self._slot or now) + 1)

    def _plan_late(self, stream: CaptureStream, slot: int, frames: int, lost: int) -> ClipPlan:
        """Plan a recording whose slot began before the stream did: it ends before the next slot."""
        start = stream.oldest
        planned = self._frame_of(stream, slot)
        room = max(planned + frames, self._frame_of(stream, slot + 1)) - start
        reason = (data.IncompleteReason.DEVICE_LATE, _NOT_READY) if room < frames else None
        return ClipPlan(start, min(frames, room), lost + start - planned, slot, reason)

    def _missed(self, stream: CaptureStream, now: int) -> range:
        """Return the slots that are due and not yet recorded."""
        held = math.ceil(stream.capacity / stream.samplerate / (self.interval or 1)) + 1
        first = now if self._slot is None else self._slot + 1
        return range(max(first, now - 10 * held), now + 1)

    def _slot_at(self, stream: CaptureStream, frame: int) -> int:
        seconds = stream.time_of(frame) + stream.timeline.offset
        # One frame more, because rounding may have ended up just before the slot.
        return math.floor((seconds + 1 / stream.samplerate) / (self.interval or 1))

    def _frame_of(self, stream: CaptureStream, slot: int) -> int:
        return stream.frame_at_utc(slot * (self.interval or 1))
