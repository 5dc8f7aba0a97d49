"""Whether there is a sensor in a home, and of which program."""

from acoupi.commit import is_there, read_whole
from acoupi.errors import NotConfiguredError
from acoupi.stack.settings import Settings
from acoupi.writing import disk_error

__all__ = ["is_configured", "read_program_name", "require_configured"]


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
    """
    require_configured(settings)
    try:
        return read_whole(settings.program_name_file).strip()
    except OSError as error:
        raise disk_error("read", settings.program_name_file, error) from error
