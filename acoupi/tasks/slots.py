"""Slots of the clock, counted from 1970-01-01 00:00 UTC: without Celery, for who sends messages."""

import datetime

__all__ = ["slot_is_due", "time_into_slot"]

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_STEPPED_BACK_TOLERANCE = datetime.timedelta(seconds=2)


def slot_is_due(
    now: datetime.datetime,
    last: datetime.datetime,
    every: datetime.timedelta,
    offset_seconds: float = 0,
) -> tuple[bool, float]:
    """Return whether a slot has begun since `last`, and the seconds to the next one.

    If the clock was set back meanwhile: whether a slot has just begun.
    """
    first = _EPOCH + datetime.timedelta(seconds=offset_seconds)
    slot, last_slot = (_in_utc(now) - first) // every, (_in_utc(last) - first) // every
    elapsed = time_into_slot(now, every, offset_seconds)
    if slot < last_slot:
        # Go on at the beginning of a slot, not in its middle.
        is_due = elapsed < min(_STEPPED_BACK_TOLERANCE, every / 2)
    else:
        is_due = slot > last_slot
    return is_due, (every - elapsed).total_seconds()


def time_into_slot(
    now: datetime.datetime, every: datetime.timedelta, offset_seconds: float = 0
) -> datetime.timedelta:
    """Return how long ago the slot began."""
    return (_in_utc(now) - _EPOCH - datetime.timedelta(seconds=offset_seconds)) % every


def _in_utc(time: datetime.datetime) -> datetime.datetime:
    """Return an instant in UTC; one without a zone is in UTC already."""
    if time.tzinfo is None:
        return time.replace(tzinfo=datetime.UTC)
    return time.astimezone(datetime.UTC)
