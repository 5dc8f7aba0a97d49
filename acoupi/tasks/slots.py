"""Clock-aligned slots, from the Unix epoch; no Celery import, because beat uses them."""

import datetime
from dataclasses import dataclass

from acoupi import clock

__all__ = ["Aligned"]

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_STEPPED_BACK_TOLERANCE = datetime.timedelta(seconds=2)


@dataclass(frozen=True)
class Aligned:
    """Slots of the clock, counted from 1970-01-01 00:00 UTC."""

    seconds: float
    """Length of a slot."""
    offset_seconds: float = 0
    """How much later than on a multiple of its length each slot begins."""

    def is_due(
        self, last_run_at: datetime.datetime, /, now: datetime.datetime | None = None
    ) -> tuple[bool, float]:
        """Return whether a slot has begun since the last run, and the seconds to the next one.

        If the clock was set back meanwhile: whether a slot has just begun.
        """
        now = clock.utc_now() if now is None else now
        every, elapsed = datetime.timedelta(seconds=self.seconds), self.time_into_slot(now)
        slot, last_slot = self._since_first(now) // every, self._since_first(last_run_at) // every
        if slot < last_slot:
            # Resume at the beginning of a slot, not in the middle of one.
            is_due = elapsed < min(_STEPPED_BACK_TOLERANCE, every / 2)
        else:
            is_due = slot > last_slot
        return is_due, (every - elapsed).total_seconds()

    def time_into_slot(self, now: datetime.datetime) -> datetime.timedelta:
        """Return how long ago the current slot began."""
        return self._since_first(now) % datetime.timedelta(seconds=self.seconds)

    def _since_first(self, time: datetime.datetime) -> datetime.timedelta:
        """Return the time since slots are counted; one without a zone is in UTC."""
        zone = time.tzinfo or datetime.UTC
        first = _EPOCH + datetime.timedelta(seconds=self.offset_seconds)
        return time.replace(tzinfo=zone) - first
