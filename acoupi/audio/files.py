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
A destination that already holds exactly the same bytes is treated as this move,
interrupted by a crash. (Every recording holds its own id, so two are never equal;
where they might be, `is_taken` decides.)
"""

import ctypes
import errno
import fcntl
import filecmp
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from uuid import uuid4

from acoupi.audio.formats import is_sound_file

__all__ = [
    "DELETED_SUFFIX",
    "MOVING_SUFFIX",
    "delete_file",
    "deletion_mark",
    "finish_deletion",
    "has_same_bytes",
    "hidden_files",
    "is_same_entry",
    "list_recordings",
    "make_folder",
    "move_file",
]

DELETED_SUFFIX = ".deleted"
MOVING_SUFFIX = ".moving"

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
    source, destination = Path(source), Path(destination)
    if not source.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such recording", str(source))
    make_folder(destination.parent)
    final = _place(source, destination, is_taken or (lambda _: False))
    _commit(commit, final)
    if not is_same_entry(source, final):
        source.unlink(missing_ok=True)
    return final


def delete_file(path: Path, *, commit: Commit | None = None) -> bool:
    """Delete a file; return whether there was one.

    It is first renamed to its deletion mark, a hidden name; then `commit` is
    called with `path`, and then it is removed.
    """
    path = Path(path)
    mark = deletion_mark(path)
    try:
        path.rename(mark)
    except FileNotFoundError:
        if not mark.exists():
            return False
    else:
        _sync(path.parent)
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
    mark.unlink(missing_ok=True)


def _files(folder: Path, is_wanted: Callable[[str], bool]) -> list[Path]:
    try:
        named = [path for path in Path(folder).iterdir() if is_wanted(path.name)]
    except FileNotFoundError:
        return []
    return sorted(path for path in named if path.is_file())


def _commit(commit: Commit | None, path: Path) -> None:
    if commit is not None:
        commit(path)


def _place(source: Path, destination: Path, is_taken: Callable[[Path], bool]) -> Path:
    """Make the file complete and durable under a free name, and return that."""
    _sync(source)

    def publish(path: Path, put: Callable[[Path, Path], None]) -> Path:
        for candidate in _numbered(destination):
            if is_taken(candidate):
                continue
            try:
                put(path, candidate)
            except FileExistsError:
                if not (is_same_entry(source, candidate) or has_same_bytes(source, candidate)):
                    continue
                _remove_abandoned_copies(destination)
            _sync(candidate.parent)
            return candidate
        raise AssertionError("there is always another number")

    try:
        return publish(source, os.link)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
    with _copied_beside(source, destination) as copy:
        return publish(copy, _rename_to_free)


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in count(1):
        yield path.with_name(f"{path.stem}_{number}{path.suffix}")


def has_same_bytes(source: Path, other: Path) -> bool:
    """Return whether both files hold the same bytes, and any at all."""
    return source.stat().st_size > 0 and filecmp.cmp(source, other, shallow=False)


def is_same_entry(source: Path, other: Path) -> bool:
    """Return whether both paths are the same directory entry, e.g. through a linked folder."""
    try:
        return source.samefile(other) and other.stat().st_nlink < 2
    except FileNotFoundError:
        return False


@contextmanager
def _copied_beside(source: Path, destination: Path) -> Iterator[Path]:
    """Make a durable, temporary copy under a hidden name in the destination's folder."""
    _remove_abandoned_copies(destination)
    copy = destination.with_name(f"{_copy_prefix(destination)}{uuid4().hex[:8]}{MOVING_SUFFIX}")
    with copy.open("xb") as target:
        _try_lock(target.fileno())
        try:
            with source.open("rb") as stream:
                shutil.copyfileobj(stream, target, _COPY_BYTES)
            target.flush()
            os.fsync(target.fileno())
            shutil.copystat(source, copy)
            yield copy
        except Exception:
            copy.unlink(missing_ok=True)
            raise
        copy.unlink(missing_ok=True)


def _copy_prefix(destination: Path) -> str:
    return f".{destination.name.encode()[:200].decode(errors='ignore')}."


def _remove_abandoned_copies(destination: Path) -> None:
    """Remove earlier copies left by crashes: the kernel has released their locks."""
    for path in hidden_files(destination.parent, MOVING_SUFFIX):
        if path.name.startswith(_copy_prefix(destination)):
            with suppress(FileNotFoundError), path.open("rb") as stream:
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
        each.mkdir(exist_ok=True)
        _sync(each.parent)


def _sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
