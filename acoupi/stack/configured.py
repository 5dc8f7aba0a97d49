"""Whether there is a sensor in a home, and of which program."""

from collections.abc import Callable
from typing import TypeVar

from acoupi.commit import is_there, read_whole, version_of
from acoupi.errors import AcoupiError, ConfigurationError, NotConfiguredError
from acoupi.stack.settings import Settings
from acoupi.writing import disk_error

__all__ = ["is_configured", "read_program_name", "read_steadily", "require_configured"]

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
        If there is none.
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


def read_steadily(settings: Settings, read: Callable[[], T]) -> T:
    """Return what a function reads from ``config/``; read again if a setup came in between.

    Parameters
    ----------
    settings
        Of the home.
    read
        Reads some of the program's name, its configuration and that of Celery.

    Raises
    ------
    AcoupiError
        As `read` does.
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


def _stamps(settings: Settings) -> list[tuple[int, int] | None]:
    """Return what tells one version of the files from another; moving a file keeps it."""
    files = (settings.program_name_file, settings.program_config_file, settings.celery_config_file)
    return [version_of(path) for path in files]
