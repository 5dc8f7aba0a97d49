"""Small files with live sound of a microphone, and marks of viewers.

The recorder writes a ring while a mark is fresh; whoever shows the picture keeps the mark fresh
and reads the ring. Neither waits for the other. A mark says only *that* somebody watches: it is
never opened by the recorder, which looks at the time of its last change.

A ring is a file of a description (JSON, `HEAD_BYTES`) and slots of one size: number, time,
content, and a checksum of these. Entry *n* is in slot *n* modulo the number of slots, so old ones
are overwritten, and by number and checksum a reader tells new, old and half-written ones apart.
"""

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from acoupi import clock
from acoupi.opening import open_file

__all__ = [
    "COLUMNS",
    "FRESH_SECONDS",
    "SOUND",
    "Entry",
    "MarkWatch",
    "RingReader",
    "RingWriter",
    "column_of",
    "find_ring",
    "levels_in",
    "live_folder",
    "touch_mark",
]

COLUMNS, SOUND = "columns", "sound"
"""Names of the rings and of their marks: spectra with levels; sound that people can hear."""
FRESH_SECONDS = 6.0
"""Seconds after its last change for which a mark means that somebody is watching."""

HEAD_BYTES = 1024
_MOST_BYTES = 4 << 20
_FRONT = struct.Struct("<Qd")
_CHECK = struct.Struct("<I")
_LEVELS = struct.Struct("<ff")


def live_folder(home: Path, service: str) -> Path:
    """Return the folder where a recorder writes its rings, or viewers leave their marks.

    A folder of its own for each, so that the other can be shown it and nothing else.

    Examples
    --------
    >>> str(live_folder(Path("/home/pi/.acoupi"), "recording"))
    '/home/pi/.acoupi/run/live/recording'
    """
    return home / "run" / "live" / service


def find_ring(home: Path, name: str, watcher: str) -> Path | None:
    """Return the file where a ring with this name was last written, or None.

    Parameters
    ----------
    watcher
        Who asks: what lies in its own folder is its mark.
    """
    found = live_folder(home, "x").parent.glob(f"*/{name}")
    rings = [one for one in found if one.parent.name != watcher]
    return max(rings, key=_changed_on, default=None)


