"""Schedules that Celery does not have."""

import datetime
from collections.abc import Callable
from typing import Any

from celery.schedules import BaseSchedule, schedstate

from acoupi import data
from acoupi.tasks.slots import Aligned

__all__ = ["aligned_schedule"]


class aligned_schedule(BaseSchedule):
    """Fires on slots of the clock: every 10 s at :00, :10, :20, on every device alike.

    Slots are counted from 1970-01-01 00:00 UTC. If the clock is set forward,
    the task runs once at once and then on its slots; if it is set back,
    it continues with the next slot. Missed slots are not made up for.

    Parameters
    ----------
    run_every
        Length of a slot, greater than 0.
    offset_seconds
        How long after its slot begins the task runs, 0 or more and less than a slot.
    nowfun
        Returns the time; None: the system clock.
    app
        Ignored.

    Raises
    ------
    ValueError
        If `run_every` or `offset_seconds` is out of range.

    Examples
    --------
    >>> from datetime import UTC, datetime, timedelta
    >>> schedule = aligned_schedule(
    ...     timedelta(seconds=10), nowfun=lambda: datetime(2024, 8, 1, 12, 0, 12, tzinfo=UTC)
    ... )
    >>> tuple(schedule.is_due(datetime(2024, 8, 1, 12, 0, 10, tzinfo=UTC)))
    (False, 8.0)
    """

    def __init__(
        self,
        run_every: datetime.timedelta,
        offset_seconds: int = 0,
        nowfun: Callable[[], datetime.datetime] | None = None,
        app: Any = None,
    ) -> None:
        if run_every <= datetime.timedelta(0):
            raise ValueError(f"run_every must be greater than 0, not {run_every}")
        if not 0 <= offset_seconds < run_every.total_seconds():
            raise ValueError(
                f"offset_seconds must be 0 or more and less than {run_every.total_seconds():g}, "
                f"not {offset_seconds}"
            )
        self.run_every = run_every
        self.offset_seconds = offset_seconds
        self._slots = Aligned(self.seconds, offset_seconds)
        super().__init__(nowfun=nowfun, app=app)

    @property
    def seconds(self) -> float:
        """Length of a slot in seconds."""
        return self.run_every.total_seconds()

    def now(self) -> datetime.datetime:
        """Return the time."""
        return self.nowfun() if self.nowfun else data.utc_now()

    def remaining_estimate(self, last_run_at: datetime.datetime) -> datetime.timedelta:
        """Return how long it is until the next slot begins; it does not depend on the last run."""
        return self.run_every - self._slots.time_into_slot(self.now())

    def is_due(self, last_run_at: datetime.datetime) -> schedstate:
        """Return whether a slot has begun since the last run, and the seconds to the next one."""
        return schedstate(*self._slots.is_due(last_run_at, self.now()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.run_every, self.offset_seconds, self.nowfun)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, aligned_schedule):
            return NotImplemented
        return self._slots == other._slots

    def __hash__(self) -> int:
        return hash(self._slots)

    def __repr__(self) -> str:
        return f"<aligned: every {self.seconds:g} s, offset {self.offset_seconds} s>"
