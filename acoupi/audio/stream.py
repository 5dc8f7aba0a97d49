"""The capture stream: a source writes into a ring buffer, readers take sound out by frame."""

import datetime
import mmap
import threading
from collections import deque
from copy import copy
from types import TracebackType
from typing import Self
from uuid import uuid4

from acoupi import data
from acoupi.audio.clock import SampleClock
from acoupi.audio.sources import AudioSource
from acoupi.audio.system_clock import Timeline
from acoupi.errors import AcoupiError, DeviceUnavailableError, RecordingError

__all__ = ["RING_SECONDS", "STALL_SECONDS", "CaptureStream"]

RING_SECONDS = 30.0
"""How long a busy disk may delay a reader before sound is lost, seconds."""
STALL_SECONDS = 5.0
"""How long a device may deliver nothing before it counts as lost, seconds."""
WATCH_SECONDS = 0.5
"""Longest time between two looks at a stream that is being watched, seconds."""
_FROZEN_SECONDS = 1.0
"""A wait that ends this much too late was frozen, as with a suspended machine or a paused
container: the device had no chance to deliver either, so its silence proves nothing."""
_WAIT_SECONDS = 0.25
_MOST_FROZEN = 3
"""Most frozen waits that are excused: a machine may be slow for ever."""
_READ_AHEAD_SECONDS = 1.0
_MARGIN_SECONDS = 0.5
"""How far a reader stays from where the ring is being overwritten."""


