"""Types of configuration fields that programs share."""

import datetime
import difflib
import re
import zoneinfo
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from acoupi.rights import Folder, ReadOnly, Server, WrittenFile

__all__ = [
    "Folder",
    "LocalPath",
    "ReadOnly",
    "Server",
    "TimeOfDay",
    "TimeZoneName",
    "WrittenFile",
]

_TIME = re.compile(r"(\d{1,2})(?::(\d{2})(?::(\d{2})(?:\.\d+)?)?)?")


def _known_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, LookupError, OSError):
        near = difflib.get_close_matches(name, zoneinfo.available_timezones(), n=1, cutoff=0.5)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        raise ValueError(
            f'"{name}" is not a time zone of the IANA database, such as "Europe/London"{hint}'
        ) from None
    return name


def _clock_time(value: Any) -> datetime.time:
    """Read H, HH:MM or HH:MM:SS; refuse seconds of the day and times with a zone."""
    if isinstance(value, datetime.time) and value.tzinfo is None:
        return value
    match = _TIME.fullmatch(str(value).strip())
    if match is None or isinstance(value, bool):
        raise ValueError(f'"{value}" is not a local time of day, such as 8, 8:30 or 18:30:00')
    hour, minute, second = (int(part or 0) for part in match.groups())
    return datetime.time(hour, minute, second)


TimeZoneName = Annotated[
    str, AfterValidator(_known_zone), Field(json_schema_extra={"choices": "timezones"})
]
"""A time zone by its IANA name, such as "Europe/London"."""

TimeOfDay = Annotated[datetime.time, BeforeValidator(_clock_time)]
"""A local time of day, such as 8, 8:30 or 18:30:00, in the time zone of the program."""

LocalPath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
"""A path on this machine; ``~`` is the user's home, and the result is absolute."""
