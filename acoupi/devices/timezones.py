"""The time zone that a sensor should have: the machine's, or that of its coordinates.

Only setup and the checks use this. The zone of coordinates is known if the package ``tzfpy`` is
installed (in images, and with ``pip install "acoupi[place]"``, 5 MB); without it, only a zone that
is hours off the sun is noticed. It runs in a separate process: its map takes 36 MB, and a container
that sets itself up runs for months.
"""

import datetime
import subprocess
import sys
from importlib.util import find_spec
from zoneinfo import ZoneInfo

from acoupi import data
from acoupi.devices.clock import get_system_timezone

__all__ = ["doubt_about_timezone", "suggest_timezone", "timezone_at"]

_ASK = "import sys; from tzfpy import get_tz; print(get_tz(*map(float, sys.argv[1:])))"

Place = tuple[float, float]
"""Latitude and longitude, degrees."""

_MOST_HOURS_FROM_THE_SUN = 4.0
"""Western China is 3.2 h from it; summer time is one more."""


def suggest_timezone(place: Place | None = None) -> str:
    """Return the default time zone.

    It is that of the machine. A machine on UTC may be anywhere (containers are always on UTC): then
    it is the zone of the coordinates, if they and the package are available, else UTC.
    """
    system = get_system_timezone() or "UTC"
    if place is None or not _is_utc(system):
        return system
    return timezone_at(place) or system


def timezone_at(place: Place) -> str | None:
    """Return the time zone of a place by its IANA name; None without the package ``tzfpy``."""
    if find_spec("tzfpy") is None:
        return None
    latitude, longitude = place
    command = [sys.executable, "-c", _ASK, repr(float(longitude)), repr(float(latitude))]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip() or None


def doubt_about_timezone(timezone: str, place: Place | None = None) -> str | None:
    """Return a sentence about why a time zone seems wrong, or None.

    Zones with the same clocks all year are not distinguished.

    Parameters
    ----------
    timezone
        IANA name of the zone of a program.
    place
        Where the sensor is; if unknown, the machine's zone is compared.

    Examples
    --------
    >>> doubt_about_timezone("America/Lima", (52.5, 13.4)) is None
    False
    """
    if place is None:
        system = get_system_timezone()
        if system is None or _is_utc(system) or _same_clocks(timezone, system):
            return None
        return f"the time zone is {timezone}, but that of this machine is {system}."
    where = f"{place[0]:g}, {place[1]:g}"
    there = timezone_at(place)
    if there is not None:
        if _same_clocks(timezone, there):
            return None
        return f"the time zone is {timezone}, but the clocks at {where} are those of {there}."
    hours = _hours_from_the_sun(timezone, place[1])
    if abs(hours) <= _MOST_HOURS_FROM_THE_SUN:
        return None
    return f"the time zone is {timezone}, but at {where} the sun is {abs(hours):.0f} hours off it."


def _is_utc(name: str) -> bool:
    return name.rpartition("/")[2] in {"UTC", "UCT", "GMT", "GMT0", "Universal", "Zulu"}


def _same_clocks(one: str, other: str) -> bool:
    """Return whether two zones have the same offset from UTC on every day of a year from now."""
    zones, now = (ZoneInfo(one), ZoneInfo(other)), data.utc_now()
    days = (now + datetime.timedelta(days=day) for day in range(366))
    return all(
        day.astimezone(zones[0]).utcoffset() == day.astimezone(zones[1]).utcoffset() for day in days
    )


def _hours_from_the_sun(timezone: str, longitude: float) -> float:
    """Return by how much clocks are ahead of the sun, hours, -12 to 12."""
    offset = data.utc_now().astimezone(ZoneInfo(timezone)).utcoffset() or datetime.timedelta(0)
    return (offset.total_seconds() / 3600 - longitude / 15 + 12) % 24 - 12