class CaptureStream:
    """Keeps the latest sound of a source, to be read by frame index.

    The source's thread only copies into a preallocated ring, so a busy disk,
    garbage collection or a late task cannot disturb it. Frames are counted from
    the opening of the stream. Sound that the device lost is counted, too, with
    silence in its place, so that a frame's number always tells its time.

    Parameters
    ----------
    source
        Not started yet; `open` starts it.
    ring_seconds
        How much sound the ring holds; None means 30 s, or 1 s for a source
        that waits for its reader.
    warm_up
        Seconds at the beginning that are unusable; no recording begins in them.
    """

    def __init__(
        self,
        source: AudioSource,
        *,
        ring_seconds: float | None = None,
        warm_up: float = 0.0,
    ) -> None:
        if ring_seconds is None:
            ring_seconds = _READ_AHEAD_SECONDS if source.waits_for_reader else RING_SECONDS
        self.id = uuid4()
        """Id of this opening: another stream counts its frames from another moment."""
        self.source = source
        self.samplerate = source.samplerate
        self.channels = source.channels
        self.sample_bytes = source.sample_bytes
        self.capacity = max(1, round(ring_seconds * source.samplerate))
        self.first_good = round(warm_up * source.samplerate)
        """First frame at which a recording may start."""
        self.clock = SampleClock(source.samplerate)
        self.timeline = Timeline()
        self._frame_bytes = source.sample_bytes * source.channels
        self._ring = mmap.mmap(-1, self.capacity * self._frame_bytes)
        self._changed = threading.Condition()
        self._claimed = 0  # Frames written or being written now.
        self._written = 0
        self._released = 0  # Frames that a waiting source may overwrite.
        self._read = False
        self._last_delivery = 0.0
        self._judged_from = 0.0
        """Silence before this time, on the clock of `data.monotonic`, proves nothing."""
        self._seen: float | None = None
        self._overruns: deque[data.Overrun] = deque(maxlen=10_000)
        self._failure: AcoupiError | None = None
        self._is_open = False

    # -- opening and closing -------------------------------------------------

    def open(self) -> Self:
        """Start the source; after an error nothing stays open."""
        self._is_open = True
        self._last_delivery = data.monotonic()
        try:
            self.source.start(self)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Stop the source and wake waiting readers; harmless when closed.

        A device that fell silent earlier stays marked as lost: what the ring
        holds can still be read.
        """
        with self._changed:
            self._failure = self.loss
            self._is_open = False
            self._changed.notify_all()
        self.source.stop()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_alive(self) -> bool:
        """Whether it is open and its device has delivered sound recently."""
        if not self._is_open or self._failure is not None:
            return False
        return self.source.waits_for_reader or self._silence() < STALL_SECONDS

    def watch(self, *, is_watched: bool = True) -> None:
        """Note that it is looked at every `WATCH_SECONDS` from now on, or no longer.

        So a look that comes much too late is known to have been frozen.
        """
        self._seen = data.monotonic() if is_watched else None

    def _silence(self) -> float:
        """Return for how long the device has delivered nothing, though it could, seconds."""
        now, seen = data.monotonic(), self._seen
        if seen is not None:
            if now - seen > WATCH_SECONDS + _FROZEN_SECONDS:
                self._judged_from = now
            self._seen = now
        return now - max(self._last_delivery, self._judged_from)

    # -- the source's side ---------------------------------------------------

    def deliver(
        self, block: memoryview, time: float, *, overrun: bool = False, lost: int | None = None
    ) -> bool:
        """Copy a block into the ring (see `Sink.deliver`)."""
        frames = len(block) // self._frame_bytes
        if self.source.waits_for_reader:
            if overrun and not self._wait_and_stand_in(lost or 0):
                return False
            if not self._wait_for_room(frames):
                return False
        else:
            if overrun:
                self._stand_in(self._frames_lost(time) if lost is None else lost)
            behind = self.clock.add(self._written, time, is_break=overrun)
            if behind:  # The driver lost that without reporting it.
                self._stand_in(round(behind * self.samplerate))
        self._claimed = self._written + frames
        self._copy_in(block)
        with self._changed:
            self._written += frames
            self._last_delivery = data.monotonic()
            self._changed.notify_all()
            return self._is_open

    def fail(self, error: AcoupiError) -> None:
        """Tell readers that no more sound will come."""
        with self._changed:
            if self._is_open and self._failure is None:
                self._failure = error
            self._changed.notify_all()

    def _copy_in(self, block: memoryview) -> None:
        size = self.capacity * self._frame_bytes
        start = self._written * self._frame_bytes
        if len(block) > size:  # Only the end of it would survive anyway.
            start += len(block) - size
            block = block[-size:]
        start %= size
        first = min(len(block), size - start)
        self._ring[start : start + first] = block[:first]
        if first < len(block):
            self._ring[: len(block) - first] = block[first:]

    def _wait_for_room(self, frames: int) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    not self._is_open or self._written + frames - self._released <= self.capacity
                )
            )
            return self._is_open

    def _frames_lost(self, time: float) -> int:
        """Estimate from the clocks how much was lost before a block of this time."""
        expected = self.clock.expect(self._written)
        return 0 if expected is None else max(0, round((time - expected) * self.samplerate))

    def _stand_in(self, frames: int) -> None:
        """Put silence where sound was lost."""
        self._note_overrun(self._written, frames)
        self._claimed = self._written + frames
        silence = bytes(min(frames, self.samplerate) * self._frame_bytes)
        left = min(frames, self.capacity)
        self._written += (
            frames - left
        )  # More than the ring holds: the rest would be overwritten anyway.
        while left > 0:
            block = silence[: left * self._frame_bytes]
            self._copy_in(memoryview(block))
            self._written += len(block) // self._frame_bytes
            left -= len(block) // self._frame_bytes

    def _wait_and_stand_in(self, frames: int) -> bool:
        """Put silence in as the reader makes room for it."""
        self._note_overrun(self._written, frames)
        silence = bytes(min(frames, self.capacity // 4) * self._frame_bytes)
        while frames > 0:
            block = memoryview(silence)[: frames * self._frame_bytes]
            if not self.deliver(block, 0.0):
                return False
            frames -= len(block) // self._frame_bytes
        return True

    def _note_overrun(self, frame: int, frames: int) -> None:
        with self._changed:
            self._overruns.append(data.Overrun(frame, frames))

    # -- the reader's side ---------------------------------------------------

    @property
    def written(self) -> int:
        """Number of frames since it was opened."""
        return self._written

    @property
    def oldest(self) -> int:
        """The first frame that can still be read in time."""
        if self.source.waits_for_reader:
            return self._released
        margin = min(self.capacity // 4, round(_MARGIN_SECONDS * self.samplerate))
        return max(self.first_good, self._claimed - self.capacity + margin)

    @property
    def failure(self) -> AcoupiError | None:
        """Why no more sound will come; None while some may."""
        return self._failure

    @property
    def loss(self) -> AcoupiError | None:
        """Why its device counts as lost; None if it delivers, or was closed on purpose."""
        if self._failure is None and self._is_open and not self.is_alive:
            return self._stalled()
        return self._failure

    def next_frame(self) -> int:
        """Return the first frame of a recording that begins now.

        That is the first frame of the stream if nothing was read yet, otherwise
        the one being captured at this moment. A source that waits for its reader
        continues where it was last read, and its sound is dated when it is read.
        """
        if self.source.waits_for_reader:
            self.clock.restart(self._released, data.monotonic())
            return self._released
        now = self.frame_at(data.monotonic()) if self._read else 0
        return max(self.first_good, now)

    def frame_at(self, time: float) -> int:
        """Return the frame captured at a time of `data.monotonic`; it may be in the future."""
        return max(0, self.clock.frame_at(time)) if self.clock.is_set else self._written

    def frame_at_utc(self, time: float) -> int:
        """Return the frame captured at a time in seconds since 1970, UTC.

        Negative for a time before the stream was opened.
        """
        time -= self.timeline.offset
        return self.clock.frame_at(time) if self.clock.is_set else self._written

    def time_of(self, frame: int) -> float:
        """Return when a frame was captured, on the clock of `data.monotonic`."""
        if self.clock.is_set:
            return self.clock.time_of(frame)
        return data.monotonic() + (frame - self._written) / self.samplerate

    def utc_of(self, frame: int) -> datetime.datetime:
        """Return when a frame was captured (see `Timeline` for what UTC is)."""
        seconds = self.time_of(frame) + self.timeline.offset
        return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)

    def wait_for_sound(self, deadline: float) -> None:
        """Wait until frames have a time: after the first block, or some seconds of them.

        Raises
        ------
        DeviceError
            As `read`.
        """
        wanted = 0 if self.source.waits_for_reader else self.source.settle_seconds
        self._wait_for(max(1, round(wanted * self.samplerate)), deadline)

    def overruns(self, start: int, frames: int) -> list[data.Overrun]:
        """Return the sound lost within a stretch, oldest first, cut to it."""
        end = start + frames
        with self._changed:
            found = [o for o in self._overruns if o.frame < end and o.frame + o.frames >= start]
        cut = [
            data.Overrun(
                max(start, o.frame), max(0, min(end, o.frame + o.frames) - max(start, o.frame))
            )
            for o in found
            if o.frame + o.frames > start or o.frame == start
        ]
        return sorted(cut, key=lambda overrun: overrun.frame)

    def read(self, start: int, frames: int, deadline: float) -> bytes:
        """Return a stretch of sound, waiting until it is all there.

        Parameters
        ----------
        start
            First frame.
        frames
            How many; at most `capacity`.
        deadline
            Time of `data.monotonic` by which all of it must be there.

        Returns
        -------
        bytes
            Whole frames. What the ring no longer holds, because it was read
            too late, is replaced by silence and counted as an overrun.

        Raises
        ------
        DeviceUnavailableError
            If the device has delivered nothing at all for 5 s.
        RecordingError
            If it stopped delivering, failed or is late, or the stream was closed.
        """
        if not 0 < frames <= self.capacity:
            raise ValueError(f"frames must be 1 to {self.capacity}, not {frames}")
        self._read = True
        if self.clock.is_set:
            self.clock.steer()
        self._wait_for(start + frames, deadline)
        content, lost = self._copy_out(start, frames)
        with self._changed:
            if lost:
                self._overruns.append(data.Overrun(start, lost))
            self._released = max(self._released, start + frames)
            self._changed.notify_all()
        return content

    def peek(self, start: int, frames: int) -> bytes:
        """Return a stretch that is already captured, for viewers.

        Nobody waits, and nothing is noted: what the ring does not hold (any more) is silence.
        """
        return self._copy_out(start, frames)[0]

    def _wait_for(self, frame: int, deadline: float) -> None:
        woke = began = data.monotonic()
        frozen = 0
        with self._changed:
            while self._written < frame:
                if self._failure is not None:
                    # A reader adds what it kept to the error, so each gets its own.
                    raise copy(self._failure)
                if not self._is_open:
                    raise RecordingError(
                        f'stopped recording from "{self.source.name}".',
                        why="the stream was closed while it was being read.",
                    )
                now = data.monotonic()
                late, woke = now - woke - _WAIT_SECONDS, now
                if late > _FROZEN_SECONDS and frozen < _MOST_FROZEN:
                    frozen, began, deadline = frozen + 1, now, deadline + late
                    self._judged_from = now
                if now - max(self._last_delivery, began) >= STALL_SECONDS:
                    raise self._stalled()
                if now >= deadline:
                    raise self._late()
                self._changed.wait(min(_WAIT_SECONDS, deadline - now))

    def _copy_out(self, start: int, frames: int) -> tuple[bytes, int]:
        """Return the stretch, and how many frames at its beginning are lost."""
        size = self.capacity * self._frame_bytes
        begin = start * self._frame_bytes % size
        length = frames * self._frame_bytes
        content = self._ring[begin : begin + length]
        if len(content) < length:
            content += self._ring[: length - len(content)]
        # Checked after the copy: frames overwritten meanwhile are not valid.
        lost = min(frames, max(0, self._claimed - self.capacity - start))
        if lost:
            content = bytes(lost * self._frame_bytes) + content[lost * self._frame_bytes :]
        return content, lost

    def _stalled(self) -> AcoupiError:
        if self._written:
            return RecordingError(
                f'the microphone "{self.source.name}" stopped.',
                "plug it in again; check that its power supply is strong enough",
                why=f"it has delivered nothing for {STALL_SECONDS:g} s.",
            )
        return DeviceUnavailableError(
            f'the microphone "{self.source.name}" delivers nothing.',
            "plug it in again, or choose another: acoupi devices",
            why=f"it opened, but delivered no sound for {STALL_SECONDS:g} s.",
        )

    def _late(self) -> RecordingError:
        return RecordingError(
            f'the microphone "{self.source.name}" is slower than it should be.',
            "check the rate it is set to: acoupi config get microphone.samplerate",
            why=f"it delivers less than {self.samplerate} frames per second.",
        )
