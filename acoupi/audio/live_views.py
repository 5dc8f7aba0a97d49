"""A stream as it is written into a ring: a picture, or sound for people. It needs numpy."""

from abc import ABC, abstractmethod
from pathlib import Path

from acoupi.audio.live_ring import COLUMNS, RingWriter, column_of
from acoupi.audio.live_sound import (
    BINS,
    COLUMNS_PER_SECOND,
    LOWEST_DB,
    STEP_DB,
    Audible,
    Spectra,
    first_channel,
    levels_of,
)
from acoupi.audio.stream import CaptureStream

__all__ = ["View", "make_view"]

_LATE_SECONDS = 1.0
"""What is older than this is not shown any more: the machine was busy with other things."""
_SECONDS_KEPT = 3.2


def make_view(stream: CaptureStream, path: Path) -> "View":
    """Return the view of a stream that the ring at this path is of."""
    return (Picture if path.name == COLUMNS else Sound)(stream, path)


class View(ABC):
    """Writes a stream into a ring, from now on.

    Parameters
    ----------
    stream
        Open.
    step
        Frames from one entry to the next; they need not be whole.
    frames
        Frames that an entry is made from: the last ones of its step, or more.
    """

    def __init__(self, stream: CaptureStream, ring: RingWriter, step: float, frames: int) -> None:
        self.stream = stream
        self._ring, self._step, self._frames = ring, step, frames
        self._begin()

    def _begin(self) -> None:
        self._start, self._count = self.stream.written, 0

    def show(self) -> None:
        """Write what came since the last call."""
        stream = self.stream
        if stream.written - self._end(0) > _LATE_SECONDS * stream.samplerate:
            self._begin()
        while (end := self._end(1)) <= stream.written:
            self._count += 1
            if end >= self._frames:
                block = stream.peek(end - self._frames, self._frames)
                time = stream.utc_of(end).timestamp()
                self._ring.write(time, self._entry(block))

    def _end(self, ahead: int) -> int:
        return self._start + round((self._count + ahead) * self._step)

    @abstractmethod
    def _entry(self, block: bytes) -> bytes:
        """Return the content of an entry."""

    def close(self) -> None:
        """Remove the ring."""
        self._ring.close()


def _ring(path: Path, size: int, a_second: float, **head: float) -> RingWriter:
    return RingWriter(path, head, content_bytes=size, slots=round(_SECONDS_KEPT * a_second))


class Picture(View):
    """Levels and spectra of the first channel."""

    def __init__(self, stream: CaptureStream, path: Path) -> None:
        self._spectra = Spectra(stream.samplerate)
        ring = _ring(
            path,
            len(column_of(0, 0, bytes(BINS))),
            COLUMNS_PER_SECOND,
            samplerate=stream.samplerate,
            bins=BINS,
            low_hz=self._spectra.low_hz,
            high_hz=self._spectra.high_hz,
            columns_per_second=COLUMNS_PER_SECOND,
            lowest_db=LOWEST_DB,
            step_db=STEP_DB,
        )
        step = stream.samplerate / COLUMNS_PER_SECOND
        super().__init__(stream, ring, step, self._spectra.frames)

    def _entry(self, block: bytes) -> bytes:
        samples = first_channel(block, self.stream.channels, self.stream.sample_bytes)
        return column_of(*levels_of(samples), self._spectra.column(samples))


class Sound(View):
    """The first channel as people hear it."""

    def __init__(self, stream: CaptureStream, path: Path) -> None:
        self._audible = audible = Audible(stream.samplerate)
        ring = _ring(
            path,
            audible.chunk_bytes,
            stream.samplerate / audible.frames,
            samplerate=audible.samplerate,
            division=audible.division,
        )
        super().__init__(stream, ring, audible.frames, audible.frames)

    def _entry(self, block: bytes) -> bytes:
        samples = first_channel(block, self.stream.channels, self.stream.sample_bytes)
        return self._audible.add(samples)
