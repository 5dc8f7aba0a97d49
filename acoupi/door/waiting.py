"""Calls that wait in files until the worker that keeps the stores makes them.

One service writes them, one file for each call, and the other reads them by descriptor, without
following links or blocking.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from acoupi.door.wire import MOST_BYTES
from acoupi.writing import part_of, stage, sync_folder

__all__ = ["MOST_WAITING", "MOST_WAITING_BYTES", "WaitingCalls"]

MOST_WAITING = 10_000
"""Most calls that a service keeps."""
MOST_WAITING_BYTES = 64 * 1024 * 1024

_MOST_SEEN = 2 * MOST_WAITING
"""Most files to look at: a service can fill its folder, but not the reader's memory."""
_NAME = re.compile(r"([0-9]{12})-[0-9a-f]{8}\.call\Z")
_MODE = 0o660
"""The reader may be another user, of the same group."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class WaitingCalls:
    """The calls of one service that wait in its folder, which need not exist.

    Parameters
    ----------
    folder
        See `acoupi.door.folders.waiting_folder`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # The service that calls.

    def put(self, content: bytes) -> None:
        """Add a call after the waiting ones of this process, and sync it to the disk.

        Raises
        ------
        OSError
            If there are too many, or the disk is full or failing.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        sizes = self._sizes()
        if len(sizes) >= MOST_WAITING or sum(sizes.values()) + len(content) > MOST_WAITING_BYTES:
            raise OSError(f"{len(sizes)} calls are already waiting in {self.folder}")
        last = max((int(found[1]) for name in sizes if (found := _NAME.match(name))), default=0)
        path = self.folder / f"{last + 1:012}-{os.urandom(4).hex()}.call"
        part = part_of(path, "0")
        try:
            stage(part, content, _MODE)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        sync_folder(self.folder)

    def _sizes(self) -> dict[str, int]:
        sizes = {}
        for one in os.scandir(self.folder):
            with suppress(FileNotFoundError):  # it was made meanwhile
                sizes[one.name] = one.stat(follow_symlinks=False).st_size
        return sizes

    def clear_parts(self) -> None:
        """Remove files that were half-written when this service stopped; call it before writing."""
        for part in self.folder.glob(".*.part"):
            part.unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Return the names of the calls that wait, in their order."""
        try:
            with self._opened() as folder, os.scandir(folder) as found:
                return sorted(
                    one.name for one in islice(found, _MOST_SEEN) if _NAME.match(one.name)
                )
        except OSError:
            return []

    # The worker that keeps the stores.

    def read(self, name: str) -> bytes:
        """Return the content of a call.

        Raises
        ------
        ValueError
            If it is not a regular file with a single link, or too large.
        OSError
            If it cannot be read.
        """
        with self._opened() as folder:
            try:
                handle = os.open(name, _READ, dir_fd=folder)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise ValueError("it is a link") from error
                raise
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise ValueError("it is not a file with a single link")
            with os.fdopen(handle, "rb", closefd=False) as file:
                return file.read(MOST_BYTES + 1)
        finally:
            os.close(handle)

    def remove(self, name: str) -> None:
        """Remove a call that was made."""
        with self._opened() as folder:
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)

    def set_aside(self, name: str) -> None:
        """Keep a call that cannot be made under another name."""
        with self._opened() as folder, suppress(FileNotFoundError):
            os.rename(name, f"{name}.refused", src_dir_fd=folder, dst_dir_fd=folder)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self.folder, flags)
        try:
            yield handle
        finally:
            os.close(handle)
