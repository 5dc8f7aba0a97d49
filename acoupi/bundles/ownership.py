"""Owner of the home and group of the sound device, as the numbers that containers use."""

import contextlib
import grp
import hashlib
import os
import stat
from collections.abc import Collection, Iterable
from pathlib import Path

from acoupi import writing
from acoupi.opening import NotAFileError, opened_folder
from acoupi.space import existing
from acoupi.writing import disk_error

__all__ = [
    "can_write",
    "give",
    "give_contents",
    "host_owner",
    "is_empty",
    "make_folder",
    "make_private",
    "service_user",
    "share_folder",
    "sound_group",
]

NOBODYS = 1000
"""User and group of a home that root sets up; they exist in the image."""
FIRST_OF_SERVICES = 1_600_000_000
"""Beyond what systems and user namespaces assign, and below what a signed number holds."""
AUDIO = 29
"""The group of sound devices on Debian."""
SOUND = Path("/dev/snd")
LOST_AND_FOUND = "lost+found"
DEEPEST = 32
"""Levels of folders of a home; acoupi makes six."""


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


def service_user(home: Path, service: str) -> int:
    """Return the number of a user for one service of a home: a unique one."""
    digest = hashlib.sha256(f"{home}\0{service}".encode()).hexdigest()
    return FIRST_OF_SERVICES + int(digest[:7], 16)


def share_folder(folder: Path, uid: int, gid: int) -> None:
    """Give a folder and its contents to a service, if this is root; its group stays.

    New files there belong to the group, which may read and delete them.

    Raises
    ------
    DeviceError
        If the file system has no owners.
    """
    if os.getuid() != 0:
        return
    give_contents(folder.parent, {folder.name}, uid, gid)
    try:
        with opened_folder(folder) as handle:
            Path(f"/proc/self/fd/{handle}").chmod(0o2770)
    except OSError as error:
        raise disk_error("change the mode of", folder, error) from error


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


def make_folder(folder: Path) -> list[Path]:
    """Make a folder if possible, and return new folders; a start reports a missing one."""
    made: list[Path] = []
    with contextlib.suppress(OSError):
        writing.make_folder(folder, made)
    return made


def give(paths: Iterable[Path], uid: int, gid: int) -> None:
    """Change the owner of files and folders, and of nothing in them, if this is root.

    A link, and a file with other names, keeps its owner: it may be another's.

    Raises
    ------
    DeviceError
        If the file system has no owners.
    """
    if os.getuid() != 0:
        return
    for path in paths:
        try:
            with opened_folder(path.parent) as folder:
                _give(folder, path.name, uid, gid)
        except (FileNotFoundError, NotAFileError):
            continue
        except OSError as error:
            raise disk_error("change the owner of", path, error) from error


def give_contents(home: Path, names: Collection[str], uid: int, gid: int) -> None:
    """Change the owner of these files and folders of a home, if this is root.

    Services may be running: every step goes through the descriptor of a folder, so swapping files
    meanwhile does not help an attacker.

    Raises
    ------
    DeviceError
        If the file system has no owners.
    """
    if os.getuid() != 0:
        return
    try:
        with opened_folder(home) as top:
            for place, folders, files, handle in os.fwalk(".", dir_fd=top):
                if place == ".":
                    folders[:] = [name for name in folders if name in names]
                    files = [name for name in files if name in names]  # noqa: PLW2901
                for name in (*folders, *files):
                    with contextlib.suppress(FileNotFoundError):
                        _give(handle, name, uid, gid)
                if place.count("/") >= DEEPEST:
                    folders.clear()
    except OSError as error:
        raise disk_error("change the owner of what is in", home, error) from error


def _give(folder: int, name: str, uid: int, gid: int) -> None:
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        found = os.fstat(handle)
        # A hard link may be another name of a file outside the home.
        is_own = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        if (found.st_uid, found.st_gid) != (uid, gid) and (is_own or stat.S_ISDIR(found.st_mode)):
            os.chown(f"/proc/self/fd/{handle}", uid, gid)
    finally:
        os.close(handle)


def make_private(folder: Path, home: Path) -> None:
    """Let only the owner read a folder of the home; a link there is not changed."""
    with contextlib.suppress(NotAFileError), opened_folder(folder, beneath=home) as handle:
        Path(f"/proc/self/fd/{handle}").chmod(0o700)


def can_write(folder: Path, uid: int, gid: int) -> bool:
    """Return whether a user may write in a folder, or it is not there yet."""
    try:
        found = folder.stat()
    except OSError:
        return True
    right = 0o200 if found.st_uid == uid else 0o020 if found.st_gid == gid else 0o002
    return bool(found.st_mode & right)


def is_empty(folder: Path) -> bool:
    """Return whether a folder holds nothing, or only what every new disk holds."""
    try:
        return {each.name for each in folder.iterdir()} <= {LOST_AND_FOUND}
    except OSError:
        return False
