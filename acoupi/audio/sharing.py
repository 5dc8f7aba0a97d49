"""Containers that share the sound devices of a machine: one sensor has them at a time.

ALSA lets one program open a card, but it does not tell a container which:
the kernel shows a container no processes but its own. So whoever opens a
microphone holds a kernel lock of the folder of devices, which is the same in
every container, and beside it a lock of one byte in it, whose place is a
number that tells whose. Nothing is written, so nothing can be stale: the
kernel lets go of both when their holder ends, however it ends.

Outside of a container nothing is locked: there the kernel says who holds a
card (`acoupi.audio.alsa`), and sensors may have a card each.
"""

import fcntl
import os
import struct
from pathlib import Path

from acoupi.errors import DeviceUnavailableError
from acoupi.home import home_dir, home_mark
from acoupi.locks import lock_within

__all__ = ["SoundShare"]

FOLDER = Path("/dev/snd")
PATIENCE = 1.0
"""Seconds to wait: another that finds no microphone holds the devices for a moment."""
_FLOCK = struct.Struct("hhqqi")
"""``struct flock`` of fcntl.h: type, whence, start, length, process."""


class SoundShare:
    """The part of this process in the sound devices of the machine.

    Parameters
    ----------
    folder
        Of the devices. Only a mount is shared with others.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self._handle: int | None = None

    def take(self, microphone: str) -> None:
        """Take all of them, unless they are ours.

        Raises
        ------
        DeviceUnavailableError
            If another sensor has them, and which.
        """
        if self._handle is not None or not os.path.ismount(self.folder):
            return
        try:
            handle = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return  # the device itself will say why
        if not lock_within(handle, PATIENCE):
            mark = _read_mark(handle)
            os.close(handle)
            raise _held(microphone, mark, self.folder)
        _write_mark(handle, int(home_mark(home_dir()), 16))
        self._handle = handle

    def give_back(self) -> None:
        """Let others have them."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def _write_mark(handle: int, mark: int) -> None:
    lock = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, mark, 1, 0)
    fcntl.fcntl(handle, fcntl.F_OFD_SETLK, lock)


def _read_mark(handle: int) -> int | None:
    """Return which byte somebody else has locked; None if nobody has."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, start, _, _ = _FLOCK.unpack(fcntl.fcntl(handle, fcntl.F_OFD_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(start)


def _held(microphone: str, mark: int | None, folder: Path) -> DeviceUnavailableError:
    if mark is None:
        holder = "another container"
    elif f"{mark:06x}" == home_mark(home_dir()):
        holder = "another container of this very sensor"
    else:
        holder = f'another sensor of this machine, "...-{mark:06x}"'
    return DeviceUnavailableError(
        f'cannot open the microphone "{microphone}": it is held by {holder}.',
        f"docker ps --filter volume={folder}   (shows whose), and stop one of them",
        why="only one may record, and this one goes on trying.",
    )
