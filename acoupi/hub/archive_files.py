"""Sound files of an archive: their metadata, and how long files are cut."""

import datetime
import hashlib
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from uuid import UUID

from acoupi import data
from acoupi.audio import riff
from acoupi.audio.disk import open_sound
from acoupi.audio.foreign import Described, in_zone, read_described
from acoupi.data import from_microseconds
from acoupi.errors import AudioError
from acoupi.hub.archive_places import Archive, Entry

__all__ = ["Cut", "Read", "Refused", "id_of", "name_of", "read_entry", "start_of"]

YOUNG = datetime.timedelta(minutes=5)
"""A damaged file that changed within this time may still be being copied."""
_AHEAD = datetime.timedelta(days=1)
_EARLIEST = 1990
"""Clocks of recorders that were never set show 1970 or 1980."""
_LONGEST_FORMAT = 1024
LARGEST_WHOLE = 30_000_000
"""Most samples of a file that cannot be cut: ten minutes at 48 kHz, 120 MB for a model."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that cannot be taken in, and why."""

    entry: Entry
    why: str


@dataclass(frozen=True, slots=True)
class Cut:
    """A part of a file that is a recording, or all of it."""

    first: int
    end: int
    """Its frames."""
    head: bytes
    """Header that makes its part of the bytes a complete file."""
    first_byte: int
    length: int
    """Bytes of the file, without the head."""
    sha256: bytes = b""
    """SHA-256 of the header and these bytes."""

    @property
    def bytes(self) -> int:
        """Length as a file, in bytes."""
        return len(self.head) + self.length


@dataclass(frozen=True, slots=True)
class Read:
    """A file, and what was read in it."""

    entry: Entry
    described: Described
    told: datetime.datetime
    """Start time from its metadata; naive if that names no zone."""
    sha256: bytes
    cuts: Sequence[Cut]
    """In order, without a gap."""


def read_entry(
    archive: Archive, entry: Entry, *, longest_s: float, now: datetime.datetime
) -> Read | Refused:
    """Read a file: its metadata, and all of its bytes for the digest.

    Parameters
    ----------
    archive, entry
        The file.
    longest_s
        Longest recording, seconds; a longer file is cut into equal parts.
    now
        Used to judge whether the file is still being written, and whether its time is plausible.

    Raises
    ------
    HubError
        If the archive cannot be read.
    """
    is_young = now - from_microseconds(entry.changed_on_us) < YOUNG
    try:
        with archive.opened(entry) as path:
            described = read_described(path, entry.key.rpartition("/")[2])
            layout, fmt = _layout(path)
        if why := _doubt(described, now):
            return Refused(entry, why)
        bounds = _bounds(described, longest_s)
        if not bounds or layout is None or not layout.format.is_plain:
            cuts = [_whole(entry, described)]
            if bounds and described.info.frames * described.info.channels > LARGEST_WHOLE:
                return Refused(entry, _too_long(described))
        else:
            cuts = _cuts(bounds, layout, fmt)
        sha256, cuts = _digested(archive.content(entry), cuts)
    except AudioError as error:
        unfinished = " (it may still be being copied)" if is_young else ""
        return Refused(entry, f"{error.why or error.message}{unfinished}")
    except OSError as error:
        return Refused(entry, f"it cannot be read: {error.strerror or error}")
    if archive.look(entry.key) != entry or (layout is not None and layout.is_open and is_young):
        return Refused(entry, "it is still being written")
    assert described.began is not None
    return Read(entry, described, described.began, sha256, cuts)


def _doubt(described: Described, now: datetime.datetime) -> str:
    """Return why the recording time of a file is unknown; empty if it is known."""
    began = described.began
    if began is None:
        return "neither the file nor its name has the time of recording"
    if began.year < _EARLIEST or in_zone(began) > now + _AHEAD:
        return f"it says {began:%Y-%m-%d %H:%M:%S}: the clock of the recorder was not set"
    return ""


def _too_long(described: Described) -> str:
    minutes = described.duration / 60
    return f"it lasts {minutes:,.0f} minutes and is compressed: convert it to WAV, which can be cut"


def _layout(path: Path) -> tuple[riff.Layout | None, bytes]:
    """Return the layout of a WAV file, and its format chunk; None for other files."""
    with open_sound(path) as file:
        if file.read(4) not in riff.MAGICS:
            return None, b""
        layout = riff.read_layout(file, path)
        file.seek(layout.fmt.offset)
        return layout, file.read(min(layout.fmt.size, _LONGEST_FORMAT))


def _bounds(described: Described, longest_s: float) -> list[int]:
    """Return the frames at which a file is cut, with its start and end; none if it is not cut."""
    count, frames = math.ceil(described.duration / longest_s), described.info.frames
    return [frames * number // count for number in range(count + 1)] if count > 1 else []


def _whole(entry: Entry, described: Described) -> Cut:
    return Cut(0, described.info.frames, b"", 0, entry.bytes)


def _cuts(bounds: Sequence[int], layout: riff.Layout, fmt: bytes) -> list[Cut]:
    width, offset = layout.format.frame_bytes, layout.samples.offset
    return [
        Cut(first, end, _head(fmt, size), offset + first * width, size)
        for first, end in pairwise(bounds)
        for size in ((end - first) * width,)
    ]


def _head(fmt: bytes, length: int) -> bytes:
    """Return the header of a WAV file for samples of this length in bytes."""
    chunk = struct.pack("<4sI", b"fmt ", len(fmt)) + fmt + bytes(len(fmt) % 2)
    body = b"WAVE" + chunk + struct.pack("<4sI", b"data", length)
    return struct.pack("<4sI", b"RIFF", len(body) + length) + body


def _digested(content: Iterable[bytes], cuts: Sequence[Cut]) -> tuple[bytes, list[Cut]]:
    """Return the SHA-256 of a file, and its parts with theirs, in one pass."""
    whole, digests, place = hashlib.sha256(), [hashlib.sha256(one.head) for one in cuts], 0
    for part in content:
        whole.update(part)
        for cut, digest in zip(cuts, digests, strict=True):
            begin, end = cut.first_byte - place, cut.first_byte + cut.length - place
            if begin < len(part) and end > 0:
                digest.update(memoryview(part)[max(begin, 0) : end])
        place += len(part)
    found = [replace(one, sha256=it.digest()) for one, it in zip(cuts, digests, strict=True)]
    return whole.digest(), found


def id_of(read: Read, cut: Cut, deployment: UUID) -> UUID:
    """Return the id of a recording in a file.

    It depends on the deployment, the time in the file's metadata, its content, and the position
    in it. So a file that was moved or copied, or whose time zone was corrected, keeps its id.
    """
    told, digest = read.told.isoformat(), read.sha256.hex()
    return data.derived_id("archive", deployment, told, digest, cut.first, cut.end)


def start_of(read: Read, cut: Cut, zone: datetime.tzinfo) -> datetime.datetime:
    """Return when a recording in a file began."""
    seconds = cut.first / read.described.samplerate
    return in_zone(read.told, zone) + datetime.timedelta(seconds=seconds)


def name_of(read: Read, cut: Cut) -> str:
    """Return the name of a recording: that of its file; for a part, with its start.

    ``a/20240701_220000@120s.WAV`` begins two minutes after ``a/20240701_220000.WAV``.
    """
    if len(read.cuts) == 1:
        return read.entry.key
    stem, _, suffix = read.entry.key.rpartition(".")
    return f"{stem}@{round(cut.first / read.described.samplerate, 3):.12g}s.{suffix}"
