"""The current time (the only place that asks for it), and other forms of a time."""

import datetime
import time
from typing import Any

__all__ = [
    "assume_utc",
    "from_microseconds",
    "monotonic",
    "nearest_second",
    "shown_in_utc",
    "to_microseconds",
    "utc_now",
]

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


def utc_now() -> datetime.datetime:
    """Return the time of the system clock, in UTC."""
    return datetime.datetime.now(tz=datetime.UTC)


def monotonic() -> float:
    """Return seconds of a clock that never steps; its zero is arbitrary."""
    return time.monotonic()


def assume_utc(value: Any) -> Any:
    """Return a time (or text of one) without a zone as UTC; anything else is unchanged."""
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            return value
    if isinstance(value, datetime.datetime) and value.tzinfo is None:
        return value.replace(tzinfo=datetime.UTC)
    return value


def to_microseconds(time: datetime.datetime) -> int:
    """Return the exact microseconds from 1970 to `time`; without a zone it is UTC.

    Examples
    --------
    >>> to_microseconds(datetime.datetime(1970, 1, 1, 0, 0, 1))
    1000000
    """
    if time.tzinfo is None:
        time = time.replace(tzinfo=datetime.UTC)
    return (time - _EPOCH) // _MICROSECOND


def from_microseconds(microseconds: int) -> datetime.datetime:
    """Return the time in UTC."""
    return _EPOCH + datetime.timedelta(microseconds=microseconds)


def nearest_second(time: datetime.datetime) -> datetime.datetime:
    """Return a time rounded (not truncated) to whole seconds.

    The slot of 14:41:10 may start at the frame of 14:41:09.999998.

    Examples
    --------
    >>> nearest_second(datetime.datetime(2026, 11, 29, 14, 41, 9, 999_998)).time()
    datetime.time(14, 41, 10)
    """
    return (time + datetime.timedelta(milliseconds=500)).replace(microsecond=0)


def shown_in_utc(time: datetime.datetime) -> str:
    """Return a time as text: in UTC, rounded to the second.

    Examples
    --------
    >>> shown_in_utc(datetime.datetime(2026, 11, 29, 14, 41, 9, 999_998, datetime.UTC))
    '2026-11-29 14:41:10'
    """
    return f"{nearest_second(time.astimezone(datetime.UTC)):%Y-%m-%d %H:%M:%S}"
