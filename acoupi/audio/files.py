"""Files of recordings: list them, and move or delete them so that a crash loses nothing.

Moving and deleting take a `commit`, which records in the store what became of the
file. It is called when the file is safe at its new place (or out of the way) and
before the old one is removed. After a crash at any point, either the same call
completes the work when it is repeated, or `hidden_files` shows what is left:

==================  ===============================================================
``.NAME.part``      a recorder was writing it
``.NAME.deleted``   its deletion was decided; `finish_deletion` completes it
``.NAME.X.moving``  an unfinished copy beside its destination; the next move to
                    the same name removes it
==================  ===============================================================

Nothing is ever overwritten: a taken name becomes ``NAME_1.wav``, ``NAME_2.wav``, ...
Only regular files are moved and deleted, and no link is followed: a service that is taken over
may put one into the spool. A file with two names is one that a crash left so.

A destination that already holds exactly the same bytes is treated as this move,
interrupted by a crash. (Every recording holds its own id, so two are never equal;
where they might be, `is_taken` decides.)
"""

import ctypes
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from acoupi.audio.formats import is_sound_file
from acoupi.opening import NotAFileError, at, is_file, kind_of, open_binary, open_in, opened_folder

__all__ = [
    "DELETED_SUFFIX",
    "MOVING_SUFFIX",
    "begin_move",
    "delete_file",
    "deletion_mark",
    "end_move",
    "finish_deletion",
    "force_names",
    "has_same_bytes",
    "hidden_files",
    "is_same_entry",
    "list_recordings",
    "make_folder",
    "move_file",
    "strange_entries",
    "sync_folder",
]

DELETED_SUFFIX = ".deleted"
MOVING_SUFFIX = ".moving"
PART_SUFFIX = ".part"

