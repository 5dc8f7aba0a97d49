"""The inside of a WAV file: its chunks, and where they are."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from acoupi.errors import AudioError

__all__ = [
    "FLOAT",
    "MAGICS",
    "PCM",
    "Chunk",
    "Format",
    "Layout",
    "holds_low_bits",
    "pack_header",
    "put_guano",
    "read_layout",
    "set_samplerate",
    "set_sizes",
    "write_all",
    "write_at",
]

MAGICS = (b"RIFF", b"RF64", b"BW64")
"""The last is RF64 by another name (ITU-R BS.2088)."""
PCM = 1
FLOAT = 3
EXTENSIBLE = 0xFFFE
_BLOCK = 4096
_DS64_BYTES = 28
_PAST_FMT = 12 + 24
_LARGEST = 0xFFFF_FFFF
_TO_THE_END = {
    _LARGEST, _LARGEST - 36, 0x8000_0000, 0x7FFF_FFFF, 0x7FFF_FFFF - 36, 0x7FFF_F000
}  # fmt: skip
"""Sizes of samples that programs write into a pipe, where they cannot know it: ffmpeg the first,
arecord and SoX the others. They mean "until the end" where the file is shorter."""
_PADDING = 1 << 20
"""Zeros between chunks are skipped up to this many bytes."""
_PROBE = 1 << 18
"""Bytes of samples that show where in four bytes 24 bits are."""


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
    """Samplerate in the header, Hz."""
    bits: int
    """That hold sound, of one sample; the others of its bytes do not."""
    block: int = 0
    """Length of one frame according to the header, bytes; of a compressed block, if it is one.
    0: what its bits need."""

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample: from the header, else as its bits need."""
        needed = max(1, -(-self.bits // 8))
        given, rest = divmod(self.block, self.channels)
        return given if not rest and needed <= given <= 8 else needed

    @property
    def frame_bytes(self) -> int:
        """Length of one frame, bytes."""
        return self.channels * self.sample_bytes

    @property
    def is_plain(self) -> bool:
        """Whether the samples are numbers side by side, as `wav.decode` reads them."""
        if self.encoding == FLOAT:
            return self.bits in (32, 64) and self.sample_bytes == self.bits // 8
        return self.encoding == PCM and self.sample_bytes <= 4


class Layout(NamedTuple):
    """Where everything is in one file."""

    format: Format
    fmt: Chunk
    samples: Chunk
    """Its size in the header."""
    guano: Chunk | None
    wamd: Chunk | None
    """Metadata of Wildlife Acoustics."""
    end: int
    """Where the last chunk ends, as the headers say."""
    file_bytes: int
    is_open: bool
    """Whether the samples reach to the end of the file, whatever their size in the header."""

    @property
    def sound_bytes(self) -> int:
        """Length that the samples should have, bytes."""
        there = self.file_bytes - self.samples.offset
        return there if self.is_open else self.samples.size

    @property
    def available_bytes(self) -> int:
        """Length of the samples that the file really holds, bytes; whole frames only."""
        there = max(0, min(self.sound_bytes, self.file_bytes - self.samples.offset))
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
    if len(head) < 12 or head[:4] not in MAGICS or head[8:] != b"WAVE":
        raise _not_wav(name, "it does not start with RIFF and WAVE." if head else "it is empty.")
    found: dict[bytes, Chunk] = {}
    large: int | None = None
    offset, is_open = 12, False
    while offset + 8 <= file_bytes:
        file.seek(offset)
        kind, size = struct.unpack("<4sI", file.read(8))
        if kind == bytes(4):
            if (after := _after_zeros(file, offset, file_bytes)) is None:
                break
            offset = after
            continue
        if kind == b"ds64" and offset + 24 <= file_bytes:
            large = struct.unpack("<QQ", file.read(16))[1]
        elif kind == b"data" and large is not None and size == _LARGEST:
            size = large
        chunk = Chunk(kind, offset + 8, size)
        found.setdefault(kind, chunk)
        offset = chunk.end
        if kind == b"data" and _is_open(file, chunk, file_bytes):
            is_open, offset = True, file_bytes
    if b"fmt " not in found or b"data" not in found:
        missing = "format" if b"fmt " not in found else "samples"
        raise _not_wav(name, f"it has no chunk with its {missing}; it may be truncated.")
    fmt = found[b"fmt "]
    return Layout(
        format=_read_format(file, fmt, name),
        fmt=fmt,
        samples=found[b"data"],
        guano=found.get(b"guan"),
        wamd=found.get(b"wamd"),
        end=offset,
        file_bytes=file_bytes,
        is_open=is_open,
    )


def _after_zeros(file: BinaryIO, offset: int, file_bytes: int) -> int | None:
    """Return where the zeros from here end; None if nothing else follows."""
    file.seek(offset)
    text = file.read(_PADDING)
    rest = text.lstrip(b"\0")
    if rest:
        return offset + len(text) - len(rest)
    return None if offset + len(text) >= file_bytes else file_bytes


def _is_open(file: BinaryIO, samples: Chunk, file_bytes: int) -> bool:
    """Return whether a size means that the samples reach to the end of the file.

    That is one of `_TO_THE_END` which the file does not have, or 0 with something
    behind it that is not a row of chunks.
    """
    if samples.size in _TO_THE_END:
        return samples.end > file_bytes
    if samples.size or samples.offset >= file_bytes:
        return False
    offset = samples.offset
    while offset + 8 <= file_bytes:
        file.seek(offset)
        kind, size = struct.unpack("<4sI", file.read(8))
        if not (kind.isascii() and kind.decode().isprintable()):
            return kind != bytes(4) or offset == samples.offset
        offset = Chunk(kind, offset + 8, size).end
    return offset == samples.offset or offset > file_bytes + 1


def _read_format(file: BinaryIO, chunk: Chunk, name: Path) -> Format:
    file.seek(chunk.offset)
    content = file.read(min(chunk.size, 40))
    if len(content) < 16:
        raise _not_wav(name, "its format chunk is too short.")
    encoding, channels, samplerate, _, block, bits = struct.unpack("<HHIIHH", content[:16])
    if encoding == EXTENSIBLE and len(content) >= 26:
        encoding = struct.unpack("<H", content[24:26])[0]
    if not channels or not samplerate or not (bits or encoding not in (PCM, FLOAT)):
        raise _not_wav(
            name, f"its header says {channels} channels, {samplerate} Hz and {bits} bits."
        )
    return Format(encoding, channels, samplerate, bits, block)


def holds_low_bits(file: BinaryIO, layout: Layout) -> bool:
    """Return whether 24 bits in four bytes are the lowest ones.

    They should be the highest, the last byte being 0. Before version 1.2.10 of
    alsa-utils, arecord wrote the lowest three bytes, and the sign in the fourth.
    """
    form = layout.format
    if (form.encoding, form.bits, form.sample_bytes) != (PCM, 24, 4):
        return False
    file.seek(layout.samples.offset)
    content = file.read(min(_PROBE, layout.available_bytes))
    signs = zip(content[2::4], content[3::4], strict=True)
    return any(content[::4]) and all(top == (byte >> 7) * 0xFF for byte, top in signs)


def put_guano(file: BinaryIO, layout: Layout, text: str) -> None:
    """Put this GUANO text in the file: in place of the old one if it fits, else at the end.

    Nothing is copied. The new text is complete before the old one is dropped.
    """
    content = text.encode()
    old = layout.guano
    if layout.is_open:
        layout = _closed(file, layout)
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


def _closed(file: BinaryIO, layout: Layout) -> Layout:
    """Write the size of samples that reach to the end, so that a chunk can follow them."""
    samples = layout.samples._replace(size=layout.sound_bytes)
    if samples.end > _LARGEST - _PADDING:
        raise AudioError(
            f'cannot add metadata to "{file.name}".',
            "convert it to a WAV or FLAC file with all sizes in it, for example with sox",
            why="its header has no length, and it is too long for a header with one.",
        )
    write_at(file, samples.offset - 4, struct.pack("<I", samples.size))
    return layout._replace(samples=samples, end=samples.end, is_open=False)


def set_sizes(file: BinaryIO, layout: Layout, sample_bytes: int) -> None:
    """Set the sizes in the headers to this many bytes of samples, and end the file there."""
    end = layout.samples.offset + sample_bytes
    if file.seek(0, os.SEEK_END) != end:  # a cut that changes nothing is written to the disk, too
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
