"""The frames of a FLAC file: where they begin and what they hold (RFC 9639, section 9)."""

import os
from typing import BinaryIO, NamedTuple

__all__ = ["MOST_FRAME_BYTES", "Frame", "crc", "last_frame"]

MOST_FRAME_BYTES = 1 << 20
"""How much is looked through at once for the last frame; more than a frame can have."""
_HEADER_MOST = 16


class Frame(NamedTuple):
    """A frame of a FLAC file."""

    offset: int
    first: int
    """Sample of a channel at which it begins."""
    frames: int
    """How many it has."""


def last_frame(file: BinaryIO, audio: int, block: int, before: int | None = None) -> Frame | None:
    """Return the last frame whose header is there; None if there is none.

    Parameters
    ----------
    file
        Open for reading bytes.
    audio
        Where the first frame begins.
    block
        Samples of a channel in each frame but the last.
    before
        Only one that begins at this sample or before it.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(audio)
    sign = file.read(4)
    if len(sign) < 4 or sign[:2] not in (b"\xff\xf8", b"\xff\xf9"):
        return None
    end = size
    while end > audio:
        start = max(audio, end - MOST_FRAME_BYTES)
        file.seek(start)
        content = file.read(min(size, end + _HEADER_MOST) - start)
        at = len(content)
        while (at := content.rfind(sign[:2], 0, at)) >= 0:
            frame = _frame_at(content[at : at + _HEADER_MOST], start + at, sign, block)
            if frame is not None and (before is None or frame.first <= before):
                return frame
        end = start
    return None


def _frame_at(header: bytes, offset: int, sign: bytes, block: int) -> Frame | None:
    """Return the frame that begins with these bytes, if one does (RFC 9639, section 9.1)."""
    if len(header) < 6 or ((header[2] ^ sign[2]) | (header[3] ^ sign[3])) & 0x0F:
        return None
    number, position = _coded_number(header)
    code = header[2] >> 4
    if extra := {6: 1, 7: 2}.get(code, 0):
        frames = int.from_bytes(header[position : position + extra], "big") + 1
    else:
        frames = 192 if code == 1 else 576 << code - 2 if 1 < code < 6 else 256 << max(0, code - 8)
    position += extra + {12: 1, 13: 2, 14: 2}.get(header[2] & 0x0F, 0)
    if number is None or position >= len(header) or crc(header[:position], 8) != header[position]:
        return None
    # A file with frames of one size counts frames, else samples.
    return Frame(offset, number if header[1] & 1 else number * block, frames)


def _coded_number(header: bytes) -> tuple[int | None, int]:
    """Return the number that is coded as UTF-8 would, and where it ends."""
    lead = header[4]
    length = next((n for n in range(8) if not lead << n & 0x80), 8)
    if length == 0:
        return lead, 5
    rest = header[5 : 4 + length]
    if length == 1 or len(rest) < length - 1 or any(byte & 0xC0 != 0x80 for byte in rest):
        return None, 5
    number = lead & (0x7F >> length)
    for byte in rest:
        number = number << 6 | byte & 0x3F
    return number, 4 + length


def crc(content: bytes, bits: int) -> int:
    """Return the check of a frame's header (8 bits) or of a whole frame (16)."""
    table, mask, value = _TABLES[bits], (1 << bits) - 1, 0
    for byte in content:
        value = (value << 8 & mask) ^ table[(value >> bits - 8) ^ byte]
    return value


def _crc_table(bits: int, polynomial: int) -> list[int]:
    table = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> bits - 1 else 0)
            value &= (1 << bits) - 1
        table.append(value)
    return table


_TABLES = {8: _crc_table(8, 0x07), 16: _crc_table(16, 0x8005)}
