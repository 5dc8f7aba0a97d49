"""Files that are read in pieces from elsewhere, and the heads of those that are made of pieces."""

import io
import struct
from collections.abc import Callable

__all__ = ["ENDLESS", "Read", "RemoteFile", "opened", "wav_head"]

Read = Callable[[int, int], bytes]
"""Returns the bytes from an offset on, at most so many; fewer at the end only."""

_BUFFER = 256 * 1024
ENDLESS = 0xFFFF_FFFF
"""Size of a WAV file that never ends."""


class RemoteFile(io.RawIOBase):
    """A file of which `read` returns pieces.

    Parameters
    ----------
    read
        Returns a piece.
    size
        Of the file, bytes.
    """

    def __init__(self, read: Read, size: int) -> None:
        self._read, self._size, self._place = read, size, 0

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that it can be read from any place on."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """Fill a buffer, or a part of it."""
        wanted = min(len(buffer), self._size - self._place, _BUFFER)
        content = self._read(self._place, wanted) if wanted > 0 else b""
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def opened(read: Read, size: int) -> io.BufferedReader:
    """Return a file of which `read` returns pieces."""
    return io.BufferedReader(RemoteFile(read, size), _BUFFER)


def wav_head(
    samplerate: int, channels: int, sample_bytes: int, data_bytes: int, *, encoding: int = 1
) -> bytes:
    """Return the first 44 bytes of a WAV file; its samples follow.

    Parameters
    ----------
    samplerate
        Hz.
    channels, sample_bytes
        Of a frame.
    data_bytes
        Size of all samples; `ENDLESS`: unknown.
    encoding
        1: integers, 3: floating point.
    """
    frame = channels * sample_bytes
    form = struct.pack(
        "<HHIIHH", encoding, channels, samplerate, samplerate * frame, frame, 8 * sample_bytes
    )
    whole = min(data_bytes + 36, ENDLESS)
    data = min(data_bytes, ENDLESS)
    return struct.pack(
        "<4sI4s4sI16s4sI", b"RIFF", whole, b"WAVE", b"fmt ", len(form), form, b"data", data
    )
