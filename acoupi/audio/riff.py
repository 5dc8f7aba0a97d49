"""The inside of a WAV file: its chunks, and where they are."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from acoupi.errors import AudioError

__all__ = [
    "FLOAT",
    "PCM",
    "Chunk",
    "Format",
    "Layout",
    "pack_header",
    "put_guano",
    "read_layout",
    "set_samplerate",
    "set_sizes",
    "write_all",
    "write_at",
]

PCM = 1
FLOAT = 3
EXTENSIBLE = 0xFFFE
_BLOCK = 4096
_DS64_BYTES = 28
_PAST_FMT = 12 + 24
_LARGEST = 0xFFFF_FFFF


class Chunk(NamedTuple):
    """One chunk of a RIFF file."""

    name: bytes
    offset: int
    """Start of its content, bytes from the start of the file."""
    size: int
    """Length of its content according to its header, bytes; the file may hold less."""

    @property
    def end(self) -> int:
        """Where the next chunk begins: contents of odd length have a byte of padding."""
        return self.offset + self.size + self.size % 2


class Format(NamedTuple):
    """What the samples are."""

    encoding: int
    """1: integers, 3: floating point."""
    channels: int
    samplerate: int
    """As the header says, Hz."""
    bits: int

    @property
    def frame_bytes(self) -> int:
        """Length of one frame, bytes."""
        return self.channels * self.bits // 8


class Layout(NamedTuple):
    """Where everything is in one file."""

    format: Format
    fmt: Chunk
    samples: Chunk
    guano: Chunk | None
    end: int
    """Where the last chunk ends, as the headers say."""
    file_bytes: int

    @property
    def available_bytes(self) -> int:
        """Length of the samples that the file really holds, bytes; whole frames only."""
        there = max(0, min(self.samples.size, self.file_bytes - self.samples.offset))
        return there - there % self.format.frame_bytes


def pack_header(
    samplerate: int, channels: int, guano: str, *, bits: int = 16, is_large: bool = False
) -> bytes:
    """Return the head of a file whose samples are still to come.

    The GUANO text comes before the samples, so that a file whose end was never
    written still identifies itself. Spaces after it (which GUANO allows) leave
    room for what is known only at the end. Sizes are 0 until then. A large file
    also has room for sizes past 4 GiB (RF64, EBU Tech 3306).
    """
    text = guano.encode()
    spare = struct.pack("<4sI", b"JUNK", _DS64_BYTES) + bytes(_DS64_BYTES) if is_large else b""
    room = _BLOCK - _PAST_FMT - len(spare) - 16
    while room < len(text) + _BLOCK // 4:
        room += _BLOCK
    frame = bits // 8 * channels
    return b"".join(
        (
            struct.pack("<4sI4s", b"RIFF", 0, b"WAVE"),
            spare,
            struct.pack(
                "<4sIHHIIHH", b"fmt ", 16, PCM, channels, samplerate,
                samplerate * frame % 2**32, frame, bits,
            ),
            struct.pack("<4sI", b"guan", room),
            text.ljust(room, b" "),
            struct.pack("<4sI", b"data", 0),
        )
    )  # fmt: skip


def read_layout(file: BinaryIO, name: Path) -> Layout:
    """Find the chunks of an open WAV file.

    Raises
    ------
    AudioError
        If it is not a WAV file, or lacks a required chunk. Whether all samples
        are there is not checked.
    """
    file_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if len(head) < 12 or head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        raise _not_wav(name, "it does not begin with RIFF and WAVE." if head else "it is empty.")
    found: dict[bytes, Chunk] = {}
    large: int | None = None
    offset = 12
    while offset + 8 <= file_bytes:
        file.seek(offset)
        kind, size = struct.unpack("<4sI", file.read(8))
        if kind == b"ds64" and offset + 24 <= file_bytes:
            large = struct.unpack("<QQ", file.read(16))[1]
        elif kind == b"data" and large is not None and size == _LARGEST:
            size = large
        chunk = Chunk(kind, offset + 8, size)
        found.setdefault(kind, chunk)
        offset = chunk.end
        if kind == b"data" and size == 0 and file_bytes - offset > _BLOCK:
            break  # It is still being written: samples follow, not chunks.
    if b"fmt " not in found or b"data" not in found:
        missing = "format" if b"fmt " not in found else "samples"
        raise _not_wav(name, f"it has no chunk with its {missing}; it may have been cut off.")
    fmt = found[b"fmt "]
    return Layout(
        format=_read_format(file, fmt, name),
        fmt=fmt,
        samples=found[b"data"],
        guano=found.get(b"guan"),
        end=offset,
        file_bytes=file_bytes,
    )


def _read_format(file: BinaryIO, chunk: Chunk, name: Path) -> Format:
    file.seek(chunk.offset)
    content = file.read(min(chunk.size, 40))
    if len(content) < 16:
        raise _not_wav(name, "its format chunk is too short.")
    encoding, channels, samplerate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
    if encoding == EXTENSIBLE and len(content) >= 26:
        encoding = struct.unpack("<H", content[24:26])[0]
    if not channels or not samplerate or not bits:
        raise _not_wav(
            name, f"its header says {channels} channels, {samplerate} Hz and {bits} bits."
        )
    return Format(encoding, channels, samplerate, bits)


def put_guano(file: BinaryIO, layout: Layout, text: str) -> None:
    """Put this GUANO text in the file: in place of the old one if it fits, else at the end.

    Nothing is copied. The new text is complete before the old one is dropped.
    """
    content = text.encode()
    old = layout.guano
    if old is not None and len(content) <= old.size:
        write_at(file, old.offset, content.ljust(old.size, b" "))
        return
    is_last = old is not None and old.end >= layout.end
    start = old.offset - 8 if old is not None and is_last else layout.end
    content += b" " * (len(content) % 2)
    end = start + 8 + len(content)
    write_at(file, start, struct.pack("<4sI", b"guan", len(content)) + content)
    file.truncate(end)
    _set_riff_size(file, end, layout.samples.size)
    if old is not None and not is_last:
        write_at(file, old.offset - 8, b"JUNK")


def set_sizes(file: BinaryIO, layout: Layout, sample_bytes: int) -> None:
    """Set the sizes in the headers to this many bytes of samples, and end the file there."""
    end = layout.samples.offset + sample_bytes
    file.truncate(end)
    write_at(file, layout.samples.offset - 4, struct.pack("<I", min(sample_bytes, _LARGEST)))
    _set_riff_size(file, end, sample_bytes)


def _set_riff_size(file: BinaryIO, end: int, sample_bytes: int) -> None:
    """Write the size of the whole file; past 4 GiB as RF64, if the file has room for it."""
    if end - 8 <= _LARGEST:
        write_at(file, 0, struct.pack("<4sI", b"RIFF", end - 8))
        file.seek(12)
        if file.read(4) == b"ds64":  # It was larger once.
            write_at(file, 12, b"JUNK")
        return
    file.seek(12)
    if file.read(8) not in (struct.pack("<4sI", kind, _DS64_BYTES) for kind in (b"JUNK", b"ds64")):
        raise AudioError(
            f'cannot write sizes past 4 GiB in "{file.name}".',
            "record shorter files",
            why="the file has no room for them in its header.",
        )
    write_at(file, 12, struct.pack("<4sIQQQI", b"ds64", _DS64_BYTES, end - 8, sample_bytes, 0, 0))
    write_at(file, 0, struct.pack("<4sI", b"RF64", _LARGEST))


def set_samplerate(file: BinaryIO, layout: Layout, samplerate: int) -> None:
    """Write another rate in the header; the samples stay as they are."""
    rates = struct.pack("<II", samplerate, samplerate * layout.format.frame_bytes)
    write_at(file, layout.fmt.offset + 4, rates)


def write_at(file: BinaryIO, offset: int, content: bytes) -> None:
    """Write all of it at this place, bytes from the start of the file."""
    file.seek(offset)
    write_all(file.write, content)


def write_all(write: Callable[[memoryview], int | None], content: bytes | memoryview) -> None:
    """Write all of it, even if an unbuffered file takes only a part at a time."""
    rest = memoryview(content).cast("B")
    while rest:
        rest = rest[write(rest) or 0 :]


def _not_wav(name: Path, why: str) -> AudioError:
    return AudioError(
        f'cannot read "{name.name}": it is not a WAV file.',
        "give the path of a WAV file",
        why=why,
    )
