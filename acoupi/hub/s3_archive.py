"""Recordings of other recorders in a bucket of an S3-compatible store."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import obstore

from acoupi.audio.riff import MAGICS
from acoupi.clock import to_microseconds
from acoupi.hub.archive_places import Entry
from acoupi.hub.s3_store import S3Store

__all__ = ["S3Archive"]

ENDS = 1 << 18
"""Bytes at each end of a WAV file that hold everything but its samples."""
LISTED = 1000
"""Objects that are listed at a time."""


class S3Archive(S3Store):
    """Reads the objects below a prefix; see `acoupi.hub.archive_places.Archive`."""

    def __init__(self, bucket: str, prefix: str = "") -> None:
        super().__init__(bucket, prefix)
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")

    def entries(self, after: str = "") -> Iterator[Entry]:
        """Yield every object, by name; see `Archive`."""
        with self._told():
            for some in obstore.list(self._bucket, offset=after or None, chunk_size=LISTED):
                yield from (_entry(one) for one in some)

    def look(self, key: str) -> Entry | None:
        """Return an object as it is now; see `Archive`."""
        with self._told():
            try:
                return _entry(obstore.head(self._bucket, key))
            except FileNotFoundError:
                return None

    def content(self, entry: Entry, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield bytes of an object; see `Archive`."""
        return self.stream(entry.key, start, entry.bytes if end is None else end)

    @contextmanager
    def opened(self, entry: Entry) -> Iterator[Path]:
        """Provide a copy; that of a WAV file lacks the sound in its middle; see `Archive`."""
        with tempfile.TemporaryDirectory(prefix="acoupi-archive-") as folder:
            path = Path(folder, "copy")
            with path.open("wb") as file:
                for part in self.stream(entry.key, 0, min(ENDS, entry.bytes)):
                    file.write(part)
            with path.open("r+b") as file:
                is_wav = file.read(4) in MAGICS
                rest = max(ENDS, entry.bytes - ENDS) if is_wav else ENDS
                file.seek(rest, os.SEEK_SET)
                for part in self.stream(entry.key, rest, entry.bytes):
                    file.write(part)
            yield path


def _entry(one: "obstore.ObjectMeta") -> Entry:
    return Entry(one["path"], one["size"], to_microseconds(one["last_modified"]))
