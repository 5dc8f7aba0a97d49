"""Keeping a database file in place while it is in use.

Every transaction holds a shared lock (``flock``) on a file beside the database, in every process
and container; whoever sets the database aside holds it alone. So nothing is ever written into a
file that was set aside: before the next transaction each process sees that another file has its
name, and opens that.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from acoupi.components.stores import faults
from acoupi.locks import lock_within
from acoupi.opening import open_file
from acoupi.writing import inherit_owner

__all__ = ["Guard", "alone_with", "identity", "lock_file"]

Identity = tuple[tuple[int, int] | None, tuple[int, int] | None]


def lock_file(path: Path) -> Path:
    """Return the file of the lock of a database; it stays empty."""
    return path.with_name(f"{path.name}.lock")


def identity(path: Path) -> Identity:
    """Return what distinguishes a database, and its lock, from a later one with its name."""
    return _inode(path), _inode(lock_file(path))


class Guard:
    """A shared hold on a database file.

    Parameters
    ----------
    path
        The database. Where the file of the lock cannot be made (a read-only disk), nobody can
        set the database aside either, and the guard does nothing.
    is_needed
        Whether it does anything: who only takes one look does not need it.
    """

    def __init__(self, path: Path, *, is_needed: bool = True) -> None:
        self._handle: int | None = None
        if is_needed:
            with suppress(OSError):
                self._handle = _opened(path)

    def hold(self) -> None:
        """Wait until no process is setting the file aside, and prevent others from doing so.

        Raises
        ------
        sqlite3.OperationalError
            If that takes too long.
        """
        if self._handle is not None and not lock_within(
            self._handle, faults.BUSY_TIMEOUT, is_shared=True
        ):
            raise _busy()

    def let_go(self) -> None:
        """End the hold."""
        if self._handle is not None:
            fcntl.flock(self._handle, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file of the lock."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Keep every other process from the database while the block lasts.

    Raises
    ------
    sqlite3.OperationalError
        If somebody uses it for too long.
    OSError
        If the file of the lock cannot be made: then nobody is kept from it.
    """
    handle = _opened(path)
    try:
        if not lock_within(handle, faults.BUSY_TIMEOUT + 5):
            raise _busy()
        yield
    finally:
        os.close(handle)


def _opened(path: Path) -> int:
    handle = open_file(lock_file(path), os.O_RDONLY | os.O_CREAT)
    inherit_owner(handle, path.parent)
    return handle


def _busy() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("its lock is held")
    error.sqlite_errorname = "SQLITE_BUSY"
    return error


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino)
