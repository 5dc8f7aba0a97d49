"""Files that must not be lost: hidden until complete, locked while written, synced to disk."""

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from acoupi.errors import AudioError, RecordingError
from acoupi.home import home_dir
from acoupi.opening import NotAFileError, is_file, open_file

__all__ = [
    "cut_at_hole",
    "disk_errors",
    "find_parts",
    "held_alone",
    "holding",
    "open_new",
    "open_sound",
    "part_path",
    "publish",
    "write_out",
]

_WRITE_AND_WAIT = 7
"""All flags of sync_file_range(2)."""


def part_path(path: Path) -> Path:
    """Return the hidden name of a file that is still being made.

    Examples
    --------
    >>> part_path(Path("spool/a.wav")).as_posix()
    'spool/.a.wav.part'
    """
    return path.with_name(f".{path.name}.part")


def find_parts(folder: Path) -> list[Path]:
    """Return the unfinished files in a folder, by name; empty if there is no folder."""
    found = folder.glob(".*.part") if folder.is_dir() else ()
    return sorted(part for part in found if is_file(part) or _is_folder(part))


def _is_folder(part: Path) -> bool:
    return part.is_dir() and not part.is_symlink()


def write_out(handle: int) -> None:
    """Write what a file holds to the disk, without the journal of the file system.

    From then on no power cut leaves the file with its next name and without its content, as the
    journal keeps its order. Where the kernel cannot do that, the file is synced.
    """
    try:
        failed = ctypes.CDLL(None).sync_file_range(
            handle, ctypes.c_int64(0), ctypes.c_int64(0), _WRITE_AND_WAIT
        )
    except (AttributeError, OSError):
        failed = True
    if failed:
        os.fsync(handle)


def publish(part: Path, path: Path) -> None:
    """Give a file that is written out its name, without overwriting another, and sync both to disk.

    One commit of the journal holds both.

    Raises
    ------
    AudioError
        If another file has the name.
    OSError
        If the disk refuses.
    """
    try:
        os.link(part, path)
    except FileExistsError as error:
        if not path.samefile(part):
            raise _name_taken(path) from error
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        # The file system has no links (FAT on a memory stick), and may have no journal.
        if path.exists():
            raise _name_taken(path) from error
        _sync(part)
        part.rename(path)
    part.unlink(missing_ok=True)
    _sync(path)
    _sync_folder(path.parent)


@contextmanager
def holding(part: Path) -> Iterator[bool]:
    """Mark a file or folder as being worked on while the block lasts.

    Yields False if another process, or another writer in this one, has marked
    it, or if it no longer exists.
    """
    try:
        handle = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _lock(handle)
    finally:
        os.close(handle)


def open_new(part: Path) -> BinaryIO:
    """Create a new file, and lock it."""
    try:
        file = part.open("x+b", buffering=0)
    except FileExistsError as error:
        raise _name_taken(part) from error
    _lock(file.fileno())
    return file


def cut_at_hole(file: BinaryIO) -> None:
    """End a file where the disk holds nothing of it: there a power cut left zeros.

    A file system may have made the length of a file durable, and the room for it,
    before what was to be there. Recorders leave no holes.
    """
    handle = file.fileno()
    size = os.fstat(handle).st_size
    if not size:
        return
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)  # zeros once read count as written
    hole = os.lseek(handle, 0, os.SEEK_HOLE)
    if hole < size:
        file.truncate(hole)


@contextmanager
def open_sound(path: Path, mode: str = "rb") -> Iterator[BinaryIO]:
    """Open a sound file while the block lasts; unbuffered if it is to be written.

    Raises
    ------
    AudioError
        If it cannot be opened.
    """
    try:
        file = _open(path, mode)
    except NotAFileError as error:
        raise AudioError(
            f'cannot open "{path}".',
            "give the path of the file itself",
            why=f"{error.strerror}, where a file must be.",
        ) from error
    except OSError as error:
        raise AudioError(
            f'cannot open "{path}".',
            "check the path, and that you may read it",
            why=f"{os.strerror(error.errno or 0)}.",
        ) from error
    with file:
        yield file


def _open(path: Path, mode: str) -> BinaryIO:
    is_changed = "+" in mode
    # A link that a person made to a recording elsewhere is good enough to be read.
    is_shared = is_changed or path.absolute().is_relative_to(home_dir())
    flags = os.O_RDWR if is_changed else os.O_RDONLY
    handle = open_file(path if is_shared else path.resolve(), flags)
    return cast("BinaryIO", os.fdopen(handle, mode, buffering=0 if is_changed else -1))


def _lock(handle: int) -> bool:
    """Lock an open file; False if another process has it. True where locks do not exist."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def held_alone(path: Path) -> Iterator[bool]:
    """Lock a sound file that is to be changed; provide whether no other process has it."""
    with open_sound(path, "r+b") as file:
        yield _lock(file.fileno())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(handle)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of the disk into a `RecordingError`."""
    try:
        yield
    except OSError as error:
        help_ = {
            errno.ENOSPC: "free some space, or record to another disk",
            errno.EDQUOT: "free some space, or record to another disk",
            errno.EROFS: "mount the disk for writing; a worn card turns read-only: replace it",
            errno.EACCES: f'allow this user to write there: ls -ld "{path.parent}"',
            errno.EPERM: f'allow this user to write there: ls -ld "{path.parent}"',
        }.get(error.errno or 0, f'check the disk of "{path.parent}"')
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise RecordingError(
            f'cannot write the recording in "{path.parent}".', help_, why=f"{reason}."
        ) from error


def _name_taken(path: Path) -> AudioError:
    return AudioError(
        f'will not overwrite "{path.name}".',
        f'move the file away from "{path.parent}"',
        why="there is already a file with that name.",
    )