def _changed_on(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


class Entry(NamedTuple):
    """What one slot holds."""

    number: int
    """From 1 on, in the order of writing."""
    time: float
    """Time of the sound, seconds since 1970, UTC."""
    content: bytes


def column_of(rms_dbfs: float, peak_dbfs: float, levels: bytes) -> bytes:
    """Return a column of the picture as the content of an entry: two levels, then the spectrum."""
    return _LEVELS.pack(rms_dbfs, peak_dbfs) + levels


def levels_in(content: bytes) -> tuple[float, float, bytes]:
    """Return what `column_of` was given."""
    return (*_LEVELS.unpack_from(content), content[_LEVELS.size :])


class RingWriter:
    """Writes a ring. Opening it puts a new file in the place of an old one.

    Parameters
    ----------
    path
        Of the file; its folder is made.
    head
        What readers must know of the content; JSON of at most 800 bytes.
    content_bytes
        Size of each entry.
    slots
        How many entries there are room for.

    Raises
    ------
    OSError
        From every method, if the disk refuses.
    """

    def __init__(
        self, path: Path, head: Mapping[str, Any], *, content_bytes: int, slots: int
    ) -> None:
        self.path, self._slots, self._size = path, slots, content_bytes
        self._slot_bytes = _FRONT.size + content_bytes + _CHECK.size
        self._number = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.unlink(missing_ok=True)
        self._handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            whole = {**head, "content_bytes": content_bytes, "slots": slots}
            text = json.dumps(whole).encode().ljust(HEAD_BYTES)
            # All of it now: no later write needs room on the disk.
            os.write(self._handle, text + bytes(slots * self._slot_bytes))
            part.replace(path)
        except BaseException:
            self.close()
            part.unlink(missing_ok=True)
            raise

    def write(self, time: float, content: bytes) -> None:
        """Put an entry in the place of the oldest."""
        self._number += 1
        entry = _FRONT.pack(self._number, time) + content
        place = HEAD_BYTES + self._number % self._slots * self._slot_bytes
        os.pwrite(self._handle, entry + _CHECK.pack(zlib.crc32(entry)), place)

    def close(self) -> None:
        """Remove the file; harmless if it is gone."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)
            with contextlib.suppress(OSError):
                self.path.unlink()


class RingReader:
    """Reads what is new in a ring, whether its writer is there, was replaced, or is gone.

    Parameters
    ----------
    find
        Returns where it is now, if there is one.
    """

    def __init__(self, find: Callable[[], Path | None]) -> None:
        self._find = find
        self._path: Path | None = None
        self.head: dict[str, Any] | None = None
        """Its writer's description of the content; None: there is no ring now."""
        self._handle = -1
        self._seen = 0

    def read(self) -> list[Entry]:
        """Return what came since the last call, in order.

        What a ring holds when it is found is not new: it may be long over. What was overwritten
        in the meantime is left out: the numbers show it.
        """
        if self._handle < 0:
            if self._open():
                self._scan()
            return []
        found: list[Entry] = []
        while (entry := self._slot(self._seen + 1)) and entry.number == self._seen + 1:
            found.append(entry)
            self._seen = entry.number
        if entry is not None and entry.number > self._seen:
            return [*found, *self._scan()]
        if not found and not self._is_current():
            self.close()
        return found

    def close(self) -> None:
        """Let go of the file."""
        handle, self._handle = self._handle, -1
        self.head, self._seen = None, 0
        if handle >= 0:
            os.close(handle)

    def _open(self) -> bool:
        self._path = self._find()
        if self._path is None:
            return False
        try:
            self._handle = open_file(self._path)
            self.head = _head_of(self._handle)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            self.close()
            return False
        self._slots, self._content = self.head["slots"], self.head["content_bytes"]
        return True

    def _is_current(self) -> bool:
        try:
            return self._path is not None and os.path.samestat(
                os.fstat(self._handle), self._path.lstat()
            )
        except OSError:
            return False

    def _scan(self) -> list[Entry]:
        """Return all entries that were not seen yet, in order."""
        slots = map(self._slot, range(self._slots))
        found = sorted(one for one in slots if one is not None and one.number > self._seen)
        self._seen = found[-1].number if found else self._seen
        return found

    def _slot(self, number: int) -> Entry | None:
        """Return what is in the slot of an entry; None if it is not complete."""
        size = _FRONT.size + self._content
        place = HEAD_BYTES + number % self._slots * (size + _CHECK.size)
        try:
            content = os.pread(self._handle, size + _CHECK.size, place)
        except OSError:
            return None
        if len(content) < size + _CHECK.size:
            return None
        entry, (check,) = content[:size], _CHECK.unpack_from(content, size)
        written, time = _FRONT.unpack_from(entry)
        if not written or check != zlib.crc32(entry):
            return None
        return Entry(written, time, entry[_FRONT.size :])


def _head_of(handle: int) -> dict[str, Any]:
    """Return the description of a ring; ValueError if its size cannot be so."""
    head: dict[str, Any] = json.loads(os.pread(handle, HEAD_BYTES, 0))
    slots, content = int(head["slots"]), int(head["content_bytes"])
    if slots < 1 or not 0 < content < _MOST_BYTES // slots:
        raise ValueError("no ring has that size")
    return {**head, "slots": slots, "content_bytes": content}


def touch_mark(path: Path) -> None:
    """Mark that somebody is watching.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = open_file(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.utime(handle)
    finally:
        os.close(handle)


class MarkWatch:
    """Checks whether somebody is watching.

    A mark is fresh for `FRESH_SECONDS` after it was seen to change: neither a step of the clock
    nor a mark that an earlier process left can keep it fresh.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = self._look()
        self._until = 0.0

    def is_fresh(self) -> bool:
        """Return whether it changed lately."""
        changed = self._look()
        if changed is not None and changed != self._changed:
            self._until = clock.monotonic() + FRESH_SECONDS
        self._changed = changed
        return clock.monotonic() < self._until

    def _look(self) -> int | None:
        try:
            return self._path.lstat().st_mtime_ns
        except OSError:
            return None
