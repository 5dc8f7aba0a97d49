"""Space reserved for the stores: a file that is deleted when a disk is full.

SQLite needs room to note anything, also what was given up to make room. Whoever writes a store
gives the file beside it up first; the task that looks after the disk takes the space back.
"""

import os
from contextlib import suppress
from pathlib import Path

from acoupi.opening import at, opened_folder

__all__ = ["BALLAST_BYTES", "give_back", "take"]

NAME = ".room-for-the-stores"
BALLAST_BYTES = 16_000_000
LEAST_FREE = 8_400_000
"""Bytes; a journal of a store is kept below this (`database`)."""


def give_back(folder: Path) -> bool:
    """Give the reserved space up if the disk of a store is all but full; return whether it was."""
    try:
        if _free(folder) >= LEAST_FREE:
            return False
        (folder / NAME).unlink()
    except OSError:  # there is none; or the store says itself what is wrong
        return False
    return True


def take(folder: Path) -> bool:
    """Reserve space for the stores in a folder, if the disk has it; return whether it exists.

    A process that is killed meanwhile leaves a shorter file, which is filled the next time.
    """
    with suppress(OSError), opened_folder(folder) as handle:
        flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(at(handle, NAME), flags, 0o644)
        try:
            missing = BALLAST_BYTES - os.fstat(descriptor).st_size
            if missing > 0 and _free(folder) < missing + LEAST_FREE:
                return False
            if missing > 0:
                os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
        finally:
            os.close(descriptor)
        return True
    return False


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
