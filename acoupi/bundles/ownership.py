"""Owner of the home and group of the sound device, as the numbers that containers use."""

import grp
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from acoupi.bundles.engine import existing
from acoupi.writing import disk_error

__all__ = ["give_to", "host_owner", "make_folder", "sound_group"]

NOBODYS = 1000
"""User and group of a home that root sets up; they exist in the image."""
AUDIO = 29
"""The group of sound devices on Debian."""
SOUND = Path("/dev/snd")


def host_owner(home: Path) -> tuple[int, int]:
    """Return the user and group that containers run as: this user, never root.

    If root sets up the sensor, it is the owner of the home, else 1000.
    """
    uid, gid = os.getuid(), os.getgid()
    if uid != 0:
        return uid, gid
    owner = existing(home).stat()
    if home.exists() and owner.st_uid != 0:
        return owner.st_uid, owner.st_gid or NOBODYS
    return NOBODYS, NOBODYS


def sound_group() -> int:
    """Return the group of the sound devices of this machine, as a number."""
    try:
        nodes = sorted(SOUND.iterdir())
    except OSError:
        nodes = []
    for node in nodes:
        if node.is_char_device() and (gid := node.stat().st_gid):
            return gid
    try:
        return grp.getgrnam("audio").gr_gid
    except KeyError:
        return AUDIO


def make_folder(folder: Path) -> None:
    """Make a folder if possible; if not, starting the containers reports it as missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return


def give_to(folders: Iterable[Path], uid: int, gid: int, *, deep: bool = True) -> None:
    """Change the owner of folders and their contents. Does nothing unless run by root.

    Raises
    ------
    DeviceError
        If the file system has no owners.
    """
    if os.getuid() != 0:
        return
    for folder in folders:
        for path in (*_inside(folder), folder) if deep else (folder,):
            try:
                _give(path, uid, gid)
            except FileNotFoundError:  # gone in the meantime
                continue
            except OSError as error:
                raise disk_error("change the owner of", path, error) from error


def _inside(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        yield from (Path(place) / name for name in (*folders, *files))


def _give(path: Path, uid: int, gid: int) -> None:
    status = path.lstat()
    is_folder = path.is_dir() and not path.is_symlink()
    # A hard link may be another name of a file outside the home.
    if (status.st_uid, status.st_gid) != (uid, gid) and (is_folder or status.st_nlink == 1):
        os.lchown(path, uid, gid)
