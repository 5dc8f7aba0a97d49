"""The task that deletes files before a disk is full.

What goes is first noted in the store, in one transaction for some files, and then removed: a
process that is killed in between leaves names in the store that the next pass removes.
"""

import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from acoupi import clock
from acoupi.audio.files import sync_folder
from acoupi.opening import at, is_file, opened_folder
from acoupi.space import (
    MOST_SPARE,
    FileClass,
    Marks,
    SpacePolicy,
    Spare,
    device_of,
    disk_sizes,
    existing,
    measured_rate,
)
from acoupi.tasks.failures import FAILED

__all__ = ["Demand", "Disk", "Going", "Room", "generate_space_task"]

_logger = logging.getLogger(__name__)

_BATCH = 50
"""Files that are given up in one transaction."""
BUDGET_S = 10.0
"""Seconds that one pass may take; the next one goes on."""
_UNSENT = "the hub had not got them, and nothing else might go"
_PAUSE = 20
"""What took long and found nothing is not looked for again before this many times as long."""


@dataclass(frozen=True)
class Disk:
    """A disk that the sensor writes, now."""

    folder: Path
    """One of the sensor's folders on it."""
    device: int
    free: int
    total: int
    marks: Marks


@dataclass(frozen=True)
class Demand:
    """So many bytes are to be given up."""

    bytes: int
    classes: Sequence[FileClass]
    covers: Callable[[Path], bool]
    """Which files it is about."""
    reason: str
    device: int | None = None
    """The disk that lacks room; None: only a quota is exceeded."""


class Going(NamedTuple):
    """A file that goes."""

    spare: Spare
    kind: FileClass
    bytes: int
    reason: str


def generate_space_task(
    store: Any,
    policy: SpacePolicy,
    *,
    manage: Callable[[], None] | None = None,
    reserve_for_stores: Callable[[], object] = lambda: None,
    logger: logging.Logger = _logger,
    budget_s: float = BUDGET_S,
    sizes: Callable[[Path], tuple[int, int]] = disk_sizes,
) -> Callable[[], None]:
    """Return a task that gives files up where a disk lacks room, by a policy.

    Parameters
    ----------
    store
        A `SqliteStore`: knows which files may go, and notes which went, and why.
    policy
        What is done about room.
    manage
        Deletes what the saving filters refuse; None: there is nothing of that kind.
    reserve_for_stores
        Takes the space back that the stores have for themselves.
    logger
        Receives the log lines of the task.
    budget_s
        Seconds that a pass may take.
    sizes
        Returns the free and the total bytes of the disk of a folder.
    """
    room = Room(store, policy, logger, sizes)

    def space_task() -> None:
        """Give files up where a disk lacks room."""
        deadline = clock.monotonic() + budget_s
        room.finish()
        refused = FileClass.REFUSED in policy.order
        if manage is not None and refused and any(map(lacks_room, room.disks())):
            manage()
        left = sum(room.satisfy(demand, deadline) for demand in room.demands())
        reserve_for_stores()
        room.tell(is_full=left > 0 and clock.monotonic() < deadline)

    return space_task


def lacks_room(disk: Disk) -> bool:
    """Return whether files are to be given up on a disk."""
    return disk.free < disk.marks.act_below


