"""Writing files so that neither a full disk nor a power cut leaves half a file."""

import contextlib
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from acoupi.errors import DeviceError

__all__ = [
    "PRIVATE",
    "READABLE",
    "RUNNABLE",
    "RenderedFile",
    "disk_error",
    "inherit_owner",
    "keep_others_out",
    "make_folder",
    "new_mark",
    "part_of",
    "stage",
    "sync_folder",
    "write_atomic",
    "write_files",
]

READABLE = 0o644
RUNNABLE = 0o755
PRIVATE = 0o600


@dataclass(frozen=True)
class RenderedFile:
    """Content and permissions of a file."""

    text: str
    mode: int = READABLE

    @property
    def digest(self) -> str:
        """The SHA-256 of its bytes, in hexadecimal."""
        import hashlib  # noqa: PLC0415 - start time of every command

        return hashlib.sha256(self.text.encode()).hexdigest()


def disk_error(act: str, path: Path, error: OSError) -> DeviceError:
    """Return the error for a failed disk operation: what, why, and what to try."""
    reason = (error.strerror or str(error)).lower()
    folder = shlex.quote(str(path.parent))
    helps = {
        "no space left on device": f"df -h {folder}   (and make room)",
        "disk quota exceeded": f"df -h {folder}   (and make room)",
        "read-only file system": f"findmnt -T {folder}   (or put ACOUPI_HOME elsewhere)",
        "permission denied": f"ls -ld {folder}   (or put ACOUPI_HOME elsewhere)",
    }
    return DeviceError(
        f'cannot {act} "{path}".',
        helps.get(reason, f"ls -la {folder}"),
        why=f"the disk answered: {reason}.",
    )


def write_atomic(path: Path, text: str, mode: int = READABLE) -> None:
    """Write a file so that even after a power cut it is the old one or the whole new one.

    Raises
    ------
    DeviceError
        If the disk is full or read-only, or fails.
    """
    write_files({path: RenderedFile(text, mode)})


def write_files(
    files: Mapping[Path, RenderedFile], *, remove: Iterable[Path] = (), folders: Iterable[Path] = ()
) -> None:
    """Write some files, remove others and make folders: all of it, or nothing.

    A link stays, and its target is written. Everything is first written under
    temporary names and synced; only when all of it is on the disk does it get
    its final names. If that fails, the previous files are put back.

    Raises
    ------
    DeviceError
        If the disk is full or read-only, or fails; nothing is changed then.
    """
    files = {path.resolve() if path.is_symlink() else path: file for path, file in files.items()}
    made: list[Path] = []
    staged: dict[Path, Path] = {}
    mark = new_mark()
    target = next(iter(files), Path())
    try:
        for folder in folders:
            target = folder
            make_folder(folder, made)
        for path, file in files.items():
            target = path
            make_folder(path.parent, made)
            staged[path] = part_of(path, mark)
            stage(staged[path], file.text.encode(), file.mode)
        with _undone_if_it_fails([*staged, *remove]):
            for target, temporary in staged.items():
                temporary.replace(target)
            for path in remove:
                target = path
                path.unlink(missing_ok=True)
            for folder in sorted({path.parent for path in [*staged, *remove]}):
                sync_folder(folder)
    except BaseException as error:  # Ctrl-C too
        for temporary in staged.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise disk_error("write", target, error) from error
        raise


def make_folder(folder: Path, made: list[Path]) -> None:
    """Make a folder and its parents, readable for others; add the new ones to a list.

    A folder made by root gets the owner of its parent.
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        try:
            new.mkdir(RUNNABLE)
        except FileExistsError:
            continue
        handle = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(handle, RUNNABLE)
            inherit_owner(handle, new.parent)
        finally:
            os.close(handle)
        made.append(new)


def inherit_owner(handle: int, folder: Path) -> None:
    """Give a file that root has just made to the owner of its folder, who may be a service."""
    if os.geteuid() != 0:
        return
    owner = folder.stat()
    if owner.st_uid != 0:
        with contextlib.suppress(OSError):  # a file system without owners
            os.fchown(handle, owner.st_uid, owner.st_gid)


def keep_others_out() -> None:
    """Allow only owner and group to write this process's files, whatever its umask."""
    os.umask(os.umask(0o077) | 0o002)


def part_of(path: Path, mark: str) -> Path:
    """Return the hidden name beside a file for its next contents."""
    return path.with_name(f".{path.name}.{mark}.part")


def new_mark() -> str:
    """Return eight digits that no other writer uses."""
    return os.urandom(4).hex()


def stage(part: Path, content: bytes, mode: int) -> None:
    """Write a new file and sync it."""
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        stream.flush()
        inherit_owner(stream.fileno(), part.parent)
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())


@contextlib.contextmanager
def _undone_if_it_fails(paths: Iterable[Path]) -> Iterator[None]:
    """Restore the files at these paths if the block fails."""
    before = {
        path: (path.read_bytes(), path.stat().st_mode) if path.exists() else None for path in paths
    }
    try:
        yield
    except BaseException:
        for path, old in before.items():
            with contextlib.suppress(OSError):
                if old is None:
                    path.unlink(missing_ok=True)
                elif not path.exists() or path.read_bytes() != old[0]:
                    path.write_bytes(old[0])
                    path.chmod(old[1] & 0o7777)
        raise


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that its names survive a power cut."""
    if not folder.is_dir():
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
