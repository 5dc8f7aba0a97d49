"""Secrets in a separate folder, so that containers get ``config/`` without them.

``config/secrets.env`` becomes a link to the file. A mount over the file itself
would not do: it disappears in every running container as soon as setup replaces
the file.
"""

import os
from collections.abc import Iterable
from pathlib import Path, PurePath

from acoupi.config.secrets import SECRETS_FILE
from acoupi.writing import PRIVATE, disk_error, new_mark, part_of, stage, sync_folder

__all__ = ["SECRETS_FOLDER", "part_secrets"]

SECRETS_FOLDER = PurePath("secrets/config")
"""Below the home; mounted only where secrets are needed."""


def part_secrets(home: Path, names: Iterable[str] = (SECRETS_FILE,)) -> None:
    """Move the secrets of a home, existing or future, into their own folder.

    Parameters
    ----------
    home
        Of the sensor.
    names
        The files of ``config/`` that hold secrets.

    Raises
    ------
    DeviceError
        After a disk error.
    """
    for name in names:
        link, place = home / "config" / name, home / SECRETS_FOLDER / name
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if link.is_symlink():
                continue
            if link.exists():
                _move(link, place)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(place, link.parent))
        except OSError as error:
            raise disk_error("write", link, error) from error


def _move(file: Path, place: Path) -> None:
    """Move a file, perhaps to another disk: a volume is one."""
    part = part_of(place, new_mark())
    stage(part, file.read_bytes(), PRIVATE)
    part.replace(place)
    sync_folder(place.parent)
    file.unlink()
