"""Changing the files of a home: all of them or none, even when it is killed in between.

Several files cannot be renamed at once, so a change goes through a journal in
``config/``:

1. ``.staging.json`` lists what will be replaced and removed. The new files are
   written beside the old ones, under hidden names, and synced.
2. The journal is renamed to ``.decided.json``. Before that the old
   configuration is in force, from then on the new one.
3. The files are moved to their places, and the journal is removed.

A change that was interrupted before step 2 is discarded, and one that was
interrupted after step 2 is finished, by the next process that changes the home. Until
then `read_whole` reads every file of ``config/`` as it was decided, so that
services need not wait, and need no right to write there.

`changing` is the lock of a home: one process changes it at a time.
"""

import contextlib
import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from acoupi.errors import AcoupiError, DeviceError
from acoupi.locks import lock_within
from acoupi.writing import (
    READABLE,
    RenderedFile,
    disk_error,
    inherit_owner,
    make_folder,
    new_mark,
    part_of,
    stage,
    sync_folder,
)

__all__ = [
    "LOCK",
    "changing",
    "commit_files",
    "is_there",
    "read_whole",
    "settle",
    "version_of",
    "whole",
]

LOCK = ".setup.lock"
STAGING = ".staging.json"
DECIDED = ".decided.json"
UNWRITTEN = f"{STAGING}.part"
PATIENCE = 30.0
"""Seconds to wait for another process that changes the home."""
OLD_STAGING, OLD_MARKER = "next", "provisioned.json"
"""Where an earlier version staged a configuration in ``config/``, and the file that decided it."""
OLD_MANIFEST = ".generated.json"
"""The one file of such a configuration that belongs beside ``config/``."""

_held: ContextVar[frozenset[Path]] = ContextVar("acoupi_changing", default=frozenset())


# --- the lock -------------------------------------------------------------------------


