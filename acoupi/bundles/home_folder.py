"""Which folders may become ACOUPI_HOME, and which files in them are acoupi's."""

import os
import pwd
import re
import shlex
import stat
from pathlib import Path

from acoupi.bundles.engine import COMPOSE_FILE, OVERRIDE_FILE
from acoupi.bundles.ownership import LOST_AND_FOUND
from acoupi.bundles.rendering import Manifest
from acoupi.bundles.variables import ENV_FILE
from acoupi.errors import ConfigurationError
from acoupi.stack.rights import TOO_WIDE
from acoupi.stack.settings import Settings

__all__ = ["adopted_names", "check_home", "is_adopted", "own_names"]

SYSTEM_FOLDERS = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc"),
    *("/sbin", "/sys", "/usr"),
)
"""No home is below these."""
WIDE_FOLDERS = frozenset(
    {
        *(*SYSTEM_FOLDERS, *TOO_WIDE),
        *("/home", "/media", "/mnt", "/opt", "/srv", "/tmp", "/run/user"),  # noqa: S108 - refused
        *("/var/cache", "/var/lib", "/var/log", "/var/opt", "/var/spool", "/var/tmp"),  # noqa: S108
    }
)
"""No home is one of these, but may be below."""
MEMORY_DISK = Path("/dev/shm")  # noqa: S108 - a home for a trial
OTHER_NAMES = (
    *("data", "waiting", "secrets", "systemd", "balena", "updates"),
    "simulated-audio.yml",
)
"""What acoupi names in a home, besides its settings and the files of Compose."""
SHOWN = 5
_PART = re.compile(r"\..+\.[0-9a-f]{8}\.part")
"""Names of files that a setup was writing when it was interrupted."""


def check_home(settings: Settings, *, adopts: bool = False) -> None:
    """Raise if a folder cannot be the home.

    Parameters
    ----------
    settings
        Of the home.
    adopts
        Whether it may hold other files, which are not changed.

    Raises
    ------
    ConfigurationError
        Saying why.
    """
    home = settings.home
    text = str(home)
    if any(ord(character) < 32 for character in text):
        raise _refusal(repr(text), "its name contains a line break or another control character.")
    existing = next(folder for folder in (home, *home.parents) if _exists(folder))
    if not existing.is_dir():
        raise _refusal(f'"{home}"', f"{existing} is a file.")
    place = home.resolve()
    if _is_of_the_system(place):
        leads = "" if place == home else f", where {home} leads,"
        raise _refusal(f'"{home}"', f"{place}{leads} belongs to the system or to all users.")
    if not _exists(settings.program_config_file.parent):
        _require_rights(home, existing)
    strangers = strangers_in(settings)
    if strangers and not adopts:
        more = len(strangers) - SHOWN
        names = ", ".join(strangers[:SHOWN]) + (f" and {more} more" if more > 0 else "")
        raise ConfigurationError(
            f'cannot use "{home}" as ACOUPI_HOME: it holds other files.',
            f"ACOUPI_HOME={shlex.quote(str(home / 'acoupi'))}"
            "   (or, to keep them there: acoupi setup --adopt-folder)",
            why=f"acoupi did not make {names}.",
        )


def _require_rights(home: Path, existing: Path) -> None:
    """Refuse a folder that this user may not write in: the home, or its future parent.

    Raises
    ------
    ConfigurationError
        With its owner.
    """
    wanted = os.W_OK | os.X_OK | (os.R_OK if existing == home else 0)
    is_read_only = os.statvfs(existing).f_flag & os.ST_RDONLY  # writing there says so
    if is_read_only or os.access(existing, wanted, effective_ids=True):
        return
    found, user = existing.stat(), os.geteuid()
    raise ConfigurationError(
        f'cannot use "{home}" as ACOUPI_HOME: {_user_name(user)} may not write in {existing}.',
        f"sudo chown {_user_name(user)} {shlex.quote(str(existing))}"
        "   (or put it elsewhere: ACOUPI_HOME=~/.acoupi)",
        why=f"it belongs to {_user_name(found.st_uid)}, with the rights "
        f"{stat.filemode(found.st_mode)}.",
    )


def _exists(path: Path) -> bool:
    """Return whether something is there, as far as this user can see."""
    return os.path.exists(path)  # noqa: PTH110 - `Path.exists` fails below a folder that is closed


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def adopted_names(settings: Settings) -> tuple[str, ...]:
    """Return the contents of a folder with other files that becomes a home; else nothing."""
    return (
        tuple(sorted(each.name for each in settings.home.iterdir()))
        if strangers_in(settings)
        else ()
    )


def strangers_in(settings: Settings) -> list[str]:
    """Return a folder's files that are not acoupi's; nothing if it is a home already.

    An empty file does not count: a redirection may just have made it.
    """
    home = settings.home
    if settings.manifest_file.exists() or settings.program_config_file.exists():
        return []
    try:
        names = [each.name for each in os.scandir(home) if not _is_empty(each)]
    except OSError:
        return []
    own = {*own_names(settings), LOST_AND_FOUND}
    return sorted(
        repr(name)[1:-1] for name in names if name not in own and not _PART.fullmatch(name)
    )


def _is_empty(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False) and not entry.stat(follow_symlinks=False).st_size


def is_adopted(settings: Settings) -> bool:
    """Return whether the folder of the home held other files before its first setup."""
    manifest = Manifest.read(settings.manifest_file)
    return manifest is not None and bool(manifest.adopted)


def own_names(settings: Settings) -> frozenset[str]:
    """Return the names of acoupi's files directly in a home."""
    home = settings.home
    paths = [path for path in vars(settings).values() if isinstance(path, Path)]
    below = [path.relative_to(home) for path in paths if path != home and path.is_relative_to(home)]
    manifest = Manifest.read(settings.manifest_file)
    listed = [Path(name) for name in (manifest.files if manifest else ())]
    names = {path.parts[0] for path in (*below, *listed, Path(ENV_FILE)) if path.parts}
    adopted = manifest.adopted if manifest else ()
    return frozenset({*names, *OTHER_NAMES, COMPOSE_FILE, OVERRIDE_FILE}) - {*adopted}


def _is_of_the_system(place: Path) -> bool:
    if str(place) in WIDE_FOLDERS or place.parent == Path("/home") or place == Path.home():
        return True
    is_below = any(place.is_relative_to(folder) for folder in SYSTEM_FOLDERS)
    return is_below and (place == MEMORY_DISK or not place.is_relative_to(MEMORY_DISK))


def _refusal(shown: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"cannot use {shown} as ACOUPI_HOME.", "ACOUPI_HOME=~/.acoupi", why=why
    )
