"""The disk policy: how much room to keep, which files to delete for it, in which order."""

import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

from acoupi import data

__all__ = [
    "LEAST_RESERVE",
    "MOST_SPARE",
    "NOON_S",
    "FileClass",
    "GivenUp",
    "HubAudio",
    "Marks",
    "OnFull",
    "SpacePolicy",
    "Spare",
    "device_of",
    "disk_sizes",
    "existing",
    "free_bytes",
    "hours_left",
    "measured_rate",
    "schedule_rate",
]

NOON_S = 43_200
"""Nights go from noon to noon."""
LEAST_RESERVE = 500_000_000
"""Bytes that stay free by default."""
HOUR_S = 3600.0
MOST_SPARE = 20_000
"""Most files that are looked at together."""
STORES_BYTES = 4_000_000
"""Bytes for stores and logs during one recording."""

OnFull = Literal["stop", "discard_new", "detections_only"]
HubAudio = Literal["none", "detections", "sample", "all"]
"""The recordings whose sound a hub gets; files that it lacks are deleted last."""


class FileClass(str, Enum):
    """Classes of files, by why they may be deleted."""

    REFUSED = "refused"
    """No saving filter keeps it; it waits in the spool to be deleted."""
    UNREMARKABLE = "unremarkable"
    """Nothing was found in it."""
    BEYOND_BEST = "beyond_best"
    """For each species in it, its night has enough better or newer recordings."""
    REVIEW = "review"
    """It is in the sample for review."""
    PROTECTED = "protected"
    """A person has protected it."""
    NEW = "new"
    """It was new when the disk was full, and nothing else could be deleted."""


class Spare(NamedTuple):
    """A file that may be deleted."""

    recording_row: int
    """Its row in the store; for a clip, that of its first recording."""
    clip_row: int | None
    path: Path
    created_on: datetime.datetime
    duration_s: float


class GivenUp(NamedTuple):
    """Deleted files of one class."""

    recordings: int
    seconds: float
    bytes: int
    last_on: datetime.datetime


class Marks(NamedTuple):
    """Limits of free bytes on a disk."""

    reserve: int
    """Below it, recording stops."""
    act_below: int
    """Below it, files are deleted..."""
    until: int
    """...until this much is free."""


@dataclass(frozen=True, kw_only=True)
class SpacePolicy:
    """The disk policy of a sensor."""

    home: Path
    spool: Path
    recordings: Path
    rate: float
    """Mean bytes a second by the schedule, pauses included; 0: unknown."""
    recording_bytes: int = 0
    """Bytes of one recording."""
    reserve: int | None = None
    """Bytes in reserve; None: an hour of recording, or 500 MB if that is more."""
    high: float = 0.85
    """Used share of a disk above which files are deleted..."""
    low: float = 0.80
    """...until it falls to this."""
    order: Sequence[FileClass] = ()
    best: int = 10
    """Files with the highest scores to keep of each species and night..."""
    newest: int = 5
    """...and the newest ones."""
    on_full: OnFull = "stop"
    quotas: Mapping[FileClass, float] = field(default_factory=dict)
    """Share of the disk that a class may take."""
    folders: Mapping[Path, float] = field(default_factory=dict)
    """Share of its disk that a folder may take."""
    mounts: Sequence[Path] = ()
    """Where other disks are mounted."""
    zone: datetime.tzinfo = datetime.UTC
    """Time zone of the nights."""

    @property
    def reserve_bytes(self) -> int:
        """Bytes that stay free on each disk.

        Examples
        --------
        >>> where = {"home": Path("/h"), "spool": Path("/h"), "recordings": Path("/h")}
        >>> SpacePolicy(rate=768_000, **where).reserve_bytes
        2764800000
        >>> SpacePolicy(rate=96_000, **where).reserve_bytes
        500000000
        """
        if self.reserve is not None:
            return self.reserve
        return max(round(HOUR_S * self.rate), LEAST_RESERVE)

    def marks(self, total: int, rate: float | None = None) -> Marks:
        """Return the limits for a disk of some size.

        Files are deleted above the high mark, and at the latest when the room above the reserve is
        down to one hour of recording, or to a tenth of the disk if an hour needs more.

        Parameters
        ----------
        total
            Bytes of the disk.
        rate
            Bytes a second, as measured; the schedule's rate is used if it is higher.
        """
        reserve = self.reserve_bytes
        hour = HOUR_S * max(self.rate, rate or 0.0)
        margin = min(hour, max(0, total - reserve) / 10)
        act_below = max((1 - self.high) * total, reserve + margin)
        until = max((1 - self.low) * total, act_below + margin / 2)
        return Marks(reserve, round(act_below), round(until))

    @property
    def needed_to_record(self) -> int:
        """Free bytes below which no recording may start."""
        return self.reserve_bytes + self.recording_bytes + STORES_BYTES

    def missing_mount(self, path: Path) -> Path | None:
        """Return the mount point above a path where the disk is missing, or None.

        A mounted disk is recognised by its device: it is neither that of the folder above the mount
        point nor that of the home. (A container sees the folders themselves, but not how they
        are mounted; of the home, it sees the configuration.)
        """
        for mount in self.mounts:
            others = {device_of(mount.parent), device_of(self.home / "config")}
            if path.is_relative_to(mount) and device_of(path) in others:
                return mount
        return None


