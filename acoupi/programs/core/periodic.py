"""Schedules of periodic tasks, and how long their messages stay valid."""

from datetime import timedelta
from typing import TypeAlias

from celery.schedules import BaseSchedule, schedule

__all__ = ["ScheduleLike", "as_schedule", "seconds_between_slots"]

ScheduleLike: TypeAlias = int | float | timedelta | BaseSchedule
"""Types accepted as a schedule; numbers are seconds."""


def as_schedule(value: ScheduleLike) -> BaseSchedule:
    """Convert a schedule for Celery.

    Raises
    ------
    ValueError
        If the interval is not greater than 0, or too long for a timedelta.
    TypeError
        If it is not a schedule.

    Examples
    --------
    >>> as_schedule(2.5)
    <freq: 2.50 seconds>
    """
    if isinstance(value, BaseSchedule):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            value = timedelta(seconds=value)
        except OverflowError as error:
            raise ValueError(f"a schedule cannot be {value:g} seconds long") from error
    if not isinstance(value, timedelta):
        raise TypeError(
            f"a schedule is a number of seconds, a timedelta or a Celery schedule, not {value!r}"
        )
    if value <= timedelta(0):
        raise ValueError(f"a schedule must be longer than 0 seconds, not {value}")
    return schedule(run_every=value)


def seconds_between_slots(when: BaseSchedule) -> float | None:
    """Return the seconds from any slot of a schedule to the next; None if they vary.

    A message that waited longer belongs to a slot that has passed, and must not
    be run: otherwise a recorder that was down would make up for every missed
    recording in one burst. If the slots vary (a calendar, the sun), beat
    determines the next one each time it sends a message.

    Examples
    --------
    >>> seconds_between_slots(as_schedule(timedelta(minutes=2)))
    120.0
    """
    run_every = getattr(when, "run_every", None)
    return run_every.total_seconds() if isinstance(run_every, timedelta) else None
