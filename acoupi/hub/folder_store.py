"""A folder that keeps sound: one machine, and nothing else to install."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from acoupi.errors import HubFullError, HubUnavailableError
from acoupi.hub.pieces import PIECE, check_same
from acoupi.writing import sync_folder

__all__ = ["FolderStore"]


RESERVE = 2**28
"""Bytes of the disk kept free of sound, so that a database on the same disk can go on."""


class FolderStore:
    """Keeps sound in files below a folder, which must exist.

    See `acoupi.hub.audio_store.AudioStore`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, key: str, content: bytes) -> None:
        """Write a file completely and to the disk, or not at all; see `AudioStore`."""
        path = self.folder / key
        with self._told():
            if path.exists():
                check_same(key, path.read_bytes(), content)
                return
            self._make(path.parent)
            _require_room(self.folder, len(content))
            part = path.with_name(f".{uuid4().hex}.part")
            try:
                _write(part, content)
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            sync_folder(path.parent)

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the files below a folder; see `AudioStore`."""
        with self._told():
            self._check()
            return {
                path.relative_to(self.folder).as_posix(): path.stat().st_size
                for path in (self.folder / prefix).rglob("*")
                if path.is_file() and not path.name.startswith(".")
            }

    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of a file; see `AudioStore`."""
        with self._told(), (self.folder / key).open("rb") as file:
            file.seek(start)
            left = (os.fstat(file.fileno()).st_size if end is None else end) - start
            while left > 0 and (piece := file.read(min(PIECE, left))):
                left -= len(piece)
                yield piece

    def delete(self, key: str) -> None:
        """Delete a file, and its folders if they are empty then; see `AudioStore`."""
        path = self.folder / key
        with self._told():
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self.folder or not folder.is_dir() or any(folder.iterdir()):
                    return
                folder.rmdir()

    def _check(self) -> None:
        if not self.folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, "its disk may not be mounted", str(self.folder))

    def _make(self, folder: Path) -> None:
        """Make a folder and its parents, up to the store's, and sync each to the disk."""
        self._check()
        if not folder.is_dir():
            self._make(folder.parent)
            folder.mkdir(exist_ok=True)
            sync_folder(folder.parent)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise HubFullError(
                    f"the hub has no room for more sound ({self.folder}: {reason}).",
                    f"df -h {self.folder}",
                ) from error
            raise HubUnavailableError(
                f"the hub cannot use the folder of its sound ({self.folder}: {reason}).",
                f"ls -la {self.folder}",
            ) from error


def _require_room(folder: Path, size: int) -> None:
    found = os.statvfs(folder)
    if found.f_bavail * found.f_frsize < RESERVE + size:
        why = f"{RESERVE >> 20} MiB of its disk are kept free for the database"
        raise OSError(errno.ENOSPC, why, str(folder))


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