def existing(path: Path) -> Path:
    """Return a path, or the nearest folder above it that exists."""
    return next((each for each in (path, *path.parents) if each.exists()), path)


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk that a folder is on, or would be made on."""
    return disk_sizes(folder)[0]


def disk_sizes(folder: Path) -> tuple[int, int]:
    """Return the free and the total bytes of the disk that a folder is, or would be made on."""
    found = os.statvfs(existing(folder))
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def device_of(path: Path) -> int:
    """Return the number of the disk that a path is on, or would be made on."""
    return existing(path).stat().st_dev


# The rate


def hours_left(free: float, policy: SpacePolicy, rate: float | None) -> float | None:
    """Return the hours of recording until only the reserve is free; None: the rate is unknown.

    Examples
    --------
    >>> where = {"home": Path("/h"), "spool": Path("/h"), "recordings": Path("/h")}
    >>> hours_left(3_264_800_000, SpacePolicy(rate=768_000, reserve=500_000_000, **where), None)
    1.0
    """
    rate = rate or policy.rate
    return max(0.0, free - policy.reserve_bytes) / rate / HOUR_S if rate else None


def schedule_rate(config: Mapping[str, Any]) -> tuple[float, int]:
    """Return the bytes a second of a schedule, and the bytes of one recording.

    Within its hours, and uncompressed; 0 if the settings do not tell.

    Examples
    --------
    >>> microphone = {"samplerate": 384_000, "audio_channels": 1}
    >>> schedule_rate({"microphone": microphone, "recording": {"duration": 3, "interval": 12}})
    (192000.0, 2304000)
    """
    microphone, recording = config.get("microphone") or {}, config.get("recording") or {}
    try:
        second = microphone["samplerate"] * (microphone.get("audio_channels") or 1)
        second *= (recording.get("bits") or 16) / 8
        duration = float(recording["duration"])
        interval = max(float(recording["interval"]), duration)
    except (AttributeError, KeyError, TypeError, ValueError):
        return 0.0, 0
    return second * duration / interval, round(second * duration)


def measured_rate(last: Sequence[data.Recording]) -> float | None:
    """Return the bytes a second of recent recordings; None if unknown.

    Parameters
    ----------
    last
        The newest recordings, the newest first, without a long pause before the oldest.
    """
    gaps = sorted(
        (one.created_on - before.created_on).total_seconds() for one, before in pairwise(last)
    )
    if not gaps:
        return None
    every = max(gaps[len(gaps) // 2], last[0].duration)
    return _bytes_of(last) / len(last) / every


def _bytes_of(recordings: Sequence[data.Recording]) -> float:
    """Return the bytes of those files of recordings that still exist."""
    sizes = [(one, _size(one.path)) for one in recordings]
    there = [(one, size) for one, size in sizes if size]
    raw = {
        one.id: 2 * one.duration * one.samplerate * (one.audio_channels or 1) for one in recordings
    }
    share = sum(size for _, size in there) / sum(raw[one.id] for one, _ in there) if there else 1.0
    return share * sum(raw.values())


def _size(path: Path | None) -> int:
    try:
        return 0 if path is None else path.stat().st_size
    except OSError:
        return 0
