"""The current time: the only place that asks for it."""

import datetime
import time

__all__ = ["monotonic", "utc_now"]


def utc_now() -> datetime.datetime:
    """Return the time of the system clock, in UTC."""
    return datetime.datetime.now(tz=datetime.UTC)


def monotonic() -> float:
    """Return seconds of a clock that never steps; its zero is arbitrary."""
    return time.monotonic()