_COPY_BYTES = 1 << 20
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Errors where hard links are impossible: another file system, or one without them (vfat)."""
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EOPNOTSUPP, errno.EROFS}
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100

Commit = Callable[[Path], object]


def list_recordings(folder: Path) -> list[Path]:
    """Return the complete recordings directly in a folder, by name; none if it does not exist.

    Names begin with the time, so the oldest come first. Hidden files are not complete.
    """
    return _files(folder, is_sound_file)


def hidden_files(folder: Path, suffix: str) -> list[Path]:
    """Return the hidden files directly in a folder that end in `suffix`, by name."""
    return _files(folder, lambda name: name[0] == "." and name.endswith(suffix))


def move_file(
    source: Path,
    destination: Path,
    *,
    commit: Commit | None = None,
    is_taken: Callable[[Path], bool] | None = None,
) -> Path:
    """Move a file to a name that no other file has, and return that name.

    Parameters
    ----------
    source
        A complete file.
    destination
        Where it should go; folders are made. If the name is taken, a number is added.
    commit
        Called with the final name once the file is safe there; only then is
        the source removed. If it raises, both stay, and the same call resumes.
    is_taken
        Whether a name belongs to another recording, even if there is no such
        file (any more). None: only existing files count.

    Raises
    ------
    FileNotFoundError
        If there is no source.
    OSError
        If the disk is full or refuses. The source is untouched then.
    """
    final = begin_move(source, destination, is_taken=is_taken)
    force_names(final.parent)
    end_move(source, final, commit=commit)
    return final


def begin_move(
    source: Path, destination: Path, *, is_taken: Callable[[Path], bool] | None = None
) -> Path:
    """Give a file another name, as `move_file` does, and return it; the first one stays.

    `force_names` of its folder comes next, once for all files that were moved there, and then
    `end_move` for each. A commit of the journal is 30 kB, whatever it holds.
    """
    source, destination = Path(source), Path(destination)
    with opened_folder(source.parent) as spool, _opened(spool, source) as stream:
        make_folder(destination.parent)
        with opened_folder(destination.parent) as kept:
            move = _Move(stream, at(spool, source.name), destination, kept)
            return move.place(is_taken or (lambda _: False))


def force_names(folder: Path) -> None:
    """Force the names in a folder to the disk."""
    with opened_folder(folder) as handle:
        sync_folder(at(handle, "."))


def end_move(source: Path, final: Path, *, commit: Commit | None = None) -> None:
    """Call `commit` with the new name, which is on the disk, and remove the first one."""
    _commit(commit, final)
    with opened_folder(Path(source).parent) as spool, opened_folder(final.parent) as kept:
        named = at(spool, Path(source).name)
        if not is_same_entry(named, at(kept, final.name)):
            named.unlink(missing_ok=True)


def delete_file(path: Path, *, commit: Commit | None = None) -> bool:
    """Delete a file; return whether there was one.

    It is first renamed to its deletion mark, a hidden name; then `commit` is
    called with `path`, and then it is removed.
    """
    path = Path(path)
    mark = deletion_mark(path)
    with _folder_if_there(path.parent) as folder:
        if folder is None:
            return False
        named, marked = at(folder, path.name), at(folder, mark.name)
        if is_file(named):
            named.rename(marked)
            sync_folder(at(folder, "."))
        elif _is_something_else(named):
            raise NotAFileError(errno.ELOOP, "it is no file", str(path))
        elif not is_file(marked):
            return False
    finish_deletion(mark, commit=commit)
    return True


def deletion_mark(path: Path) -> Path:
    """Return the hidden name that marks a file for deletion.

    Examples
    --------
    >>> deletion_mark(Path("spool/a.wav")).as_posix()
    'spool/.a.wav.deleted'
    """
    return path.with_name(f".{path.name}{DELETED_SUFFIX}")


def finish_deletion(mark: Path, *, commit: Commit | None = None) -> None:
    """Delete a file that is marked for deletion; `commit` gets its earlier name."""
    _commit(commit, mark.with_name(mark.name.removeprefix(".").removesuffix(DELETED_SUFFIX)))
    with _folder_if_there(mark.parent) as folder:
        if folder is not None:
            at(folder, mark.name).unlink(missing_ok=True)


def strange_entries(folder: Path) -> list[tuple[Path, str]]:
    """Return the entries of a recording folder that should be files but are not, with their kinds.

    It is left alone: a program that records puts no link or FIFO there.
    """
    try:
        entries = [path for path in Path(folder).iterdir() if _is_named_like_ours(path.name)]
    except OSError:
        return []
    found = []
    for path in sorted(entries):
        with suppress(FileNotFoundError):
            mode = path.lstat().st_mode
            is_part = stat.S_ISDIR(mode) and path.name.endswith(PART_SUFFIX)
            if not stat.S_ISREG(mode) and not is_part:
                found.append((path, kind_of(mode)))
    return found


def _is_named_like_ours(name: str) -> bool:
    return is_sound_file(name) or (
        name[0] == "." and name.endswith((DELETED_SUFFIX, MOVING_SUFFIX, PART_SUFFIX))
    )


def _files(folder: Path, is_wanted: Callable[[str], bool]) -> list[Path]:
    try:
        named = [path for path in Path(folder).iterdir() if is_wanted(path.name)]
    except FileNotFoundError:
        return []
    return sorted(path for path in named if is_file(path))


def _commit(commit: Commit | None, path: Path) -> None:
    if commit is not None:
        commit(path)


@contextmanager
def _opened(folder: int, path: Path) -> Iterator[BinaryIO]:
    with os.fdopen(open_in(folder, path), "rb") as stream:
        yield stream


@contextmanager
def _folder_if_there(path: Path) -> Iterator[int | None]:
    with ExitStack() as stack:
        folder = None
        with suppress(FileNotFoundError):
            folder = stack.enter_context(opened_folder(path))
        yield folder


def _is_something_else(path: Path) -> bool:
    """Return whether there is an entry with that name that is not a file."""
    return os.path.lexists(path) and not is_file(path)


@dataclass
class _Move:
    """An open file, and its destination in an open folder."""

    stream: BinaryIO
    source: Path
    """In its open folder, as `at` returns it."""
    destination: Path
    """As it was named."""
    folder: int
    """Of the destination."""

    def place(self, is_taken: Callable[[Path], bool]) -> Path:
        """Make the file complete and durable, and give it a free name; return that."""
        os.fsync(self.stream.fileno())
        try:
            return self._publish(self.source, os.link, is_taken)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
        with _copied_beside(self.stream, at(self.folder, self.destination.name)) as copy:
            return self._publish(copy, _rename_to_free, is_taken)

    def _publish(
        self, path: Path, put: Callable[[Path, Path], None], is_taken: Callable[[Path], bool]
    ) -> Path:
        for name in _numbered(self.destination):
            if is_taken(name):
                continue
            candidate = at(self.folder, name.name)
            try:
                put(path, candidate)
                self._check_same(path, candidate)
            except FileExistsError:
                if not self._is_there(candidate):
                    continue
                _remove_abandoned_copies(at(self.folder, self.destination.name))
            return name
        raise AssertionError("there is always another number")

    def _check_same(self, path: Path, candidate: Path) -> None:
        """Remove the moved file if the source was swapped for something else meanwhile."""
        if path == self.source and not self._is_open(candidate):
            candidate.unlink(missing_ok=True)
            raise FileNotFoundError(errno.ENOENT, "it was replaced", str(self.source))

    def _is_open(self, path: Path) -> bool:
        return os.path.samestat(os.fstat(self.stream.fileno()), path.lstat())

    def _is_there(self, candidate: Path) -> bool:
        if not is_file(candidate):
            return False
        if is_same_entry(self.source, candidate):
            return True
        with _opened(self.folder, candidate) as other:
            return _hold_the_same(self.stream, other)


@contextmanager
def _copied_beside(stream: BinaryIO, destination: Path) -> Iterator[Path]:
    """Make a durable, temporary copy under a hidden name in the destination's folder."""
    _remove_abandoned_copies(destination)
    copy = destination.with_name(f"{_copy_prefix(destination)}{uuid4().hex[:8]}{MOVING_SUFFIX}")
    with copy.open("xb") as target:
        _try_lock(target.fileno())
        try:
            stream.seek(0)
            shutil.copyfileobj(stream, target, _COPY_BYTES)
            target.flush()
            os.fsync(target.fileno())
            found = os.fstat(stream.fileno())
            os.fchmod(target.fileno(), stat.S_IMODE(found.st_mode))
            os.utime(target.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))
            yield copy
        except Exception:
            copy.unlink(missing_ok=True)
            raise
        copy.unlink(missing_ok=True)


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in count(1):
        yield path.with_name(f"{path.stem}_{number}{path.suffix}")


