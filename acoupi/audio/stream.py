"""The stream that captures: a source on one side, a ring in the middle, readers on the other."""

import datetime
import mmap
import threading
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from acoupi import data
from acoupi.audio.sources import SAMPLE_BYTES, AudioSource
from acoupi.errors import AcoupiError, DeviceUnavailableError, RecordingError

__all__ = ["RING_SECONDS", "STALL_SECONDS", "CaptureStream", "Overrun"]

RING_SECONDS = 30.0
"""How long a busy disk may keep the reader before sound is lost."""
STALL_SECONDS = 5.0
"""How long a device may deliver nothing before it counts as gone."""
_READ_AHEAD_SECONDS = 1.0
_DRIFT = 500e-6
"""Fastest that a device's clock is believed to run away from ours."""


@dataclass(frozen=True, slots=True)
class Overrun:
    """Sound that was lost."""

    frame: int
    """Frame of the stream before which it was."""
    frames: int | None
    """How much, as far as the clocks can tell; None if they cannot."""


class CaptureStream:
    """Keeps the latest sound of a source, to be read by frame index.

    The source's thread only copies into a ring that was made beforehand, so
    a busy disk, garbage collection or a late task do not reach it. Frames
    count from the opening of the stream.

    Parameters
    ----------
    source
        Not started yet; `open` starts it.
    ring_seconds
        How much sound the ring holds; None means 30 s, or 1 s for a source
        that waits for its reader.
    """

    def __init__(self, source: AudioSource, *, ring_seconds: float | None = None) -> None:
        if ring_seconds is None:
            ring_seconds = _READ_AHEAD_SECONDS if source.waits_for_reader else RING_SECONDS
        self.source = source
        self.samplerate = source.samplerate
        self.channels = source.channels
        self.capacity = max(1, round(ring_seconds * source.samplerate))
        self._frame_bytes = SAMPLE_BYTES * source.channels
        self._ring = mmap.mmap(-1, self.capacity * self._frame_bytes)
        self._changed = threading.Condition()
        self._claimed = 0  # Frames written or being written now.
        self._written = 0
        self._released = 0  # Frames that a source which waits may overwrite.
        self._read = False
        self._anchor: tuple[int, float] | None = None
        self._last_delivery = 0.0
        self._overruns: deque[Overrun] = deque(maxlen=10_000)
        self._failure: AcoupiError | None = None
        self._is_open = False

    # -- opening and closing -------------------------------------------------

    def open(self) -> Self:
        """Start the source; whatever goes wrong, nothing stays open."""
        self._is_open = True
        self._last_delivery = data.monotonic()
        try:
            self.source.start(self)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Stop the source and wake whoever waits; harmless when closed."""
        with self._changed:
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
        """Whether it is open and its device delivered something lately."""
        if not self._is_open or self._failure is not None:
            return False
        return (
            self.source.waits_for_reader or data.monotonic() - self._last_delivery < STALL_SECONDS
        )

    # -- the source's side ---------------------------------------------------

    def deliver(self, block: memoryview, time: float, *, overrun: bool = False) -> bool:
        """Copy a block into the ring (see `Sink.deliver`)."""
        frames = len(block) // self._frame_bytes
        if self.source.waits_for_reader:
            if not self._wait_for_room(frames):
                return False
        else:
            self._keep_time(time, overrun=overrun)
        self._claimed = self._written + frames
        self._copy_in(block)
        with self._changed:
            self._written += frames
            self._last_delivery = data.monotonic()
            self._changed.notify_all()
            return self._is_open

    def fail(self, error: AcoupiError) -> None:
        """Let readers know that nothing more will come."""
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

    def _keep_time(self, time: float, *, overrun: bool) -> None:
        """Follow the device's clock by its most punctual blocks (a block can only be late).

        The fit over hours, and what the system clock has to do with it, is
        the place of a SampleClock (design §5).
        """
        if self._anchor is not None:
            frame, then = self._anchor
            expected = then + (self._written - frame) / self.samplerate
            if not overrun:
                slack = _DRIFT * (self._written - frame) / self.samplerate
                time = min(time, expected + slack)
            else:
                lost = round((time - expected) * self.samplerate)
                self._overruns.append(Overrun(self._written, max(0, lost)))
        elif overrun:
            self._overruns.append(Overrun(self._written, None))
        self._anchor = (self._written, time)

    # -- the reader's side ---------------------------------------------------

    @property
    def written(self) -> int:
        """How many frames there have been since it was opened."""
        return self._written

    def next_frame(self) -> int:
        """Return the frame at which a recording that begins now starts.

        That is the first one ever if nothing was read yet, then the one that
        is being captured at this moment. A source that waits goes on where it
        was read last.
        """
        if self.source.waits_for_reader:
            self._anchor = (self._released, data.monotonic())
            return self._released
        return self.frame_at(data.monotonic()) if self._read else 0

    def frame_at(self, time: float) -> int:
        """Return the frame captured at a time of `data.monotonic`; it may be still to come."""
        if self._anchor is None:
            return self._written
        frame, then = self._anchor
        return max(0, frame + round((time - then) * self.samplerate))

    def time_of(self, frame: int) -> float:
        """Return when a frame was captured, on the clock of `data.monotonic`."""
        at, then = self._anchor or (self._written, data.monotonic())
        return then + (frame - at) / self.samplerate

    def utc_of(self, frame: int) -> datetime.datetime:
        """Return when a frame was captured, by the system clock as it is now."""
        ago = data.monotonic() - self.time_of(frame)
        return data.utc_now() - datetime.timedelta(seconds=ago)

    def overruns(self, start: int, frames: int) -> list[Overrun]:
        """Return where sound was lost within a stretch, oldest first."""
        with self._changed:
            found = [o for o in self._overruns if start <= o.frame < start + frames]
        return sorted(found, key=lambda overrun: overrun.frame)

    def read(self, start: int, frames: int, deadline: float) -> bytes:
        """Return a stretch of sound, waiting until it is all there.

        Parameters
        ----------
        start
            First frame.
        frames
            How many; at most `capacity`.
        deadline
            Time of `data.monotonic` by which it must be there.

        Returns
        -------
        bytes
            Whole frames. What the ring no longer holds, because it was read
            too late, is silence, and counted as an overrun.

        Raises
        ------
        DeviceUnavailableError
            If the device has delivered nothing at all for 5 s.
        RecordingError
            If it stopped delivering, failed, is late, or the stream was closed.
        """
        if not 0 < frames <= self.capacity:
            raise ValueError(f"frames must be 1 to {self.capacity}, not {frames}")
        self._read = True
        self._wait_for(start + frames, deadline)
        content, lost = self._copy_out(start, frames)
        with self._changed:
            if lost:
                self._overruns.append(Overrun(start, lost))
            self._released = max(self._released, start + frames)
            self._changed.notify_all()
        return content

    def _wait_for(self, frame: int, deadline: float) -> None:
        began = data.monotonic()
        with self._changed:
            while self._written < frame:
                if self._failure is not None:
                    raise self._failure
                if not self._is_open:
                    raise RecordingError(
                        f'stopped recording from "{self.source.name}".',
                        why="the stream was closed while it was being read.",
                    )
                now = data.monotonic()
                if now - max(self._last_delivery, began) >= STALL_SECONDS:
                    raise self._stalled()
                if now >= deadline:
                    raise self._late()
                self._changed.wait(min(0.25, deadline - now))

    def _copy_out(self, start: int, frames: int) -> tuple[bytes, int]:
        """Return the stretch, and how many frames at its beginning are lost."""
        size = self.capacity * self._frame_bytes
        begin = start * self._frame_bytes % size
        length = frames * self._frame_bytes
        content = self._ring[begin : begin + length]
        if len(content) < length:
            content += self._ring[: length - len(content)]
        # Asked after the copy: what was overwritten meanwhile does not count.
        lost = min(frames, max(0, self._claimed - self.capacity - start))
        if lost:
            content = bytes(lost * self._frame_bytes) + content[lost * self._frame_bytes :]
        return content, lost

    def _stalled(self) -> AcoupiError:
        if self._written:
            return RecordingError(
                f'the microphone "{self.source.name}" stopped.',
                "plug it in again; see that its power supply is strong enough",
                why=f"it has delivered nothing for {STALL_SECONDS:g} s.",
            )
        return DeviceUnavailableError(
            f'the microphone "{self.source.name}" delivers nothing.',
            "plug it in again, or choose another: acoupi devices",
            why=f"it opened, and then no sound came for {STALL_SECONDS:g} s.",
        )

    def _late(self) -> RecordingError:
        return RecordingError(
            f'the microphone "{self.source.name}" is slower than it should be.',
            "check the rate it is set to: acoupi config get microphone.samplerate",
            why=f"it delivers less than {self.samplerate} frames per second.",
        )
