"""The clock of the board, and its time zone."""

import os
import shutil
import subprocess
import zoneinfo
from pathlib import Path

from acoupi.audio import system_clock

__all__ = ["get_system_timezone", "is_clock_synchronised", "set_system_timezone"]

LOCALTIME = Path("/etc/localtime")
TIMEZONE = Path("/etc/timezone")
_SECONDS = 10


def is_clock_synchronised() -> bool | None:
    """Return whether the kernel reports its clock as synchronised; None if unknown.

    The kernel knows it from chrony, ntpd or systemd-timesyncd. A board that starts
    without a network can have a wrong clock for hours.
    """
    return system_clock.read_clock_state().is_synchronised


def get_system_timezone() -> str | None:
    """Return the time zone of the system, for example ``Europe/London``; None if unknown."""
    for candidate in (os.environ.get("TZ"), _from_link(), _from_file()):
        if candidate and _is_zone(candidate):
            return candidate
    answer = _run(["timedatectl", "show", "--property=Timezone", "--value"])
    return answer if answer and _is_zone(answer) else None


def set_system_timezone(timezone: str) -> bool:
    """Set the time zone of the system, with sudo unless running as root.

    Returns
    -------
    bool
        False if the zone does not exist, or timedatectl is missing or failed;
        nothing has changed then.
    """
    if not _is_zone(timezone):
        return False
    sudo = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    return _run([*sudo, "timedatectl", "set-timezone", timezone]) is not None


def _from_link() -> str | None:
    """Read the zone from where /etc/localtime points to."""
    try:
        target = str(LOCALTIME.readlink())
    except OSError:
        return None
    _, found, name = target.partition("zoneinfo/")
    return name if found else None


def _from_file() -> str | None:
    try:
        return TIMEZONE.read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return False
    return True


def _run(command: list[str]) -> str | None:
    """Return the output of a command; None if it is missing, fails or takes too long."""
    if shutil.which(command[0]) is None:
        return None
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