def has_same_bytes(source: Path, other: Path) -> bool:
    """Return whether both files hold the same bytes, and any at all."""
    with open_binary(source) as first, open_binary(other) as second:
        return _hold_the_same(first, second)


def _hold_the_same(first: BinaryIO, second: BinaryIO) -> bool:
    size = os.fstat(first.fileno()).st_size
    if size == 0 or size != os.fstat(second.fileno()).st_size:
        return False
    first.seek(0)
    while block := first.read(_COPY_BYTES):
        if block != second.read(len(block)):
            return False
    return True


def is_same_entry(source: Path, other: Path) -> bool:
    """Return whether both paths are the same directory entry, e.g. through a linked folder."""
    try:
        found = other.lstat()
        return os.path.samestat(source.lstat(), found) and found.st_nlink < 2
    except FileNotFoundError:
        return False


def _copy_prefix(destination: Path) -> str:
    return f".{destination.name.encode()[:200].decode(errors='ignore')}."


def _remove_abandoned_copies(destination: Path) -> None:
    """Remove earlier copies left by crashes: the kernel has released their locks."""
    for path in hidden_files(destination.parent, MOVING_SUFFIX):
        if path.name.startswith(_copy_prefix(destination)):
            with suppress(FileNotFoundError, NotAFileError), open_binary(path) as stream:
                if _try_lock(stream.fileno()):
                    path.unlink(missing_ok=True)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _rename_to_free(path: Path, free: Path) -> None:
    """Rename, or raise FileExistsError if the name is not free."""
    try:
        os.link(path, free)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
    else:
        path.unlink()
        return
    if not _rename_noreplace(path, free):
        # Neither links nor RENAME_NOREPLACE (some FUSE file systems): the best available.
        if free.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(free))
        path.rename(free)


def _rename_noreplace(path: Path, free: Path) -> bool:
    """Call renameat2(2); return whether this system and file system have it."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    old, new = os.fsencode(path), os.fsencode(free)
    if renameat2(_AT_FDCWD, old, _AT_FDCWD, new, _RENAME_NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(path), None, str(free))


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, each synced in the folder that holds it."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        with opened_folder(each.parent) as parent:
            at(parent, each.name).mkdir(exist_ok=True)
            sync_folder(at(parent, "."))


def sync_folder(path: Path) -> None:
    """Force the names in a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
