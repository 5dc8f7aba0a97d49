"""Whether there is a sensor in a home, and of which program."""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from acoupi.commit import is_there, read_whole, version_of
from acoupi.errors import AcoupiError, ConfigurationError, NotConfiguredError
from acoupi.stack.settings import Settings
from acoupi.writing import disk_error

__all__ = ["answered", "is_configured", "read_program_name", "read_steadily", "require_configured"]

T = TypeVar("T")
MOST_READINGS = 5


def is_configured(settings: Settings) -> bool:
    """Return whether there is a sensor in this home."""
    return is_there(settings.program_name_file) and is_there(settings.program_config_file)


def require_configured(settings: Settings) -> None:
    """Raise unless there is a sensor in this home.

    Raises
    ------
    NotConfiguredError
        With what to do about it.
    """
    if not is_configured(settings):
        raise NotConfiguredError(
            f"there is no sensor in {settings.home} yet.",
            "acoupi setup --program default",
            why=f"{settings.program_name_file} or {settings.program_config_file} is missing.",
        )


def read_program_name(settings: Settings) -> str:
    """Return the name of the program of this home, as it was given to setup.

    Raises
    ------
    NotConfiguredError
        If there is no sensor.
    ConfigurationError
        If its file is damaged.
    """
    require_configured(settings)
    path = settings.program_name_file
    try:
        name = read_whole(path, errors="replace").strip()
    except OSError as error:
        raise disk_error("read", path, error) from error
    if not name.isprintable() or not name or "\ufffd" in name:
        raise ConfigurationError(
            f'"{path}" does not hold the name of a program.',
            "acoupi setup --program NAME   (your answers are kept)",
            why="it is empty or damaged; a power cut or a worn-out card can leave it so.",
        )
    return name


def answered(settings: Settings, *names: str) -> Any:
    """Return what setup wrote for a setting of the program, or a section; None: nothing.

    It is not validated, and the program need not be installed here: it may be in an image only.
    The file is read again only after it was changed. Do not change what is returned.
    """
    path = settings.program_config_file
    try:
        value = _content(path, version_of(path))
        for name in names:
            value = value[name]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # a damaged file is reported by its own reader
    return value


@lru_cache(maxsize=4)
def _content(path: Path, version: tuple[int, int] | None) -> Any:
    return json.loads(read_whole(path))


def read_steadily(settings: Settings, read: Callable[[], T]) -> T:
    """Return what a function reads from ``config/``; read again if a setup changed it meanwhile.

    Parameters
    ----------
    settings
        Of the home.
    read
        Reads some of the program's name, its configuration and that of Celery.

    Raises
    ------
    AcoupiError
        Those of `read`.
    """
    for left in reversed(range(MOST_READINGS)):
        before = _stamps(settings)
        try:
            found = read()
        except AcoupiError:
            if not left or _stamps(settings) == before:
                raise
        else:
            if not left or _stamps(settings) == before:
                return found
    raise AssertionError("the last reading returns or raises")


def _stamps(settings: Settings) -> list[tuple[int, ...] | None]:
    """Return a mark of the files' version, which stays the same when a file is moved."""
    files = (settings.program_name_file, settings.program_config_file, settings.celery_config_file)
    return [version_of(path) for path in files]
