"""A folder in memory for waiting recordings, so that deleted ones do not wear out the card.

It is ``memory`` in the spool: in containers a volume that they share, elsewhere a link to a folder
in ``/dev/shm``. What is in it is lost with the power, so it holds no more than was chosen, and a
recording that has no room there goes to the spool on the disk.
"""

import logging
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from acoupi.audio.files import list_recordings, move_file
from acoupi.home import home_dir, home_mark, memory_folder

__all__ = ["MemorySpool", "make_memory_folder"]

logger = logging.getLogger(__name__)

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - in a folder that only this user can enter


@dataclass(frozen=True)
class MemorySpool:
    """The part of a spool that is in memory.

    Parameters
    ----------
    spool
        The folder on the disk.
    most_bytes
        What may be in memory.
    """

    spool: Path
    most_bytes: int

    @property
    def folder(self) -> Path:
        """The folder in memory."""
        return memory_folder(self.spool)

    @property
    def is_there(self) -> bool:
        """Whether the folder is really in memory, not on the disk."""
        try:
            return self.folder.stat().st_dev != self.spool.stat().st_dev
        except OSError:
            return False

    def folder_for(self, expected: int) -> Path:
        """Return the folder for a recording of this size: in memory if there is room."""
        return self.folder if self._has_room(expected) else self.spool

    def _has_room(self, expected: int) -> bool:
        try:
            used = sum(entry.stat().st_size for entry in os.scandir(self.folder))
            disk = os.statvfs(self.folder)
        except OSError:
            return False
        free = min(self.most_bytes - used, disk.f_bavail * disk.f_frsize)
        return self.is_there and expected <= free

    def empty(self, commit: Callable[[Path, Path], object]) -> int:
        """Move every recording to the disk, as before a power-off; return how many.

        Parameters
        ----------
        commit
            Called with the old and the new name, once the file is safe under the new one.
        """
        moved = 0
        for path in list_recordings(self.folder):
            try:
                move_file(path, self.spool / path.name, commit=partial(commit, path))
            except OSError as error:
                logger.warning("%s stays in memory: %s", path, error)
            else:
                moved += 1
        return moved


def make_memory_folder(spool: Path) -> None:
    """Make the folder in memory where no container engine does it; again after each boot.

    Where another user took its name, recordings go to the disk, and that is logged.
    """
    link = memory_folder(spool)
    place = _SHARED_MEMORY / f"acoupi-{home_mark(home_dir())}-{os.geteuid()}"
    with suppress(FileExistsError):
        place.mkdir(mode=0o700)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        logger.error("Recordings go to the disk: %s is not a folder of this user", place)
        return
    spool.mkdir(parents=True, exist_ok=True)
    if link.is_dir() and not link.is_symlink():
        with suppress(OSError):
            link.rmdir()  # left by containers
    with suppress(FileExistsError):
        link.symlink_to(place)