@contextlib.contextmanager
def changing(config: Path, act: str, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of a home for the length of a block; finish first what was interrupted.

    Nested in such a block of the same process, it does nothing.

    Parameters
    ----------
    config
        The folder ``config/`` of the home; made if needed, and removed again if it is
        empty after the block.
    act
        What holds the lock, for others who wait: "acoupi setup".
    patience
        Seconds to wait for another process.

    Raises
    ------
    DeviceError
        If another process (which is named) holds it for too long, or after a disk error.
    """
    if config in _held.get():
        yield
        return
    made: list[Path] = []
    handle = _lock(config, act, patience, made)
    token = _held.set(_held.get() | {config})
    try:
        _finish(config)
        yield
    finally:
        _held.reset(token)
        _unlock(config, handle, made)


def _lock(config: Path, act: str, patience: float, made: list[Path]) -> int:
    path = config / LOCK
    try:
        while True:
            make_folder(config, made)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, READABLE)
            inherit_owner(handle, config)
            if not lock_within(handle, patience):
                raise _too_long(config, handle, patience)
            if _is_named(path, handle):
                break
            os.close(handle)  # whoever held it removed the file
    except OSError as error:
        raise disk_error("write", path, error) from error
    with contextlib.suppress(OSError):  # only informs others; the lock works without it
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{act} (process {os.getpid()})\n".encode(), 0)
    return handle


def _is_named(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _too_long(config: Path, handle: int, patience: float) -> DeviceError:
    holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
    os.close(handle)
    return DeviceError(
        f"cannot change the sensor in {config.parent}.",
        f"wait until it has ended; to see what it is: fuser -v {shlex.quote(str(config / LOCK))}",
        why=f"{holder} is changing it, and had not finished after {patience:.0f} s.",
    )


def _unlock(config: Path, handle: int, made: list[Path]) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        if config in made and [one.name for one in config.iterdir()] == [LOCK]:
            (config / LOCK).unlink()
            for folder in reversed(made):
                folder.rmdir()
    os.close(handle)


# --- reading --------------------------------------------------------------------------


def whole(path: Path) -> Path:
    """Return where the content of a file of ``config/`` is now.

    That is its place, or the new file beside it that a decided change has not moved yet.
    """
    change = None
    with contextlib.suppress(
        DeviceError
    ):  # a damaged journal is reported to whoever changes the home
        change = _decided(path.parent)
    part = change.files.get(_real(path)) if change else None
    return part if part is not None and part.exists() else path


def is_there(path: Path) -> bool:
    """Return whether a file of ``config/`` exists, in its place or decided.

    Anything with that name counts: reading it then reports what is wrong.
    """
    return os.path.lexists(whole(path))


def version_of(path: Path) -> tuple[int, int] | None:
    """Return a mark of the version of a file in ``config/``, which stays when it is moved."""
    try:
        status = whole(path).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def read_whole(path: Path, encoding: str = "utf-8", errors: str = "strict") -> str:
    """Return the text of a file of ``config/``, as of the last decided change.

    Raises
    ------
    OSError, UnicodeDecodeError
        As from `Path.read_text`.
    """
    try:
        return whole(path).read_text(encoding, errors)
    except FileNotFoundError:
        return path.read_text(encoding, errors)  # it was moved there just now


def settle(config: Path) -> None:
    """Finish an interrupted change if this process can; otherwise leave it to others."""
    with contextlib.suppress(AcoupiError, PermissionError):
        if any((config / name).exists() for name in (UNWRITTEN, STAGING, DECIDED, OLD_STAGING)):
            with changing(config, "finishing an interrupted change", patience=0):
                pass


# --- writing --------------------------------------------------------------------------


def commit_files(
    config: Path,
    files: Mapping[Path, RenderedFile],
    *,
    remove: Iterable[Path] = (),
    folders: Iterable[Path] = (),
) -> None:
    """Write files, remove others and make folders: all of it, or nothing.

    Call this while `changing` the home. A link stays, and the file that it leads to is
    written; if a link must be removed, its target stays.

    Raises
    ------
    DeviceError
        If the disk is full, read-only or fails; then nothing is changed.
    """
    mark = new_mark()
    new = {_real(path): file for path, file in files.items()}
    change = _Change(
        {path: part_of(path, mark) for path in new}, tuple(path.absolute() for path in remove)
    )
    made: list[Path] = []
    target = config
    try:
        for target in folders:
            make_folder(target, made)
        before = {}
        for target in (*change.files, *change.remove):
            before[target] = _content(target)
        _write_journal(config, change)
        for target, part in change.files.items():
            make_folder(target.parent, made)
            stage(part, new[target].text.encode(), new[target].mode)
        _sync(change)
        (config / STAGING).replace(config / DECIDED)
    except BaseException as error:  # Ctrl-C too
        _discard(config, change)
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise disk_error("write", target, error) from error
        raise
    try:
        _place(config, change)
    except OSError as error:
        with contextlib.suppress(OSError):
            _put_back(config, change, before)
        raise _refused(config, error) from error
    except BaseException:
        _place(config, change)  # it is decided: an interrupt comes too late
        raise


@dataclass(frozen=True)
class _Change:
    """The contents of a journal."""

    files: Mapping[Path, Path]
    """The new file that each place gets."""
    remove: tuple[Path, ...] = ()

    def text(self, config: Path) -> str:
        """Return it as JSON; paths are relative, because a home may be moved."""
        files = {
            _relative(path, config): _relative(part, config) for path, part in self.files.items()
        }
        return json.dumps(
            {"files": files, "remove": [_relative(one, config) for one in self.remove]}
        )


def _relative(path: Path, config: Path) -> str:
    return os.path.relpath(path, config)


def _absolute(text: str, config: Path) -> Path:
    return Path(os.path.normpath(config.absolute() / text))


def _real(path: Path) -> Path:
    return path.resolve() if path.is_symlink() else path.absolute()


def _read_journal(path: Path) -> _Change | None:
    """Return the contents of a journal, or None.

    Raises
    ------
    DeviceError
        If it cannot be read.
    """
    config = path.parent
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _Change(
            {
                _absolute(one, config): _absolute(part, config)
                for one, part in content["files"].items()
            },
            tuple(_absolute(one, config) for one in content["remove"]),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise disk_error("read", path, error) from error
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        quoted = shlex.quote(str(path))
        raise DeviceError(
            f'cannot read "{path}".',
            f"mv {quoted} {quoted}.broken && acoupi setup",
            why=f"its contents are not as acoupi writes them ({error}).",
        ) from error


def _decided(config: Path) -> _Change | None:
    """Return the change that is decided but may not be finished."""
    change = _read_journal(config / DECIDED)
    old = config / OLD_STAGING
    if change is not None or not (old / OLD_MARKER).exists():
        return change
    # The marker last: it is what decides.
    parts = sorted(old.iterdir(), key=lambda one: one.name == OLD_MARKER)
    return _Change({_real(_old_place(one)): one for one in parts})


def _old_place(part: Path) -> Path:
    config = part.parent.parent
    home = config.parent
    is_in_home = part.name == OLD_MANIFEST and os.access(home, os.W_OK)
    is_same_disk = is_in_home and home.stat().st_dev == config.stat().st_dev
    return (home if is_same_disk else config) / part.name


def _finish(config: Path) -> None:
    """Finish a decided change, and discard an undecided one."""
    try:
        change = _decided(config)
        if change is not None:
            _place(config, change)
        undecided = _read_journal(config / STAGING)
        if undecided is not None:
            _discard(config, undecided)
        (config / UNWRITTEN).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (config / OLD_STAGING).rmdir()
    except OSError as error:
        raise _refused(config, error) from error


def _refused(config: Path, error: OSError) -> DeviceError:
    place = error.filename2 or error.filename or config
    return disk_error("write", Path(place), error)


def _write_journal(config: Path, change: _Change, name: str = STAGING) -> None:
    part = config / UNWRITTEN
    part.unlink(missing_ok=True)
    stage(part, change.text(config).encode(), READABLE)
    part.replace(config / name)
    sync_folder(config)


def _place(config: Path, change: _Change) -> None:
    """Move every file to its place; files already in place stay."""
    sync_folder(config)
    for path, part in change.files.items():
        with contextlib.suppress(FileNotFoundError):
            part.replace(path)
    for path in change.remove:
        path.unlink(missing_ok=True)
    _sync(change)
    (config / DECIDED).unlink(missing_ok=True)
    sync_folder(config)


def _sync(change: _Change) -> None:
    for folder in sorted({path.parent for path in (*change.files, *change.remove)}):
        sync_folder(folder)


def _discard(config: Path, change: _Change) -> None:
    """Take back a change before any file was moved."""
    with contextlib.suppress(OSError):
        (config / DECIDED).replace(config / STAGING)  # interrupted right after it was decided
    for part in change.files.values():
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    for name in (STAGING, UNWRITTEN):
        with contextlib.suppress(OSError):
            (config / name).unlink(missing_ok=True)


def _content(path: Path) -> tuple[bytes, int] | None:
    try:
        return path.read_bytes(), path.stat().st_mode & 0o7777
    except FileNotFoundError:
        return None


def _put_back(
    config: Path, change: _Change, before: Mapping[Path, tuple[bytes, int] | None]
) -> None:
    """Undo a change that failed halfway: decide and apply its reverse."""
    mark = new_mark()
    moved = [path for path, part in change.files.items() if not part.exists()]
    old = {path: before[path] for path in (*moved, *change.remove)}
    kept = {path: one for path, one in old.items() if one is not None}
    gone = [path for path, one in old.items() if one is None]
    back = _Change(
        {path: part_of(path, mark) for path in kept},
        (*gone, *(part for part in change.files.values() if part.exists())),
    )
    for path, (content, mode) in kept.items():
        stage(back.files[path], content, mode)
    _sync(back)
    _write_journal(config, back, DECIDED)
    _place(config, back)
