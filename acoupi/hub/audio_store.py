"""Where a hub keeps sound: a folder, or a bucket of any S3-compatible store."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from acoupi.errors import ConfigurationError
from acoupi.hub.folder_store import FolderStore

__all__ = ["AudioStore", "no_s3", "open_store"]


class AudioStore(Protocol):
    """Keeps bytes by key; the parts of a key are separated by slashes.

    Raises
    ------
    HubUnavailableError
        From every method: the store does not answer, or fails for now.
    HubFullError
        From `put`: it has no room.
    HubError
        It refuses, has something else under this key, or nothing.
    """

    def put(self, key: str, content: bytes) -> None:
        """Store something once; the same again changes nothing, other content is refused."""
        ...

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the keys below a folder of keys, with their bytes."""
        ...

    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of a key from one position up to another, a part at a time."""
        ...

    def delete(self, key: str) -> None:
        """Delete a key; it may be gone already."""
        ...


def open_store(url: str) -> AudioStore:
    """Return the store at an address: an existing folder, or ``s3://BUCKET/PREFIX``.

    The endpoint of S3 and its keys are the usual variables: ``AWS_ENDPOINT_URL``,
    ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``.

    Raises
    ------
    ConfigurationError
        If the address is not valid, the folder does not exist, or the library for S3 is missing.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3" and parts.netloc:
        try:
            from acoupi.hub.s3_store import S3Store  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise no_s3(error) from error
        return S3Store(parts.netloc, parts.path.strip("/"))
    folder = Path(url)
    if parts.scheme or not folder.is_absolute():
        raise ConfigurationError(
            f'"{url}" cannot keep the sound of a hub.',
            "--audio /srv/acoupi/audio   or   --audio s3://BUCKET/PREFIX",
            why="it is neither an absolute path of a folder nor the address of a bucket.",
        )
    if not folder.is_dir():
        raise ConfigurationError(
            f"there is no folder {folder} for the sound of the hub.",
            f"mkdir -p {folder}   (and mount its disk first, if it has one)",
            why="acoupi does not make it, because its disk may just not be mounted.",
        )
    return FolderStore(folder)


def no_s3(error: ModuleNotFoundError) -> ConfigurationError:
    """Return the error for a missing S3 library."""
    return ConfigurationError(
        "this installation of acoupi cannot use an S3 store.",
        'pip install "acoupi[hub,s3]"',
        why=f"{error.name} is not installed.",
    )
