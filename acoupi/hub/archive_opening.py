"""Opening an archive at its address."""

from pathlib import Path
from urllib.parse import urlsplit

from acoupi.hub.archive_places import Archive, FolderArchive
from acoupi.hub.audio_store import no_s3

__all__ = ["open_archive"]


def open_archive(place: str) -> Archive:
    """Return the archive in a folder, or at ``s3://BUCKET/PREFIX``.

    Raises
    ------
    ParameterError
        If there is no such folder.
    ConfigurationError
        If the library for S3 is missing.
    """
    parts = urlsplit(place)
    if parts.scheme != "s3" or not parts.netloc:
        return FolderArchive(Path(place))
    try:
        from acoupi.hub.s3_archive import S3Archive  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise no_s3(error) from error
    return S3Archive(parts.netloc, parts.path.strip("/"))
