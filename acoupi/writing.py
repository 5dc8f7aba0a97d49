"""Writing files so that neither a full disk nor a power cut leaves half a file."""

import contextlib
import hashlib
import os
import shlex
import tempfile
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
    target = next(iter(files), Path())
    try:
        for folder in folders:
            target = folder
            _make_folder(folder, made)
        for path, file in files.items():
            target = path
            _make_folder(path.parent, made)
            staged[path] = _stage(path, file)
        with _undone_if_it_fails([*staged, *remove]):
            for target, temporary in staged.items():
                temporary.replace(target)
            for path in remove:
                target = path
                path.unlink(missing_ok=True)
            for folder in sorted({path.parent for path in [*staged, *remove]}):
                _sync_folder(folder)
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


def _make_folder(folder: Path, made: list[Path]) -> None:
    """Make a folder and its parents, and note which are new."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        made.append(new)


def _stage(path: Path, file: RenderedFile) -> Path:
    """Write a file next to its destination under a hidden name; return that name."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(file.text.encode())
            stream.flush()
            os.fchmod(stream.fileno(), file.mode)
            os.fsync(stream.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


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


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    if not folder.is_dir():
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
