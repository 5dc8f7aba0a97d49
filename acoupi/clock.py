"""What time it is: the only place that asks."""

import datetime
import time

__all__ = ["monotonic", "utc_now"]


def utc_now() -> datetime.datetime:
    """Return the time of the system clock, in UTC."""
    return datetime.datetime.now(tz=datetime.UTC)


def monotonic() -> float:
    """Return seconds of a clock that no clock step disturbs; its zero means nothing."""
    return time.monotonic()
