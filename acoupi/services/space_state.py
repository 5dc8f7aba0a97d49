"""The room on a sensor's disks, and the files given up for it, by its disk policy."""

import datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from acoupi import clock, data
from acoupi.deferred import DeferredModel
from acoupi.effort import gap_now
from acoupi.space import FileClass, OnFull, SpacePolicy, disk_sizes, hours_left, measured_rate
from acoupi.tasks.space import Disk, Room

__all__ = ["DiskState", "GivenUpState", "SpaceState", "space_state"]

_LATELY = datetime.timedelta(minutes=15)


class DiskState(DeferredModel):
    """A disk that recordings are written to."""

    folder: Path
    """One of the sensor's folders on it."""
    free_bytes: int
    total_bytes: int
    reserve_bytes: int
    """Bytes that stay free."""
    acts_below_bytes: int
    """Free bytes below which files are given up..."""
    acts_until_bytes: int
    """...until this many are free."""
    hours_left: float | None
    """Hours of recording until the reserve is reached, if nothing is deleted; None: unknown."""
    is_full: bool = False
    """Whether only the reserve is left, and no file may be deleted."""

    def words(self) -> str:
        """Describe it in a line.

        Examples
        --------
        >>> sizes = {"total_bytes": 64 * 10**9, "reserve_bytes": 500 * 10**6}
        >>> sizes |= {"acts_below_bytes": 10**10, "acts_until_bytes": 12 * 10**9}
        >>> DiskState(folder="/d", free_bytes=2 * 10**10, hours_left=7.2, **sizes).words()
        '20.0 of 64.0 GB free, 500 MB in reserve; 7.2 hours of recording left'
        """
        left = "" if self.hours_left is None else f"; {self.hours_left:.3g} hours of recording left"
        free, total, kept = self.free_bytes / 1e9, self.total_bytes / 1e9, self.reserve_bytes
        reserve = f"{kept / 1e9:.1f} GB" if kept >= 1e9 else f"{kept / 1e6:.0f} MB"
        return f"{free:.1f} of {total:.1f} GB free, {reserve} in reserve{left}"


class GivenUpState(DeferredModel):
    """Files of one class that were given up."""

    recordings: int
    seconds: float
    bytes: int
    last_on: data.AwareDatetime


class SpaceState(DeferredModel):
    """The room of a sensor."""

    disks: list[DiskState] = Field(default_factory=list)
    given_up: dict[FileClass, GivenUpState] = Field(default_factory=dict)
    """Files given up since the sensor was set up."""
    on_full: OnFull
    is_full: bool
    """Whether recording has stopped for lack of room."""
    not_mounted: list[Path] = Field(default_factory=list)

    @property
    def hours_left(self) -> float | None:
        """Hours left on the disk that fills first; None if unknown."""
        hours = [one.hours_left for one in self.disks if one.hours_left is not None]
        return min(hours, default=None)

    @property
    def is_well(self) -> bool:
        """Whether recordings have room, and every disk is mounted."""
        return not (self.is_full or self.not_mounted or any(one.is_full for one in self.disks))

    @property
    def bytes_given_up(self) -> int:
        """Bytes given up of all classes."""
        return sum(one.bytes for one in self.given_up.values())

    def words(self) -> str:
        """Describe it in a line."""
        several = len(self.disks) > 1
        parts = [f"{one.folder}: {one.words()}" if several else one.words() for one in self.disks]
        parts += [f"no disk is mounted at {one}" for one in self.not_mounted]
        if self.is_full:
            parts.append(f"full: no more files may be deleted ({self.on_full})")
        else:
            full = [one.folder for one in self.disks if one.is_full]
            parts += [f"{one} is full: recordings wait in the spool" for one in full]
        number = sum(one.recordings for one in self.given_up.values())
        if number:
            parts.append(f"{number} files given up ({self.bytes_given_up / 1e9:.2f} GB)")
        return "; ".join(parts)


def space_state(store: Any, policy: SpacePolicy) -> SpaceState:
    """Return the room on the disks, and what was given up.

    Raises
    ------
    MetadataStoreError
        If the store cannot be read.
    OSError
        If a disk cannot be read.
    """
    rate = measured_rate(store.get_newest())
    disks = Room(store, policy).disks()
    folders = (policy.spool, policy.recordings)
    missing = dict.fromkeys(mount for one in folders if (mount := policy.missing_mount(one)))
    given_up = store.count_given_up()
    return SpaceState(
        disks=[_disk(one, policy, hours_left(one.free, policy, rate)) for one in disks],
        given_up={kind: GivenUpState(**one._asdict()) for kind, one in given_up.items()},
        on_full=policy.on_full,
        is_full=_is_full(store, policy),
        not_mounted=list(missing),
    )


def _is_full(store: Any, policy: SpacePolicy) -> bool:
    """Return whether recording has stopped for lack of room; with "stop", up to the high mark."""
    if policy.missing_mount(policy.spool) is not None:
        return False
    free, total = disk_sizes(policy.spool)
    if free < policy.needed_to_record:
        return True
    may_wait = policy.on_full == "stop" and free < policy.marks(total).act_below
    return may_wait and _waits_for_room(store)


def _waits_for_room(store: Any) -> bool:
    now = clock.utc_now()
    running = [one for one in store.get_deployments()[-1:] if one.ended_on is None]
    histories = [store.get_effort(one, now - _LATELY, now) for one in running]
    gaps = [gap_now(history, now) for history in histories if history is not None]
    return any(gap is not None and gap.state is data.EffortState.DISK_FULL for gap in gaps)


def _disk(disk: Disk, policy: SpacePolicy, hours: float | None) -> DiskState:
    return DiskState(
        folder=disk.folder,
        free_bytes=disk.free,
        total_bytes=disk.total,
        reserve_bytes=disk.marks.reserve,
        acts_below_bytes=disk.marks.act_below,
        acts_until_bytes=disk.marks.until,
        hours_left=hours,
        is_full=disk.free < policy.needed_to_record,
    )