@dataclass
class Room:
    """The room on the disks of a sensor, and what may go for it."""

    store: Any
    policy: SpacePolicy
    logger: logging.Logger = _logger
    sizes: Callable[[Path], tuple[int, int]] = field(default=disk_sizes)
    """Free and total bytes of the disk of a folder."""
    was_full: bool = False
    quotas_due: float = 0.0
    empty_until: dict[tuple[FileClass, int, bool], float] = field(default_factory=dict)
    """When a class of which a disk had no files is looked for again."""
    missing: set[Path] = field(default_factory=set)
    """Mount points that are known to have no disk."""

    def disks(self) -> list[Disk]:
        """Return the disks that hold recordings, each once; none that is not mounted."""
        rate = measured_rate(self.store.get_newest())
        found: dict[int, Disk] = {}
        for folder in (self.policy.spool, self.policy.recordings):
            if self.policy.missing_mount(folder) is None:
                disk = self._disk(folder, rate)
                found.setdefault(disk.device, disk)
        return list(found.values())

    def _disk(self, folder: Path, rate: float | None) -> Disk:
        here = existing(folder)
        free, total = self.sizes(here)
        return Disk(here, device_of(here), free, total, self.policy.marks(total, rate))

    def demands(self) -> Iterator[Demand]:
        """Yield what is to be given up: for the marks of each disk, and for quotas."""
        disks = self.disks()
        for disk in filter(lacks_room, disks):
            reason = (
                f"{_shown(disk.free)} of {_shown(disk.total)} were free, "
                f"{_shown(disk.marks.until)} should be"
            )
            classes = list(self.policy.order)
            if self.policy.on_full == "detections_only":
                classes.append(FileClass.NEW)
            yield Demand(disk.marks.until - disk.free, classes, _on(disk), reason, disk.device)
        begun = clock.monotonic()
        if begun < self.quotas_due:
            return
        for disk in disks:
            yield from self._of_classes(disk)
            yield from self._of_folders(disk)
        self.quotas_due = begun + _PAUSE * (clock.monotonic() - begun)

    def _of_classes(self, disk: Disk) -> Iterator[Demand]:
        for kind, share in self.policy.quotas.items():
            _, used = self.used(kind, _on(disk))
            excess = used - round(share * disk.total)
            if excess > 0:
                reason = f"{kind.value} took {_shown(used)}, {share:.0%} of the disk are allowed"
                yield Demand(excess, [kind], _on(disk), reason)

    def _of_folders(self, disk: Disk) -> Iterator[Demand]:
        for folder, share in self.policy.folders.items():
            if self.policy.missing_mount(folder) or device_of(folder) != disk.device:
                continue
            used = _bytes_below(folder)
            excess = used - round(share * disk.total)
            if excess > 0:
                reason = f"{folder} took {_shown(used)}, {share:.0%} of the disk are allowed"
                covers = _below(folder)
                yield Demand(excess, list(self.policy.order), covers, reason)

    def used(
        self, kind: FileClass, covers: Callable[[Path], bool], *, owed: bool | None = None
    ) -> tuple[int, int]:
        """Return the number of files of a class and their bytes; of very many, the first count.

        Those that a hub is to get and has not got, others, or all.
        """
        spare = self.store.get_spare_files(kind, self.policy, owed=owed)
        sizes = [_allocated(one.path) for one in spare if covers(one.path)]
        there = [size for size in sizes if size is not None]
        is_all = len(spare) < MOST_SPARE
        share = (
            1.0
            if is_all
            else self.store.count_spare_files(kind, self.policy, owed=owed) / len(spare)
        )
        return round(share * len(there)), round(share * sum(there))

    def going(
        self,
        classes: Sequence[FileClass],
        covers: Callable[[Path], bool],
        reason: str = "",
        *,
        owed: bool,
    ) -> Iterator[Going]:
        """Yield which files may go, in that order, without giving them up.

        Either those that a hub is to get and has not got, or others.
        """
        for kind in classes:
            for spare in self.store.get_spare_files(kind, self.policy, owed=owed):
                if covers(spare.path) and (size := _allocated(spare.path)) is not None:
                    yield Going(spare, kind, size, reason)

    def _going_for(self, demand: Demand) -> Iterator[Going]:
        """Yield what may go for a demand; a class without files is not looked for at once again.

        What a hub has not got goes only where nothing else can make room on the disk.
        """
        device = demand.device
        for owed in (False,) if device is None or not self._owes() else (False, True):
            reason = f"{demand.reason}; {_UNSENT}" if owed else demand.reason
            for kind in demand.classes:
                begun, is_empty = clock.monotonic(), True
                if device is not None and begun < self.empty_until.get((kind, device, owed), 0):
                    continue
                for one in self.going([kind], demand.covers, reason, owed=owed):
                    is_empty = False
                    yield one
                if is_empty and device is not None:
                    until = begun + _PAUSE * (clock.monotonic() - begun)
                    self.empty_until[kind, device, owed] = until

    def _owes(self) -> bool:
        return bool(self.store.hub_audio != "none")

    def chosen(self, demand: Demand) -> Iterator[Going]:
        """Yield what goes for a demand, until it is met."""
        left = demand.bytes
        for one in self._going_for(demand):
            if left <= 0:
                return
            left -= one.bytes
            yield one

    def satisfy(self, demand: Demand, deadline: float) -> int:
        """Give files up for a demand; return how many bytes of room are still lacking."""
        left = demand.bytes
        batch: list[Going] = []
        for one in self.chosen(demand):
            is_other = batch and (batch[0].kind, batch[0].reason) != (one.kind, one.reason)
            if len(batch) == _BATCH or is_other:
                left -= self.give_up(batch)
                batch = []
                if clock.monotonic() >= deadline:
                    break
            batch.append(one)
        left -= self.give_up(batch)
        return 0 if demand.device is None else left

    def give_up(self, batch: Sequence[Going]) -> int:
        """Give some files of one class up; return their bytes."""
        if not batch:
            return 0
        kind, reason = batch[0].kind, batch[0].reason
        self.store.give_up([(one.spare, one.bytes) for one in batch], kind, reason)
        self.finish([one.spare.path for one in batch])
        size = sum(one.bytes for one in batch)
        self.logger.warning(
            "Gave up %d files (%s, %s): %s", len(batch), kind.value, _shown(size), reason
        )
        return size

    def finish(self, paths: Collection[Path] | None = None) -> None:
        """Remove what the store has noted as given up; None: whatever is left of that.

        Names stay in the store until their folder is on the disk without them.
        """
        paths = self.store.get_unremoved() if paths is None else paths
        by_folder: dict[Path, list[str]] = {}
        for path in paths:
            by_folder.setdefault(path.parent, []).append(path.name)
        for folder, names in by_folder.items():
            # A disk that is away still has its files.
            if self.policy.missing_mount(folder) is None and self._remove(folder, names):
                self.store.note_removed([folder / name for name in names])

    def _remove(self, folder: Path, names: Sequence[str]) -> bool:
        try:
            _unlink(folder, names)
        except FileNotFoundError:
            return True
        except OSError as error:
            self.logger.warning(
                "Cannot remove %d files in %s yet: %s", len(names), folder, error, extra=FAILED
            )
            return False
        return True

    def tell(self, *, is_full: bool) -> None:
        """Say once that nothing more may go, and once that it may again; name missing disks."""
        if is_full and not self.was_full:
            self.logger.error(
                "A disk is filling and nothing more can be deleted: sensor.disk.on_full is %s",
                self.policy.on_full,
            )
        self.was_full = is_full
        folders = self.policy.spool, self.policy.recordings
        missing = {mount for one in folders if (mount := self.policy.missing_mount(one))}
        for mount in missing - self.missing:
            self.logger.error("No disk is mounted at %s: nothing is written there", mount)
        self.missing = missing


def _unlink(folder: Path, names: Sequence[str]) -> None:
    with opened_folder(folder) as handle:
        for name in names:
            if is_file(at(handle, name)):
                at(handle, name).unlink(missing_ok=True)
        sync_folder(at(handle, "."))


def _on(disk: Disk) -> Callable[[Path], bool]:
    """Return whether a file is on a disk; asks once for each folder."""
    known: dict[Path, bool] = {}

    def is_on(path: Path) -> bool:
        folder = path.parent
        if folder not in known:
            known[folder] = folder.is_dir() and device_of(folder) == disk.device
        return known[folder]

    return is_on


def _below(folder: Path) -> Callable[[Path], bool]:
    return lambda path: path.is_relative_to(folder)


def _allocated(path: Path) -> int | None:
    """Return the bytes that a file takes; None if there is none."""
    try:
        return path.lstat().st_blocks * 512
    except OSError:
        return None


def _bytes_below(folder: Path) -> int:
    found = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                found += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118 - many
    return found


def _shown(size: float) -> str:
    """Return a size for people.

    Examples
    --------
    >>> _shown(64_000_000), _shown(2_764_800_000)
    ('64 MB', '2.76 GB')
    """
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
