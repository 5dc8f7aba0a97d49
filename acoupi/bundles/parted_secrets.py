"""Secrets in a folder of their own, so that a container sees ``config/`` without them.

``config/secrets.env`` becomes a link to the file. A mount over the file itself
would not do: it disappears in every running container as soon as setup replaces
the file.
"""

import os
from pathlib import Path, PurePath

from acoupi.config.secrets import SECRETS_FILE
from acoupi.writing import disk_error

__all__ = ["SECRETS_FOLDER", "part_secrets"]

SECRETS_FOLDER = PurePath("secrets/config")
"""Below the home; mounted only where secrets are needed."""


def part_secrets(home: Path) -> None:
    """Move the secrets of a home, present or future, into their own folder.

    Raises
    ------
    DeviceError
        If the disk refuses.
    """
    link, folder = home / "config" / SECRETS_FILE, home / SECRETS_FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if link.is_symlink():
            return
        if link.exists():
            link.replace(folder / SECRETS_FILE)
        link.symlink_to(os.path.relpath(folder / SECRETS_FILE, link.parent))
    except OSError as error:
        raise disk_error("write", link, error) from error
