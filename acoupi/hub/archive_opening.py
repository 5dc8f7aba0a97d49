"""Opening an archive at its address."""

from pathlib import Path
from urllib.parse import urlsplit

from acoupi.errors import ConfigurationError
from acoupi.hub.archive_places import Archive, FolderArchive

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
        raise ConfigurationError(
            "this installation of acoupi cannot use an S3 store.",
            'pip install "acoupi[hub,s3]"',
            why=f"{error.name} is not installed.",
        ) from error
    return S3Archive(parts.netloc, parts.path.strip("/"))
