"""Sound devices shared between containers: one sensor uses them at a time.

ALSA lets one program open a card, but a container cannot see which one: the
kernel shows it only its own processes. So a sensor that opens a microphone takes
a kernel lock on the folder of devices, which is the same in every container,
and a second lock on one byte of it, whose position identifies the holder.
Nothing is written, so nothing can be stale: the kernel releases both locks
when the process ends, however it ends.

Outside a container nothing is locked: there the kernel shows which process uses
a card (`acoupi.audio.alsa`), and each sensor may have a card of its own.
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
"""Seconds to wait: a sensor that looks for its microphone holds the lock only briefly."""
_FLOCK = struct.Struct("hhqqi")
"""``struct flock`` of fcntl.h: type, whence, start, length, process."""


class SoundShare:
    """The hold of this process on the sound devices of the machine.

    Parameters
    ----------
    folder
        The device folder. It is shared with others only where it is a mount.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self._handle: int | None = None

    def take(self, microphone: str) -> None:
        """Take all of them, unless this process has them already.

        Raises
        ------
        DeviceUnavailableError
            If another sensor has them; the message says which.
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
        """Release them."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def _write_mark(handle: int, mark: int) -> None:
    lock = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, mark, 1, 0)
    fcntl.fcntl(handle, fcntl.F_OFD_SETLK, lock)


def _read_mark(handle: int) -> int | None:
    """Return the byte that another process has locked, or None."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, start, _, _ = _FLOCK.unpack(fcntl.fcntl(handle, fcntl.F_OFD_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(start)


def _held(microphone: str, mark: int | None, folder: Path) -> DeviceUnavailableError:
    if mark is None:
        holder = "another container"
    elif f"{mark:06x}" == home_mark(home_dir()):
        holder = "another container of the same sensor"
    else:
        holder = f'another sensor of this machine, "...-{mark:06x}"'
    return DeviceUnavailableError(
        f'cannot open the microphone "{microphone}": it is held by {holder}.',
        f"docker ps --filter volume={folder}   (shows the containers), and stop one of them",
        why="only one sensor can record at a time; this one keeps trying.",
    )
