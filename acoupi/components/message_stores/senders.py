"""Which of the processes that claimed messages still live.

Each process that sends holds a lock on one byte of a file beside the database. The
kernel releases it however the process ends, and the others see that, in whichever
container they run; so what a killed process had claimed need not wait until its
lease is over.
"""

import fcntl
import os
import secrets
import struct
from collections.abc import Iterable
from pathlib import Path

from acoupi.opening import open_file

__all__ = ["Senders"]

_FLOCK = struct.Struct("hhqqi")
"""``struct flock`` of 64-bit Linux: type, whence, start, length, process."""


class Senders:
    """The processes that send from one message store.

    Parameters
    ----------
    path
        The file of the locks; it stays empty. Where it cannot be made or locked,
        nothing is known of any process, and leases last their full time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mine: tuple[int, int, int] | None = None
        """The process, its byte, and the open file that holds the lock."""

    def me(self) -> int | None:
        """Return the number of this process, and hold its lock; None if that is impossible."""
        if self._mine is not None and self._mine[0] == os.getpid():
            return self._mine[1]
        self.close()  # A lock of the parent process must not outlive it.
        byte = secrets.randbelow(2**62)
        try:
            handle = open_file(self._path, os.O_RDWR | os.O_CREAT)
        except OSError:
            return None
        try:
            fcntl.fcntl(handle, fcntl.F_OFD_SETLK, _lock(fcntl.F_WRLCK, byte))
        except OSError:
            os.close(handle)
            return None
        self._mine = (os.getpid(), byte, handle)
        return byte

    def ended(self, numbers: Iterable[int]) -> list[int]:
        """Return the numbers of processes that have certainly ended."""
        me = self.me()
        if me is None or self._mine is None:
            return []
        handle = self._mine[2]
        return [number for number in numbers if number != me and not _is_locked(handle, number)]

    def close(self) -> None:
        """Release the lock."""
        mine, self._mine = self._mine, None
        if mine is not None:
            os.close(mine[2])


def _is_locked(handle: int, byte: int) -> bool:
    try:
        answer = fcntl.fcntl(handle, fcntl.F_OFD_GETLK, _lock(fcntl.F_WRLCK, byte))
    except OSError:
        return True
    return int(_FLOCK.unpack(answer)[0]) != fcntl.F_UNLCK


def _lock(kind: int, byte: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0)
