"""Where a hub keeps sound: a folder, or a bucket of any S3-compatible store."""

from collections.abc import Iterator
from typing import Protocol

__all__ = ["AudioStore"]


class AudioStore(Protocol):
    """Keeps bytes by key; a key has parts between slashes.

    Raises
    ------
    HubUnavailableError
        From every method: the store does not answer, or fails for now.
    HubFullError
        From `put`: it has no room.
    HubError
        It refuses, or has something else by this key.
    """

    def put(self, key: str, content: bytes) -> None:
        """Store something once; the same again changes nothing, something else is refused."""
        ...

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the keys that begin so, up to a slash, with their bytes."""
        ...

    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of a key from one place up to another, a part at a time."""
        ...

    def delete(self, key: str) -> None:
        """Delete a key; it may be gone already."""
        ...
