"""Folders with recordings of other recorders: which files there are, and their bytes."""

import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from acoupi.audio.formats import is_sound_file
from acoupi.errors import ParameterError
from acoupi.opening import kind_of, open_binary

__all__ = ["Archive", "Entry", "FolderArchive"]

PART = 2**20
"""Bytes that are read at a time."""
LEAVES = "it is a link that leaves the folder"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an archive."""

    key: str
    """Its path in the archive, with slashes between."""
    bytes: int = 0
    changed_on_us: int = 0
    """When it was changed last, microseconds since 1970."""
    refused: str = ""
    """Why it cannot be read; empty if it can be."""

    @property
    def is_sound(self) -> bool:
        """Whether it is named like a sound file."""
        return is_sound(self.key.rpartition("/")[2])


def is_sound(name: str) -> bool:
    """Return whether a file of this name holds sound that can be read, also MP3 (Bugg)."""
    is_mp3 = name.lower().endswith(".mp3") and not name.startswith(".")
    return is_mp3 or is_sound_file(name)


class Archive(Protocol):
    """A place with files, which are only read.

    Raises
    ------
    HubUnavailableError
        From every method: it does not answer, or fails temporarily.
    HubError
        It refuses.
    """

    url: str
    """Its address, as `acoupi.hub.audio_store.open_store` takes it."""

    def entries(self, after: str = "") -> Iterator[Entry]:
        """Yield every file in it, of any kind.

        Where listing may fail half-way, files come sorted by name, so that it can continue after
        one.
        """
        ...

    def opened(self, entry: Entry) -> AbstractContextManager[Path]:
        """Provide a local file with the same length, start and end."""
        ...

    def content(self, entry: Entry, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of a file from one position up to another, a part at a time.

        Raises
        ------
        OSError
            If something is wrong with this file alone.
        """
        ...

    def look(self, key: str) -> Entry | None:
        """Return a file as it is now; None if there is none."""
        ...


class FolderArchive:
    """A folder of this machine, with all folders below it.

    Links are followed to files in the folder only: one that leaves it is refused.

    Raises
    ------
    ParameterError
        If there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self.url = str(self._folder)
        if not self._folder.is_dir():
            raise ParameterError(
                "FOLDER",
                f'there is no folder "{folder}".',
                "acoupi hub analyse /media/card/2024 …   (or s3://BUCKET/PREFIX)",
                why="the recordings of an archive are in a folder, or in an S3 bucket.",
            )

    def entries(self, after: str = "") -> Iterator[Entry]:
        """Yield every file in it; a folder at a time is listed."""
        folders = [self.url]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as found:
                    for one in found:
                        if one.is_dir(follow_symlinks=False):
                            folders.append(one.path)
                        elif is_sound(one.name):
                            yield self._entry(Path(one.path))
                        elif not one.is_symlink() or not one.is_dir():
                            yield Entry(self._key(one.path))
                        elif self._leaves(Path(one.path)):
                            yield Entry(self._key(one.path) + "/", refused=LEAVES)
            except OSError as error:
                yield Entry(self._key(folder) + "/", refused=_words(error))

    def opened(self, entry: Entry) -> AbstractContextManager[Path]:
        """Provide the file itself."""
        return nullcontext((self._folder / entry.key).resolve())

    def content(self, entry: Entry, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield its bytes; see `Archive`."""
        with open_binary((self._folder / entry.key).resolve()) as file:
            file.seek(start)
            left = (entry.bytes if end is None else end) - start
            while left > 0 and (part := file.read(min(PART, left))):
                left -= len(part)
                yield part

    def look(self, key: str) -> Entry | None:
        """Return a file as it is now; None if there is none."""
        path = self._folder / key
        return self._entry(path) if os.path.lexists(path) else None

    def _key(self, path: str) -> str:
        return os.path.relpath(path, self.url)

    def _leaves(self, link: Path) -> bool:
        return not link.resolve().is_relative_to(self._folder)

    def _entry(self, path: Path) -> Entry:
        key = self._key(str(path))
        try:
            key.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(key).decode(errors="replace")
            return Entry(shown, refused="its name is not UTF-8: rename it")
        try:
            if path.is_symlink() and self._leaves(path):
                return Entry(key, refused=LEAVES)
            found = path.stat()
        except OSError as error:
            return Entry(key, refused=_words(error))
        if not stat.S_ISREG(found.st_mode):
            return Entry(key, refused=f"it is {kind_of(found.st_mode)}, where a file must be")
        return Entry(key, found.st_size, found.st_mtime_ns // 1000)


def _words(error: OSError) -> str:
    return f"it cannot be read: {os.strerror(error.errno or 0)}"
