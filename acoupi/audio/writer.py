"""What sound files of either format have in common."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict

from acoupi import data
from acoupi.audio.disk import disk_errors, open_new, part_path, publish, write_out
from acoupi.audio.riff import write_all

__all__ = ["SoundInfo", "SoundWriter", "WriterOptions"]

SYNC_SECONDS = 10.0
"""Longest time between two times that a file being written is forced to disk: what a power
cut takes of a long recording."""


class WriterOptions(TypedDict, total=False):
    """Options for a new file; see `wav.WavWriter`."""

    time_expansion: float
    guano: str
    bits: int
    sample_bytes: int
    frames: int


@dataclass(frozen=True, slots=True)
class SoundInfo:
    """The header of a sound file."""

    samplerate: int
    """Frames per second of the *file*, Hz; that of the sound divided by the time expansion."""
    channels: int
    bits: int
    """Bits of one sample."""
    frames: int

    @property
    def duration(self) -> float:
        """Length of the file when it is played, seconds."""
        return self.frames / self.samplerate


class SoundWriter(ABC):
    """Writes samples into a new file, block by block.

    The file gets its name only at `finish`. Until then a lock, which the kernel
    releases when the process ends, marks it as being written. What is written
    is forced to disk every `SYNC_SECONDS`.

    Parameters
    ----------
    path
        Final name; no file may have it yet.
    header
        The beginning of the file: it identifies the recording, should the rest be lost.

    Raises
    ------
    RecordingError
        If the disk refuses: here, in `write` and in `finish`.
    """

    def __init__(self, path: Path, header: bytes) -> None:
        self.path = path
        self.part = part_path(path)
        self.frames = 0
        """How many frames it holds; after an error, how many could be kept."""
        self._synced_on = data.monotonic()
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open_new(self.part)
        try:
            with disk_errors(path):
                write_all(self._file.write, header)
        except BaseException:
            self.discard()
            raise

    @abstractmethod
    def write(self, block: bytes | memoryview) -> None:
        """Append whole frames: native integers, channels interleaved."""

    @abstractmethod
    def _complete(self, guano: str | None) -> None:
        """Make the headers match the contents."""

    def _sync(self) -> None:
        """Force written data to disk, if that is due."""
        now = data.monotonic()
        if now - self._synced_on >= SYNC_SECONDS:
            with disk_errors(self.path):
                os.fdatasync(self._file.fileno())
            self._synced_on = now

    def finish(self, guano: str | None = None, path: Path | None = None) -> Path:
        """Complete the file, force it to disk, and give it its name.

        Parameters
        ----------
        guano
            Replaces the text given first; None leaves it.
        path
            Replaces the name given first, in the same folder.

        Raises
        ------
        AudioError
            If a file of that name exists; the new one keeps its hidden name.
        """
        self.path = path or self.path
        with disk_errors(self.path):
            self._complete(guano)
            write_out(self._file.fileno())
            publish(self.part, self.path)
        self._file.close()
        return self.path

    def discard(self) -> None:
        """Remove what was written; never raises."""
        self.frames = 0
        try:
            self.part.unlink(missing_ok=True)
        except OSError:
            pass
        finally:
            self.leave()

    def leave(self) -> None:
        """Close the file as it is; `formats.salvage` can repair it."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._file.closed:
            self.discard()
