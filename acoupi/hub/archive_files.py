"""Sound files of an archive: what they say of themselves, and how long ones are cut."""

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
"""A damaged file that changed within this time may still be being written."""
_AHEAD = datetime.timedelta(days=1)
_EARLIEST = 1990
"""Clocks of recorders that were never set show 1970 or 1980."""
_LONGEST_FORMAT = 1024
LARGEST_WHOLE = 30_000_000
"""Samples of a file that cannot be cut: ten minutes at 48 kHz, 120 MB for a model."""


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
    """What stands before its bytes of the file to make it a file of its own."""
    first_byte: int
    length: int
    """Bytes of the file, without the head."""
    sha256: bytes = b""
    """Of the head and these bytes."""

    @property
    def bytes(self) -> int:
        """Length of it as a file."""
        return len(self.head) + self.length


@dataclass(frozen=True, slots=True)
class Read:
    """A file, and what was read in it."""

    entry: Entry
    described: Described
    told: datetime.datetime
    """When it began, as it says: naive if it names no zone."""
    sha256: bytes
    cuts: Sequence[Cut]
    """In order, without a gap."""


def read_entry(
    archive: Archive, entry: Entry, *, longest_s: float, now: datetime.datetime
) -> Read | Refused:
    """Read a file: what it says of itself, and all of it for its digest.

    Parameters
    ----------
    archive, entry
        The file.
    longest_s
        A longer file is cut into equal parts that are not, seconds.
    now
        To judge by whether it may still be being written, and whether its time can be right.

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
        unfinished = " (it may still be being written)" if is_young else ""
        return Refused(entry, f"{error.why or error.message}{unfinished}")
    except OSError as error:
        return Refused(entry, f"it cannot be read: {error.strerror or error}")
    if archive.look(entry.key) != entry or (layout is not None and layout.is_open and is_young):
        return Refused(entry, "it is being written")
    assert described.began is not None
    return Read(entry, described, described.began, sha256, cuts)


def _doubt(described: Described, now: datetime.datetime) -> str:
    """Return why it cannot be said when a file was recorded; empty if it can."""
    began = described.began
    if began is None:
        return "neither the file nor its name tells when it was recorded"
    if began.year < _EARLIEST or in_zone(began) > now + _AHEAD:
        return f"it says {began:%Y-%m-%d %H:%M:%S}: the clock of the recorder was not set"
    return ""


def _too_long(described: Described) -> str:
    minutes = described.duration / 60
    return f"it lasts {minutes:,.0f} minutes and is compressed: convert it to WAV, which can be cut"


def _layout(path: Path) -> tuple[riff.Layout | None, bytes]:
    """Return where all is in a WAV file, and its format chunk; None for another file."""
    with open_sound(path) as file:
        if file.read(4) not in riff.MAGICS:
            return None, b""
        layout = riff.read_layout(file, path)
        file.seek(layout.fmt.offset)
        return layout, file.read(min(layout.fmt.size, _LONGEST_FORMAT))


def _bounds(described: Described, longest_s: float) -> list[int]:
    """Return the frames at which a file is cut, its beginning and its end; none: it is not."""
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
    """Return what makes a WAV file of samples of this length, bytes."""
    chunk = struct.pack("<4sI", b"fmt ", len(fmt)) + fmt + bytes(len(fmt) % 2)
    body = b"WAVE" + chunk + struct.pack("<4sI", b"data", length)
    return struct.pack("<4sI", b"RIFF", len(body) + length) + body


def _digested(content: Iterable[bytes], cuts: Sequence[Cut]) -> tuple[bytes, list[Cut]]:
    """Return the SHA-256 of a file, and its cuts with theirs; it is read once."""
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

    It depends on the deployment, the time as the file tells it, its content, and the place in it.
    So a file that was moved, or copied, or whose time zone is known better now, is the same.
    """
    told, digest = read.told.isoformat(), read.sha256.hex()
    return data.derived_id("archive", deployment, told, digest, cut.first, cut.end)


def start_of(read: Read, cut: Cut, zone: datetime.tzinfo) -> datetime.datetime:
    """Return when a recording in a file began."""
    seconds = cut.first / read.described.samplerate
    return in_zone(read.told, zone) + datetime.timedelta(seconds=seconds)


def name_of(read: Read, cut: Cut) -> str:
    """Return what a recording is called: as its file; a piece also by where it begins.

    ``a/20240701_220000@120s.WAV`` begins two minutes after ``a/20240701_220000.WAV``.
    """
    if len(read.cuts) == 1:
        return read.entry.key
    stem, _, suffix = read.entry.key.rpartition(".")
    return f"{stem}@{round(cut.first / read.described.samplerate, 3):.12g}s.{suffix}"
