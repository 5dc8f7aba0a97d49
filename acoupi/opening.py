"""Opening files of folders that several services write: by descriptor, and never through a link.

A compromised service can put a link, a FIFO or a socket in the place of a file at any moment, even
between a check and an open. So a file is opened once, below a folder that was opened before, and
the opened file is checked, not its path.

Which links of folders are followed:

- to `beneath`, or (where that is not given) to the folders right below ACOUPI_HOME, as ``data`` and
  ``run``, or to a folder outside: all of them. No service can change names there.
- below that: none, if `beneath` is given; else those that root made, or the user of this process
  unless that is root. So ``data/recordings`` may be a link to a larger disk.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from acoupi.home import home_dir

__all__ = [
    "NotAFileError",
    "at",
    "is_file",
    "kind_of",
    "open_binary",
    "open_file",
    "open_in",
    "opened_folder",
    "read_bytes",
    "read_text",
]

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFREG: "a file",
}

_NO_FILE = {errno.ELOOP: "a link", errno.ENXIO: "a FIFO or a socket", errno.EISDIR: "a folder"}
"""The kind of an entry, by the error of opening it."""


class NotAFileError(OSError):
    """Something else is in the place of a file (or folder): a link, a FIFO, a socket."""


def kind_of(mode: int) -> str:
    """Return the kind of a folder's entry in words, by its mode.

    Examples
    --------
    >>> kind_of(0o120777)
    'a link'
    """
    return _KINDS.get(stat.S_IFMT(mode), "something unknown")


def is_file(path: Path) -> bool:
    """Return whether a path is a regular file and not a link; False if unknown."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def opened_folder(folder: Path, *, beneath: Path | None = None) -> Iterator[int]:
    """Provide the descriptor of a folder, good for `dir_fd` (it is opened with ``O_PATH``).

    Parameters
    ----------
    folder
        folder
            The folder.
        A folder that holds it; below that, no link is followed.

    Raises
    ------
    NotAFileError
        If its path goes through a link that is not followed, or it is not a folder.
    OSError
        If it cannot be opened.
    """
    folder = folder.absolute()
    start = beneath.absolute() if beneath else _trusted(folder)
    handle = os.open(start, _FOLDER)
    try:
        for name in folder.relative_to(start).parts:
            below = _enter(handle, name, folder, strict=beneath is not None)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def open_file(
    path: Path, flags: int = os.O_RDONLY, mode: int = 0o644, *, beneath: Path | None = None
) -> int:
    """Return the descriptor of a regular file; opening never blocks.

    Parameters
    ----------
    path
        It.
    flags, mode
        As for `os.open`.
    beneath
        As for `opened_folder`.

    Raises
    ------
    NotAFileError
        If it is a link or not a regular file.
    OSError
        If it cannot be opened.
    """
    with opened_folder(path.parent, beneath=beneath) as folder:
        return open_in(folder, path, flags, mode)


def open_in(folder: int, path: Path, flags: int = os.O_RDONLY, mode: int = 0o644) -> int:
    """Return the descriptor of the regular file of that name in an open folder.

    Raises as `open_file`.
    """
    truncate = flags & os.O_TRUNC  # only once it is known to be a file
    try:
        handle = os.open(path.name, (flags & ~os.O_TRUNC) | _FILE, mode, dir_fd=folder)
    except OSError as error:
        what = _NO_FILE.get(error.errno or 0)
        if what is None:
            error.filename = str(path)
            raise
        raise _refusal(path, what) from error
    try:
        _check_is_file(handle, path)
        if truncate:
            os.ftruncate(handle, 0)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _check_is_file(handle: int, path: Path) -> None:
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        raise _refusal(path, kind_of(mode))


def at(folder: int, name: str) -> Path:
    """Return a path to a name in an open folder: it stays valid if the folder is renamed."""
    return Path(f"/proc/self/fd/{folder}", name)


def open_binary(path: Path, *, beneath: Path | None = None) -> BinaryIO:
    """Open a regular file for reading; raises as `open_file`."""
    return os.fdopen(open_file(path, beneath=beneath), "rb")


def read_bytes(path: Path, limit: int, *, beneath: Path | None = None) -> bytes:
    """Return the content of a regular file.

    Raises
    ------
    NotAFileError
        If it is a link or not a regular file.
    OSError
        If it cannot be read, or holds more than `limit` bytes (``EFBIG``).
    """
    with open_binary(path, beneath=beneath) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"holds more than {limit} bytes", str(path))
    return content


def read_text(path: Path, limit: int, *, beneath: Path | None = None) -> str:
    """Return the text of a regular file; see `read_bytes`.

    Bytes that are no UTF-8 raise UnicodeDecodeError.
    """
    return read_bytes(path, limit, beneath=beneath).decode()


def _trusted(folder: Path) -> Path:
    """Return the part of a path in which no service can change a name."""
    home = home_dir()
    if not folder.is_relative_to(home):
        return folder
    return home.joinpath(*folder.relative_to(home).parts[:1])


def _enter(handle: int, name: str, folder: Path, *, strict: bool) -> int:
    """Return the descriptor of a folder in an open one."""
    if name == "..":
        raise NotAFileError(errno.EINVAL, 'leads through ".."', str(folder))
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            error.filename = str(folder)
            raise
    look = os.open(name, _LOOK, dir_fd=handle)
    try:
        found = os.fstat(look)
        if not stat.S_ISLNK(found.st_mode) or strict or not _is_ours(found.st_uid):
            raise _refusal(folder, f"behind {kind_of(found.st_mode)}, {name}")
        return os.open(os.readlink(b"", dir_fd=look), _FOLDER, dir_fd=handle)
    finally:
        os.close(look)


def _is_ours(uid: int) -> bool:
    return uid in (0, os.geteuid())


def _refusal(path: Path, what: str) -> NotAFileError:
    return NotAFileError(errno.ELOOP, f"it is {what}", str(path))
