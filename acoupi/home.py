"""Where the sensor keeps its files: ACOUPI_HOME."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from acoupi.errors import ParameterError

__all__ = [
    "expanded",
    "home_dir",
    "home_mark",
    "memory_folder",
    "spool_dir",
    "spool_folders",
    "using_home",
    "without_dots",
]

_override: ContextVar[Path | None] = ContextVar("acoupi_home", default=None)


def home_dir() -> Path:
    """Return the current ACOUPI_HOME: absolute; it need not exist.

    In this order: the folder of an enclosing `using_home`, the environment
    variable ``ACOUPI_HOME``, ``~/.acoupi``.

    Examples
    --------
    >>> with using_home(Path("/srv/sensor")):
    ...     str(home_dir())
    '/srv/sensor'
    """
    home = _override.get() or os.environ.get("ACOUPI_HOME") or "~/.acoupi"
    return without_dots(expanded(home).absolute())


def expanded(path: str | Path) -> Path:
    """Return a path with the home folder of its user in place of ``~``.

    Raises
    ------
    ParameterError
        If there is no such user, or none is known for this process.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ParameterError(
            str(path),
            f'there is no folder "{path}".',
            "give the whole path, such as /mnt/usb/recordings",
            why="it begins with the home folder of a user who is not on this machine.",
        ) from error


def without_dots(path: Path) -> Path:
    """Return a path without ``..`` in it: names and mounts are made from its parts."""
    return path.resolve() if ".." in path.parts else path


def spool_dir() -> Path:
    """Return where recordings wait unless a program says otherwise: ``data/spool`` of the home."""
    return home_dir() / "data" / "spool"


def memory_folder(spool: Path) -> Path:
    """Return the part of a spool that is in memory, where that is turned on."""
    return spool / "memory"


def spool_folders(spool: Path) -> tuple[Path, ...]:
    """Return the folders of a spool in which recordings may wait: on the disk, and in memory."""
    return spool, memory_folder(spool)


def home_mark(home: Path) -> str:
    """Return six hexadecimal digits that distinguish the homes of a machine.

    Examples
    --------
    >>> home_mark(Path("/home/pi/.acoupi"))
    'b868df'
    """
    return hashlib.sha256(str(home).encode()).hexdigest()[:6]


@contextmanager
def using_home(home: Path) -> Iterator[None]:
    """Make `home_dir` return `home` inside the block."""
    token = _override.set(Path(home))
    try:
        yield
    finally:
        _override.reset(token)
