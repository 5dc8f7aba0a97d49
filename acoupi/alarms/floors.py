"""The usual noise floor of a microphone at an hour of the day."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

__all__ = ["DAYS", "HourFloor", "floor_limit", "hour_floor", "hour_of", "known_days"]

DAYS = 10
"""How far back the sensor looks, days."""
LEAST_DAYS = 3
"""Fewest days with data on an hour of the day for a verdict about it."""
QUIETEST_SHARE = 0.05
QUIETER_DB = 3.0
"""A deaf microphone is also this much below the quietest moments of those days."""


@dataclass(frozen=True, slots=True)
class HourFloor:
    """The noise floor of the recordings that began in one hour, dB re full scale."""

    hour: datetime
    """Start of the hour, UTC."""
    median: float
    quietest: float
    """The 5 % quantile."""


def hour_of(time: datetime) -> datetime:
    """Return the beginning of the hour (UTC) of a time."""
    return time.replace(minute=0, second=0, microsecond=0)


def hour_floor(hour: datetime, floors: Sequence[float]) -> HourFloor:
    """Return the noise floor of an hour's recordings; there must be at least one."""
    ordered = sorted(floors)
    return HourFloor(hour, median(ordered), ordered[int(QUIETEST_SHARE * len(ordered))])


def floor_limit(floors: Iterable[HourFloor], time: datetime, drop_db: float) -> float | None:
    """Return the noise floor below which a microphone is deaf; None if too little is known.

    It is `drop_db` below the median of the same hour of the last ten days, and below any usual
    level in that hour: after ten windy nights, a calm one is not a fault.
    """
    since = hour_of(time) - timedelta(days=DAYS)
    same = [
        one for one in floors if since <= one.hour < hour_of(time) and one.hour.hour == time.hour
    ]
    if len(same) < LEAST_DAYS:
        return None
    usual = median(one.median for one in same)
    return min(usual - drop_db, min(one.quietest for one in same) - QUIETER_DB)


def known_days(floors: Iterable[HourFloor], time: datetime) -> int:
    """Return the number of the last ten days with data."""
    since = hour_of(time) - timedelta(days=DAYS)
    return len({one.hour.date() for one in floors if since <= one.hour})
