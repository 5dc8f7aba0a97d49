"""Makes a picture, or sound for browsers, in a separate process with numpy.

``python -m acoupi.web.child`` opens no file. It reads an order from its standard input, requests
the pieces of the recording from its parent, and sends back the result in pieces.
"""

import datetime
import json
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from acoupi.errors import AcoupiError
from acoupi.web.remote import opened, wav_head

__all__ = ["ASKED", "ASKS", "BEGINNING", "FAILED", "HEAD", "LENGTH", "PIECE", "main"]

LENGTH = struct.Struct("<I")
"""Header of what the parent sends: an order, then the requested pieces."""
HEAD = struct.Struct("<cI")
"""Header of what the child sends: its kind and length."""
ASKED = struct.Struct("<QI")
"""Offset and length of a piece of the recording."""
ASKS, PIECE, BEGINNING, FAILED = b"?", b"=", b"^", b"!"
"""Kinds: request of a piece; a piece of the result; a new start of the result; error (JSON)."""

_NICE = 10


class _Parent:
    """The other side of both pipes."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink = source, sink

    def receive(self) -> bytes:
        """Return what the parent sends next."""
        (length,) = LENGTH.unpack(self._source.read(LENGTH.size))
        return self._source.read(length)

    def send(self, kind: bytes, content: bytes) -> None:
        """Send something."""
        self._sink.write(HEAD.pack(kind, len(content)) + content)
        self._sink.flush()

    def read(self, offset: int, length: int) -> bytes:
        """Return a piece of the recording."""
        self.send(ASKS, ASKED.pack(offset, length))
        return self.receive()


def main() -> int:
    """Carry out one order; return the exit code."""
    os.nice(_NICE)
    parent = _Parent(sys.stdin.buffer, sys.stdout.buffer)
    order: dict[str, Any] = json.loads(parent.receive())
    file = opened(parent.read, order["size"])
    try:
        for kind, piece in (_picture if order["what"] == "picture" else _sound)(file, order):
            parent.send(kind, piece)
    except AcoupiError as error:
        told = {"message": error.message, "help": error.help, "why": error.why}
        parent.send(FAILED, json.dumps(told).encode())
        return error.exit_code
    return 0


def _picture(file: BinaryIO, order: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    """Yield a PNG file."""
    from acoupi.audio.formats import read_samples  # noqa: PLC0415 - after os.nice, like all of it
    from acoupi.exports.pictures import Box, spectrogram  # noqa: PLC0415

    name = Path(order["name"])
    picture = spectrogram(
        lambda start, frames: read_samples(file, name, start=start, frames=frames)[0],
        order["samplerate"],
        (order["start"], order["end"]),
        [Box(*one) for one in order["boxes"]],
        datetime.datetime.fromisoformat(order["title"]),
    )
    yield PIECE, picture


def _sound(file: BinaryIO, order: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    """Yield a WAV file of 16 bits; its true size is known at its end."""
    import numpy as np  # noqa: PLC0415

    from acoupi.audio.formats import read_samples  # noqa: PLC0415

    size, channels, name = 0, 1, Path(order["name"])
    yield PIECE, wav_head(order["rate"], 1, 2, size)
    for start in range(order["first"], order["last"], order["samplerate"]):
        frames = min(order["samplerate"], order["last"] - start)
        samples, _ = read_samples(file, name, start=start, frames=frames)
        content = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()
        size, channels = size + len(content), samples.shape[1]
        yield PIECE, content
        if len(samples) < frames:
            break
    yield BEGINNING, wav_head(order["rate"], channels, 2, size)


if __name__ == "__main__":
    sys.exit(main())
