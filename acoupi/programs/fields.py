"""Types of configuration fields that programs share, and how their texts are read.

Configuration reads options, variables and files with the same functions, also for fields that
are a plain ``datetime.time``, ``datetime.timedelta`` or ``Path``.
"""

import datetime
import difflib
import re
import zoneinfo
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from acoupi.errors import ParameterError
from acoupi.home import expanded
from acoupi.rights import Folder, Kept, ReadOnly, Sending, Server, Spool, WrittenFile

__all__ = [
    "Duration",
    "Folder",
    "Kept",
    "LocalPath",
    "ReadOnly",
    "Sending",
    "Server",
    "Spool",
    "TimeOfDay",
    "TimeZoneName",
    "WrittenFile",
    "read_duration",
    "read_moment",
    "read_path",
    "read_time",
]

_TIME = re.compile(
    r"(?P<h>[0-9]{1,2})(:(?P<m>[0-9]{2})(:(?P<s>[0-9]{2})(\.(?P<f>[0-9]{1,6}))?)?)?"
    r"( ?(?P<half>[ap])\.?m\.?)?",
    re.IGNORECASE,
)
_A_TIME = "it must be a local time of day, such as 8, 18:30 or 6:05pm"
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(days?|hours?|minutes?|mins?|seconds?|secs?|[dhms])")
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


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


def read_time(value: Any) -> Any:
    """Return the time of day that a person means by a text, or by the number of an hour.

    Raises
    ------
    ValueError
        If it is none, or has a zone; the text says what would be right.

    Examples
    --------
    >>> [read_time(one).isoformat() for one in (8, "14:23", "8:10:53", "7pm", "12 am")]
    ['08:00:00', '14:23:00', '08:10:53', '19:00:00', '00:00:00']
    """
    if isinstance(value, datetime.time) and value.tzinfo is None:
        return value
    match = None if isinstance(value, bool | float) else _TIME.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(_A_TIME)
    hour, half = int(match["h"]), (match["half"] or "").lower()
    if half:
        if not 1 <= hour <= 12:
            raise ValueError("am and pm go with the hours 1 to 12")
        hour = hour % 12 + (12 if half == "p" else 0)
    if hour == 24:
        raise ValueError("the hours go from 0 to 23; midnight is 0:00")
    minute, second = int(match["m"] or 0), int(match["s"] or 0)
    try:
        return datetime.time(hour, minute, second, int((match["f"] or "0").ljust(6, "0")))
    except ValueError as error:
        raise ValueError(f"{_A_TIME} ({error})") from error


_A_MOMENT = "it must be a day or a time, such as 2024-06-01, 2024-06-01 21:30, yesterday or 21:30"


def read_moment(text: str, today: datetime.date, *, ends_day: bool = False) -> datetime.datetime:
    """Return the time that a person means; without a zone in the text, one without a zone.

    Parameters
    ----------
    text
        A day (``2024-06-01``, ``today``, ``yesterday``), a time of day of today, or both; also
        ISO 8601 with a zone.
    today
        The local date.
    ends_day
        A day alone means its end, not its beginning.

    Raises
    ------
    ValueError
        If it is none of these; the text says what would be right.

    Examples
    --------
    >>> day = datetime.date(2024, 6, 2)
    >>> for text in ("yesterday 9pm", "21:30", "2024-05-31", "2024-05-31T21:30Z"):
    ...     print(read_moment(text, day))
    2024-06-01 21:00:00
    2024-06-02 21:30:00
    2024-05-31 00:00:00
    2024-05-31 21:30:00+00:00
    >>> str(read_moment("today", day, ends_day=True))
    '2024-06-03 00:00:00'
    """
    words = text.strip()
    for word, ago in (("today", 0), ("yesterday", 1)):
        if words.lower().startswith(word):
            words = f"{today - datetime.timedelta(ago)}{words[len(word) :]}"
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", words) is None:
        return _time_on_a_day(words, today)
    day = _moment(words)
    return day + datetime.timedelta(days=1) if ends_day else day


def _time_on_a_day(words: str, today: datetime.date) -> datetime.datetime:
    day, _, time = words.partition(" ")
    if re.match(r"[0-9]{4}-", words) is None:
        day, time = str(today), words
    try:
        return datetime.datetime.combine(datetime.date.fromisoformat(day), read_time(time))
    except ValueError:
        return _moment(words)


def _moment(words: str) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(words)
    except ValueError:
        raise ValueError(_A_MOMENT) from None


def read_duration(value: Any) -> Any:
    """Return the length of time of a text in seconds or with units; else the value as it is.

    Examples
    --------
    >>> [str(read_duration(text)) for text in ("90", "1h30m", "5 minutes", "2d")]
    ['0:01:30', '1:30:00', '0:05:00', '2 days, 0:00:00']
    """
    text = value.strip().lower() if isinstance(value, str) else ""
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        seconds = float(text)
    elif text and not _PART.sub("", text).strip():
        seconds = sum(float(number) * _UNITS[unit[0]] for number, unit in _PART.findall(text))
    else:
        return value
    try:
        return datetime.timedelta(seconds=seconds)
    except OverflowError as error:
        raise ValueError("it is longer than any deployment") from error


def read_path(value: Any) -> Any:
    """Return a path with the home folder in place of ``~``; what is neither text nor path stays.

    Raises
    ------
    ValueError
        If it is empty, has a null character, or names a user who does not exist.
    """
    if not isinstance(value, str | Path):
        return value
    text = str(value)
    if not text.strip() or "\0" in text:
        raise ValueError("it must be a path, such as /mnt/usb/recordings")
    try:
        return expanded(text) if text.startswith("~") else value
    except ParameterError as error:
        raise ValueError("there is no such home folder") from error


TimeZoneName = Annotated[
    str, AfterValidator(_known_zone), Field(json_schema_extra={"choices": "timezones"})
]
"""A time zone by its IANA name, such as "Europe/London"."""

TimeOfDay = Annotated[datetime.time, BeforeValidator(read_time)]
"""A local time of day: 8, 8:30, 18:30:00 and 6:05pm are read; the zone is the program's."""

Duration = Annotated[datetime.timedelta, BeforeValidator(read_duration)]
"""A length of time: seconds, or with units, as in 90, "5m" and "1h30m"."""

LocalPath = Annotated[Path, BeforeValidator(read_path), AfterValidator(Path.absolute)]
"""A place on this machine; ``~`` is the user's home, and the result is absolute."""
