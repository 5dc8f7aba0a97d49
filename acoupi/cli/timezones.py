"""What the commands say about the time zone of the sensor."""

import datetime
from typing import TYPE_CHECKING

import typer

from acoupi.cli.output import warn
from acoupi.clock import nearest_second

if TYPE_CHECKING:
    from acoupi.stack.settings import Settings

__all__ = ["say_timezone", "shown_time", "warn_of_timezone"]


def shown_time(
    time: datetime.datetime,
    timeformat: str = "%Y-%m-%d %H:%M:%S",
    *,
    zone: datetime.tzinfo = datetime.UTC,
) -> str:
    """Return a time as it is shown, rounded to the second; its zone is named beside it."""
    return nearest_second(time).astimezone(zone).strftime(timeformat)


def say_timezone(found: "Settings") -> None:
    """Print the time zone of the schedule, if the program has one."""
    if zone := _timezone_of(found):
        typer.echo(f"Its local times are those of {zone}.")
        warn_of_timezone(found)


def warn_of_timezone(
    found: "Settings", latitude: float | None = None, longitude: float | None = None
) -> None:
    """Warn if the local time at the sensor's location is not that of its time zone.

    Without a location, its time zone is compared with that of the machine.
    """
    from acoupi.devices.timezones import doubt_about_timezone

    zone = _timezone_of(found)
    place = None if latitude is None or longitude is None else (latitude, longitude)
    if zone and (doubt := doubt_about_timezone(zone, place)):
        warn(f"{doubt} To change it: acoupi config set timezone NAME")


def _timezone_of(found: "Settings") -> str | None:
    from acoupi.config import load_answers

    zone = load_answers(found.program_config_file).get("timezone")
    return zone if isinstance(zone, str) else None
