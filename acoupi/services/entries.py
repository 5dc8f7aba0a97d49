"""The entries of ``config/schedule.json``, as beat serves them.

Intervals and clock-aligned slots need no Celery; its crontab and solar
schedules are imported only if an entry has one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, cast

from acoupi import clock
from acoupi.commit import read_whole
from acoupi.errors import ConfigurationError
from acoupi.tasks.slots import Aligned
from acoupi.writing import disk_error

__all__ = [
    "CRONTAB_FIELDS",
    "VERSION",
    "Aligned",
    "ClockSteps",
    "Entry",
    "Interval",
    "UnknownSchedule",
    "When",
    "read_schedule",
    "restore",
]

VERSION = 1
STEP = 1.0
"""Seconds by which the clocks must differ between two checks to count as a step."""
CRONTAB_FIELDS = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")


class When(Protocol):
    """A schedule that follows the wall clock, such as Celery's."""

    def is_due(self, last_run_at: datetime, /) -> tuple[bool, float]:
        """Return whether it is due, and the seconds until the next check."""
        ...


@dataclass(frozen=True)
class Interval:
    """A fixed interval on the monotonic clock."""

    seconds: float


@dataclass(frozen=True)
class UnknownSchedule:
    """Placeholder for a schedule of a class that only the program has."""

    kind: str
    """Module and name of its class."""


@dataclass(frozen=True)
class Entry:
    """One periodic task."""

    name: str
    task: str
    queue: str
    schedule: Interval | When | UnknownSchedule
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None
    expires: float | None = None
    """Seconds after which its message expires; None: at its next slot."""


def restore(described: Mapping[str, Any]) -> Interval | When | UnknownSchedule:
    """Return a schedule from its description.

    Examples
    --------
    >>> restore({"kind": "interval", "every_s": 10.0})
    Interval(seconds=10.0)
    """
    kind = described["kind"]
    if kind == "interval":
        return Interval(float(described["every_s"]))
    if kind == "aligned":
        return Aligned(float(described["every_s"]), described["offset_s"])
    if kind == "crontab":
        from celery.schedules import crontab  # noqa: PLC0415 - see above

        fields = {name: described[name] for name in CRONTAB_FIELDS}
        return cast("When", crontab(**fields, nowfun=_now))
    if kind == "solar":
        from celery.schedules import solar  # noqa: PLC0415 - see above

        place = described["latitude"], described["longitude"]
        return cast("When", solar(described["event"], *place, nowfun=_now))
    return UnknownSchedule(str(described.get("class", kind)))


def _now() -> datetime:
    return clock.utc_now()


def read_schedule(path: Path) -> list[Entry]:
    """Return the entries of a schedule file.

    Raises
    ------
    ConfigurationError
        If there is no such file, or it has other content.
    """
    try:
        content = json.loads(read_whole(path))
        _check_version(content["version"])
        return [_entry(described) for described in content["entries"]]
    except FileNotFoundError as error:
        raise ConfigurationError(
            f'there is no schedule in "{path}".', "acoupi setup", why="setup writes it."
        ) from error
    except OSError as error:
        raise disk_error("read", path, error) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(
            f'cannot read "{path}".',
            "acoupi setup",
            why=f"its contents are not as setup writes them ({error}).",
        ) from error


def _check_version(version: object) -> None:
    if version != VERSION:
        raise ValueError(f"it has version {version}, this acoupi reads {VERSION}")


def _entry(described: Mapping[str, Any]) -> Entry:
    return Entry(
        name=described["name"],
        task=described["task"],
        queue=described["queue"],
        args=tuple(described["args"]),
        kwargs=described["kwargs"],
        expires=described["expires"],
        schedule=restore(described["schedule"]),
    )


class ClockSteps:
    """Notices steps of the wall clock against the monotonic clock."""

    def __init__(self) -> None:
        self._offset = self._measure()

    @staticmethod
    def _measure() -> float:
        return clock.utc_now().timestamp() - clock.monotonic()

    def stepped(self) -> float:
        """Return the step of the wall clock since the last call, seconds; 0 if there was none."""
        offset = self._measure()
        step = offset - self._offset
        self._offset = offset
        return step if abs(step) >= STEP else 0.0
